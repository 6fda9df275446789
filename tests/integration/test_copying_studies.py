"""`nas study copy`: valid trials come along, teach the sampler and use no budget."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

import nas
from nas.analysis.baselines import is_finished
from nas.cli import main
from nas.core.errors import InvalidValueError, NasError
from nas.core.measurement import MeasurementPlan
from nas.core.published import PUBLISHED
from nas.core.seeds import replicate_seed
from nas.core.study import Budget, DataSpec, Objective, StudySpec, TrainingSpec, rungs_at
from nas.core.trial import TrialState
from nas.record import Store
from nas.report.history import ledger
from nas.searching.copying import CANDIDATE, NEEDS, copy_study
from nas.searching.launch import finished_baselines
from nas.searching.replicates import final_replicates
from nas.searching.run import SearchObserver, run_study
from search_spaces import osa_tiny

MODULE = "tests.integration.test_copying_studies"
NOW = datetime(2100, 1, 2, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
NARROW = replace(osa_tiny.SPACE, attention=("none",))
SPEC = StudySpec(
    name="first",
    space="osa_tiny",
    evaluator="nas.testing.evaluators:ARITHMETIC",
    sampler="random",
    seed=3,
    rungs=rungs_at(1, 2),
    budget=Budget(trials=4, fresh=0),
    objectives=(
        Objective(metric="error", reference=1.0),
        Objective(metric="macs", limit=2_000_000, reference=4e6),
    ),
)
WIDER = (SPEC.objectives[0], Objective(metric="macs", limit=1e9))


def searched(url, artifacts):
    """Search the study, some of whose trials its limit stops, and return the record's address."""
    run_study(SPEC, url, observer=SearchObserver(), artifacts=artifacts)
    return url


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Return a record of the study in a file, which is searched once."""
    folder = tmp_path_factory.mktemp("searched")
    return searched(str(folder / "nas.db"), folder / "kept")


@pytest.fixture
def database(original, tmp_path):
    """Return a copy of that record."""
    return shutil.copy(original, tmp_path / "nas.db")


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database(request, original, tmp_path):
    """Return the record of the study in a file or on a server."""
    url = str(tmp_path / "nas.db")
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql")()
    with Store.open(original, read_only=True) as source, Store.open(url) as target:
        source.copy_to(target)
        target.set_artifacts("first", tmp_path / "kept")
    return url


def copy(database, **changes):
    """Copy the study, and return what came along with the trials of both."""
    spec = replace(SPEC, **{"name": "second", **changes})
    with Store.open(database) as store:
        copied = copy_study(store, "first", spec, Path(), NOW)
        assert store.problems() == []
        return copied, store.trials("first"), store.trials("second")


def originals(trials):
    return [trial for trial in trials if trial.duplicate_of is None]


def test_all_trials_come_along_under_the_same_limits(database):
    """With their states, figures and rungs, and the front is the same."""
    copied, old, new = copy(database, sampler="nsga2", budget=Budget(trials=3, fresh=0))
    old = originals(old)
    assert copied.trials == len(new) == len(old)
    assert copied.left_out == {}
    assert [each.evaluation for each in new] == [each.evaluation for each in old]
    assert [(each.state, each.params) for each in new] == [
        (each.state, each.params) for each in old
    ]
    assert [each.origin for each in new] == [f"first:{each.number}" for each in old]
    with Store.open(database) as store:
        before, after = (store.newest_front(name) for name in ("first", "second"))
    assert after.hypervolume == before.hypervolume


def test_copied_trials_use_no_budget_and_are_not_proposed_again(any_database, tmp_path):
    """The new study trains as many networks as its own budget says, and others."""
    budget = Budget(trials=3, epochs=6, fresh=0)
    copied, _, _ = copy(any_database, budget=budget)
    spec = replace(SPEC, name="second", budget=budget)
    run_study(spec, any_database, observer=SearchObserver(), artifacts=tmp_path / "kept")
    with Store.open(any_database) as store:
        trials, summary = originals(store.trials("second")), store.summary("second")
        assert store.problems() == []
    own = [trial for trial in trials if not trial.origin]
    assert len([trial for trial in own if trial.state is TrialState.COMPLETE]) == 3
    assert (summary.copied, summary.spent.epochs) == (copied.trials, 6.0)
    digests = [trial.architecture.digest for trial in trials]
    assert len(set(digests)) == len(digests)


def test_what_old_limits_stopped_is_a_candidate_of_wider_ones(database):
    """It has no error yet, so it is left out, and the search may propose it."""
    copied, old, new = copy(database, objectives=WIDER)
    stopped = [each.number for each in originals(old) if each.state is TrialState.STOPPED]
    assert stopped
    assert copied.left_out == {CANDIDATE: stopped}
    assert {each.state for each in new} == {TrialState.COMPLETE}


def test_tighter_limits_keep_all_trials(database):
    """Complete ones stay complete, and those over the limit have the new limit as reason."""
    objectives = (SPEC.objectives[0], Objective(metric="macs", limit=1_000_000))
    copied, old, new = copy(database, objectives=objectives)
    assert copied.trials == len(originals(old))
    reasons = {each.reason for each in new if each.state is TrialState.STOPPED}
    assert all("is over the limit 1e+06" in reason for reason in reasons)


def test_the_origin_follows_a_rename(any_database):
    """That of a copy of a copy too; not that of an import whose file has the study's name."""
    copy(any_database)
    with Store.open(any_database) as store:
        copy_study(store, "second", replace(SPEC, name="third"), Path(), NOW)
        imported = replace(store.trials("third")[0], origin="first:12 nas.db", number=0)
        store.create_study(replace(SPEC, name="fourth"), dataset="digits", classes=10)
        store.add_trial("fourth", imported)
        before = store.trials("second")
        store.rename_study("first", "mine")
        for name in ("second", "third"):
            assert [each.origin for each in store.trials(name)] == [
                each.origin.replace("first", "mine") for each in before
            ]
        assert store.trials("fourth")[0].origin == "first:12 nas.db"


