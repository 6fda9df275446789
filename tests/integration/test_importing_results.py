"""`nas study import`: networks with figures of elsewhere, checked and never mixed with others."""

import csv
import json
import shutil
from dataclasses import replace

import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.core.errors import StudyConflictError
from nas.core.study import Budget, Objective, StudySpec, rungs_at
from nas.core.trial import TrialState
from nas.record import Store
from nas.searching.run import SearchObserver, run_study
from search_spaces import osa_tiny

SOURCE = StudySpec(
    name="source",
    space="osa_tiny",
    evaluator="nas.testing.evaluators:ARITHMETIC",
    sampler="random",
    seed=3,
    rungs=rungs_at(1, 2),
    budget=Budget(trials=6, fresh=0),
    objectives=(
        Objective(metric="error", reference=1.0),
        Objective(metric="latency", device="pi5", reference=1.0),
        Objective(metric="macs", reference=1e9),
    ),
)
ENDS = [{choice.name: choice.values[end] for choice in osa_tiny.SPACE.choices} for end in (0, -1)]
"""Params of the smallest and the largest network, which the source does not have."""
TARGET = replace(
    SOURCE, name="target", sampler="nsga2", first=ENDS, budget=Budget(trials=2, fresh=0)
)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A record with both studies, made once."""
    folder = tmp_path_factory.mktemp("searched")
    for spec in (SOURCE, TARGET):
        run_study(spec, str(folder / "nas.db"), observer=SearchObserver(), artifacts=folder)
    return folder / "nas.db"


@pytest.fixture
def database(original, tmp_path, monkeypatch):
    """A copy of it in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NAS_DATABASE", raising=False)
    return shutil.copy(original, tmp_path / "nas.db")


def nas(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def printed(*words):
    done = nas(*words)
    assert done.exit_code == 0, done.output
    return done.stdout


def trials_of(database, study):
    with Store.open(database, read_only=True) as store:
        assert store.problems() == []
        return store.trials(study)


def lines_of(database, count, **changes):
    """Return the entries of trials of the source, with these changes."""
    trials = [each for each in trials_of(database, "source") if each.duplicate_of is None]
    entries = [
        {
            "architecture": trial.architecture.to_dict(),
            "error": trial.evaluation.value("error"),
            "latency@pi5": trial.evaluation.value("latency@pi5"),
        }
        for trial in trials[:count]
    ]
    return [{**entry, **changes} for entry in entries]


def imported(tmp_path, entries, *options):
    """Import the entries as JSON lines."""
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    return nas("study", "import", "target", path, *options)


@pytest.mark.parametrize("form", ["csv", "json"])
def test_the_printed_front_of_another_study_comes_in(database, tmp_path, form):
    """Its members have their figures, name where they are from, and are on the front if they
    should be; a second import finds them all there.
    """
    path = tmp_path / f"front.{form}"
    path.write_text(printed("front", "source", "--format", form))
    with Store.open(database) as store:
        members = store.newest_front("source").members
    before = trials_of(database, "target")
    own = {each.architecture.digest for each in before}
    source = {trial.number: trial for trial in trials_of(database, "source")}
    lacking = [number for number in members if source[number].architecture.digest not in own]
    output = printed("study", "import", "target", path)
    new = trials_of(database, "target")[len(before) :]
    assert f"target: {len(lacking)} networks of front.{form}" in output
    assert [trial.origin for trial in new] == [f"front.{form} source:{n}" for n in lacking]
    for number, trial in zip(lacking, new, strict=True):
        for key in ("error", "latency@pi5", "macs", "parameters"):
            assert trial.evaluation.value(key) == source[number].evaluation.value(key)
        assert trial.architecture == source[number].architecture
    with Store.open(database) as store:
        assert store.summary("target").copied == len(lacking) > 0
    again = printed("study", "import", "target", path)
    assert f"target: 0 networks of front.{form}" in again
    assert f"skipped, because the study has them: {len(members)}" in again


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database(request, database):
    """The record in a file or on a server."""
    if request.param == "sqlite":
        return str(database)
    url = request.getfixturevalue("postgresql")()
    with Store.open(database, read_only=True) as source, Store.open(url) as target:
        source.copy_to(target)
    return url


def test_an_exported_optuna_study_comes_back(any_database, tmp_path):
    """The front of both studies together is that of all trials, and the search continues: what was
    imported uses no budget and is not proposed again.
    """
    printed("study", "export-optuna", "source", "optuna.db", "--database", any_database)
    words = ("study", "import", "target", "--optuna", "optuna.db", "--database", any_database)
    unknown = nas(*words)
    assert (unknown.exit_code, "no 'target' in Optuna's studies" in unknown.output) == (2, True)
    printed(*words, "--study", "source")
    spec = replace(TARGET, budget=Budget(trials=4, fresh=0))
    run_study(spec, any_database, observer=SearchObserver(), artifacts=tmp_path / "kept")
    new = [each for each in trials_of(any_database, "target") if each.duplicate_of is None]
    old = {
        each.architecture.digest: each
        for each in trials_of(any_database, "source")
        if each.duplicate_of is None
    }
    for trial in [each for each in new if each.origin]:
        there = old[trial.architecture.digest].evaluation
        figures = trial.evaluation.measurements["latency@pi5"]
        assert figures.ci_low == there.measurements["latency@pi5"].ci_low
        assert [rung.metrics for rung in trial.evaluation.rungs] == [
            rung.metrics for rung in there.rungs
        ]
    own = [each for each in new if not each.origin]
    assert len([each for each in own if each.state is TrialState.COMPLETE]) == 4
    assert len({each.architecture.digest for each in new}) == len(new)


def test_an_export_into_a_new_study_has_the_same_front(database, tmp_path):
    """The study that imports has one network of its own, which the other one has too."""
    spec = replace(SOURCE, name="twin", budget=Budget(trials=1, fresh=0))
    run_study(spec, str(database), observer=SearchObserver(), artifacts=tmp_path / "kept")
    printed("study", "export-optuna", "source", "optuna.db")
    printed("study", "import", "twin", "--optuna", "optuna.db", "--study", "source")
    with Store.open(database) as store:
        fronts = [store.newest_front(name) for name in ("source", "twin")]
        networks = [
            {each.architecture.digest for each in store.trials(name, front.members)}
            for name, front in zip(("source", "twin"), fronts, strict=True)
        ]
    assert fronts[0].hypervolume == fronts[1].hypervolume
    assert networks[0] == networks[1]


def test_every_problem_is_named_and_nothing_is_written(database, tmp_path):
    """Each message has its line; equal problems are one message."""
    before = trials_of(database, "target")
    good, *others = lines_of(database, 6)
    entries = [good]
    changes = (
        {"error": 1.5},
        {"error": "low"},
        {"macs": 7},
        {"latency@pi5": -1},
        {"architecture": {"stages": []}},
    )
    entries += [{**entry, **change} for entry, change in zip(others, changes, strict=False)]
    entries.append({key: value for key, value in good.items() if key != "error"})
    entries.append({**good, "digest": "0123456789ab"})
    done = imported(tmp_path, entries, "--same-device", "--same-recipe")
    assert done.exit_code == 2
    for text in (
        "line 2: error must be from 0 to 1, not 1.5",
        "line 3: error: 'low' is no quantity",
        "line 4: macs is 7, but in this study the network has",
        "line 5: latency@pi5 must be positive",
        "line 6: architecture: not an architecture: stem_channels missing",
        "line 7: training gave no error",
        "line 8: its digest is 0123456789ab",
    ):
        assert text in done.output
    assert len(trials_of(database, "target")) == len(before)


def test_figures_without_conditions_need_a_confirmation(database, tmp_path):
    """The messages name the options and what the study has."""
    entries = lines_of(database, 6)
    refused = imported(tmp_path, entries)
    assert refused.exit_code == 2
    assert "line 1, line 2, line 3, line 4, line 5 and 1 more: " in refused.output
    assert "(class of pi5); if it was, say --same-device" in refused.output
    assert "if it was, say --same-recipe" in refused.output
    done = imported(tmp_path, entries, "--same-device", "--same-recipe")
    assert done.exit_code == 0, done.output
    new = [each for each in trials_of(database, "target") if each.origin]
    assert {tuple(r.epochs for r in each.evaluation.rungs) for each in new} == {(2.0,)}
    assert {each.evaluation.measurements["latency@pi5"].status for each in new} == {"noisy"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latency@pi5_device": "class of another"}, "the study's is 'class of pi5'"),
        ({"latency@pi5_device": 7}, "latency@pi5_device is 7, and the study's is"),
        ({"recipe": "0123"}, "another training, data set or resolution"),
    ],
)
def test_figures_of_other_conditions_are_never_taken(database, tmp_path, changes, message):
    """No confirmation helps against what the file says."""
    done = imported(tmp_path, lines_of(database, 2, **changes), "--same-device", "--same-recipe")
    assert (done.exit_code, message in done.output) == (2, True), done.output
    assert not any(each.origin for each in trials_of(database, "target"))


