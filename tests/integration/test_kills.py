"""Real processes killed with SIGKILL at seeded random moments: the same command resumes the study,
and nothing is lost.

NAS_TEST_KILLS sets the number of kills in each study, which is 3 by default. With `-s` each test
prints its counts. Workers and nodes of Ray are killed in `test_cluster.py`.
"""

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter

import pytest

from nas.core.errors import DatabaseError
from nas.core.study import Budget, Objective, StudySpec, rungs_at
from nas.core.trial import TrialState
from nas.record import Store
from nas.searching.launch import open_search
from workers.local import LocalWorkers

pytestmark = pytest.mark.long

KILLS = int(os.environ.get("NAS_TEST_KILLS", "3"))
TRIALS = 10 + 4 * KILLS
SPEC = StudySpec(
    name="s",
    space="osa_cifar",
    sampler="random",
    seed=3,
    rungs=rungs_at(1, 2),
    budget=Budget(trials=TRIALS, fresh=0),
    objectives=(
        Objective(metric="error", reference=1.0),
        Objective(metric="latency", reference=1.0),
    ),
)

DRIVER = """
import json, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from nas.core.errors import NasError
from nas.searching.launch import open_search
from nas.record import Store
from nas.core.study import StudySpec
from nas.testing.evaluators import ArithmeticEvaluator
from workers.local import LocalWorkers

spec, folder = StudySpec.from_dict(json.loads(sys.argv[2])), Path(sys.argv[3])

class Logging(ArithmeticEvaluator):
    def train(self, task, epochs, parameters):
        with (folder / "trained").open("a") as file:
            file.write(f"{task.number} {epochs:g}\\n")
        return super().train(task, epochs, parameters)

def acknowledge(trial):
    print(trial.number, len(trial.evaluation.rungs), trial.state, flush=True)

sys.modules["driver"] = sys.modules["__main__"]
try:
    with Store.open(sys.argv[1]) as store, open_search(
            spec, store=store, workers=LocalWorkers(), folder=folder, artifacts=folder,
            evaluator="driver:Logging", listener=acknowledge,
            now=lambda: datetime.now(UTC) + timedelta(hours=float(sys.argv[4]))) as found:
        found.run()
except NasError as error:
    sys.exit(f"error: {error}")
print("finished")
"""


