"""Whether a search should train some networks twice, on tables of trained networks.

    python studies/noisy-trainings/run.py TABLE --table-format channel-bench --noise 2 -o rows.csv

Each training is the table's mean error plus normal noise: the deviation of the table's seeds, times
`--noise`. Every arm searches with the same seeds. After 25, 50, 100 and 200 trainings, of which the
last share goes to new seeds of the front's members, the front is reported, and its hypervolume by
the table's means is one row of the output.
"""

import argparse
import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from nas.analysis.posterior import posterior_means
from nas.bench.tables import FORMATS, Table, read_table
from nas.core.dominance import ranks
from nas.core.seeds import derived_seed
from nas.sampling.improvement import expected_improvement
from nas.sampling.known_cost import MIN_ERROR, KnownCost, _History, _with_errors
from nas.sampling.mutation import first_new
from nas.sampling.problem import Problem, Vectors

Array = NDArray[np.float64]
Network = tuple[int, ...]

BUDGETS = (25, 50, 100, 200)
SHARES = (0.0, 0.1, 0.2, 0.3)
"""Shares of the trainings that go to new seeds of the front's members, once the search is over."""
ARMS = ("once", "by gain", "every fourth")
"""Each network is trained once; another seed of a trained network is a candidate like a new
network, by the same expected gain; every fourth training, from the twentieth on, is the other seed
with the largest gain.
"""
REPORTS = ("first", "seeds", "model")
"""The front of the first trainings; that of `nas front`, which are posterior means with a prior by
size (`nas.analysis.posterior`); and that of the sampler's model.
"""


class Repeating(_History):
    """The models of `known-cost` with every training of a network as a point of its own."""

    @cached_property
    def _observed(self) -> tuple[list[int], Array, Array]:
        name = self._metric.name
        complete = [i for i, figures in enumerate(self._figures) if name in figures]
        errors = np.log([max(self._figures[i][name], MIN_ERROR) for i in complete])
        losses = [[o.loss(self._figures[i][o.key]) for o in self._costs] for i in complete]
        return complete, errors, np.array(losses)

    @cached_property
    def trained(self) -> tuple[Vectors, Array, Array]:
        """Trained networks, each once; their losses with the posterior mean of the log-error; and
        how much one more training is expected to move that mean.
        """
        first: dict[Network, int] = {}
        for i in self._observed[0]:
            first.setdefault(tuple(self.vectors[i].tolist()), i)
        rows = list(first.values())
        costs = [[o.loss(self._figures[i][o.key]) for o in self._costs] for i in rows]
        means, deviations = self._model.predict(self.encode(self.vectors[rows]))
        points = np.column_stack([means, np.array(costs)])
        return self.vectors[rows], points, self._moves(deviations)

    def _moves(self, deviations: Array) -> Array:
        """Return the deviation of the posterior mean after one more training."""
        scale = self._model._posterior[3]  # noqa: SLF001 - the deviation of the outputs
        noise = math.exp(self._model.hyperparameters.noise) * scale**2
        return deviations**2 / np.sqrt(deviations**2 + noise)

    @cached_property
    def front(self) -> tuple[Vectors, Array]:
        """Networks of the front and their losses, by posterior means if trainings are noisy."""
        if not self._is_noisy:
            return super().front
        vectors, points, _ = self.trained
        inside = (points < self.reference).all(axis=1)
        if inside.any():
            vectors, points = vectors[inside], points[inside]
        on_front = ranks(points) == 0
        return vectors[on_front], points[on_front]

    def _gains(self, inputs: Array, losses: Array) -> tuple[Array, Array]:
        if not self._is_noisy:
            return super()._gains(inputs, losses)
        means, deviations = self._model.predict(inputs)
        return means, self._improvement(means, self._moves(deviations), losses, self.front[1])

    def _improvement(self, means: Array, moves: Array, costs: Array, front: Array) -> Array:
        return expected_improvement(
            mean=means,
            deviation=moves,
            costs=costs,
            front=_with_errors(front),
            reference=_with_errors(self.reference),
        )

    def best_repeat(self) -> tuple[Vectors, float]:
        """Return the trained network whose next training gains most, and that gain.

        The gain of a member of the front is what its new mean is expected to add to the other
        members, less what its present mean adds.
        """
        vectors, points, moves = self.trained
        members, front = self.front
        gains = self._improvement(points[:, 0], moves, points[:, 1:], front)
        places = {tuple(member): k for k, member in enumerate(members.tolist())}
        for i, vector in enumerate(map(tuple, vectors.tolist())):
            if vector in places:
                others = np.delete(front, places[vector], axis=0)
                after, now = self._improvement(
                    points[[i, i], 0], np.array([moves[i], 1e-9]), points[[i, i], 1:], others
                )
                gains[i] = after - now
        best = int(gains.argmax())
        return vectors[best], float(gains[best])