def test_the_front_of_another_recipe_is_refused(database, tmp_path):
    """Other epochs make other errors."""
    spec = replace(TARGET, name="other", rungs=rungs_at(1, 3), budget=Budget(trials=1, fresh=0))
    run_study(spec, str(database), observer=SearchObserver(), artifacts=tmp_path / "kept")
    (tmp_path / "front.csv").write_text(printed("front", "source", "--format", "csv"))
    done = nas("study", "import", "other", "front.csv", "--same-recipe")
    assert (done.exit_code, "another training" in done.output) == (2, True)


def test_a_table_of_choices_in_units_comes_in(database, tmp_path):
    """Columns are the choices of the space; a figure may have its unit."""
    trial = next(each for each in trials_of(database, "source") if each.duplicate_of is None)
    row = {**trial.params, "error": "45 %", "latency@pi5": "0.25 ms", "note": "by hand"}
    row["latency@pi5_method"] = "stopwatch"  # of energies only it is a condition
    with (tmp_path / "mine.csv").open("w") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        writer.writeheader()
        writer.writerow(row)
    output = printed("study", "import", "target", "mine.csv", "--same-device", "--same-recipe")
    assert "not imported, as no objectives: note" in output
    new = trials_of(database, "target")[-1]
    assert osa_tiny.SPACE.decode(new.params) == trial.architecture
    assert (new.evaluation.value("error"), new.evaluation.value("latency@pi5")) == (0.45, 0.00025)


def test_a_study_that_is_searched_takes_no_results(database, tmp_path):
    """The claim of the process that drives it is respected."""
    (tmp_path / "front.csv").write_text(printed("front", "source", "--format", "csv"))
    with Store.open(database) as store, store.claim("target"):
        done = nas("study", "import", "target", "front.csv")
    assert (done.exit_code, "is being searched already" in done.output) == (2, True)


def test_an_import_that_is_cut_short_writes_nothing(database, tmp_path, monkeypatch):
    """Trials and the front are one transaction."""
    (tmp_path / "front.csv").write_text(printed("front", "source", "--format", "csv"))

    def cut(*_):
        raise StudyConflictError("cut")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add_front", cut)
        assert nas("study", "import", "target", "front.csv").exit_code == 2
    assert not any(each.origin for each in trials_of(database, "target"))
