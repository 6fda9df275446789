"""The engine on a real record: killed at any point, the same call goes on and nothing is lost or
done twice.
"""

import dataclasses
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.cli.progress import SearchDisplay
from nas.core.complexity import count
from nas.core.errors import InvalidValueError, StudyConflictError, UnavailableError
from nas.core.measurement import MeasurementPlan
from nas.core.pareto import front
from nas.core.study import Budget, Objective, StoppingSpec, StudySpec, rungs_at
from nas.core.tasks import Decision, Measured, Task
from nas.core.trial import TrialState, Usage
from nas.record import Store
from nas.report.history import SearchClock
from nas.searching.launch import open_search
from nas.searching.state import Finished, Wait
from nas.testing.evaluators import ArithmeticEvaluator
from search_spaces.osa_tiny import SPACE

SPEC = StudySpec(
    name="s",
    space="osa_tiny",
    sampler="tpe",
    seed=3,
    rungs=rungs_at(1, 2),
    budget=Budget(trials=4),
    objectives=(
        Objective(metric="error", reference=1.0),
        Objective(metric="macs", limit=3_000_000),
    ),
)


class Killed(BaseException):
    """In the place of SIGKILL: nothing catches it, locks and transactions end as the system ends
    them.
    """


class MortalStore(Store):
    """A record whose process is killed at one of its writing steps, before or after it took
    effect.
    """

    left = 10**9

    def step(self):
        self.left -= 1
        if self.left < 0:
            raise Killed

    @contextmanager
    def transaction(self):
        self.step()
        with super().transaction():
            yield
        self.step()


def _mortal(name):
    def call(self, *args, **kwargs):
        self.step()
        getattr(Store, name)(self, *args, **kwargs)
        self.step()

    return call


for _name in (
    "create_study",
    "set_numerics",
    "add_trial",
    "add_measurements",
    "add_rung",
    "finish_trial",
    "add_front",
    "add_artifact",
):
    setattr(MortalStore, _name, _mortal(_name))


class Hands:
    """Workers that do up to `count` tasks in turns, here, and keep every checkpoint as a file.

    `done` has every rung that was reported and answered; `tasks` what was handed out.
    """

    def __init__(self, folder, count=1):
        self.folder, self.count = folder, count
        self.done, self.tasks = [], []

    prepare = staticmethod(ArithmeticEvaluator.prepare)

    def close(self):
        pass

    def run(self, engine, job):
        at_work, reason = {}, None
        while at_work or reason is None:
            if reason is None and len(at_work) < self.count:
                task = engine.propose()
                if isinstance(task, Task):
                    self.tasks.append(task)
                    at_work[task.number] = self.steps(job, task)
                elif isinstance(task, Finished):
                    reason = task.reason
                else:
                    assert isinstance(task, Wait)
                    assert at_work
            for number, steps in list(at_work.items()):
                event = next(steps)
                if engine.report(number, event) is Decision.END:
                    del at_work[number]
                if not isinstance(event, Measured):
                    self.done.append(
                        (engine.state.trial(number).architecture.digest, event.rung.epochs)
                    )
        return reason

    def steps(self, job, task):
        """As the evaluator's, with a checkpoint for every rung; the last one has to be there to go
        on from.
        """
        if task.evaluation.rungs:
            assert (self.folder / task.evaluation.rungs[-1].checkpoint).is_file()
        for event in ArithmeticEvaluator(job).steps(task):
            if isinstance(event, Measured):
                yield event
            else:
                name = f"s/{task.architecture.digest[:16]}/rung-{event.rung.epochs:g}.safetensors"
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / name).write_text(f"{task.seed}")
                yield replace(event, rung=replace(event.rung, checkpoint=name))


def search(spec, folder, hands, store_class=Store, life=None):
    """Run the study in `folder` with these hands; gives the engine, or None where it was killed."""
    with store_class.open(folder / "nas.db") as store:
        if life is not None:
            store.left = life
        try:
            with open_search(
                spec, store=store, workers=hands, folder=folder, artifacts=folder
            ) as found:
                found.run()
                return found.engine
        except Killed:
            return None


def recorded(folder):
    """The trials of the record."""
    with Store.open(folder / "nas.db", read_only=True) as store:
        return store.trials("s")


