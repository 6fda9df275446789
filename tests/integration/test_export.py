"""Bundles of small networks: they are complete or absent, and load without this package."""

import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nas.core.architecture import Architecture, Attention, PoolPadding, Stem
from nas.core.errors import (
    CorruptFileError,
    ExportError,
    InvalidValueError,
    MissingDependencyError,
    NasError,
)
from nas.core.preparation import Preparation
from nas.core.study import DataSpec, Objective, RungSpec, StudySpec
from nas.core.trial import Evaluation, Rung, Trial, TrialState
from nas.export import export_bundle, export_trial
from nas.export.card import card
from nas.export.verify import (
    MACHINE_PATHS,
    Bundle,
    check_files,
    check_sums,
    compare_latency,
    measure_latency,
)
from nas.model import build
from nas.record import StudyRecord
from nas.report.drawing import draw
from nas.training import Checkpoint, write_checkpoint

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

ROOT = Path(__file__).parents[2]
LOAD_ALONE = """
import sys
sys.path[:0] = [".", sys.argv[1]]
import importlib.util
assert importlib.util.find_spec("nas") is None
import torch
from safetensors.torch import load_file, save_file
from modeling import load
model = load(".")
assert not model.training
with torch.inference_mode():
    save_file({"logits": model(load_file(sys.argv[2])["images"])}, sys.argv[3])
"""

EXPORT = """
import pickle, sys
from pathlib import Path
from nas.export import export_bundle
export_bundle(**pickle.loads(sys.stdin.buffer.read()), destination=Path(sys.argv[1]))
"""


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 33, 33, generator=torch.Generator().manual_seed(2))


