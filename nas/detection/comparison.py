"""Comparison of two detectors by the same images: the difference of their average precision.

Each detector stands for one or several trainings. The interval is a bootstrap over the images, the
same ones for both, so that images that are hard for both widen it little (paired). The trainings
are taken as they are: with few of them, the spread between their own figures says how much another
training may change the result.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.detection.evaluation import Annotation, Hits, average_precision, hits_of_classes
from nas.detection.scenes import Scenes

RESAMPLES = 2000
"""Bootstrap samples of the images."""
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """AP50 of every training of two detectors, and the difference of their means with its interval
    over the images. AP50 is VOC's area precision at an overlap of 0.5, a mean over the classes.
    """

    images: int
    first: tuple[float, ...]
    second: tuple[float, ...]
    difference: float
    low: float
    high: float


def compare(
    first: Sequence[Sequence[Annotation]],
    second: Sequence[Sequence[Annotation]],
    scenes: Scenes,
    seed: int = 0,
) -> Comparison:
    """Compare two detectors: for each of their trainings, the detections of every scene."""
    groups = [[hits_of_classes(each, scenes) for each in group] for group in (first, second)]
    once = np.ones(len(scenes))
    figures = [tuple(weighted_ap50(each, once) for each in group) for group in groups]
    generator = np.random.default_rng(seed)
    differences = []
    for weights in generator.multinomial(
        len(scenes), np.full(len(scenes), 1 / len(scenes)), RESAMPLES
    ):
        means = [np.mean([weighted_ap50(each, weights) for each in group]) for group in groups]
        differences.append(means[0] - means[1])
    low, high = np.quantile(differences, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Comparison(
        images=len(scenes),
        first=figures[0],
        second=figures[1],
        difference=float(np.mean(figures[0]) - np.mean(figures[1])),
        low=float(low),
        high=float(high),
    )


def weighted_ap50(classes: Sequence[Hits], weights: np.ndarray) -> float:
    """Return the mean over the classes of the area below the precision, if each image counts as
    often as its weight (I,) says. Classes without truths in these images are left out.
    """
    areas = []
    for each in classes:
        truths = float(weights @ each.truths)
        if truths == 0:
            continue
        areas.append(average_precision(each.hits, truths, weights[each.images])[1])
    return float(np.mean(areas)) if areas else 0.0