def story(folder):
    """What became of the trials, without times."""
    return [
        (
            t.number,
            t.params,
            t.state,
            t.reason,
            t.duplicate_of,
            t.seed,
            [(r.epochs, r.error, r.checkpoint) for r in t.evaluation.rungs],
        )
        for t in recorded(folder)
    ]


def check(spec, folder, engine):
    """The record is whole: the state's truth, each architecture once, no trial stuck, files as they
    are recorded.
    """
    with Store.open(folder / "nas.db", read_only=True) as store:
        trials, artifacts, fronts = store.trials("s"), store.artifacts("s"), store.fronts("s")
    state = engine.state
    assert state.members() == [trials[number] for number in state.front.members]
    assert set(state._kept) == set(state.front.members)
    assert (state.known, state.running) == (len(trials), [])
    assert state.trial(len(trials) - 1) == trials[-1]
    assert (state.front.members, state.front.hypervolume) == (
        fronts[-1].members,
        fronts[-1].hypervolume,
    )
    assert all(trial.state is not TrialState.RUNNING for trial in trials)
    digests = Counter(t.architecture.digest for t in trials if t.duplicate_of is None)
    assert sum(not t.skipped for t in trials if t.duplicate_of is None) == spec.search_budget.trials
    assert set(digests.values()) == {1}
    assert fronts[-1].members == front(trials, spec.objectives).members
    assert [f.after for f in fronts] == sorted(f.after for f in fronts)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors")}
    assert files == {artifact.path for artifact in artifacts}
    best = [trials[number].evaluation.rungs for number in fronts[-1].members]
    assert {rungs[-1].checkpoint for rungs in best if rungs} <= files


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_any_point_the_same_call_goes_on(tmp_path, workers):
    """Before and after every write of a small study: no answered rung is lost or done again, and
    with one worker the study becomes what it would have become anyway.
    """
    whole = tmp_path / "whole"
    whole.mkdir()
    check(SPEC, whole, search(SPEC, whole, Hands(whole, workers)))
    kills = 0
    while True:
        folder = tmp_path / str(kills)
        folder.mkdir()
        first, second = Hands(folder, workers), Hands(folder, workers)
        if search(SPEC, folder, first, MortalStore, life=kills) is not None:
            break
        engine = search(SPEC, folder, second)
        check(SPEC, folder, engine)
        rungs = Counter([*first.done, *second.done])
        assert not [rung for rung, times in rungs.items() if times > 1]
        if workers == 1:
            assert story(folder) == story(whole)
        kills += 1
    assert kills > 60


def test_repeated_proposals_of_a_running_trial_end_with_it(tmp_path):
    """As it does, with its figures, and not before."""
    seen = []

    class Watching(Hands):
        def run(self, engine, job):
            engine.listeners = [*engine.listeners, seen.append]
            return super().run(engine, job)

    spec = replace(SPEC, sampler="random", budget=Budget(trials=60, fresh=0))
    engine = search(spec, tmp_path, Watching(tmp_path, 8))
    check(spec, tmp_path, engine)
    waited = {
        t.number for t in seen if t.duplicate_of is not None and t.state is TrialState.RUNNING
    }
    assert waited
    trials = recorded(tmp_path)
    for number in waited:
        trial = trials[number]
        original = trials[trial.duplicate_of]
        assert (trial.state, trial.reason, trial.evaluation, trial.finished_at) == (
            original.state,
            original.reason,
            original.evaluation,
            original.finished_at,
        )
        ends = [
            t.number
            for t in seen
            if t.state is not TrialState.RUNNING and t.number in {number, original.number}
        ]
        assert ends == [original.number, number]


def test_a_trial_behind_the_others_is_stopped_at_its_rung(tmp_path):
    """And never trained to the next one; the front is not touched by it."""
    spec = replace(
        SPEC,
        objectives=SPEC.objectives[:1],
        budget=Budget(trials=20),
        rungs=rungs_at(1, 2, 3),
        stopping=StoppingSpec(keep=0.3, min_trials=3),
    )
    engine = search(spec, tmp_path, Hands(tmp_path))
    check(spec, tmp_path, engine)
    stopped = [t for t in recorded(tmp_path) if "behind the others" in t.reason]
    assert stopped
    assert all(
        len(t.evaluation.rungs) < 3 and t.reason.endswith(f"after {len(t.evaluation.rungs)} epochs")
        for t in stopped
    )
    assert not {t.number for t in stopped} & set(engine.state.front.members)


