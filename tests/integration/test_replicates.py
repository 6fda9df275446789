"""Networks trained again with other seeds: as the search did, every rung kept, nothing else
touched.
"""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.core.errors import InvalidValueError, StudyConflictError, TrialFailedError
from nas.core.pareto import front
from nas.core.study import Budget, DataSpec, Objective, StudySpec, TrainingSpec, rungs_at
from nas.core.trial import TrialState
from nas.record import Store
from nas.report.contents import contents, read
from nas.searching.launch import open_search
from nas.searching.replicates import (
    final_replicates,
    missing_trainings,
    open_replicates,
    select_trials,
)
from nas.testing.evaluators import ArithmeticEvaluator
from workers.local import LocalWorkers

ARITHMETIC = "nas.testing.evaluators:ArithmeticEvaluator"
SPEC = StudySpec(
    name="again",
    space="osa_tiny",
    sampler="random",
    seed=1,
    rungs=rungs_at(1, 2),
    budget=Budget(trials=6),
    objectives=(
        Objective(metric="error", reference=1.0),
        Objective(metric="macs", reference=4e6, limit=2_000_000),
    ),
)
TRAINED = replace(
    SPEC,
    name="trained",
    rungs=rungs_at(0.5, 1),
    budget=Budget(trials=2),
    objectives=(Objective(metric="error", reference=1.0),),
    data=DataSpec(dataset="digits", validation_images=100, train_images=256),
    training=TrainingSpec(precision="fp32", channels_last=False),
)


