"""Guarantees of a record, on SQLite and on a real PostgreSQL server."""

import math
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import product
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from nas.core.architecture import Attention
from nas.core.errors import DatabaseError, InvalidValueError, StudyConflictError, UnknownNameError
from nas.core.measurement import Kind, Measurement, Status
from nas.core.pareto import ParetoFront
from nas.core.recipe import FinalTraining, Recipe
from nas.core.study import Budget, WorkersSpec
from nas.core.tasks import Measured, Trained
from nas.core.trial import Baseline, Evaluation, Replicate, TrialState, Usage
from nas.record import Artifact, ArtifactKind, Store
from nas.testing.sample_records import (
    AWKWARD_FLOATS,
    DEVICE,
    PLAN,
    architecture,
    latency,
    rung,
    spec,
    trial,
)


def bits(value: float) -> bytes:
    """Return the 64 bits of a float."""
    return struct.pack("<d", value)


class StoreContract:
    """Behaviour of a record at `url`, which is new and empty for every test."""

    @pytest.fixture
    def url(self) -> str:
        """Return the address of a new, empty database."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, url: str) -> Iterator[Store]:
        """Open a record with one study."""
        with Store.open(url) as opened:
            opened.create_study(spec(), dataset="digits", classes=10, artifacts="kept")
            yield opened

    # Studies

    def test_a_study_is_loaded_as_it_was_saved(self, store: Store, url: str) -> None:
        """Spec, data set and numerics are equal after the database was closed and opened again."""
        store.set_numerics("first", {"precision": "bf16", "images_per_s": {"fp32": 0.1}})
        with Store.open(url) as again:
            record = again.study("first")
        assert record.spec == spec()
        assert (record.dataset, record.classes, record.artifacts) == ("digits", 10, "kept")
        assert record.numerics == {"precision": "bf16", "images_per_s": {"fp32": 0.1}}
        assert record.created_at.tzinfo is UTC
        assert abs(datetime.now(UTC) - record.created_at) < timedelta(minutes=1)

    def test_the_identity_of_a_studys_plugins_is_loaded_as_it_was_saved(self, store: Store) -> None:
        """It is None until it is recorded, which may be later than the study."""
        assert store.study("first").identity is None
        identity = {"space": {"choices": {"stem_mid": [8, 16], "stem": ["cifar"]}}, "sampler": {}}
        store.set_identity("first", identity)
        assert store.study("first").identity == identity
        made = store.create_study(spec("second"), dataset="digits", classes=10, identity=identity)
        assert made.identity == identity

    def test_the_folder_of_a_studys_files_can_be_changed(self, store: Store) -> None:
        store.set_artifacts("first", Path("elsewhere"))
        assert store.study("first").artifacts == "elsewhere"

    def test_studies_are_listed_with_trial_counts_by_state(self, store: Store) -> None:
        """Every state has a count, zero included; studies come in the order of their creation."""
        store.create_study(spec("second"), dataset="cifar10", classes=10)
        store.add_trial("first", trial(0))
        store.add_trial("first", trial(1))
        store.finish_trial("first", trial(1).moved_to(TrialState.FAILED, reason="out of memory"))
        first, second = store.studies()
        assert (first.name, second.name) == ("first", "second")
        assert first.counts == {
            TrialState.RUNNING: 1,
            TrialState.COMPLETE: 0,
            TrialState.STOPPED: 0,
            TrialState.FAILED: 1,
        }
        assert set(second.counts.values()) == {0}

    def test_a_second_study_of_the_same_name_is_refused(self, store: Store) -> None:
        """The first study stays as it was."""
        with pytest.raises(StudyConflictError, match="'first' already"):
            store.create_study(spec(seed=7), dataset="cifar10", classes=10)
        assert store.study("first").spec == spec()

    def test_the_error_for_an_unknown_study_lists_the_studies(self, store: Store) -> None:
        calls = (store.study, store.trials, store.fronts, store.artifacts, store.last_measured)
        for call in calls:
            with pytest.raises(UnknownNameError, match=r"no 'third' in .*there are: first"):
                call("third")
        with pytest.raises(UnknownNameError, match="there are: first"):
            store.add_trial("third", trial(0))

    def test_budget_and_workers_may_change(self, store: Store) -> None:
        """No recorded result depends on them."""
        changed = spec(
            budget=Budget(trials=7, wall_time_s=0.1), workers=WorkersSpec(kind="tune", count=3)
        )
        store.update_study(changed)
        assert store.study("first").spec == changed

    def test_changes_of_other_settings_are_refused(self, store: Store) -> None:
        """The error names the path of every key that differs, with both values."""
        error, slow = spec().objectives
        with pytest.raises(StudyConflictError) as refused:
            store.update_study(spec(seed=3, objectives=(error, replace(slow, limit=0.005))))
        assert "objectives.1.limit: 0.004 in the database, 0.005 in the file" in str(refused.value)
        assert "seed: 0 in the database, 3 in the file" in str(refused.value)
        assert "\n" not in str(refused.value)
        assert store.study("first").spec == spec()

    def test_a_renamed_study_keeps_everything_but_its_name(self, store: Store) -> None:
        """Its paths and the targets that were measured of it follow; other studies stay."""
        store.create_study(spec("other"), dataset="digits", classes=10)
        reached = Evaluation(rungs=(rung(checkpoint="first/abc/1"),))
        for name in ("first", "other"):
            store.add_trial(name, trial(0, evaluation=reached))
        written = Artifact(
            path="first/a.bin", sha256="0" * 64, size_bytes=0, kind=ArtifactKind.EXPORT
        )
        store.add_artifact("first", written)
        for target in ("first:0", "first:x", "firsts:0"):
            store.add_single(target, [latency()])
        store.rename_study("first", "f%")
        assert {each.name for each in store.studies()} == {"f%", "other"}
        assert store.study("f%").spec == spec("f%")
        assert store.trial("f%", 0).evaluation.rungs[0].checkpoint == "f%/abc/1"
        assert store.trial("other", 0).evaluation == reached
        assert [each.path for each in store.artifacts("f%")] == ["f%/a.bin"]
        assert {target for target, _ in store.singles()} == {"f%:0", "first:x", "firsts:0"}
        with pytest.raises(StudyConflictError, match="other"):
            store.rename_study("f%", "other")

    def test_a_deleted_study_leaves_only_the_others(self, store: Store) -> None:
        """Networks that another study has too stay, and every row of its own is gone."""
        store.create_study(spec("other"), dataset="digits", classes=10)
        for name, number in (("first", 0), ("first", 1), ("other", 0)):
            store.add_trial(name, trial(number))
            store.add_measurements(name, number, [latency()], 1.0)
            store.add_rung(name, number, rung())
        store.add_trial("first", trial(2, width=16, duplicate_of=0))
        store.add_replicate("first", 0, 5, rung())
        final = FinalTraining(
            network=trial(0).architecture.digest,
            digest=trial(0).architecture.digest,
            recipe=Recipe(),
            seed=1,
            test_images=10,
            reached=rung(),
        )
        store.add_final("first", final)
        store.add_final("other", final)
        store.add_front(
            "first", ParetoFront(members=(0, 1), hypervolume=1.0, after=2, feasible=True)
        )
        store.add_single("first:0", [latency()])
        other = store.trials("other")
        store.delete_study("first")
        store.give_space_back()
        assert [each.name for each in store.studies()] == ["other"]
        assert store.trials("other") == other
        assert store.finals("other") == [final]
        assert store.singles() == []
        assert store.problems() == []
        store.create_study(spec(), dataset="digits", classes=10)
        assert store.trials("first") == []

    def test_a_reader_follows_studies_that_others_rename_and_delete(
        self, store: Store, url: str
    ) -> None:
        """It never shows one study under the name of another, also if a new study gets the key of
        a deleted one.
        """
        store.add_trial("first", trial(0))
        with Store.open(url, read_only=True) as reader:
            assert len(reader.trials("first")) == 1
            store.rename_study("first", "second")
            store.create_study(spec(seed=7), dataset="digits", classes=10)
            assert (reader.study("first").spec.seed, reader.trials("first")) == (7, [])
            store.delete_study("first")
            store.create_study(spec("third"), dataset="digits", classes=10)
            for call in (reader.study, reader.trials, reader.summary):
                with pytest.raises(UnknownNameError, match="there are: second, third"):
                    call("first")

    # Trials

    def test_a_trial_is_loaded_as_it_was_saved(self, store: Store, url: str) -> None:
        """Params, architecture, sampler state, seed, worker and times are equal."""
        elsewhere = timezone(timedelta(hours=-7))
        saved = trial(
            0,
            worker="node7:41",
            sampler_state={"nsga2:generation": 3, "parents": [1, 2], "x": 0.1},
            started_at=datetime(2026, 3, 29, 2, 30, 0, 123456, tzinfo=elsewhere),
        )
        store.add_trial("first", saved)
        with Store.open(url) as again:
            (loaded,) = again.trials("first")
            assert again.trial("first", 0) == loaded
        assert loaded == saved
        assert loaded.started_at.tzinfo is UTC
        assert {name: type(value) for name, value in loaded.params.items()} == {
            "stage2.out_channels": int,
            "stem": str,
            "residual": bool,
        }

    def test_an_architecture_is_recorded_as_it_was_proposed(self, store: Store) -> None:
        """A setting without effect is recorded, although the digest is that of the network without
        it.
        """
        plain = architecture()
        proposed = replace(plain, residual=True, attention=Attention.ALL)
        assert proposed.digest == replace(plain, attention=Attention.LAST).digest
        store.add_trial("first", trial(0, architecture=proposed))
        assert store.trial("first", 0).architecture == proposed

    def test_a_recorded_evaluation_equals_the_one_in_memory_after_every_step(
        self, store: Store
    ) -> None:
        expected = trial(0)
        store.add_trial("first", expected)
        steps = [
            [Measurement.counted("parameters", "1", 123456), latency()],
            [latency(0.002)],
            [Measurement.unavailable("energy", "J", "no sensor", device=DEVICE, plan=PLAN)],
        ]
        for seconds, figures in zip((0.1, 0.2, 0.3), steps, strict=True):
            store.add_measurements("first", 0, figures, seconds)
            expected = replace(
                expected, evaluation=expected.evaluation.with_measurements(figures, seconds)
            )
            assert store.trial("first", 0) == expected
        for each in (rung(0.5), rung(1.0, checkpoint=None), rung(4.0, numerics={})):
            store.add_rung("first", 0, each)
            expected = replace(expected, evaluation=expected.evaluation.with_rung(each))
            assert store.trials("first") == [expected]

    def test_replicates_are_loaded_as_they_were_saved(self, store: Store) -> None:
        """Rungs are in order of epochs, in whatever order they came in. The trial's own rungs stay
        apart from those of its replicates.
        """
        own, later = rung(2.0), datetime.now(UTC) + timedelta(hours=1)
        store.add_trial("first", trial(0, evaluation=Evaluation(rungs=(own,))))
        replicates = [
            Replicate(
                seed=seed,
                rungs=(
                    rung(1.0, metrics={"error": 1 / seed}),
                    rung(2.0, metrics={"error": 1 / seed}, finished_at=later),
                ),
                energy_j=joules,
            )
            for seed, joules in ((2**31 - 1, None), (5, 0.75))
        ]
        for each, index in (
            (replicates[0], 0),
            (replicates[1], 0),
            (replicates[1], 1),
            (replicates[0], 1),
        ):
            drawn = None if each.energy_j is None else each.energy_j / 2
            store.add_replicate("first", 0, each.seed, each.rungs[index], drawn)
        with pytest.raises(InvalidValueError, match="comes after"):
            store.add_replicate("first", 0, 5, rung(1.5))
        (loaded,) = store.trials("first")
        assert loaded.evaluation == Evaluation(rungs=(own,), replicates=tuple(replicates))
        assert loaded.evaluation.values_of_seeds("error")[1:] == (1 / (2**31 - 1), 1 / 5)
        again = store.summary("first").spent_again
        assert (again.epochs, again.energy_j) == (4.0, 0.75)

    def test_baselines_are_loaded_as_they_were_saved(self, store: Store) -> None:
        """The resources add up, and another network of the same name is refused."""
        store.create_study(spec("more", baselines=("b", "a", "c")), dataset="digits", classes=10)
        for name in ("a", "b", "a"):
            store.add_baseline("more", name, name * 64)
        figure = latency(method="blocks")
        measured = Measured(measurements=(figure,), seconds=0.1, waiting_s=0.2, energy_j=0.7)
        store.add_baseline_event("more", "a", measured)
        reached = rung()
        store.add_baseline_event("more", "a", Trained(rung=reached, energy_j=0.1))
        assert store.baselines("more") == [
            Baseline(name="b", digest="b" * 64),
            Baseline(
                name="a",
                digest="a" * 64,
                evaluation=Evaluation(
                    measurements={"latency": figure},
                    rungs=(reached,),
                    measure_s=0.1,
                    waiting_s=0.2,
                    energy_j=0.7 + 0.1,
                ),
            ),
        ]
        with pytest.raises(StudyConflictError, match="baseline a is another network"):
            store.add_baseline("more", "a", "c" * 64)
        other = latency(device=replace(DEVICE, device_class="another board"))
        with pytest.raises(StudyConflictError, match="cannot be compared"):
            store.add_baseline_event("more", "b", Measured(measurements=(other,), seconds=0.0))
        store.rename_study("more", "most")
        store.delete_study("most")
        assert store.problems() == []

    def test_final_trainings_are_loaded_as_they_were_saved(self, store: Store) -> None:
        """The networks are a trial's, another architecture's, and one that is no OSA network. A
        final training of the same network, recipe and seed is refused.
        """
        store.add_trial("first", trial(0))
        recipe = Recipe(epochs=0.1, teacher=3)
        own, other = trial(0).architecture, architecture(96)
        finals = [
            FinalTraining(
                network=network,
                digest=digest,
                recipe=recipe,
                seed=2**31 - 1,
                test_images=360,
                reached=rung(0.1, metrics={"error": 1 / 3}),
            )
            for network, digest in (
                (own.digest, own.digest),
                ("vovnet", other.digest),
                ("dense:net", None),
            )
        ]
        for final, added in zip(finals, (None, other, None), strict=True):
            store.add_final("first", final, added)
        assert store.finals("first") == finals
        with pytest.raises(DatabaseError, match="breaks a rule"):
            store.add_final("first", finals[0])
        again = [
            replace(finals[0], seed=5, energy_j=2.5),
            replace(finals[0], recipe=replace(recipe, epochs=0.2)),
        ]
        for final in again:
            store.add_final("first", final)
        assert store.finals("first") == [*finals, *again]
        assert (store.summary("first").finals, store.summary("first").spent_finally.energy_j) == (
            5,
            2.5,
        )

    def test_a_trial_may_be_added_with_its_evaluation(self, store: Store) -> None:
        """Copying a study does this."""
        evaluation = trial(0).evaluation.with_measurements([latency()], 0.1).with_rung(rung())
        saved = trial(0, evaluation=evaluation).moved_to(
            TrialState.COMPLETE, finished_at=datetime.now(UTC)
        )
        store.add_trial("first", saved)
        assert store.trials("first") == [saved]

    def test_floats_keep_every_bit(self, store: Store) -> None:
        """Values, interval ends, samples and numbers in JSON stay floats with the same bits."""
        for number, value in enumerate(AWKWARD_FLOATS):
            store.add_trial("first", trial(number))
            figure = latency(value, ci_low=value, ci_high=value, samples=(value,))
            store.add_measurements("first", number, [figure], value)
            store.add_rung("first", number, rung(train_loss=value, numerics={"number": value}))
        for value, loaded in zip(
            AWKWARD_FLOATS, [t.evaluation for t in store.trials("first")], strict=True
        ):
            figure, last = loaded.measurements["latency"], loaded.rungs[0]
            numbers = (
                figure.value,
                figure.ci_low,
                figure.ci_high,
                *figure.samples,
                loaded.measure_s,
                last.train_loss,
                last.numerics["number"],
            )
            assert {type(number) for number in numbers} == {float}
            assert {bits(number) for number in numbers} == {bits(value)}

    def test_a_training_loss_may_be_nan_or_infinite(self, store: Store) -> None:
        """Training that diverged has a validation error all the same."""
        store.add_trial("first", trial(0))
        store.add_rung("first", 0, rung(1.0, train_loss=math.nan))
        store.add_rung("first", 0, rung(2.0, train_loss=math.inf))
        first, second = store.trial("first", 0).evaluation.rungs
        assert first.train_loss is None
        assert second.train_loss == math.inf

    def test_text_is_stored_as_written(self, store: Store) -> None:
        """Quotes, new lines and other scripts are unchanged."""
        reason = "OOM: 'x' \"y\" \\ ; -- \n Ширина 宽度 🚀"
        store.add_trial("first", trial(0))
        failed = trial(0).moved_to(TrialState.FAILED, reason=reason)
        store.finish_trial("first", failed)
        assert store.trial("first", 0).reason == reason

    def test_characters_that_cannot_be_stored_are_escaped_in_a_reason(self, store: Store) -> None:
        """An odd error message must not stop a search."""
        store.add_trial("first", trial(0))
        store.finish_trial(
            "first", trial(0).moved_to(TrialState.FAILED, reason="bad\0 file \udcff.bin")
        )
        assert store.trial("first", 0).reason == r"bad\x00 file \udcff.bin"

    def test_trials_are_listed_by_number_in_whatever_order_they_were_added(
        self, store: Store
    ) -> None:
        for number in (3, 0, 2, 1):
            store.add_trial("first", trial(number))
        assert [t.number for t in store.trials("first")] == [0, 1, 2, 3]

    def test_studies_do_not_mix(self, store: Store) -> None:
        """Trials of the same number and architecture in two studies have an evaluation each."""
        store.create_study(spec("second"), dataset="digits", classes=10)
        for name in ("first", "second"):
            store.add_trial(name, trial(0))
        store.add_rung("second", 0, rung())
        assert store.trial("first", 0).evaluation.rungs == ()
        assert len(store.trial("second", 0).evaluation.rungs) == 1

    def test_waiting_time_and_energy_add_up(self, store: Store) -> None:
        """The energy of a trial is None until some of it was measured. The energy that measuring
        drew is counted apart.
        """
        store.add_trial("first", trial(0))
        store.add_trial("first", trial(1))
        store.add_effort("first", 0, 0.25, None, measuring=True)
        assert store.trial("first", 0).evaluation.spent == Usage(waiting_s=0.25)
        assert store.summary("first").spent.energy_j is None
        store.add_effort("first", 0, 0.5, 3.5, measuring=True)
        assert store.summary("first").engine_j is None
        store.add_effort("first", 1, 0.0, 1.0, measuring=False, engine_j=0.25)
        store.add_effort("first", 0, 0.0, None, measuring=True, engine_j=0.5)
        assert store.summary("first").engine_j == 0.75
        assert store.trial("first", 0).evaluation.spent == Usage(
            waiting_s=0.75, energy_j=3.5, measuring_j=3.5
        )
        assert store.summary("first").spent == Usage(waiting_s=0.75, energy_j=4.5, measuring_j=3.5)

    def test_a_summary_counts_skipped_trials_and_epochs(self, store: Store) -> None:
        """A trial is skipped if it was stopped without a rung; each architecture counts once.
        Epochs are those of the last rungs.
        """
        for number in range(3):
            store.add_trial("first", trial(number))
        store.add_rung("first", 1, rung(1.0))
        store.add_rung("first", 1, rung(2.0))
        store.add_rung("first", 2, rung(0.5))
        for number in (0, 1):
            store.finish_trial("first", trial(number).moved_to(TrialState.STOPPED, reason="beyond"))
        repeat = trial(3, 16, duplicate_of=0)
        store.add_trial("first", repeat)
        store.finish_trial("first", repeat.moved_to(TrialState.STOPPED, reason="beyond"))
        assert (store.summary("first").skipped, store.summary("first").spent.epochs) == (1, 2.5)
        assert store.rung_values("first", "error") == [{1.0: 1 / 3, 2.0: 1 / 3}, {0.5: 1 / 3}]

    def test_a_summary_adds_up_trials_and_seconds(self, store: Store) -> None:
        """Trial 1 begins while 0 is at work, and 2 repeats 0. Then nothing is done for an hour, at
        whose end trial 2 ends too, as after a pause of the search; it needs no work.
        Trial 3 counts the seconds of its figures and its rung; of trial 4 nothing was reported yet.
        """
        begin = datetime(2026, 3, 1, tzinfo=UTC)
        at = [begin + timedelta(seconds=seconds) for seconds in (0, 5.25, 10, 20.5, 3600, 3607)]
        assert (store.summary("first").searched_s, store.summary("first").engine_s) == (0, None)
        for number, start in enumerate((at[0], at[1], at[2], at[4], at[5])):
            original = 0 if number == 2 else None
            store.add_trial(
                "first",
                trial(number, 16 if number == 2 else None, started_at=start, duplicate_of=original),
            )
        store.add_measurements("first", 0, [latency()], 0.5)
        store.add_rung("first", 3, rung(1.0, finished_at=at[5], train_s=2.0, validation_s=0.25))
        store.finish_trial(
            "first", trial(0, started_at=at[0]).moved_to(TrialState.COMPLETE, finished_at=at[3])
        )
        store.finish_trial(
            "first",
            trial(1, started_at=at[1]).moved_to(
                TrialState.FAILED, reason="out of memory", finished_at=at[2]
            ),
        )
        summary = store.summary("first")
        assert summary.counts == {
            TrialState.RUNNING: 2,
            TrialState.COMPLETE: 1,
            TrialState.STOPPED: 0,
            TrialState.FAILED: 1,
        }
        assert (summary.repeated, summary.failed) == (1, ((1, "out of memory"),))
        assert (
            summary.spent.measuring_s,
            summary.spent.training_s + summary.spent.validation_s,
        ) == (
            0.5,
            2.25,
        )
        assert summary.searched_s == pytest.approx(20.5 + 2.25, abs=0.002)
        assert summary.engine_s == pytest.approx(20.0 + 4.75)
        repeat = trial(2, 16, started_at=at[2], duplicate_of=0)
        store.finish_trial("first", repeat.moved_to(TrialState.COMPLETE, finished_at=at[4]))
        assert store.summary("first").searched_s == summary.searched_s

    def test_trials_of_given_numbers_are_read_in_order(self, store: Store) -> None:
        for number in range(4):
            store.add_trial("first", trial(number))
        assert [each.number for each in store.trials("first", [3, 1])] == [1, 3]
        assert store.trials("first", []) == []

    def test_trials_are_read_in_parts_and_each_once(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A duplicate has the evaluation of its original, which is in another part."""
        monkeypatch.setattr("nas.record.store.TRIALS_AT_ONCE", 2)
        for number in range(5):
            repeat = number == 4
            store.add_trial(
                "first", trial(number, 16 if repeat else None, duplicate_of=0 if repeat else None)
            )
            store.add_measurements("first", number, [] if number else [latency()], 0.5)
        assert list(store.each_trial("first")) == store.trials("first")
        assert [each.number for each in store.each_trial("first")] == [0, 1, 2, 3, 4]

    def test_the_error_for_an_unknown_trial_lists_the_trials(self, store: Store) -> None:
        """This holds for reading; writing names the trial that does not exist."""
        with pytest.raises(UnknownNameError, match="there are: none"):
            store.trial("first", 0)
        store.add_trial("first", trial(0))
        store.add_trial("first", trial(1))
        with pytest.raises(UnknownNameError, match="there are: 0 to 1"):
            store.trial("first", 5)
        with pytest.raises(InvalidValueError, match="no trial 5"):
            store.add_rung("first", 5, rung())
        with pytest.raises(InvalidValueError, match="trial 5 cannot go from not recorded"):
            store.finish_trial("first", trial(5).moved_to(TrialState.COMPLETE))

    def test_a_second_trial_of_the_same_number_is_refused(self, store: Store) -> None:
        """Nothing of it is stored."""
        store.add_trial("first", trial(0))
        with pytest.raises(DatabaseError, match="breaks a rule"):
            store.add_trial("first", trial(0, width=99))
        assert store.trials("first") == [trial(0, started_at=store.trial("first", 0).started_at)]

    def test_a_duplicate_shares_the_evaluation_of_its_original(self, store: Store) -> None:
        """A figure or rung added to one of the two belongs to both."""
        store.add_trial("first", trial(0, width=16))
        store.add_trial("first", trial(1, width=16, duplicate_of=0))
        store.add_measurements("first", 0, [latency()], 0.1)
        store.add_rung("first", 1, rung())
        original, duplicate = store.trials("first")
        assert original.evaluation == duplicate.evaluation
        assert duplicate.duplicate_of == 0
        assert len(duplicate.evaluation.rungs) == 1
        assert store.trial("first", 1) == duplicate

    def test_an_architecture_is_evaluated_once(self, store: Store) -> None:
        """A trial is refused if it has an architecture of an earlier trial and does not name it, or
        names a trial of another architecture.
        """
        store.add_trial("first", trial(0, width=16))
        store.add_trial("first", trial(1, width=24))
        for claimed in (None, 1):
            with pytest.raises(InvalidValueError, match=rf"duplicate of {claimed}, but .* by 0"):
                store.add_trial("first", trial(2, width=16, duplicate_of=claimed))
        with pytest.raises(InvalidValueError, match=r"duplicate of 0, but .* by None"):
            store.add_trial("first", trial(2, width=32, duplicate_of=0))

    def test_states_move_by_the_table_of_allowed_moves(self, store: Store) -> None:
        """The table is that of `nas.core.trial`; besides, a running trial may move to another
        worker.
        """
        allowed = {(TrialState.RUNNING, state) for state in TrialState} | {
            (TrialState.FAILED, TrialState.RUNNING)
        }
        for number, (before, after) in enumerate(product(TrialState, TrialState)):
            saved = trial(number, state=before, finished_at=datetime.now(UTC), reason="so")
            store.add_trial("first", saved)
            moved = replace(saved, state=after, worker="other", reason="new", finished_at=None)
            if (before, after) in allowed:
                store.finish_trial("first", moved)
            else:
                with pytest.raises(InvalidValueError, match=f"from {before} to {after}"):
                    store.finish_trial("first", moved)
            assert store.trial("first", number) == (moved if (before, after) in allowed else saved)

    # Figures

    def test_a_metric_measured_again_keeps_its_old_figure(self, store: Store) -> None:
        """The old figure remains in the table for SQL queries."""
        store.add_trial("first", trial(0))
        for value in (0.001, 0.002):
            store.add_measurements("first", 0, [latency(value)], 0.0)
        with store._reading() as connection:
            rows = (
                connection.exec_driver_sql("SELECT value FROM measurement ORDER BY id")
                .scalars()
                .all()
            )
            current = (
                connection.exec_driver_sql("SELECT value FROM current_measurement").scalars().all()
            )
        assert rows == [0.001, 0.002]
        assert current == [0.002]

    def test_figures_outside_studies_are_loaded_as_they_were_saved(
        self, store: Store, url: str
    ) -> None:
        """They are listed in order, of one target or of all, with all details. Figures that may not
        stand in one study may stand here.
        """
        first = latency(
            details={"protocol": 2, "clocks_mhz": [1980.0, 1 / 3], "load": {"before": 0.5}}
        )
        second = latency(kind=Kind.MODELLED)
        store.add_single("vovnet39", [first], digest="0" * 64)
        store.add_single("other", [second])
        with Store.open(url) as again:
            assert again.singles() == [("vovnet39", first), ("other", second)]
            assert again.singles("other") == [("other", second)]

    def test_the_last_measured_figure_is_found(self, store: Store) -> None:
        """It comes with the number of its trial. Counted figures are ignored; a measured figure
        without a value is not.
        """
        store.create_study(spec("second"), dataset="digits", classes=10)
        for study, number in (("first", 0), ("first", 1), ("second", 0)):
            store.add_trial(study, trial(number))
        assert store.last_measured("first") is None
        hot = replace(
            latency(),
            value=None,
            ci_low=None,
            ci_high=None,
            samples=(),
            status=Status.THROTTLED,
            reason="too hot",
        )
        store.add_measurements("first", 1, [latency()], 0.5)
        store.add_measurements("first", 0, [hot, Measurement.counted("macs", "1", 7)], 0.5)
        store.add_measurements("second", 0, [latency()], 0.5)
        assert store.last_measured("first") == (0, hot)

    def test_the_same_figure_is_refused_a_second_time(self, store: Store) -> None:
        """Recording the same reading twice is a bug; nothing of the second call is stored."""
        store.add_trial("first", trial(0))
        figure = latency()
        store.add_measurements("first", 0, [figure], 0.1)
        with pytest.raises(DatabaseError, match="breaks a rule"):
            store.add_measurements("first", 0, [Measurement.counted("macs", "1", 5), figure], 0.1)
        evaluation = store.trial("first", 0).evaluation
        assert evaluation.measurements == {"latency": figure}
        assert evaluation.measure_s == 0.1

    @pytest.mark.parametrize(
        ("other", "says"),
        [
            (
                {"device": replace(DEVICE, device_class="a GPU")},
                "device_class: two cores, 1 thread in the record, a GPU",
            ),
            ({"plan": replace(PLAN, batch_size=8)}, "plan.batch_size: 1 in the record, 8 here"),
            ({"kind": "modelled"}, "kind: measured in the record, modelled here"),
            ({"unit": "ms"}, "unit: s in the record, ms here"),
            ({"device": None}, "device_class: two cores, 1 thread in the record, None here"),
        ],
    )
    def test_figures_of_other_conditions_are_refused_within_a_study(
        self, store: Store, other: dict[str, Any], says: str
    ) -> None:
        """This holds between its trials too."""
        for number in (0, 1):
            store.add_trial("first", trial(number))
        store.add_measurements("first", 0, [latency()], 0.0)
        with pytest.raises(StudyConflictError) as refused:
            store.add_measurements("first", 1, [latency(**other)], 0.0)
        assert says in str(refused.value)
        assert store.trial("first", 1).evaluation.measurements == {}

    def test_energies_of_two_methods_are_refused_within_a_study(self, store: Store) -> None:
        """A counter and a power sensor differ by more than networks do."""
        for number in (0, 1):
            store.add_trial("first", trial(number))
        store.add_measurements(
            "first", 0, [latency(metric="energy", unit="J", method="counter")], 0.0
        )
        store.add_measurements(
            "first", 0, [latency(metric="energy", unit="J", method="counter", value=2.0)], 0.0
        )
        with pytest.raises(StudyConflictError, match="method: counter in the record, power here"):
            store.add_measurements(
                "first", 1, [latency(metric="energy", unit="J", method="power")], 0.0
            )
        assert store.trial("first", 1).evaluation.measurements == {}

    def test_comparable_figures_are_stored(self, store: Store) -> None:
        """Another device of the same class, another method of latency, another metric, and other
        conditions in another study are allowed.
        """
        store.add_trial("first", trial(0))
        store.add_measurements("first", 0, [latency()], 0.0)
        twin = replace(DEVICE, identity="machine-2", details={})
        store.add_measurements(
            "first",
            0,
            [latency(device=twin, method="other"), latency(metric="energy", unit="J")],
            0.0,
        )
        store.create_study(spec("second"), dataset="digits", classes=10)
        store.add_trial("second", trial(0))
        store.add_measurements("second", 0, [latency(kind="modelled")], 0.0)
        assert store.trial("first", 0).evaluation.measurements["latency"].device == twin

    @pytest.mark.parametrize("status", [Status.UNAVAILABLE, Status.CONTENDED, Status.THROTTLED])
    def test_a_figure_without_a_value_does_not_fix_the_conditions(
        self, store: Store, status: Status
    ) -> None:
        """It is stored with its reason, and a later figure may have other conditions."""
        store.add_trial("first", trial(0))
        missing = replace(
            Measurement.unavailable("latency", "s", "busy", samples=(0.1,)), status=status
        )
        store.add_measurements("first", 0, [missing], 0.1)
        assert store.trial("first", 0).evaluation.measurements == {"latency": missing}
        store.add_measurements("first", 0, [latency()], 0.1)
        assert store.trial("first", 0).evaluation.value("latency") == 0.001

    @pytest.mark.parametrize("epochs", [1.0, 0.5])
    def test_a_rung_with_no_more_epochs_than_the_last_is_refused(
        self, store: Store, epochs: float
    ) -> None:
        store.add_trial("first", trial(0))
        store.add_rung("first", 0, rung(1.0))
        with pytest.raises(
            InvalidValueError, match=f"rung at {epochs} epochs comes after one at 1.0"
        ):
            store.add_rung("first", 0, rung(epochs))
        assert len(store.trial("first", 0).evaluation.rungs) == 1

    def test_times_without_zone_and_values_outside_json_are_refused(self, store: Store) -> None:
        with pytest.raises(InvalidValueError, match="time zone"):
            store.add_trial("first", trial(0, started_at=datetime(2026, 1, 1)))  # noqa: DTZ001 - the point
        for odd in ({"x": object()}, {"x": math.nan}):
            with pytest.raises(InvalidValueError, match="cannot be stored"):
                store.add_trial("first", trial(0, sampler_state=odd))
        assert store.trials("first") == []

    # Fronts and files

    def test_fronts_are_stored_in_order(self, store: Store) -> None:
        """Members, the bits of the hypervolume or None, and feasibility are equal."""
        for number in range(3):
            store.add_trial("first", trial(number))
        history = [
            ParetoFront(members=(), hypervolume=0.0, after=0, feasible=False),
            ParetoFront(members=(2, 0), hypervolume=1 / 3, after=2, feasible=True),
            ParetoFront(members=(2, 1, 0), hypervolume=None, after=3, feasible=True),
        ]
        for front in history:
            store.add_front("first", front)
        assert store.fronts("first") == history
        assert store.newest_front("first") == history[-1]
        assert store.hypervolumes("first") == [(0, 0.0), (2, 1 / 3)]

    def test_a_front_equal_to_the_last_one_is_stored_once(self, store: Store) -> None:
        """A resumed search may report its last front again. An earlier front that returns is stored
        again.
        """
        store.add_trial("first", trial(0))
        one = ParetoFront(members=(0,), hypervolume=0.1, after=1, feasible=True)
        none = ParetoFront(members=(), hypervolume=0.0, after=1, feasible=False)
        for front in (one, one, none, one):
            store.add_front("first", front)
        assert store.fronts("first") == [one, none, one]

    def test_a_front_with_a_trial_outside_the_study_is_refused(self, store: Store) -> None:
        with pytest.raises(DatabaseError, match="breaks a rule"):
            store.add_front(
                "first", ParetoFront(members=(9,), hypervolume=None, after=1, feasible=True)
            )
        assert store.fronts("first") == []

    def test_files_are_found_by_trial_and_kind(self, store: Store) -> None:
        """A file that is written again is one file."""
        store.add_trial("first", trial(0))
        old = Artifact(
            path="a/1.safetensors",
            sha256="0" * 64,
            size_bytes=2**40,
            kind=ArtifactKind.CHECKPOINT,
            trial=0,
        )
        new = replace(old, sha256="f" * 64, size_bytes=7)
        other = Artifact(path="b.html", sha256="1" * 64, size_bytes=0, kind=ArtifactKind.EXPORT)
        for artifact in (old, other, new):
            store.add_artifact("first", artifact)
        assert store.artifacts("first") == [new, other]
        assert store.artifacts("first", trial=0) == [new]
        assert store.artifacts("first", kind=ArtifactKind.EXPORT) == [other]

    # Transactions and drivers

    def test_another_connection_sees_a_transaction_only_after_its_end(
        self, store: Store, url: str
    ) -> None:
        with Store.open(url, read_only=True) as other:
            with store.transaction():
                store.add_trial("first", trial(0))
                store.add_rung("first", 0, rung())
                assert len(store.trial("first", 0).evaluation.rungs) == 1
                assert other.trials("first") == []
            assert len(other.trial("first", 0).evaluation.rungs) == 1

    def test_a_failed_transaction_leaves_nothing(self, store: Store) -> None:
        """The name of a study that was created in it is free again."""
        with pytest.raises(UnknownNameError, match="third"), store.transaction():  # noqa: PT012 - all of it fails
            store.create_study(spec("second"), dataset="digits", classes=10)
            store.add_trial("second", trial(0))
            store.study("third")
        with pytest.raises(UnknownNameError):
            store.trials("second")
        store.create_study(spec("second"), dataset="digits", classes=10)
        assert store.trials("second") == []

    def test_trials_of_several_threads_are_all_stored(self, store: Store) -> None:

        def write(first: int) -> None:
            for number in range(first, first + 10):
                store.add_trial("first", trial(number))

        threads = [Thread(target=write, args=(first,)) for first in range(0, 40, 10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [t.number for t in store.trials("first")] == list(range(40))

    def test_a_reader_sees_the_state_at_the_start_of_its_reading(
        self, store: Store, url: str
    ) -> None:
        """It does not delay the writer, whose changes it sees at its next reading."""
        store.add_trial("first", trial(0))
        with Store.open(url, read_only=True) as other, other._reading() as connection:
            count = "SELECT count(*) FROM trial"
            assert connection.exec_driver_sql(count).scalar_one() == 1
            store.add_trial("first", trial(1))
            assert connection.exec_driver_sql(count).scalar_one() == 1
        assert len(store.trials("first")) == 2

    def test_writing_to_a_record_opened_for_reading_is_refused(
        self, store: Store, url: str
    ) -> None:
        with Store.open(url, read_only=True) as reader:
            with pytest.raises(DatabaseError, match="reading only"):
                reader.add_trial("first", trial(0))
            assert reader.study("first") == store.study("first")

    def test_a_study_has_one_driver(self, store: Store, url: str) -> None:
        """The error for a second driver names the first, and a reader can look it up. Another study
        can be claimed meanwhile, even one that does not exist yet, and the same study afterwards.
        """
        with Store.open(url) as other, Store.open(url, read_only=True) as reader:
            assert reader.driver("first") is None
            with store.claim("first"):
                assert str(reader.driver("first")).startswith(f"process {os.getpid()} on ")
                assert reader.driver("second") is None
                with (
                    pytest.raises(StudyConflictError, match="searched already, by process"),
                    other.claim("first"),
                ):
                    pass
                with other.claim("second"):
                    pass
            assert reader.driver("first") is None
            with other.claim("first"):
                pass

    def test_a_killed_driver_releases_its_study(self, store: Store, url: str) -> None:
        """`kill -9` frees the study without a timeout."""
        program = (
            "import sys, time; from nas.record import Store\n"
            "with Store.open(sys.argv[1]) as store, store.claim('first'):\n"
            "    print('claimed', flush=True); time.sleep(60)"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, url], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "claimed\n"
            with (
                pytest.raises(StudyConflictError, match=f"process {child.pid} on"),
                store.claim("first"),
            ):
                pass
            child.kill()
            child.wait()
        for _ in range(50):
            try:
                with store.claim("first"):
                    return
            except StudyConflictError:  # a server needs a moment to see that its client is gone
                subprocess.run(["sleep", "0.1"], check=True)
        pytest.fail("the study was not released")


class TestSqlite(StoreContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "a record.db")


class TestPostgresql(StoreContract):
    @pytest.fixture
    def url(self, postgresql: Callable[[], str]) -> str:
        return postgresql()
