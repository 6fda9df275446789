"""Contest on real CIFAR-10: the accuracy of the networks that searches find within a limit.

    python studies/within-a-limit/run.py --seeds 6 -o results

Every arm of `arms.yaml` searches with every seed, each with the same device seconds; all arms of a
seed on the same machine. Seeds run one after the other, each with all arms in an order of its own,
so that an interrupted contest is fair. The same command resumes, and a larger number adds seeds.
Other seeds can run elsewhere, and the results together are a table:

    python studies/within-a-limit/run.py --seeds 7-12 -o more
    python studies/within-a-limit/run.py --table results/searches.csv more/searches.csv

The limit on latency is that of the machine: three of a hundred random networks keep it. It is
measured once, before the first search, and kept in `results/limit.json`.

Then every network of every front is trained twice with new seeds and the rungs of `study.yaml`.
`results/searches.csv` has a row for each search: the network with the lowest searched error within
the limit, its mean error by the new seeds, and the hypervolume of the front by them. After six and
twelve seeds a table with the paired differences is printed.
"""

import argparse
import csv
import json
import random
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import click
import yaml

import nas
from nas.core.pareto import front
from nas.core.trial import Trial
from nas.record import Store
from nas.searching.profile import members, profile, space_of
from nas.searching.study_file import read_study

FOLDER = Path(__file__).parent
JUDGES = (101, 102)
"""The seeds of the studies that train all networks of the fronts again."""
NETWORKS = 100
"""Number of random networks by which the limit is set."""
KEPT = 3
"""How many of these networks keep the limit."""
GUESSING = 0.9
"""Error of a search that found no network within the limit."""

LOOKS = (6, 12)
"""Numbers of seeds after which the differences are printed unasked."""

Values = dict[str, Any]


def search(name: str, values: Values, results: Path) -> None:
    """Run or resume this search to its end."""
    file = results / f"{name}.yaml"
    file.write_text(yaml.safe_dump({**values, "name": name}, sort_keys=False), encoding="utf-8")
    found = nas.search(file, database=results / "nas.db")
    click.echo(f"{name}: {len(found.front())} networks on the front")


def limit_of(study: Path, results: Path) -> float:
    """Return the latency, in seconds, that `KEPT` of `NETWORKS` random networks keep here."""
    file = results / "limit.json"
    if not file.exists():
        spec = read_study(study)
        wanted = [each for each in members(space_of(spec), NETWORKS, seed=0) if not each.name]
        spec = replace(spec, objectives=tuple(o for o in spec.objectives if o.metric != "error"))
        key = spec.objectives[0].key
        costs = [each.evaluation.value(key) for each in profile(spec, wanted, study.parent)]
        if None in costs:
            sys.exit("a network could not be measured; is the machine idle?")
        ordered = sorted(cost for cost in costs if cost is not None)
        file.write_text(
            json.dumps({"limit": ordered[KEPT - 1], "costs": costs}) + "\n", encoding="utf-8"
        )
    return float(json.loads(file.read_text(encoding="utf-8"))["limit"])


def arms_of(study: Path, results: Path) -> dict[str, Values]:
    """Return the keys of the searches of each arm, without name and seed."""
    values = yaml.safe_load(study.read_text(encoding="utf-8"))
    error, cost = values["objectives"]
    values["objectives"] = [error, {**cost, "limit": limit_of(study, results)}]
    arms = yaml.safe_load((study.parent / "arms.yaml").read_text(encoding="utf-8"))
    return {name: {**values, **changes} for name, changes in arms.items()}


def judge(names: Sequence[str], template: Values, results: Path) -> None:
    """Train all networks of the fronts of these searches with new seeds."""
    networks: dict[str, str] = {}
    with Store.open(results / "nas.db", read_only=True) as store:
        for name in names:
            for trial in on_front(store, name):
                networks.setdefault(trial.architecture.digest, f"{name}:{trial.number}")
    if not networks:
        return
    counted = [template["objectives"][0], {"metric": "macs", "reference": 1e12}]
    for seed in JUDGES:
        values = {
            **template,
            "objectives": counted,
            "sampler": "random",
            "seed": seed,
            "first": list(networks.values()),
            "budget": {"trials": len(networks), "certify": False, "fresh": 0},
        }
        search(f"judge-{seed}", values, results)


def on_front(store: Store, name: str) -> list[Trial]:
    """Return the members of the last front of a search."""
    trials = store.trials(name)
    numbers = set(front(trials, store.study(name).spec.objectives).members)
    return [trial for trial in trials if trial.number in numbers]


def judged(store: Store) -> dict[str, float]:
    """Return the mean error by the new seeds of each network that has all of them, by digest."""
    errors: dict[str, list[float]] = {}
    for seed in JUDGES:
        for trial in store.trials(f"judge-{seed}"):
            value = trial.evaluation.value("error")
            if value is not None and trial.duplicate_of is None:
                errors.setdefault(trial.architecture.digest, []).append(value)
    return {
        digest: statistics.fmean(values)
        for digest, values in errors.items()
        if len(values) == len(JUDGES)
    }


