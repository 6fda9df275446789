"""The samplers that know the problem: limits, repeats, running trials."""

import math
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from nas.core import plugins
from nas.core.complexity import count, totals
from nas.core.measurement import Kind, Measurement
from nas.core.search_space import Choice
from nas.core.study import Objective, StudySpec
from nas.core.trial import Evaluation, Rung, Trial, TrialState
from nas.sampling import Proposer, samplers, surrogate
from nas.sampling import known_cost as known_cost_module
from nas.sampling.gaussian_process import Columns
from nas.sampling.known_cost import _Knowledge, known_cost
from nas.sampling.mutation import mutants, mutate_front
from nas.sampling.problem import Problem
from search_spaces.osa_detection import SPACE

ERROR = Objective(metric="error", reference=0.9)
MACS = Objective(metric="macs", reference=2e10)
LATENCY = Objective(metric="latency", reference=1.0)


def proposer(*objectives, make=known_cost, seed=0, informed=True):
    counts = {"counts": partial(totals, image_size=224, num_classes=10)} if informed else {}
    return Proposer(space=SPACE, objectives=objectives, make_sampler=make, seed=seed, **counts)


def trained(number, params, state=TrialState.COMPLETE):
    """A trial with an error that falls with the MACs and a latency of a nanosecond per element
    moved.
    """
    network = SPACE.decode(params)
    counts = totals(network, 224, 10)
    error = min(0.95, 0.1 + 2.0 / (counts["macs"] / 1e6) ** 0.35)
    latency = counts["memory_access_cost"] * 1e-9
    figures = {
        "macs": Measurement.counted("macs", "1", counts["macs"]),
        "latency": Measurement(
            metric="latency",
            unit="s",
            value=latency,
            ci_low=latency,
            ci_high=latency,
            kind=Kind.MODELLED,
            method="arithmetic",
        ),
    }
    rung = Rung(epochs=1, error=error, train_loss=1.0, images=1, train_s=0, validation_s=0)
    evaluation = (
        Evaluation()
        if state is TrialState.RUNNING
        else Evaluation(measurements=figures, rungs=(rung,))
    )
    return Trial(
        number=number,
        params=params,
        architecture=network,
        seed=0,
        state=state,
        evaluation=evaluation,
    )


def records(length, seed=0):
    chance = random.Random(seed)
    return [
        trained(n, {c.name: chance.choice(c.values) for c in SPACE.choices}) for n in range(length)
    ]


def searched(found, length):
    """The architectures of a search of this length."""
    trials = []
    for _ in range(length):
        number, params, _ = found.ask()
        trials.append(trained(number, params))
        found.tell(trials[-1])
    return trials


def test_a_study_that_names_no_sampler_has_this_one():
    """And as the page of the study file says."""
    spec = StudySpec(name="s", space="osa_tiny", objectives=(ERROR,))
    assert plugins.load("nas.samplers", spec.sampler) is known_cost
    assert (
        "| `sampler` | `known-cost` |"
        in (Path(__file__).parents[2] / "docs" / "study-file.md").read_text()
    )


def test_totals_are_counts():
    """Block by block from memory, or layer by layer: the same integers."""
    for trial in records(40):
        whole = count(trial.architecture, 224, 10)
        assert totals(trial.architecture, 224, 10) == {
            "parameters": whole.parameters,
            "macs": whole.macs,
            "memory_access_cost": whole.memory_access_cost,
        }


def test_the_first_trials_are_those_of_random():
    """With the same seed, also where no cost can be counted: so a comparison begins at the same
    point, and the sampler is never behind there.
    """
    found, other = proposer(ERROR, MACS), proposer(ERROR, MACS, make=samplers.random)
    first = known_cost_module.FIRST
    assert [proposer(ERROR, LATENCY, informed=False).ask()[1]] == [other.ask()[1]]
    other = proposer(ERROR, MACS, make=samplers.random)
    assert [found.ask()[1] for _ in range(first)] == [other.ask()[1] for _ in range(first)]


@pytest.mark.parametrize("seed", range(3))
def test_a_first_trial_from_which_nothing_can_be_gained_is_replaced(seed):
    """Those of `random` that cost less than the reference stay, others are networks that do; a
    limit comes first.
    """
    costly, other = (
        replace(MACS, reference=2e9),
        proposer(ERROR, MACS, make=samplers.random, seed=seed),
    )
    found = proposer(ERROR, costly, seed=seed)
    first, usual = (
        [each.ask()[1] for _ in range(known_cost_module.FIRST)] for each in (found, other)
    )
    macs, before = (
        [totals(SPACE.decode(params), 224, 10)["macs"] for params in each]
        for each in (first, usual)
    )
    assert max(macs) < 2e9 < max(before)
    assert [params for params, cost in zip(first, before, strict=True) if cost < 2e9] == [
        params for params, cost in zip(usual, before, strict=True) if cost < 2e9
    ]
    unlike = proposer(ERROR, replace(costly, reference=1e3, limit=2e9), seed=seed).ask()[1]
    assert totals(SPACE.decode(unlike), 224, 10)["macs"] <= 2e9


