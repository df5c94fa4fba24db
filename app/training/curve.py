"""The drawing of labels against recall and average precision."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isnan

from matplotlib.axes import Axes

from app.training.comparison import Figure, Groups
from app.training.drawing import drawn, inline, marker, series, standalone
from app.training.results import NETWORK, Metrics


@dataclass(frozen=True)
class Curve:
    """Figures by number of labels and method, and the bands around some of them.

    `methods` says of each what it is called and whether it reads labels: one that does not is a
    flat, broken line.
    """

    groups: Groups
    methods: Mapping[str, Metrics]
    bands: Mapping[str, Metrics] = field(default_factory=dict)

    def inline(self, figure: Figure) -> str:
        """One `<svg>` for a page: the figure of every method by the number of labels."""
        return inline(self._document(figure), f"{figure.name} by labels")

    def picture(self, figure: Figure) -> str:
        """The same as a file of its own."""
        return standalone(self._document(figure))

    @property
    def _names(self) -> list[str]:
        held = {name for group in self.groups.values() for name in group}
        return [name for name in self.methods if name in held]

    def _document(self, figure: Figure) -> str:
        titles = [self.methods[name]["title"] for name in self._names]
        return drawn(figure.key, titles, lambda axes: self._draw(axes, figure))

    def _draw(self, axes: Axes, figure: Figure) -> None:
        places = range(len(self.groups))
        for n, name in enumerate(self._names):
            reads_labels = self.methods[name]["reads_labels"]
            axes.plot(
                places,
                [group[name][figure.key] for group in self.groups.values()],
                color=series(n),
                marker=marker(n) if reads_labels else "",
                markersize=5 if name in NETWORK else 4,
                linewidth=2.2 if name in NETWORK else 1.2,
                linestyle="-" if reads_labels else "--",
                label=self.methods[name]["title"],
                # The network lies above its rivals.
                zorder=4 if name in NETWORK else 3,
            )
            self._shade(axes, figure, name, series(n))
        axes.set_xticks(places, list(self.groups))
        axes.set_xlabel("labels at most")
        axes.set_ylabel(figure.name)
        axes.grid(axis="y", linewidth=0.6)
        axes.margins(y=0.1)
        axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))

    def _shade(self, axes: Axes, figure: Figure, name: str, colour: str) -> None:
        known = [self.bands.get(label, {}).get(name, {}).get(figure.key) for label in self.groups]
        if all(one and not isnan(one["low"]) for one in known):
            bounds = [(one["low"], one["high"]) for one in known if one]
            low, high = zip(*bounds, strict=True)
            axes.fill_between(range(len(bounds)), low, high, color=colour, alpha=0.15, linewidth=0)
