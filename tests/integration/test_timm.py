"""Weights are exchanged with timm's VovNets, and timm loads exported networks."""

import importlib
import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from nas.core.architecture import Architecture, Attention, OsaStage
from nas.core.published import PUBLISHED
from nas.core.study import DataSpec
from nas.data.folder import FOLDER
from nas.export.standalone import registry_source
from nas.export.timm_config import REGISTRY, timm_config
from nas.model import VoVNet, build

timm = pytest.importorskip("timm")
from timm.models.vovnet import model_cfgs  # noqa: E402 - only where timm is

# eca_vovnet39b has another attention, and ese_vovnet39b_evos has EvoNorm instead of BatchNorm.
NETWORKS = {
    "vovnet39a": "vovnet39",
    "vovnet57a": "vovnet57",
    "ese_vovnet19b_slim_dw": "vovnet_v2_19_slim_dw",
    "ese_vovnet19b_dw": "vovnet_v2_19_dw",
    "ese_vovnet19b_slim": "vovnet_v2_19_slim",
    "ese_vovnet39b": "vovnet_v2_39_timm",
    "ese_vovnet57b": "vovnet_v2_57_timm",
    "ese_vovnet99b": "vovnet_v2_99_timm",
}
"""Our names of published networks by the names of timm."""


def as_timm_configures(name: str) -> Architecture:
    """Make the architecture that timm's own table describes."""
    config = model_cfgs[name]
    stages = tuple(
        OsaStage(
            mid_channels=mid,
            out_channels=out,
            num_layers=config["layer_per_block"],
            num_blocks=blocks,
        )
        for mid, out, blocks in zip(
            config["stage_conv_chs"],
            config["stage_out_chs"],
            config["block_per_stage"],
            strict=True,
        )
    )
    return Architecture(
        stem_channels=config["stem_chs"],
        stages=stages,
        residual=config["residual"],
        depthwise=config["depthwise"],
        attention={"": Attention.NONE, "ese": Attention.LAST}[config["attn"]],
    )


def randomise_statistics(model: torch.nn.Module) -> None:
    """Give every BatchNorm random statistics and weights, which would show a mistake."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)


def loaded(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Load these weights into a model without memory, all of them and no others."""
    model.load_state_dict(state, strict=True, assign=True)
    return model


def weightless(name: str) -> tuple[torch.nn.Module, VoVNet]:
    """Build timm's network and ours without memory for weights."""
    with torch.device("meta"):
        return timm.create_model(name), build(as_timm_configures(name), 1000)


def test_every_registered_vovnet_is_covered():
    """The table names all VovNets of timm that our design space can express."""
    others = {"eca_vovnet39b", "ese_vovnet39b_evos"}
    assert set(timm.list_models(module="vovnet")) - others == set(NETWORKS)


@pytest.mark.parametrize(("name", "ours"), NETWORKS.items())
def test_our_published_networks_are_timms(name, ours):
    """The settings in timm's table have the digest of our published network."""
    assert as_timm_configures(name).digest == PUBLISHED[ours].digest


@pytest.mark.parametrize("name", NETWORKS)
def test_timms_weights_give_the_same_logits_bit_for_bit(name):
    """The state dict loads strictly into our network and back, and all three logits are equal."""
    torch.manual_seed(0)
    theirs = timm.create_model(name)
    randomise_statistics(theirs)
    fresh, ours = weightless(name)
    loaded(ours, theirs.state_dict())
    loaded(fresh, ours.state_dict())
    batch = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        logits = theirs.eval()(batch)
        assert logits.std() > 0
        assert torch.equal(ours.eval()(batch), logits)
        assert torch.equal(fresh.eval()(batch), logits)


@pytest.mark.parametrize("name", ["ese_vovnet19b_slim", "ese_vovnet19b_slim_dw"])
def test_training_steps_are_equal_too(name):
    """Gradients and running statistics agree bit by bit after one backward pass."""
    torch.manual_seed(0)
    theirs = timm.create_model(name)
    ours = build(as_timm_configures(name), 1000)
    ours.load_state_dict(theirs.state_dict())
    batch = torch.randn(2, 3, 96, 96)
    for model in (theirs, ours):
        model.train()(batch).square().mean().backward()
    gradients = {key: value.grad for key, value in theirs.named_parameters()}
    assert all(torch.equal(value.grad, gradients[key]) for key, value in ours.named_parameters())
    statistics = dict(theirs.named_buffers())
    assert all(torch.equal(value, statistics[key]) for key, value in ours.named_buffers())