def test_errors_beyond_the_reference_keep_their_order_and_lose_their_distance():
    """Those within it are told as they are; where none is, the order is left."""
    errors = np.log([0.1, 0.2, 0.4, 0.5, 0.9, 9.0])
    told = known_cost_module._compressed(errors, np.log(0.4))
    assert told[:3].tolist() == errors[:3].tolist()
    assert (np.diff(told) > 0).all()
    assert told[4] - told[2] < 0.75 * (errors[4] - errors[2])
    assert told[5] - told[2] < 0.5 * (errors[5] - errors[2])
    worse = known_cost_module._compressed(errors, np.log(0.05))
    assert (np.diff(worse) > 0).all()
    assert np.ptp(worse) < 0.01


@pytest.mark.parametrize("done", [0, 20])
def test_no_proposal_is_beyond_a_limit_that_can_be_counted(done):
    """From the first trial on."""
    limited = replace(MACS, limit=1.0e9)
    found = proposer(ERROR, limited)
    found.rebuild(records(done))
    proposed = [found.ask()[1] for _ in range(6)]
    assert max(totals(SPACE.decode(params), 224, 10)["macs"] for params in proposed) <= 1.0e9


def test_no_proposal_repeats_a_network_that_is_known_or_running():
    """Six proposals at once after thirty trials."""
    found = proposer(ERROR, MACS)
    done = records(30)
    found.rebuild(done)
    digests = [SPACE.decode(found.ask()[1]).digest for _ in range(6)]
    assert len({*digests, *(t.architecture.digest for t in done)}) == 36


def test_a_running_trial_makes_the_model_surer_but_not_better():
    """At its network the mean stays, the deviation falls, and its predicted losses count for the
    front.
    """
    found = proposer(ERROR, MACS)
    found.rebuild(records(30))
    before = _Knowledge(found._problem, found._study.get_trials())
    params = found.ask()[1]
    after = _Knowledge(found._problem, found._study.get_trials())
    here = after.vectors[-1:]
    assert found._problem.params(here[0]) == params
    at = after.encode(here)
    (mean, deviation), (mean_then, deviation_then) = (
        before._model.predict(at),
        after._model.predict(at),
    )
    assert mean_then == pytest.approx(mean, rel=1e-3)
    assert deviation_then < 0.8 * deviation
    assert here[0].tolist() in after.front[0].tolist()


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_where_trainings_are_noisy_the_front_is_of_posterior_means(noise):
    """Which are nearer to what is true of its networks than what one training of each gave; else of
    what was seen.
    """
    chance, observed, true = random.Random(2), [], []
    common, varied = (
        records(1, seed=2)[0].params,
        ("stem_mid", "depthwise", "stage2.mid_channels", "stage2.num_layers"),
    )
    for number in range(60):
        changed = {
            choice.name: chance.choice(choice.values)
            for choice in SPACE.choices
            if choice.name in varied
        }
        trial = trained(number, {**common, **changed})
        true.append(math.log(trial.evaluation.value("error")))
        rung = replace(trial.evaluation.rungs[0], error=math.exp(true[-1] + chance.gauss(0, noise)))
        observed.append(replace(trial, evaluation=replace(trial.evaluation, rungs=(rung,))))
    found = proposer(ERROR, MACS)
    found.rebuild(observed)
    known = _Knowledge(found._problem, found._study.get_trials())
    networks, losses = known.front
    of_front = [known.vectors.tolist().index(network) for network in networks.tolist()]
    seen = np.log([observed[i].evaluation.value("error") for i in of_front])
    assert len(networks) > 2
    if noise:
        assert losses[:, 0] == pytest.approx(known._model.mean(known.encode(networks)))
        right = np.array(true)[of_front]
        assert np.abs(losses[:, 0] - right).mean() < 0.1 < np.abs(seen - right).mean()
    else:
        assert losses[:, 0] == pytest.approx(seen)


def test_of_a_long_history_the_front_and_the_newest_trials_tell(monkeypatch):
    """The model has no more points than it may, and each member of the front is one."""
    found = proposer(ERROR, LATENCY)
    found.rebuild(records(60))
    monkeypatch.setattr(known_cost_module, "MOST", 20)
    known = _Knowledge(found._problem, found._study.get_trials())
    told = known._model.inputs.tolist()
    assert len(told) == 20
    front = known.encode(known.front[0]).tolist()
    assert 1 < len(front) < 20
    assert all(member in told for member in front)
    newest = known.encode(known.vectors[-(20 - len(front)) :]).tolist()
    assert all(member in told for member in newest)


