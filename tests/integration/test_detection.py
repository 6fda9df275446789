"""Detectors on exported networks: torchvision's with `nas.detection`, transformers' with timm."""

import subprocess
import sys

import pytest
import torch

from nas.core.errors import InvalidValueError, MissingDependencyError
from nas.model import build

pytest.importorskip("torchvision")
pytestmark = pytest.mark.slow

SIDE = 96
"""Of the images, in pixels."""


@pytest.fixture(scope="module")
def detection():
    """The module, which is imported only if torchvision is installed."""
    from nas import detection

    return detection


@pytest.fixture
def stock(bundle_of):
    """The bundle of a network of four stages with strides 4 to 32."""
    return bundle_of("stock")


def targets(count, *, masks=False):
    """Make the targets of up to two images: two objects of classes 1 and 2, then none."""
    boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0], [30.0, 20.0, 90.0, 80.0]])
    both = [
        {"boxes": boxes, "labels": torch.tensor([1, 2])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ][:count]
    for one in both:
        if masks:
            one["masks"] = torch.ones(len(one["boxes"]), SIDE, SIDE, dtype=torch.uint8)
    return both


def images(count):
    """Make random images."""
    return list(torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)))


SIZE = {"min_size": SIDE, "max_size": SIDE}
DETECTORS = {
    "mask_rcnn": (
        SIZE,
        {"loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg"},
    ),
    "retinanet": (SIZE, {"classification", "bbox_regression"}),
    "fcos": (SIZE, {"classification", "bbox_regression", "bbox_ctrness"}),
    "ssd": ({"size": (SIDE, SIDE)}, {"bbox_regression", "classification"}),
}


class TestTorchvision:
    """Each of torchvision's four kinds of detectors, made of a bundle by one call."""

    @pytest.mark.parametrize("kind", DETECTORS)
    def test_losses_and_gradients(self, detection, stock, kind):
        """A training step gives the detector's losses. They are finite, and every parameter of the
        backbone has a gradient.
        """
        torch.manual_seed(0)
        options, names = DETECTORS[kind]
        detector = getattr(detection, kind)(stock.folder, 3, **options)
        losses = detector(images(2), targets(2, masks=kind == "mask_rcnn"))
        assert set(losses) == names
        assert all(loss.isfinite() for loss in losses.values())
        sum(losses.values()).backward()
        features = getattr(detector.backbone, "features", detector.backbone)
        lost = [
            name
            for name, value in features.named_parameters()
            if value.grad is None or not value.grad.any()
        ]
        assert lost == []

    @pytest.mark.parametrize("kind", DETECTORS)
    def test_boxes(self, detection, stock, kind):
        """In eval mode, boxes are within the image, labels are known classes, and scores are
        sorted.
        """
        torch.manual_seed(0)
        options, _ = DETECTORS[kind]
        threshold = "box_score_thresh" if kind == "mask_rcnn" else "score_thresh"
        detector = getattr(detection, kind)(stock.folder, 3, **options, **{threshold: 0.0}).eval()
        with torch.inference_mode():
            found, other = detector(images(2))
        assert len(found["boxes"]) > 0
        assert ((found["boxes"] >= 0) & (found["boxes"] <= SIDE)).all()
        assert set(found["labels"].tolist()) <= {0, 1, 2}
        assert (found["scores"].diff() <= 0).all()
        assert not torch.equal(found["boxes"], other["boxes"])
        assert ("masks" in found) == (kind == "mask_rcnn")

    def test_features_are_those_of_the_network(self, detection, bundle_of, export_arguments):
        """The network has strides 1 to 4, which timm cannot build. The features have its bits,
        channels and strides, and the mean of its images.
        """
        bundle = bundle_of("registered")
        given = export_arguments("registered")
        features = detection.Features(bundle.folder, ("c3", "c4")).eval()
        model = build(bundle.architecture, 3).eval()
        model.load_state_dict(given["weights"])
        batch = torch.stack(images(2))
        with torch.inference_mode():
            maps, expected = features(batch), model.forward_features(batch)[1:]
        assert list(maps) == ["0", "1"]
        assert all(
            torch.equal(found, one) for found, one in zip(maps.values(), expected, strict=True)
        )
        assert features.out_channels == [
            stage.out_channels for stage in bundle.architecture.stages[1:]
        ]
        assert features.strides == [2, 4]
        assert (tuple(features.mean), tuple(features.std)) == (given["mean"], given["std"])

    def test_the_bundle_s_weights_and_normalisation_are_used(
        self, detection, stock, export_arguments
    ):
        """A detector starts with the bundle's weights, trains them, and normalises images as the
        bundle does.
        """
        detector = detection.fcos(stock.folder, 3)
        weights, found = (
            export_arguments("stock")["weights"],
            detector.backbone.features.state_dict(),
        )
        assert {name for name in weights if not name.startswith("head.")} == found.keys()
        assert all(torch.equal(weights[name], value) for name, value in found.items())
        assert detector.transform.image_mean == [0.49, 0.48, 0.45]
        assert all(module.training for module in detector.modules())
        assert all(value.requires_grad for value in detector.parameters())

    def test_anchors_fit_the_levels(self, detection, stock):
        """FCOS's anchors are the strides: 8, 16, 32 of the stages c3 to c5, then 64 and 128."""
        assert detection.fcos(stock.folder, 3).anchor_generator.sizes == (
            (8,),
            (16,),
            (32,),
            (64,),
            (128,),
        )
        pyramid = detection.mask_rcnn(stock.folder, 3).rpn.anchor_generator
        assert pyramid.sizes == ((32,), (64,), (128,), (256,), (512,))

    def test_levels_of_three_stages(self, detection, bundle_of):
        """A network of a CIFAR space has c2 to c4 with strides 1, 2 and 4. Every detector uses all
        of them by default.
        """
        folder = bundle_of("registered").folder
        assert detection.fcos(folder, 3).anchor_generator.sizes == ((1,), (2,), (4,), (8,), (16,))
        assert detection.retinanet(folder, 3).backbone.strides == [1, 2, 4, 8, 16]
        assert detection.mask_rcnn(folder, 3).backbone.strides == [1, 2, 4, 8]
        assert detection.ssd(folder, 3, size=(SIDE, SIDE)).backbone.strides == [1, 2, 4]

    @pytest.mark.parametrize("levels", [(), ("c3", "c7"), ("c4", "c3")])
    def test_unknown_levels_are_refused(self, detection, stock, levels):
        """The error for an unknown level or another order lists the existing levels."""
        with pytest.raises(
            InvalidValueError, match="levels must be some of c2, c3, c4, c5, in this order, not"
        ):
            detection.fcos(stock.folder, 3, levels=levels)

    def test_without_torchvision_the_extra_is_named(self, monkeypatch):
        """The error names the extra to install."""
        monkeypatch.setitem(sys.modules, "torchvision.models.detection", None)
        monkeypatch.delitem(sys.modules, "nas.detection", raising=False)
        with pytest.raises(
            MissingDependencyError, match=r"'torchvision': pip install 'osa-nas\[detection\]'"
        ):
            __import__("nas.detection")

    def test_commands_need_neither_torchvision_nor_timm(self):
        """Commands and exports import neither."""
        code = "import sys, nas.cli, nas.export; print({'timm', 'torchvision'} & set(sys.modules))"
        assert (
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stdout
            == "set()\n"
        )


