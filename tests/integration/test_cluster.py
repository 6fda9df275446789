"""Ray clusters of several nodes: nodes join and die, one has no access to the driver's folders, and
a disk is full.

All nodes are on this machine. The node without access has a mount namespace of its own, in which
the driver's folders are empty; only root can create that. NAS_TEST_KILLS sets how often workers and
nodes are killed in a longer run.
"""

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from nas.core import plugins
from nas.core.errors import WriteError
from nas.core.study import (
    AutoPrecision,
    Budget,
    DataSpec,
    Objective,
    StudySpec,
    TrainingSpec,
    WorkersSpec,
    rungs_at,
)
from nas.core.trial import TrialState
from nas.record import Store
from nas.searching.launch import open_search
from workers.local import LocalWorkers

pytestmark = [pytest.mark.slow, pytest.mark.long]
psutil = pytest.importorskip("psutil")

SPEC = StudySpec(
    name="s",
    space="osa_cifar",
    sampler="random",
    seed=3,
    rungs=rungs_at(1, 2),
    budget=Budget(trials=10),
    objectives=(
        Objective(metric="error", reference=1.0),
        Objective(metric="latency", reference=1.0),
    ),
    workers=WorkersSpec(kind="tune", count=3),
)
PACED = """
import os
import time
from collections import Counter
from pathlib import Path
import ray
from nas.testing.evaluators import ArithmeticEvaluator

class Paced(ArithmeticEvaluator):
    def train(self, task, epochs, parameters):
        self.log = Path(self.context.artifacts) / "log"
        (self.log.parent / f"folder-{os.getpid()}").write_text(os.getcwd())
        self.write("begin", task, epochs)
        time.sleep(0.4)
        while self.waits(task, epochs):
            time.sleep(0.1)
        self.write("end", task, epochs)
        return super().train(task, epochs, parameters)

    def waits(self, task, epochs):
        victim, node = self.log.parent / "victim", ray.get_runtime_context().get_node_id()
        victim = victim.read_text() if victim.exists() else ""
        lines = [line.split() for line in self.log.open()]
        begun = Counter(line[3] for line in lines if line[0] == "begin")
        if node == victim:  # in its second rung until it is killed
            return begun[node] > 1
        # The last trials wait for that rung, and then for work of the fourth node.
        return task.number > 6 and (begun[victim] < 2 if epochs == 1 else len(begun) < 4)

    def write(self, event, task, epochs):
        node = ray.get_runtime_context().get_node_id()
        with self.log.open("a") as file:
            file.write(f"{event} {task.number} {epochs:g} {node}\\n")
"""

CHECKPOINTING = """
import os, signal
from pathlib import Path
from nas.core.errors import TrialFailedError
from nas.core.tasks import Trained
from nas.testing.evaluators import ArithmeticEvaluator
from dataclasses import replace

class Checkpointing(ArithmeticEvaluator):
    def steps(self, task):
        artifacts, marker = Path(self.context.artifacts), Path(FOLDER) / "died"
        read = [(artifacts / rung.checkpoint).read_text() for rung in task.evaluation.rungs[-1:]]
        if read != [task.architecture.digest for _ in read]:
            raise TrialFailedError("this is not the checkpoint that was written")
        for event in super().steps(task):
            if isinstance(event, Trained):
                name = f"s/{task.architecture.digest[:16]}/rung-{event.rung.epochs:g}.safetensors"
                (artifacts / name).parent.mkdir(parents=True, exist_ok=True)
                (artifacts / name).write_text(task.architecture.digest)
                event = replace(event, rung=replace(event.rung, checkpoint=name))
            yield event
            if isinstance(event, Trained) and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
"""

TRAINED = StudySpec(
    name="s",
    space="osa_tiny",
    sampler="random",
    seed=0,
    rungs=rungs_at(0.25, 0.5),
    budget=Budget(trials=3),
    data=DataSpec(dataset="digits", validation_images=200),
    workers=WorkersSpec(kind="tune"),
    training=TrainingSpec(batch_size=64, precision=AutoPrecision.FP32, channels_last=False),
    objectives=(
        Objective(metric="error", reference=0.95),
        Objective(metric="parameters", reference=100_000),
    ),
)
DISK_KIB = {"too small": 260, "enough": 4096}
"""Sizes of disks. The checkpoints of the first trials have 54 and 132 KiB."""


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of one node with one processor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray itself
        from ray.cluster_utils import Cluster

        ray_cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield ray_cluster
    ray_cluster.shutdown()


