"""Charts as SVG, in a page or as a file of their own, which can be read in black and white.

Equal figures are equal files: a chart names neither when nor by what it was drawn.
"""

import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import isnan
from typing import Any, NamedTuple

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
# Titles longer than this do not fit beside another one in a legend.
LONGEST_HALF_LINE = 30
# What HTML does not need, and ids that nothing refers to, of which each chart has the same.
UNNEEDED = re.compile(
    r'<metadata>.*?</metadata>| xmlns(?::xlink)?="[^"]*"|(?<=<g) id="[^"]*"', re.DOTALL
)


class Method(NamedTuple):
    """A method in a legend."""

    title: str
    reads_labels: bool
    swatch: Markup


def styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The colour, mark and dashes of each method, the same in every chart of a report."""
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


def legend(methods: Mapping[str, Metrics]) -> list[Method]:
    """The methods of a report (`metrics["methods"]`) and their lines."""
    drawn = styles(methods)
    return [
        Method(method["title"], method["reads_labels"], _swatch(name, drawn[name]))
        for name, method in methods.items()
    ]


def _swatch(name: str, style: dict[str, Any]) -> Markup:
    def draw(drawing: Drawing) -> None:
        drawing.add_artist(Line2D([0.02, 0.5, 0.98], [0.5] * 3, markevery=[1], **style))

    return _inline(_drawn(name, None, (0.6, 0.2), draw), 'aria-hidden="true"')


@dataclass(frozen=True)
class Curve:
    """Figures by number of labels and method, and the bands around some of them."""

    groups: Groups
    methods: Mapping[str, Metrics]
    bands: Mapping[str, Metrics]

    def inline(self, figure: Figure) -> Markup:
        """One `<svg>` for a page: the figure of every method by the number of labels."""
        return _inline(self._document(figure, with_legend=False))

    def picture(self, figure: Figure) -> str:
        """The same as a file of its own, with a legend."""
        return self._document(figure, with_legend=True).replace(INK, GREY)

    def _document(self, figure: Figure, with_legend: bool) -> str:
        title = f"{figure.name} by number of labels"
        return _chart(title, lambda axes: self._draw(axes, figure), with_legend)

    def _draw(self, axes: Axes, figure: Figure) -> None:
        places = range(len(self.groups))
        for name, style in styles(self.methods).items():
            values = [group.get(name, {}).get(figure.key) for group in self.groups.values()]
            if any(value is None for value in values):
                continue
            # The network lies above its rivals.
            above = 4 if name in NETWORK else 3
            axes.plot(places, values, label=self.methods[name]["title"], zorder=above, **style)
            bands = [
                self.bands.get(group, {}).get(name, {}).get(figure.key) for group in self.groups
            ]
            if all(band and not isnan(band["low"]) for band in bands):
                low, high = ([band[end] for band in bands] for end in ("low", "high"))
                axes.fill_between(places, low, high, color=style["color"], alpha=0.15, linewidth=0)
        axes.set_xticks(places, list(self.groups))
        axes.set_xlabel("labels at most")
        axes.set_ylabel(figure.name)
        axes.grid(axis="y")
        axes.margins(y=0.1)
        axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))


def diagram(reliability: Mapping[str, Metrics], methods: Mapping[str, Metrics]) -> Markup:
    """One `<svg>` for a page, of `app.training.calibration.reliability` by method.

    Both axes are logarithmic, since fraud is rare. A bin without fraud is an open mark at the lower
    edge, and one of a lower probability than `LEAST_PROBABILITY` is on the left edge.
    """
    bins = [one_bin for values in reliability.values() for one_bin in values["bins"]]
    shares = [one_bin[key] for one_bin in bins for key in ("probability", "observed")]
    lowest = min((share for share in shares if share > 0), default=1e-3)
    edge = max(lowest / 2, LEAST_PROBABILITY)

    def draw(axes: Axes) -> None:
        axes.plot([edge, 1], [edge, 1], color=INK, linewidth=1, alpha=0.4, zorder=1)
        for name, values in reliability.items():
            style = styles(methods)[name]
            placed = [(max(b["probability"], edge), b["observed"]) for b in values["bins"]]
            with_fraud = [(x, y) for x, y in placed if y > 0]
            without = [(x, edge) for x, y in placed if not y]
            axes.plot(*_columns(with_fraud), **style)
            open_marks = {**style, "linestyle": "", "fillstyle": "none", "clip_on": False}
            axes.plot(*_columns(without), **open_marks)
        axes.set(xscale="log", yscale="log", xlim=(edge, 1), ylim=(edge, 1))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
            axis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("mean probability of fraud")
        axes.set_ylabel("share of frauds")
        axes.grid()

    return _inline(_chart("share of frauds by probability of fraud", draw))


def _columns(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _chart(title: str, draw: Callable[[Axes], None], with_legend: bool = False) -> str:
    def draw_all(drawing: Drawing) -> None:
        axes = drawing.add_subplot()
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        if with_legend:
            titles = axes.get_legend_handles_labels()[1]
            columns = 1 if any(len(title) > LONGEST_HALF_LINE for title in titles) else 2
            drawing.set_figheight(drawing.get_figheight() + 0.2 * -(-len(titles) // columns))
            drawing.legend(frameon=False, loc="outside lower center", ncols=columns, handlelength=4)

    return _drawn(title, title, (4.8, 3.3), draw_all)


def _drawn(
    salt: str, title: str | None, inches: tuple[float, float], draw: Callable[[Drawing], None]
) -> str:
    """The SVG document of what `draw` draws; its title is read aloud."""
    settings: dict[Any, Any] = {
        # Text stays text, in the page's font.
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "text.parse_math": False,
        "font.family": "sans-serif",
        "legend.fontsize": 9,
        "grid.alpha": 0.2,
        **dict.fromkeys(
            ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
        ),
        "grid.color": INK,
    }
    with matplotlib.rc_context(settings):
        drawing = Drawing(figsize=inches, layout="constrained" if title else None)
        draw(drawing)
        text = io.StringIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        metadata |= {"Title": title} if title else {}
        drawing.savefig(text, format="svg", transparent=True, metadata=metadata)
    return text.getvalue()


def _inline(document: str, attributes: str = 'role="img"') -> Markup:
    """The `<svg>` alone, its text in the colour of the page."""
    svg = UNNEEDED.sub("", document[document.index("<svg") :]).replace(INK, "currentColor")
    return Markup(svg.replace("<svg", f"<svg {attributes}", 1))
