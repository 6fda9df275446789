"""Long trainings of fixed networks, by which brief trainings are judged.

`nas bench truth` trains all networks of a study by its `rungs`, with two seeds. All images that
training does not see judge them: validation and test images. Each rung has a learning-rate cycle
of its own, so that its error is that of a finished training.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from nas.bench.brief import BriefTrainings
from nas.bench.drawn_networks import Network
from nas.bench.json_lines import Line
from nas.core.brief import BriefRecipe
from nas.core.study import StudySpec

TRUTH = "truth"
"""Name of the recipe of the long trainings."""


def truth_recipe(spec: StudySpec) -> BriefRecipe:
    """Return the study's own rungs and training."""
    return BriefRecipe(rungs=spec.rungs, training=spec.training)


def train_truth(
    trainings: BriefTrainings, spec: StudySpec, networks: Sequence[Network], seeds: int
) -> Iterator[Line]:
    """Train what has no line, and yield each new line.

    Seed 0 comes first for the networks for development, then for those set aside, then the next
    seed. Within these groups every network reaches a rung before any trains to the next one.
    """
    recipe = truth_recipe(spec)
    ends = trainings.ends(recipe)
    for seed, set_aside, rung in product(range(seeds), (False, True), range(len(ends))):
        for network in networks:
            if network.set_aside is set_aside and not trainings.done(
                network, TRUTH, recipe, seed, ends[rung]
            ):
                yield from trainings.advance(network, TRUTH, recipe, seed, rung + 1)


def truth_files(study: Path) -> tuple[Path, Path, Path, Path]:
    """Return the files beside a study file: networks, long trainings, recipes, brief trainings."""
    names = ("networks.jsonl", "truth.jsonl", "proxies.yaml", "proxies.jsonl")
    first, second, third, fourth = (study.parent / name for name in names)
    return first, second, third, fourth
