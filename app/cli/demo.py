"""`quickstudy demo`: the command, which imports what it does only when it runs."""


def demo() -> None:
    """Score, give three labels, and score the same again: before and after."""
    from app.cli.demonstration import demonstrate

    demonstrate()