@pytest.mark.parametrize("macs", [2_000_000, 1])
def test_a_record_read_in_parts_gives_what_was_known(tmp_path, monkeypatch, macs):
    """The same front to the last bit, feasible or not, and counts, as those of the state that saw
    every trial end.
    """
    spec = replace(
        SPEC,
        sampler="random",
        objectives=(SPEC.objectives[0], Objective(metric="macs", limit=macs)),
        budget=Budget(trials=15, proposals=15),
    )
    before = search(spec, tmp_path, Hands(tmp_path, 3)).state
    monkeypatch.setattr("nas.searching.state.PART", 4)
    after = search(spec, tmp_path, Hands(tmp_path)).state
    assert (after.front, after.members()) == (before.front, before.members())
    assert (after.known, after.counted, after.done, after.failed) == (
        before.known,
        before.counted,
        before.done,
        before.failed,
    )
    assert after.front.feasible is (macs > 1)


def test_a_network_beyond_a_limit_costs_no_training(tmp_path):
    """It ends when it is counted, with the limit in its reason."""
    error, macs = SPEC.objectives
    spec = replace(
        SPEC, objectives=(error, replace(macs, limit=1_500_000)), budget=Budget(trials=20)
    )
    search(spec, tmp_path, Hands(tmp_path))
    ended = {TrialState.STOPPED: 0, TrialState.COMPLETE: 0}
    for trial in recorded(tmp_path):
        beyond = count(trial.architecture, 32, 10).macs > 1_500_000
        ended[trial.state] += trial.duplicate_of is None
        assert trial.state is (TrialState.STOPPED if beyond else TrialState.COMPLETE)
        assert len(trial.evaluation.rungs) == (0 if beyond else 2)
        assert ("is beyond the limit 1.5e+06" in trial.reason) == beyond
    assert min(ended.values()) > 0


def test_networks_beyond_a_limit_are_not_of_the_budget(tmp_path):
    """Whoever asks for 20 trials gets 20 trained networks, however many others were proposed on the
    way.
    """
    error, macs = SPEC.objectives
    spec = replace(
        SPEC,
        sampler="random",
        objectives=(error, replace(macs, limit=1_500_000)),
        budget=Budget(trials=6),
    )
    hands = Hands(tmp_path)
    engine = search(spec, tmp_path, hands)
    check(spec, tmp_path, engine)
    assert len({digest for digest, _ in hands.done}) == 6
    assert engine.state.architectures > 6
    told = CliRunner().invoke(main, ["status", "s", "--database", str(tmp_path / "nas.db")]).output
    assert "6 of 6 architectures (6 complete)" in told
    assert f"{engine.state.architectures - 6} more cost no training: over a limit" in told
    assert "12 epochs, " in told
    assert "Kendall's tau 1.00 over 6 trials" in " ".join(told.split())


class Uneven(Hands):
    """Whose device takes up to five times as long for some networks as for others of their size."""

    def steps(self, job, task):
        times = 1 + int(task.architecture.digest[:2], 16) / 64
        for event in super().steps(job, task):
            yield (
                event
                if not isinstance(event, Measured)
                else replace(
                    event,
                    measurements=tuple(
                        replace(
                            m,
                            value=m.value * times,
                            ci_low=m.value * times,
                            ci_high=m.value * times,
                        )
                        if m.metric == "latency"
                        else m
                        for m in event.measurements
                    ),
                )
            )


def test_a_network_that_measures_badly_is_passed_over_and_not_of_the_budget(tmp_path):
    """As many are trained as were asked for; a search that goes on passes over what it would have
    passed over.
    """
    spec = replace(
        SPEC,
        space="osa_cifar",
        sampler="known-cost",
        budget=Budget(trials=16, fresh=0),
        objectives=(SPEC.objectives[0], Objective(metric="latency", reference=0.01)),
    )
    once, twice = tmp_path / "once", tmp_path / "twice"
    for folder, budgets in ((once, (16,)), (twice, (9, 16))):
        folder.mkdir()
        for trials in budgets:
            spec = replace(spec, budget=replace(spec.budget, trials=trials))
            check(spec, folder, search(spec, folder, Uneven(folder)))
    assert story(twice) == story(once)
    states = [trial.state for trial in recorded(once)]
    assert states.count(TrialState.COMPLETE) == 16
    assert states[:5] == [TrialState.COMPLETE] * 5
    assert 0 < states.count(TrialState.STOPPED) <= 2 * 16
    for trial in recorded(once):
        passed = trial.state is TrialState.STOPPED
        assert trial.reason == (
            "passed over: at its measured costs other networks promise more" if passed else ""
        )
        assert not (passed and trial.evaluation.rungs)
    told = CliRunner().invoke(main, ["status", "s", "--database", str(once / "nas.db")]).output
    assert f"{states.count(TrialState.STOPPED)} more cost no training" in told


