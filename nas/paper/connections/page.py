"""Connection strengths as tables, as CSV and as one HTML page."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from nas.paper.connections.heat_map import STYLE, as_svg
from nas.paper.connections.strength import WEAK_SHARE, BlockMap, Statistics, correlation, statistics
from nas.report.page import single_page, trusted

HEADINGS = (
    "block",
    "intermediate connections",
    "weak",
    "mean strength",
    "end",
    "its evenness",
    "correlation",
)
"""Headings of the table of a network's blocks."""
HYPOTHESIS = (
    "Correlation: over the sources of a block, between their mean strength to intermediate layers "
    'and their strength to the end of the block. By the hypothesis "strong between intermediate '
    'layers means weak to the final layer" it is negative.'
)
"""The paper's claim, which the table's last column tests."""


def as_csv(blocks: Sequence[BlockMap]) -> str:
    """Return a line for each connection. Source 0 is the block's input."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["block", "target", "source", "mean_abs_weight", "share_of_strongest"])
    for block in blocks:
        for target, source in zip(*np.nonzero(~np.isnan(block.strengths)), strict=True):
            writer.writerow(
                [
                    block.name,
                    block.targets[target],
                    source,
                    block.strengths[target, source],
                    block.normalised[target, source],
                ]
            )
    return file.getvalue()


def cells(blocks: Sequence[BlockMap], weak: float = WEAK_SHARE) -> Iterator[list[str]]:
    """Yield the headings, then each block's statistics as text."""
    yield [*HEADINGS]
    for block in blocks:
        figures = statistics(block, weak)
        strengths = block.intermediate[~np.isnan(block.intermediate)]
        yield [
            block.name,
            str(len(strengths)),
            _text(figures.weak_share, ".0%"),
            _text(float(strengths.mean()) if len(strengths) else None, ".2f"),
            block.targets[-1],
            _text(figures.evenness, ".3f"),
            _correlation(figures),
        ]


def values(block: BlockMap, weak: float = WEAK_SHARE) -> dict[str, Any]:
    """Return a block's strengths and statistics as values; NaN is no connection."""
    return {
        "block": block.name,
        "targets": block.targets,
        "strengths": block.strengths,
        "statistics": asdict(statistics(block, weak)),
    }


def over_blocks(blocks: Sequence[BlockMap]) -> str:
    """Compare blocks by the paper's claim: intermediate strength against evenness of the end."""
    dense = [block for block in blocks if block.intermediate.size]
    value = correlation(
        [float(np.nanmean(block.intermediate)) for block in dense],
        [statistics(block).evenness or 0.0 for block in dense],
    )
    if value is None:
        return f"{len(dense)} blocks with intermediate connections are too few to compare blocks"
    return (
        f"over {len(dense)} blocks, mean intermediate strength correlates with the end's evenness "
        f"by {value:+.2f}"
    )


def as_page(maps: Mapping[str, Sequence[BlockMap]], weak: float = WEAK_SHARE) -> str:
    """Return an HTML page of one or more networks by their names.

    Raises `MissingDependencyError` without Jinja.
    """
    networks = [
        {
            "name": name,
            "drawing": trusted(as_svg(blocks)),
            "rows": list(cells(blocks, weak)),
            "over": over_blocks(blocks),
        }
        for name, blocks in maps.items()
    ]
    return single_page(
        "connections.html",
        title="Connection strengths",
        style=STYLE,
        networks=networks,
        weak=f"{weak:g}",
        hypothesis=HYPOTHESIS,
    )


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _correlation(figures: Statistics) -> str:
    if figures.correlation is None:
        return "-"
    return f"{figures.correlation:+.2f} ({figures.sources} sources)"