def test_the_origin_of_another_study_of_that_name_stays(database):
    """Its trial of this number has another network."""
    _, _, (*_, last) = copy(database)
    with Store.open(database) as store:
        store.delete_study("first")
        store.create_study(SPEC, dataset="digits", classes=10)
        store.add_trial("first", replace(store.trials("second")[0], origin="", number=0))
        store.rename_study("first", "mine")
        origins = [each.origin for each in store.trials("second")]
    assert origins[0] == "mine:0"
    assert origins[-1] == last.origin


def test_another_space_takes_the_networks_that_it_has(database):
    """Their params are those of the new space."""
    copied, old, new = copy(database, space=f"{MODULE}:NARROW")
    with_attention = [
        each.number for each in originals(old) if each.architecture.attention != "none"
    ]
    (left_out,) = copied.left_out.values()
    assert left_out == with_attention
    assert all(NARROW.decode(each.params) == each.architecture for each in new)
    assert new


def test_objectives_without_a_figure_leave_trials_out(database):
    """A complete trial needs a value of each."""
    objectives = (*SPEC.objectives, Objective(metric="memory_access_cost"))
    copied, _, _ = copy(database, objectives=objectives)
    assert "no figure for memory_access_cost" in copied.left_out


def test_under_other_training_networks_over_a_limit_come_along(database, tmp_path):
    """By their counts, which hold. The others are candidates, and the search trains them anew."""
    budget = Budget(trials=2, fresh=0)
    copied, old, new = copy(database, rungs=rungs_at(1, 3), budget=budget)
    old = originals(old)
    stopped = [each.number for each in old if each.state is TrialState.STOPPED]
    complete = [each.number for each in old if each.state is TrialState.COMPLETE]
    assert copied.changed == ["rungs.1.epochs 2.0, now 3.0"]
    assert [each.origin for each in new] == [f"first:{number}" for number in stopped]
    assert all(each.evaluation.value("macs") > 2e6 for each in new)
    assert copied.left_out == {f"{NEEDS} error": complete}
    assert copied.candidates == complete
    spec = replace(SPEC, name="second", rungs=rungs_at(1, 3), budget=budget)
    spec = replace(spec, first=(f"first:{complete[0]}",))
    run_study(spec, database, observer=SearchObserver(), artifacts=tmp_path / "kept")
    with Store.open(database) as store:
        assert store.problems() == []
        first = store.trials("second")[len(stopped)]
    assert first.architecture == old[complete[0]].architecture
    assert [rung.epochs for rung in first.evaluation.rungs] == [1.0, 3.0]