def test_a_budget_that_cannot_be_kept_here_does_not_take_the_place_of_the_recorded_one(tmp_path):
    """What is refused before the search goes on leaves the record as it was."""

    class Refusing(Hands):
        @staticmethod
        def prepare(_context):
            raise UnavailableError("budget.energy_j: no counter")

    search(SPEC, tmp_path, Hands(tmp_path))
    with pytest.raises(UnavailableError, match="no counter"):
        search(replace(SPEC, budget=Budget(trials=9, energy_j=5.0)), tmp_path, Refusing(tmp_path))
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        assert store.study("s").spec == SPEC


def test_images_that_no_network_of_the_space_takes_are_refused_before_the_study_is_begun(tmp_path):
    """At 2 pixels two of the three pools have nothing left to pool; at 4 all networks of the space
    can be had.
    """
    with pytest.raises(
        InvalidValueError, match=r"measurement.image_size: no network .* takes 2 pixels: .* stage 4"
    ):
        search(replace(SPEC, measurement=MeasurementPlan(image_size=2)), tmp_path, Hands(tmp_path))
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        assert store.studies() == []
    assert (
        search(
            replace(SPEC, measurement=MeasurementPlan(image_size=4)), tmp_path, Hands(tmp_path)
        ).state.done
        == 4
    )


def test_a_search_ends_where_nothing_is_feasible(tmp_path):
    """After so many proposals, with the least violating one as its front and no training at all."""
    error, macs = SPEC.objectives
    spec = replace(
        SPEC, sampler="random", objectives=(error, replace(macs, limit=1)), budget=Budget(trials=2)
    )
    hands = Hands(tmp_path)
    with (
        Store.open(tmp_path / "nas.db") as store,
        open_search(spec, store=store, workers=hands, folder=tmp_path, artifacts=tmp_path) as found,
    ):
        assert found.run().startswith("0 of 40 proposed architectures are within the limits")
    state = found.engine.state
    least = min(
        (t.evaluation.value("macs"), t.number) for t in recorded(tmp_path) if t.duplicate_of is None
    )
    assert not state.front.feasible
    assert state.members()[0].evaluation.value("macs") == least[0]
    assert hands.done == []


