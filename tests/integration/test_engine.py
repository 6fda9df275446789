"""The engine on a real record: killed at any point, the same call resumes the study, and nothing is
lost or done twice.
"""

import dataclasses
import math
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
from nas.core.measurement import Measurement, MeasurementPlan, Status
from nas.core.pareto import front
from nas.core.study import Budget, Objective, StudySpec, rungs_at
from nas.core.tasks import Decision, Measured, Task
from nas.core.trial import TrialState, Usage
from nas.record import Store
from nas.record.records import covered_s
from nas.report.history import busy_spans
from nas.searching.launch import open_search
from nas.searching.state import SKIP_REASON, Finished, Wait
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
    """Stands for SIGKILL: nothing catches it, and locks and transactions end as the system would
    end them.
    """


class MortalStore(Store):
    """A record whose process is killed before or after one of its writes."""

    remaining_steps = 10**9

    def step(self):
        self.remaining_steps -= 1
        if self.remaining_steps < 0:
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


def clocks(clock):
    """Return both clocks of a search, which show `clock[0]`."""

    def steady_s():
        return clock[0].timestamp()

    return {"now": lambda: clock[0], "steady_s": steady_s}


class Hands:
    """Workers in this process that do up to `count` tasks interleaved, and write checkpoint files.

    `done` lists every rung that was reported and answered, `tasks` every task that was proposed.
    """

    def __init__(self, folder, count=1):
        self.folder, self.count = folder, count
        self.done, self.tasks = [], []

    prepare = staticmethod(ArithmeticEvaluator.prepare)

    def close(self):
        pass

    def run(self, engine, context):
        at_work, reason = {}, None
        while at_work or reason is None:
            if reason is None and len(at_work) < self.count:
                task = engine.propose()
                if isinstance(task, Task):
                    self.tasks.append(task)
                    at_work[task.number] = self.steps(context, task)
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

    def steps(self, context, task):
        """Evaluate the task and write a checkpoint for every rung. A task that resumes needs the
        checkpoint of its last rung.
        """
        if task.evaluation.rungs:
            assert (self.folder / task.evaluation.rungs[-1].checkpoint).is_file()
        for event in ArithmeticEvaluator(context).steps(task):
            if isinstance(event, Measured):
                yield event
            else:
                name = f"s/{task.architecture.digest[:16]}/rung-{event.rung.epochs:g}.safetensors"
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / name).write_text(f"{task.seed}")
                yield replace(event, rung=replace(event.rung, checkpoint=name))


def search(spec, folder, hands, store_class=Store, num_steps=None):
    """Run the study in `folder`, and return the engine, or None if it was killed."""
    with store_class.open(folder / "nas.db") as store:
        if num_steps is not None:
            store.remaining_steps = num_steps
        try:
            with open_search(
                spec, store=store, workers=hands, folder=folder, artifacts=folder
            ) as prepared:
                prepared.run()
                return prepared.engine
        except Killed:
            return None


def recorded(folder):
    """Return the trials of the record."""
    with Store.open(folder / "nas.db", read_only=True) as store:
        return store.trials("s")


def outcomes(folder):
    """Return the trials of the record without times."""
    return [
        (
            t.number,
            t.params,
            t.state,
            t.reason,
            t.duplicate_of,
            t.seed,
            [(r.epochs, r.metrics["error"], r.checkpoint) for r in t.evaluation.rungs],
        )
        for t in recorded(folder)
    ]


def check(spec, folder, engine):
    """Check that the record agrees with the state, has each architecture once and no running trial,
    and that the files are those that are recorded.
    """
    with Store.open(folder / "nas.db", read_only=True) as store:
        trials, artifacts, fronts = store.trials("s"), store.artifacts("s"), store.fronts("s")
    state = engine.state
    assert state.members() == [trials[number] for number in state.front.members]
    assert set(state._trials) == set(state.front.members)
    assert (state.num_trials, state.running) == (len(trials), [])
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
@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_killed_at_any_point_is_resumed(tmp_path, workers):
    """The search is killed before and after every write. No answered rung is lost or done again.
    With one worker the trials are those of a search that was never killed.
    """
    whole = tmp_path / "whole"
    whole.mkdir()
    check(SPEC, whole, search(SPEC, whole, Hands(whole, workers)))
    kills = 0
    while True:
        folder = tmp_path / str(kills)
        folder.mkdir()
        first, second = Hands(folder, workers), Hands(folder, workers)
        if search(SPEC, folder, first, MortalStore, num_steps=kills) is not None:
            break
        engine = search(SPEC, folder, second)
        check(SPEC, folder, engine)
        rungs = Counter([*first.done, *second.done])
        assert not [rung for rung, times in rungs.items() if times > 1]
        if workers == 1:
            assert outcomes(folder) == outcomes(whole)
        kills += 1
    assert kills > 60


