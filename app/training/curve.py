"""The figure of labels against recall and average precision, as SVG that lives inside a page."""

import io
import re
from collections.abc import Mapping

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from app.training.backtest import Metrics
from app.training.comparison import Figure

# Colours stand in the drawing as these and in the page as its style's, for light and for dark.
TEXT, LINES = "#010101", "#020202"
SERIES = ("#030301", "#030302", "#030303", "#030304", "#030305", "#030306")
STYLES = {
    TEXT: "currentColor",
    LINES: "var(--rule)",
    **{colour: f"var(--series-{n})" for n, colour in enumerate(SERIES, start=1)},
}
TABLEAU = ("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#d62728", "#7f7f7f")
COLOURS = {
    TEXT: "#808080",
    LINES: "#a0a0a0",
    **dict(zip(SERIES, TABLEAU, strict=True)),
}
MARKERS = "osD^vP"
INCHES = (4.8, 3.3)


def curve(groups: Mapping[str, Metrics], figure: Figure) -> str:
    """One `<svg>` for a page: the figure of every method by the number of labels."""
    return _inline(_document(groups, figure), figure)


def picture(groups: Mapping[str, Metrics], figure: Figure) -> str:
    """The same as a file of its own, in colours that are read on white and on black."""
    return _coloured(_document(groups, figure), COLOURS)


def _document(groups: Mapping[str, Metrics], figure: Figure) -> str:
    """The drawing without date, author or reference, so that equal figures are equal files."""
    settings = matplotlib.rc_context(
        {
            # Text stays text: it is read aloud, and set in the page's font.
            "svg.fonttype": "none",
            "svg.hashsalt": figure.key,
            "font.family": "sans-serif",
            "font.size": 10,
            "text.color": TEXT,
            "axes.labelcolor": TEXT,
            "axes.edgecolor": LINES,
            "xtick.color": TEXT,
            "ytick.color": TEXT,
            "grid.color": LINES,
        }
    )
    with settings:
        drawing = Drawing(figsize=INCHES, layout="constrained")
        axes = drawing.add_subplot()
        _draw(axes, groups, figure)
        text = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        drawing.savefig(text, format="svg", transparent=True, metadata=nothing)
    return text.getvalue()


def _draw(axes: Axes, groups: Mapping[str, Metrics], figure: Figure) -> None:
    labels = list(groups)
    methods = list(dict.fromkeys(method for group in groups.values() for method in group))
    for n, method in enumerate(methods):
        axes.plot(
            range(len(labels)),
            [groups[label][method][figure.key] for label in labels],
            color=SERIES[n % len(SERIES)],
            marker=MARKERS[n % len(MARKERS)],
            markersize=5,
            linewidth=2,
            linestyle="-" if n == 0 else "--",
            label=method,
        )
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlabel("labels at most")
    axes.set_ylabel(figure.name)
    axes.grid(axis="y", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.25)
    axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
    axes.legend(frameon=False, loc="best")


def _inline(document: str, figure: Figure) -> str:
    """Without prologue, document type and name spaces, which HTML neither needs nor reads."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:xmlns(?::xlink)?|version)="[^"]*"', "", svg)
    svg = svg.replace("xlink:href=", "href=")
    # The width is the page's to choose; the viewBox keeps the proportions.
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg)
    svg = _coloured(svg, STYLES)
    return svg.replace("<svg", f'<svg role="img" aria-label="{figure.name} by labels"', 1)


def _coloured(svg: str, colours: Mapping[str, str]) -> str:
    for placeholder, colour in colours.items():
        svg = svg.replace(placeholder, colour)
    return svg