def outcomes(arms: Sequence[str], seeds: Sequence[int], store: Store) -> Iterator[Values]:
    """Yield a row for each search."""
    errors = judged(store) if store.find_study(f"judge-{JUDGES[0]}") else {}
    for seed in seeds:
        for arm in arms:
            name = f"{arm}-{seed}"
            record, trials = store.study(name), store.trials(name)
            error, cost = record.spec.objectives
            found = on_front(store, name)
            best = min(
                found, key=lambda trial: trial.evaluation.value("error") or 1.0, default=None
            )
            yield {
                "arm": arm,
                "seed": seed,
                "proposed": len(trials),
                "trained": sum(bool(trial.evaluation.rungs) for trial in trials),
                "front": len(found),
                "limit": cost.limit,
                "cost": best.evaluation.value(cost.key) if best else None,
                "searched": best.evaluation.value("error") if best else None,
                "judged": errors[best.architecture.digest] if best else GUESSING,
                "hypervolume": hypervolume(
                    [
                        (errors[trial.architecture.digest], trial.evaluation.value(cost.key) or 0.0)
                        for trial in found
                    ],
                    (error.reference or 1.0, cost.limit or 0.0),
                ),
            }


def hypervolume(points: Sequence[tuple[float, float]], corner: tuple[float, float]) -> float:
    """Return the share of the rectangle below the corner that the points dominate."""
    area, worst = 0.0, corner[0]
    for cost, error in sorted((cost, error) for error, cost in points):
        if error < worst and cost < corner[1]:
            area += (worst - error) * (corner[1] - cost)
            worst = error
    return area / (corner[0] * corner[1])


def write(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Write the rows as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def table(rows: Sequence[Values], arms: Sequence[str]) -> Iterator[str]:
    """Yield lines: the mean of each arm and each seed, then the paired differences of all arms."""
    of = {arm: [row for row in rows if row["arm"] == arm] for arm in arms}
    yield "arm | trained | error by new seeds, % | hypervolume by new seeds, %"
    for arm, own in of.items():
        trained = ", ".join(str(row["trained"]) for row in own)
        cells = [cell([100 * row[key] for row in own]) for key in ("judged", "hypervolume")]
        yield f"{arm} | {trained} | {' | '.join(cells)}"
    yield "difference | error, points | hypervolume, points"
    for first, second in combinations(arms, 2):
        pairs = list(zip(of[first], of[second], strict=True))
        cells = [
            difference([100 * (one[key] - other[key]) for one, other in pairs])
            for key in ("judged", "hypervolume")
        ]
        yield f"{first} - {second} | {' | '.join(cells)}"


def cell(values: Sequence[float]) -> str:
    """Format the mean and each value."""
    return f"{statistics.fmean(values):.2f} ({', '.join(f'{value:.2f}' for value in values)})"


def difference(values: Sequence[float]) -> str:
    """Format the mean, and with several values its standard error."""
    if len(values) < 2:
        return f"{values[0]:.2f}"
    error = statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.fmean(values):.2f} ± {error:.2f}"


def seeds_of(text: str) -> range:
    """Return the seeds of `6`, which is `1-6`, or of `7-12`."""
    first, _, last = text.rpartition("-")
    seeds = range(int(first or 1), int(last) + 1)
    if not seeds or seeds[0] < 1:
        raise ValueError(text)
    return seeds


def read(files: Sequence[Path]) -> list[Values]:
    """Return the rows of these files in the order of their seeds.

    Ends the program if a search is in two of them.
    """
    rows: dict[tuple[str, int], Values] = {}
    for path in files:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                key = (row["arm"], int(row["seed"]))
                if key in rows:
                    sys.exit(f"{path}: {key[0]} with seed {key[1]} is in another file too")
                figures = {name: float(row[name]) for name in ("judged", "hypervolume")}
                rows[key] = {**row, **figures, "seed": key[1]}
    return sorted(rows.values(), key=lambda row: int(row["seed"]))


def main() -> None:
    """Run all searches, train the networks of the fronts again, and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds", type=seeds_of, default="1", metavar="N|FIRST-LAST", help="seeds of each arm"
    )
    parser.add_argument(
        "--table", type=Path, nargs="+", metavar="FILE", help="search nothing, print these results"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("results"), metavar="FOLDER")
    parser.add_argument("--study", type=Path, default=FOLDER / "study.yaml", help="the template")
    options = parser.parse_args()
    if options.table:
        rows = read(options.table)
        click.echo("\n".join(table(rows, list(dict.fromkeys(row["arm"] for row in rows)))))
        return
    results = options.output
    results.mkdir(parents=True, exist_ok=True)
    arms = arms_of(options.study, results)
    seeds = options.seeds
    for seed in seeds:
        order = list(arms)
        random.Random(seed).shuffle(order)
        for arm in order:
            search(f"{arm}-{seed}", {**arms[arm], "seed": seed}, results)
    names = [f"{arm}-{seed}" for seed in seeds for arm in arms]
    judge(names, yaml.safe_load(options.study.read_text(encoding="utf-8")), results)
    with Store.open(results / "nas.db", read_only=True) as store:
        rows = list(outcomes(list(arms), seeds, store))
    write(rows, results / "searches.csv")
    if len(seeds) in LOOKS:
        click.echo("\n".join(table(rows, list(arms))))
    else:
        click.echo(f"results are in {results / 'searches.csv'}; --table prints them")


if __name__ == "__main__":
    main()
