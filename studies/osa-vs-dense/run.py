"""One-shot against dense aggregation on CIFAR-10 at equal MACs: trains five networks with several
seeds and compares.

    python studies/osa-vs-dense/run.py full --seeds 3 -o results    300 epochs each, on a GPU
    python studies/osa-vs-dense/run.py short --seeds 2 -o results   20,000 images each, an hour

The same command goes on after Ctrl-C, at the last whole epoch. Test images are read once for each
finished network. Needs CIFAR-10 (see the README of the project for where it lies).
"""

import argparse
import csv
import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from nas.cli.tables import echo_wide, plain_table
from nas.core.measurement import MeasurementPlan
from nas.core.published import PUBLISHED
from nas.core.recipe import Recipe
from nas.core.study import AutoPrecision, DataSpec, TrainingSpec
from nas.data import Dataset, Images, load
from nas.measuring.meters import find_meter
from nas.measuring.rounds import count_operations, in_rounds
from nas.measuring.targets import Target
from nas.model import build
from nas.model.densenet import densenet40
from nas.paper.cifar_osa import osa_5_43, osa_12_20, with_bottleneck
from nas.paper.connections.heat_map import as_png
from nas.paper.connections.page import as_page
from nas.paper.connections.strength import BlockMap
from nas.paper.connections.strength import statistics as connection_statistics
from nas.paper.connections.weights import block_maps
from nas.paper.peers_page import Estimate
from nas.training import FullTrainer, Numerics, read_checkpoint

SLIM = PUBLISHED["vovnet27_slim"]
NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "densenet40": densenet40,
    "osa_12_20": osa_12_20,
    "osa_5_43": osa_5_43,
    "vovnet27_slim": lambda: build(SLIM, 10),
    "vovnet27_slim_bottleneck": lambda: with_bottleneck(SLIM, 10),
}
PLAN = MeasurementPlan(batch_size=1, image_size=32, max_time_s=3.0)
ROUNDS = 3


