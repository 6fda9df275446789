"""Connection strengths of constructed weights, for which every number is known, and the effect of a
cut.
"""

import io

import numpy as np
import pytest
import torch

from nas.core.errors import CorruptFileError, InvalidValueError
from nas.core.published import PUBLISHED
from nas.data import Images
from nas.model.densenet import DenseNet, densenet40
from nas.paper.cifar_osa import CifarOsa, with_bottleneck
from nas.paper.connections.ablation import accuracy, batches, densenet_of, without
from nas.paper.connections.heat_map import CELL, LEFT, SCALE, TOP, as_png, as_svg
from nas.paper.connections.page import as_csv, cells, over_blocks
from nas.paper.connections.strength import BlockMap, correlation, group_means, statistics
from nas.paper.connections.weights import block_maps, read_weights


def signs(*shape: int) -> torch.Tensor:
    """Draw -1 and +1 at random, so that only |w| has the constructed means."""
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1


def constructed() -> dict[str, torch.Tensor]:
    """Make a DenseNet of two blocks (2 and 3 layers, growth 4), in which target t reads source s
    with |w| = 10 t + s.
    """
    weights = DenseNet(
        growth=4, layers=(2, 3), stem_channels=6, compression=0.5, num_classes=5
    ).state_dict()
    ends = {"features.transition1.conv.weight": (3, 6), "classifier.weight": (4, 7)}
    reading = {
        f"features.denseblock{block}.denselayer{layer}.conv1.weight": (
            layer,
            6 if block == 1 else 7,
        )
        for block, layers in ((1, 2), (2, 3))
        for layer in range(1, layers + 1)
    } | ends
    for name, (target, width) in reading.items():
        kernel = signs(*weights[name].shape)
        for channel in range(kernel.shape[1]):
            source = 0 if channel < width else (channel - width) // 4 + 1
            kernel[:, channel] *= 10 * target + source
        weights[name] = kernel
    return weights


def block(rows: list[list[float]]) -> BlockMap:
    """Make a map whose rows may be shorter than the last one."""
    strengths = np.full((len(rows), len(rows[-1])), np.nan)
    for target, row in enumerate(rows):
        strengths[target, : len(row)] = row
    return BlockMap(name="b", targets=(*map(str, range(1, len(rows))), "end"), strengths=strengths)


def test_every_strength_of_a_constructed_densenet():
    """Each target's mean |w| by source is exact, and NaN for sources that it does not read. Input,
    layers and ends are distinguished.
    """
    first, second = block_maps(constructed())
    nan = np.nan
    np.testing.assert_array_equal(first.strengths, [[10, nan, nan], [20, 21, nan], [30, 31, 32]])
    np.testing.assert_array_equal(
        second.strengths,
        [[10, nan, nan, nan], [20, 21, nan, nan], [30, 31, 32, nan], [40, 41, 42, 43]],
    )
    assert (first.targets, second.targets) == (
        ("1", "2", "transition"),
        ("1", "2", "3", "classifier"),
    )
    np.testing.assert_allclose(second.normalised[-1], np.array([40, 41, 42, 43]) / 43)


def test_names_of_2017_are_read_too(tmp_path):
    """The first files of torchvision have more dots: `conv.1` for `conv1`."""
    old = {
        name.replace(".conv1.", ".conv.1.").replace(".norm1.", ".norm.1."): value
        for name, value in constructed().items()
    }
    assert any(".conv.1." in name for name in old)
    torch.save({"state_dict": old}, tmp_path / "old.pth")
    found = block_maps(read_weights(tmp_path / "old.pth"))
    np.testing.assert_array_equal(found[1].strengths, block_maps(constructed())[1].strengths)


def test_every_strength_of_a_constructed_aggregation():
    """A layer of the chain reads one source. The aggregation reads all: the input's 16 channels,
    then 3 of each layer.
    """
    weights = CifarOsa(layers=4, width=3).state_dict()
    name = "blocks.0.1.conv_concat.conv.weight"
    weights[name] = signs(*weights[name].shape) * torch.tensor(
        [5.0] * 16 + [1.0] * 3 + [2.0] * 3 + [3.0] * 3 + [4.0] * 3
    ).view(1, -1, 1, 1)
    weights["blocks.0.1.conv_mid.1.conv.weight"] = 7 * signs(
        *weights["blocks.0.1.conv_mid.1.conv.weight"].shape
    )
    found = block_maps(weights)
    assert [each.targets for each in found] == [("1", "2", "3", "4", "aggregation")] * 3
    np.testing.assert_array_equal(found[0].strengths[-1], [5, 1, 2, 3, 4])
    np.testing.assert_array_equal(found[0].strengths[1], [np.nan, 7, np.nan, np.nan, np.nan])
    assert statistics(found[0]).weak_share is None


