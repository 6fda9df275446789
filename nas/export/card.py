"""`README.md` of a bundle, its model card: what it is, its numbers and where they come from, how to
load it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nas.core.architecture import Architecture
from nas.core.complexity import count
from nas.core.errors import InvalidValueError
from nas.export.programs import feature_names
from nas.export.timm_config import REGISTRY, reductions, timm_support

READABLE = {"s": (1e3, "ms"), "J": (1e3, "mJ"), "B": (1 / 2**20, "MiB"), "1": (1.0, "")}
"""Factor and name for the SI units that are unhandy here."""

CARD = """\
---
{front_matter}library_name: timm
pipeline_tag: image-classification
tags: [timm, vovnet, osa, neural-architecture-search, backbone]
datasets: [{dataset}]
metrics: [accuracy]
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
Every reading, every rung, the params and the study's recipe are in `record.json`; the latency of these files, measured
after they were written, is in `manifest.json`. Numbers hold for the device and the conditions named beside them.

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

With timm ({timm}: {why}):

```python
import timm
import torch{register}
model = timm.create_model("local-dir:.", pretrained=True).eval()  # or "hf-hub:OWNER/NAME"
backbone = timm.create_model("local-dir:.", pretrained=True, features_only=True, out_indices={indices}).eval()
features = backbone(torch.rand(1, 3, {large}, {large}))  # channels {channels}, strides {strides}
logits = model(torch.rand(1, 3, {size}, {size}))
```

The classes, in the order of the logits, are in `architecture.json`; the checksums of the files and the checks they
passed in `manifest.json`.

## Backbone of a detector

`backbone.onnx` gives {names} for any batch, height and width, `backbone_fp16.onnx` the same in half precision (TensorRT
11: `trtexec --onnx=backbone_fp16.onnx --stronglyTyped`, without that flag from 11 on), `backbone.pt2` is for
`torch.export.load`. Sizes that are multiples of {stride} have features of exactly size / stride.

torchvision (Mask R-CNN, Faster R-CNN, RetinaNet, FCOS):

```python
import timm
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN{register}
f = timm.create_model("local-dir:.", pretrained=True, features_only=True, out_indices={indices})
layers = {{name.replace(".", "_"): str(i) for i, name in enumerate(f.feature_info.module_name())}}
fpn = BackboneWithFPN(f, layers, f.feature_info.channels(), 256)
levels = len(layers) + 1  # and one pooled
anchors = AnchorGenerator(tuple((8 * 2**i,) for i in range(levels)), ((1.0,),) * levels)
detector = FCOS(fpn, num_classes=91, anchor_generator=anchors, image_mean={mean}, image_std={std})
```

With `osa-nas[detection]` the same in one call: `nas.detection.fcos(".", 91, levels={names})`; `mask_rcnn`, `retinanet`
and `ssd` likewise.

transformers (RT-DETR; RT-DETRv2 and D-FINE likewise) takes three levels. The detector's backbone starts with random
weights, so copy them. Its BatchNorms must be frozen by timm: `freeze_backbone_batch_norms` puts others in the place of
timm's and loses the activations that are part of them, without a word.

```python
from transformers import RTDetrConfig, RTDetrForObjectDetection, TimmBackboneConfig
backbone = TimmBackboneConfig(backbone="local-dir:.", out_indices={last_indices}, freeze_batch_norm_2d=True)
config = RTDetrConfig(backbone_config=backbone, freeze_backbone_batch_norms=False, num_labels=80,
                      encoder_in_channels={last_channels}, feat_strides={last_strides})
detr = RTDetrForObjectDetection(config)
trained = timm.create_model("local-dir:.", pretrained=True, features_only=True, out_indices={last_indices})
detr.model.backbone.model._backbone.load_state_dict(trained.state_dict())
```

detectron2 (written from its documentation, not run):

```text
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, ShapeSpec
@BACKBONE_REGISTRY.register()
class Osa(Backbone):
    def __init__(self, cfg, input_shape):
        super().__init__()
        self.body = timm.create_model("local-dir:DIR", pretrained=True, features_only=True, out_indices={indices})
        self._out_features = {names}
    def forward(self, x): return dict(zip(self._out_features, self.body(x)))
    def output_shape(self):
        return {{n: ShapeSpec(channels=c, stride=s) for n, c, s in zip({names}, {channels}, {strides})}}
```

