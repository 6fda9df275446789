"""What a record promises, whatever database is below: run it by a subclass whose fixture `url`
gives a new one.
"""

import math
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import product
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from nas.core.architecture import Architecture, Attention, OsaStage
from nas.core.errors import DatabaseError, InvalidValueError, StudyConflictError, UnknownNameError
from nas.core.measurement import Device, Kind, Measurement, MeasurementPlan, Status
from nas.core.pareto import ParetoFront
from nas.core.recipe import FinalTraining, Recipe
from nas.core.study import Budget, Direction, Objective, StudySpec, WorkersSpec
from nas.core.trial import Evaluation, Replicate, Rung, Trial, TrialState, Usage
from nas.record import Artifact, ArtifactKind, Store

PLAN = MeasurementPlan()
DEVICE = Device(
    kind="cpu",
    name="Two cores",
    identity="machine-1",
    device_class="two cores, 1 thread",
    details={"cores": 2, "ghz": 2.1, "flags": ["avx2", "fma"]},
)
AWKWARD = (
    0.1,
    1 / 3,
    math.pi,
    5e-324,
    1.7976931348623157e308,
    123456789.12345678,
    2.0**53 + 2,
    1e-7,
    3.0,
)
"""Floats that lose bits wherever somebody rounds, and a whole one that may come back as an
integer.
"""


def spec(name: str = "first", **changes: object) -> StudySpec:
    """A study of two objectives."""
    objectives = (
        Objective(metric="error", reference=0.5),
        Objective(metric="latency", direction=Direction.MINIMIZE, limit=0.004),
    )
    return replace(StudySpec(name=name, space="osa_tiny", objectives=objectives), **changes)  # type: ignore[arg-type]


def architecture(width: int = 16) -> Architecture:
    """A small network; another width is another network."""
    stage = OsaStage(mid_channels=8, out_channels=width, num_layers=2)
    return Architecture(stem_channels=(8, 8, 16), stages=(stage, stage, stage))


def trial(number: int, width: int | None = None, **changes: object) -> Trial:
    """A running trial; by default each number has its own architecture."""
    network = architecture(16 + number if width is None else width)
    return replace(
        Trial(
            number=number,
            params={"stage2.out_channels": 16, "stem": "cifar", "residual": False},
            architecture=network,
            seed=2**31 - 1 - number,
        ),
        **changes,  # type: ignore[arg-type]
    )


def latency(value: float = 0.001, **changes: object) -> Measurement:
    """A measured figure with awkward numbers around it."""
    return replace(
        Measurement(
            metric="latency",
            unit="s",
            value=value,
            ci_low=0.1,
            ci_high=1 / 3,
            samples=AWKWARD,
            method="blocks",
            device=DEVICE,
            plan=PLAN,
        ),
        **changes,  # type: ignore[arg-type]
    )


def rung(epochs: float = 1.0, **changes: object) -> Rung:
    """A rung with numbers that are no round ones."""
    return replace(
        Rung(
            epochs=epochs,
            error=1 / 3,
            train_loss=math.pi,
            images=2**40,
            train_s=0.1,
            validation_s=0.7,
            numerics={"precision": "bf16", "channels_last": True, "seconds": [0.1, 0.2]},
            checkpoint="abc/1.safetensors",
        ),
        **changes,  # type: ignore[arg-type]
    )


def bits(value: float) -> bytes:
    """All 64 of them."""
    return struct.pack("<d", value)