@pytest.fixture
def node_without_access(cluster, tmp_path):
    """A node on which `tmp_path` is another, empty folder. Only this node reports a GPU, so that it
    gets the work.
    """
    if (
        os.geteuid() != 0
        or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("only a user who may mount can hide a folder from a node")
    ray = Path(sys.executable).with_name("ray")
    start = (
        f"mount -t tmpfs none {tmp_path} && "
        f"exec {ray} start --address {cluster.address} --num-cpus 1 --num-gpus 1 --block"
    )
    before = cluster.global_state._live_node_ids()
    process = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", start], stdout=subprocess.DEVNULL, cwd="/"
    )
    end_s = time.monotonic() + 60
    while not cluster.global_state._live_node_ids() - before:
        assert time.monotonic() < end_s
        time.sleep(0.1)
    yield
    process.terminate()
    process.wait()


def tune(cluster):
    return plugins.load("nas.workers", "tune")(cluster.address)


@contextlib.contextmanager
def opened(
    spec,
    folder,
    workers,
    evaluator="nas.searching.evaluators.classification.evaluator:Evaluator",
    listener=lambda _: None,
):
    """Open the study in `folder`, with its checkpoints in `folder`/checkpoints."""
    with (
        Store.open(folder / "nas.db") as store,
        open_search(
            spec,
            store=store,
            workers=workers,
            folder=folder,
            artifacts=folder / "checkpoints",
            evaluator=evaluator,
            listener=listener,
        ) as found,
    ):
        yield found


def recorded(folder):
    """Check that the record and its files are sound, and return the trials."""
    with Store.open(folder / "nas.db", read_only=True) as store:
        assert store.problems() == []
        return [trial for trial in store.trials("s") if trial.duplicate_of is None]


