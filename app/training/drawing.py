"""Drawings as SVG: inside a page in the page's colours, or as a file of their own.

Equal figures are equal files: a drawing says neither when nor by what it was made.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Colours stand in a drawing as these and in the page as its style's, for light and for dark.
TEXT, LINES = "#010101", "#020202"
SERIES = tuple(f"#0303{n:02x}" for n in range(1, 13))
STYLES = {
    TEXT: "currentColor",
    LINES: "var(--rule)",
    **{colour: f"var(--series-{n})" for n, colour in enumerate(SERIES, start=1)},
}
# Read on white and on black.
TABLEAU = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#d62728", "#7f7f7f"),
    *("#17becf", "#bcbd22", "#e377c2", "#8c564b", "#5a8f00", "#b07aa1"),
)
COLOURS = {TEXT: "#808080", LINES: "#a0a0a0", **dict(zip(SERIES, TABLEAU, strict=True))}
MARKERS = "osD^vPX<>phd"
WIDTH, HEIGHT, LEGEND_LINE = 4.8, 3.3, 0.2
# Titles longer than this do not fit beside another one.
LONGEST_HALF_LINE = 30


def series(n: int) -> str:
    """The colour of the nth method."""
    return SERIES[n % len(SERIES)]


def marker(n: int) -> str:
    return MARKERS[n % len(MARKERS)]


def drawn(name: str, titles: Sequence[str], draw: Callable[[Axes], None]) -> str:
    """The SVG document of what `draw` draws, with a legend of these titles below it."""
    settings: dict[Any, Any] = {
        # Text stays text: it is read aloud, and set in the page's font.
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.size": 10,
        "text.color": TEXT,
        "axes.labelcolor": TEXT,
        "axes.edgecolor": LINES,
        "xtick.color": TEXT,
        "ytick.color": TEXT,
        "grid.color": LINES,
    }
    with matplotlib.rc_context(settings):
        columns = 1 if any(len(title) > LONGEST_HALF_LINE for title in titles) else 2
        rows = -(-len(titles) // columns)
        figure = Figure(figsize=(WIDTH, HEIGHT + LEGEND_LINE * rows), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(frameon=False, loc="outside lower center", ncols=columns, fontsize=9)
        text = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    return text.getvalue()


def inline(document: str, said: str) -> str:
    """Without prologue, document type and name spaces, which HTML neither needs nor reads."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:xmlns(?::xlink)?|version)="[^"]*"', "", svg)
    svg = svg.replace("xlink:href=", "href=")
    # The width is the page's to choose; the viewBox keeps the proportions.
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg)
    return _coloured(svg, STYLES).replace("<svg", f'<svg role="img" aria-label="{escape(said)}"', 1)


def standalone(document: str) -> str:
    """The same as a file of its own, in colours that are read on white and on black."""
    return _coloured(document, COLOURS)


def _coloured(svg: str, colours: Mapping[str, str]) -> str:
    for placeholder, colour in colours.items():
        svg = svg.replace(placeholder, colour)
    return svg
