"""`quickstudy demo`: the command, which imports what it does only when it runs."""

from typing import Annotated

import typer


def demo(
    console: Annotated[
        bool,
        typer.Option(
            "--console", help="Serve the console on demonstration payments, until interrupted."
        ),
    ] = False,
) -> None:
    """Score, give three labels, and score the same again: before and after."""
    from app.cli.demonstration import demonstrate, show_console

    if console:
        show_console()
    else:
        demonstrate()
