"""The blocks of DenseNets and OSA networks in files of weights from several programs.

DenseNets have torchvision's names, also those of its files of 2017 with more dots. OSA blocks have
the names of this project and timm. Widths and numbers of layers follow from the shapes.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from nas.core.errors import InvalidValueError
from nas.model.weights_file import read_state_dict, require_finite
from nas.paper.connections.strength import BlockMap, group_means

OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
"""Start of a layer's name in torchvision's files of 2017."""
DENSE_NAME = re.compile(r"^features\.denseblock(\d+)\.denselayer(\d+)\.conv1\.weight$")
"""A kernel that reads a concatenation, with its block and layer."""
AGGREGATION_NAME = re.compile(r"^(.*?)\.?conv_concat\.conv\.weight$")
"""The 1x1 convolution of an OSA block, with the block's prefix."""
MID_NAME = re.compile(r"^conv_mid\.(\d+)\.")
"""A convolution of an OSA block, with its number in the chain."""

Weights = Mapping[str, Tensor]
"""A state dict."""


def read_weights(path: Path, report: Callable[[str], object] = str) -> dict[str, Tensor]:
    """Read a state dict from a .pth, .pt or .safetensors file, a checkpoint of this program, or a
    folder of nas export.

    No code of the file runs. `report` is called with one line if prefixes such as `module.` are
    taken off the names. Raises `CorruptFileError` with the path for a file without a state dict,
    and for weights that are not finite.
    """
    if path.is_dir():
        path = path / "model.safetensors"
    content = read_state_dict(path, report)
    checkpoint = {
        name.removeprefix("weights."): value
        for name, value in content.items()
        if name.startswith("weights.")
    }
    weights = checkpoint or content
    require_finite(path, weights)
    return {OLD_NAME.sub(r"\1\2.", name): value for name, value in weights.items()}


def block_maps(weights: Weights) -> list[BlockMap]:
    """Return the connections of every block. Raises `InvalidValueError` if there is no block."""
    maps = [*_dense_maps(weights), *_osa_maps(weights)]
    if not maps:
        raise InvalidValueError(
            "these weights have no dense blocks (features.denseblock1.denselayer1.conv1.weight) "
            "and no OSA blocks (conv_concat.conv.weight)"
        )
    return maps


def dense_blocks(weights: Weights) -> dict[int, list[Tensor]]:
    """Return the kernels that read the concatenations, by dense block, in the order of layers."""
    blocks: dict[int, dict[int, Tensor]] = defaultdict(dict)
    for name, value in weights.items():
        if match := DENSE_NAME.match(name):
            blocks[int(match[1])][int(match[2])] = value
    for block, layers in blocks.items():
        if sorted(layers) != list(range(1, len(layers) + 1)):
            raise InvalidValueError(
                f"denseblock{block} has the layers {sorted(layers)}, not 1 to {len(layers)}"
            )
    return {
        block: [layers[number] for number in sorted(layers)]
        for block, layers in sorted(blocks.items())
    }


def source_widths(kernels: list[Tensor]) -> list[int]:
    """Return the channels of a dense block's input and of each layer but the last one."""
    read = [kernel.shape[1] for kernel in kernels]
    return [read[0], *(after - before for before, after in itertools.pairwise(read))]


def _dense_maps(weights: Weights) -> Iterator[BlockMap]:
    """Yield the dense blocks, each with the transition or the classifier at its end."""
    blocks = dense_blocks(weights)
    for block, kernels in blocks.items():
        end, name = "transition", f"features.transition{block}.conv.weight"
        if block == max(blocks):
            end, name = "classifier", "classifier.weight"
        if name not in weights:
            raise InvalidValueError(f"these weights have a denseblock{block} but no {name}")
        widths = source_widths(kernels)
        widths.append(weights[name].shape[1] - sum(widths))
        rows = [_row(kernel, widths[:number]) for number, kernel in enumerate(kernels, start=1)]
        yield _map(f"block {block}", [*rows, _row(weights[name], widths)], end)


def _osa_maps(weights: Weights) -> Iterator[BlockMap]:
    """Yield the OSA blocks: a chain of layers with one source each, and the aggregation of all."""
    aggregations = {
        match[1]: value
        for name, value in weights.items()
        if (match := AGGREGATION_NAME.match(name))
    }
    for prefix, aggregation in aggregations.items():
        block = {
            name.removeprefix(f"{prefix}."): value
            for name, value in sorted(weights.items())
            if not prefix or name.startswith(f"{prefix}.")
        }
        kernels: dict[int, list[Tensor]] = defaultdict(list)
        for name, value in block.items():
            if (match := MID_NAME.match(name)) and value.ndim == 4:
                kernels[int(match[1])].append(value)
        widths = [kernels[number][-1].shape[0] for number in sorted(kernels)]
        widths = [aggregation.shape[1] - sum(widths), *widths]
        rows = [
            np.append(np.full(number, np.nan), kernels[number][0].abs().double().mean().item())
            for number in sorted(kernels)
        ]
        yield _map(f"OSA {prefix}".rstrip(), [*rows, _row(aggregation, widths)], "aggregation")


def _row(kernel: Tensor, widths: list[int]) -> np.ndarray:
    return group_means(kernel.detach().float().numpy(), widths)


def _map(name: str, rows: list[np.ndarray], end: str) -> BlockMap:
    sources = max(map(len, rows))
    strengths = np.full((len(rows), sources), np.nan)
    for target, row in enumerate(rows):
        strengths[target, : len(row)] = row
    return BlockMap(name=name, targets=(*map(str, range(1, len(rows))), end), strengths=strengths)
