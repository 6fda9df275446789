"""The informed samplers `known-cost` and `mutate_front`: limits, repeats and running trials."""

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
from nas.sampling.known_cost import _History, known_cost
from nas.sampling.mutation import mutants, mutate_front
from nas.sampling.problem import Problem
from search_spaces.osa_detection import SPACE

ERROR = Objective(metric="error", reference=0.9)
MACS = Objective(metric="macs", reference=2e10)
LATENCY = Objective(metric="latency", reference=1.0)


def new_proposer(*objectives, make=known_cost, seed=0, informed=True):
    counts = {"counts": partial(totals, image_size=224, num_classes=10)} if informed else {}
    return Proposer(space=SPACE, objectives=objectives, make_sampler=make, seed=seed, **counts)


def trained(number, params, state=TrialState.COMPLETE):
    """Return a trial whose error falls with the MACs and whose latency is a nanosecond for each
    element moved.
    """
    network = SPACE.decode(params)
    counts = totals(network, 224, 10)
    error = min(0.95, 0.1 + 2.0 / (counts["macs"] / 1e6) ** 0.35)
    latency = counts["memory_access_cost"] * 1e-9
    figures = {
        **{name: Measurement.counted(name, "1", value) for name, value in counts.items()},
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
    rung = Rung(epochs=1, metrics={"error": error})
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


def random_trials(length, seed=0):
    """Return trained trials of random networks."""
    chance = random.Random(seed)
    return [
        trained(n, {c.name: chance.choice(c.values) for c in SPACE.choices}) for n in range(length)
    ]


def search(proposer, length):
    """Return the trials of a search of this length."""
    trials = []
    for _ in range(length):
        number, params, _ = proposer.ask()
        trials.append(trained(number, params))
        proposer.tell(trials[-1])
    return trials


def test_known_cost_is_the_default_sampler():
    """The page of the study file says the same."""
    spec = StudySpec(name="s", space="osa_tiny", objectives=(ERROR,))
    assert plugins.load("nas.samplers", spec.sampler) is known_cost
    assert (
        "| `sampler` | `known-cost` |"
        in (Path(__file__).parents[2] / "docs" / "study-file.md").read_text()
    )


def test_totals_are_counts():
    """Cached counts of blocks and counts of single layers sum to the same integers."""
    for trial in random_trials(40):
        whole = count(trial.architecture, 224, 10)
        assert totals(trial.architecture, 224, 10) == {
            "parameters": whole.parameters,
            "macs": whole.macs,
            "memory_access_cost": whole.memory_access_cost,
        }


def test_it_proposes_new_networks_with_four_costs():
    """Such as two of each of two devices."""
    costs = [
        Objective(metric="parameters", reference=1e8),
        Objective(metric="memory_access_cost", reference=1e9),
    ]
    trials = search(new_proposer(ERROR, MACS, LATENCY, *costs), 12)
    assert len({trial.architecture.digest for trial in trials}) == 12


def test_the_first_trials_are_those_of_random():
    """They have the same seed, also if no cost can be counted. Therefore a comparison begins at the
    same point, at which the sampler is never behind.
    """
    proposer, other = new_proposer(ERROR, MACS), new_proposer(ERROR, MACS, make=samplers.random)
    first = known_cost_module.INITIAL_TRIALS
    assert [new_proposer(ERROR, LATENCY, informed=False).ask()[1]] == [other.ask()[1]]
    other = new_proposer(ERROR, MACS, make=samplers.random)
    assert [proposer.ask()[1] for _ in range(first)] == [other.ask()[1] for _ in range(first)]


@pytest.mark.parametrize("seed", range(3))
def test_an_initial_trial_that_cannot_gain_hypervolume_is_replaced(seed):
    """Networks of `random` that cost less than the reference stay. Others are replaced by networks
    that do. A limit matters more than a reference.
    """
    costly = replace(MACS, reference=2e9)
    proposer = new_proposer(ERROR, costly, seed=seed)
    other = new_proposer(ERROR, MACS, make=samplers.random, seed=seed)
    first, usual = (
        [each.ask()[1] for _ in range(known_cost_module.INITIAL_TRIALS)]
        for each in (proposer, other)
    )
    macs, before = (
        [totals(SPACE.decode(params), 224, 10)["macs"] for params in each]
        for each in (first, usual)
    )
    assert max(macs) < 2e9 < max(before)
    assert [params for params, cost in zip(first, before, strict=True) if cost < 2e9] == [
        params for params, cost in zip(usual, before, strict=True) if cost < 2e9
    ]
    unlike = new_proposer(ERROR, replace(costly, reference=1e3, limit=2e9), seed=seed).ask()[1]
    assert totals(SPACE.decode(unlike), 224, 10)["macs"] <= 2e9


def test_errors_beyond_the_reference_keep_their_order_and_lose_their_distance():
    """Errors within the reference stay as they are. If none is within it, the order remains."""
    errors = np.log([0.1, 0.2, 0.4, 0.5, 0.9, 9.0])
    compressed = known_cost_module._compressed(errors, np.log(0.4))
    assert compressed[:3].tolist() == errors[:3].tolist()
    assert (np.diff(compressed) > 0).all()
    assert compressed[4] - compressed[2] < 0.75 * (errors[4] - errors[2])
    assert compressed[5] - compressed[2] < 0.5 * (errors[5] - errors[2])
    worse = known_cost_module._compressed(errors, np.log(0.05))
    assert (np.diff(worse) > 0).all()
    assert np.ptp(worse) < 0.01


@pytest.mark.parametrize("done", [0, 20])
def test_no_proposal_is_over_the_limit_of_a_counted_cost(done):
    """This holds from the first trial on."""
    limited = replace(MACS, limit=1.0e9)
    proposer = new_proposer(ERROR, limited)
    proposer.rebuild(random_trials(done))
    proposed = [proposer.ask()[1] for _ in range(6)]
    assert max(totals(SPACE.decode(params), 224, 10)["macs"] for params in proposed) <= 1.0e9


def test_no_proposal_repeats_a_finished_or_running_network():
    """Six networks are proposed at once after thirty trials."""
    proposer = new_proposer(ERROR, MACS)
    done = random_trials(30)
    proposer.rebuild(done)
    digests = [SPACE.decode(proposer.ask()[1]).digest for _ in range(6)]
    assert len({*digests, *(t.architecture.digest for t in done)}) == 36


def test_a_running_trial_makes_the_model_more_certain_and_leaves_its_mean():
    """The deviation at its network falls, and its predicted losses count for the front."""
    proposer = new_proposer(ERROR, MACS)
    proposer.rebuild(random_trials(30))
    before = _History(proposer._problem, proposer._study.get_trials())
    params = proposer.ask()[1]
    after = _History(proposer._problem, proposer._study.get_trials())
    here = after.vectors[-1:]
    assert proposer._problem.params(here[0]) == params
    at = after.encode(here)
    (mean, deviation), (mean_then, deviation_then) = (
        before._model.predict(at),
        after._model.predict(at),
    )
    assert mean_then == pytest.approx(mean, rel=1e-3)
    assert deviation_then < 0.8 * deviation
    assert here[0].tolist() in after.front[0].tolist()


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_noisy_trainings_give_a_front_of_posterior_means(noise):
    """The means are closer to the true errors than single trainings are. Without noise the front is
    computed from the observed errors.
    """
    chance, observed, true = random.Random(2), [], []
    common, varied = (
        random_trials(1, seed=2)[0].params,
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
        rung = replace(
            trial.evaluation.rungs[0],
            metrics={"error": math.exp(true[-1] + chance.gauss(0, noise))},
        )
        observed.append(replace(trial, evaluation=replace(trial.evaluation, rungs=(rung,))))
    proposer = new_proposer(ERROR, MACS)
    proposer.rebuild(observed)
    history = _History(proposer._problem, proposer._study.get_trials())
    networks, losses = history.front
    of_front = [history.vectors.tolist().index(network) for network in networks.tolist()]
    seen = np.log([observed[i].evaluation.value("error") for i in of_front])
    assert len(networks) > 2
    if noise:
        assert losses[:, 0] == pytest.approx(history._model.mean(history.encode(networks)))
        right = np.array(true)[of_front]
        assert np.abs(losses[:, 0] - right).mean() < 0.1 < np.abs(seen - right).mean()
    else:
        assert losses[:, 0] == pytest.approx(seen)


def test_a_long_history_is_reduced_to_the_front_and_the_newest_trials(monkeypatch):
    """The model has at most `MAX_MODEL_POINTS` points, and each member of the front is one."""
    proposer = new_proposer(ERROR, LATENCY)
    proposer.rebuild(random_trials(60))
    monkeypatch.setattr(known_cost_module, "MAX_MODEL_POINTS", 20)
    history = _History(proposer._problem, proposer._study.get_trials())
    points = history._model.inputs.tolist()
    assert len(points) == 20
    front = history.encode(history.front[0]).tolist()
    assert 1 < len(front) < 20
    assert all(member in points for member in front)
    newest = history.encode(history.vectors[-(20 - len(front)) :]).tolist()
    assert all(member in points for member in newest)


@pytest.mark.parametrize(
    "objectives", [(ERROR, MACS), (ERROR, LATENCY), (ERROR, MACS, LATENCY), (ERROR,), (MACS,)]
)
def test_a_sampler_rebuilt_from_the_record_proposes_the_same(objectives):
    """The costs are counted, measured, or absent, and two trials are running."""
    proposer = new_proposer(*objectives)
    trials = search(proposer, 14)
    running = [
        trained(number, params, TrialState.RUNNING)
        for number, params, _ in (proposer.ask(), proposer.ask())
    ]
    other = new_proposer(*objectives)
    other.rebuild([*trials, *running])
    assert other.ask()[:2] == proposer.ask()[:2]


def test_measured_costs_are_learned():
    """After 40 trials nearly all proposals are within a latency limit that half of all networks
    break.
    """
    latencies = sorted(t.evaluation.value("latency") for t in random_trials(200, seed=1))
    limited = replace(LATENCY, limit=latencies[100])
    proposer = new_proposer(ERROR, limited)
    proposer.rebuild(random_trials(40))
    within = [t for t in search(proposer, 10) if t.evaluation.value("latency") <= limited.limit]
    assert len(within) >= 9


def at_latency(trial, times):
    """Return the trial as it is when it was measured, with `times` its latency."""
    figure = trial.evaluation.measurements["latency"]
    slow = {end: getattr(figure, end) * times for end in ("value", "ci_low", "ci_high")}
    figures = {**trial.evaluation.measurements, "latency": replace(figure, **slow)}
    return replace(trial, state=TrialState.RUNNING, evaluation=Evaluation(measurements=figures))


def test_a_network_that_is_slower_than_predicted_is_skipped():
    """A network that is as fast as predicted is not skipped. At most two are skipped in a row."""
    proposer = new_proposer(ERROR, LATENCY)
    proposer.rebuild(random_trials(30))
    for skipped in (True, True, False):
        number, params, _ = proposer.ask()
        trial = trained(number, params)
        assert not proposer.skips(at_latency(trial, 1.0))
        assert not proposer.skips(at_latency(trial, 0.5))
        slow = at_latency(trial, 20.0)
        assert proposer.skips(slow) is skipped
        proposer.tell(replace(slow, state=TrialState.STOPPED) if skipped else trial)


def test_a_network_is_skipped_only_because_of_a_measured_cost(monkeypatch):
    """No network is skipped by an uninformed sampler, for counted costs, before there is a model,
    if few candidates are left, or if no other candidate is expected to be within the limits.
    """

    def skips(*objectives, make=known_cost, length=30, times=20.0):
        proposer = new_proposer(*objectives, make=make)
        proposer.rebuild(
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
                for t in random_trials(length)
            ]
        )
        number, params, _ = proposer.ask()
        return proposer.skips(at_latency(trained(number, params), times))

    assert skips(ERROR, LATENCY)
    assert not skips(ERROR, LATENCY, make=samplers.tpe)
    assert not skips(ERROR, LATENCY, make=mutate_front)
    assert not skips(ERROR, MACS)
    assert not skips(LATENCY)
    assert not skips(ERROR, LATENCY, length=3)
    assert not skips(ERROR, LATENCY, Objective(metric="late"))
    assert not skips(ERROR, replace(LATENCY, limit=1e-9), times=1e-9)
    monkeypatch.setattr(known_cost_module, "MIN_OTHER_CANDIDATES", 2000)
    assert not skips(ERROR, LATENCY)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_tight_limit_of_a_measured_cost_is_met_before_anything_was_trained(seed):
    """One network of two hundred is within the limit, but half of forty proposals are. The others
    are not trained.
    """
    latencies = sorted(t.evaluation.value("latency") for t in random_trials(1000, seed=1))
    limited = replace(LATENCY, limit=latencies[5])
    proposer, within = new_proposer(ERROR, limited, seed=seed), 0
    for _ in range(40):
        number, params, _ = proposer.ask()
        trial = trained(number, params)
        beyond = trial.evaluation.value("latency") > limited.limit
        within += not beyond
        proposer.tell(
            replace(trial, state=TrialState.STOPPED, evaluation=replace(trial.evaluation, rungs=()))
            if beyond
            else trial
        )
    assert within >= 20


def test_a_stopped_trial_is_extrapolated_with_a_larger_variance():
    """Errors halve from the first rung to the last, more or less. At a stopped trial the model
    predicts half of its error, with a larger deviation than at a complete trial.
    """

    def at_rungs(trial, errors, state):
        rungs = tuple(
            Rung(epochs=n + 1, metrics={"error": error}) for n, error in enumerate(errors)
        )
        return replace(trial, state=state, evaluation=replace(trial.evaluation, rungs=rungs))

    *done, last = random_trials(31)
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
        proposer = new_proposer(ERROR, MACS)
        proposer.rebuild([*done, at_rungs(last, errors, state)])
        history = _History(proposer._problem, proposer._study.get_trials())
        seen[errors] = [
            float(each[0]) for each in history._model.predict(history.encode(history.vectors[-1:]))
        ]
        assert (len(history._observed[0]) == 31) is (state is complete)
    (high, unsure), (low, _), (ended, sure) = seen.values()
    assert math.exp(high) == pytest.approx(0.4, rel=0.1)
    assert math.exp(low) == pytest.approx(0.1, rel=0.1)
    assert math.exp(ended) == pytest.approx(0.4, rel=0.1)
    assert unsure > 1.1 * sure


def test_mutants_differ_in_one_to_three_choices():
    """Every mutant differs from its parent."""
    problem = new_proposer(ERROR, MACS)._problem
    parent = problem.sample[:1]
    changed = (mutants(problem, parent, 300, np.random.default_rng(0)) != parent).sum(axis=1)
    assert set(changed.tolist()) == {1, 2, 3}


def test_mutate_front_proposes_neighbours_of_the_front():
    """At most three choices differ from a member of the front."""
    proposer = new_proposer(ERROR, MACS, make=mutate_front, informed=False)
    trials = random_trials(30)
    proposer.rebuild(trials)
    _, params, _ = proposer.ask()
    assert min(sum(params[name] != t.params[name] for name in params) for t in trials) <= 3


def test_the_hyperparameters_depend_only_on_the_points():
    """They are the same if they are fitted after every point or for the first time after sixty, and
    are fitted again only at some numbers of points.
    """
    rng = np.random.default_rng(0)
    inputs, columns = rng.random((60, 3)), Columns(np.arange(3), np.full(3, -1))
    outputs = np.sin(5 * inputs[:, 0]) + inputs[:, 1] + 0.05 * rng.normal(size=60)

    def fitted(count):
        parameters = surrogate.posterior(inputs[:count], outputs[:count], columns).hyperparameters
        return (*parameters.lengths, parameters.signal, parameters.linear, parameters.noise)

    fits = [fitted(count) for count in range(20, 61)]
    surrogate._cached_fit.cache_clear()
    assert fitted(60) == fits[-1]
    assert len(set(fits)) == len([n for n in surrogate.REFITS if 20 <= n <= 60])


def test_few_ordered_values_are_more_similar_the_fewer_steps_lie_between_them():
    """The squared distance of four ordered values is a third for each step. That of two unordered
    values is one.
    """
    choices = (Choice(name="width", values=(8, 16, 32, 64)), Choice(name="kind", values=("a", "b")))
    problem = Problem(
        choices=choices, objectives=(), distributions={}, identify=str, counts=lambda _: {}
    )
    at = surrogate.Encoder(problem)(np.array([[0, 0], [1, 0], [3, 0], [0, 1]]))
    assert ((at - at[0]) ** 2).sum(axis=1) == pytest.approx([0, 1 / 3, 1, 1])


def test_the_number_of_times_that_a_value_occurs_is_an_input_if_choices_share_their_values():
    """Two of three choices have the same operations. These add a column for each operation, with a
    length scale for their group and one for each operation wherever it stands.
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
