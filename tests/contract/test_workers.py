"""Both kinds of workers pass the contract, and keep the promises of their own kind."""

import gc
import os
import re
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from importlib import import_module

import pytest

from nas.core import plugins
from nas.core.errors import ClusterError, NasError
from nas.core.study import Budget, Objective, StudySpec, WorkersSpec
from nas.record import Store
from nas.searching.evaluators import StudyContext
from nas.searching.launch import open_search
from nas.testing.workers_contract import EPOCHS, WorkersContract, measured_elsewhere


class TestLocalWorkers(WorkersContract):
    kind = "local"

    def workers(self):
        return plugins.load("nas.workers", "local")()

    def test_an_address_is_refused(self):
        with pytest.raises(NasError, match="local workers take no address"):
            plugins.load("nas.workers", "local")("ray://somewhere")

    def test_more_processors_than_this_process_has_are_refused_before_writing(self, spec, tmp_path):
        spec = replace(spec, workers=WorkersSpec(cpus=10_000))
        with pytest.raises(
            NasError, match=r"needs 10000 CPU and this process has \d+; lower workers\.cpus"
        ):
            self.search(spec, tmp_path, "ArithmeticEvaluator")
        with Store.open(tmp_path / "nas.db") as store:
            assert store.studies() == []

    def test_a_dead_process_is_replaced_and_its_trial_resumes_at_its_last_rung(
        self, spec, tmp_path
    ):
        """If a device elsewhere measures meanwhile, trainings have a process of their own."""
        trials = self.search(measured_elsewhere(spec), tmp_path, "DyingEvaluator")
        assert all(trial.state == "complete" for trial in trials)
        assert (tmp_path / "died").exists()
        rungs = (tmp_path / "rungs.log").read_text().splitlines()
        assert len(rungs) == len(set(rungs)) == len(EPOCHS) * spec.budget.trials

    def test_every_evaluator_of_another_process_is_closed_at_the_end(self, spec, tmp_path):
        self.test_every_evaluator_is_closed_at_the_end(measured_elsewhere(spec), tmp_path)

    def test_an_unexpected_error_in_a_process_leaves_the_other_trials_alone(self, spec, tmp_path):
        """Another process takes the place of the one in which it was raised."""
        spec = replace(measured_elsewhere(spec), workers=WorkersSpec(retries=1))
        trials = self.search(spec, tmp_path, "PoisonedEvaluator")
        assert (tmp_path / "poisoned").exists()
        assert all(trial.state == "complete" for trial in trials)

    def test_failures_and_mistakes_in_a_process_fail_their_trials(self, spec, tmp_path):
        spec = measured_elsewhere(replace(spec, workers=WorkersSpec(retries=0)))
        mistaken = self.search(spec, tmp_path, "MistakenEvaluator")
        assert mistaken[1].reason == "1 attempts failed, the last with: KeyError: 'no such layer'"
        assert [trial.state for trial in mistaken].count("failed") == 1
        (tmp_path / "other").mkdir()
        failing = self.search(spec, tmp_path / "other", "FailingEvaluator")
        assert failing[0].reason == "the loss is not finite after 7 steps"