def test_duplicates_of_a_running_trial_end_with_it(tmp_path):
    """They end as the original does, with its figures, and after it."""
    seen = []

    class Watching(Hands):
        def run(self, engine, context):
            engine.listeners = [*engine.listeners, seen.append]
            return super().run(engine, context)

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


@pytest.mark.parametrize("macs", [2_000_000, 1])
def test_a_state_built_from_the_record_is_that_of_the_search(tmp_path, monkeypatch, macs):
    """The front is the same to the last bit, feasible or not, and so are the counts."""
    spec = replace(
        SPEC,
        sampler="random",
        objectives=(SPEC.objectives[0], Objective(metric="macs", limit=macs)),
        budget=Budget(trials=15, proposals=15),
    )
    before = search(spec, tmp_path, Hands(tmp_path, 3)).state
    monkeypatch.setattr("nas.searching.state.TRIALS_PER_BATCH", 4)
    after = search(spec, tmp_path, Hands(tmp_path)).state
    assert (after.front, after.members()) == (before.front, before.members())
    for name in ("num_trials", "num_counted", "num_finished", "num_failed"):
        assert getattr(after, name) == getattr(before, name)
    assert after.front.feasible is (macs > 1)


def test_a_network_over_a_limit_is_not_trained(tmp_path):
    """Its trial ends when it is counted, with the limit in its reason."""
    error, macs = SPEC.objectives
    spec = replace(
        SPEC, objectives=(error, replace(macs, limit=1_500_000)), budget=Budget(trials=20)
    )
    search(spec, tmp_path, Hands(tmp_path))
    ended = {TrialState.STOPPED: 0, TrialState.COMPLETE: 0}
    for trial in recorded(tmp_path):
        over = count(trial.architecture, 32, 10).macs > 1_500_000
        ended[trial.state] += trial.duplicate_of is None
        assert trial.state is (TrialState.STOPPED if over else TrialState.COMPLETE)
        assert len(trial.evaluation.rungs) == (0 if over else 2)
        assert ("is over the limit 1.5e+06" in trial.reason) == over
    assert min(ended.values()) > 0


def test_networks_over_a_limit_do_not_count_against_the_budget(tmp_path):
    """A budget of 6 trials gives 6 trained networks, however many others are proposed."""
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
    assert engine.state.num_architectures > 6
    status = nas("status", "s", folder=tmp_path)
    assert "6 of 6 architectures (6 complete)" in status
    assert f"{engine.state.num_architectures - 6} more cost no training: over a limit" in status
    assert "12 epochs, " in status
    assert "Kendall's tau 1.00 over 6 trials" in " ".join(status.split())


def nas(*arguments, folder):
    """Return the output of a command on the record in this folder."""
    database = ["--database", str(folder / "nas.db")]
    return CliRunner().invoke(main, [*arguments, *database]).output


class Uneven(Hands):
    """Workers whose device is up to five times slower for some networks than for others."""

    def steps(self, context, task):
        factor = 1 + int(task.architecture.digest[:2], 16) / 64
        for event in super().steps(context, task):
            if isinstance(event, Measured):
                figures = tuple(slowed(figure, factor) for figure in event.measurements)
                yield replace(event, measurements=figures)
            else:
                yield event


def slowed(figure, factor):
    """Return a latency multiplied by a factor, and any other figure as it is."""
    if figure.metric != "latency":
        return figure
    value = figure.value * factor
    return replace(figure, value=value, ci_low=value, ci_high=value)