def child(*arguments: str | Path, cwd: Path) -> str:
    """Run Python with as many threads as this process, because equal bits need equal threads."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(params=["stock", "registered"])
def bundle(request, bundle_of):
    """A network and its bundle, which is made once for all tests."""
    return bundle_of(request.param)


def test_the_exported_networks_cover_every_switch(export_arguments):
    """Every setting of an architecture is tried; `paper` is exported in the test of overflow."""
    networks = [export_arguments(name)["architecture"] for name in ("stock", "registered", "paper")]
    assert {n.stem for n in networks} == set(Stem)
    assert {n.attention for n in networks} == set(Attention)
    assert {n.pool_padding for n in networks} == set(PoolPadding)
    assert {(s.kernel_size, n.depthwise) for n in networks for s in n.stages} == {
        (3, False),
        (3, True),
        (5, False),
        (5, True),
    }
    assert {(n.depthwise, n.residual and s.num_blocks > 1) for n in networks for s in n.stages} == {
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    }
    assert [len(n.stages) for n in networks] == [4, 3, 3]


@pytest.mark.slow
class TestBundle:
    """Properties of every exported folder."""

    def test_manifest_is_of_the_files(self, bundle) -> None:
        """It lists every other file with its true size and checksum, and no file that is absent."""
        folder, manifest = bundle.folder, bundle.manifest
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        written = json.loads(files.pop("manifest.json"))
        assert set(files) - {"osa_nas_timm.py"} == {
            "architecture.json",
            "model.safetensors",
            "modeling.py",
            "classifier.onnx",
            "backbone.onnx",
            "backbone_fp16.onnx",
            "backbone.pt2",
            "config.json",
            "record.json",
            "README.md",
            "LICENSE",
        }
        assert ("osa_nas_timm.py" in files) == (written["timm"] == "registered")
        assert written["files"] == {
            name: {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
        }
        assert written == manifest.to_dict()
        assert len(manifest.checks) > 15
        assert all(check.passed for check in manifest.checks.values())
        assert [path.name for path in folder.parent.iterdir()] == ["bundle"]

    def test_two_loaders_give_the_same_logits(
        self, bundle, export_arguments, tmp_path: Path
    ) -> None:
        """They agree with nas.model, for batches of 1, 3 and 5.

        modeling.py, without this package, gives the same bits. ONNX Runtime agrees to 1e-4.
        """
        model = build(bundle.architecture, 3).eval()
        model.load_state_dict(export_arguments(bundle.manifest.timm["timm"])["weights"])
        session = onnxruntime.InferenceSession(
            bundle.folder / "classifier.onnx", providers=["CPUExecutionProvider"]
        )
        batch = images(5)
        save_file({"images": batch}, tmp_path / "images")
        child(
            "-I",
            "-S",
            "-B",
            "-c",
            LOAD_ALONE,
            sysconfig.get_path("purelib"),
            tmp_path / "images",
            tmp_path / "logits",
            cwd=bundle.folder,
        )
        alone = load_file(tmp_path / "logits")["logits"]
        with torch.inference_mode():
            assert torch.equal(alone, model(batch))
        for count in (1, 3, 5):
            (logits,) = session.run(None, {"images": batch[:count].numpy()})
            assert (
                abs(logits - alone[:count].numpy()).max() <= 1e-4 * alone[:count].abs().max().item()
            )

    def test_onnx_is_plain(self, bundle) -> None:
        """It has opset 20, only common operators, and as many convolutions as the network."""
        proto = onnx.load(bundle.folder / "classifier.onnx")
        operators = [node.op_type for node in proto.graph.node]
        assert [(opset.domain, opset.version) for opset in proto.opset_import] == [("", 20)]
        assert set(operators) <= {
            "Conv",
            "Relu",
            "Concat",
            "MaxPool",
            "ReduceMean",
            "HardSigmoid",
            "Mul",
            "Add",
            "Reshape",
            "Flatten",
            "GlobalAveragePool",
            "Gemm",
        }
        convolutions = sum(
            isinstance(module, nn.Conv2d) for module in build(bundle.architecture, 3).modules()
        )
        assert operators.count("Conv") == convolutions

    def test_no_file_names_this_machine(self, bundle) -> None:
        """No file holds a path of the sources, of Python or of the folder of the export."""
        folder = bundle.folder
        paths = [
            os.fsencode(path)
            for path in (ROOT, sys.prefix, sysconfig.get_path("purelib"), folder.parent)
        ]
        assert [
            (file.name, path)
            for file in folder.iterdir()
            for path in paths
            if path in file.read_bytes()
        ] == []

    def test_record_and_architecture_come_back(self, bundle, export_arguments) -> None:
        """The JSON files hold the same digest, class names and readings as the arguments."""
        given = export_arguments(bundle.manifest.timm["timm"])
        facts = json.loads((bundle.folder / "architecture.json").read_text(encoding="utf-8"))
        assert Architecture.from_dict(facts["architecture"]) == given["architecture"]
        assert facts["digest"] == given["architecture"].digest
        assert tuple(facts["classes"]) == given["classes"]
        assert (
            json.loads((bundle.folder / "record.json").read_text(encoding="utf-8"))
            == given["record"]
        )

    def test_readme_runs(self, bundle) -> None:
        """All Python examples of the card run in the folder, one after the other."""
        examples = re.findall(
            r"```python\n(.*?)```",
            (bundle.folder / "README.md").read_text(encoding="utf-8"),
            re.DOTALL,
        )
        shown = [f"{example}\nprint(tuple(logits.shape))" for example in examples[:3]]
        code = "\n".join(
            [
                "import sys; sys.path.insert(0, '.')",
                *shown,
                *examples[3:],
                "print(type(detector).__name__, type(detr).__name__)",
            ]
        )
        printed = child("-B", "-c", code, cwd=bundle.folder).splitlines()
        assert printed == ["(1, 3)"] * 3 + ["FCOS RTDetrForObjectDetection"]

    def test_readme_gives_figures_with_their_sources(self, bundle) -> None:
        """A measured figure has interval and device, a missing one its reason."""
        text = (bundle.folder / "README.md").read_text(encoding="utf-8")
        assert "3.1 ms (95 % interval 3 to 3.2)" in text
        assert "A CPU, 1 thread" in text
        assert "12.50 % | after 3 epochs" in text
        assert "| energy | unavailable: no energy sensor | not measured |" in text


@pytest.mark.parametrize("recorded", [{"image_size": 16}, {}])
def test_a_trial_is_exported_without_paths_and_at_its_own_size(
    export_arguments, monkeypatch, tmp_path: Path, recorded: dict[str, int]
) -> None:
    """A budget ended its training at the first rung. Older records do not name a rung's size."""
    given = export_arguments("registered")
    network, weights, path = given["architecture"], given["weights"], "/home/ada/net.json"
    spec = StudySpec(
        name="s",
        space="osa_tiny",
        objectives=(Objective(metric="error", reference=1.0),),
        rungs=(RungSpec(epochs=1, image_size=16), RungSpec(epochs=2, image_size=24)),
        data=DataSpec(dataset="folder", folder="/home/ada/images"),
        baselines=(path,),
        first=(path,),
    )
    study = StudyRecord(
        spec=spec,
        dataset="folder",
        classes=3,
        artifacts=str(tmp_path),
        numerics=Preparation(data=spec.data, classes=given["classes"]).to_dict(),
        identity=None,
        version="0",
        created_at=datetime.now(UTC),
        counts={},
    )
    rung = Rung(epochs=1, metrics={"error": 0.5}, numerics=recorded, checkpoint="rung")
    write_checkpoint(
        tmp_path / "rung", Checkpoint(epochs=1, digest=network.digest, weights=weights)
    )
    trial = Trial(
        number=0,
        params={},
        architecture=network,
        seed=0,
        state=TrialState.STOPPED,
        evaluation=Evaluation(rungs=(rung,)),
    )
    monkeypatch.setattr("nas.export.trial.export_bundle", lambda **arguments: arguments)
    exported: Any = export_trial(study, trial, None, destination=tmp_path / "bundle", draw=draw)
    size = recorded.get("image_size", 24)
    assert exported["image_size"] == size
    assert exported["drawing"] == draw(network, size, 3)
    assert not MACHINE_PATHS.search(json.dumps(exported["record"]).encode())
    assert StudySpec.from_dict(exported["record"]["recipe"]).rungs == spec.rungs