@pytest.fixture(scope="module")
def cluster():
    """Start a Ray cluster of one node with two processors, for all tests of this file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        from ray.cluster_utils import Cluster

        ray_cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    yield ray_cluster.address
    ray_cluster.shutdown()


@pytest.mark.slow
class TestTuneWorkers(WorkersContract):
    kind = "tune"
    address = None

    @pytest.fixture(autouse=True)
    def _on_the_cluster(self, cluster):
        self.address = cluster

    def workers(self):
        return plugins.load("nas.workers", "tune")(self.address)

    @pytest.mark.long
    def test_a_search_whose_trials_all_fail_unexpectedly_ends_and_keeps_its_budget(
        self, spec, tmp_path
    ):
        """As with local workers."""
        super().test_a_search_whose_trials_all_fail_unexpectedly_ends_and_keeps_its_budget(
            spec, tmp_path
        )

    @pytest.mark.long
    def test_measuring_elsewhere_overlaps_training(self, spec, tmp_path):
        """As with local workers."""
        super().test_measuring_elsewhere_overlaps_training(spec, tmp_path)

    @pytest.mark.long
    def test_without_an_address_a_new_cluster_is_started(self, tmp_path):
        """Also if the folder for temporary files is too long for Ray's sockets. This runs in
        another process: Ray turns token authentication on there for good, which this file's cluster
        lacks.
        """
        database, scratch = tmp_path / "nas.db", tmp_path / ("long" * 20)
        scratch.mkdir()
        command = [
            "bench",
            "engine",
            "--workers",
            "tune",
            "--trials",
            "2",
            "--database",
            str(database),
        ]
        subprocess.run(
            [sys.executable, "-c", "from nas.cli import main; main()", *command],
            check=True,
            env={**os.environ, "TMPDIR": str(scratch)},
        )
        with Store.open(database, read_only=True) as store:
            assert [trial.state for trial in store.trials("bench-engine")] == ["complete"] * 2

    def test_after_a_worker_was_killed_its_trial_resumes_at_the_last_rung(self, spec, tmp_path):
        """The process of trial 1 is killed at the last rung. A new process continues there, and no
        rung is trained twice.
        """
        trials = self.search(spec, tmp_path, "DyingEvaluator")
        done = [line.split() for line in (tmp_path / "rungs.log").read_text().splitlines()]
        assert (tmp_path / "died").exists()
        assert len(done) == len({tuple(line) for line in done}) == len(EPOCHS) * spec.budget.trials
        assert all(trial.state == "complete" for trial in trials)

    def test_a_trial_whose_worker_dies_every_time_fails_with_the_reason(self, spec, tmp_path):
        spec = replace(spec, workers=WorkersSpec(kind="tune", retries=1))
        trials = self.search(spec, tmp_path, "DoomedEvaluator")
        states = [trial.state for trial in trials if trial.duplicate_of is None]
        assert states[1] == "failed"
        assert states.count("failed") == 1
        assert "2 attempts failed" in trials[1].reason

    def test_two_workers_share_the_trials(self, spec, tmp_path):
        spec = replace(spec, workers=WorkersSpec(kind="tune", count=2))
        trials = self.search(spec, tmp_path, "ArithmeticEvaluator")
        assert len({trial.architecture.digest for trial in trials}) == spec.budget.trials

    @pytest.mark.long
    def test_tune_releases_finished_trials(self, spec, tmp_path):
        """The driver's memory does not grow: when the last trial ends, at most it and two others
        exist.
        """
        spec, numbers = replace(spec, budget=Budget(trials=12)), []

        def tune_trials():
            gc.collect()
            return sum(
                type(each).__name__ == "Trial" and type(each).__module__.startswith("ray.tune")
                for each in gc.get_objects()
            )

        def count(trial):
            if trial.state != "running":
                numbers.append(tune_trials())

        before = tune_trials()  # those of other tests

        with (
            Store.open(tmp_path / "nas.db") as store,
            open_search(
                spec,
                store=store,
                workers=self.workers(),
                folder=tmp_path,
                artifacts=tmp_path,
                listener=count,
                evaluator="nas.testing.evaluators:ArithmeticEvaluator",
            ) as search,
        ):
            search.run()
        assert len(numbers) >= 12
        assert numbers[-1] - before <= 3

    def test_a_worker_that_fits_on_no_machine_is_refused(self, spec, tmp_path, monkeypatch):
        """Ray would wait for a machine, also if two machines together are large enough."""
        spec = replace(spec, workers=WorkersSpec(kind="tune", cpus=3))
        with pytest.raises(ClusterError, match=r"have: 2 CPU and 0 GPU; lower workers\.cpus"):
            self.search(spec, tmp_path, "ArithmeticEvaluator")
        machines = [
            {"Alive": alive, "Resources": resources}
            for alive, resources in [
                (True, {"CPU": 2.0, "GPU": 1.0}),
                (True, {"CPU": 8.0}),
                (False, {"CPU": 8.0, "GPU": 8.0}),
            ]
        ]
        monkeypatch.setattr("workers.tune.ray.nodes", lambda: machines)
        spec = replace(spec, workers=WorkersSpec(kind="tune", cpus=3, gpus=1))
        with pytest.raises(
            ClusterError,
            match=r"needs 3 CPU and 1 GPU of one machine, .*: 2 CPU and 1 GPU, 8 CPU and 0 GPU; ",
        ):
            self.search(spec, tmp_path, "ArithmeticEvaluator")

    def test_a_worker_that_is_killed_while_it_prepares_is_one_clear_line(self, spec, tmp_path):
        with pytest.raises(ClusterError, match=r"prepared on the cluster: The worker died"):
            self.search(spec, tmp_path, "KilledEvaluator")

    def test_the_error_for_an_unreachable_cluster_names_its_address(self, spec, tmp_path):
        self.address = "127.0.0.1:1"
        with pytest.raises(ClusterError, match=r"cannot reach the Ray cluster at 127\.0\.0\.1:1"):
            self.search(spec, tmp_path, "ArithmeticEvaluator")


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        BlockingIOError(11, "Resource temporarily unavailable"),
        Exception("The current node timed out during startup\nand more"),
    ],
)
def test_a_cluster_that_cannot_be_started_is_one_line(context, error, monkeypatch):
    """Ray raises errors of many classes."""

    def fail(**_):
        raise error

    monkeypatch.setattr("workers.tune.ray.init", fail)
    line = f"cannot start a Ray cluster on this machine: {str(error).splitlines()[0]}"
    with pytest.raises(ClusterError, match=f"^{re.escape(line)}$"):
        plugins.load("nas.workers", "tune")().prepare(context)


def test_without_a_place_for_temporary_files_the_search_ends_with_one_line(
    context, tmp_path, monkeypatch
):
    """Tune's own files go there."""
    workers = plugins.load("nas.workers", "tune")
    monkeypatch.setattr("workers.tune.ray.is_initialized", lambda: True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(ClusterError, match=r"^Ray Tune: .*No such file or directory: .*gone"):
        workers().run(None, context)


@pytest.fixture
def context(tmp_path):
    """Return a study that counts."""
    return StudyContext(
        spec=StudySpec(name="s", space="osa_tiny", objectives=(Objective(metric="macs"),)),
        artifacts=str(tmp_path),
        folder=str(tmp_path),
    )


def test_an_address_of_rays_client_is_refused_with_the_alternative(context):
    """The driver holds the database, so that it must run on a machine of the cluster."""
    with pytest.raises(ClusterError, match="run nas search on a machine of the cluster"):
        plugins.load("nas.workers", "tune")("ray://head:10001").prepare(context)


@pytest.mark.parametrize(
    ("workers", "have", "count"),
    [
        (WorkersSpec(kind="tune", count=2), {"CPU": 1.0}, 1),
        (WorkersSpec(kind="tune", count=2), {"CPU": 64.0}, 2),
        (WorkersSpec(kind="tune", count=9, cpus=8), {"CPU": 64.0}, 8),
        (WorkersSpec(kind="tune", count=12, gpus=0.1), {"CPU": 64.0, "GPU": 1.0}, 10),
        (WorkersSpec(kind="tune", count=5, gpus=0.4), {"CPU": 64.0, "GPU": 2.0}, 4),
        (WorkersSpec(kind="tune", count=5, gpus=2), {"CPU": 64.0, "GPU": 5.0}, 2),
    ],
)
def test_no_more_workers_than_this_machine_has_resources_for(workers, have, count, monkeypatch):
    """A trial that waits for a worker would count as begun."""
    machine = {"Alive": True, "Resources": have}
    monkeypatch.setattr("workers.tune.ray.nodes", lambda: [machine, {**machine, "Alive": False}])
    assert import_module("workers.tune")._fitting(workers).count == count
