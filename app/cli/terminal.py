"""How commands talk to people: results on stdout, one sentence on stderr for an error."""

from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from app.errors import QuickstudyError

console = Console()
errors = Console(stderr=True)

USER_ERROR = 2
# Libraries that some commands need and serving does not: their names, and the extra that has them.
EXTRAS = {
    "jinja2": ("Jinja2", "train"),
    "matplotlib": ("matplotlib", "train"),
    "polars": ("Polars", "train"),
    "scipy": ("scikit-learn", "train"),
    "sklearn": ("scikit-learn", "train"),
    "torch": ("PyTorch", "train"),
}


class OneSentence(TyperGroup):
    """Errors that a user can mend are said in one sentence, with exit code 2, untraced."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (QuickstudyError, ValueError, OSError, ModuleNotFoundError) as error:
            if isinstance(error, ModuleNotFoundError) and _library(error) not in EXTRAS:
                raise
            # A sentence may hold brackets (an extra, a path): they are not Rich's markup.
            sentence = escape(sentence_of(error))
            errors.print(f"[bold red]Error:[/] {sentence}", highlight=False, soft_wrap=True)
            raise typer.Exit(USER_ERROR) from None


def sentence_of(error: Exception) -> str:
    """The first thing that is wrong, in one sentence."""
    # Here, since `quickstudy --help` takes as long as what it imports.
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        return f"{name}: {first['msg']}"
    if isinstance(error, ModuleNotFoundError):
        name, extra = EXTRAS[_library(error)]
        install = f"pip install 'quickstudy[{extra}]'"
        return f"this command needs {name}, which serving does without: {install}"
    return str(error) or type(error).__name__


def _library(error: ModuleNotFoundError) -> str:
    return (error.name or "").partition(".")[0]