@pytest.mark.parametrize(
    "make", [lambda: with_bottleneck(PUBLISHED["vovnet27_slim"], 10), densenet40]
)
def test_real_networks_have_their_blocks(make):
    """27-slim has four aggregations of five layers and the input, also with a bottleneck.
    DenseNet-40 has three blocks.
    """
    shapes = [each.strengths.shape for each in block_maps(make().state_dict())]
    assert shapes in ([(6, 6)] * 4, [(13, 13)] * 3)


def test_groups_must_cover_all_channels():
    """A wrong layout is an error instead of a shifted map."""
    np.testing.assert_array_equal(group_means([[1, -3, 5]], [2, 1]), [2, 5])
    with pytest.raises(InvalidValueError, match=r"read 3 channels, but their sources have 2\+2"):
        group_means([[1, -3, 5]], [2, 2])


def test_statistics_by_hand():
    """One of 5 connections among intermediate targets is weak (the first target has one source
    only). The end reads two of four sources equally.
    """
    found = statistics(block([[9], [1, 0.1], [0.5, 1, 0.4], [3, 3, 0, 0]]))
    assert found.weak_share == pytest.approx(1 / 5)
    assert found.evenness == pytest.approx(np.log(2) / np.log(4))
    # sources 0, 1, 2: means 0.75, 0.55, 0.4 to intermediate layers; 1, 1, 0 to the end
    assert found.correlation == pytest.approx(np.corrcoef([0.75, 0.55, 0.4], [1, 1, 0])[0, 1])


@pytest.mark.parametrize(("end", "expected"), [([1, 2, 3, 1], 1), ([3, 2, 1, 1], -1)])
def test_the_correlation_has_the_sign_of_the_hypothesis(end, expected):
    """For sources of rising strength to the layers, a rising strength to the end gives +1, a
    falling one -1.
    """
    rows = [[1], [1 / 3, 2 / 3 * 1.5], [1 / 3, 2 / 3, 1], end]
    rows[1] = [0.5, 1]
    means = [np.mean([0.5, 1 / 3]), np.mean([1, 2 / 3]), 1.0]
    assert statistics(block(rows)).correlation == pytest.approx(np.corrcoef(means, end[:3])[0, 1])
    assert np.sign(statistics(block(rows)).correlation) == expected


def test_evenness_is_from_0_to_1():
    """Equal strengths give 1, a single one 0, and too few sources None."""
    assert statistics(block([[1], [2, 2, 2]])).evenness == pytest.approx(1)
    assert statistics(block([[1], [2, 0, 0]])).evenness == 0
    assert statistics(block([[1], [0, 0]])).evenness is None
    assert correlation([1, 2], [1, 2]) is None
    assert correlation([1, 1, 1], [1, 2, 3]) is None


def test_the_shares_of_the_2022_analysis():
    """DenseNet-121, block 4, layers 9 to 16: A, without layers 1 to 4, zeroes 14.55 %; B, without
    layers from 5 on, 27.27 %.
    """
    with torch.device("meta"):
        weights = DenseNet(
            growth=32, layers=(6, 12, 24, 16), stem_channels=64, bottleneck=128, compression=0.5
        ).state_dict()
    layers = range(9, 17)
    first, rest = (
        without(weights, block=4, layers=layers, sources=range(1, 5)),
        without(weights, block=4, layers=layers, sources=range(5, 1000)),
    )
    assert (first.zeroed, first.total) == (128 * 1024, 128 * 7040)
    assert (f"{first.share:.2%}", f"{rest.share:.2%}") == ("14.55%", "27.27%")


def test_a_cut_zeroes_its_own_connections_only():
    """Layer 3 of block 2 no longer reads source 1, which is channels 7 to 10. The given weights do
    not change.
    """
    weights = constructed()
    cut = without(weights, block=2, layers=[3], sources=[1])
    name = "features.denseblock2.denselayer3.conv1.weight"
    assert [other for other in weights if not torch.equal(weights[other], cut.weights[other])] == [
        name
    ]
    assert (cut.weights[name] == 0).flatten(2).all(2).all(0).nonzero().flatten().tolist() == [
        7,
        8,
        9,
        10,
    ]
    np.testing.assert_array_equal(block_maps(cut.weights)[1].strengths[2, :3], [30, 0, 32])
    assert (weights[name] != 0).all()


@pytest.mark.parametrize(("block", "layers"), [(3, [1]), (2, [4]), (2, [])])
def test_a_cut_of_an_unknown_block_or_layer_is_refused(block, layers):
    """The error lists the existing ones."""
    with pytest.raises(InvalidValueError, match=r"there are: 1, 2|layers 1 to 3"):
        without(constructed(), block=block, layers=layers, sources=[0])


