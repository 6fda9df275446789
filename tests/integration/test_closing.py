"""The members of a front certified together at the end of a search, with real measurements on this CPU."""

import pytest
from click.testing import CliRunner

from nas import plugins
from nas.cli import main
from nas.search.closing import uncertified
from nas.search.launch import open_search
from nas.store import Store
from nas.study import Budget, Objective, StudySpec
from nas.trial import CERTIFIED

SPEC = StudySpec(name="closing", space="osa_tiny", sampler="random", budget=Budget(trials=4, certify=True), objectives=(
    Objective(metric="error"), Objective(metric="latency")))
QUICK = """
from nas.benchmark.certify import Cycles
from nas.evaluation.certifier import Certifier

class Quick(Certifier):
    cycles = Cycles(candidate_s=0.2, reference_s=0.1, dropped_s=0.02, least=2, most=3, max_rejected=1,
                    max_reference_change=1.0, max_half_width=1.0, patience_s=1.0)
"""


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Opens the search of a folder that has its own locks and a certifier that takes no half minute."""
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "locks"))
    (tmp_path / "quick.py").write_text(QUICK)

    def search(store):
        return open_search(SPEC, store=store, workers=plugins.load("nas.workers", "local")(), folder=tmp_path,
                           artifacts=tmp_path, evaluator="nas.testing.evaluators:ArithmeticEvaluator")

    return search


@pytest.mark.slow
def test_members_are_certified_together_and_kept_beside_what_decided(opened, tmp_path):
    """Each member has a figure of one session against the reference; the front and every latency are what they were,
    the record is sound, and a second call has nothing left to certify unless a figure had no value."""
    with Store.open(tmp_path / "nas.db") as store:
        with opened(store) as found:
            found.run()
            before = {trial.number: trial.evaluation.value("latency") for trial in store.trials("closing")}
            members = uncertified(found.engine)
            assert tuple(trial.number for trial in members) == found.engine.brain.front.members != ()
            found.certify(members, evaluator="quick:Quick")
            known = found.engine.brain.members()
        recorded = {trial.number: trial for trial in store.trials("closing")}
        assert [recorded[trial.number] for trial in known] == known
        assert {number: trial.evaluation.value("latency") for number, trial in recorded.items()} == before
        figures = [recorded[trial.number].evaluation.measurements[CERTIFIED] for trial in members]
        assert len({figure.details["session"] for figure in figures}) == 1
        assert all(figure.details["reference"] == "vovnet27_slim" for figure in figures)
        assert store.problems() == []
        with opened(store) as again:
            whole = all(figure.value is not None for figure in figures)
            assert bool(uncertified(again.engine)) is not whole
    shown = CliRunner().invoke(main, ["front", "closing", "--database", str(tmp_path / "nas.db")]).output
    assert ("certified" in shown) is any(figure.value is not None for figure in figures)
