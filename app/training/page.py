"""A report as one HTML page that needs nothing beside itself, in light and in dark."""

from collections.abc import Container, Iterable, Sequence
from html import escape
from math import isnan
from typing import TYPE_CHECKING

from app.training.comparison import (
    AVERAGE_PRECISION,
    LOSS_HEADER,
    RECALL,
    loss_row,
    losses,
    number,
    signed,
)
from app.training.diagram import diagram
from app.training.results import ADAPTED, BASE, NETWORK, Metrics
from app.training.sections import Section
from app.training.style import STYLE

if TYPE_CHECKING:
    from app.training.report import Report

DRAWN = (AVERAGE_PRECISION, RECALL)


def page(report: "Report") -> str:
    """The whole document; everything that comes from a file or a spec is escaped."""
    title = escape(report.title)
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in report.facts.items())
    body = [
        f"<h1>{title}</h1>",
        f"<dl>{facts}</dl>",
        *(f'<p class="note">{escape(note)}</p>' for note in report.notes),
        _tiles(report),
        _lost(report),
        _curves(report),
        _reliability(report),
        *map(_section, report.sections),
    ]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
{chr(10).join(body)}
</body>
</html>
"""


def _tiles(report: "Report") -> str:
    tiles = (_tile(title, methods, report) for title, methods in report.tiles)
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _tile(title: str, methods: Metrics, report: "Report") -> str:
    """The average precision that sums a group up, beside the base's and the best rival's."""
    known = {name: methods[name][AVERAGE_PRECISION.key] for name in methods}
    adapted, base = known[ADAPTED], known[BASE]
    against = f"against {number(base)} without labels ({signed(adapted - base)})"
    rivals = [name for name in known if name not in NETWORK and not isnan(known[name])]
    if rivals:
        best = max(rivals, key=known.__getitem__)
        against += f" and {number(known[best])} of the best rival, {report.titles[best]}"
    said = f"{title}: {AVERAGE_PRECISION.name}, adapted"
    return (
        f'<div class="tile"><span>{escape(said)}</span><b>{number(adapted)}</b>'
        f"<span>{escape(against)}</span></div>"
    )


def _lost(report: "Report") -> str:
    lost = losses(report.comparisons)
    table = _table(LOSS_HEADER, map(loss_row, lost), "words") if lost else ""
    paragraphs = "".join(f"<p>{escape(said)}</p>\n" for said in report.verdict)
    return f"<h2>Where adaptation loses</h2>\n{paragraphs}{table}"


def _curves(report: "Report") -> str:
    said = "By the number of labels of an account that are used at most. Methods that read no "
    said += "label are flat, broken lines."
    if report.curve.bands:
        said += " The bands hold 95 % of the draws of accounts."
    drawn = "".join(f"<figure>{report.curve.inline(figure)}</figure>" for figure in DRAWN)
    return f'<h2>What labels are worth</h2>\n<p>{said}</p>\n<div class="curves">{drawn}</div>'


def _reliability(report: "Report") -> str:
    errors = "; ".join(
        f"{report.titles[name]}: Brier score {number(one['brier'])}, expected calibration error "
        f"{number(one['calibration_error'])}"
        for name, one in report.reliability.items()
    )
    drawn = diagram(report.reliability, report.titles)
    return f"""<h2>What probabilities are worth</h2>
<p>{escape(errors)}. On the line, as many are fraud as was said; each mark stands for half as
many transactions as the one before it, an open one for transactions without fraud.</p>
<div class="curves"><figure class="single">{drawn}</figure></div>"""


def _section(section: Section) -> str:
    return "\n".join(
        [
            f"<h2>{escape(section.title)}</h2>",
            f"<p>{escape(section.note)}</p>",
            _table(section.header, section.rows, strong=section.best),
            f'<p class="soft">{escape(section.legend)}</p>',
        ]
    )


def _table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    kind: str = "",
    strong: Container[tuple[int, int]] = frozenset(),
) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = []
    for r, row in enumerate(rows):
        cells = (
            f"<b>{escape(c)}</b>" if (r, n) in strong else escape(c) for n, c in enumerate(row)
        )
        lines.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
