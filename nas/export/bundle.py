"""Write one network as a bundle, a folder of files.

The files are written beside the destination and checked. If all checks pass, the folder is renamed
to the destination.

The folder is also a Hugging Face repository. It holds:

* `config.json` and `model.safetensors` in timm's form, and `osa_nas_timm.py` if timm needs it
* `modeling.py`, `backbone.onnx`, `backbone_fp16.onnx`, `classifier.onnx` and `backbone.pt2`
* `architecture.json` (the network, its classes, and how images are normalised), and a drawing of
  the network in `architecture.txt`
* `record.json`, `README.md` and `LICENSE`
* `manifest.json` (checksums, checks, latency of the files)
"""

import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save
from torch import Tensor, nn

from nas.core.architecture import Architecture
from nas.core.checks import shortlist
from nas.core.errors import CorruptFileError, ExportError, InvalidValueError
from nas.export.card import card
from nas.export.manifest import Manifest, file_facts
from nas.export.programs import backbone_onnx, classifier_onnx, exported, half_precision, to_pt2
from nas.export.standalone import modeling_source, registry_source, template
from nas.export.timm_config import REGISTRY, timm_config, timm_support
from nas.export.verify import FORMAT, Bundle, check_files, compare_latency, measure_latency
from nas.model import VoVNet, build
from nas.model.onnx_file import PACKAGES, require_packages

MAX_PROBLEMS_SHOWN = 3
"""Largest number of wrong tensors that an error lists."""


def export_bundle(
    *,
    architecture: Architecture,
    weights: Mapping[str, Tensor],
    classes: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    image_size: int,
    record: Mapping[str, Any],
    destination: Path,
    drawing: str = "",
    measure: bool = True,
    weights_license: str | None = None,
    crop_pct: float | None = None,
) -> Manifest:
    """Write a trained network to the folder `destination`, which must be new or empty.

    `weights` is the state dict of `nas.model.build(architecture, len(classes))`, on any device.
    `classes` are in the order of the logits. `mean` and `std` are per colour, of pixels scaled to
    [0, 1]. Images are `image_size` pixels square.

    `record` holds JSON values: `study` (name), `trial` (number), `params`, `measurements` (list of
    the fields of `Measurement`), `rungs` (list of the fields of `Rung`, in order) and `dataset`
    (name). It may also hold `recipe` (the study, from `StudySpec.to_dict`).

    `drawing` is the text of `architecture.txt`. With `measure`, the latency of the written files
    is measured on this machine. `weights_license` is the identifier of the licence that the model
    card states for the weights; with None it states none. If it was tested on the
    middle square of each image, `crop_pct` is the side of that square as a share of the shorter
    side; None stands for the way of the record's data set.

    Raises `InvalidValueError` for arguments of another form, `CorruptFileError` for weights of
    another network or with values that are not finite, `MissingDependencyError` without the extra
    `export`, and `ExportError` if the folder cannot be written or a check fails. After an error
    the destination is as it was.
    """
    require_packages("timm")
    facts = _facts(architecture, classes, tuple(mean), tuple(std), image_size)
    common: dict[str, Any] = {
        "classes": classes,
        "mean": mean,
        "std": std,
        "image_size": image_size,
        "crop_pct": crop_pct,
    }
    texts = {
        "architecture.json": _json(facts),
        "record.json": _json(record),
        "modeling.py": modeling_source(),
        "LICENSE": template("LICENSE"),
        "config.json": _json(timm_config(architecture, **common, dataset=record["dataset"])),
        "README.md": card(architecture, **common, record=record, weights_license=weights_license),
    }
    support = timm_support(architecture)
    if support["timm"] == "registered":
        texts[f"{REGISTRY}.py"] = registry_source()
    if drawing:
        texts["architecture.txt"] = f"{drawing}\n"
    model = _network(architecture, weights, len(classes))
    with renamed_at_the_end(destination) as folder:
        for name, text in texts.items():
            write_through(folder / name, text.encode())
        write_through(folder / "model.safetensors", save(model.state_dict()))
        for name, data in _programs(model):
            write_through(folder / name, data)
        bundle = Bundle(folder)
        checks = list(check_files(bundle))
        failed = [str(check) for check in checks if not check.passed]
        if failed:
            raise ExportError("\n".join(failed))
        figures = measure_latency(bundle) if measure else ()
        manifest = Manifest(
            files={path.name: file_facts(path) for path in sorted(folder.iterdir())},
            checks={check.name: check for check in checks},
            timm=support,
            versions={
                package: version(package)
                for package in ("osa-nas", "torch", "safetensors", "timm", *PACKAGES)
            },
            figures=tuple(plain(figure) for figure in figures),
            warnings=compare_latency(bundle, figures),
        )
        write_through(folder / "manifest.json", _json(manifest.to_dict()).encode())
    return manifest


