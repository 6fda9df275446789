"""What a trained DenseNet loses without some of its connections: their weights set to zero, nothing
trained again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from nas.core.errors import InvalidValueError
from nas.data import Channels, Images
from nas.model.densenet import DenseNet
from nas.paper.connections.weights import Weights, dense_blocks, source_widths


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Connections of one dense block to take away: from `sources` (0 is the block's input) to
    `layers`, from 1 on.

    A layer reads only sources before it; others of `sources` mean nothing to it.
    """

    block: int
    layers: Sequence[int]
    sources: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Ablated:
    """The weights without the connections; how many of the weights that read concatenations in the
    cut's layers.
    """

    weights: Weights
    zeroed: int
    total: int

    @property
    def share(self) -> float:
        """Of the layers' weights that were set to zero."""
        return self.zeroed / self.total


def without(weights: Weights, cut: Cut) -> Ablated:
    """A copy without the cut's connections. Raises `InvalidValueError` for a cut of what is not
    there.
    """
    blocks = dense_blocks(weights)
    if cut.block not in blocks:
        known = ", ".join(map(str, blocks)) or "none"
        raise InvalidValueError(f"there is no dense block {cut.block}; there are: {known}")
    kernels = blocks[cut.block]
    unknown = [layer for layer in cut.layers if not 1 <= layer <= len(kernels)]
    if unknown or not cut.layers:
        raise InvalidValueError(
            f"block {cut.block} has the layers 1 to {len(kernels)}, not {unknown or 'none'}"
        )
    widths = source_widths(kernels)
    ends = [sum(widths[: number + 1]) for number in range(len(widths))]
    changed, zeroed, total = dict(weights), 0, 0
    for layer in cut.layers:
        name = f"features.denseblock{cut.block}.denselayer{layer}.conv1.weight"
        kernel = weights[name].clone()
        for source in {source for source in cut.sources if 0 <= source < layer}:
            part = kernel[:, ends[source] - widths[source] : ends[source]]
            zeroed += part.numel()
            part.zero_()
        total += kernel.numel()
        changed[name] = kernel
    return Ablated(weights=changed, zeroed=zeroed, total=total)


def densenet_of(weights: Weights) -> DenseNet:
    """The DenseNet that these weights are of, in evaluation mode. Raises `InvalidValueError` where
    they fit none.
    """
    blocks = dense_blocks(weights)
    try:
        stem = weights["features.conv0.weight"]
        first = blocks[1][0]
        second = weights.get("features.denseblock1.denselayer1.conv2.weight")
        growth = (first if second is None else second).shape[0]
        channels = first.shape[1] + len(blocks[1]) * growth
        kept = weights["features.transition1.conv.weight"].shape[0] if len(blocks) > 1 else channels
        model = DenseNet(
            growth=growth,
            layers=[len(block) for block in blocks.values()],
            stem_channels=stem.shape[0],
            bottleneck=0 if second is None else first.shape[0],
            compression=kept / channels + 1e-9,
            small_images=stem.shape[-1] == 3,
            num_classes=len(weights["classifier.weight"]),
        )
        model.load_state_dict(dict(weights))
    except (KeyError, RuntimeError) as error:
        raise InvalidValueError(
            f"these weights are of no DenseNet: {' '.join(str(error).split())[:200]}"
        ) from error
    return model.eval()


def batches(images: Images, size: int = 200) -> Iterator[Images]:
    """So many at a time."""
    for indices in torch.split(torch.arange(len(images)), size):
        yield images.take(indices)


def accuracy(
    model: nn.Module, batches: Iterable[Images], mean: Channels, std: Channels
) -> tuple[int, int]:
    """How many images the model names right, and how many there are."""
    shift, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    right = count = 0
    with torch.inference_mode():
        for batch in batches:
            logits = model((batch.images.float() / 255 - shift) / scale)
            right += int((logits.argmax(1) == batch.labels).sum())
            count += len(batch)
    return right, count