def start(url, folder, clock_h=0.0, code=DRIVER):
    """Start a driver whose clock is `clock_h` hours ahead."""
    return subprocess.Popen(
        [sys.executable, "-c", code, url, json.dumps(SPEC.to_dict()), str(folder), str(clock_h)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def follow(driver, count=10**9):
    """Return the next `count` acknowledged writes of a driver, or all until it ends.

    Each is (trial, rungs, state).
    """
    writes = []
    for line in driver.stdout:
        words = line.split()
        if len(words) == 3:
            writes.append((int(words[0]), int(words[1]), words[2]))
        if len(writes) == count:
            break
    return writes


def check(url, acknowledged):
    """Check that the record is sound and has every acknowledged write."""
    with Store.open(url, read_only=True) as store:
        assert store.problems() == []
        trials = store.trials("s")
    for number, rungs, state in acknowledged:
        assert len(trials[number].evaluation.rungs) >= rungs
        assert state == "running" or trials[number].state == state
    return trials


def check_end(url, folder, acknowledged, disturbance):
    """Check that all trials are complete, and each architecture is there once. After a kill at most
    the unfinished rung is trained again.
    """
    trials = check(url, acknowledged)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert len({t.architecture.digest for t in trials if t.duplicate_of is None}) == TRIALS
    trained = Counter((folder / "trained").read_text().splitlines())
    assert len(trained) == 2 * TRIALS
    again = sum(trained.values()) - len(trained)
    assert again <= KILLS
    write(
        f"{disturbance}: {len(acknowledged)} writes acknowledged, 0 lost; {len(trained)} rungs, "
        f"{again} of them trained again; {TRIALS} architectures, 0 twice, 0 trials stuck, record "
        "sound each time"
    )


def write(line):
    sys.stdout.write(f"\n{line}\n")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_driver_killed_at_random_moments(engine, tmp_path, request):
    """After every kill the record is sound. The study ends as usual, although the clock of each
    driver is up to two days ahead or behind.
    """
    url = (
        str(tmp_path / "nas.db") if engine == "sqlite" else request.getfixturevalue("postgresql")()
    )
    generator, acknowledged = random.Random(7), []
    for _ in range(KILLS):
        driver = start(url, tmp_path, generator.uniform(-48, 48))
        acknowledged += follow(driver, generator.randrange(1, 12))
        time.sleep(generator.uniform(0, 0.02))
        driver.kill()
        acknowledged += follow(driver)
        assert driver.communicate()[1] == ""
        check(url, acknowledged)
        if engine == "postgresql":
            time.sleep(0.5)  # a server needs a moment to see that its client is gone
    last = start(url, tmp_path)
    acknowledged += follow(last)
    assert (last.wait(), last.communicate()[1]) == (0, "")
    check_end(
        url,
        tmp_path,
        acknowledged,
        f"{KILLS} times a driver on {engine} killed and its clock changed",
    )


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_two_drivers_begin_the_same_new_study_at_the_same_moment(engine, tmp_path, request):
    """One searches, and the other one is refused with a line that names the first.

    Each architecture is evaluated once. The first one waits, so that it is not done before the
    other one begins.
    """
    url = (
        str(tmp_path / "nas.db") if engine == "sqlite" else request.getfixturevalue("postgresql")()
    )
    waiting = DRIVER.replace(
        "\ntry:\n", "\nprint('ready', flush=True)\nsys.stdin.readline()\ntry:\n"
    )
    waiting = waiting.replace(
        "        found.run()\n", "        sys.stdin.readline()\n        found.run()\n"
    )
    drivers = [start(url, tmp_path, code=waiting) for _ in range(2)]
    assert [driver.stdout.readline() for driver in drivers] == ["ready\n"] * 2
    for driver in drivers:
        driver.stdin.write("\n")
        driver.stdin.flush()
    end_s = time.monotonic() + 60
    while all(driver.poll() is None for driver in drivers) and time.monotonic() < end_s:
        time.sleep(0.1)
    outputs = [driver.communicate("" if driver.poll() is not None else "\n") for driver in drivers]
    assert sorted(driver.returncode for driver in drivers) == [0, 1]
    second = 1 if drivers[0].returncode == 0 else 0
    assert outputs[1 - second][0].endswith("finished\n")
    first = f"process {drivers[1 - second].pid} on {socket.gethostname()}"
    assert outputs[second] == (
        "",
        f"error: study 's' is being searched already, by {first}; wait for it or stop it\n",
    )
    check_end(url, tmp_path, [], f"two drivers at once on {engine}")


def kill_server(server):
    """Kill the server and all its processes at once, as a power cut would, and start it again on
    its files.
    """
    family = [server.get_postmaster_info().process]
    family += family[0].children(recursive=True)
    for process in family:
        process.kill()
    for process in family:
        process.wait()
    server.ensure_postgres_running()


@pytest.mark.slow
def test_a_database_server_killed_at_random_moments(start_postgresql, tmp_path):
    """The search ends with one line, however soon the server is back. The same command resumes it,
    and nothing is lost.

    A search whose server was down no longer holds the claim on its study, and cannot write.
    """
    generator, acknowledged = random.Random(11), []
    with start_postgresql() as server:
        url = server.get_uri()
        for _ in range(KILLS):
            driver = start(url, tmp_path)
            acknowledged += follow(driver, generator.randrange(1, 12))
            time.sleep(generator.uniform(0, 0.02))
            kill_server(server)
            acknowledged += follow(driver)
            lines = driver.communicate()[1].splitlines()
            assert driver.returncode == 1
            assert len(lines) == 1, lines
            assert lines[0].startswith("error: postgresql://"), lines
            check(url, acknowledged)
        with Store.open(url) as first, Store.open(url) as second, first.claim("s"):
            kill_server(server)
            with second.claim("s"):
                with pytest.raises(
                    DatabaseError,
                    match=r"has cut the connection that held study 's' for this search",
                ):
                    first.set_artifacts("s", "elsewhere")
                second.set_artifacts("s", str(tmp_path))
        last = start(url, tmp_path)
        acknowledged += follow(last)
        assert (last.wait(), last.communicate()[1]) == (0, "")
        check_end(url, tmp_path, acknowledged, f"{KILLS} times the PostgreSQL server killed")


@pytest.mark.slow
def test_a_disk_that_fills_while_searching(tmp_path):
    """The search ends with one line. With room on the disk the next call resumes it."""
    disk, times = tmp_path / "disk", max(1, KILLS // 6)
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only a user who may mount can fill a disk")
    acknowledged = []
    try:
        for room_bytes in (*[120_000] * times, None):
            with (
                Store.open(disk / "nas.db") as store,
                open_search(
                    SPEC,
                    store=store,
                    workers=LocalWorkers(),
                    folder=tmp_path,
                    artifacts=tmp_path,
                    evaluator="nas.testing.evaluators:ArithmeticEvaluator",
                    listener=lambda t: acknowledged.append(
                        (t.number, len(t.evaluation.rungs), t.state)
                    ),
                ) as found,
            ):
                if room_bytes is None:
                    found.run()
                    break
                free = os.statvfs(disk)
                (disk / "filler").write_bytes(b"x" * (free.f_bavail * free.f_frsize - room_bytes))
                with pytest.raises(
                    DatabaseError, match=r"full.*; make room|the disk fails or is full"
                ):
                    found.run()
            (disk / "filler").unlink()
            check(disk / "nas.db", acknowledged)
        trials = check(disk / "nas.db", acknowledged)
        assert {trial.state for trial in trials} == {TrialState.COMPLETE}
        write(f"{times} times a full disk: {len(acknowledged)} writes acknowledged, 0 lost")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
