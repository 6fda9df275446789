"""Bundles of small random networks, exported for real: whole or not there, and loadable without this package."""

import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nas.architecture import Architecture, Attention, OsaStage, PoolPadding, Stem
from nas.errors import CorruptFileError, ExportError, InvalidValueError, MissingDependencyError, NasError
from nas.export import Manifest, export_bundle
from nas.model import VoVNet, build

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

ROOT = Path(__file__).parents[2]
CLASSES = ("cat", "dog", "ñandú")
IMAGE_SIZE = 33  # odd, so that both paddings of the pool round
RECORD: dict[str, Any] = {
    "study": "tiny", "trial": 7, "params": {"stem_mid": 8}, "dataset": "digits",
    "rungs": [{"epochs": 1.0, "error": 0.5}, {"epochs": 3.0, "error": 0.125}],
    "measurements": [
        {"metric": "latency", "unit": "s", "value": 0.0031, "ci_low": 0.003, "ci_high": 0.0032, "kind": "measured",
         "method": "wall clock", "status": "ok", "reason": "", "samples": [0.003, 0.0031, 0.0032],
         "device": {"name": "A CPU", "device_class": "A CPU, 1 thread"},
         "plan": {"batch_size": 1, "image_size": 33, "precision": "fp32", "runtime": "eager"}},
        {"metric": "energy", "unit": "J", "value": None, "ci_low": None, "ci_high": None, "kind": "measured",
         "method": "none", "status": "unavailable", "reason": "no energy sensor"},
    ],
}

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