def test_nothing_comes_along_if_no_figure_is_valid(database):
    """The message names the keys, and the networks to begin with; nothing is written."""
    with pytest.raises(InvalidValueError, match=r"rungs\.1\.epochs 2\.0, now 3\.0.*'first:"):
        copy(database, rungs=rungs_at(1, 3), objectives=WIDER)
    with Store.open(database) as store:
        assert [record.name for record in store.studies()] == ["first"]


def test_counts_and_errors_hold_under_another_measurement(database):
    """A measured figure does not, and counts depend on the size of the images."""
    copied, old, new = copy(database, measurement=MeasurementPlan(batch_size=8))
    assert copied.trials == len(new) == len(originals(old))
    assert [each.evaluation.rungs for each in new] == [
        each.evaluation.rungs for each in originals(old)
    ]
    assert all("latency" not in each.evaluation.measurements for each in new)
    with pytest.raises(InvalidValueError, match=r"measurement\.image_size 32, now 64"):
        copy(database, name="third", measurement=MeasurementPlan(image_size=64))


def test_a_copy_under_other_training_is_prepared_anew(tmp_path):
    """Its training images are those of its own settings, not those of the original."""
    data = DataSpec(dataset="digits", validation_images=100, train_images=256)
    spec = replace(
        SPEC,
        evaluator="classification",
        data=data,
        rungs=rungs_at(0.5),
        training=TrainingSpec(precision="fp32", channels_last=False),
        budget=Budget(trials=2, fresh=0),
        trained=None,
    )
    database = str(tmp_path / "nas.db")
    run_study(spec, database, observer=SearchObserver(), artifacts=tmp_path)
    limit = (SPEC.objectives[0], Objective(metric="macs", limit=1.0, reference=4e6))
    other = replace(spec, name="second", data=replace(data, train_images=512), objectives=limit)
    with Store.open(database) as store:
        copied = copy_study(store, "first", other, Path(), NOW)
        assert copied.trials == len(originals(store.trials("first")))
    wide = replace(other, name="second", budget=Budget(trials=1, proposals=1, fresh=0))
    run_study(wide, database, observer=SearchObserver(), artifacts=tmp_path)
    with Store.open(database) as store:
        record = store.study("second")
    assert record.preparation.data.train_images == 512
    assert record.is_prepared


@pytest.fixture
def with_baselines(tmp_path, monkeypatch):
    """A record of the study with two baselines, a published network and a file in the current
    folder.
    """
    monkeypatch.chdir(tmp_path)
    Path("mine.json").write_text(json.dumps(PUBLISHED["vovnet39_cifar"].to_dict()))
    names = ("vovnet27_slim_cifar", "mine.json")
    spec = replace(SPEC, baselines=names, budget=Budget(trials=1, fresh=0))
    run_study(spec, "nas.db", observer=SearchObserver(), artifacts=Path("kept"))
    return spec


def copied_baselines(spec):
    """Copy the study as `spec`, and return the baselines of both."""
    with Store.open("nas.db") as store:
        copied = copy_study(store, "first", spec, Path(), NOW)
        assert store.problems() == []
        old, new = (store.baselines(name) for name in ("first", spec.name))
        assert copied.baselines == [each.name for each in new]
        return old, new


