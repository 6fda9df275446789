"""Samplers against each other on real CIFAR-10: one study for each sampler and seed, all with the
same device seconds.

    python studies/samplers-on-cifar10/run.py --seeds 3 -o results

Seeds come one after the other, each with all samplers, so a contest that is broken off is fair so
far. The same command goes on; more seeds are added by a larger number. `results/nas.db` holds the
studies, `results/curves.csv` how far the hypervolume was after how many device seconds and trials,
and a table is printed. With `--fresh N` the networks of every front are trained again with N other
seeds, the table has what the fronts are worth by these, and `results/fresh.csv` the errors.
"""

import argparse
import csv
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
import yaml

from nas.analysis.posterior import unbiased_hypervolume
from nas.core.pareto import front
from nas.record import Store
from nas.report.history import Step, steps
from nas.searching.study_file import read_study

FOLDER = Path(__file__).parent
SAMPLERS = ("known-cost", "tpe", "random")
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the budget, at which hypervolumes are compared."""


def study_of(sampler: str, seed: int) -> str:
    """The name of a search of the contest."""
    return f"{sampler}-{seed}"


def search(sampler: str, seed: int, results: Path, base: Path) -> None:
    """Run this search to its end, or go on with it."""
    file = results / f"{study_of(sampler, seed)}.yaml"
    values = yaml.safe_load(base.read_text())
    file.write_text(
        yaml.safe_dump(
            {**values, "name": study_of(sampler, seed), "sampler": sampler, "seed": seed}
        )
    )
    nas("search", str(file), results=results)


def nas(*command: str, results: Path) -> None:
    """Run this command of osa-nas on the contest's record, and end as it does where it fails."""
    own = [
        sys.executable,
        "-c",
        "from nas.cli import main; main()",
        *command,
        "--database",
        str(results / "nas.db"),
    ]
    code = subprocess.run(own, check=False).returncode  # noqa: S603 - ours
    if code:
        sys.exit(code)


def at(history: Sequence[Step], device_s: float) -> float:
    """The hypervolume after so many device seconds."""
    before = [step.front.hypervolume for step in history if step.device_s <= device_s]
    return (before[-1] or 0.0) if before else 0.0


def curves(store: Store) -> Iterator[Mapping[str, object]]:
    """One row for each time a front moved."""
    for record in store.studies():
        for step in steps(store.trials(record.name), store.fronts(record.name)):
            yield {
                "sampler": record.spec.sampler,
                "seed": record.spec.seed,
                "trials": step.front.after,
                "device_s": f"{step.device_s:.1f}",
                "searched_s": f"{step.searched_s:.1f}",
                "hypervolume": repr(step.front.hypervolume),
            }


def fresh(store: Store) -> Iterator[Mapping[str, object]]:
    """One row for each member of a front with other seeds: the error it was chosen by, and
    theirs.
    """
    for record in store.studies():
        members = set(front(trials := store.trials(record.name), record.spec.objectives).members)
        for trial in trials:
            if trial.number in members and trial.evaluation.replicate_errors():
                yield {
                    "sampler": record.spec.sampler,
                    "seed": record.spec.seed,
                    "trial": trial.number,
                    "latency_s": f"{trial.evaluation.value('latency') or 0.0:.6f}",
                    "error": trial.evaluation.value("error"),
                    "fresh_errors": " ".join(map(str, trial.evaluation.replicate_errors())),
                }


def write(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """As CSV, nothing where there is nothing."""
    if rows:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def table(store: Store, budget_s: float) -> Iterator[str]:
    """For each sampler the trials it trained, and the hypervolume by shares of the budget and of
    the last fronts by fresh seeds, where all have them: mean and each seed.
    """
    yield "sampler | trials | " + " | ".join(
        [*(f"{share:.0%} of {budget_s:g} s" for share in SHARES), "fresh seeds"]
    )
    for sampler in SAMPLERS:
        own = [record for record in store.studies() if record.spec.sampler == sampler]
        trials = [store.trials(record.name) for record in own]
        histories = [
            steps(each, store.fronts(record.name)) for each, record in zip(trials, own, strict=True)
        ]
        counts = ", ".join(str(sum(record.counts.values())) for record in own)
        cells = [cell([at(history, share * budget_s) for history in histories]) for share in SHARES]
        known = [
            unbiased_hypervolume(each, record.spec.objectives)
            for each, record in zip(trials, own, strict=True)
        ]
        judged = [
            each.fresh for each in known if each is not None and each.replicated == each.members
        ]
        cells.append(cell(judged) if len(judged) == len(own) else "-")
        yield f"{sampler} | {counts} | " + " | ".join(cells)


def cell(hypervolumes: Sequence[float | None]) -> str:
    """Mean and each, in millionths."""
    values = [1e6 * (value or 0.0) for value in hypervolumes]
    return (
        f"{statistics.fmean(values):.0f} ({', '.join(f'{value:.0f}' for value in values)})"
        if values
        else "-"
    )


def main() -> None:
    """Search, then write and print what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="searches of each sampler")
    parser.add_argument(
        "--first-seed", type=int, default=1, metavar="N", help="the first one's seed"
    )
    parser.add_argument(
        "--fresh",
        type=int,
        default=0,
        metavar="N",
        help="other seeds for each network of the fronts",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("results"),
        help="folder of the record and the table",
    )
    parser.add_argument(
        "--study", type=Path, default=FOLDER / "study.yaml", help="the study all searches are like"
    )
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for space in options.study.parent.glob("*_space.py"):
        (options.output / space.name).write_text(space.read_text())
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for sampler in SAMPLERS:
            search(sampler, seed, options.output, options.study)
            if options.fresh:
                nas(
                    "replicate",
                    study_of(sampler, seed),
                    "--front",
                    "--seeds",
                    str(options.fresh),
                    results=options.output,
                )
    budget_s = read_study(options.study).budget.device_s
    with Store.open(options.output / "nas.db", read_only=True) as store:
        write(list(curves(store)), options.output / "curves.csv")
        write(list(fresh(store)), options.output / "fresh.csv")
        click.echo("\n".join(["hypervolume in millionths", *table(store, budget_s or 0.0)]))


if __name__ == "__main__":
    main()
