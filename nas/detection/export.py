"""Export of a trained detector: ONNX without suppression, and a decoder in NumPy beside it.

The folder is written beside its destination, checked in ONNX Runtime, and renamed.
"""

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas.core.errors import ExportError
from nas.detection import boxes, decoder, multibox
from nas.detection.decoder import decode
from nas.detection.measuring import Outputs
from nas.detection.multibox import Multibox
from nas.detection.refinedet import MIN_OBJECT
from nas.detection.systems import DESCRIPTION, WEIGHTS, TrainedDetector
from nas.detection.training import network_of
from nas.export import Check
from nas.export.bundle import renamed_at_the_end, write_through
from nas.model.onnx_file import import_package, require_packages, to_onnx

TOLERANCE = 1e-4
"""Largest difference to ONNX Runtime, as a share of the largest output."""
BOX_TOLERANCE = 1e-4
"""Largest difference of a decoded coordinate, as a share of the image."""
NAMES = {2: ["deltas", "logits"], 4: ["first_deltas", "object_logits", "deltas", "logits"]}


def export_detector(folder: Path, destination: Path) -> list[Check]:
    """Write the detector of a folder of `nas detect train` to a new folder; return the checks.

    Raises `ExportError` if the destination is taken or a check fails, `CorruptFileError` for a
    folder without a finished training, and `MissingDependencyError` without the extra `export`.
    """
    require_packages()
    trained = TrainedDetector(folder)
    detector, spec = trained.model(), trained.spec
    network = Outputs(network_of(detector)).eval()
    side = spec.image_size
    example = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 4 - 2
    with torch.no_grad():
        outputs = network(example)
    names = NAMES.get(len(outputs), []) if isinstance(detector, Multibox) else []
    names = names or [f"p{index}" for index in range(len(outputs))]
    data = to_onnx(network, side, outputs=names)
    files = {
        "network.onnx": data,
        DESCRIPTION: (folder / DESCRIPTION).read_bytes(),
        WEIGHTS: (folder / WEIGHTS).read_bytes(),
    }
    checks = [_same_outputs(data, example, outputs)]
    if isinstance(detector, Multibox):
        settings = _settings(detector, spec.classes)
        files["decoder.json"] = json.dumps(settings, indent=2).encode() + b"\n"
        files["decoder.py"] = inspect.getsource(decoder).encode()
        checks.append(_same_boxes(detector, outputs, settings))
    failed = [str(check) for check in checks if not check.passed]
    if failed:
        raise ExportError("\n".join(failed))
    with renamed_at_the_end(destination) as place:
        for name, content in files.items():
            write_through(place / name, content)
        if isinstance(detector, Multibox):
            np.save(place / "priors.npy", detector.priors.numpy())
    return checks


def _settings(detector: Multibox, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return what the decoder needs besides the priors."""
    return {
        "classes": list(classes),
        "image_size": detector.image_size,
        "mean": detector.transform.image_mean,
        "std": detector.transform.image_std,
        "centre_variance": boxes.CENTRE_VARIANCE,
        "size_variance": boxes.SIZE_VARIANCE,
        "max_log_scale": boxes.MAX_LOG_SCALE,
        "min_score": multibox.MIN_SCORE,
        "min_object": MIN_OBJECT,
        "nms_overlap": multibox.NMS_OVERLAP,
        "per_class": detector.per_class,
        "most": detector.most,
    }


def _same_outputs(data: bytes, example: Tensor, outputs: tuple[Tensor, ...]) -> Check:
    """Compare ONNX Runtime with torch, for a batch of another size too."""
    onnxruntime = import_package("onnxruntime")
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in (2, 1):
        found = session.run(None, {"images": example[:count].numpy()})
        for mine, theirs in zip(outputs, found, strict=True):
            reference = mine[:count].numpy()
            scale = float(np.abs(reference).max()) or 1.0
            worst = max(worst, float(np.abs(reference - theirs).max()) / scale)
    return Check(name="outputs of ONNX Runtime", found=worst, allowed=TOLERANCE)


def _same_boxes(detector: Multibox, outputs: tuple[Tensor, ...], settings: dict[str, Any]) -> Check:
    """Compare the boxes of the NumPy decoder with the detector's, in any order: equal scores have
    none.
    """
    worst = 0.0
    with torch.no_grad():
        expected = detector.detections(outputs)
    for index, found in enumerate(expected):
        arrays = [output[index].numpy() for output in outputs]
        own, labels, scores = decode(arrays, detector.priors.numpy(), settings)
        if len(labels) != len(found["labels"]):
            worst = float("inf")
        elif len(labels):
            wanted = torch.column_stack([found["boxes"], found["scores"]]).numpy()
            rows = np.column_stack([own, scores])
            apart = np.abs(rows[:, None] - wanted).max(axis=2)
            apart[labels[:, None] != found["labels"].numpy()] = np.inf
            worst = max(worst, float(apart.min(axis=1).max()), float(apart.min(axis=0).max()))
    return Check(name="boxes of decoder.py", found=worst, allowed=BOX_TOLERANCE)