def test_a_network_with_bad_measured_costs_is_skipped_and_does_not_count(tmp_path):
    """The number of trained networks is that of the budget. A resumed search skips the same
    networks as one that was not interrupted.
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
    assert outcomes(twice) == outcomes(once)
    states = [trial.state for trial in recorded(once)]
    assert states.count(TrialState.COMPLETE) == 16
    assert states[:5] == [TrialState.COMPLETE] * 5
    assert 0 < states.count(TrialState.STOPPED) <= 2 * 16
    for trial in recorded(once):
        skipped = trial.state is TrialState.STOPPED
        assert trial.reason == (SKIP_REASON if skipped else "")
        assert not (skipped and trial.evaluation.rungs)
    status = nas("status", "s", folder=once)
    assert f"{states.count(TrialState.STOPPED)} more cost no training" in status


def test_a_refused_budget_does_not_replace_the_recorded_one(tmp_path):
    """A budget that cannot be measured here leaves the record as it was."""

    class Refusing(Hands):
        @staticmethod
        def prepare(_context):
            raise UnavailableError("budget.energy_j: no counter")

    search(SPEC, tmp_path, Hands(tmp_path))
    with pytest.raises(UnavailableError, match="no counter"):
        search(replace(SPEC, budget=Budget(trials=9, energy_j=5.0)), tmp_path, Refusing(tmp_path))
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        assert store.study("s").spec == SPEC


def test_images_too_small_for_every_network_are_refused_before_the_study_begins(tmp_path):
    """At 2 pixels two of the three pools have nothing left to pool. At 4 pixels all networks of the
    space work.
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
        ).state.num_finished
        == 4
    )


def test_a_search_ends_if_no_network_is_feasible(tmp_path):
    """It ends after `budget.proposals`, without training. The front is the network that violates
    the limits least.
    """
    error, macs = SPEC.objectives
    spec = replace(
        SPEC, sampler="random", objectives=(error, replace(macs, limit=1)), budget=Budget(trials=2)
    )
    hands = Hands(tmp_path)
    with (
        Store.open(tmp_path / "nas.db") as store,
        open_search(
            spec, store=store, workers=hands, folder=tmp_path, artifacts=tmp_path
        ) as prepared,
    ):
        assert prepared.run().startswith("only 0 of 40 proposed networks")
    state = prepared.engine.state
    smallest = min(
        (t.evaluation.value("macs"), t.number) for t in recorded(tmp_path) if t.duplicate_of is None
    )
    assert not state.front.feasible
    assert state.members()[0].evaluation.value("macs") == smallest[0]
    assert hands.done == []


@pytest.mark.parametrize("limit", [1, 3_000_000])
def test_only_trained_networks_are_offered_for_export(tmp_path, capsys, limit):
    """At the end of a search, and by `nas show`."""
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
        ) as prepared,
    ):
        with display.live(prepared):
            prepared.run()
        display.finished(store)
        best = (members := prepared.engine.state.front.members)[len(members) // 2]
    printed = capsys.readouterr().out
    assert f"nas show s:{best}" in printed
    assert ("nas export s" in printed) is (limit > 1)
    assert ("nas export s" in nas("show", f"s:{best}", folder=tmp_path)) is (limit > 1)
    count = "of 2 architectures (2 complete), " if limit > 1 else "0 of 2 architectures, "
    assert count in nas("status", "s", folder=tmp_path)


def test_networks_over_a_limit_are_not_printed_one_by_one(tmp_path, capsys):
    """Forty of them give six lines, at 1, 2, 4, 8, 16 and 32, each with the last one's reason."""
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
        ) as prepared,
        display.live(prepared),
    ):
        prepared.run()
    lines = [line for line in capsys.readouterr().out.splitlines() if "over the limit" in line]
    assert [line.split(" not trained so far, the last: macs ")[0] for line in lines] == [
        "1",
        "2",
        "4",
        "8",
        "16",
        "32",
    ]


UNFINISHED = "; unfinished networks, which a larger budget resumes: 1"


