"""`budget.patience`: a search ends once its latest trainings brought nothing beyond noise."""

import csv
import gzip
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from nas.bench.tables import Table, read_table
from nas.core import plugins
from nas.core.errors import InvalidValueError
from nas.core.measurement import Measurement
from nas.core.study import Budget, DataSpec, Objective, StudySpec
from nas.core.trial import Evaluation, Rung, Trial, TrialState
from nas.sampling import Proposer
from nas.searching.patience import Patience
from nas.searching.state import SearchState
from nas.testing.sample_records import architecture
from search_spaces.osa_tiny import SPACE

TABLES = os.environ.get("NAS_TEST_BENCH_TABLES")
RESULTS = Path(__file__).parents[2] / "studies" / "search-bench" / "results.csv.gz"
BENCHMARKS = {
    "nas-bench-macro_cifar10": "nas-bench-macro",
    "channel-bench-resnet_cifar10": "channel-bench",
}
SEEDS = 3


def spec(patience: int | None = 3, **changes: object) -> StudySpec:
    """A study of error and MACs, judged by 2,500 images."""
    values = {
        "name": "s",
        "space": "osa_tiny",
        "objectives": (
            Objective(metric="error", reference=0.8),
            Objective(metric="macs", reference=100.0),
        ),
        "data": DataSpec(validation_images=2500),
        "budget": Budget(patience=patience),
        **changes,
    }
    return StudySpec(**values)  # type: ignore[arg-type]


def trial(error: float, *costs: float, names: Sequence[str] = ("macs",)) -> Trial:
    """A complete trial."""
    figures = {
        name: Measurement.counted(name, "1", cost) for name, cost in zip(names, costs, strict=True)
    }
    rung = Rung(epochs=1.0, metrics={"error": error})
    return Trial(
        number=0,
        params={},
        architecture=architecture(),
        seed=0,
        state=TrialState.COMPLETE,
        evaluation=Evaluation(measurements=figures, rungs=(rung,)),
    )


def reason_after(errors: Sequence[float], patience: int = 3) -> str:
    """Why a search of networks with these errors and 50 MACs ends."""
    watch = Patience(spec(patience))
    for error in errors:
        watch.add(trial(error, 50.0))
    return watch.reason


def test_the_search_ends_without_a_gain() -> None:
    """Three worse networks after the first one; two are not enough."""
    assert not reason_after([0.5, 0.6, 0.6])
    assert "the last 3 trained networks" in reason_after([0.5, 0.6, 0.6, 0.6])
    assert not reason_after([0.6, 0.5, 0.6, 0.6]), "the second one is a gain"


def test_a_gain_that_noise_explains_is_none() -> None:
    """An error of 50 % of 2,500 images has a standard deviation of 1 %."""
    assert reason_after([0.5, 0.6, 0.6, 0.495])
    assert not reason_after([0.5, 0.6, 0.6, 0.47])


def test_only_trained_networks_count() -> None:
    """Not a skipped one, and not a failed one. A stopped one does, without a gain."""
    watch = Patience(spec())
    watch.add(trial(0.5, 50.0))
    skipped = Trial(
        number=1, params={}, architecture=architecture(), seed=0, state=TrialState.STOPPED
    )
    failed = Trial(
        number=2, params={}, architecture=architecture(), seed=0, state=TrialState.FAILED
    )
    for _ in range(5):
        watch.add(skipped)
        watch.add(failed)
    assert not watch.reason
    stopped = trial(0.1, 50.0)
    object.__setattr__(stopped, "state", TrialState.STOPPED)
    for _ in range(3):
        watch.add(stopped)
    assert watch.reason


def test_trials_of_elsewhere_are_no_trainings_and_set_the_mark() -> None:
    """Three copies end nothing; then the third own training that they all dominate does."""
    patience = Patience(spec())
    for _ in range(3):
        patience.add(replace(trial(0.1, 10.0), origin="first:0"))
    reasons = []
    for _ in range(3):
        reasons.append(patience.reason)
        patience.add(trial(0.5, 50.0))
    assert reasons == ["", "", ""]
    assert "the last 3 trained networks improved the hypervolume by 0 %" in patience.reason


