"""Checks of a bundle as its users load it: from disk, in fresh processes, in every promised way.

The reference is the network of this package with the weights of the bundle. Torch loaders must give
the same bits. ONNX Runtime and half precision must give nearly the same numbers. Three image sizes
are tried, one of them odd and not square. The latency is measured again.
"""

import json
import re
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from nas.core.architecture import Architecture
from nas.core.complexity import COUNTED_METRICS, count
from nas.core.errors import (
    MALFORMED,
    CorruptFileError,
    ExportError,
    InvalidValueError,
    TrialFailedError,
    UnavailableError,
    first_line,
)
from nas.core.measurement import Measurement, MeasurementPlan, Precision, same_class
from nas.export.manifest import Check, file_facts
from nas.export.programs import feature_names
from nas.export.standalone import template
from nas.export.timm_config import reductions, timm_support
from nas.measuring import methods
from nas.measuring.meters import find_meter
from nas.measuring.runtimes import Network, OnnxFile
from nas.model import VoVNet, build
from nas.model.hooks import count_by_hooks
from nas.model.onnx_file import import_package, require_packages
from nas.model.weights_file import load_weights

FORMAT = 1
"""Format of `architecture.json`. A change that old loaders cannot read increases it."""
TOLERANCE = {"classifier.onnx": 1e-4, "backbone.onnx": 1e-4, "backbone_fp16.onnx": 1e-2}
"""Largest allowed difference from torch, divided by the largest value.

Float32 gives about 1e-6, half precision about 1e-3. All other loaders must give the same bits.
"""
ONNX_FILES = tuple(TOLERANCE)
MACHINE_PATHS = re.compile(
    rb"/home/|/root/|/Users/|/tmp/|/site-packages/|/usr/lib/python|[A-Z]:\\\\Users"
)
"""Beginnings of paths that a file of a bundle must not hold."""
MAX_LATENCY_CHANGE = 0.1
"""Relative difference from the recorded latency above which a warning is given.

The intervals of the two latencies must also not overlap.
"""
PROBES = ("probe_plain.py.txt", "probe_timm.py.txt")
"""Programs that load a bundle in a fresh process."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Result of `verify_bundle`: all checks, latencies measured on this machine, and warnings."""

    checks: tuple[Check, ...]
    figures: tuple[Measurement, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def failures(self) -> list[Check]:
        """The checks that did not pass."""
        return [check for check in self.checks if not check.passed]


@dataclass(frozen=True, kw_only=True)
class BundleFacts:
    """The network of a bundle: its classes, and the images that it takes."""

    digest: str
    architecture: Architecture
    classes: tuple[str, ...]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class SearchedLatency:
    """The latency that the search recorded, in seconds per batch, with its device and plan."""

    value: float
    ci_low: float | None
    ci_high: float | None
    device_kind: str | None
    device_class: str | None
    plan: MeasurementPlan | None


@dataclass(frozen=True)
class Bundle:
    """An exported folder, read on demand. Reading a wrong file raises `CorruptFileError`."""

    folder: Path

    @contextmanager
    def _json(self, name: str) -> Iterator[Any]:
        """Provide the values of a JSON file. Values of other types than `nas export` writes raise
        `CorruptFileError` with the path.
        """
        path = self.folder / name
        try:
            yield json.loads(path.read_text(encoding="utf-8"))
        except KeyError as error:
            raise CorruptFileError(f"{path}: {error} is missing") from error
        except (OSError, *MALFORMED) as error:
            raise CorruptFileError(
                f"{path} cannot be read: {error}; name the folder of a bundle"
            ) from error

    @cached_property
    def facts(self) -> BundleFacts:
        """The content of `architecture.json`."""
        with self._json("architecture.json") as values:
            if values.get("format") != FORMAT:
                raise CorruptFileError(
                    f"{self.folder / 'architecture.json'} has format {values.get('format')!r}, but "
                    f"this osa-nas reads format {FORMAT}; export the trial again"
                )
            return BundleFacts(
                digest=str(values["digest"]),
                architecture=Architecture.from_dict(values["architecture"]),
                classes=tuple(map(str, values["classes"])),
                image_size=MeasurementPlan(image_size=values["image_size"]).image_size,
                mean=_three(values["mean"]),
                std=_three(values["std"]),
            )

    @property
    def origin(self) -> tuple[str, int]:
        """The study, and the number of the trial in it."""
        with self._json("record.json") as record:
            return str(record["study"]), int(record["trial"])

    @cached_property
    def model(self) -> VoVNet:
        """The network of this package with the weights of the bundle, in eval mode."""
        model = build(self.facts.architecture, len(self.facts.classes))
        load_weights(model, self.folder / "model.safetensors")
        return model.eval()

    @property
    def plan(self) -> MeasurementPlan:
        """The plan of the search's latency, or without one a plan for the bundle's image size."""
        recorded = self.searched_latency
        if recorded and recorded.plan:
            return recorded.plan
        return MeasurementPlan(image_size=self.facts.image_size)

    @cached_property
    def searched_latency(self) -> SearchedLatency | None:
        """The latency that the search recorded, None if it has none."""
        with self._json("record.json") as record:
            for m in record["measurements"]:
                if m["metric"] == "latency" and m["value"] is not None:
                    device = m["device"] or {}
                    return SearchedLatency(
                        value=float(m["value"]),
                        ci_low=m["ci_low"] and float(m["ci_low"]),
                        ci_high=m["ci_high"] and float(m["ci_high"]),
                        device_kind=device.get("kind"),
                        device_class=device.get("device_class"),
                        plan=MeasurementPlan.from_dict(m["plan"]) if m["plan"] else None,
                    )
            return None

    def recorded_counts(self) -> tuple[int, dict[str, float]]:
        """Return the image size of the search, and the counts that it recorded by metric."""
        with self._json("record.json") as record:
            plan = (record.get("recipe") or {}).get("measurement") or {}
            size = plan.get("image_size", self.facts.image_size)
            return MeasurementPlan(image_size=size).image_size, {
                m["metric"]: float(m["value"])
                for m in record["measurements"]
                if m["kind"] == "counted" and m["metric"] in COUNTED_METRICS
            }

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of each file, as `manifest.json` has it."""
        with self._json("manifest.json") as manifest:
            return {name: str(file["sha256"]) for name, file in manifest["files"].items()}


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


def verify_bundle(folder: Path, *, measure: bool = True) -> Verification:
    """Check the bundle in `folder`, and with `measure` its latency on this machine.

    The latency is measured alone on the device, if all checks pass. A failed check is part of the
    result and raises no error, and so is a latency that this machine cannot measure.

    Raises `CorruptFileError` if the folder cannot be read as a bundle, `MissingDependencyError`
    without the extra `export`, and `BrokenDependencyError` if ONNX cannot be imported.
    """
    require_packages("timm")
    bundle = Bundle(folder)
    checks = (*check_sums(bundle), *check_files(bundle))
    passed = all(check.passed for check in checks)
    figures = measure_latency(bundle) if measure and passed else ()
    return Verification(checks=checks, figures=figures, warnings=compare_latency(bundle, figures))


def check_files(bundle: Bundle) -> Iterator[Check]:
    """Yield all checks but those of checksums and latency."""
    yield from _counts(bundle)
    yield from _machine_paths(bundle.folder)
    yield from _onnx_rules(bundle.folder)
    yield from _loaders(bundle)


def check_sums(bundle: Bundle) -> Iterator[Check]:
    """Yield a check of the checksum of each file that the manifest names."""
    files = {path.name: path for path in bundle.folder.iterdir() if path.is_file()}
    for name, sha256 in bundle.checksums().items():
        path = files.get(name)
        same = path is not None and file_facts(path)["sha256"] == sha256
        yield Check(
            name=f"{name}{' (missing)' if path is None else ''}: checksums that differ",
            found=float(not same),
        )


def _counts(bundle: Bundle) -> Iterator[Check]:
    """Compare counts by arithmetic, by forward hooks on the loaded network, and in the record."""
    facts = bundle.facts
    counted = count(facts.architecture, facts.image_size, len(facts.classes))
    hooked = count_by_hooks(bundle.model, facts.image_size)
    for name in COUNTED_METRICS:
        yield Check(
            name=f"difference of {name}, counted and found in the network",
            found=abs(getattr(counted, name) - getattr(hooked, name)),
        )
    size, recorded = bundle.recorded_counts()
    planned = count(facts.architecture, size, len(facts.classes))
    for name, value in recorded.items():
        yield Check(
            name=f"difference of {name} from the record", found=abs(value - getattr(planned, name))
        )
    yield Check(name="digests that differ", found=float(facts.digest != facts.architecture.digest))


def _machine_paths(folder: Path) -> Iterator[Check]:
    """Count the files that name a folder of a machine."""
    names = [name for name, data in _contents(folder) if MACHINE_PATHS.search(data)]
    yield Check(
        name=f"files that name a path of a machine{': ' if names else ''}{', '.join(names)}",
        found=len(names),
    )


def _contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file, and of each file inside a .pt2 file."""
    for path in sorted(folder.iterdir()):
        members: list[tuple[str, bytes]] = []
        if path.suffix == ".pt2" and zipfile.is_zipfile(path):
            # a damaged archive is read as one file; its loaders fail, and a check says so
            with suppress(Exception), zipfile.ZipFile(path) as archive:
                members = [
                    (f"{path.name}/{name}", archive.read(name)) for name in archive.namelist()
                ]
        if members:
            yield from members
        elif path.is_file():
            yield path.name, path.read_bytes()


def _onnx_rules(folder: Path) -> Iterator[Check]:
    """Check that the ONNX files are valid and that their BatchNorms are folded."""
    onnx = import_package("onnx")
    for name in ONNX_FILES:
        try:
            proto = onnx.load(folder / name)
            onnx.checker.check_model(proto, full_check=True)
            valid = True
            left = sum(node.op_type == "BatchNormalization" for node in proto.graph.node)
        except Exception as error:  # noqa: BLE001 - protobuf, checker and inference share no base
            valid, left = False, 0
            name = f"{name} ({first_line(error)[:120]})"  # noqa: PLW2901 - for both checks
        yield Check(name=f"{name}: rules of ONNX that are broken", found=float(not valid))
        yield Check(name=f"BatchNormalization nodes left in {name}", found=left)


def _loaders(bundle: Bundle) -> Iterator[Check]:
    """Compare the outputs of every loader in a fresh process with those of this process."""
    images = _images(bundle)
    expected = dict(_expected(bundle, images))
    architecture = bundle.facts.architecture
    support, stages = timm_support(architecture), len(architecture.stages)
    outputs: dict[str, Tensor] = {}
    with ThreadPoolExecutor() as pool:  # most of the time of the probes is imports
        probes = [
            pool.submit(_probe, bundle.folder, probe, images, support["timm"], str(stages))
            for probe in PROBES
        ]
    for probe in probes:
        try:
            outputs |= probe.result()
        except ExportError as error:
            yield Check(name=str(error), found=1.0)
    even, none = images["even"], torch.empty(0)  # of timm, if its probe fails
    shapes = [expected[f"{_size(even)} {name}"].shape for name in feature_names(stages)]
    channels = [float(shape[1]) for shape in shapes]
    strides = [even.shape[2] / shape[2] for shape in shapes]
    for what, named, found in (
        ("channels are not those timm announces", outputs.pop("timm channels", none), channels),
        ("stride is not the one timm announces", outputs.pop("timm reductions", none), strides),
        ("stride is not the architecture's", torch.tensor(reductions(architecture)), strides),
    ):
        if len(named):
            differ = sum(int(a) != b for a, b in zip(named, found, strict=True))
            yield Check(name=f"stages whose {what}", found=differ)
    yield from _differences(outputs, expected)


def _differences(outputs: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Iterator[Check]:
    """Yield a check for each loader, of its largest difference over all images and outputs."""
    differences: dict[str, list[float]] = defaultdict(list)
    for name, value in outputs.items():
        loader, _, output = name.partition(" ")
        exact = loader not in TOLERANCE
        differences[loader].append(_difference(value, expected[output], exact=exact))
    for loader, values in sorted(differences.items()):
        exact = loader not in TOLERANCE
        unit = "values that differ in a bit" if exact else "relative difference from torch"
        yield Check(
            name=f"{loader}, three sizes: {unit}",
            found=float(np.max(values)),  # NaN if one of them is
            allowed=TOLERANCE.get(loader, 0.0),
        )


def _images(bundle: Bundle) -> dict[str, Tensor]:
    """Return random images of the bundle's size, of even and of odd sizes.

    The even sizes are multiples of every stride. All sizes leave more than one pixel in the last
    stage, because `torch.export` makes another program for a size of 1.
    """
    reduction, size = reductions(bundle.facts.architecture)[-1], bundle.facts.image_size
    side = max(2 * reduction, 32)
    random = torch.Generator().manual_seed(0)
    own = max(size, 2 * reduction)
    shapes = {
        "own": (1, own, own),
        "even": (3, side, side + reduction),
        "odd": (2, side + 5, side + reduction + 3),
    }
    return {
        name: torch.randn(batch, 3, height, width, generator=random)
        for name, (batch, height, width) in shapes.items()
    }


def _size(batch: Tensor) -> str:
    """Return the name of a batch, such as `2x3x37x67`."""
    return "x".join(map(str, batch.shape))


@torch.inference_mode()
def _expected(bundle: Bundle, images: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield the logits and features of this package's network for each batch."""
    for batch in images.values():
        yield f"{_size(batch)} logits", bundle.model(batch)
        features = bundle.model.forward_features(batch)
        yield from (
            (f"{_size(batch)} {name}", value)
            for name, value in zip(feature_names(len(features)), features, strict=True)
        )


def _probe(
    folder: Path, probe: str, images: Mapping[str, Tensor], *arguments: str
) -> dict[str, Tensor]:
    """Run a probe in the folder and return its outputs by name.

    Raises `ExportError` with the last line of its error output if it fails.
    """
    command = [
        sys.executable,
        "-I",
        "-B",
        "-c",
        template(probe),
        str(torch.get_num_threads()),
        *arguments,
    ]
    batches = {_size(batch): batch for batch in images.values()}
    done = subprocess.run(  # noqa: S603
        command, cwd=folder, input=save(batches), capture_output=True, check=False
    )
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        raise ExportError(f"{probe.removesuffix('.py.txt')} fails in a fresh process: {reason}")
    return load(done.stdout)


def _difference(found: Tensor, expected: Tensor, *, exact: bool) -> float:
    """Return how much an output differs; infinite for another shape.

    If `exact`, this is the number of values that differ in a bit. Otherwise it is the largest
    difference divided by the largest expected value.
    """
    if found.shape != expected.shape:
        return float("inf")
    if exact:
        bits, expected_bits = (each.contiguous().view(torch.int32) for each in (found, expected))
        return float((bits != expected_bits).sum())
    difference = (found - expected).abs().max().item()
    scale = expected.abs().max().item()
    return float(difference / scale if scale else difference)


def measure_latency(bundle: Bundle) -> tuple[Measurement, ...]:
    """Measure the latency of the network under the plan of the search, in seconds per batch.

    It is measured once as in the search, and once for `classifier.onnx` in ONNX Runtime on the CPU
    with the threads of the plan. A latency that the search measured on a CPU is measured on the
    CPU, any other on the default device. One that cannot be measured here is unavailable, with the
    reason.
    """
    plan, searched = bundle.plan, bundle.searched_latency
    device = "cpu" if searched and searched.device_kind == "cpu" else None
    file = OnnxFile(data=(bundle.folder / "classifier.onnx").read_bytes(), name="classifier.onnx")
    onnx_plan = replace(plan, runtime="onnxruntime", precision=Precision.FP32, channels_last=None)
    return _latency(bundle.model, plan, device), _latency(file, onnx_plan, "cpu")


def _latency(network: Network, plan: MeasurementPlan, device: str | None) -> Measurement:
    try:
        with find_meter(device) as meter:
            built = methods.build(network, plan, meter)
            with meter.exclusive(), methods.prepare(built, plan, meter) as run:
                return run.with_runtime(methods.latency(run, meter, plan))
    except (InvalidValueError, TrialFailedError, UnavailableError) as error:
        return Measurement.unavailable("latency", "s", str(error), plan=plan)


def compare_latency(bundle: Bundle, figures: tuple[Measurement, ...]) -> tuple[str, ...]:
    """Return a line for each doubt about the latencies that were measured again."""
    doubts = [
        f"latency in {m.plan.runtime} is {m.status}: {m.reason}"
        for m in figures
        if m.plan and m.status != "ok"
    ]
    searched = bundle.searched_latency
    if not figures or searched is None or figures[0].value is None or figures[0].device is None:
        return tuple(doubts)
    now = figures[0]
    if not same_class(searched.device_class, figures[0].device.device_class):
        doubts.append(
            f"the search measured on {searched.device_class}, this is "
            f"{figures[0].device.device_class}: the latencies cannot be compared"
        )
    elif _apart(searched, now):
        doubts.append(
            f"latency is {1e3 * figures[0].value:.4g} ms here and was "
            f"{1e3 * searched.value:.4g} ms in the search, beyond both intervals"
        )
    return tuple(doubts)


def _apart(searched: SearchedLatency, now: Measurement) -> bool:
    """Return whether two latencies differ beyond `MAX_LATENCY_CHANGE` and beyond both intervals."""
    if now.value is None or (
        abs(now.value - searched.value) <= MAX_LATENCY_CHANGE * abs(searched.value)
    ):
        return False
    low, high = searched.ci_low, searched.ci_high
    if low is None or high is None or now.ci_low is None or now.ci_high is None:
        return True
    return now.ci_low > high or now.ci_high < low