@pytest.mark.parametrize(
    "make",
    [
        densenet40,
        lambda: DenseNet(
            growth=4, layers=(2, 1), stem_channels=6, bottleneck=8, compression=0.5, num_classes=3
        ),
    ],
)
def test_a_network_is_rebuilt_from_its_weights(make):
    """The network that is built from the weights alone has the same outputs, bit for bit."""
    torch.manual_seed(0)
    model = make().eval()
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(densenet_of(model.state_dict())(image), model(image))
    with pytest.raises(InvalidValueError, match="no DenseNet"):
        densenet_of(CifarOsa(layers=2, width=4).state_dict())


def test_accuracy_counts_correct_images():
    """Each image has one grey level, and the network separates bright from dark after
    normalisation.
    """
    images = Images(
        torch.tensor([10, 200, 220, 30], dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 2, 2),
        torch.tensor([0, 1, 0, 0]),
    )

    class Bright(torch.nn.Module):
        def forward(self, x):
            return torch.stack([-x.mean((1, 2, 3)), x.mean((1, 2, 3))], dim=1)

    assert accuracy(Bright(), batches(images, 3), (0.5,) * 3, (0.25,) * 3) == (3, 4)


def test_files_without_weights_are_named(tmp_path):
    """There is no traceback of pickle or safetensors."""
    for name in ("a.pth", "a.safetensors"):
        (tmp_path / name).write_bytes(b"no weights")
        with pytest.raises(CorruptFileError, match=name):
            read_weights(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CorruptFileError, match="no mapping"):
        read_weights(tmp_path / "list.pth")
    with pytest.raises(InvalidValueError, match="no dense blocks"):
        block_maps({"fc.weight": torch.zeros(1)})


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path: path.write_bytes(b""), "EOFError"),
        (lambda path: path.write_text("hello"), "KeyError"),
        (lambda path: torch.save(densenet40(), path), r"save model\.state_dict\(\)"),
        (lambda path: path.write_bytes(b"PK" + bytes(99)), "damaged|RuntimeError"),
        (lambda path: path.mkdir(), r"model\.safetensors is not a readable"),
    ],
)
def test_whatever_torch_raises_names_the_file_in_one_line(tmp_path, write, reason):
    """There are seven kinds of errors, some without text and some with codes for bold text."""
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(CorruptFileError, match=reason) as caught:
        read_weights(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_with_the_tensor(tmp_path, value):
    """One such value is enough, in a tensor that no table shows too."""
    weights = constructed()
    weights["features.norm0.running_var"][2] = value
    torch.save(weights, tmp_path / "diverged.pth")
    with pytest.raises(
        CorruptFileError, match=r"diverged\.pth: 1 of the 6 values of features\.norm0\.running_var"
    ):
        read_weights(tmp_path / "diverged.pth")


@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_prefixes_of_wrappers_are_taken_off_and_reported(tmp_path, key, prefix):
    """DataParallel and compiled networks have them, also nested and under a key of a program."""
    weights = {prefix + name: value for name, value in constructed().items()}
    path, lines = tmp_path / "wrapped.pth", []
    torch.save({key: weights, "epoch": 3} if key else weights, path)
    read = read_weights(path, lines.append)
    assert read.keys() == constructed().keys()
    assert lines == [f"{path}: the prefix {prefix} of every name is taken off"]


def test_a_prefix_of_some_names_only_stays(tmp_path):
    """A part of a network may be called `module`."""
    weights = constructed() | {"module.weight": torch.ones(1)}
    torch.save(weights, tmp_path / "part.pth")
    lines: list[str] = []
    assert read_weights(tmp_path / "part.pth", lines.append).keys() == weights.keys()
    assert not lines


def test_pictures_show_each_connection_at_its_place():
    """Columns are targets, rows are sources. A target's strongest source is the darkest, 0 the
    lightest, and sources that are not read are empty.
    """
    image_module = pytest.importorskip("PIL.Image")
    found = block([[1], [0, 2], [4, 4, 0]])
    image = image_module.open(io.BytesIO(as_png([found], scale=1)))
    at = {
        (target, source): image.getpixel((LEFT + CELL * target + 3, TOP + CELL * source + 3))
        for target in range(3)
        for source in range(3)
    }
    assert at[0, 0] == at[1, 1] == at[2, 0] == SCALE[-1]
    assert at[1, 0] == at[2, 2] == SCALE[0]
    assert at[0, 1] == (255, 255, 255)
    assert as_svg([found]).count("<rect") == 6


def test_tables_have_the_same_numbers():
    """The CSV has a line for each connection, the page's table the statistics."""
    maps = block_maps(constructed())
    lines = as_csv(maps).splitlines()
    assert len(lines) == 1 + 6 + 10
    assert "block 2,classifier,3,43.0,1.0" in lines
    assert [line[0] for line in cells(maps)] == ["block", "block 1", "block 2"]
    assert "too few" in over_blocks(maps)
