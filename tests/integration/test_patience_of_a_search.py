"""A search with `budget.patience` ends early, says why, and goes on without it."""

from dataclasses import replace

from nas.core import plugins
from nas.core.study import Budget, Objective, StudySpec, rungs_at
from nas.record import Store
from nas.searching.launch import open_search


def search(folder, spec):
    """Search with figures that are arithmetic; return the reason of the end."""
    with (
        Store.open(folder / "nas.db") as store,
        open_search(
            spec,
            store=store,
            workers=plugins.load("nas.workers", "local")(None),
            folder=folder,
            artifacts=folder,
            evaluator="nas.testing.evaluators:ArithmeticEvaluator",
        ) as begun,
    ):
        return begun.run(), begun.engine.state.num_trials


def test_a_search_ends_and_resumes(tmp_path):
    """Ten trainings without a gain end it again at once; without patience the budget is used."""
    spec = StudySpec(
        name="patient",
        space="osa_cifar",
        sampler="random",
        objectives=(
            Objective(metric="error", reference=1.0),
            Objective(metric="latency", reference=1.0),
        ),
        rungs=rungs_at(1),
        budget=Budget(trials=80, fresh=0, patience=10),
    )
    reason, trials = search(tmp_path, spec)
    assert "budget.patience" in reason
    assert 10 < trials < 80
    assert search(tmp_path, spec) == (reason, trials)
    reason, trials = search(tmp_path, replace(spec, budget=Budget(trials=80, fresh=0)))
    assert "80 networks were tried" in reason
    assert trials >= 80
