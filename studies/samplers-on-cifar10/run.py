"""Comparison of samplers on real CIFAR-10: one study for each sampler and seed, all with the same
device seconds.

    python studies/samplers-on-cifar10/run.py --seeds 3 -o results

Seeds run one after the other, each with all samplers, so that an interrupted comparison is fair.
The same command resumes, and a larger number adds seeds.

`results/nas.db` holds the studies, and `results/curves.csv` the hypervolume by device seconds and
trials. A table is printed. With `--fresh N` the networks of every front are trained again with N
new seeds. The table then has the hypervolume of the fronts by these seeds, and `results/fresh.csv`
the errors.
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
"""Shares of the budget after which hypervolumes are compared."""


def study_of(sampler: str, seed: int) -> str:
    """Return the name of a search of the comparison."""
    return f"{sampler}-{seed}"


def search(sampler: str, seed: int, results: Path, base: Path) -> None:
    """Run or resume this search to its end."""
    file = results / f"{study_of(sampler, seed)}.yaml"
    values = yaml.safe_load(base.read_text())
    file.write_text(
        yaml.safe_dump(
            {**values, "name": study_of(sampler, seed), "sampler": sampler, "seed": seed}
        )
    )
    nas("search", str(file), results=results)


def nas(*command: str, results: Path) -> None:
    """Run this command of osa-nas on the record of the comparison, and exit with its code if it
    fails.
    """
    arguments = [
        sys.executable,
        "-c",
        "from nas.cli import main; main()",
        *command,
        "--database",
        str(results / "nas.db"),
    ]
    code = subprocess.run(arguments, check=False).returncode  # noqa: S603 - our own command
    if code:
        sys.exit(code)


def at(history: Sequence[Step], device_s: float) -> float:
    """Return the hypervolume after this number of device seconds, 0 before the first front."""
    before = [step.front.hypervolume for step in history if step.device_s <= device_s]
    if not before:
        return 0.0
    return before[-1] or 0.0


def curves(store: Store) -> Iterator[Mapping[str, object]]:
    """Yield a row for each change of a front."""
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
    """Yield a row for each member of a front that was trained with new seeds: the error by which it
    was chosen, and those of the new seeds.
    """
    for record in store.studies():
        trials = store.trials(record.name)
        members = set(front(trials, record.spec.objectives).members)
        for trial in trials:
            _, *errors = trial.evaluation.values_of_seeds("error") or (None,)
            if trial.number in members and errors:
                yield {
                    "sampler": record.spec.sampler,
                    "seed": record.spec.seed,
                    "trial": trial.number,
                    "latency_s": f"{trial.evaluation.value('latency') or 0.0:.6f}",
                    "error": trial.evaluation.value("error"),
                    "fresh_errors": " ".join(map(str, errors)),
                }


def write(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Write the rows as CSV. Without rows no file is written."""
    if rows:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def table(store: Store, budget_s: float) -> Iterator[str]:
    """Yield a line for each sampler: its trials, and the hypervolume after shares of the budget.

    If all fronts have new seeds, the last cell is the hypervolume of the last fronts by these.
    Every cell has the mean and each seed.
    """
    yield "sampler | trials | " + " | ".join(
        [*(f"{share:.0%} of {budget_s:g} s" for share in SHARES), "new seeds"]
    )
    for sampler in SAMPLERS:
        records = [record for record in store.studies() if record.spec.sampler == sampler]
        histories, by_new_seeds = [], []
        for record in records:
            trials = store.trials(record.name)
            histories.append(steps(trials, store.fronts(record.name)))
            result = unbiased_hypervolume(trials, record.spec)
            if result is not None and result.replicated == result.members:
                by_new_seeds.append(result.fresh)
        counts = ", ".join(str(sum(record.counts.values())) for record in records)
        cells = [cell([at(history, share * budget_s) for history in histories]) for share in SHARES]
        cells.append(cell(by_new_seeds) if len(by_new_seeds) == len(records) else "-")
        yield f"{sampler} | {counts} | " + " | ".join(cells)


def cell(hypervolumes: Sequence[float | None]) -> str:
    """Format the mean and each value in millionths."""
    values = [1e6 * (value or 0.0) for value in hypervolumes]
    if not values:
        return "-"
    return f"{statistics.fmean(values):.0f} ({', '.join(f'{value:.0f}' for value in values)})"


def main() -> None:
    """Run all searches, then write and print the results."""
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
        help="new seeds for each network of the fronts",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("results"),
        help="folder of the record and the table",
    )
    parser.add_argument(
        "--study", type=Path, default=FOLDER / "study.yaml", help="template of all searches"
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