def search(folder: Path, spec: StudySpec, evaluator: str) -> None:
    with (
        Store.open(folder / "nas.db") as store,
        open_search(
            spec,
            store=store,
            workers=LocalWorkers(),
            folder=folder,
            artifacts=folder,
            evaluator=evaluator,
        ) as found,
    ):
        found.run()


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A study without real training."""
    folder = tmp_path_factory.mktemp("searched")
    search(folder, SPEC, ARITHMETIC)
    return folder


@pytest.fixture
def store(searched, tmp_path):
    """The record of a copy of it."""
    shutil.copytree(searched, tmp_path / "copy")
    with Store.open(tmp_path / "copy" / "nas.db") as opened:
        yield opened


def replicate(store: Store, todo, study: str = "again", evaluator: str = ARITHMETIC):
    with open_replicates(
        store, study, todo, workers=LocalWorkers(), folder=Path(), evaluator=evaluator
    ) as found:
        found.run()


def test_every_chosen_network_gets_its_seeds_once(store):
    """First one for each, then the second ones; the next call has only more seeds to do."""
    trials = select_trials(store.trials("again"))
    todo = missing_trainings(SPEC, trials, 2)
    assert [trial.number for trial, _ in todo] == [t.number for t in trials] * 2
    replicate(store, todo)
    after = select_trials(store.trials("again"))
    assert missing_trainings(SPEC, after, 2) == []
    assert len(missing_trainings(SPEC, after, 3)) == len(trials)
    for trial in after:
        seeds = {replicate.seed for replicate in trial.evaluation.replicates}
        assert len(seeds - {trial.seed}) == 2
        assert [[rung.epochs for rung in each.rungs] for each in trial.evaluation.replicates] == [
            [1, 2]
        ] * 2
        assert (
            trial.evaluation.replicate_errors() == (trial.evaluation.value("error"),) * 2
        )  # arithmetic knows no seeds


def test_the_search_goes_on_as_if_there_were_none(store):
    """The front that decisions are made by, the trials' own rungs and the soundness of the record
    stay.
    """
    before = store.trials("again")
    replicate(store, missing_trainings(SPEC, select_trials(before), 1))
    after = store.trials("again")
    assert front(after, SPEC.objectives) == front(before, SPEC.objectives)
    assert [t.evaluation.rungs for t in after] == [t.evaluation.rungs for t in before]
    assert store.problems() == []


def test_a_page_shows_means_beside_what_was_searched(store):
    """The error is the mean over the seeds, the rungs are the search's, and the front has a worth
    by fresh seeds.
    """
    trial = select_trials(
        store.trials("again"), front(store.trials("again"), SPEC.objectives).members
    )[0]
    ((_, task),) = missing_trainings(SPEC, [trial], 1)
    first, last = trial.evaluation.rungs
    for rung in (first, replace(last, error=last.error + 0.02)):
        store.add_replicate("again", trial.number, task.seed, rung)
    shown = contents(read(store, "again", "nas.db"))
    row = shown["trials"]["number"].index(trial.number)
    assert shown["trials"]["seeds"][row] == 2
    assert shown["trials"]["values"]["error"][row] == pytest.approx(last.error + 0.01)
    assert [error for _, error, _ in shown["trials"]["rungs"][row]] == [first.error, last.error]
    assert shown["summary"]["unbiased"]["replicated"] == 1
    assert shown["summary"]["unbiased"]["fresh"] < shown["summary"]["unbiased"]["searched"]


def test_an_unfinished_replicate_goes_on_at_its_last_rung(store):
    """A rung that is recorded is not trained again."""
    trial = select_trials(store.trials("again"))[0]
    ((_, task),) = missing_trainings(SPEC, [trial], 1)
    store.add_replicate(
        "again", trial.number, task.seed, replace(trial.evaluation.rungs[0], error=0.125)
    )
    ((_, task),) = missing_trainings(SPEC, [store.trial("again", trial.number)], 1)
    assert [rung.error for rung in task.evaluation.rungs] == [0.125]
    replicate(store, missing_trainings(SPEC, [store.trial("again", trial.number)], 1))
    (found,) = store.trial("again", trial.number).evaluation.replicates
    assert [rung.epochs for rung in found.rungs] == [1, 2]
    assert found.rungs[0].error == 0.125
    with pytest.raises(InvalidValueError, match="comes after"):
        store.add_replicate("again", trial.number, task.seed, found.rungs[0])


def test_a_share_of_the_budget_is_kept_for_fresh_seeds(store):
    """A search of 20 trials with a fifth kept ends after 16; of so many finished trainings a fourth
    is fresh.
    """
    given = replace(SPEC, budget=Budget(trials=20, fresh=0.2, epochs=10))
    assert given.search_budget == Budget(trials=16, fresh=0.2, epochs=8)
    spec = replace(SPEC, budget=Budget(trials=20, fresh=0.5))
    trials = store.trials("again")
    members, done = front(trials, SPEC.objectives).members, len(select_trials(trials))
    todo = final_replicates(spec, trials)
    assert len(todo) == done
    first = [trial for trial, _ in todo[: len(members)]]
    assert {trial.number for trial in first} == set(members)
    assert first == sorted(first, key=lambda trial: trial.evaluation.value("error"))
    replicate(store, todo[:1])
    assert [task.seed for _, task in final_replicates(spec, store.trials("again"))] == [
        task.seed for _, task in todo[1:]
    ]
    assert final_replicates(SPEC, trials) == []


class Drawing(ArithmeticEvaluator):
    """Draws 0.75 J for each rung."""

    def steps(self, task):
        """As its base does."""
        return (replace(event, energy_j=0.75) for event in super().steps(task))


def test_what_other_seeds_took_is_in_the_ledger(store):
    """Every seed of every network for itself, as the trials have it; apart from what the search
    took.
    """
    before = store.summary("again")
    replicate(
        store,
        missing_trainings(SPEC, select_trials(store.trials("again"))[:2], 2),
        evaluator=f"{__name__}:Drawing",
    )
    known, own = (
        store.summary("again"),
        [r for t in store.trials("again") for r in t.evaluation.replicates],
    )
    assert known.replicates == len(own) >= 4
    assert known.spent_again.epochs == sum(r.rungs[-1].epochs for r in own)
    assert known.spent_again.device_s == pytest.approx(
        sum(rung.train_s + rung.validation_s for r in own for rung in r.rungs)
    )
    assert known.spent_again.energy_j == sum(r.energy_j for r in own) == 0.75 * 2 * len(own)
    assert known.spent == before.spent


@pytest.mark.parametrize(
    ("budget", "share", "trials"),
    [
        (Budget(trials=20), 0.1, 18),
        (Budget(trials=19), 0.0, 19),
        (Budget(trials=20, fresh=0), 0.0, 20),
        (Budget(trials=10, fresh=0.1), 0.1, 9),
    ],
)
def test_a_tenth_of_a_budget_is_for_fresh_seeds_where_nothing_is_said(budget, share, trials):
    """From 20 trials on, so that it is two trainings at least; not where nothing is trained."""
    spec = replace(SPEC, budget=budget)
    assert (spec.fresh, spec.search_budget.trials) == (share, trials)
    untrained = replace(spec, objectives=(Objective(metric="macs"),), budget=Budget(trials=1000))
    assert (untrained.fresh, untrained.search_budget) == (0.0, untrained.budget)


def test_only_complete_originals_can_be_trained_again(store):
    """A stopped trial and an unknown number are refused by name."""
    trials = store.trials("again")
    stopped = next(t.number for t in trials if t.state is TrialState.STOPPED)
    with pytest.raises(InvalidValueError, match=f"trial {stopped}, 99 cannot be trained again"):
        select_trials(trials, {stopped, 99})


def test_a_search_and_its_replicates_do_not_run_at_once(store):
    """They would train on the same device, and the one would not know of the other."""
    with store.claim("again"), pytest.raises(StudyConflictError, match="is being searched already"):
        replicate(store, missing_trainings(SPEC, select_trials(store.trials("again")), 1))


def test_a_replicate_that_fails_is_told_and_not_recorded(store):
    """The others are; the same call tries it again."""
    trials = select_trials(store.trials("again"))[:2]
    with pytest.raises(
        TrialFailedError, match=rf"trial {trials[0].number} with seed \d+: the loss is not finite"
    ):
        replicate(
            store,
            missing_trainings(SPEC, trials, 1),
            evaluator="nas.testing.evaluators:FailingEvaluator",
        )
    assert [len(store.trial("again", trial.number).evaluation.replicates) for trial in trials] == [
        0,
        1,
    ]


def test_a_replicate_with_the_searchs_seed_is_the_searchs_training(tmp_path):
    """Bit for bit: same images, recipe and number formats. Afterwards no checkpoint of it is
    left.
    """
    search(tmp_path, TRAINED, "nas.searching.evaluators.classification.evaluator:Evaluator")
    with Store.open(tmp_path / "nas.db") as store:
        trial = select_trials(store.trials("trained"))[0]
        kept = {path for path in tmp_path.rglob("*.safetensors") if path.exists()}
        ((_, task),) = missing_trainings(TRAINED, [trial], 1)
        replicate(
            store,
            [(trial, replace(task, seed=trial.seed))],
            "trained",
            "nas.searching.evaluators.classification.replicator:Replicator",
        )
        (found,) = store.trial("trained", trial.number).evaluation.replicates
    assert [(r.error, r.train_loss, r.images) for r in found.rungs] == [
        (r.error, r.train_loss, r.images) for r in trial.evaluation.rungs
    ]
    assert {path for path in tmp_path.rglob("*.safetensors") if path.exists()} == kept


def test_a_search_ends_with_fresh_seeds_where_the_study_asks_for_them(tmp_path, monkeypatch):
    """Three of four trainings are the search's; the honest hypervolume is told, and the same
    command does nothing.
    """
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(
        "{name: kept, space: osa_tiny, sampler: random,"
        " objectives: [{metric: error, reference: 1.0}], rungs: {epochs: [0.2]},"
        " data: {dataset: digits, validation_images: 100, train_images: 320},"
        " training: {precision: fp32, channels_last: false}, budget: {trials: 4, fresh: 0.25}}"
    )
    first = CliRunner().invoke(main, ["search", "study.yaml"], catch_exceptions=False).output
    assert "[3/3] trial 2" in first
    assert "[1/1] trial" in first
    again = CliRunner().invoke(main, ["search", "study.yaml"], catch_exceptions=False).output
    for output in (first, again):
        assert (
            "3 architectures were tried, the study's budget without the share for new seeds"
            in output
        )
        assert re.search(
            r"hypervolume of 1 of 1 members .*: [\d.]+ as searched, [\d.]+ by new seeds", output
        )
    assert first.index("[1/1] trial") < first.index("front of kept after 3 trials")
    assert "[1/1]" not in again
    assert "of the search's own trainings" in CliRunner().invoke(main, ["status", "kept"]).output


def test_the_command_trains_real_networks_again(tmp_path, monkeypatch):
    """Every replicate has its line; the same command finds nothing to do."""
    search(tmp_path, TRAINED, "nas.searching.evaluators.classification.evaluator:Evaluator")
    monkeypatch.chdir(tmp_path)
    call = ["replicate", "trained", "--all", "--seeds", "1"]
    first = CliRunner().invoke(main, call, catch_exceptions=False)
    assert first.exit_code == 0
    lines = re.findall(
        r"\[(\d)/2\] trial \d+: error [\d.]+ % with seed \d+, [\d.]+ % in the search", first.output
    )
    assert lines == ["1", "2"]
    again = CliRunner().invoke(main, call, catch_exceptions=False)
    assert "2 networks have 1 replicates each already" in again.output
    assert (
        "say what to train again"
        in CliRunner().invoke(main, ["replicate", "--all", "--front"]).output
    )
