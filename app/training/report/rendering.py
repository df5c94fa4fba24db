"""Templates, into which every value is inserted escaped: as HTML in pages, as Markdown in `.md`."""

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

# What begins markup inside a line of Markdown, HTML included.
SPECIAL = re.compile(r"([\\`*_\[\]<>&|#~])")


@dataclass(frozen=True)
class Table:
    """A header and rows of plain text; `best` are the cells, by row and column, that are bold."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: Container[tuple[int, int]] = frozenset()


def render(template: str, **values: object) -> str:
    """The template of that file name, filled. Raises UndefinedError for a value that is missing."""
    is_markdown = template.endswith(".md")
    return _environment(is_markdown).get_template(template).render(values)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, the first column to the left and the others to the right."""
    return render("table.md", section=Table(header, rows)).rstrip()


def code(text: str) -> Markup:
    """`text` as a Markdown code span of one line, fenced by more backticks than it has in a row."""
    line = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    padding = " " if "`" in line else ""
    return Markup(f"{fence}{padding}{line}{padding}{fence}")


def _escaped(value: object) -> Markup:
    """One line of plain Markdown. Markup is what Jinja takes for escaped already."""
    if isinstance(value, Markup):
        return value
    return Markup(SPECIAL.sub(r"\\\1", " ".join(str(value).split())))


@cache
def _environment(is_markdown: bool) -> Environment:
    environment = Environment(
        autoescape=True,
        finalize=_escaped if is_markdown else None,
        loader=PackageLoader(__package__),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = code
    return environment