class Costly(Hands):
    """Each rung takes an epoch, 10 s of device time and 2 J, each measurement half a joule."""

    def steps(self, context, task):
        for event in super().steps(context, task):
            if isinstance(event, Measured):
                yield replace(event, energy_j=0.5)
                continue
            rung = replace(event.rung, train_s=9.0, validation_s=1.0)
            yield replace(event, energy_j=2.0, waiting_s=1.0, rung=rung)


def run_once(folder, spec, workers, **others):
    """Search until the budget is spent. Return the reason, and the trials and the usage."""
    with (
        Store.open(folder / "nas.db") as store,
        open_search(
            spec, store=store, workers=workers, folder=folder, artifacts=folder, **others
        ) as prepared,
    ):
        reason, spent = prepared.run(), prepared.engine.state.spent
        assert store.summary("s").spent == spent
        assert store.problems() == []
        return reason, store.trials("s"), spent


@pytest.mark.parametrize(
    ("budget", "rungs", "measured", "reason"),
    [
        (Budget(trials=1000, epochs=5, fresh=0), 5, 3, ("5 epochs of training", "epochs is 5")),
        (
            Budget(trials=1000, device_s=25, fresh=0),
            3,
            2,
            ("30 s of device time", "device_s is 25"),
        ),
        (Budget(trials=1000, energy_j=15, fresh=0), 7, 4, ("16 J", "energy_j is 15")),
    ],
)
def test_a_spent_budget_ends_the_search_at_the_next_rung(tmp_path, budget, rungs, measured, reason):
    """The trial that runs is not trained to its end. A second call reads from the record what the
    first one used, and does nothing.
    """
    spec = replace(SPEC, objectives=SPEC.objectives[:1], budget=budget)
    for _ in range(2):
        ended, trials, spent = run_once(tmp_path, spec, Costly(tmp_path))
        used, limit = reason
        assert ended == f"{used} were used, and the limit of budget.{limit}{UNFINISHED}"
        assert [trial.state for trial in trials].count(TrialState.RUNNING) == 1
        assert spent == Usage(
            epochs=rungs,
            training_s=9 * rungs,
            validation_s=rungs,
            waiting_s=rungs,
            energy_j=2 * rungs + 0.5 * measured,
            measuring_j=0.5 * measured,
        )


def test_a_larger_budget_resumes_the_trial_that_was_stopped_at_a_rung(tmp_path):
    """Each of its rungs is trained once, and the front has it in the end."""
    spec = replace(SPEC, objectives=SPEC.objectives[:1], budget=Budget(trials=3, epochs=5, fresh=0))
    hands = Costly(tmp_path)
    run_once(tmp_path, spec, hands)
    larger = replace(spec, budget=Budget(trials=3, fresh=0))
    reason, trials, _ = run_once(tmp_path, larger, hands)
    assert reason == "3 networks were tried, the limit of budget.trials"
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert Counter(hands.done).most_common(1)[0][1] == 1


class Contended(Hands):
    """The device is busy at the first `busy` measurements."""

    busy = 0

    def steps(self, context, task):
        for event in super().steps(context, task):
            if isinstance(event, Measured) and self.busy:
                self.busy -= 1
                figure = replace(CONTENDED, started_at=datetime.now(UTC))
                yield Measured(measurements=(figure,), seconds=0.0, waiting_s=40.0)
                continue
            yield event


CONTENDED = Measurement(
    metric="latency",
    unit="s",
    value=None,
    method="synthetic",
    status=Status.CONTENDED,
    reason="process 7 is busy",
)
BUSY_SPEC = replace(
    SPEC,
    objectives=(Objective(metric="error", reference=1.0), Objective(metric="latency")),
    budget=Budget(trials=5, fresh=0),
)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("busy", [1, 2, 3, 8])
def test_trials_that_could_not_be_measured_are_tried_again(tmp_path, busy, count):
    """They use up no trial of the budget, no device time and no epochs: all five are completed."""
    hands = Contended(tmp_path, count)
    hands.busy = busy
    reason, trials, spent = run_once(tmp_path, BUSY_SPEC, hands)
    assert reason == "5 networks were tried, the limit of budget.trials"
    originals = [trial for trial in trials if trial.duplicate_of is None]
    assert [trial.state for trial in originals] == [TrialState.COMPLETE] * 5
    assert (spent.epochs, spent.device_s, spent.waiting_s) == (10.0, 0.0, 40.0 * busy)
    assert len(hands.tasks) == 5 + busy


