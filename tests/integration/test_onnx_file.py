"""A traced network of this package runs on ONNX Runtime exactly as one that `torch.export` gave."""

import sys

import pytest
import torch
from torch import nn

from nas.core.architecture import Architecture, Attention, OsaStage, PoolPadding, Stem
from nas.core.errors import BrokenDependencyError
from nas.model import build
from nas.model.onnx_file import to_onnx

SIZE = 32
STAGES = (
    OsaStage(mid_channels=8, out_channels=16, num_layers=2),
    OsaStage(mid_channels=12, out_channels=24, num_layers=3, num_blocks=2),
    OsaStage(mid_channels=8, out_channels=32, num_layers=1),
)
NETWORKS = {
    "dense": Architecture(stem_channels=(8, 8, 16), stem=Stem.CIFAR, stages=STAGES),
    "separable with attention and identity": Architecture(
        stem_channels=(8, 8, 16),
        stem=Stem.CIFAR,
        stages=STAGES,
        depthwise=True,
        residual=True,
        attention=Attention.ALL,
    ),
    "stem of the paper, padded pools": Architecture(
        stem_channels=(8, 8, 16), stages=STAGES, pool_padding=PoolPadding.SAME
    ),
}


def optimised(data, folder):
    """Return ONNX Runtime's session for the file, and the operations that it will execute, each
    with its attributes.
    """
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(options.optimized_model_filepath).graph.node
    return session, sorted((each.op_type, str(sorted(map(str, each.attribute)))) for each in nodes)


@pytest.mark.parametrize("architecture", NETWORKS.values(), ids=NETWORKS)
def test_a_traced_network_is_the_exported_one(architecture, tmp_path):
    """The operations are equal after ONNX Runtime's optimisation, and so are the outputs, also for
    another batch than that of the export.
    """
    torch.manual_seed(0)
    model = build(architecture, 10).eval()
    traced, operations = optimised(to_onnx(model, SIZE), tmp_path)
    exported, expected = optimised(to_onnx(nn.Sequential(model), SIZE), tmp_path)
    assert operations == expected
    images = torch.randn(3, 3, SIZE, SIZE)
    (one,), (other,) = (each.run(None, {"images": images.numpy()}) for each in (traced, exported))
    with torch.inference_mode():
        truth = model(images)
    for found in (one, other):
        assert torch.allclose(torch.from_numpy(found), truth, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [18, 20])
@pytest.mark.parametrize("wrap", [lambda model: model, nn.Sequential], ids=["traced", "exported"])
def test_a_file_has_the_operators_of_an_old_runtime(opset, wrap):
    """ONNX Runtime 1.14 on a device reads opset 18 and IR 8, and nothing newer."""
    onnx = pytest.importorskip("onnx")
    model = wrap(build(NETWORKS["dense"], 10)).eval()
    file = onnx.load_from_string(to_onnx(model, SIZE, opset=opset, max_ir=8 if opset < 20 else 9))
    assert [(each.domain, each.version) for each in file.opset_import] == [("", opset)]
    assert file.ir_version <= (8 if opset < 20 else 9)


def test_no_path_of_this_machine_is_in_a_traced_file():
    """The file names neither the source files nor the folder of the repository."""
    pytest.importorskip("onnx")
    data = to_onnx(build(NETWORKS["dense"], 10).eval(), SIZE)
    assert b".py" not in data


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_package_that_cannot_be_imported(package, tmp_path, monkeypatch):
    """One line has its name and the reason, whatever it raises: here as under another protobuf."""
    pytest.importorskip(package)
    reason = "Descriptors cannot be created directly."
    (tmp_path / f"{package}.py").write_text(f"raise TypeError('''{reason}\nRegenerate them.''')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(BrokenDependencyError) as raised:
        to_onnx(nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), SIZE)
    assert str(raised.value) == f"{package} cannot be imported: {reason}; install it again"