def proposed(problem: Problem, trials: Sequence[FrozenTrial], seed: int, arm: str) -> Vectors:
    """Return the next network to train, (d,)."""
    sampler = KnownCost(seed)
    sampler.problem = problem
    history = Repeating(problem, trials)
    if arm == "once" or not history.has_models:
        return sampler.propose(trials)
    if arm == "every fourth":
        if len(trials) >= 20 and len(trials) % 4 == 0:
            return history.best_repeat()[0]
        return sampler.propose(trials)
    new = first_new(problem, history.ranked(history.candidates(sampler.rng)), history.vectors)
    if new is None or not history._is_noisy:  # noqa: SLF001 - part of this study
        return sampler.propose(trials)
    repeat, gain = history.best_repeat()
    costs = {name: float(cost[0]) for name, cost in problem.counted(new[None]).items()}
    return repeat if gain > history.gain(new, costs) else new


def reported(
    table: Table, problem: Problem, trained: Sequence[tuple[Network, float]], how: str
) -> list[Network]:
    """Return the members of the front that this report shows."""
    seeds: dict[Network, list[float]] = {}
    for network, error in trained:
        seeds.setdefault(network, []).append(error)
    networks = list(seeds)
    costs = np.array([table.costs_of(network) for network in networks])
    errors = np.array([values[0] for values in seeds.values()])
    if how == "seeds":
        posterior = posterior_means(errors, [values[1:] for values in seeds.values()], costs)
        errors = errors if posterior is None else posterior[0]
    elif how == "model":
        history = Repeating(problem, [trial(table, problem, *each) for each in trained])
        errors = np.exp(history._model.mean(history.encode(np.array(networks))))  # noqa: SLF001
    on_front = ranks(np.column_stack([errors, costs])) == 0
    return [network for network, member in zip(networks, on_front, strict=True) if member]


def trial(table: Table, problem: Problem, network: Network, error: float) -> FrozenTrial:
    """Return a training as the sampler sees it."""
    return optuna.trial.create_trial(
        params=problem.relative(np.array(network)),
        distributions=dict(problem.distributions),
        values=[error, *table.costs_of(network).tolist()],
    )


def searched(table: Table, deviation: float, seed: int, arm: str) -> Iterator[Mapping[str, object]]:
    """Yield the rows of one search."""
    problem = table.problem(with_reference=True)
    chance = np.random.default_rng([seed, 77])
    trained: list[tuple[Network, float]] = []
    trials: list[FrozenTrial] = []
    marks = [(budget, share) for budget in BUDGETS for share in SHARES]

    def training(network: Network, draws: np.random.Generator) -> tuple[Network, float]:
        error = table.errors_of(network).mean() + deviation * draws.normal()
        return network, max(float(error), 1e-3)

    while len(trained) < max(BUDGETS):
        proposal = proposed(problem, trials, derived_seed("contest", seed, len(trained)), arm)
        trained.append(training(table.canonical(tuple(proposal.tolist())), chance))
        trials.append(trial(table, problem, *trained[-1]))
        for budget, share in marks:
            if round(budget * (1 - share)) != len(trained):
                continue
            first = dict(reversed(trained))
            members = reported(table, problem, trained, "first" if arm == "once" else "model")
            inside = [member for member in members if first[member] < table.reference[0]] or members
            inside.sort(key=first.__getitem__)
            draws = np.random.default_rng([seed, budget, 5])
            fresh = [training(inside[j % len(inside)], draws) for j in range(budget - len(trained))]
            for how in REPORTS:
                front = reported(table, problem, [*trained, *fresh], how)
                yield {
                    "table": table.name,
                    "arm": arm,
                    "seed": seed,
                    "trainings": budget,
                    "fresh": share,
                    "report": how,
                    "hypervolume": round(table.hypervolume(front), 5),
                    "repeats": len(trained) - len(first),
                }


def main() -> None:
    """Search with every arm and every seed, and write the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path, metavar="TABLE")
    parser.add_argument("--table-format", choices=sorted(FORMATS), required=True)
    parser.add_argument("--noise", type=float, default=1.0, help="times the seeds' deviation")
    parser.add_argument("--seeds", type=int, default=30, help="number of seeds, from 2000 on")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    table = read_table(options.table, options.table_format)
    deviation = options.noise * math.sqrt(table.errors.var(axis=1, ddof=1).mean())
    rows = [
        {"noise": options.noise, **row}
        for arm in ARMS
        for seed in range(2000, 2000 + options.seeds)
        for row in searched(table, deviation, seed, arm)
    ]
    with options.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