@pytest.mark.parametrize(
    "objectives", [(ERROR, MACS), (ERROR, LATENCY), (ERROR, MACS, LATENCY), (ERROR,), (MACS,)]
)
def test_a_sampler_rebuilt_from_the_record_proposes_the_same(objectives):
    """With counted, measured and no costs; with two trials running."""
    found = proposer(*objectives)
    trials = searched(found, 14)
    running = [
        trained(number, params, TrialState.RUNNING)
        for number, params, _ in (found.ask(), found.ask())
    ]
    other = proposer(*objectives)
    other.rebuild([*trials, *running])
    assert other.ask()[:2] == found.ask()[:2]


def test_measured_costs_are_learned():
    """After 40 trials nearly all proposals keep a latency limit that half of all networks break."""
    latencies = sorted(t.evaluation.value("latency") for t in records(200, seed=1))
    limited = replace(LATENCY, limit=latencies[100])
    found = proposer(ERROR, limited)
    found.rebuild(records(40))
    within = [t for t in searched(found, 10) if t.evaluation.value("latency") <= limited.limit]
    assert len(within) >= 9


def at_latency(trial, times):
    """The trial as it is once it is measured, so many times as slow."""
    figure = trial.evaluation.measurements["latency"]
    slow = {end: getattr(figure, end) * times for end in ("value", "ci_low", "ci_high")}
    figures = {**trial.evaluation.measurements, "latency": replace(figure, **slow)}
    return replace(trial, state=TrialState.RUNNING, evaluation=Evaluation(measurements=figures))


def test_a_network_that_is_slower_than_predicted_is_passed_over():
    """Once it is measured, and not where it is as fast as was predicted; two in a row at most
    are.
    """
    found = proposer(ERROR, LATENCY)
    found.rebuild(records(30))
    for passed in (True, True, False):
        number, params, _ = found.ask()
        trial = trained(number, params)
        assert not found.skips(at_latency(trial, 1.0))
        assert not found.skips(at_latency(trial, 0.5))
        slow = at_latency(trial, 20.0)
        assert found.skips(slow) is passed
        found.tell(replace(slow, state=TrialState.STOPPED) if passed else trial)


def test_only_a_surprise_of_a_measurement_passes_a_network_over(monkeypatch):
    """Not a sampler that knows nothing, not counted costs, not before there is a model, not where
    few are left or no other is expected to keep a limit.
    """

    def asked(*objectives, make=known_cost, length=30, times=20.0):
        found = proposer(*objectives, make=make)
        found.rebuild(
            [
                replace(
                    t,
                    evaluation=replace(
                        t.evaluation,
                        measurements={
                            **t.evaluation.measurements,
                            "late": Measurement.counted("late", "1", 1 + t.number),
                        },
                    ),
                )
                for t in records(length)
            ]
        )
        number, params, _ = found.ask()
        return found.skips(at_latency(trained(number, params), times))

    assert asked(ERROR, LATENCY)
    assert not asked(ERROR, LATENCY, make=samplers.tpe)
    assert not asked(ERROR, LATENCY, make=mutate_front)
    assert not asked(ERROR, MACS)
    assert not asked(LATENCY)
    assert not asked(ERROR, LATENCY, length=3)
    assert not asked(ERROR, LATENCY, Objective(metric="late"))
    assert not asked(ERROR, replace(LATENCY, limit=1e-9), times=1e-9)
    monkeypatch.setattr(known_cost_module, "FEWEST", 2000)
    assert not asked(ERROR, LATENCY)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_measured_limit_that_few_keep_is_found_before_anything_was_trained(seed):
    """One network of two hundred is within it; of forty proposals half are, and no other was
    trained.
    """
    latencies = sorted(t.evaluation.value("latency") for t in records(1000, seed=1))
    limited = replace(LATENCY, limit=latencies[5])
    found, within = proposer(ERROR, limited, seed=seed), 0
    for _ in range(40):
        number, params, _ = found.ask()
        trial = trained(number, params)
        beyond = trial.evaluation.value("latency") > limited.limit
        within += not beyond
        found.tell(
            replace(trial, state=TrialState.STOPPED, evaluation=replace(trial.evaluation, rungs=()))
            if beyond
            else trial
        )
    assert within >= 20