MMDetection 3 (written from its documentation, not run):

```text
backbone=dict(type="mmpretrain.TIMMBackbone", model_name="local-dir:DIR", pretrained=True, features_only=True,
              out_indices={indices}),
neck=dict(type="FPN", in_channels={channels}, out_channels=256, num_outs=5)
```

## Source files

{sources} of osa-nas, under Apache-2.0 (`LICENSE`).
{weights_note}"""
WEIGHTS_NOTE = """
## Licence of the weights

{license}
"""
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
) -> str:
    """The text of the card; arguments are those of `export_bundle`.

    Raises `InvalidValueError` where a measurement or rung of the record lacks a field, and for a
    licence that is no identifier.
    """
    if weights_license is not None and not LICENSE_ID.fullmatch(weights_license):
        raise InvalidValueError(
            "the licence must be an identifier such as apache-2.0, cc-by-4.0 or other, not "
            f"{weights_license!r}"
        )
    counts = count(architecture, image_size, len(classes))
    try:
        figures = [
            *map(_rung_row, record["rungs"][-1:]),
            *_final_rows(record.get("final")),
            *_measured_rows(record["measurements"]),
        ]
    except (KeyError, TypeError) as error:
        raise InvalidValueError(
            f"a measurement or rung of the record is not complete: {error}"
        ) from error
    support, widths, strides = (
        timm_support(architecture).to_dict(),
        _channels(architecture),
        reductions(architecture),
    )
    indices = tuple(range(1, len(widths) + 1))
    registered = support["timm"] == "registered"
    return CARD.format(
        timm=support["timm"],
        why=support["why"],
        indices=indices,
        channels=list(widths),
        strides=list(strides),
        register=f"\nimport {REGISTRY}  # registers the architecture" if registered else "",
        front_matter=f"license: {weights_license}\n" if weights_license else "",
        weights_note=WEIGHTS_NOTE.format(license=weights_license) if weights_license else "",
        sources=f"`modeling.py` and `{REGISTRY}.py` are source files"
        if registered
        else "`modeling.py` is a source file",
        names=feature_names(len(widths)),
        stride=strides[-1],
        large=8 * strides[-1],
        last_indices=list(indices[-3:]),
        last_channels=list(widths[-3:]),
        last_strides=list(strides[-3:]),
        digest=architecture.digest[:12],
        classes=len(classes),
        size=image_size,
        trial=record["trial"],
        study=record["study"],
        dataset=record["dataset"],
        mean=list(mean),
        std=list(std),
        parameters=counts.parameters,
        macs=counts.macs,
        memory_access_cost=counts.memory_access_cost,
        figures="".join(f"{row}\n" for row in figures),
        stages=", ".join(
            f"{channels} x {height} x {width}" for channels, height, width in counts.stages
        ),
    )


def _channels(architecture: Architecture) -> list[int]:
    return [stage.out_channels for stage in architecture.stages]


def _final_rows(final: Mapping[str, Any] | None) -> Iterator[str]:
    """Which training the weights are of, and what it gave."""
    if final is None:
        yield "| weights | of the search's brief training | see the error above; not trained fully |"
        return
    reached, errors = final["reached"], final["errors"]
    shown = f"{100 * reached['error']:.2f} %"
    if len(errors) > 1:
        shown += (
            f" (all {len(errors)} seeds: {', '.join(f'{100 * error:.2f}' for error in errors)} %)"
        )
    yield (
        f"| weights | of the final training with seed {final['seed']} | {reached['epochs']:g} epochs on all "
        "training images; the recipe is in `record.json` |"
    )
    yield f"| error on the test images | {shown} | {final['test_images']:,} images, read once at its end |"


def _rung_row(rung: Mapping[str, Any]) -> str:
    return f"| error on validation images | {100 * rung['error']:.2f} % | after {rung['epochs']:g} epochs |"


def _measured_rows(measurements: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One row for each figure that was not counted; where there is no value, its status and the
    reason.
    """
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
        parts.append(
            f"batch {plan['batch_size']}, {plan['image_size']}x{plan['image_size']}, {plan['precision']}, "
            f"{plan['runtime']}"
        )
    return ", ".join(parts)