class StoreContract:
    """Tests of a record at `url`, which every test finds new and empty."""

    @pytest.fixture
    def url(self) -> str:
        """Where a new, empty database is or can be made."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, url: str) -> Iterator[Store]:
        """An open record with one study."""
        with Store.open(url) as opened:
            opened.create_study(spec(), dataset="digits", classes=10, artifacts="kept")
            yield opened

    # Studies

    def test_a_study_is_loaded_as_it_was_saved(self, store: Store, url: str) -> None:
        """Spec, data set and numerics are equal after the database was closed and opened."""
        store.set_numerics("first", {"precision": "bf16", "images_per_s": {"fp32": 0.1}})
        with Store.open(url) as again:
            record = again.study("first")
        assert record.spec == spec()
        assert (record.dataset, record.classes, record.artifacts) == ("digits", 10, "kept")
        assert record.numerics == {"precision": "bf16", "images_per_s": {"fp32": 0.1}}
        assert record.created_at.tzinfo is UTC
        assert abs(datetime.now(UTC) - record.created_at) < timedelta(minutes=1)

    def test_what_the_names_stand_for_is_loaded_as_it_was_saved(self, store: Store) -> None:
        """None until it is recorded, which may be later than the study."""
        assert store.study("first").identity is None
        identity = {"space": {"choices": {"stem_mid": [8, 16], "stem": ["cifar"]}}, "sampler": {}}
        store.set_identity("first", identity)
        assert store.study("first").identity == identity
        made = store.create_study(spec("second"), dataset="digits", classes=10, identity=identity)
        assert made.identity == identity

    def test_a_study_knows_where_its_files_lie_now(self, store: Store) -> None:
        """They can be moved."""
        store.set_artifacts("first", Path("elsewhere"))
        assert store.study("first").artifacts == "elsewhere"

    def test_studies_are_counted_by_state(self, store: Store) -> None:
        """Every state has a number, zero as well, and studies come in the order they were made."""
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

    def test_a_name_is_used_once(self, store: Store) -> None:
        """A second study of the same name is refused, and the first stays as it was."""
        with pytest.raises(StudyConflictError, match="'first' already"):
            store.create_study(spec(seed=7), dataset="cifar10", classes=10)
        assert store.study("first").spec == spec()

    def test_an_unknown_study_is_answered_with_the_known_ones(self, store: Store) -> None:
        """Whatever is asked of it."""
        calls = (store.study, store.trials, store.fronts, store.artifacts, store.last_measured)
        for call in calls:
            with pytest.raises(UnknownNameError, match=r"no 'third' in .*there are: first"):
                call("third")
        with pytest.raises(UnknownNameError, match="there are: first"):
            store.add_trial("third", trial(0))

    def test_budget_and_workers_may_change(self, store: Store) -> None:
        """Nothing that was found depends on them."""
        changed = spec(
            budget=Budget(trials=7, wall_time_s=0.1), workers=WorkersSpec(kind="tune", count=3)
        )
        store.update_study(changed)
        assert store.study("first").spec == changed

    def test_other_settings_are_refused_by_path(self, store: Store) -> None:
        """Every key that differs is named, with both values."""
        error, slow = spec().objectives
        with pytest.raises(StudyConflictError) as refused:
            store.update_study(spec(seed=3, objectives=(error, replace(slow, limit=0.005))))
        assert "objectives.1.limit: 0.004 in the database, 0.005 in the file" in str(refused.value)
        assert "seed: 0 in the database, 3 in the file" in str(refused.value)
        assert "\n" not in str(refused.value)
        assert store.study("first").spec == spec()

    # Trials

    def test_a_trial_is_loaded_as_it_was_saved(self, store: Store, url: str) -> None:
        """Params, architecture, sampler state, seed, worker and times."""
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

    def test_an_architecture_stays_as_proposed(self, store: Store) -> None:
        """A setting without effect is part of the trial, although its digest is that of the plain
        network.
        """
        plain = architecture()
        proposed = replace(plain, residual=True, attention=Attention.ALL)
        assert proposed.digest == replace(plain, attention=Attention.LAST).digest
        store.add_trial("first", trial(0, architecture=proposed))
        assert store.trial("first", 0).architecture == proposed

    def test_an_evaluation_grows_as_in_memory(self, store: Store) -> None:
        """The record after each step equals the value that the pure core builds by the same
        steps.
        """
        known = trial(0)
        store.add_trial("first", known)
        steps = [
            [Measurement.counted("parameters", "1", 123456), latency()],
            [latency(0.002)],
            [Measurement.unavailable("energy", "J", "no sensor", device=DEVICE, plan=PLAN)],
        ]
        for seconds, figures in zip((0.1, 0.2, 0.3), steps, strict=True):
            store.add_measurements("first", 0, figures, seconds)
            known = replace(known, evaluation=known.evaluation.with_measurements(figures, seconds))
            assert store.trial("first", 0) == known
        for each in (rung(0.5), rung(1.0, checkpoint=None), rung(4.0, numerics={})):
            store.add_rung("first", 0, each)
            known = replace(known, evaluation=known.evaluation.with_rung(each))
            assert store.trials("first") == [known]

    def test_replicates_are_loaded_as_they_were_saved(self, store: Store) -> None:
        """By seed, rungs in order, whatever the order they came in; the trial's own rungs are none
        of them.
        """
        own, later = rung(2.0), datetime.now(UTC) + timedelta(hours=1)
        store.add_trial("first", trial(0, evaluation=Evaluation(rungs=(own,))))
        known = [
            Replicate(
                seed=seed,
                rungs=(rung(1.0, error=1 / seed), rung(2.0, error=1 / seed, finished_at=later)),
                energy_j=joules,
            )
            for seed, joules in ((2**31 - 1, None), (5, 0.75))
        ]
        for each, index in ((known[0], 0), (known[1], 0), (known[1], 1), (known[0], 1)):
            drawn = None if each.energy_j is None else each.energy_j / 2
            store.add_replicate("first", 0, each.seed, each.rungs[index], drawn)
        with pytest.raises(InvalidValueError, match="comes after"):
            store.add_replicate("first", 0, 5, rung(1.5))
        (found,) = store.trials("first")
        assert found.evaluation == Evaluation(rungs=(own,), replicates=tuple(known))
        assert found.evaluation.fresh_errors() == (1 / (2**31 - 1), 1 / 5)
        again = store.summary("first").spent_again
        assert (again.epochs, again.energy_j) == (4.0, 0.75)

    def test_final_trainings_are_loaded_as_they_were_saved(self, store: Store) -> None:
        """A trial's, another architecture's, and a network's that has none; each network, recipe
        and seed once.
        """
        store.add_trial("first", trial(0))
        recipe = Recipe(epochs=0.1, teacher=3)
        own, other = trial(0).architecture, architecture(96)
        known = [
            FinalTraining(
                network=network,
                digest=digest,
                recipe=recipe,
                seed=2**31 - 1,
                test_images=360,
                reached=rung(0.1, error=1 / 3),
            )
            for network, digest in (
                (own.digest, own.digest),
                ("vovnet", other.digest),
                ("dense:net", None),
            )
        ]
        for final, added in zip(known, (None, other, None), strict=True):
            store.add_final("first", final, added)
        assert store.finals("first") == known
        with pytest.raises(DatabaseError, match="breaks a rule"):
            store.add_final("first", known[0])
        again = [
            replace(known[0], seed=5, energy_j=2.5),
            replace(known[0], recipe=replace(recipe, epochs=0.2)),
        ]
        for final in again:
            store.add_final("first", final)
        assert store.finals("first") == [*known, *again]
        assert (store.summary("first").finals, store.summary("first").spent_finally.energy_j) == (
            5,
            2.5,
        )

    def test_a_trial_may_come_with_an_evaluation(self, store: Store) -> None:
        """As when a study is copied."""
        evaluation = trial(0).evaluation.with_measurements([latency()], 0.1).with_rung(rung())
        saved = trial(0, evaluation=evaluation).moved_to(
            TrialState.COMPLETE, finished_at=datetime.now(UTC)
        )
        store.add_trial("first", saved)
        assert store.trials("first") == [saved]

    def test_floats_keep_every_bit(self, store: Store) -> None:
        """As value, as interval, as sample and in JSON, and they stay floats."""
        for number, value in enumerate(AWKWARD):
            store.add_trial("first", trial(number))
            figure = latency(value, ci_low=value, ci_high=value, samples=(value,))
            store.add_measurements("first", number, [figure], value)
            store.add_rung("first", number, rung(train_loss=value, numerics={"number": value}))
        for value, loaded in zip(
            AWKWARD, [t.evaluation for t in store.trials("first")], strict=True
        ):
            back, last = loaded.measurements["latency"], loaded.rungs[0]
            found = (
                back.value,
                back.ci_low,
                back.ci_high,
                *back.samples,
                loaded.measure_s,
                last.train_loss,
                last.numerics["number"],
            )
            assert {bits(each) for each in found if each is not None} == {bits(value)}
            assert {type(each) for each in found} == {float}

    def test_a_loss_may_be_no_number(self, store: Store) -> None:
        """Training that diverged has an error of validation all the same."""
        store.add_trial("first", trial(0))
        store.add_rung("first", 0, rung(1.0, train_loss=math.nan))
        store.add_rung("first", 0, rung(2.0, train_loss=math.inf))
        first, second = store.trial("first", 0).evaluation.rungs
        assert math.isnan(first.train_loss)
        assert second.train_loss == math.inf

    def test_text_is_kept_as_written(self, store: Store) -> None:
        """Quotes, new lines and other scripts."""
        reason = "OOM: 'x' \"y\" \\ ; -- \n Ширина 宽度 🚀"
        store.add_trial("first", trial(0))
        failed = trial(0).moved_to(TrialState.FAILED, reason=reason)
        store.finish_trial("first", failed)
        assert store.trial("first", 0).reason == reason

    def test_a_reason_may_hold_rubbish(self, store: Store) -> None:
        """An error message is no reason to stop a search: what cannot be stored is shown as an
        escape.
        """
        store.add_trial("first", trial(0))
        store.finish_trial(
            "first", trial(0).moved_to(TrialState.FAILED, reason="bad\0 file \udcff.bin")
        )
        assert store.trial("first", 0).reason == r"bad\x00 file \udcff.bin"

    def test_trials_come_by_number(self, store: Store) -> None:
        """In whatever order they were added."""
        for number in (3, 0, 2, 1):
            store.add_trial("first", trial(number))
        assert [t.number for t in store.trials("first")] == [0, 1, 2, 3]

    def test_studies_do_not_mix(self, store: Store) -> None:
        """The same numbers and architectures in two studies are two trials with an evaluation
        each.
        """
        store.create_study(spec("second"), dataset="digits", classes=10)
        for name in ("first", "second"):
            store.add_trial(name, trial(0))
        store.add_rung("second", 0, rung())
        assert store.trial("first", 0).evaluation.rungs == ()
        assert len(store.trial("second", 0).evaluation.rungs) == 1

    def test_efforts_add_up(self, store: Store) -> None:
        """Waiting and joules of a trial, whose joules are unknown until somebody measured some;
        what measuring drew.
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

    def test_a_summary_counts_who_was_not_trained(self, store: Store) -> None:
        """Those that were stopped without a rung, each architecture once; and epochs by the last
        rungs.
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
        assert store.rung_errors("first") == [{1.0: 1 / 3, 2.0: 1 / 3}, {0.5: 1 / 3}]

    def test_a_summary_says_what_the_trials_come_to(self, store: Store) -> None:
        """Without reading them. 1 begins while 0 is at work, 2 repeats 0, then nothing is done for
        an hour; 3 counts with the seconds that its figures and its rung took, 4 has not been heard
        of.
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
        found = store.summary("first")
        assert found.counts == {
            TrialState.RUNNING: 2,
            TrialState.COMPLETE: 1,
            TrialState.STOPPED: 0,
            TrialState.FAILED: 1,
        }
        assert (found.repeated, found.failed) == (1, ((1, "out of memory"),))
        assert (found.spent.measuring_s, found.spent.training_s + found.spent.validation_s) == (
            0.5,
            2.25,
        )
        assert found.searched_s == pytest.approx(20.5 + 2.25, abs=0.002)
        assert found.engine_s == pytest.approx(20.0 + 4.75)

    def test_trials_are_read_by_number(self, store: Store) -> None:
        """Those that are asked for, in order."""
        for number in range(4):
            store.add_trial("first", trial(number))
        assert [each.number for each in store.trials("first", [3, 1])] == [1, 3]
        assert store.trials("first", []) == []

    def test_trials_are_read_in_parts(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """All of them once and in order, a duplicate with the evaluation of an original in another
        part.
        """
        monkeypatch.setattr("nas.record.store.PART", 2)
        for number in range(5):
            repeat = number == 4
            store.add_trial(
                "first", trial(number, 16 if repeat else None, duplicate_of=0 if repeat else None)
            )
            store.add_measurements("first", number, [] if number else [latency()], 0.5)
        assert list(store.each_trial("first")) == store.trials("first")
        assert [each.number for each in store.each_trial("first")] == [0, 1, 2, 3, 4]

    def test_an_unknown_trial_is_answered_with_the_known_ones(self, store: Store) -> None:
        """For reading and for writing."""
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

    def test_a_trial_number_is_used_once(self, store: Store) -> None:
        """A second trial of the number is refused, and nothing of it is kept."""
        store.add_trial("first", trial(0))
        with pytest.raises(DatabaseError, match="breaks a rule"):
            store.add_trial("first", trial(0, width=99))
        assert store.trials("first") == [trial(0, started_at=store.trial("first", 0).started_at)]

    def test_a_duplicate_shares_the_evaluation(self, store: Store) -> None:
        """What is added to either is seen in both."""
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
        """A trial that hides that it is a duplicate, or names the wrong original, is refused."""
        store.add_trial("first", trial(0, width=16))
        store.add_trial("first", trial(1, width=24))
        for claimed in (None, 1):
            with pytest.raises(InvalidValueError, match=rf"duplicate of {claimed}, but .* by 0"):
                store.add_trial("first", trial(2, width=16, duplicate_of=claimed))
        with pytest.raises(InvalidValueError, match=r"duplicate of 0, but .* by None"):
            store.add_trial("first", trial(2, width=32, duplicate_of=0))

    def test_states_move_by_the_table(self, store: Store) -> None:
        """Only as `nas.core.trial` allows, and a running trial may be given to another worker."""
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

    def test_nothing_measured_is_lost(self, store: Store) -> None:
        """A metric measured again keeps the old figure below the new one."""
        store.add_trial("first", trial(0))
        for value in (0.001, 0.002):
            store.add_measurements("first", 0, [latency(value)], 0.0)
        with store._reading() as connection:  # noqa: SLF001 - the old figure is for people with an SQL prompt
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
        """With all details, in order, of one target or of all; what could not stand in one study
        may stand here.
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

    def test_the_last_figure_of_a_device_is_known(self, store: Store) -> None:
        """With its trial; counts are none, and one without a value counts."""
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

    def test_a_figure_is_recorded_once(self, store: Store) -> None:
        """The same reading twice is a bug, and nothing of the second call is kept."""
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
    def test_figures_that_cannot_be_compared_do_not_mix(
        self, store: Store, other: dict[str, Any], says: str
    ) -> None:
        """Within a study, also between its trials, and after the record was opened anew."""
        for number in (0, 1):
            store.add_trial("first", trial(number))
        store.add_measurements("first", 0, [latency()], 0.0)
        with pytest.raises(StudyConflictError) as refused:
            store.add_measurements("first", 1, [latency(**other)], 0.0)
        assert says in str(refused.value)
        assert store.trial("first", 1).evaluation.measurements == {}

    def test_joules_of_two_methods_do_not_mix(self, store: Store) -> None:
        """A counter and a power sensor differ by more than networks do; the same method is
        welcome.
        """
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

    def test_what_can_be_compared_is_taken(self, store: Store) -> None:
        """Another device of the same class, another method, another metric; and figures of another
        study.
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
    def test_a_figure_without_a_value_fixes_nothing(self, store: Store, status: Status) -> None:
        """It is kept with its reason, and a figure under other conditions is welcome later."""
        store.add_trial("first", trial(0))
        missing = replace(
            Measurement.unavailable("latency", "s", "busy", samples=(0.1,)), status=status
        )
        store.add_measurements("first", 0, [missing], 0.1)
        assert store.trial("first", 0).evaluation.measurements == {"latency": missing}
        store.add_measurements("first", 0, [latency()], 0.1)
        assert store.trial("first", 0).evaluation.value("latency") == 0.001

    @pytest.mark.parametrize("epochs", [1.0, 0.5])
    def test_rungs_only_go_up(self, store: Store, epochs: float) -> None:
        """A rung that was reached is not reached again."""
        store.add_trial("first", trial(0))
        store.add_rung("first", 0, rung(1.0))
        with pytest.raises(
            InvalidValueError, match=f"rung at {epochs} epochs comes after one at 1.0"
        ):
            store.add_rung("first", 0, rung(epochs))
        assert len(store.trial("first", 0).evaluation.rungs) == 1

    def test_a_value_that_cannot_be_stored_is_named(self, store: Store) -> None:
        """Naive times and things that are no JSON."""
        with pytest.raises(InvalidValueError, match="time zone"):
            store.add_trial("first", trial(0, started_at=datetime(2026, 1, 1)))  # noqa: DTZ001 - the point
        for odd in ({"x": object()}, {"x": math.nan}):
            with pytest.raises(InvalidValueError, match="cannot be stored"):
                store.add_trial("first", trial(0, sampler_state=odd))
        assert store.trials("first") == []

    # Fronts and files

    def test_fronts_are_kept_in_order(self, store: Store) -> None:
        """With members, hypervolume to the bit or none, and whether they are feasible."""
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

    def test_the_same_front_is_kept_once(self, store: Store) -> None:
        """A search that goes on may say again what it said last; an old front that comes back is
        news.
        """
        store.add_trial("first", trial(0))
        one = ParetoFront(members=(0,), hypervolume=0.1, after=1, feasible=True)
        none = ParetoFront(members=(), hypervolume=0.0, after=1, feasible=False)
        for front in (one, one, none, one):
            store.add_front("first", front)
        assert store.fronts("first") == [one, none, one]

    def test_a_front_has_trials_of_its_study(self, store: Store) -> None:
        """Not others."""
        with pytest.raises(DatabaseError, match="breaks a rule"):
            store.add_front(
                "first", ParetoFront(members=(9,), hypervolume=None, after=1, feasible=True)
            )
        assert store.fronts("first") == []

    def test_files_are_found_by_trial_and_kind(self, store: Store) -> None:
        """And a file written anew is one file."""
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

    def test_a_transaction_is_kept_together(self, store: Store, url: str) -> None:
        """Others see nothing of it before its end, and all of it then."""
        with Store.open(url, read_only=True) as other:
            with store.transaction():
                store.add_trial("first", trial(0))
                store.add_rung("first", 0, rung())
                assert len(store.trial("first", 0).evaluation.rungs) == 1
                assert other.trials("first") == []
            assert len(other.trial("first", 0).evaluation.rungs) == 1

    def test_a_transaction_that_fails_leaves_nothing(self, store: Store) -> None:
        """Not even the study that was made in it, whose name is free again."""
        with pytest.raises(UnknownNameError, match="third"), store.transaction():  # noqa: PT012 - all of it fails
            store.create_study(spec("second"), dataset="digits", classes=10)
            store.add_trial("second", trial(0))
            store.study("third")
        with pytest.raises(UnknownNameError):
            store.trials("second")
        store.create_study(spec("second"), dataset="digits", classes=10)
        assert store.trials("second") == []

    def test_threads_write_one_after_the_other(self, store: Store) -> None:
        """Nothing is lost and nobody is turned away."""

        def write(first: int) -> None:
            for number in range(first, first + 10):
                store.add_trial("first", trial(number))

        threads = [Thread(target=write, args=(first,)) for first in range(0, 40, 10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [t.number for t in store.trials("first")] == list(range(40))

    def test_a_reader_sees_one_state(self, store: Store, url: str) -> None:
        """What is written while it reads comes with its next reading, and it does not keep the
        writer waiting.
        """
        store.add_trial("first", trial(0))
        with Store.open(url, read_only=True) as other, other._reading() as connection:  # noqa: SLF001
            count = "SELECT count(*) FROM trial"
            assert connection.exec_driver_sql(count).scalar_one() == 1
            store.add_trial("first", trial(1))
            assert connection.exec_driver_sql(count).scalar_one() == 1
        assert len(store.trials("first")) == 2

    def test_a_reader_writes_nothing(self, store: Store, url: str) -> None:
        """It is refused with a clear line."""
        with Store.open(url, read_only=True) as reader:
            with pytest.raises(DatabaseError, match="reading only"):
                reader.add_trial("first", trial(0))
            assert reader.study("first") == store.study("first")

    def test_a_study_has_one_driver(self, store: Store, url: str) -> None:
        """A second is told who the first is, and so is whoever only looks; another study is free,
        and so is this one afterwards. One that is not there yet can be claimed too.
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

    def test_a_killed_driver_lets_go(self, store: Store, url: str) -> None:
        """`kill -9` frees the study, without a timeout."""
        program = (
            "import sys, time; from nas.record import Store\n"
            "with Store.open(sys.argv[1]) as store, store.claim('first'):\n"
            "    print('claimed', flush=True); time.sleep(60)"
        )
        with subprocess.Popen(  # noqa: S603 - this Python
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
                subprocess.run(["sleep", "0.1"], check=True)  # noqa: S607
        pytest.fail("the study was not let go")
