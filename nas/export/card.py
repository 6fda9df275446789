"""`README.md` of a bundle, its model card: what it is, its numbers and where they come from, how to load it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nas.architecture import Architecture
from nas.complexity import count
from nas.errors import InvalidValueError

READABLE = {"s": (1e3, "ms"), "J": (1e3, "mJ"), "B": (1 / 2**20, "MiB"), "1": (1.0, "")}
"""Factor and name for the SI units that are unhandy here."""

CARD = """\
---
library_name: pytorch
pipeline_tag: image-classification
tags: [vovnet, osa, neural-architecture-search]
---
# VoVNet {digest}

An image classifier of {classes} classes for {size}x{size} images, found by osa-nas: trial {trial} of the study
`{study}`, trained on `{dataset}`.

Stages (channels x height x width): {stages}. All that fixes the network is in `architecture.json`.

## Numbers

| what | value | how |
| --- | --- | --- |
| parameters | {parameters:,} | counted |
| MACs | {macs:,} | counted, one image |
| memory access cost | {memory_access_cost:,} elements | counted, one image |
{figures}
Every reading, every rung and the params are in `record.json`.

## Load

In this folder, with torch and safetensors:

```python
import torch
from modeling import load
model = load(".")
mean, std = (torch.tensor(v).view(3, 1, 1) for v in ({mean}, {std}))
logits = model((torch.rand(1, 3, {size}, {size}) - mean) / std)  # in place of the random image: RGB, from 0 to 1
```

The same with ONNX Runtime alone:

```python
import numpy as np
import onnxruntime
mean, std = (np.array(v, "float32").reshape(3, 1, 1) for v in ({mean}, {std}))
session = onnxruntime.InferenceSession("classifier.onnx", providers=["CPUExecutionProvider"])
(logits,) = session.run(None, {{"images": (np.random.rand(1, 3, {size}, {size}).astype("float32") - mean) / std}})
```

The classes, in the order of the logits, are in `architecture.json`; the checksums of the files and the checks they
passed in `manifest.json`.

## Licence

`modeling.py` is under Apache-2.0. The weights are their trainer's to license, within the terms of the data they were
trained on (`{dataset}`).
"""


def card(architecture: Architecture, *, classes: Sequence[str], mean: Sequence[float], std: Sequence[float],
         image_size: int, record: Mapping[str, Any]) -> str:
    """The text of the card; arguments are those of `export_bundle`.

    Raises `InvalidValueError` where a measurement or rung of the record lacks a field.
    """
    counts = count(architecture, image_size, len(classes))
    try:
        figures = [*map(_rung_row, record["rungs"][-1:]), *_measured_rows(record["measurements"])]
    except (KeyError, TypeError) as error:
        raise InvalidValueError(f"a measurement or rung of the record is not complete: {error}") from error
    return CARD.format(
        digest=architecture.digest[:12], classes=len(classes), size=image_size, trial=record["trial"],
        study=record["study"], dataset=record["dataset"], mean=list(mean), std=list(std),
        parameters=counts.parameters, macs=counts.macs, memory_access_cost=counts.memory_access_cost,
        figures="".join(f"{row}\n" for row in figures),
        stages=", ".join(f"{channels} x {height} x {width}" for channels, height, width in counts.stages))


def _rung_row(rung: Mapping[str, Any]) -> str:
    return f"| error on validation images | {100 * rung['error']:.2f} % | after {rung['epochs']:g} epochs |"


def _measured_rows(measurements: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One row for each figure that was not counted; where there is no value, its status and the reason."""
    for m in measurements:
        if m["kind"] != "counted":
            yield f"| {m['metric'].replace('_', ' ')} | {_figure(m)} | {_how(m)} |"


def _figure(m: Mapping[str, Any]) -> str:
    if m["value"] is None:
        return f"{m['status']}: {m['reason']}"
    factor, unit = READABLE.get(m["unit"], (1.0, m["unit"]))
    text = f"{m['value'] * factor:.4g} {unit}".rstrip()
    if m["ci_low"] is not None and m["ci_high"] is not None:
        text += f" (95 % interval {m['ci_low'] * factor:.4g} to {m['ci_high'] * factor:.4g})"
    return text if m["status"] == "ok" else f"{text}, {m['status']}"


def _how(m: Mapping[str, Any]) -> str:
    if m["value"] is None:
        return "not measured"
    device, plan = m.get("device"), m.get("plan")
    parts = [f"{m['kind']}, {m['method']}"]
    if device:
        parts.append(f"on {device['name']} ({device['device_class']})")
    if plan:
        parts.append(f"batch {plan['batch_size']}, {plan['image_size']}x{plan['image_size']}, {plan['precision']}, "
                     f"{plan['runtime']}")
    return ", ".join(parts)