def kill(cluster, node):
    """Kill a node and its workers at once."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    for process in raylet.children(recursive=True):
        process.kill()
    cluster.remove_node(node, allow_graceful=False)


def test_a_node_dies_during_a_rung_and_another_one_joins(cluster, tmp_path):
    """No finished rung is done twice, and every trial ends once. No node gets more work than its
    processors, and the new one works too.
    """
    (tmp_path / "paced.py").write_text(PACED)
    (tmp_path / "checkpoints").mkdir()
    nodes = [cluster.head_node, *(cluster.add_node(num_cpus=1) for _ in range(2))]
    victim = nodes[2].node_id
    (tmp_path / "checkpoints" / "victim").write_text(victim)
    lines = []

    def unfinished():
        """Return the rungs that have begun and not ended, as (trial, epochs, node)."""
        lines[:] = [
            line.split() for line in (tmp_path / "checkpoints" / "log").read_text().splitlines()
        ]
        return [
            line[1:] for line in lines if line[0] == "begin" and ["end", *line[1:]] not in lines
        ]

    def disturb(_):
        log = tmp_path / "checkpoints" / "log"
        begun = log.exists() and log.read_text().count(f" {victim}\n") > 2  # its second rung
        if begun and len(nodes) == 3:
            kill(cluster, nodes[2])
            nodes.append(cluster.add_node(num_cpus=1))

    with opened(SPEC, tmp_path, tune(cluster), "paced:Paced", disturb) as found:
        found.run()
    broken = unfinished()
    for added in (nodes[1], nodes[3]):
        cluster.remove_node(added)
    trials = recorded(tmp_path)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 10
    assert len({trial.architecture.digest for trial in trials}) == 10
    assert len(nodes) == 4
    assert [rung[2] for rung in broken] == [victim]
    # Ray's copy of the study's folder is deleted with the first node that dies.
    folders = {file.read_text() for file in (tmp_path / "checkpoints").glob("folder-*")}
    assert folders == {str(Path.cwd())}
    assert Counter((line[1], line[2]) for line in lines if line[0] == "end") == {
        (str(number), epochs): 1 for number in range(10) for epochs in ("1", "2")
    }
    assert {line[3] for line in lines} == {node.node_id for node in nodes}
    busy = Counter()
    for event, _, _, node in lines:
        busy[node] += 1 if event == "begin" else -1
        assert busy[node] <= 1


@pytest.mark.skipif(
    "NAS_TEST_KILLS" not in os.environ, reason="a longer run: set NAS_TEST_KILLS, say to 60"
)
def test_workers_and_nodes_killed_at_random_moments(cluster, tmp_path):
    """Every sixth kill is that of a node, which is replaced; the others are those of workers.
    Nothing is done twice or lost.
    """
    kills = int(os.environ["NAS_TEST_KILLS"])
    (tmp_path / "paced.py").write_text(
        PACED.replace("task.number > 6", "False").replace("0.4", "0.1")
    )
    (tmp_path / "checkpoints").mkdir()
    nodes, generator, killed = [cluster.add_node(num_cpus=1)], random.Random(5), Counter()
    spec = replace(
        SPEC,
        budget=Budget(trials=10 + 2 * kills, fresh=0),
        workers=WorkersSpec(kind="tune", count=2, retries=9),
    )

    def disturb(trial):
        """Kill after some of the events, at a random moment of the work of the others."""
        if killed.total() == kills or trial.state is TrialState.RUNNING or generator.random() < 0.3:
            return
        time.sleep(generator.uniform(0, 0.1))
        if killed.total() % 6 == 0:
            kill(cluster, nodes.pop())
            nodes.append(cluster.add_node(num_cpus=1))
            killed["node"] += 1
        else:
            workers = [
                each
                for each in psutil.process_iter(["cmdline"])
                if each.info["cmdline"] and each.info["cmdline"][0].startswith("ray::Worker")
            ]
            for worker in workers[:1]:
                worker.kill()
                killed["worker"] += 1

    with opened(spec, tmp_path, tune(cluster), "paced:Paced", disturb) as found:
        found.run()
    cluster.remove_node(nodes.pop())
    trials = recorded(tmp_path)
    assert killed.total() == kills
    assert [trial.reason for trial in trials] == [""] * spec.budget.trials
    assert len({trial.architecture.digest for trial in trials}) == spec.budget.trials
    done = Counter(
        tuple(line.split()[1:3])
        for line in (tmp_path / "checkpoints" / "log").read_text().splitlines()
        if line.startswith("end")
    )
    assert len(done) == 2 * spec.budget.trials
    assert done.total() - len(done) <= kills
    sys.stdout.write(
        f"\n{dict(killed)} killed: {len(done)} rungs, {done.total() - len(done)} of them trained "
        f"again; {spec.budget.trials} architectures, 0 twice, 0 trials stuck, record sound\n"
    )


@pytest.mark.usefixtures("node_without_access")
def test_a_node_without_access_to_the_drivers_folders(cluster, tmp_path):
    """It gets the study's code. Its checkpoints are uploaded to the driver, and downloaded when a
    trial resumes.
    """
    (tmp_path / "checkpointing.py").write_text(CHECKPOINTING.replace("FOLDER", repr(str(tmp_path))))
    spec = replace(SPEC, workers=WorkersSpec(kind="tune", gpus=1))
    with opened(spec, tmp_path, tune(cluster), "checkpointing:Checkpointing") as found:
        found.run()
    assert not (tmp_path / "died").exists()
    trials = recorded(tmp_path)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 10
    files = {
        path.relative_to(tmp_path / "checkpoints").as_posix()
        for path in (tmp_path / "checkpoints").rglob("*.*")
    }
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        assert files == {artifact.path for artifact in store.artifacts("s")}


@contextlib.contextmanager
def disk(folder, kib):
    """Mount a disk of this size at `folder`. Return a function that changes the size."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only a user who may mount can fill a disk")
    try:
        yield lambda size: subprocess.run(
            ["mount", "-o", f"remount,size={size}k", str(folder)], check=True
        )
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def stop_after_a_rung(trial):
    if trial.evaluation.rungs:
        raise KeyboardInterrupt