def test_a_stopped_trial_counts_as_what_would_have_become_of_it_and_not_for_sure():
    """Errors halve from the first rung to the last, more or less. Where one trial was stopped the
    model expects half of its error, less surely than where a trial ended.
    """

    def at_rungs(trial, errors, state):
        rungs = tuple(
            Rung(epochs=n + 1, error=error, train_loss=1.0, images=1, train_s=0, validation_s=0)
            for n, error in enumerate(errors)
        )
        return replace(trial, state=state, evaluation=replace(trial.evaluation, rungs=rungs))

    *done, last = records(31)
    done = [
        at_rungs(
            trial, (2 * error * (0.99 if trial.number % 2 else 1.01), error), TrialState.COMPLETE
        )
        for trial in done
        if (error := trial.evaluation.value("error") / 2)
    ]
    seen = {}
    stopped, complete = TrialState.STOPPED, TrialState.COMPLETE
    for errors, state in (((0.8,), stopped), ((0.2,), stopped), ((0.8, 0.4), complete)):
        found = proposer(ERROR, MACS)
        found.rebuild([*done, at_rungs(last, errors, state)])
        known = _Knowledge(found._problem, found._study.get_trials())
        seen[errors] = [
            float(each[0]) for each in known._model.predict(known.encode(known.vectors[-1:]))
        ]
        assert (len(known._observed[0]) == 31) is (state is complete)
    (high, unsure), (low, _), (ended, sure) = seen.values()
    assert math.exp(high) == pytest.approx(0.4, rel=0.1)
    assert math.exp(low) == pytest.approx(0.1, rel=0.1)
    assert math.exp(ended) == pytest.approx(0.4, rel=0.1)
    assert unsure > 1.1 * sure


def test_mutants_differ_in_one_to_three_choices():
    """Never in none."""
    problem = proposer(ERROR, MACS)._problem
    parent = problem.sample[:1]
    changed = (mutants(problem, parent, 300, np.random.default_rng(0)) != parent).sum(axis=1)
    assert set(changed.tolist()) == {1, 2, 3}


def test_mutate_front_proposes_neighbours_of_the_front():
    """At most three choices away from one of its members."""
    found = proposer(ERROR, MACS, make=mutate_front, informed=False)
    trials = records(30)
    found.rebuild(trials)
    _, params, _ = found.ask()
    assert min(sum(params[name] != t.params[name] for name in params) for t in trials) <= 3


def test_what_a_model_has_learned_does_not_depend_on_what_was_asked_before():
    """Asked after every point or for the first time after sixty: the same hyperparameters, chosen
    anew now and then.
    """
    rng = np.random.default_rng(0)
    inputs, columns = rng.random((60, 3)), Columns(np.arange(3), np.full(3, -1))
    outputs = np.sin(5 * inputs[:, 0]) + inputs[:, 1] + 0.05 * rng.normal(size=60)

    def learned(count):
        known = surrogate.posterior(inputs[:count], outputs[:count], columns).hyperparameters
        return (*known.lengths, known.signal, known.linear, known.noise)

    found = [learned(count) for count in range(20, 61)]
    surrogate._remembered.cache_clear()
    assert learned(60) == found[-1]
    assert len(set(found)) == len([n for n in surrogate.REFITS if 20 <= n <= 60])


def test_few_ordered_values_are_the_more_alike_the_fewer_steps_lie_between_them():
    """Of four values the squared distance is a third for each step; of two without order it
    is one.
    """
    choices = (Choice(name="width", values=(8, 16, 32, 64)), Choice(name="kind", values=("a", "b")))
    problem = Problem(
        choices=choices, objectives=(), distributions={}, identify=str, counts=lambda _: {}
    )
    at = surrogate.Encoder(problem)(np.array([[0, 0], [1, 0], [3, 0], [0, 1]]))
    assert ((at - at[0]) ** 2).sum(axis=1) == pytest.approx([0, 1 / 3, 1, 1])


def test_how_often_a_value_occurs_is_an_input_where_choices_share_their_values():
    """Two of three choices have the same operations: a column for each operation, one length scale
    for all of them, and one for each operation wherever it is.
    """
    kinds = ("conv", "pool", "skip")
    choices = (
        Choice(name="a", values=kinds),
        Choice(name="b", values=(False, True)),
        Choice(name="c", values=kinds),
    )
    problem = Problem(
        choices=choices, objectives=(), distributions={}, identify=str, counts=lambda _: {}
    )
    encode = surrogate.Encoder(problem)
    at = encode(np.array([[0, 0, 0], [0, 0, 2], [2, 0, 0]]))
    assert at[:, -3:].tolist() == [[1, 0, 0], [0.5, 0, 0.5], [0.5, 0, 0.5]]
    assert encode.columns.groups.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3]
    assert encode.columns.values.tolist() == [0, 1, 2, -1, -1, 0, 1, 2, -1, -1, -1]