def network(seed: int) -> Architecture:
    """A small network; four of these in a row cover every value of every switch."""
    rng = random.Random(seed)
    stages = tuple(
        OsaStage(mid_channels=rng.randint(3, 12), out_channels=rng.randint(4, 24), num_layers=rng.randint(1, 4),
                 num_blocks=1 + (seed + index) % 2, kernel_size=3 + 2 * ((seed // 2 + index) % 2))
        for index in range(3 + seed % 2))
    return Architecture(
        stem_channels=(rng.randint(3, 8), rng.randint(3, 8), rng.randint(3, 8)), stages=stages,
        stem=list(Stem)[seed % 3], attention=list(Attention)[(seed + 1) % 3], residual=seed % 4 in {0, 3},
        depthwise=seed % 4 in {1, 3}, pool_padding=list(PoolPadding)[seed // 2 % 2])


@torch.no_grad()
def trained(architecture: Architecture) -> VoVNet:
    """The network with BatchNorms that are far from the identity."""
    torch.manual_seed(1)
    model = build(architecture, len(CLASSES)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.get_buffer("running_mean").normal_()
            module.get_buffer("running_var").uniform_(0.3, 3)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_()
    return model


def arguments(architecture: Architecture, **changes: Any) -> dict[str, Any]:
    return {"architecture": architecture, "weights": trained(architecture).state_dict(), "classes": CLASSES,
            "mean": (0.49, 0.48, 0.45), "std": (0.25, 0.24, 0.26), "image_size": IMAGE_SIZE, "record": RECORD,
            "measure": False, **changes}


def images(count: int) -> Tensor:
    return torch.randn(count, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(2))


def child(*arguments: str | Path, cwd: Path) -> str:
    """Run Python with as many threads as here: equal bits need equal threads."""
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=range(4))
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path, Manifest]:
    """The number of the network, its folder, the manifest."""
    folder = tmp_path_factory.mktemp("export") / "parent" / "bundle"
    return request.param, folder, export_bundle(**arguments(network(request.param)), destination=folder)


def test_the_four_networks_cover_every_switch() -> None:
    """Otherwise the tests below would promise more than they try."""
    networks = [network(seed) for seed in range(4)]
    assert {n.stem for n in networks} == set(Stem)
    assert {n.attention for n in networks} == set(Attention)
    assert {n.pool_padding for n in networks} == set(PoolPadding)
    assert {n.depthwise for n in networks} == {n.residual for n in networks} == {False, True}
    assert {len(n.stages) for n in networks} == {3, 4}
    assert {(s.kernel_size, n.depthwise) for n in networks for s in n.stages} == {
        (3, False), (3, True), (5, False), (5, True)}


@pytest.mark.slow
class TestBundle:
    """What every exported folder promises."""

    def test_manifest_is_of_the_files(self, bundle: tuple[int, Path, Manifest]) -> None:
        """Every file but the manifest is listed with its true size and checksum, and nothing else lies there."""
        _, folder, manifest = bundle
        found = {path.name: path.read_bytes() for path in folder.iterdir()}
        written = json.loads(found.pop("manifest.json"))
        assert set(found) - {"osa_nas_timm.py"} == {
            "architecture.json", "model.safetensors", "modeling.py", "classifier.onnx", "backbone.onnx",
            "backbone_fp16.onnx", "backbone.pt2", "config.json", "record.json", "README.md", "LICENSE"}
        assert ("osa_nas_timm.py" in found) == (written["timm"] == "registered")
        assert {file.name: (file.size_bytes, file.sha256) for file in manifest.files} == {
            name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in found.items()}
        assert written == manifest.to_dict()
        assert len(manifest.checks) > 15
        assert all(check.passed for check in manifest.checks.values())
        assert [path.name for path in folder.parent.iterdir()] == ["bundle"]

    def test_two_loaders_give_the_same_logits(self, bundle: tuple[int, Path, Manifest], tmp_path: Path) -> None:
        """modeling.py where this package cannot be found gives nas.model's bits; ONNX Runtime agrees to 1e-4, in
        batches of 1, 3 and 5."""
        seed, folder, _ = bundle
        model = trained(network(seed))
        session = onnxruntime.InferenceSession(folder / "classifier.onnx", providers=["CPUExecutionProvider"])
        batch = images(5)
        save_file({"images": batch}, tmp_path / "images")
        child("-I", "-S", "-B", "-c", LOAD_ALONE, sysconfig.get_path("purelib"), tmp_path / "images",
              tmp_path / "logits", cwd=folder)
        alone = load_file(tmp_path / "logits")["logits"]
        with torch.inference_mode():
            assert torch.equal(alone, model(batch))
        for count in (1, 3, 5):
            (logits,) = session.run(None, {"images": batch[:count].numpy()})
            assert abs(logits - alone[:count].numpy()).max() <= 1e-4 * alone[:count].abs().max().item()

    def test_onnx_is_plain(self, bundle: tuple[int, Path, Manifest]) -> None:
        """Opset 20 and only operators that every runtime knows, one convolution for each of the network's."""
        seed, folder, _ = bundle
        proto = onnx.load(folder / "classifier.onnx")
        operators = [node.op_type for node in proto.graph.node]
        assert [(opset.domain, opset.version) for opset in proto.opset_import] == [("", 20)]
        assert set(operators) <= {"Conv", "Relu", "Concat", "MaxPool", "ReduceMean", "HardSigmoid", "Mul", "Add",
                                  "Reshape", "Flatten", "GlobalAveragePool", "Gemm"}
        convolutions = sum(isinstance(module, nn.Conv2d) for module in trained(network(seed)).modules())
        assert operators.count("Conv") == convolutions

    def test_names_nothing_of_this_machine(self, bundle: tuple[int, Path, Manifest]) -> None:
        """No file holds a path of the sources, of Python or of the folder it was written in."""
        _, folder, _ = bundle
        paths = [os.fsencode(path) for path in (ROOT, sys.prefix, sysconfig.get_path("purelib"), folder.parent)]
        assert [(file.name, path) for file in folder.iterdir() for path in paths if path in file.read_bytes()] == []

    def test_record_and_architecture_come_back(self, bundle: tuple[int, Path, Manifest]) -> None:
        """The JSON files hold what was given: the same digest, the class names, every reading."""
        seed, folder, _ = bundle
        facts = json.loads((folder / "architecture.json").read_text(encoding="utf-8"))
        assert Architecture.from_dict(facts["architecture"]) == network(seed)
        assert facts["digest"] == network(seed).digest
        assert tuple(facts["classes"]) == CLASSES
        assert json.loads((folder / "record.json").read_text(encoding="utf-8")) == RECORD

    def test_readme_runs(self, bundle: tuple[int, Path, Manifest]) -> None:
        """The examples of the card run in the folder as they stand, with one logit for each class; the last makes a
        detector."""
        _, folder, _ = bundle
        examples = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
        assert len(examples) == 4
        for example in examples[:2]:
            assert child("-B", "-c", f"{example}\nprint(tuple(logits.shape))", cwd=folder).strip() == "(1, 3)"
        path = "import sys; sys.path.insert(0, '.')\n"
        child("-B", "-c", f"{path}{examples[2]}\n{examples[3]}\nprint(len(features))", cwd=folder)

    def test_readme_tells_figures_with_their_origin(self, bundle: tuple[int, Path, Manifest]) -> None:
        """A measured figure has its interval and device, the last rung counts, what was not measured says why."""
        _, folder, _ = bundle
        text = (folder / "README.md").read_text(encoding="utf-8")
        assert "3.1 ms (95 % interval 3 to 3.2)" in text
        assert "A CPU, 1 thread" in text
        assert "12.50 % | after 3 epochs" in text
        assert "| energy | unavailable: no energy sensor | not measured |" in text


@pytest.mark.slow
@pytest.mark.parametrize("bundle", [0], indirect=True)
def test_same_network_same_files(bundle: tuple[int, Path, Manifest], tmp_path: Path) -> None:
    """Exporting twice gives the same bytes, into an empty folder that is there already too."""
    seed, _, manifest = bundle
    (tmp_path / "again").mkdir()
    assert export_bundle(**arguments(network(seed)), destination=tmp_path / "again") == manifest


def test_modeling_source_is_found_in_an_archive(tmp_path: Path) -> None:
    """The package imported from a zip file, which has no source paths, gives the same modeling.py: the model's own
    source to the letter at its beginning."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "nas", tree / "nas", ignore=shutil.ignore_patterns("__pycache__"))
    archive = shutil.make_archive(str(tmp_path / "nas"), "zip", tree)
    shutil.rmtree(tree)
    code = ("import sys; sys.path[:0] = sys.argv[1:]; import nas; assert '.zip' in nas.__file__; "
            "from nas.export.standalone import modeling_source; sys.stdout.write(modeling_source())")
    found = child("-I", "-S", "-c", code, archive, sysconfig.get_path("purelib"), cwd=tmp_path)
    assert found.startswith((ROOT / "nas/model/vovnet.py").read_text(encoding="utf-8"))
    assert "def load(" in found


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """The operating system refuses to write more to any file, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestRefusals:
    """What cannot be exported leaves the disk as it was."""

    def refused(self, error: type[NasError], match: str, parent: Path, **changes: Any) -> None:
        before = sorted(parent.rglob("*"))
        with pytest.raises(error, match=match):
            export_bundle(**{**arguments(network(0)), "destination": parent / "bundle", **changes})
        assert sorted(parent.rglob("*")) == before

    def test_a_folder_with_something_in_it(self, tmp_path: Path) -> None:
        """Somebody's files are never overwritten or mixed with."""
        (tmp_path / "bundle").mkdir()
        (tmp_path / "bundle" / "mine").write_text("mine")
        self.refused(ExportError, "not an empty folder", tmp_path)

    def test_a_file_in_the_way(self, tmp_path: Path) -> None:
        """Neither as the destination nor as its parent."""
        (tmp_path / "bundle").write_text("mine")
        self.refused(ExportError, "not an empty folder", tmp_path)
        self.refused(ExportError, "cannot be written: Not a directory", tmp_path,
                     destination=tmp_path / "bundle" / "deeper" / "still")

    def test_a_disk_that_takes_no_more(self, tmp_path: Path) -> None:
        """The weights do not fit: the texts that did are gone again."""
        with largest_file(12_000):
            self.refused(ExportError, "cannot be written: File too large", tmp_path)

    def test_weights_of_another_network(self, tmp_path: Path) -> None:
        """One line names the first of the differences and how many there are."""
        self.refused(CorruptFileError, r"not of this network: .*; and \d+ more", tmp_path,
                     weights=trained(network(1)).state_dict())

    def test_corrupt_weights(self, tmp_path: Path) -> None:
        """A value that is not finite is named."""
        weights = trained(network(0)).state_dict()
        weights["head.fc.weight"][0, 0] = float("nan")
        self.refused(CorruptFileError, "head.fc.weight has values that are not finite", tmp_path, weights=weights)

    def test_weights_that_were_never_trained(self, tmp_path: Path) -> None:
        """BatchNorms that are the identity could not show that folding is right."""
        weights = build(network(0), len(CLASSES)).state_dict()
        self.refused(CorruptFileError, "never trained", tmp_path, weights=weights)

    @pytest.mark.slow
    def test_logits_that_overflow(self, tmp_path: Path) -> None:
        """Finite weights whose logits are not: ONNX Runtime cannot be said to agree, the whole folder goes."""
        weights = trained(network(0)).state_dict()
        weights["head.fc.weight"].fill_(3e38)
        self.refused(ExportError, "classifier.onnx, three sizes: relative difference from torch: found nan", tmp_path,
                     weights=weights)

    @pytest.mark.parametrize(("changes", "match"), [
        ({"classes": ()}, "at least one"),
        ({"mean": (0.5, 0.5)}, "mean must be three"),
        ({"std": (0.2, 0.2, 0.0)}, "std must be three positive"),
        ({"image_size": 0}, "image_size must be a whole number"),
        ({"record": {**RECORD, "trial": "7"}}, r"record\['trial'\] must be of type int"),
        ({"record": {**RECORD, "params": {"width": float("nan")}}}, "only JSON values"),
        ({"record": {**RECORD, "rungs": [{"epochs": 1.0}]}}, "not complete: 'error'"),
    ])
    def test_arguments_that_are_none(self, tmp_path: Path, changes: dict[str, Any], match: str) -> None:
        """Each wrong argument is named with what would be right."""
        self.refused(InvalidValueError, match, tmp_path, **changes)

    @pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
    def test_a_missing_package(self, tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The extra to install is named before anything is done."""
        monkeypatch.setitem(sys.modules, package, None)
        self.refused(MissingDependencyError, re.escape(f"'{package}': pip install 'osa-nas[export]'"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_never_half_a_bundle(tmp_path: Path, how: signal.Signals) -> None:
    """Stopped as soon as the first file is there, there is no destination; after Ctrl-C there is nothing at all."""
    import pickle  # noqa: PLC0415 - our own bytes

    process = subprocess.Popen([sys.executable, "-c", EXPORT, str(tmp_path / "bundle")], stdin=subprocess.PIPE,
                               stderr=subprocess.DEVNULL)
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(arguments(network(3))))
    process.stdin.close()
    deadline = time.monotonic() + 60
    while not any(tmp_path.rglob("model.safetensors")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None
    process.send_signal(how)
    assert process.wait(60) != 0
    left = [path.name for path in tmp_path.iterdir()]
    assert "bundle" not in left
    assert how is signal.SIGKILL or left == []