def test_a_resumed_search_counts_trainings_in_the_order_of_their_ends() -> None:
    """The best network was proposed first and ended last, so it is among the latest three."""
    study = spec()
    ended = [
        replace(
            trial(error, 50.0),
            number=number,
            architecture=architecture(16 + number),
            finished_at=datetime(2026, 1, 1, minute=minute, tzinfo=UTC),
        )
        for number, (error, minute) in enumerate([(0.3, 9), (0.5, 1), (0.6, 2), (0.6, 3)])
    ]
    sampler = Proposer(
        space=SPACE,
        objectives=study.objectives,
        seed=0,
        make_sampler=plugins.load("nas.samplers", "random"),
    )
    state = SearchState(
        spec=study, space=SPACE, sampler=sampler, trials=ended, recall=ended.__getitem__
    )
    assert isinstance(state.propose(datetime.now(UTC)), Trial)


def test_without_patience_nothing_ends() -> None:
    """Old studies have none."""
    watch = Patience(spec(patience=None))
    for _ in range(100):
        watch.add(trial(0.5, 50.0))
    assert not watch.reason


def test_patience_needs_references() -> None:
    """There is no hypervolume without them."""
    with pytest.raises(InvalidValueError, match="macs has none"):
        spec(objectives=(Objective(metric="error", reference=0.8), Objective(metric="macs")))
    with pytest.raises(InvalidValueError, match="patience must be at least 1"):
        Budget(patience=0)


def searches(contest: str) -> Iterator[list[tuple[int, ...]]]:
    """The networks of recorded searches with known-cost, in their order."""
    runs: dict[str, list[tuple[int, ...]]] = {}
    with gzip.open(RESULTS, "rt") as file:
        for row in csv.DictReader(file):
            words = row["contest"].split()
            if row["sampler"] == "known-cost" and words[0] == contest and "noisy" not in words:
                network = tuple(map(int, row["network"].split("-")))
                runs.setdefault(row["seed"], []).append(network)
    yield from list(runs.values())[:SEEDS]


def end_of(table: Table, networks: Sequence[tuple[int, ...]], patience: int) -> int:
    """The number of trainings after which a search of the table ends."""
    names = ("macs", "parameters")
    references = table.reference / np.array([100.0, 1.0, 1.0])
    study = spec(
        patience,
        objectives=tuple(
            Objective(metric=name, reference=float(reference))
            for name, reference in zip(("error", *names), references, strict=True)
        ),
        data=DataSpec(validation_images=10_000),
    )
    watch = Patience(study)
    for number, network in enumerate(networks, start=1):
        error, *costs = table.losses[table.row[network]]
        watch.add(trial(error / 100, *costs, names=names))
        if watch.reason:
            return number
    return len(networks)


@pytest.mark.skipif(not TABLES, reason="NAS_TEST_BENCH_TABLES names no tables")
@pytest.mark.parametrize("contest", BENCHMARKS)
def test_patience_loses_little_on_tables_of_trained_networks(contest: str) -> None:
    """At most 1 % of the final hypervolume on average, with a patience of 30."""
    table = read_table(Path(TABLES or "") / f"{contest}.json", BENCHMARKS[contest])
    losses = []
    for networks in searches(contest):
        end = end_of(table, networks, 30)
        losses.append(1 - table.hypervolume(networks[:end]) / table.hypervolume(networks))
    assert len(losses) == SEEDS
    assert np.mean(losses) <= 0.01


def test_other_evaluators_have_no_patience():
    """The average precision of boxes is no share of the validation images."""
    with pytest.raises(InvalidValueError, match="which the evaluator detector does not give"):
        spec(evaluator="detector")
