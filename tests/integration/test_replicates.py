"""Replicates: networks trained again with new seeds as the search did, and nothing else changed."""

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
    """Return the folder of a study without real training."""
    folder = tmp_path_factory.mktemp("searched")
    search(folder, SPEC, ARITHMETIC)
    return folder


@pytest.fixture
def store(searched, tmp_path):
    """Open the record of a copy of that study."""
    shutil.copytree(searched, tmp_path / "copy")
    with Store.open(tmp_path / "copy" / "nas.db") as opened:
        yield opened


def replicate(store: Store, todo, study: str = "again", evaluator: str = ARITHMETIC):
    with open_replicates(
        store, study, todo, workers=LocalWorkers(), folder=Path(), evaluator=evaluator
    ) as found:
        found.run()


def test_every_selected_network_is_trained_once_with_each_seed(store):
    """The first seed of every network comes first. The next call has only more seeds to train."""
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
        # The arithmetic evaluator ignores seeds.
        assert trial.evaluation.values_of_seeds("error") == (trial.evaluation.value("error"),) * 3


def test_replicates_change_nothing_of_the_search(store):
    """The front that decides, the trials' own rungs and the soundness of the record stay."""
    before = store.trials("again")
    replicate(store, missing_trainings(SPEC, select_trials(before), 1))
    after = store.trials("again")
    assert front(after, SPEC.objectives) == front(before, SPEC.objectives)
    assert [t.evaluation.rungs for t in after] == [t.evaluation.rungs for t in before]
    assert store.problems() == []


def test_a_page_shows_means_over_seeds_beside_the_search(store):
    """The error is the mean over the seeds, the rungs are those of the search, and the front has a
    hypervolume by new seeds.
    """
    trial = select_trials(
        store.trials("again"), front(store.trials("again"), SPEC.objectives).members
    )[0]
    ((_, task),) = missing_trainings(SPEC, [trial], 1)
    first, last = trial.evaluation.rungs
    for rung in (first, replace(last, metrics={"error": last.metrics["error"] + 0.02})):
        store.add_replicate("again", trial.number, task.seed, rung)
    shown = contents(read(store, "again", "nas.db"))
    row = shown["trials"]["number"].index(trial.number)
    assert shown["trials"]["seeds"][row] == 2
    assert shown["trials"]["values"]["error"][row] == pytest.approx(last.metrics["error"] + 0.01)
    assert [metrics["error"] for _, metrics, _ in shown["trials"]["rungs"][row]] == [
        first.metrics["error"],
        last.metrics["error"],
    ]
    assert shown["summary"]["unbiased"]["replicated"] == 1
    assert shown["summary"]["unbiased"]["fresh"] < shown["summary"]["unbiased"]["searched"]


def test_an_unfinished_replicate_resumes_from_its_last_rung(store):
    """A rung that is recorded is not trained again."""
    trial = select_trials(store.trials("again"))[0]
    ((_, task),) = missing_trainings(SPEC, [trial], 1)
    store.add_replicate(
        "again",
        trial.number,
        task.seed,
        replace(trial.evaluation.rungs[0], metrics={"error": 0.125}),
    )
    ((_, task),) = missing_trainings(SPEC, [store.trial("again", trial.number)], 1)
    assert [rung.metrics["error"] for rung in task.evaluation.rungs] == [0.125]
    replicate(store, missing_trainings(SPEC, [store.trial("again", trial.number)], 1))
    (recorded,) = store.trial("again", trial.number).evaluation.replicates
    assert [rung.epochs for rung in recorded.rungs] == [1, 2]
    assert recorded.rungs[0].metrics["error"] == 0.125
    with pytest.raises(InvalidValueError, match="comes after"):
        store.add_replicate("again", trial.number, task.seed, recorded.rungs[0])