@pytest.mark.long
@pytest.mark.slow
def test_same_network_same_files(bundle_of, export_arguments, tmp_path: Path) -> None:
    """Exporting twice gives the same bytes, also into an empty folder that exists."""
    (tmp_path / "again").mkdir()
    again = export_bundle(**export_arguments("registered"), destination=tmp_path / "again")
    assert again == bundle_of("registered").manifest


def test_modeling_source_is_found_in_an_archive(tmp_path: Path) -> None:
    """A package in a zip file, which has no source paths, still writes the source of the model."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "nas", tree / "nas", ignore=shutil.ignore_patterns("__pycache__"))
    archive = shutil.make_archive(str(tmp_path / "nas"), "zip", tree)
    shutil.rmtree(tree)
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; import nas; assert '.zip' in nas.__file__; "
        "from nas.export.standalone import modeling_source; sys.stdout.write(modeling_source())"
    )
    source = child("-I", "-S", "-c", code, archive, sysconfig.get_path("purelib"), cwd=tmp_path)
    assert source.startswith((ROOT / "nas/model/vovnet.py").read_text(encoding="utf-8"))
    assert "def load(" in source


class TestDamagedBundles:
    """A file of a bundle that was damaged is named in one line, or fails a check."""

    @pytest.fixture
    def bundle(self, tmp_path: Path) -> Bundle:
        """A bundle that may be damaged."""
        source = Path(__file__).parent / "bundles/before_the_layout"
        return Bundle(shutil.copytree(source, tmp_path / "bundle"))

    @pytest.mark.parametrize("value", [10**400, [], {}, "x", None])
    def test_a_value_that_no_export_writes(self, bundle: Bundle, value: object) -> None:
        """The error names the file."""
        path = bundle.folder / "record.json"
        record = json.loads(path.read_text())
        record["measurements"] = [{"metric": "macs", "kind": "counted", "value": value}]
        path.write_text(json.dumps(record))
        with pytest.raises(CorruptFileError, match=r"record\.json cannot be read: "):
            bundle.recorded_counts()

    def test_an_archive_that_is_damaged_inside(self, bundle: Bundle) -> None:
        """Its end is that of an archive, and its members cannot be read."""
        path = bundle.folder / "backbone.pt2"
        content = bytearray(path.read_bytes())
        for start in range(200, len(content) // 2, 50):
            content[start] ^= 0xFF
        path.write_bytes(content)
        assert zipfile.is_zipfile(path)
        names = [check.name for check in islice(check_files(bundle), 10)]
        assert "files that name a path of a machine" in names

    def test_a_precision_that_the_device_of_the_search_lacks(
        self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The latency is unavailable, and a warning. It is not measured on a GPU instead."""
        path = bundle.folder / "record.json"
        record = json.loads(path.read_text())
        latency = {"metric": "latency", "value": 1e-3, "ci_low": None, "ci_high": None}
        latency["device"] = {"kind": "cpu", "device_class": "A CPU"}
        latency["plan"] = {"precision": "tf32", "max_time_s": 0.3}
        path.write_text(json.dumps({**record, "measurements": [latency]}))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        first, second = measure_latency(bundle)
        assert first.value is None
        assert first.reason.startswith("precision tf32 is a mode of NVIDIA GPUs")
        assert second.plan is not None
        assert second.plan.runtime == "onnxruntime"
        assert any(
            line.startswith("latency in eager is unavailable: precision tf32")
            for line in compare_latency(bundle, (first, second))
        )

    @pytest.mark.parametrize("name", ["../bundle/README.md", "x" * 5000, "a\0b", ""])
    def test_a_manifest_that_names_no_file_of_the_folder(self, bundle: Bundle, name: str) -> None:
        """The file counts as missing."""
        path = bundle.folder / "manifest.json"
        manifest = json.loads(path.read_text())
        manifest["files"] = {name: {"size_bytes": 1, "sha256": "0" * 64}}
        path.write_text(json.dumps(manifest))
        checks = list(check_sums(bundle))
        assert [check.passed for check in checks] == [False]
        assert "(missing)" in checks[0].name


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """Let the operating system refuse larger files, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestLicence:
    """The model card states a licence only if the owner of the weights names one."""

    @pytest.fixture
    def text(self, export_arguments):
        """A function that returns the card of a network."""

        def card_of(network: str, **changes: str) -> str:
            given = export_arguments(network)
            names = ("classes", "mean", "std", "image_size", "record")
            return card(given["architecture"], **{name: given[name] for name in names}, **changes)

        return card_of

    def test_no_licence_is_claimed(self, text) -> None:
        """Neither for the machines that read the first lines nor for people."""
        front_matter, body = text("stock").split("---\n")[1:]
        assert "license" not in front_matter
        assert "Licence of the weights" not in body
        assert body.endswith(
            "`modeling.py` is a source file of osa-nas, under Apache-2.0 (`LICENSE`).\n"
        )

    def test_the_licence_of_the_owner(self, text) -> None:
        """It is stated for the weights; the source files keep theirs."""
        front_matter, body = text("registered", weights_license="cc-by-4.0").split("---\n")[1:]
        assert front_matter.startswith("license: cc-by-4.0\n")
        assert (
            "`modeling.py` and `osa_nas_timm.py` are source files of osa-nas, under Apache-2.0"
            in body
        )
        assert body.endswith("## Licence of the weights\n\ncc-by-4.0\n")

    @pytest.mark.parametrize("wrong", ["", "my own", "mit\nlibrary_name: other"])
    def test_a_licence_that_is_no_identifier(self, text, wrong: str) -> None:
        """It would break the first lines, which machines read."""
        with pytest.raises(InvalidValueError, match=r"an identifier such as .* cc-by-4\.0"):
            text("stock", weights_license=wrong)


class TestRefusals:
    """An export that is refused leaves the disk as it was."""

    @pytest.fixture
    def refused(self, export_arguments, tmp_path):
        """A function that exports with changes, and checks the error and the disk."""

        def call(error: type[NasError], match: str, network: str = "stock", **changes: Any) -> None:
            given = {"destination": tmp_path / "bundle", **export_arguments(network)}
            changed = {**changes, "record": {**given["record"], **changes.get("record", {})}}
            before = sorted(tmp_path.rglob("*"))
            with pytest.raises(error, match=match):
                export_bundle(**{**given, **changed})
            assert sorted(tmp_path.rglob("*")) == before

        return call

    def test_a_folder_with_something_in_it(self, refused, tmp_path: Path) -> None:
        """Files in the destination are never overwritten, and no file is added to them."""
        (tmp_path / "bundle").mkdir()
        (tmp_path / "bundle" / "mine").write_text("mine")
        refused(ExportError, "not an empty folder")

    def test_a_file_in_the_way(self, refused, tmp_path: Path) -> None:
        """A file may be neither the destination nor a parent of it."""
        (tmp_path / "bundle").write_text("mine")
        refused(ExportError, "not an empty folder")
        refused(
            ExportError,
            "cannot be written: Not a directory",
            destination=tmp_path / "bundle" / "deeper" / "still",
        )

    def test_a_disk_that_takes_no_more(self, refused) -> None:
        """The weights do not fit, and the files written before them are removed again."""
        with largest_file(12_000):
            refused(ExportError, "cannot be written: File too large")

    def test_weights_of_another_network(self, refused, export_arguments) -> None:
        """One line names the first differences and the number of the others."""
        weights = export_arguments("paper")["weights"]
        refused(CorruptFileError, r"not of this network: .*; and \d+ more", weights=weights)

    def test_corrupt_weights(self, refused, export_arguments) -> None:
        """The error names the tensor with a value that is not finite."""
        weights = export_arguments("stock")["weights"]
        weights["head.fc.weight"][0, 0] = float("nan")
        refused(CorruptFileError, "head.fc.weight has values that are not finite", weights=weights)

    def test_weights_that_were_never_trained(self, refused, export_arguments) -> None:
        """BatchNorms that are the identity would hide a folding mistake."""
        weights = build(export_arguments("stock")["architecture"], 3).state_dict()
        refused(CorruptFileError, "never trained", weights=weights)

    @pytest.mark.long
    @pytest.mark.slow
    def test_logits_that_overflow(self, refused, export_arguments) -> None:
        """Finite weights with infinite logits are refused, because no runtime can agree on them.

        Only the check of the classifier fails.
        """
        weights = export_arguments("paper")["weights"]
        weights["head.fc.weight"].fill_(3e38)
        refused(
            ExportError,
            r"\Aclassifier\.onnx, three sizes: relative difference from torch: found nan, .*\Z",
            network="paper",
            weights=weights,
        )

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"classes": ()}, "at least one"),
            ({"mean": (0.5, 0.5)}, "mean must be three"),
            ({"std": (0.2, 0.2, 0.0)}, "std must be three positive"),
            ({"image_size": 0}, "image_size must be a whole number"),
            ({"record": {"params": {"width": float("nan")}}}, "only JSON values"),
        ],
    )
    def test_wrong_arguments(self, refused, changes: dict[str, Any], match: str) -> None:
        """The error names each wrong argument and what would be right."""
        refused(InvalidValueError, match, **changes)

    @pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
    def test_a_missing_package(
        self, refused, package: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The error names the extra to install, before anything is written."""
        monkeypatch.setitem(sys.modules, package, None)
        refused(MissingDependencyError, re.escape(f"'{package}': pip install 'osa-nas[export]'"))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_never_half_a_bundle(export_arguments, tmp_path: Path, how: signal.Signals) -> None:
    """An export that is stopped at its first file leaves no destination.

    After Ctrl-C nothing at all is left.
    """
    import pickle

    process = subprocess.Popen(
        [sys.executable, "-c", EXPORT, str(tmp_path / "bundle")],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(export_arguments("stock")))
    process.stdin.close()
    deadline = time.monotonic() + 60
    while (
        not any(tmp_path.rglob("model.safetensors"))
        and time.monotonic() < deadline
        and process.poll() is None
    ):
        time.sleep(0.01)
    assert process.poll() is None
    process.send_signal(how)
    assert process.wait(60) != 0
    left = [path.name for path in tmp_path.iterdir()]
    assert "bundle" not in left
    assert how is signal.SIGKILL or left == []