def test_baselines_come_along_with_their_figures(with_baselines):
    """They are finished, so that a search of the copy neither measures nor trains them."""
    spec = replace(with_baselines, name="second")
    old, new = copied_baselines(spec)
    assert [each.name for each in new] == list(spec.baselines)
    for before, after in zip(old, new, strict=True):
        assert is_finished(spec, after)
        assert after.evaluation.measurements == before.evaluation.measurements
        assert after.evaluation.rungs == before.evaluation.rungs
    with Store.open("nas.db") as store:
        assert finished_baselines(spec, store) == set(spec.baselines)


def test_under_other_training_baselines_bring_their_counts(with_baselines):
    """They are trained again, and counted again at once."""
    nothing_within = (SPEC.objectives[0], Objective(metric="macs", limit=1.0, reference=4e6))
    _, new = copied_baselines(
        replace(with_baselines, name="second", rungs=rungs_at(2, 3), objectives=nothing_within)
    )
    assert len(new) == 2
    assert all(each.evaluation.value("macs") and not each.evaluation.rungs for each in new)


def test_a_baseline_whose_file_has_changed_stays_behind(with_baselines):
    """Under the new file's network the figures would be wrong, and so is one whose file is gone."""
    Path("mine.json").write_text(json.dumps(PUBLISHED["vovnet57_cifar"].to_dict()))
    _, changed = copied_baselines(replace(with_baselines, name="second"))
    Path("mine.json").unlink()
    _, gone = copied_baselines(replace(with_baselines, name="third"))
    assert [each.name for each in (*changed, *gone)] == ["vovnet27_slim_cifar"] * 2


def test_copied_replicates_are_no_trainings_of_the_new_study(any_database):
    """Neither in the summary nor in the ledger of the page; one that it trains is."""
    with Store.open(any_database) as store:
        (trial, *_) = store.trials("first")
        reached = trial.evaluation.rungs[-1]
        store.add_replicate("first", trial.number, 77, replace(reached, finished_at=NOW))
        copy(any_database)
        assert store.summary("first").replicates == 1
        assert store.summary("second").replicates == 0
        assert store.summary("second").spent_again.epochs == 0
        later = replace(reached, finished_at=LATER)
        store.add_replicate("second", 0, 78, later)
        assert store.summary("second").replicates == 1
        trials = store.trials("second")
    assert {row["trials"] for row in ledger(trials)} == {0}
    frame = nas.open(any_database).study("second").trials()
    assert frame["origin"].tolist() == [each.origin for each in trials]


def test_copied_replicates_use_nothing_of_the_share_for_new_seeds(database, tmp_path):
    """The copy makes as many as its own trainings pay for, by seeds that did not come along."""
    with Store.open(database) as store:
        for each in originals(store.trials("first")):
            for rung in each.evaluation.rungs:
                seed = replicate_seed(SPEC.seed, each.architecture.digest, 1)
                store.add_replicate("first", each.number, seed, rung)
    budget = Budget(trials=3, fresh=0)
    copy(database, budget=budget)
    spec = replace(SPEC, name="second", budget=budget)
    run_study(spec, database, observer=SearchObserver(), artifacts=tmp_path / "kept")
    with Store.open(database) as store:
        todo = final_replicates(replace(spec, budget=Budget(fresh=0.5)), store.trials("second"))
        assert len(todo) == 3  # as many as its three trials of two epochs
        for trial, task in todo[:2]:
            for rung in trial.evaluation.rungs:
                store.add_replicate(
                    "second", trial.number, task.seed, replace(rung, finished_at=LATER)
                )
        todo = final_replicates(replace(spec, budget=Budget(fresh=0.5)), store.trials("second"))
        assert len(todo) == 1


def test_other_settings_of_the_evaluator_make_every_evaluation_invalid(database):
    """Such as another system of detectors, which is another training."""
    with pytest.raises(InvalidValueError, match=r"evaluator_settings\.image_size"):
        copy(database, evaluator_settings={"image_size": 96})