class TestTransformers:
    """Detectors of transformers, which read the bundle with timm and the settings of the bundle's
    card.
    """

    @pytest.mark.parametrize("kind", ["RTDetr", "DFine"])
    def test_losses_and_gradients(self, stock, kind):
        """The detector's backbone has timm's features. A training step has a finite loss and
        gradients for all convolutions of the backbone.
        """
        transformers = pytest.importorskip("transformers")
        timm = pytest.importorskip("timm")
        torch.manual_seed(0)
        name = f"local-dir:{stock.folder}"
        backbone = transformers.TimmBackboneConfig(
            backbone=name, out_indices=[2, 3, 4], freeze_batch_norm_2d=True
        )
        small = {
            "d_model": 32,
            "encoder_hidden_dim": 32,
            "decoder_layers": 2,
            "num_queries": 20,
            "num_labels": 3,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "decoder_in_channels": [32] * 3,
        }
        config = getattr(transformers, f"{kind}Config")(
            backbone_config=backbone,
            freeze_backbone_batch_norms=False,
            encoder_in_channels=[20, 24, 36],
            feat_strides=[8, 16, 32],
            **small,
        )
        detector = getattr(transformers, f"{kind}ForObjectDetection")(config)
        trained = timm.create_model(
            name, pretrained=True, features_only=True, out_indices=(2, 3, 4)
        ).eval()
        inside = detector.model.backbone.model._backbone
        inside.load_state_dict(trained.state_dict())
        batch = torch.stack(images(2))
        with torch.inference_mode():
            features = detector.eval().model.backbone(batch, torch.ones(2, SIDE, SIDE))
            for (value, _), expected in zip(features, trained(batch), strict=True):
                torch.testing.assert_close(value, expected)
        labels = [
            {
                "class_labels": torch.tensor([1, 2]),
                "boxes": torch.tensor([[0.3, 0.3, 0.4, 0.4], [0.6] * 4]),
            },
            {"class_labels": torch.tensor([0]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2]])},
        ]
        loss = detector.train()(pixel_values=batch, labels=labels).loss
        assert loss.isfinite()
        loss.backward()
        assert [name for name, value in inside.named_parameters() if value.grad is None] == []
