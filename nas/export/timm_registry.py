"""Register the timm architecture `osa_vovnet`, which has every setting of the OSA design space.

It is for networks that stock timm's VovNet cannot express.

After this module was imported, `timm.create_model("local-dir:FOLDER", pretrained=True)` loads them,
also with `hf-hub:` and with `features_only=True`. The weights have the same names as in stock timm.
As in timm, feature 0 is the output of the stem, and the next ones are those of the stages.
Therefore `out_indices=(1, 2, 3, 4)` means the same for both.
"""

from typing import Any

import torch
from timm.layers.classifier import ClassifierHead
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from nas.model.vovnet import STEM_STRIDES, VoVNet

default_cfgs = generate_default_cfgs(
    {
        "osa_vovnet": {
            "input_size": (3, 224, 224),
            "first_conv": "stem.0.conv",
            "classifier": "head.fc",
        }
    }
)


class OsaVoVNet(nn.Module):
    """A VoVNet with timm's head and methods.

    `architecture` are the arguments of `VoVNet` except the number of classes.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        **architecture: Any,
    ) -> None:
        super().__init__()
        if in_chans != 3:
            raise ValueError(f"this architecture takes images of 3 channels, not {in_chans}")
        net = VoVNet(num_classes=0, **architecture)
        self.stem, self.stages = net.stem, net.stages
        self.tap = 1 if architecture.get("stem", "code") == "code" else 2
        widths, strides = (
            architecture["stem_channels"],
            STEM_STRIDES[architecture.get("stem", "code")],
        )
        stem = {
            "num_chs": widths[self.tap],
            "reduction": strides[0] * (1 if self.tap == 1 else strides[2]),
            "module": f"stem.{self.tap}",
        }
        self.feature_info: list[dict[str, int | str]] = [stem, *net.feature_info]
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = net.num_features
        self.head = ClassifierHead(
            net.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate
        )

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the output (N, C, H, W) of the last stage for images (N, 3, H, W)."""
        y: Tensor = self.stages(self.stem(x))
        return y

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits, or the pooled features before the classifier."""
        y: Tensor = self.head(x, pre_logits=pre_logits)
        return y

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, classes) of images (N, 3, H, W)."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(  # noqa: PLR0917
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Return these features, and the last output unless `intermediates_only` is set."""
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be NCHW, not {output_fmt!r}")
        wanted, last = feature_take_indices(len(self.feature_info), indices)
        features = []
        for index, layer in enumerate(self.stem):
            x = layer(x)
            if index == self.tap and 0 in wanted:
                features.append(x)
        for index, stage in enumerate(self.stages, start=1):
            if stop_early and index > last:
                break
            x = stage(x)
            if index in wanted:
                features.append(x)
        return features if intermediates_only else (x, features)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> Any:
        """Remove the layers that these features do not need."""
        wanted, last = feature_take_indices(len(self.feature_info), indices)
        self.stages = self.stages[:last]
        if prune_head or last + 1 < len(self.feature_info):
            self.num_features = self.head_hidden_size = int(self.feature_info[last]["num_chs"])
            self.reset_classifier(0, "")
        return wanted

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        layer: nn.Module = self.head.fc
        return layer

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer by a new one, or by none."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool, in_features=self.num_features)

    @torch.jit.ignore  # type: ignore[untyped-decorator]
    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Return groups of layers, for learning rates that fall with depth."""
        return {
            "stem": r"^stem",
            "blocks": r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.blocks\.(\d+)",
        }


@register_model  # type: ignore[untyped-decorator]
def osa_vovnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build any network of the OSA design space from the values of its architecture."""
    features = {
        "flatten_sequential": True,
        "out_indices": tuple(range(len(kwargs["stages"]) + 1)),
    }
    model: nn.Module = build_model_with_cfg(
        OsaVoVNet, "osa_vovnet", pretrained, feature_cfg=features, **kwargs
    )
    return model
