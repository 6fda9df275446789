"""Connection strengths as tables, CSV and one HTML page."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from nas.paper.connections.heat_map import STYLE, as_svg
from nas.paper.connections.strength import WEAK, BlockMap, Statistics, correlation, statistics
from nas.report.page import POLICY, asset, page, trusted

HEADINGS = (
    "block",
    "intermediate connections",
    "weak",
    "mean strength",
    "end",
    "its evenness",
    "correlation",
)
HYPOTHESIS = (
    "Correlation: over the sources of a block, of their mean strength to intermediate layers with their "
    'strength to the end of the block. "Strong between intermediate layers means weak to the final layer" '
    "says that it is negative."
)


def as_csv(blocks: Sequence[BlockMap]) -> str:
    """One line for each connection; source 0 is the block's input."""
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


def cells(blocks: Sequence[BlockMap], weak: float = WEAK) -> Iterator[list[str]]:
    """The headings, then each block's statistics as people read them."""
    yield [*HEADINGS]
    for block in blocks:
        found, known = statistics(block, weak), block.intermediate[~np.isnan(block.intermediate)]
        yield [
            block.name,
            str(len(known)),
            _text(found.weak_share, ".0%"),
            _text(float(known.mean()) if len(known) else None, ".2f"),
            block.targets[-1],
            _text(found.evenness, ".3f"),
            _correlation(found),
        ]


def over_blocks(blocks: Sequence[BlockMap]) -> str:
    """The paper's claim from block to block: intermediate strength against the evenness of
    the end.
    """
    dense = [block for block in blocks if block.intermediate.size]
    found = correlation(
        [float(np.nanmean(block.intermediate)) for block in dense],
        [statistics(block).evenness or 0.0 for block in dense],
    )
    if found is None:
        return f"{len(dense)} blocks with intermediate connections are too few to compare blocks"
    return f"over {len(dense)} blocks, mean intermediate strength correlates with the end's evenness by {found:+.2f}"


def as_page(maps: Mapping[str, Sequence[BlockMap]], made_at: datetime, weak: float = WEAK) -> str:
    """One HTML file of one or more networks by their names. Raises `MissingDependencyError` without
    Jinja.
    """
    inline: dict[str, Any] = {
        "style": trusted(asset("page.css") + STYLE),
        "theme": trusted(asset("theme.js")),
    }
    networks = [
        {
            "name": name,
            "drawing": trusted(as_svg(blocks)),
            "rows": list(cells(blocks, weak)),
            "over": over_blocks(blocks),
        }
        for name, blocks in maps.items()
    ]
    return page(
        "connections.html",
        title="Connection strengths",
        policy=POLICY,
        inline=inline,
        networks=networks,
        weak=f"{weak:g}",
        hypothesis=HYPOTHESIS,
        made_at=f"made {made_at:%Y-%m-%d %H:%M} UTC",
    )


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _correlation(found: Statistics) -> str:
    return (
        "-" if found.correlation is None else f"{found.correlation:+.2f} ({found.sources} sources)"
    )
