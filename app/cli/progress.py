"""What is shown of what takes long while it goes on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from app.cli.terminal import console, say_why

if TYPE_CHECKING:
    from app.db.patience import Patience
    from app.training.train import Status

COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(bar_width=12),
    MofNCompleteColumn(),
    TextColumn("{task.fields[measured]}"),
    TimeRemainingColumn(compact=True),
)


def counting() -> Progress:
    """Bars of how many of so many there are yet."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )


class WaitingBar(NamedTuple):
    """A bar of one task, and the patience that shows in it when the database is waited for."""

    progress: Progress
    task: TaskID
    patience: "Patience"


@contextmanager
def counting_patiently(description: str, total: int | None = None) -> Iterator[WaitingBar]:
    """A bar of what a database takes, which may be away for a while."""
    from app.db.patience import Patience

    with counting() as progress:
        task = progress.add_task(description, total=total)

        def show(waiting: str) -> None:
            progress.update(task, description="Waiting" if waiting else description)
            say_why(waiting)

        yield WaitingBar(progress, task, Patience(show))


class TrainingProgress:
    """A bar for each stage of each training; where there is no terminal, a line for each check.

    Both estimate how long the stage will go on, at the pace since it began.

    Trainings come one after the other; the bars of one that is done stay above the next.
    """

    def __init__(self) -> None:
        self._name = ""
        self._bars: Progress | None = None
        self._stages: dict[str, TaskID] = {}
        self._held_out = ""
        self._begun_at, self._first_step = 0.0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()

    def show(self, name: str, status: "Status") -> None:
        """Tell of one step of the training `name` (empty where there is only one)."""
        if name != self._name:
            self._finish()
            self._name = name
        if status.held_out_loss is not None:
            self._held_out = f", held out {status.held_out_loss:.4f}"
        measured = f"loss {status.loss:.4f}{self._held_out}, step size {status.step_size:.2g}"
        stage = f"{name} {status.stage}".strip()
        is_new = status.stage not in self._stages
        if is_new:
            self._stages[status.stage] = self._begun(stage, status.steps)
        if self._bars:
            task = self._stages[status.stage]
            self._bars.update(task, completed=status.step, measured=measured)
        elif is_new or status.held_out_loss is not None:
            line = f"{stage}: step {status.step:,} of {status.steps:,}, {measured}"
            if is_new:
                self._begun_at, self._first_step = time.monotonic(), status.step
            elif status.step < status.steps:
                line += f", {self._left(status)} left"
            console.print(line, highlight=False, soft_wrap=True)

    def _left(self, status: "Status") -> str:
        """About how long the stage will go on: "40 s", "12 min"."""
        pace = (time.monotonic() - self._begun_at) / (status.step - self._first_step)
        seconds = round(pace * (status.steps - status.step))
        return f"about {seconds} s" if seconds < 100 else f"about {round(seconds / 60)} min"

    def _begun(self, stage: str, steps: int) -> TaskID:
        if not console.is_terminal:
            return TaskID(0)
        if self._bars is None:
            self._bars = Progress(*COLUMNS, console=console)
            self._bars.start()
        for task in self._stages.values():
            self._bars.stop_task(task)
        return self._bars.add_task(stage, total=steps, measured="")

    def _finish(self) -> None:
        if self._bars:
            self._bars.stop()
        self._bars, self._stages, self._held_out = None, {}, ""
