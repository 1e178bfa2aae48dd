"""Curves as SVG, by matplotlib."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

# The same figures give the same file: no date, and ids that do not depend on chance.
mpl.rcParams["svg.hashsalt"] = "trimtab"
mpl.rcParams["svg.fonttype"] = "none"
_NO_DATE = {"Date": None}
_MARKERS = "osD^v*"


def draw(curve: Mapping[str, Any], path: Path) -> None:
    """Write a curve of results.json as a picture. Both axes begin at 0, or x is logarithmic if its
    points span about a decade.
    """
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    points = curve["points"]
    for series, marker in zip(curve["series"], _MARKERS, strict=False):
        axes.plot(points, series["values"], marker=marker, label=series["name"])

    if points[0] > 0 and points[-1] >= 8 * points[0]:
        axes.set_xscale("log")
    axes.set_xticks(points, [f"{point:,}" for point in points])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_title(curve["title"])
    axes.set_xlabel(curve["x"])
    axes.set_ylabel(curve["y"])
    axes.grid(visible=True, alpha=0.3)
    if len(curve["series"]) > 1:
        axes.legend()
    figure.savefig(path, format="svg", metadata=_NO_DATE)
