"""Accuracy of a trained DenseNet without some of its connections.

Their weights are set to zero, and nothing is trained again.
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
class Ablated:
    """Weights without some connections.

    `zeroed` of the `total` weights are set to zero, where `total` counts the weights of the layers
    that read the concatenation.
    """

    weights: Weights
    zeroed: int
    total: int

    @property
    def share(self) -> float:
        """Share of the layers' weights that were set to zero."""
        return self.zeroed / self.total


def without(
    weights: Weights, *, block: int, layers: Sequence[int], sources: Sequence[int]
) -> Ablated:
    """Copy the weights without the connections of one dense block from `sources` to `layers`.

    Layers are counted from 1, and source 0 is the block's input. A layer reads only sources before
    it; the others have no effect on it.

    Raises `InvalidValueError` for a block or a layer that does not exist.
    """
    blocks = dense_blocks(weights)
    if block not in blocks:
        names = ", ".join(map(str, blocks)) or "none"
        raise InvalidValueError(f"there is no dense block {block}; there are: {names}")
    kernels = blocks[block]
    unknown = [layer for layer in layers if not 1 <= layer <= len(kernels)]
    if unknown or not layers:
        raise InvalidValueError(
            f"block {block} has the layers 1 to {len(kernels)}, not {unknown or 'none'}"
        )
    widths = source_widths(kernels)
    ends = [sum(widths[: number + 1]) for number in range(len(widths))]
    changed, zeroed, total = dict(weights), 0, 0
    for layer in layers:
        name = f"features.denseblock{block}.denselayer{layer}.conv1.weight"
        kernel = weights[name].clone()
        for source in {source for source in sources if 0 <= source < layer}:
            part = kernel[:, ends[source] - widths[source] : ends[source]]
            zeroed += part.numel()
            part.zero_()
        total += kernel.numel()
        changed[name] = kernel
    return Ablated(weights=changed, zeroed=zeroed, total=total)


def densenet_of(weights: Weights) -> DenseNet:
    """Build the DenseNet of these weights, in evaluation mode.

    Raises `InvalidValueError` if they fit no DenseNet.
    """
    blocks = dense_blocks(weights)
    try:
        stem = weights["features.conv0.weight"]
        first = blocks[1][0]
        second = weights.get("features.denseblock1.denselayer1.conv2.weight")
        growth = (first if second is None else second).shape[0]
        channels = first.shape[1] + len(blocks[1]) * growth
        compressed = channels
        if len(blocks) > 1:
            compressed = weights["features.transition1.conv.weight"].shape[0]
        model = DenseNet(
            growth=growth,
            layers=[len(block) for block in blocks.values()],
            stem_channels=stem.shape[0],
            bottleneck=0 if second is None else first.shape[0],
            compression=compressed / channels + 1e-9,
            small_images=stem.shape[-1] == 3,
            num_classes=len(weights["classifier.weight"]),
        )
        model.load_state_dict(dict(weights))
    except (KeyError, RuntimeError) as error:
        raise InvalidValueError(
            f"these weights fit no DenseNet: {' '.join(str(error).split())[:200]}"
        ) from error
    return model.eval()


def batches(images: Images, size: int = 200) -> Iterator[Images]:
    """Yield the images in batches of `size`."""
    for indices in torch.split(torch.arange(len(images)), size):
        yield images.take(indices)


def accuracy(
    model: nn.Module, batches: Iterable[Images], mean: Channels, std: Channels
) -> tuple[int, int]:
    """Return the number of correctly classified images, and the number of all images."""
    shift, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    correct = count = 0
    with torch.inference_mode():
        for batch in batches:
            logits = model((batch.images.float() / 255 - shift) / scale)
            correct += int((logits.argmax(1) == batch.labels).sum())
            count += len(batch)
    return correct, count
