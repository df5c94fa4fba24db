"""What training shows, to people at a terminal and to a log."""

import io

import pytest
from rich.console import Console

from app.cli import progress
from app.cli.progress import TrainingProgress
from app.training.train import Status

STEPS = (
    Status("global", 1, 2, 0.9, None, 1e-6),
    Status("global", 2, 2, 0.8, 0.75, 1e-6),
    Status("meta", 1, 3, 0.7, None, 0.01),
    Status("meta", 2, 3, 0.6, None, 0.01),
    Status("meta", 3, 3, 0.5, 0.55, 0.0125),
)


def shown(monkeypatch: pytest.MonkeyPatch, terminal: bool, *names: str) -> str:
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=terminal, color_system=None)
    monkeypatch.setattr(progress, "console", console)
    with TrainingProgress() as shows:
        for name in names:
            for status in STEPS:
                shows.show(name, status)
    return out.getvalue()


def test_a_log_gets_a_line_for_the_start_and_each_check_of_a_stage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert shown(monkeypatch, False, "").splitlines() == [
        "global: step 1 of 2, loss 0.9000, step size 1e-06",
        "global: step 2 of 2, loss 0.8000, held out 0.7500, step size 1e-06",
        "meta: step 1 of 3, loss 0.7000, held out 0.7500, step size 0.01",
        "meta: step 3 of 3, loss 0.5000, held out 0.5500, step size 0.013",
    ]


def test_a_log_says_which_of_several_trainings_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, False, "A 2024-02-17", "B 2024-02-17").splitlines()
    assert len(lines) == 8
    assert lines[4] == "B 2024-02-17 global: step 1 of 2, loss 0.9000, step size 1e-06"


def test_a_terminal_gets_a_bar_for_each_stage_of_each_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = shown(monkeypatch, True, "A", "B")
    for stage in ("A global", "A meta", "B global", "B meta"):
        assert stage in text
    assert "━" in text
    assert "3/3" in text
    assert "loss 0.5000, held out 0.5500, step size 0.013" in text


def test_a_log_estimates_how_long_a_stage_will_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the pace since its first step, which took what came before, too."""
    out, now = io.StringIO(), iter((0.0, 10.0, 200.0))
    monkeypatch.setattr(progress, "console", Console(file=out, width=120))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with TrainingProgress() as shows:
        for step, held_out in ((1, None), (11, 0.8), (101, 0.7), (301, 0.6)):
            shows.show("", Status("global", step, 301, 0.9, held_out, 1e-6))
    first, soon, later, last = out.getvalue().splitlines()
    assert soon.endswith("step size 1e-06, about 5 min left")
    assert later.endswith("step size 1e-06, about 7 min left")
    assert "left" not in first + last