ALL_FEATURES = f"""
import sys
import {REGISTRY}, timm, torch
for name in sys.argv[1:]:
    net = timm.create_model(f"local-dir:{{name}}", pretrained=True, features_only=True).eval()
    print([feature.shape[1] for feature in net(torch.rand(1, 3, 64, 64))])
"""


def test_a_backbone_gives_all_features_by_default(export_arguments, tmp_path):
    """The call of docs/detection.md, in a fresh process: the stem and three or four stages."""
    channels = {
        "stock": [6, 16, 20, 24, 36],
        "registered": [4, 12, 16, 13],
        "paper": [8, 12, 13, 11],
    }
    names = ("classes", "mean", "std", "image_size")
    (tmp_path / f"{REGISTRY}.py").write_text(registry_source())
    for name in channels:
        given = export_arguments(name)
        (tmp_path / name).mkdir()
        values = {key: given[key] for key in names}
        config = timm_config(given["architecture"], **values, dataset="digits")
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        save_file(given["weights"], tmp_path / name / "model.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", ALL_FEATURES, *channels],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == [str(each) for each in channels.values()], done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("network", ["stock", "registered"])
class TestBundles:
    """Users of timm can use a bundle as any model of timm, whether stock or registered."""

    @pytest.fixture
    def bundle(self, network, bundle_of):
        """The bundle, after the architecture for registered networks was imported."""
        importlib.import_module("nas.export.timm_registry")
        exported = bundle_of(network)
        assert exported.manifest.timm["timm"] == network
        return exported

    @pytest.fixture
    def features(self, bundle, export_arguments, network):
        """Two images, and the features of all stages from this package's network."""
        model = build(bundle.architecture, 3).eval()
        model.load_state_dict(export_arguments(network)["weights"])
        batch = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            return batch, model.forward_features(batch)

    def test_some_features(self, bundle, features):
        """`features_only` with two indices gives those stages, their channels and their strides."""
        batch, expected = features
        backbone = timm.create_model(
            f"local-dir:{bundle.folder}", pretrained=True, features_only=True, out_indices=(2, 3)
        ).eval()
        with torch.inference_mode():
            features_only = backbone(batch)
        assert all(
            torch.equal(one, other) for one, other in zip(features_only, expected[1:3], strict=True)
        )
        assert backbone.feature_info.channels() == [value.shape[1] for value in features_only]
        assert backbone.feature_info.reduction() == [
            64 // value.shape[2] for value in features_only
        ]

    def test_other_classes(self, bundle, features):
        """With five classes instead of three only the classifier is new, and all weights train."""
        batch, expected = features
        model = timm.create_model(
            f"local-dir:{bundle.folder}", pretrained=True, num_classes=5
        ).eval()
        with torch.inference_mode():
            assert torch.equal(model.forward_features(batch), expected[-1])
            assert torch.equal(
                model.forward_head(expected[-1], pre_logits=True), expected[-1].mean((2, 3))
            )
        logits = model.train()(batch)
        assert logits.shape == (2, 5)
        logits.square().mean().backward()
        assert [name for name, value in model.named_parameters() if value.grad is None] == []

    def test_intermediates(self, bundle, features):
        """`forward_intermediates` gives the wanted stages, and a pruned network ends with them."""
        batch, expected = features
        model = timm.create_model(f"local-dir:{bundle.folder}", pretrained=True).eval()
        with torch.inference_mode():
            last, intermediates = model.forward_intermediates(batch, indices=[1, 2])
            assert torch.equal(last, expected[-1])
            assert all(
                torch.equal(one, other)
                for one, other in zip(intermediates, expected[:2], strict=True)
            )
            model.prune_intermediate_layers([2])
            assert torch.equal(model.forward_features(batch), expected[1])


def test_timm_scales_images_as_the_data_set_folder_does(tmp_path):
    """An image of another shape becomes the same square, to the last bit."""
    pillow = pytest.importorskip("PIL.Image")
    pixels = torch.randint(256, (40, 70, 3), dtype=torch.uint8)
    image = pillow.fromarray(pixels.numpy())
    for name in ("cat", "dog"):
        file = tmp_path / "train" / name / "1.png"
        file.parent.mkdir(parents=True)
        image.save(file)
    trained = FOLDER.load(DataSpec(dataset="folder", folder=str(tmp_path))).train.images[0]
    config = timm_config(
        PUBLISHED["vovnet39"],
        classes=("cat", "dog"),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        image_size=32,
        dataset="folder",
    )["pretrained_cfg"]
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config({}, pretrained_cfg=config)
    )
    assert torch.equal((255 * transform(image)).round().to(torch.uint8), trained)