def plain(value: Any) -> Any:
    """Return the fields of a dataclass as JSON values, times in ISO format."""
    return json.loads(
        json.dumps(
            asdict(value),
            default=lambda other: other.isoformat() if isinstance(other, datetime) else str(other),
        )
    )


def _programs(model: VoVNet) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file for another runtime."""
    stages = len(model.feature_info)
    program = exported(model)
    yield "backbone.pt2", to_pt2(program)
    backbone = backbone_onnx(program, stages)
    yield "backbone.onnx", backbone
    yield "backbone_fp16.onnx", half_precision(backbone)
    yield "classifier.onnx", classifier_onnx(backbone, cast("nn.Linear", model.head.fc))


def _facts(
    architecture: Architecture,
    classes: Sequence[str],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    image_size: int,
) -> dict[str, Any]:
    """Return the content of `architecture.json`, after checking it."""
    if not classes or not all(isinstance(name, str) for name in classes):
        raise InvalidValueError(f"classes must be names, at least one, not {classes!r}")
    if type(image_size) is not int or image_size < 1:
        raise InvalidValueError(f"image_size must be a whole number of pixels, not {image_size!r}")
    if len(mean) != 3 or not all(map(math.isfinite, mean)):
        raise InvalidValueError(f"mean must be three numbers, not {mean!r}")
    if len(std) != 3 or not all(map(math.isfinite, std)) or min(std) <= 0:
        raise InvalidValueError(f"std must be three positive numbers, not {std!r}")
    return {
        "format": FORMAT,
        "digest": architecture.digest,
        "architecture": architecture.to_dict(),
        "classes": list(classes),
        "image_size": image_size,
        "mean": list(mean),
        "std": list(std),
    }


def _json(values: Mapping[str, Any]) -> str:
    try:
        return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InvalidValueError(f"only JSON values can be exported: {error}") from error


def _network(architecture: Architecture, weights: Mapping[str, Tensor], num_classes: int) -> VoVNet:
    """Return the network with these weights, in float32 on the CPU, in eval mode."""
    with torch.device("meta"):  # without random initial values
        model = build(architecture, num_classes)
    problems = list(_problems(weights, model.state_dict()))
    if problems:
        shown = shortlist(problems, MAX_PROBLEMS_SHOWN, separator="; ", last="; ")
        raise CorruptFileError(f"these weights are not of this network: {shown}")
    model.to_empty(device="cpu").load_state_dict(weights)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if any(_is_new(norm) for norm in norms):
        raise CorruptFileError(
            "these weights were never trained: the BatchNorm statistics are those of a new network"
        )
    return model.eval()


def _problems(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Iterator[str]:
    yield from (f"{name} is missing" for name in expected if name not in weights)
    yield from (f"{name} is unknown" for name in weights if name not in expected)
    for name in expected.keys() & weights.keys():
        if weights[name].shape != expected[name].shape:
            yield f"{name} is {tuple(weights[name].shape)}, not {tuple(expected[name].shape)}"
        elif not weights[name].isfinite().all():
            yield f"{name} has values that are not finite"


def _is_new(norm: nn.BatchNorm2d) -> bool:
    """Return whether mean and variance are still 0 and 1, which would hide a folding mistake."""
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    return bool((mean == 0).all() and (variance == 1).all())


@contextmanager
def renamed_at_the_end(destination: Path) -> Iterator[Path]:
    """Give a folder to fill, and rename it to `destination` at the end.

    The folder lies in the nearest parent that exists, therefore on the same file system, and its
    name begins with a dot. After an error it is removed; a process that is killed leaves it there.
    Raises `ExportError` if files cannot be written, or if the destination is taken now or at the
    end.
    """
    place = Path(os.path.realpath(destination))
    try:
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise ExportError(f"{destination} exists and is not an empty folder; name a new one")
        staging = (
            next(parent for parent in place.parents if parent.exists())
            / f".{place.name}.{uuid.uuid4().hex}"
        )
        try:
            staging.mkdir()
            yield staging
            place.parent.mkdir(parents=True, exist_ok=True)
            staging.rename(place)
        finally:
            if staging.exists():
                shutil.rmtree(staging)
    except OSError as error:
        raise ExportError(f"{destination} cannot be written: {error.strerror or error}") from error


def write_through(path: Path, data: bytes) -> None:
    """Write the file through to the disk, so that the renamed folder survives a power failure."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