def test_a_share_of_the_budget_is_reserved_for_new_seeds(store):
    """With a fifth reserved, a search of 20 trials ends after 16. With a half, there are as many
    trainings with new seeds as in the search.
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
    other = next(trial for trial in select_trials(trials) if trial.number not in members)
    replicate(store, missing_trainings(spec, [other], 1))  # it may have been a member before
    assert len(final_replicates(spec, store.trials("again"))) == done - 2
    assert final_replicates(SPEC, trials) == []


class Drawing(ArithmeticEvaluator):
    """Reports 0.75 J for each event."""

    def steps(self, task):
        """Add the energy to the events of the base class."""
        return (replace(event, energy_j=0.75) for event in super().steps(task))


def test_resources_of_replicates_are_in_the_ledger(store):
    """They are the sums over all replicates, apart from the resources of the search."""
    before = store.summary("again")
    replicate(
        store,
        missing_trainings(SPEC, select_trials(store.trials("again"))[:2], 2),
        evaluator=f"{__name__}:Drawing",
    )
    after, spent = store.summary("again"), store.summary("again").spent_again
    all_replicates = [r for t in store.trials("again") for r in t.evaluation.replicates]
    assert after.replicates == len(all_replicates) >= 4
    assert spent.epochs == sum(each.rungs[-1].epochs for each in all_replicates)
    assert spent.device_s == pytest.approx(
        sum(rung.train_s + rung.validation_s for each in all_replicates for rung in each.rungs)
    )
    assert spent.energy_j == sum(each.energy_j for each in all_replicates)
    assert spent.energy_j == 0.75 * 2 * len(all_replicates)
    assert after.spent == before.spent


@pytest.mark.parametrize(
    ("budget", "share", "trials"),
    [
        (Budget(trials=20), 0.1, 18),
        (Budget(trials=19), 0.0, 19),
        (Budget(trials=20, fresh=0), 0.0, 20),
        (Budget(trials=10, fresh=0.1), 0.1, 9),
    ],
)
def test_a_tenth_of_a_budget_is_reserved_for_new_seeds_by_default(budget, share, trials):
    """From 20 trials on, which are at least two trainings, and only if networks are trained."""
    spec = replace(SPEC, budget=budget)
    assert (spec.fresh, spec.search_budget.trials) == (share, trials)
    untrained = replace(spec, objectives=(Objective(metric="macs"),), budget=Budget(trials=1000))
    assert (untrained.fresh, untrained.search_budget) == (0.0, untrained.budget)


def test_only_complete_originals_can_be_trained_again(store):
    """A stopped trial and an unknown number are refused with their numbers."""
    trials = store.trials("again")
    stopped = next(t.number for t in trials if t.state is TrialState.STOPPED)
    with pytest.raises(InvalidValueError, match=f"trial {stopped}, 99 cannot be trained again"):
        select_trials(trials, {stopped, 99})


def test_a_search_and_its_replicates_do_not_run_at_once(store):
    """They would train on the same device without notice of each other."""
    with store.claim("again"), pytest.raises(StudyConflictError, match="is being searched already"):
        replicate(store, missing_trainings(SPEC, select_trials(store.trials("again")), 1))


def test_a_replicate_that_fails_is_reported_and_not_recorded(store):
    """The other ones are recorded. The same call tries the failed one again."""
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


def test_a_replicate_with_the_searchs_seed_equals_the_searchs_training(tmp_path):
    """It is equal to the bit: images, recipe and number formats are the same. Its checkpoints are
    deleted afterwards.
    """
    search(tmp_path, TRAINED, "nas.searching.evaluators.classification.evaluator:Evaluator")
    with Store.open(tmp_path / "nas.db") as store:
        trial = select_trials(store.trials("trained"))[0]
        checkpoints = {path for path in tmp_path.rglob("*.safetensors") if path.exists()}
        ((_, task),) = missing_trainings(TRAINED, [trial], 1)
        replicate(
            store,
            [(trial, replace(task, seed=trial.seed))],
            "trained",
            "nas.searching.evaluators.classification.replicator:Replicator",
        )
        (recorded,) = store.trial("trained", trial.number).evaluation.replicates
    assert [(r.metrics["error"], r.train_loss, r.images) for r in recorded.rungs] == [
        (r.metrics["error"], r.train_loss, r.images) for r in trial.evaluation.rungs
    ]
    assert {path for path in tmp_path.rglob("*.safetensors") if path.exists()} == checkpoints


def test_a_search_ends_with_trainings_by_new_seeds(tmp_path, monkeypatch):
    """With a fourth reserved, three of four trainings are those of the search. The unbiased
    hypervolume is printed. The same command trains nothing more.
    """
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(
        "{name: reserved, space: osa_tiny, sampler: random,"
        " objectives: [{metric: error, reference: 1.0}], rungs: {epochs: [0.2]},"
        " data: {dataset: digits, validation_images: 100, train_images: 320},"
        " training: {precision: fp32, channels_last: false}, budget: {trials: 4, fresh: 0.25}}"
    )
    first = CliRunner().invoke(main, ["search", "study.yaml"], catch_exceptions=False).output
    assert "[3/3] trial 2" in first
    assert "[1/1] trial" in first
    again = CliRunner().invoke(main, ["search", "study.yaml"], catch_exceptions=False).output
    for output in (first, again):
        share = "the limit of budget.trials without the share for new seeds"
        assert f"3 networks were tried, {share}" in output
        assert re.search(
            r"hypervolume of 1 of 1 members .*: [\d.]+ % of .* as searched, [\d.]+ % of .* by new",
            output,
        )
    assert first.index("[1/1] trial") < first.index("front of reserved after 3 trials")
    assert "[1/1]" not in again
    assert (
        "of the search's own trainings" in CliRunner().invoke(main, ["status", "reserved"]).output
    )


def test_the_command_trains_real_networks_again(tmp_path, monkeypatch):
    """It prints a line for every replicate. The same command trains nothing more."""
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
