"""The blocks of DenseNets and OSA networks in a mapping of weights, whoever wrote it.

DenseNets by torchvision's names (also its first ones, with dots, as in its files of 2017), OSA
blocks by those of this project and timm. What a file does not say (widths, number of layers)
follows from shapes.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nas.core.errors import CorruptFileError, InvalidValueError
from nas.paper.connections.strength import BlockMap, group_means

OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
DENSE = re.compile(r"^features\.denseblock(\d+)\.denselayer(\d+)\.conv1\.weight$")
AGGREGATION = re.compile(r"^(.*?)\.?conv_concat\.conv\.weight$")
MID = re.compile(r"^conv_mid\.(\d+)\.")

Weights = Mapping[str, Tensor]


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from a .pth, .pt or .safetensors file, a checkpoint of this program, or a folder
    of nas export.

    Runs no code. Raises `CorruptFileError` with the path for a file that holds none.
    """
    if path.is_dir():
        path = path / "model.safetensors"
    try:
        found: Any = load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    except (OSError, SafetensorError, UnpicklingError, RuntimeError, EOFError) as error:
        raise CorruptFileError(
            f"{path} is no readable file of weights: {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(found, dict) or not all(
        isinstance(value, Tensor) for value in found.values()
    ):
        raise CorruptFileError(f"{path} holds no mapping from names to tensors")
    mine = {
        name.removeprefix("weights."): value
        for name, value in found.items()
        if name.startswith("weights.")
    }
    return {OLD_NAME.sub(r"\1\2.", name): value for name, value in (mine or found).items()}


def _unpickled(path: Path) -> Any:
    """Numbers only: anything else in a pickle is refused."""
    found = torch.load(path, map_location="cpu", weights_only=True)
    return found.get("state_dict", found) if isinstance(found, dict) else found


def block_maps(weights: Weights) -> list[BlockMap]:
    """Every block's connections. Raises `InvalidValueError` where there is no block that is
    known.
    """
    found = [*_dense_maps(weights), *_osa_maps(weights)]
    if not found:
        raise InvalidValueError(
            "these weights have no dense blocks (features.denseblock1.denselayer1.conv1.weight) "
            "and no OSA blocks (conv_concat.conv.weight)"
        )
    return found


def dense_blocks(weights: Weights) -> dict[int, list[Tensor]]:
    """Of each dense block, by its number, the kernels that read its concatenations, in the order of
    its layers.
    """
    found: dict[int, dict[int, Tensor]] = defaultdict(dict)
    for name, value in weights.items():
        if match := DENSE.match(name):
            found[int(match[1])][int(match[2])] = value
    for block, layers in found.items():
        if sorted(layers) != list(range(1, len(layers) + 1)):
            raise InvalidValueError(
                f"denseblock{block} has the layers {sorted(layers)}, not 1 to {len(layers)}"
            )
    return {
        block: [layers[number] for number in sorted(layers)]
        for block, layers in sorted(found.items())
    }


def source_widths(kernels: list[Tensor]) -> list[int]:
    """Channels of a dense block's input and of each layer but the last one."""
    read = [kernel.shape[1] for kernel in kernels]
    return [read[0], *(after - before for before, after in itertools.pairwise(read))]


def _dense_maps(weights: Weights) -> Iterator[BlockMap]:
    blocks = dense_blocks(weights)
    for block, kernels in blocks.items():
        end = "classifier" if block == max(blocks) else "transition"
        name = (
            "classifier.weight"
            if end == "classifier"
            else f"features.transition{block}.conv.weight"
        )
        if name not in weights:
            raise InvalidValueError(f"these weights have a denseblock{block} but no {name}")
        widths = source_widths(kernels)
        widths.append(weights[name].shape[1] - sum(widths))
        rows = [_row(kernel, widths[:number]) for number, kernel in enumerate(kernels, start=1)]
        yield _map(f"block {block}", [*rows, _row(weights[name], widths)], end)


def _osa_maps(weights: Weights) -> Iterator[BlockMap]:
    """A chain, in which each layer reads one source, and the aggregation, which reads all."""
    aggregations = {
        match[1]: value for name, value in weights.items() if (match := AGGREGATION.match(name))
    }
    for prefix, aggregation in aggregations.items():
        inside = {
            name.removeprefix(f"{prefix}."): value
            for name, value in sorted(weights.items())
            if not prefix or name.startswith(f"{prefix}.")
        }
        kernels: dict[int, list[Tensor]] = defaultdict(list)
        for name, value in inside.items():
            if (match := MID.match(name)) and value.ndim == 4:
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
