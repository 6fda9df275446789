"""The model card of a bundle, `README.md`.

It describes the network, gives its figures with their sources, and shows how to load it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nas.core.architecture import Architecture
from nas.core.complexity import count
from nas.core.errors import InvalidValueError
from nas.core.study import ERROR, TrainedMetric
from nas.core.units import format_trained, sparkline
from nas.export.programs import feature_names
from nas.export.standalone import template
from nas.export.timm_config import REGISTRY, SQUASHED, reductions, timm_support

READABLE_UNITS = {"s": (1e3, "ms"), "J": (1e3, "mJ"), "B": (1 / 2**20, "MiB"), "1": (1.0, "")}
"""Factor and name of the unit in which the card shows a figure, by its SI unit."""
SCALING = (
    " Its images, whatever their shape, were scaled to squares with Pillow's bicubic filter; scale "
    "yours in the same way, as timm does by `config.json`."
)
"""What the card says of a data set whose images are scaled to squares."""
WEIGHTS_NOTE = "\n\n## Licence of the weights\n\n{license}"
LICENSE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
"""The form of the identifiers of SPDX and Hugging Face."""


def card(
    architecture: Architecture,
    *,
    classes: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    image_size: int,
    record: Mapping[str, Any],
    weights_license: str | None = None,
    crop_pct: float | None = None,
) -> str:
    """Return the text of the card. The arguments are those of `export_bundle`.

    Raises `InvalidValueError` if the licence is no identifier.
    """
    if weights_license is not None and not LICENSE_ID.fullmatch(weights_license):
        raise InvalidValueError(
            "the licence must be an identifier such as apache-2.0, cc-by-4.0 or other, not "
            f"{weights_license!r}"
        )
    counts = count(architecture, image_size, len(classes))
    recipe = record.get("recipe", {})
    trained = [TrainedMetric(**each) for each in recipe.get("trained") or (asdict(ERROR),)]
    rows = [
        *_rung_rows(record["rungs"][-1:], trained),
        *_final_rows(record.get("final"), trained),
        *_measurement_rows(record["measurements"]),
    ]
    return template("card.md").format(
        **_timm_values(architecture),
        **_license_values(architecture, weights_license),
        digest=architecture.digest[:12],
        classes=len(classes),
        size=image_size,
        trial=record["trial"],
        study=record["study"],
        dataset=record["dataset"],
        scaling=SCALING if record["dataset"] == SQUASHED and crop_pct is None else "",
        mean=list(mean),
        std=list(std),
        parameters=counts.parameters,
        macs=counts.macs,
        memory_access_cost=counts.memory_access_cost,
        figures="".join(f"{row}\n" for row in rows),
        stages=", ".join(
            f"{channels} x {height} x {width}" for channels, height, width in counts.stages
        ),
    )


def _timm_values(architecture: Architecture) -> dict[str, Any]:
    """Return what the snippets say of timm and of the features."""
    support = timm_support(architecture)
    widths = [stage.out_channels for stage in architecture.stages]
    strides = reductions(architecture)
    indices = tuple(range(1, len(widths) + 1))
    register = f"\nimport {REGISTRY}  # registers the architecture"
    return {
        **support,
        "register": register if support["timm"] == "registered" else "",
        "indices": indices,
        "channels": widths,
        "strides": list(strides),
        "names": feature_names(len(widths)),
        "stride": strides[-1],
        "large": 8 * strides[-1],
        "last_indices": list(indices[-3:]),
        "last_channels": widths[-3:],
        "last_strides": list(strides[-3:]),
    }


def _license_values(architecture: Architecture, weights_license: str | None) -> dict[str, str]:
    """Return the texts about the licences of the source files and of the weights."""
    sources = "`modeling.py` is a source file"
    if timm_support(architecture)["timm"] == "registered":
        sources = f"`modeling.py` and `{REGISTRY}.py` are source files"
    if weights_license is None:
        return {"sources": sources, "front_matter": "", "weights_note": ""}
    return {
        "sources": sources,
        "front_matter": f"license: {weights_license}\n",
        "weights_note": WEIGHTS_NOTE.format(license=weights_license),
    }


def _final_rows(final: Mapping[str, Any] | None, trained: Sequence[TrainedMetric]) -> Iterator[str]:
    """Yield the training that gave the weights, and its figures on the test images."""
    if final is None:
        yield "| weights | brief training of the search | figures above, not trained fully |"
        return
    reached = final["reached"]
    yield (
        f"| weights | final training with seed {final['seed']} | {reached['epochs']:g} epochs on "
        "all training images; the recipe is in `record.json` |"
    )
    if curve := final.get("curve"):
        losses = [loss for _, loss in curve]
        yield (
            f"| training loss | {sparkline(losses)} | from {losses[0]:.3f} to {losses[-1]:.3f}; "
            "means over parts of the training |"
        )
    for metric in trained:
        if metric.name not in reached["metrics"]:
            continue
        text = format_trained(metric, reached["metrics"][metric.name])
        seeds = [format_trained(metric, value) for value in final["seeds"].get(metric.name, ())]
        if len(seeds) > 1:
            text += f" (all {len(seeds)} seeds: {', '.join(seeds)})"
        yield (
            f"| {_words(metric)} on the test images | {text} | {final['test_images']:,} images, "
            "read once at the end |"
        )


def _rung_rows(
    rungs: Sequence[Mapping[str, Any]], trained: Sequence[TrainedMetric]
) -> Iterator[str]:
    for rung in rungs:
        for metric in trained:
            if metric.name in rung["metrics"]:
                text = format_trained(metric, rung["metrics"][metric.name])
                yield (
                    f"| {_words(metric)} on validation images | {text} | after "
                    f"{rung['epochs']:g} epochs |"
                )


def _words(metric: TrainedMetric) -> str:
    return metric.name.replace("_", " ")


def _measurement_rows(measurements: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a row for each figure that was not counted, with the reason if it has no value."""
    for m in measurements:
        if m["kind"] != "counted":
            yield f"| {m['metric'].replace('_', ' ')} | {_value(m)} | {_source(m)} |"


def _value(m: Mapping[str, Any]) -> str:
    """Return value and interval of a measurement, or its status and reason."""
    if m["value"] is None:
        return f"{m['status']}: {m['reason']}"
    factor, unit = READABLE_UNITS.get(m["unit"], (1.0, m["unit"]))
    text = f"{m['value'] * factor:.4g} {unit}".rstrip()
    if m["ci_low"] is not None and m["ci_high"] is not None:
        text += f" (95 % interval {m['ci_low'] * factor:.4g} to {m['ci_high'] * factor:.4g})"
    return text if m["status"] == "ok" else f"{text}, {m['status']}"


def _source(m: Mapping[str, Any]) -> str:
    """Return method, device and conditions of a measurement."""
    if m["value"] is None:
        return "not measured"
    device, plan = m.get("device"), m.get("plan")
    parts = [f"{m['kind']}, {m['method']}"]
    if device:
        parts.append(f"on {device['name']} ({device['device_class']})")
    if plan:
        size = plan["image_size"]
        parts.append(
            f"batch {plan['batch_size']}, {size}x{size}, {plan['precision']}, {plan['runtime']}"
        )
    return ", ".join(parts)
