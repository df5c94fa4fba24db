"""What commands say of a file that they have read."""

from typing import TYPE_CHECKING

from rich.markup import escape

from app.cli.terminal import console

if TYPE_CHECKING:
    from app.learner.spec import DatasetSpec
    from app.training.left_out import LeftOut

YEAR_US = 365 * 24 * 3600 * 1_000_000


def say(line: str) -> None:
    console.print(escape(line), highlight=False, soft_wrap=True)


def say_of_file(spec: "DatasetSpec", newest_us: int, left_out: "LeftOut | None") -> None:
    """What was left out, and where it is kept; and that times may be read wrongly."""
    if left_out:
        say(f"{left_out.sentence()}; they are in {left_out.keep()}.")
    if newest_us < YEAR_US and spec.time.unit is None and not spec.time.formats:
        say(
            "All times lie in 1970: where they count hours or days since a start, unit and origin "
            "under [time] of the spec say so; where they are dates, format does."
        )
