"""How commands talk to people: results on stdout, one sentence on stderr for an error."""

from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from app.errors import QuickstudyError, first_problem

console = Console()
errors = Console(stderr=True)

USER_ERROR = 2
# What the extra `train` has and serving does without: the names of these libraries.
TRAINING = {
    "babel": "Babel",
    "currency_converter": "CurrencyConverter",
    "duckdb": "DuckDB",
    "matplotlib": "matplotlib",
    "polars": "Polars",
    "scipy": "scikit-learn",
    "sklearn": "scikit-learn",
    "torch": "PyTorch",
}


class OneSentence(TyperGroup):
    """Errors that a user can mend are printed as one sentence, with exit code 2, untraced."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (QuickstudyError, ValueError, OSError, ModuleNotFoundError) as error:
            if isinstance(error, ModuleNotFoundError) and _library(error) not in TRAINING:
                raise
            # A sentence may hold brackets (an extra, a path): they are not Rich's markup.
            sentence = escape(sentence_of(error))
            errors.print(f"[bold red]Error:[/] {sentence}", highlight=False, soft_wrap=True)
            raise typer.Exit(USER_ERROR) from None


def show_rows(names: Sequence[str], rows: Iterable[Sequence[str]], none: str) -> None:
    """A table, whole: what is too long for the terminal goes on in the next line, and ids stay in
    one piece, for other commands ask for them. Texts are no markup, whatever people wrote.
    Without rows, the sentence `none`."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table

    columns = (Column(name, overflow="fold", no_wrap=name == "id") for name in names)
    table = Table(*columns, box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table if table.rows else none, soft_wrap=not table.rows)


def second_of(at_us: int | None) -> str:
    """A time to the second, in UTC; empty where there is none."""
    from app.times import text_of

    return "" if at_us is None else text_of(at_us)[:19].replace("T", " ")


def say_why(waiting: str) -> None:
    """Why a command waits; where the sentence is empty, that it goes on."""
    console.print(waiting or "The database is back.", soft_wrap=True)


def sentence_of(error: Exception) -> str:
    """The first thing that is wrong, in one sentence."""
    # Here, since `quickstudy --help` takes as long as what it imports.
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return first_problem(error)
    if isinstance(error, ModuleNotFoundError):
        name = TRAINING[_library(error)]
        install = "pip install '.[train]'"
        return f"this command needs {name}, which serving does without: {install}"
    return str(error) or type(error).__name__


def _library(error: ModuleNotFoundError) -> str:
    return (error.name or "").partition(".")[0]
