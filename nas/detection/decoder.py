"""Boxes from the raw outputs of an exported DSOD or RefineDet, with NumPy only.

    settings = json.load(open("decoder.json"))
    priors = np.load("priors.npy")
    outputs = session.run(None, {"images": images})  # images (N, 3, S, S), normalised
    boxes, labels, scores = decode([o[0] for o in outputs], priors, settings)

Boxes are (xmin, ymin, xmax, ymax) as shares of the image. Labels are positions in the classes, from
1. This file needs nothing but NumPy, and stands beside every exported detector.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def decode(
    outputs: Sequence[Array], priors: Array, settings: Mapping[str, Any]
) -> tuple[Array, Array, Array]:
    """Return boxes (D, 4), labels (D,) and scores (D,) of one image, by falling score.

    `outputs` are those of the network for one image: deltas (P, 4) and logits (P, classes), before
    them in RefineDet the first step's deltas (P, 4) and objectness logits (P, 2).
    """
    boxes, logits = priors, outputs[-1]
    for deltas in outputs[::2]:
        boxes = _moved(deltas, boxes, settings)
    scores = _softmax(logits)
    if len(outputs) == 4:
        scores = scores * (_softmax(outputs[1])[:, 1:] >= settings["min_object"])
    found: list[tuple[float, int, int]] = []
    for label in range(1, scores.shape[1]):
        order = np.argsort(-scores[:, label], kind="stable")[: settings["per_class"]]
        order = order[scores[order, label] > settings["min_score"]]
        kept = _kept(boxes[order], settings["nms_overlap"])
        found += [(float(scores[place, label]), label, int(place)) for place in order[kept]]
    found = sorted(found, key=lambda row: -row[0])[: settings["most"]]
    places = [place for _, _, place in found]
    return (
        boxes[places],
        np.array([label for _, label, _ in found], dtype=np.int64),
        np.array([score for score, _, _ in found], dtype=np.float32),
    )


def _moved(deltas: Array, priors: Array, settings: Mapping[str, Any]) -> Array:
    """Return the boxes (P, 4) that these deltas make of the priors."""
    size, middle = priors[:, 2:] - priors[:, :2], (priors[:, 2:] + priors[:, :2]) / 2
    centre = middle + deltas[:, :2] * settings["centre_variance"] * size
    logs = np.minimum(deltas[:, 2:] * settings["size_variance"], settings["max_log_scale"])
    half = size * np.exp(logs) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _kept(boxes: Array, limit: float) -> list[int]:
    """Return the places of the boxes that overlap no better one by more than the limit."""
    kept: list[int] = []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    for place in range(len(boxes)):
        corners = np.minimum(boxes[kept, 2:], boxes[place, 2:])
        sides = np.clip(corners - np.maximum(boxes[kept, :2], boxes[place, :2]), 0, None)
        common = sides.prod(axis=1)
        if not (common > limit * (areas[kept] + areas[place] - common)).any():
            kept.append(place)
    return kept