def test_a_damaged_checkpoint_fails_its_trial_and_a_full_disk_ends_the_search(cluster, tmp_path):
    """Each gives one line. With a larger disk the same call resumes, with every finished rung."""
    local = replace(TRAINED, workers=WorkersSpec())
    with disk(tmp_path / "checkpoints", DISK_KIB["too small"]) as resize:
        with (
            pytest.raises(KeyboardInterrupt),
            opened(local, tmp_path, LocalWorkers(), listener=stop_after_a_rung) as found,
        ):
            found.run()
        checkpoint = tmp_path / "checkpoints" / recorded(tmp_path)[0].evaluation.rungs[0].checkpoint
        checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
        with pytest.raises(WriteError) as raised, opened(TRAINED, tmp_path, tune(cluster)) as found:
            found.run()
        assert str(raised.value).startswith(f"{tmp_path / 'checkpoints'}")
        assert "cannot be written: " in str(raised.value)
        assert "No space left" in str(raised.value)
        assert "\n" not in str(raised.value)
        damaged, *before = recorded(tmp_path)
        assert damaged.state is TrialState.FAILED
        assert f"{checkpoint} is not a readable checkpoint" in damaged.reason
        assert before[-1].state is TrialState.RUNNING
        assert list((tmp_path / "checkpoints").rglob("*.part*")) == []
        resize(DISK_KIB["enough"])
        with opened(TRAINED, tmp_path, tune(cluster)) as found:
            found.run()
        _, *after = recorded(tmp_path)
        assert [trial.state for trial in after] == [TrialState.COMPLETE] * 2
        for old, new in zip(before, after, strict=False):
            assert new.evaluation.rungs[: len(old.evaluation.rungs)] == old.evaluation.rungs


CALLER = """
import sys
from nas.core import plugins
from nas.core.errors import ClusterError
from nas.searching.evaluators import StudyContext
from nas.core.study import Objective, StudySpec

spec = StudySpec(name="s", space="osa_tiny", objectives=(Objective(metric="macs"),))
context = StudyContext(
    spec=spec, artifacts=".", folder=sys.argv[2],
    evaluator="nas.testing.evaluators:ArithmeticEvaluator",
)
try:
    print(len(plugins.load("nas.workers", "tune")(sys.argv[1]).prepare(context).classes))
except ClusterError as error:
    print(error)
"""


def listens(port):
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def test_a_cluster_with_a_token_refuses_drivers_without_it(tmp_path):
    """Each driver is a process of its own, because one that has used a token uses it with every
    cluster. No wrong token is tried, for which Ray takes longer.
    """
    ray = str(Path(sys.executable).with_name("ray"))
    homes = {
        name: {**os.environ, "RAY_AUTH_MODE": "token", "HOME": str(tmp_path / name)}
        for name in ("owner", "other")
    }
    for name in homes:
        (tmp_path / name).mkdir()
    subprocess.run(
        [ray, "get-auth-token", "--generate"], env=homes["owner"], check=True, capture_output=True
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = [
        ray,
        "start",
        "--head",
        "--port",
        str(port),
        "--num-cpus",
        "1",
        "--include-dashboard",
        "false",
        "--block",
    ]
    head = subprocess.Popen(start, env=homes["owner"], stdout=subprocess.DEVNULL)
    try:
        end_s = time.monotonic() + 60
        while not listens(port):
            assert time.monotonic() < end_s
            time.sleep(0.2)
        printed = {
            name: subprocess.run(
                [sys.executable, "-c", CALLER, f"127.0.0.1:{port}", str(tmp_path)],
                env=home,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.splitlines()
            for name, home in homes.items()
        }
    finally:
        head.terminate()
        head.wait()
    assert printed["owner"] == ["10"]
    assert len(printed["other"]) == 1
    assert f"cannot reach the Ray cluster at 127.0.0.1:{port}: " in printed["other"][0]
    assert "no authentication token was found" in printed["other"][0]