def test_a_search_on_a_device_that_is_never_quiet_ends_and_resumes(tmp_path, monkeypatch):
    """It begins three networks, and measures them by turns. The next call measures them again."""
    monkeypatch.setattr("nas.searching.engine.MAX_CONTENDED", 7)
    hands = Contended(tmp_path)
    hands.busy = 1000
    reason, trials, _ = run_once(tmp_path, BUSY_SPEC, hands)
    assert reason == (
        "7 measurements in a row failed, because other programs used the device; networks that the "
        "same command measures again: 3"
    )
    assert [trial.state for trial in trials] == [TrialState.RUNNING] * 3
    hands.busy = 0
    reason, trials, _ = run_once(tmp_path, BUSY_SPEC, hands)
    assert reason == "5 networks were tried, the limit of budget.trials"
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}


def test_waiting_for_a_quiet_device_is_time_of_searching(tmp_path, monkeypatch):
    """Three networks wait by turns, and the record has all seconds that have passed."""
    monkeypatch.setattr("nas.searching.engine.MAX_CONTENDED", 12)
    clock = [datetime(2026, 1, 1, tzinfo=UTC)]

    class Waiting(Contended):
        busy = 1000

        def steps(self, context, task):
            for event in super().steps(context, task):
                clock[0] += timedelta(seconds=40)
                yield event

    with (
        Store.open(tmp_path / "nas.db") as store,
        open_search(
            BUSY_SPEC,
            store=store,
            workers=Waiting(tmp_path),
            folder=tmp_path,
            artifacts=tmp_path,
            **clocks(clock),
        ) as search,
    ):
        search.run()
        assert search.engine.elapsed_s() == 12 * 40
        assert store.summary(BUSY_SPEC.name).searched_s == 12 * 40


def test_a_search_says_what_it_waits_for_and_how_long(tmp_path, capsys):
    """One line for each attempt that failed."""
    display, hands = SearchDisplay(str(tmp_path / "nas.db")), Contended(tmp_path)
    hands.busy = 2
    with (
        Store.open(tmp_path / "nas.db") as store,
        open_search(
            BUSY_SPEC,
            store=store,
            workers=hands,
            folder=tmp_path,
            artifacts=tmp_path,
            listener=display.update,
        ) as prepared,
        display.live(prepared),
    ):
        prepared.run()
    lines = [line for line in capsys.readouterr().out.splitlines() if "quiet device" in line]
    assert lines == [
        f"trial {number} waits for a quiet device: latency is contended, process 7 is busy; it is "
        f"tried again, at most {left} more times"
        for number, left in ((0, 89), (1, 88))
    ]


class Failing(Hands):
    """Every second task fails unexpectedly, and the others fail by their networks."""

    def run(self, engine, context):
        while not isinstance(task := engine.propose(), Finished):
            engine.begin(task.number, "w")
            engine.fail(task.number, "too little memory", unexpected=task.number % 2 == 0)
        return task.reason


def test_networks_that_fail_by_themselves_show_that_the_process_works(tmp_path):
    """Unexpected failures between them are not in a row."""
    spec = replace(SPEC, budget=Budget(trials=12, fresh=0))
    reason, trials, _ = run_once(tmp_path, spec, Failing(tmp_path))
    assert reason.startswith("12 networks were tried")
    assert len(trials) >= 12
    assert {trial.state for trial in trials} == {TrialState.FAILED}


def test_a_search_ends_when_the_space_is_exhausted(tmp_path):
    """With a larger budget than the space has networks, it also ends if the sampler finds no new
    ones.
    """
    spec = replace(SPEC, sampler="random", budget=Budget(trials=1000, fresh=0))
    hands = Hands(tmp_path)
    with (
        Store.open(tmp_path / "nas.db") as store,
        open_search(
            spec, store=store, workers=hands, folder=tmp_path, artifacts=tmp_path
        ) as prepared,
    ):
        reason = prepared.run()
    tried = len({task.architecture.digest for task in hands.tasks})
    assert len(hands.tasks) == tried
    assert reason == (
        "all 128 networks of the space were tried"
        if tried == SPACE.cardinality
        else "the sampler random proposed only networks that were tried before, 100 times in a row"
    )


