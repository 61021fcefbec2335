"""Draws panels of bars, read as JSON from the input, into an SVG file: run where matplotlib is."""

from __future__ import annotations

import json
import sys

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot

OURS, THEIRS = "#0b7a75", "#b8b8b8"
COLUMNS = 2
LOG_FROM = 100
"""A panel whose figures differ by more than this factor is drawn to a scale that shows the small ones too."""


def main(path: str) -> None:
    """Read, draw, write."""
    panels = json.load(sys.stdin)
    lines = -(-len(panels) // COLUMNS)
    figure, axes = pyplot.subplots(
        lines, COLUMNS, figsize=(11, 2.9 * lines), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        bars = panel["bars"][::-1]
        medians = [bar["median"] for bar in bars]
        below = [bar["median"] - bar["least"] for bar in bars]
        above = [bar["most"] - bar["median"] for bar in bars]
        axis.barh(
            [bar["name"] for bar in bars],
            medians,
            xerr=[below, above],
            color=[OURS if bar["ours"] else THEIRS for bar in bars],
            ecolor="#444444",
            capsize=2,
        )
        sizes = [abs(median) for median in medians if median]
        if sizes and max(sizes) > LOG_FROM * min(sizes):
            axis.set_xscale("symlog", linthresh=1)
        axis.set_title(panel["title"], fontsize=10)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main(sys.argv[1])