@pytest.mark.parametrize("limit", [1, 3_000_000])
def test_what_was_never_trained_is_not_offered_for_export(tmp_path, capsys, limit):
    """Neither at the end of a search nor by `nas show`; what was trained is."""
    error, macs = SPEC.objectives
    spec = replace(
        SPEC,
        sampler="random",
        objectives=(error, replace(macs, limit=limit)),
        budget=Budget(trials=2),
    )
    display = SearchDisplay(str(tmp_path / "nas.db"))
    with (
        Store.open(tmp_path / "nas.db") as store,
        open_search(
            spec, store=store, workers=Hands(tmp_path), folder=tmp_path, artifacts=tmp_path
        ) as found,
    ):
        with display.live(found):
            found.run()
        display.finished(store)
        best = (members := found.engine.state.front.members)[len(members) // 2]
    told = capsys.readouterr().out
    assert f"nas show s:{best}" in told
    assert ("nas export s" in told) is (limit > 1)
    shown = (
        CliRunner()
        .invoke(main, ["show", f"s:{best}", "--database", str(tmp_path / "nas.db")])
        .output
    )
    assert ("nas export s" in shown) is (limit > 1)
    status = (
        CliRunner().invoke(main, ["status", "s", "--database", str(tmp_path / "nas.db")]).output
    )
    assert (
        "of 2 architectures (2 complete), " if limit > 1 else "0 of 2 architectures, "
    ) in status


def test_networks_beyond_a_limit_are_counted_and_not_told_one_by_one(tmp_path, capsys):
    """Six lines for forty, at 1, 2, 4, 8, 16 and 32 of them, each with the last one's reason."""
    error, macs = SPEC.objectives
    spec = replace(
        SPEC, sampler="random", objectives=(error, replace(macs, limit=1)), budget=Budget(trials=2)
    )
    display = SearchDisplay(str(tmp_path / "nas.db"))
    with (
        Store.open(tmp_path / "nas.db") as store,
        open_search(
            spec,
            store=store,
            workers=Hands(tmp_path),
            folder=tmp_path,
            artifacts=tmp_path,
            listener=display.update,
        ) as found,
        display.live(found),
    ):
        found.run()
    lines = [line for line in capsys.readouterr().out.splitlines() if "beyond the limit" in line]
    assert [line.split(" not trained so far, the last: macs ")[0] for line in lines] == [
        "1",
        "2",
        "4",
        "8",
        "16",
        "32",
    ]


@pytest.mark.parametrize(
    ("budget", "trials", "reason"),
    [
        (
            Budget(trials=1000, epochs=5, fresh=0),
            3,
            "6 of 5 epochs of training are spent, the study's budget",
        ),
        (
            Budget(trials=1000, device_s=25, fresh=0),
            2,
            "40 of 25 s of device time are spent, the study's budget",
        ),
        (Budget(trials=1000, energy_j=15, fresh=0), 4, "18 of 15 J are spent, the study's budget"),
    ],
)
def test_a_spent_budget_ends_the_search(tmp_path, budget, trials, reason):
    """The trial at work is finished; a second call finds what the first has spent in the record."""

    class Costly(Hands):
        def steps(self, job, task):
            for event in super().steps(job, task):
                yield (
                    replace(event, energy_j=0.5)
                    if isinstance(event, Measured)
                    else replace(
                        event,
                        energy_j=2.0,
                        waiting_s=1.0,
                        rung=replace(event.rung, train_s=9.0, validation_s=1.0),
                    )
                )

    spec = replace(SPEC, objectives=SPEC.objectives[:1], budget=budget)
    for _ in range(2):
        with (
            Store.open(tmp_path / "nas.db") as store,
            open_search(
                spec, store=store, workers=Costly(tmp_path), folder=tmp_path, artifacts=tmp_path
            ) as found,
        ):
            assert found.run() == reason
            assert (
                store.summary("s").spent
                == found.engine.state.spent
                == Usage(
                    epochs=2 * trials,
                    training_s=18 * trials,
                    validation_s=2 * trials,
                    waiting_s=2 * trials,
                    energy_j=4.5 * trials,
                    measuring_j=0.5 * trials,
                )
            )


def test_a_space_is_searched_to_its_end(tmp_path):
    """With more budget than the space has networks, the search tries all of them if its sampler
    finds them, and in any case ends with a reason.
    """
    spec = replace(SPEC, sampler="random", budget=Budget(trials=1000, fresh=0))
    hands = Hands(tmp_path)
    with (
        Store.open(tmp_path / "nas.db") as store,
        open_search(spec, store=store, workers=hands, folder=tmp_path, artifacts=tmp_path) as found,
    ):
        reason = found.run()
    tried = len({task.architecture.digest for task in hands.tasks})
    assert len(hands.tasks) == tried
    assert reason == (
        "all 128 architectures of the space were tried"
        if tried == SPACE.cardinality
        else "the sampler random proposed nothing new 100 times in a row"
    )


def test_when_the_time_is_spent_no_new_trial_begins(tmp_path):
    """The one at work is finished; a second call finds the time of the first spent."""
    clock = [datetime(2026, 1, 1, tzinfo=UTC)]

    class Slow(Hands):
        def steps(self, job, task):
            for event in super().steps(job, task):
                clock[0] += timedelta(seconds=30)
                yield event

    spec = replace(
        SPEC, objectives=SPEC.objectives[:1], budget=Budget(trials=1000, wall_time_s=300, fresh=0)
    )
    tried = []
    for _ in range(2):
        with (
            Store.open(tmp_path / "nas.db") as store,
            open_search(
                spec,
                store=store,
                workers=Slow(tmp_path),
                folder=tmp_path,
                artifacts=tmp_path,
                now=lambda: clock[0],
            ) as found,
        ):
            assert found.run() == "300 s of searching are spent, the study's budget"
        tried.append(found.engine.state.architectures)
        assert not found.engine.state.running
        clock[0] += timedelta(days=1)
    assert tried == [4, 4]


def test_the_pause_of_an_interrupted_trial_is_no_time_of_searching(tmp_path):
    """Stopped after a rung of 20 s, gone on with a day later for 10 s more, interrupted once more,
    and ended: 40 s.
    """
    clock = [datetime(2026, 1, 1, tzinfo=UTC)]

    class Timed(Hands):
        left = 1

        def steps(self, job, task):
            for event in super().steps(job, task):
                if not isinstance(event, Measured):
                    if self.left == 0:
                        raise Killed
                    self.left -= 1
                    clock[0] += timedelta(seconds=20)
                yield (
                    event
                    if isinstance(event, Measured)
                    else replace(event, rung=replace(event.rung, train_s=18.0, validation_s=2.0))
                )

    spec, hands = (
        replace(SPEC, objectives=SPEC.objectives[:1], budget=Budget(trials=1)),
        Timed(tmp_path),
    )
    for left, searched_s in ((1, 20), (0, 20), (9, 40)):
        hands.left = left
        with (
            Store.open(tmp_path / "nas.db") as store,
            suppress(Killed),
            open_search(
                spec,
                store=store,
                workers=hands,
                folder=tmp_path,
                artifacts=tmp_path,
                now=lambda: clock[0],
            ) as found,
        ):
            found.run()
        with Store.open(tmp_path / "nas.db", read_only=True) as store:
            assert store.summary("s").searched_s == pytest.approx(searched_s, abs=0.002)
        clock[0] += timedelta(days=1)
    assert SearchClock(recorded(tmp_path)).total_s == pytest.approx(40)


@pytest.mark.parametrize("jump", [timedelta(days=-30), timedelta(days=30)])
def test_a_clock_that_jumps_disturbs_nothing(tmp_path, jump):
    """Neither the trials nor the order of fronts; the other trials are those of a quiet clock."""
    clock = [datetime(2026, 1, 1, tzinfo=UTC)]

    class Jumping(Hands):
        def steps(self, job, task):
            for event in super().steps(job, task):
                clock[0] += jump if task.number == 2 else timedelta(seconds=1)
                yield event

    with (
        Store.open(tmp_path / "nas.db") as store,
        open_search(
            SPEC,
            store=store,
            workers=Jumping(tmp_path),
            folder=tmp_path,
            artifacts=tmp_path,
            now=lambda: clock[0],
        ) as found,
    ):
        found.run()
    check(SPEC, tmp_path, found.engine)
    quiet = tmp_path / "quiet"
    quiet.mkdir()
    search(SPEC, quiet, Hands(quiet))
    assert story(tmp_path) == story(quiet)


def test_two_searches_of_one_study_do_not_mix(tmp_path):
    """The second is refused with the first one's process, and writes nothing."""
    with (
        Store.open(tmp_path / "nas.db") as store,
        open_search(
            SPEC, store=store, workers=Hands(tmp_path), folder=tmp_path, artifacts=tmp_path
        ),
    ):
        with pytest.raises(StudyConflictError, match="searched already, by process"):
            search(SPEC, tmp_path, Hands(tmp_path))
        assert store.trials("s") == []
    check(SPEC, tmp_path, search(SPEC, tmp_path, Hands(tmp_path)))


def test_a_task_knows_what_its_trial_has(tmp_path):
    """A trial that a killed call left at its first rung is handed out first, with that rung."""
    life = 0
    while True:
        folder = tmp_path / str(life)
        folder.mkdir()
        search(SPEC, folder, Hands(folder), MortalStore, life=life)
        with Store.open(folder / "nas.db", read_only=True) as store:
            trials = store.trials("s") if store.studies() else []
        if trials and trials[-1].evaluation.rungs and trials[-1].state is TrialState.RUNNING:
            break
        life += 1
    hands = Hands(folder)
    search(SPEC, folder, hands)
    assert dataclasses.asdict(hands.tasks[0]) == {
        "number": trials[-1].number,
        "architecture": dataclasses.asdict(trials[-1].architecture),
        "seed": trials[-1].seed,
        "evaluation": dataclasses.asdict(trials[-1].evaluation),
    }