def test_no_new_trial_begins_when_the_time_is_spent(tmp_path):
    """The running trial is stopped once it is measured. For a second call the time is spent."""
    clock = [datetime(2026, 1, 1, tzinfo=UTC)]

    class Slow(Hands):
        def steps(self, context, task):
            for event in super().steps(context, task):
                clock[0] += timedelta(seconds=30)
                yield event

    spec = replace(
        SPEC, objectives=SPEC.objectives[:1], budget=Budget(trials=1000, wall_time_s=200, fresh=0)
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
                **clocks(clock),
            ) as prepared,
        ):
            limit = "200 s of searching have passed, the limit of budget.wall_time_s"
            assert prepared.run() == f"{limit}{UNFINISHED}"
        tried.append(prepared.engine.state.num_architectures)
        assert len(prepared.engine.state.running) == 1
        clock[0] += timedelta(days=1)
    assert tried == [3, 3]


def test_pauses_between_calls_do_not_count_as_searching(tmp_path):
    """A trial that is interrupted twice, for a day each, and trains two rungs of 20 s, takes
    40 s.
    """
    clock = [datetime(2026, 1, 1, tzinfo=UTC)]

    class Timed(Hands):
        remaining_rungs = 1

        def steps(self, context, task):
            for event in super().steps(context, task):
                if isinstance(event, Measured):
                    yield event
                    continue
                if self.remaining_rungs == 0:
                    raise Killed
                self.remaining_rungs -= 1
                clock[0] += timedelta(seconds=20)
                yield replace(event, rung=replace(event.rung, train_s=18.0, validation_s=2.0))

    spec, hands = (
        replace(SPEC, objectives=SPEC.objectives[:1], budget=Budget(trials=1)),
        Timed(tmp_path),
    )
    for remaining_rungs, searched_s in ((1, 20), (0, 20), (9, 40)):
        hands.remaining_rungs = remaining_rungs
        with (
            Store.open(tmp_path / "nas.db") as store,
            suppress(Killed),
            open_search(
                spec,
                store=store,
                workers=hands,
                folder=tmp_path,
                artifacts=tmp_path,
                **clocks(clock),
            ) as prepared,
        ):
            prepared.run()
        with Store.open(tmp_path / "nas.db", read_only=True) as store:
            assert store.summary("s").searched_s == pytest.approx(searched_s, abs=0.002)
        clock[0] += timedelta(days=1)
    assert covered_s(busy_spans(recorded(tmp_path))) == pytest.approx(40)


@pytest.mark.parametrize("jump", [timedelta(days=-30), timedelta(days=30)])
def test_a_clock_that_jumps_changes_no_trial(tmp_path, jump):
    """The trials and the order of the fronts are those of a steady clock."""
    clock = [datetime(2026, 1, 1, tzinfo=UTC)]

    class Jumping(Hands):
        def steps(self, context, task):
            for event in super().steps(context, task):
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
        ) as prepared,
    ):
        prepared.run()
    check(SPEC, tmp_path, prepared.engine)
    steady = tmp_path / "steady"
    steady.mkdir()
    search(SPEC, steady, Hands(steady))
    assert outcomes(tmp_path) == outcomes(steady)


def test_two_searches_of_one_study_do_not_mix(tmp_path):
    """The second one is refused, with the process of the first one, and writes nothing."""
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


def test_an_interrupted_trial_is_proposed_first_with_its_results(tmp_path):
    """A killed call left it running after its first rung."""
    num_steps = 0
    while True:
        folder = tmp_path / str(num_steps)
        folder.mkdir()
        search(SPEC, folder, Hands(folder), MortalStore, num_steps=num_steps)
        with Store.open(folder / "nas.db", read_only=True) as store:
            trials = store.trials("s") if store.studies() else []
        if trials and trials[-1].evaluation.rungs and trials[-1].state is TrialState.RUNNING:
            break
        num_steps += 1
    hands = Hands(folder)
    search(SPEC, folder, hands)
    assert dataclasses.asdict(hands.tasks[0]) == {
        "number": trials[-1].number,
        "architecture": dataclasses.asdict(trials[-1].architecture),
        "seed": trials[-1].seed,
        "evaluation": dataclasses.asdict(trials[-1].evaluation),
        "folder": "",
        "remaining_s": math.inf,
    }