RECIPES = {
    # DenseNet's own (Huang et al. 2017) but for the learning rate, which here rises and falls in
    # one cycle
    "full": Recipe(
        epochs=300,
        average=0.0,
        training=TrainingSpec(
            batch_size=64, learning_rate=0.1, weight_decay=1e-4, label_smoothing=0.0, translate=4
        ),
    ),
    "short": Recipe(
        epochs=0.4,
        average=0.0,
        training=TrainingSpec(batch_size=64, learning_rate=0.2, weight_decay=1e-4),
    ),
}
TEST_IMAGES = {"full": 10_000, "short": 2000}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One network trained with one seed: its maps before and after, and what `result.json`
    holds.
    """

    before: list[BlockMap]
    after: list[BlockMap]
    result: Mapping[str, Any]


def seeded(name: str, seed: int) -> nn.Module:
    """The network as it is before training with this seed."""
    torch.manual_seed(seed)
    return NETWORKS[name]()


def train(
    name: str,
    seed: int,
    *,
    recipe: Recipe,
    data: Dataset,
    test: Images,
    folder: Path,
    bar: Progress,
) -> None:
    """Train it and keep weights and result, unless they are there."""
    weights, result, going = (
        folder / f"{name}-{seed}{end}" for end in (".safetensors", ".json", ".going.safetensors")
    )
    if result.exists():
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    numerics = Numerics(precision=AutoPrecision.BF16 if device == "cuda" else AutoPrecision.FP32)
    trainer = FullTrainer(
        recipe=recipe,
        model=seeded(name, seed),
        train=data.train.to(device),
        mean=data.mean,
        std=data.std,
        numerics=numerics,
        device=device,
        seed=seed,
    )
    if going.exists():
        trainer.load(going, name)
    task = bar.add_task(f"{name}, seed {seed}", total=recipe.epochs, completed=trainer.epochs)
    while trainer.epochs < recipe.epochs:
        trainer.advance(min(math.floor(trainer.epochs) + 1.0, recipe.epochs))
        trainer.save(going, name)
        bar.update(task, completed=trainer.epochs)
    trainer.finish(weights, name)
    error, _ = trainer.judge(test.to(device))
    result.write_text(
        json.dumps(
            {
                "network": name,
                "seed": seed,
                "error": error,
                "train_loss": trainer.last_loss,
                "epochs": trainer.epochs,
                "images": trainer.images_seen,
                "train_s": trainer.train_s,
                "test_images": len(test),
                "recipe": recipe.to_dict(),
                "numerics": {**numerics.to_dict(), "device": device, "torch": torch.__version__},
                "finished_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
            }
        )
        + "\n",
        encoding="utf-8",
    )
    going.unlink()


def trained(name: str, seed: int, folder: Path) -> Run:
    """What `train` kept."""
    after = read_checkpoint(folder / f"{name}-{seed}.safetensors").weights
    return Run(
        before=block_maps(seeded(name, seed).state_dict()),
        after=block_maps(after),
        result=json.loads((folder / f"{name}-{seed}.json").read_text(encoding="utf-8")),
    )


def measured() -> dict[str, dict[str, Estimate]]:
    """Latency, joules per frame and peak memory of each network, in turns."""
    targets = {name: (Target(name=name, network=seeded(name, 0)), PLAN) for name in NETWORKS}
    found: dict[str, list[Any]] = {name: [] for name in targets}
    with find_meter(None) as meter:
        for name, figures in in_rounds(targets, meter, ROUNDS, seed=0):
            found[name] += figures
    return {
        name: {
            metric: Estimate.of(m for m in figures if m.metric == metric)
            for metric in ("latency", "energy", "peak_memory")
        }
        for name, figures in found.items()
    }


def images_per_s(run: Run) -> float:
    """Return how many images a second the run trained on."""
    return float(run.result["images"] / run.result["train_s"])


def rows(
    runs: Mapping[str, list[Run]], figures: Mapping[str, Mapping[str, Estimate]]
) -> Iterator[dict[str, object]]:
    """One line for each network: accuracy over seeds, counts, figures."""
    for name, each in runs.items():
        accuracies = [100 * (1 - run.result["error"]) for run in each]
        counts = count_operations(Target(name=name, network=NETWORKS[name]()), 32)
        assert counts is not None  # noqa: S101 - a torch network
        yield {
            "network": name,
            "accuracy %": f"{statistics.mean(accuracies):.2f}",
            "seeds": " ".join(f"{accuracy:.2f}" for accuracy in accuracies),
            "parameters": counts.parameters,
            "MACs": counts.macs,
            "memory access": counts.memory_access_cost,
            "latency": figures[name]["latency"].text("s"),
            "energy/frame": figures[name]["energy"].text("J"),
            "peak memory": figures[name]["peak_memory"].text("B"),
            "train img/s": f"{statistics.mean(map(images_per_s, each)):.1f}",
            "reason": figures[name]["latency"].reason or figures[name]["energy"].reason,
        }


def hypothesis(runs: Mapping[str, list[Run]]) -> Iterator[dict[str, object]]:
    """Test that strong between intermediate layers means weak to the final layer, block by block,
    before and after.
    """
    for name, each in runs.items():
        for run in each:
            for when, maps in (("before", run.before), ("after", run.after)):
                for block in maps:
                    found = connection_statistics(block)
                    yield {
                        "network": name,
                        "seed": run.result["seed"],
                        "training": when,
                        "block": block.name,
                        "weak share": found.weak_share,
                        "evenness of the end": found.evenness,
                        "correlation": found.correlation,
                        "sources": found.sources,
                    }


def write(path: Path, lines: list[dict[str, object]]) -> None:
    """As CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def main() -> None:
    """Parse, train what is missing, compare what there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--seeds", type=int, default=3, help="of each network")
    parser.add_argument(
        "--first-seed", type=int, default=0, help="so that seeds can be trained beside each other"
    )
    parser.add_argument(
        "--only", choices=NETWORKS, action="append", help="train only this one now, compare nothing"
    )
    parser.add_argument("--epochs", type=float, help="instead of the recipe's")
    parser.add_argument(
        "--data", default="cifar10", help="another data set of 32x32 pixels and ten classes"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("osa-vs-dense"))
    given = parser.parse_args()
    recipe = RECIPES[given.recipe]
    recipe = replace(recipe, epochs=given.epochs or recipe.epochs)
    given.output.mkdir(parents=True, exist_ok=True)
    data = load(DataSpec(dataset=given.data, validation_images=1))
    test = data.test()
    test = test.take(torch.arange(min(TEST_IMAGES[given.recipe], len(test))))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:g} of {task.total:g} epochs"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            for name in given.only or NETWORKS:
                train(name, seed, recipe=recipe, data=data, test=test, folder=given.output, bar=bar)
    if not given.only:
        compare(given.output, range(given.first_seed, given.first_seed + given.seeds))


def compare(folder: Path, seeds: range) -> None:
    """Print and write what was found."""
    runs = {name: [trained(name, seed, folder) for seed in seeds] for name in NETWORKS}
    table, claims = list(rows(runs, measured())), list(hypothesis(runs))
    write(folder / "networks.csv", table)
    write(folder / "hypothesis.csv", claims)
    maps = {
        f"{name}, {when} training": getattr(each[0], when)
        for name, each in runs.items()
        for when in ("before", "after")
    }
    (folder / "connections.html").write_text(as_page(maps), encoding="utf-8")
    for name, blocks in maps.items():
        network, when = name.split(",")[0], name.split()[1]
        (folder / f"{network}-{when}.png").write_bytes(as_png(blocks))
    first = runs["densenet40"][0].result
    echo_wide(
        f"{len(seeds)} seeds, {first['epochs']:g} epochs, {first['images']:,} images, judged on "
        f"{first['test_images']:,} test images; {first['numerics']}"
    )
    echo_wide(
        plain_table([list(table[0]), *([str(value) for value in line.values()] for line in table)])
    )
    for when in ("before", "after"):
        found = [
            line["correlation"]
            for line in claims
            if line["training"] == when and line["correlation"] is not None
        ]
        values = [float(str(value)) for value in found]
        echo_wide(
            "correlation of strength between layers with strength to the end, "
            f"{when} training: mean {statistics.mean(values):+.2f} of {len(values)} blocks, "
            f"{sum(value < 0 for value in values)} of them negative"
        )


if __name__ == "__main__":
    main()
