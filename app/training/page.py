"""A report as one HTML page that needs nothing beside itself, in light and in dark."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from app.training.comparison import (
    ADAPTED,
    AVERAGE_PRECISION,
    BASE,
    LOSS_HEADER,
    RECALL,
    Section,
    legend,
    loss_row,
    losses,
    number,
    signed,
)
from app.training.curve import curve

if TYPE_CHECKING:
    from app.training.report import Report

DRAWN = (AVERAGE_PRECISION, RECALL)

STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --ink: #1b1f24; --soft: #57606a;
  --rule: #d8dee4; --panel: #f6f8fa; --worse: #b42318;
  --series-1: #1f6fd1; --series-2: #c2570c; --series-3: #1a7f4b; --series-4: #8250df;
  --series-5: #b3266b; --series-6: #57606a; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181d; --ink: #e6e9ed;
  --soft: #9aa4af; --rule: #353d47; --panel: #1c2229; --worse: #ff8f83;
  --series-1: #6aaeff; --series-2: #ff9d5c; --series-3: #56d08d; --series-4: #b898ff;
  --series-5: #ff86b9; --series-6: #9aa4af; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem clamp(1rem, 4vw, 3rem) 4rem;
  background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .25rem; }
p { margin: .25rem 0 .75rem; max-width: 46rem; overflow-wrap: anywhere; }
.soft, dt, .tile span { color: var(--soft); font-size: .875rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0 0 1rem; }
dd { margin: 0; font: .875rem/1.5 ui-monospace, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin: 0 0 .5rem; } }
.tiles, .curves { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.5rem 0; }
.tile { flex: 1 1 12rem; padding: .75rem 1rem; background: var(--panel); border-radius: .5rem; }
.tile b { display: block; font-size: 1.6rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
figure { flex: 1 1 18rem; margin: 0; min-width: 0; }
svg { display: block; width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .5rem; border-bottom: 1px solid var(--rule); text-align: right;
  white-space: nowrap; }
th { white-space: normal; color: var(--soft); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.words td, .words th { text-align: left; }
.note { border-left: 3px solid var(--worse); padding-left: .75rem; }
"""


def page(report: "Report") -> str:
    """The whole document; everything that comes from a file or a spec is escaped."""
    title = escape(report.title)
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in report.facts.items())
    body = [
        f"<h1>{title}</h1>",
        f"<dl>{facts}</dl>",
        *(f'<p class="note">{escape(note)}</p>' for note in report.notes),
        _tiles(report.sections),
        _lost(report),
        _curves(report),
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


def _tiles(sections: Sequence[Section]) -> str:
    """The last line, which sums up, of the first two tables."""
    figure = AVERAGE_PRECISION
    tiles = []
    for section in sections[:2]:
        name, group = list(section.groups.items())[-1]
        adapted, base = group[ADAPTED][figure.key], group[BASE][figure.key]
        said = f"{section.title}, {name}: {figure.name} adapted"
        against = f"against {number(base)} of the base ({signed(adapted - base)})"
        tiles.append(
            f'<div class="tile"><span>{escape(said)}</span><b>{number(adapted)}</b>'
            f"<span>{against}</span></div>"
        )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _lost(report: "Report") -> str:
    lost = losses(report.sections)
    table = _table(LOSS_HEADER, map(loss_row, lost), "words") if lost else ""
    return f"<h2>Where adaptation loses</h2>\n<p>{escape(report.verdict)}</p>\n{table}"


def _curves(report: "Report") -> str:
    title = f"{report.curve.title}: {report.curve.note}"
    drawn = "".join(f"<figure>{curve(report.curve.groups, f)}</figure>" for f in DRAWN)
    return (
        f'<h2>What labels are worth</h2>\n<p>{escape(title)}</p>\n<div class="curves">{drawn}</div>'
    )


def _section(section: Section) -> str:
    figures = section.figures
    return "\n".join(
        [
            f"<h2>{escape(section.title)}</h2>",
            f"<p>{escape(section.note)}</p>",
            _table(section.header(figures), section.rows(figures)),
            f'<p class="soft">{escape(legend(figures))}.</p>',
        ]
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = (f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