ELSEWHERE = replace(
    SPEC,
    objectives=(SPEC.objectives[0], Objective(metric="latency", device="pi5", reference=1.0)),
    budget=Budget(trials=6),
)
"""A study that measures on a device elsewhere."""


def test_a_device_elsewhere_measures_the_next_trials_while_one_trains(tmp_path):
    """One trial trains, and at most one other waits for its training. The proposals end with it."""
    with (
        Store.open(tmp_path / "nas.db") as store,
        open_search(
            ELSEWHERE, store=store, workers=Hands(tmp_path), folder=tmp_path, artifacts=tmp_path
        ) as prepared,
    ):
        engine = prepared.engine
        engine.overlap()
        first = engine.propose()
        assert isinstance(engine.propose(), Wait)  # the device measures one network at a time
        measured, *rungs = Hands(tmp_path).steps(prepared.context, first)
        assert engine.report(first.number, measured) is Decision.END
        assert store.trial("s", first.number).state is TrialState.RUNNING
        training = engine.propose()
        assert (training.number, bool(training.evaluation.measurements)) == (first.number, True)
        second = engine.propose()
        assert second.number != first.number
        assert not second.evaluation.measurements
        event = next(Hands(tmp_path).steps(prepared.context, second))
        assert engine.report(second.number, event) is Decision.END
        assert isinstance(engine.propose(), Wait)  # the device waits for the training
        assert [engine.report(first.number, rung) for rung in rungs] == [
            Decision.CONTINUE,
            Decision.END,
        ]
        assert engine.propose().number == second.number


def test_the_wait_for_a_trainer_is_no_work_on_a_network(tmp_path, monkeypatch):
    """It took 1 s to measure and 2 s to train, and waited for 100 s in between. A measured network
    needs only its training.
    """
    seconds = 0.0
    with (
        Store.open(tmp_path / "nas.db") as store,
        open_search(
            ELSEWHERE,
            store=store,
            workers=Hands(tmp_path),
            folder=tmp_path,
            artifacts=tmp_path,
            now=lambda: datetime(2026, 1, 2, tzinfo=UTC) + timedelta(seconds=seconds),
            steady_s=lambda: seconds,
        ) as prepared,
    ):
        engine = prepared.engine
        engine.overlap()
        task = engine.propose()
        measured, first_rung, *_ = Hands(tmp_path).steps(prepared.context, task)
        seconds += 1
        engine.report(task.number, replace(measured, seconds=1.0))
        seconds += 100
        engine.propose()
        seconds += 2
        engine.report(task.number, first_rung)
        trial = store.trial("s", task.number)
        trial = replace(trial, evaluation=replace(trial.evaluation, rungs=()))
        for _ in range(2):
            engine._paces[0].add(engine._macs(trial), 3.0)
        assert engine._paces[0].expected_s(engine._macs(trial)) == 3.0
        for remaining_s, fits in ((1.9, False), (2.1, True)):
            monkeypatch.setattr(engine, "_remaining_s", lambda seconds=remaining_s: seconds)
            assert engine._fits(trial) is fits


@pytest.mark.parametrize("num_steps", [12, 31, 50])
def test_overlapping_searches_survive_a_kill(tmp_path, num_steps):
    """Killed between any two writes, the same call resumes: nothing is done twice."""
    hands = Hands(tmp_path, count=2)
    search(ELSEWHERE, tmp_path, hands, MortalStore, num_steps)
    recorded_rungs = Counter(
        (t.architecture.digest, r.epochs) for t in recorded(tmp_path) for r in t.evaluation.rungs
    )
    again = Hands(tmp_path, count=2)
    engine = search(ELSEWHERE, tmp_path, again)
    check(ELSEWHERE, tmp_path, engine)
    assert not set(recorded_rungs) & set(again.done)
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        assert len(store.trials("s")) >= 6
