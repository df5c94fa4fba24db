"""Charts as SVG, in a page or as a file of their own, which can be read in black and white.

Equal figures are equal files: a chart names neither when nor by what it was drawn.
"""

import io
import re
from collections.abc import Callable, Iterable, Mapping
from math import isnan, nan
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from app.training.report.comparison import Figure, Groups
from app.training.results import NETWORK, Metrics

# Colours with a contrast of 3 to 1 or more on a white ground and on a dark one. No two of the
# lengths share a factor: 65 methods differ by mark and dashes alone, 455 with the colour.
COLOURS = "#0072b2", "#d55e00", "#00946b", "#b8589a", "#8a7a00", "#7a6fd0", "#7f7f7f"
MARKS = "osD^vPX<>*dph"
DASHES = "-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (6, 1.5, 1, 1.5, 1, 1.5))
# Text and axes are drawn in this, which becomes the text colour of the page, or grey in a file.
INK = "#010101"
GREY = "#767676"
LEAST_PROBABILITY = 1e-6
# What HTML does not need, and ids that nothing refers to, of which each chart has the same.
UNNEEDED = re.compile(
    r'<metadata>.*?</metadata>| xmlns(?::xlink)?="[^"]*"|(?<=<g) id="[^"]*"', re.DOTALL
)


def legend(methods: Mapping[str, Metrics]) -> dict[str, Markup]:
    """A piece of each method's line with its mark, as `<svg>`."""

    def swatch(name: str, style: dict[str, Any]) -> str:
        line = Line2D([0.02, 0.5, 0.98], [0.5] * 3, markevery=[1], **style)
        return _drawn(name, (0.6, 0.2), lambda drawing: drawing.add_artist(line))

    return {
        name: inline(swatch(name, style), 'aria-hidden="true"')
        for name, style in _styles(methods).items()
    }


def curve(
    groups: Groups,
    bands: Mapping[str, Metrics],
    methods: Mapping[str, Metrics],
    figure: Figure,
    with_legend: bool = False,
) -> str:
    """The SVG document of a figure of every method by the number of labels, with its bands."""

    def draw(axes: Axes) -> None:
        places = range(len(groups))
        for name, style in _styles(methods).items():
            values = [group[name][figure.key] for group in groups.values()]
            # The network lies above its rivals.
            above = 4 if name in NETWORK else 3
            axes.plot(places, values, label=methods[name]["title"], zorder=above, **style)
            ends = [bands.get(group, {}).get(name, {}).get(figure.key, {}) for group in groups]
            low, high = ([end.get(side, nan) for end in ends] for side in ("low", "high"))
            if not any(map(isnan, low)):
                axes.fill_between(places, low, high, color=style["color"], alpha=0.15, linewidth=0)
        axes.set_xticks(places, list(groups))
        axes.set(xlabel="labels at most", ylabel=figure.name)
        axes.grid(axis="y")
        axes.margins(y=0.1)
        axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))

    return _chart(f"{figure.name} by number of labels", draw, with_legend)


def diagram(reliability: Mapping[str, Metrics], methods: Mapping[str, Metrics]) -> str:
    """The SVG document of `app.training.calibration.reliability` by method.

    Both axes are logarithmic, since fraud is rare. A bin without fraud is an open mark at the lower
    edge, and one of a lower probability than `LEAST_PROBABILITY` is on the left edge.
    """
    bins = [part for values in reliability.values() for part in values["bins"]]
    shares = [part[key] for part in bins for key in ("probability", "observed")]
    lowest = min((share for share in shares if share > 0), default=1e-3)
    edge = max(lowest / 2, LEAST_PROBABILITY)

    def draw(axes: Axes) -> None:
        axes.plot([edge, 1], [edge, 1], color=INK, linewidth=1, alpha=0.4, zorder=1)
        for name, values in reliability.items():
            style = _styles(methods)[name]
            open_marks = {**style, "linestyle": "", "fillstyle": "none", "clip_on": False}
            for has_fraud, look in ((True, style), (False, open_marks)):
                chosen = [part for part in values["bins"] if bool(part["frauds"]) is has_fraud]
                probabilities = [max(part["probability"], edge) for part in chosen]
                axes.plot(probabilities, [part["observed"] or edge for part in chosen], **look)
        axes.set(xscale="log", yscale="log", xlim=(edge, 1), ylim=(edge, 1))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
            axis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="mean probability of fraud", ylabel="share of frauds")
        axes.grid()

    return _chart("share of frauds by probability of fraud", draw)


def inline(document: str, attributes: str = 'role="img"') -> Markup:
    """The `<svg>` alone, for a page, its text in the colour of the page."""
    svg = UNNEEDED.sub("", document[document.index("<svg") :]).replace(INK, "currentColor")
    return Markup(svg.replace("<svg", f"<svg {attributes}", 1))


def standalone(document: str) -> str:
    """A file of its own, its text in a grey that is read on white and on black."""
    return document.replace(INK, GREY)


def _styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The look of each method by its place, the same in every chart of a report."""
    return {
        name: {
            "color": COLOURS[n % len(COLOURS)],
            "marker": MARKS[n % len(MARKS)],
            "linestyle": DASHES[n % len(DASHES)],
            "linewidth": 2.2 if name in NETWORK else 1.2,
            "markersize": 5,
        }
        for n, name in enumerate(names)
    }


def _chart(title: str, draw: Callable[[Axes], None], with_legend: bool = False) -> str:
    def draw_all(drawing: Drawing) -> None:
        axes = drawing.add_subplot()
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        if with_legend:
            lines = len(axes.get_legend_handles_labels()[1])
            drawing.set_figheight(drawing.get_figheight() + 0.2 * lines)
            drawing.legend(frameon=False, loc="outside lower center", handlelength=4)

    return _drawn(title, (4.8, 3.3), draw_all, title)


def _drawn(
    name: str, inches: tuple[float, float], draw: Callable[[Drawing], object], title: str = ""
) -> str:
    """The SVG document of what `draw` draws; its title is read aloud."""
    settings: dict[Any, Any] = {
        # Text stays text, in the page's font.
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,
        "font.family": "sans-serif",
        "legend.fontsize": 9,
        "grid.alpha": 0.2,
        **{f"{part}.color": INK for part in ("text", "grid", "xtick", "ytick")},
        **{f"axes.{part}color": INK for part in ("label", "edge")},
    }
    with matplotlib.rc_context(settings):
        drawing = Drawing(figsize=inches, layout="constrained" if title else None)
        draw(drawing)
        text = io.StringIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        metadata |= {"Title": title} if title else {}
        drawing.savefig(text, format="svg", transparent=True, metadata=metadata)
    return text.getvalue()
