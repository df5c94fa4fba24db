"""Text and tables as Markdown that shows what was meant, whatever a spec or a file calls things."""

import re
from collections.abc import Container, Iterable, Sequence

# What begins markup inside a line, HTML included.
SPECIAL = re.compile(r"([\\`*_\[\]<>&|#~])")


def escaped(text: str) -> str:
    """`text` as one line of plain Markdown."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """`text` as a code span of one line, fenced by more backticks than it holds in a row."""
    line = " ".join(text.split())
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    padding = " " if "`" in line else ""
    return f"{fence}{padding}{line}{padding}{fence}"


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    strong: Container[tuple[int, int]] = frozenset(),
) -> str:
    """A table of plain text, the first column to the left and the others to the right.

    The cells `strong`, by row and column, are bold.
    """
    rule = [":--", *["--:"] * (len(header) - 1)]
    lines = [[escaped(cell) for cell in header], rule]
    for r, row in enumerate(rows):
        cells = enumerate(map(escaped, row))
        lines.append([f"**{cell}**" if (r, c) in strong else cell for c, cell in cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
