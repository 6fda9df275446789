"""The contract of workers, and what is special about each kind."""

import gc
import subprocess
import sys
import warnings
from dataclasses import replace

import pytest

from nas.core import plugins
from nas.core.errors import ClusterError, NasError
from nas.core.study import Budget, Objective, StudySpec, WorkersSpec
from nas.record import Store
from nas.searching.evaluators import StudyContext
from nas.searching.launch import open_search
from nas.testing.workers_contract import EPOCHS, WorkersContract


class TestLocalWorkers(WorkersContract):
    kind = "local"

    def workers(self):
        return plugins.load("nas.workers", "local")()

    def test_an_address_is_refused(self):
        with pytest.raises(NasError, match="local workers take no address"):
            plugins.load("nas.workers", "local")("ray://somewhere")

    def test_more_than_this_process_has_is_refused_before_anything_is_written(self, spec, tmp_path):
        spec = replace(spec, workers=WorkersSpec(cpus=10_000))
        with pytest.raises(
            NasError, match=r"asks for 10000 CPU and this process has \d+; lower workers\.cpus"
        ):
            self.search(spec, tmp_path, "ArithmeticEvaluator")
        with Store.open(tmp_path / "nas.db") as store:
            assert store.studies() == []


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of one node with two processors, for all tests of this file."""
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

    def test_without_an_address_it_makes_a_cluster_of_its_own(self, tmp_path):
        """In another process: Ray turns token authentication on for good there, which this file's
        cluster lacks.
        """
        database = tmp_path / "nas.db"
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
            [sys.executable, "-c", "from nas.cli import main; main()", *command], check=True
        )
        with Store.open(database, read_only=True) as store:
            assert [trial.state for trial in store.trials("bench-engine")] == ["complete"] * 2

    def test_a_killed_worker_costs_no_finished_rung_and_no_trial(self, spec, tmp_path):
        """Trial 1's process is killed at its last rung: it goes on there, in a new process, no rung
        is done twice.
        """
        trials = self.search(spec, tmp_path, "DyingEvaluator")
        done = [line.split() for line in (tmp_path / "rungs.log").read_text().splitlines()]
        assert (tmp_path / "died").exists()
        assert len(done) == len({tuple(line) for line in done}) == len(EPOCHS) * spec.budget.trials
        assert all(trial.state == "complete" for trial in trials)

    def test_a_worker_that_dies_every_time_fails_its_trial_with_the_reason(self, spec, tmp_path):
        spec = replace(spec, workers=WorkersSpec(kind="tune", retries=1))
        trials = self.search(spec, tmp_path, "DoomedEvaluator")
        states = [trial.state for trial in trials if trial.duplicate_of is None]
        assert states[1] == "failed"
        assert states.count("failed") == 1
        assert "2 attempts failed" in trials[1].reason

    def test_two_workers_at_once_share_the_trials(self, spec, tmp_path):
        spec = replace(spec, workers=WorkersSpec(kind="tune", count=2))
        trials = self.search(spec, tmp_path, "ArithmeticEvaluator")
        assert len({trial.architecture.digest for trial in trials}) == spec.budget.trials

    def test_tune_forgets_the_trials_that_are_over(self, spec, tmp_path):
        """So that the driver's memory does not grow: when the last ends, there are no more than it
        and two others.
        """
        spec, kept = replace(spec, budget=Budget(trials=12)), []

        def trials():
            gc.collect()
            return sum(
                type(each).__name__ == "Trial" and type(each).__module__.startswith("ray.tune")
                for each in gc.get_objects()
            )

        def count(trial):
            if trial.state != "running":
                kept.append(trials())

        before = trials()  # those of other tests

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
        assert len(kept) >= 12
        assert kept[-1] - before <= 3

    def test_more_than_the_cluster_has_is_refused_clearly(self, spec, tmp_path):
        spec = replace(spec, workers=WorkersSpec(kind="tune", cpus=10_000))
        with pytest.raises(
            ClusterError,
            match=r"asks for 10000 CPU and the whole cluster has .*lower workers\.cpus",
        ):
            self.search(spec, tmp_path, "ArithmeticEvaluator")

    def test_a_cluster_that_is_not_there_is_named(self, spec, tmp_path):
        self.address = "127.0.0.1:1"
        with pytest.raises(ClusterError, match=r"cannot reach the Ray cluster at 127\.0\.0\.1:1"):
            self.search(spec, tmp_path, "ArithmeticEvaluator")


def test_an_address_for_rays_client_is_refused_with_what_would_be_right(tmp_path):
    """The driver holds the record, so it has to run on the cluster itself."""
    context = StudyContext(
        spec=StudySpec(name="s", space="osa_tiny", objectives=(Objective(metric="macs"),)),
        artifacts=str(tmp_path),
        folder=str(tmp_path),
    )
    with pytest.raises(ClusterError, match="run nas search on a machine of the cluster"):
        plugins.load("nas.workers", "tune")("ray://head:10001").prepare(context)
