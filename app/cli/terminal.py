"""How commands talk to people: results on stdout, one sentence on stderr for an error."""

from typing import Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from app.errors import QuickstudyError

console = Console()
errors = Console(stderr=True)

USER_ERROR = 2


class OneSentence(TyperGroup):
    """Errors that a user can mend are said in one sentence, with exit code 2, untraced."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (QuickstudyError, ValueError, OSError) as error:
            # A sentence may hold brackets (an extra, a path): they are not Rich's markup.
            sentence = escape(sentence_of(error))
            errors.print(f"[bold red]Error:[/] {sentence}", highlight=False, soft_wrap=True)
            raise typer.Exit(USER_ERROR) from None


def sentence_of(error: Exception) -> str:
    """The first thing that is wrong, in one sentence."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        return f"{name}: {first['msg']}"
    return str(error) or type(error).__name__
