"""The reliability diagram: how often what is said to be fraud with a probability is fraud."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from app.training.drawing import LINES, drawn, inline, marker, series
from app.training.results import Metrics

NAME = "reliability"
LEAST = 1e-6


def diagram(reliability: Mapping[str, Metrics], titles: Mapping[str, str]) -> str:
    """One `<svg>` for a page, of `app.training.calibration.reliability` by method.

    Both axes are logarithmic, since fraud is rare. A bin without fraud stands as an open mark at
    the lower edge, and one of a lesser probability than `LEAST` on the left one.
    """
    said = [titles[name] for name in reliability]
    document = drawn(NAME, said, lambda axes: _draw(axes, reliability, titles))
    return inline(document, "share of frauds by probability of fraud")


def _draw(axes: Axes, reliability: Mapping[str, Metrics], titles: Mapping[str, str]) -> None:
    points = [point for one in reliability.values() for point in one["bins"]]
    shares = [point[key] for point in points for key in ("probability", "observed")]
    lowest = min((share for share in shares if share > 0), default=1e-3)
    edge = max(lowest / 2, LEAST)
    axes.plot([edge, 1], [edge, 1], color=LINES, linewidth=1, zorder=1)
    for n, (name, one) in enumerate(reliability.items()):
        placed = [(max(p["probability"], edge), p["observed"]) for p in one["bins"]]
        known = [(x, y) for x, y in placed if y > 0]
        none = [(x, edge) for x, y in placed if not y]
        style: dict[str, Any] = {"color": series(n), "marker": marker(n), "markersize": 5}
        axes.plot(*_columns(known), linewidth=1.6, label=titles[name], **style)
        axes.plot(*_columns(none), linestyle="", fillstyle="none", clip_on=False, **style)
    axes.set(xscale="log", yscale="log", xlim=(edge, 1), ylim=(edge, 1))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("mean probability of fraud")
    axes.set_ylabel("share of frauds")
    axes.grid(linewidth=0.6)


def _columns(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