def test_a_copy_that_is_cut_short_can_be_repeated(any_database, tmp_path, monkeypatch):
    """No part of the study is recorded before all of it is; its linked files are used again."""
    file = tmp_path / "kept" / "first" / "abc" / "1.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    with Store.open(any_database) as store:
        (trial, *_) = store.trials("first")
        name = trial.evaluation.rungs[-1]
        seed = 77
        reached = replace(name, checkpoint="first/abc/1.safetensors")
        store.add_replicate("first", trial.number, seed, reached)

    def cut(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add_front", cut)
        with pytest.raises(KeyboardInterrupt):
            copy(any_database)
    with Store.open(any_database) as store:
        assert [record.name for record in store.studies()] == ["first"]
    _, old, new = copy(any_database)
    assert len(new[0].evaluation.replicates) == len(old[0].evaluation.replicates) == 1


def test_the_command_says_what_came_along(database, monkeypatch):
    """Its file names the new study; a name that is taken and a wrong one are refused."""
    monkeypatch.chdir(database.parent)
    done = CliRunner().invoke(main, ["study", "copy", "first", "second"])
    assert done.exit_code == 0, done.output
    assert "trials of first, which count in no budget" in done.output
    status = CliRunner().invoke(main, ["status", "second"])
    with Store.open(database, read_only=True) as store:
        counts = store.summary("second").counts
    complete, stopped = counts[TrialState.COMPLETE], counts[TrialState.STOPPED]
    assert (
        f"0 of 4 new networks; {complete + stopped} came by copy or import ({complete} complete, "
        f"{stopped} stopped) and count in no budget, 0 repeated proposals"
    ) in " ".join(status.output.split())
    shown = CliRunner().invoke(main, ["show", "second:0"])
    assert "evaluated elsewhere: first:0" in shown.output
    again = CliRunner().invoke(main, ["study", "copy", "first", "second"])
    assert (again.exit_code, "holds a study 'second' already" in again.output) == (2, True)
    Path("s.yaml").write_text("name: other\nspace: osa_tiny\nobjectives: [{metric: macs}]\n")
    other = CliRunner().invoke(main, ["study", "copy", "first", "third", "--study", "s.yaml"])
    assert (other.exit_code, "names the study 'other'" in other.output) == (2, True)


def test_checkpoints_are_linked_into_the_new_study(database, tmp_path):
    """A file of something else under the new name is refused."""
    with Store.open(database) as store:
        store.set_artifacts("first", tmp_path)
        trial = store.trials("first")[0]
        path = f"first/{trial.architecture.digest[:16]}/rung-2.safetensors"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE rung SET checkpoint = ? WHERE epochs = 2", (path,))
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes(b"weights")
    other = tmp_path / path.replace("first", "second")
    other.parent.mkdir(parents=True)
    other.write_bytes(b"other")
    with pytest.raises(NasError, match="is another file"):
        copy(database)
    other.unlink()
    _, _, new = copy(database)
    assert new[0].evaluation.rungs[-1].checkpoint == path.replace("first", "second")
    assert other.read_bytes() == b"weights"


def test_checkpoints_of_a_study_that_is_named_by_a_dot_are_linked_too(database, tmp_path):
    """Its folder, which older records may have, is that of all checkpoints."""
    name, path = ".", "./abc/2.safetensors"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE rung SET checkpoint = ? WHERE epochs = 2", (path,))
        connection.execute(
            "UPDATE study SET name = ?, spec = json_set(spec, '$.name', ?), artifacts = ?",
            (name, name, str(tmp_path / "kept")),
        )
    file = tmp_path / "kept" / path
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    with Store.open(database) as store:
        copy_study(store, name, replace(SPEC, name="second"), Path(), NOW)
    assert (tmp_path / "kept" / "second" / "abc" / "2.safetensors").read_bytes() == b"weights"
