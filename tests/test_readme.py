"""The sessions of the README and of the tour, typed in as they stand, answer as they say."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.db.migrating import upgrade
from app.settings import SHIPPED_MODEL
from tests.servers import new_key, server

REPOSITORY = Path(__file__).resolve().parents[1]
README = REPOSITORY / "README.md"
DIGEST = r'"[0-9a-f]{16}"'
# What differs at every run, or on every machine: times and the digests of a copy's bits.
VARYING = re.compile(rf'"\d{{4}}-[\dT:.-]+Z"|{DIGEST}|…|.', re.DOTALL)
MARK = "=== answer ==="


def session_of(page: Path) -> list[tuple[str, str]]:
    """The commands of a page, each with its answer, which is empty for definitions."""
    blocks = re.findall(r"^```\n(\$ .*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    steps = re.split(r"^\$ ", "".join(blocks), flags=re.MULTILINE)[1:]
    return [_cut(step) for step in steps]


def _cut(step: str) -> tuple[str, str]:
    """The command and its answer, which begins with the first line that begins with a brace."""
    command, brace, answer = f"\n{step}".partition("\n{")
    return command.strip(), brace.strip() + answer


def pattern_of(answer: str) -> str:
    """A pattern for answers of this shape; where a digest is repeated here, it must be there."""
    pattern, digests = "", set()
    for token in VARYING.findall(answer):
        if token == "…":
            pattern += ".*?"
        elif re.fullmatch(DIGEST, token):
            name = f"d{token.strip(chr(34))}"
            pattern += f"(?P={name})" if name in digests else f"(?P<{name}>{DIGEST})"
            digests.add(name)
        else:
            pattern += r'"[^"]*"' if len(token) > 1 else re.escape(token)
    return pattern


def without_spaces(text: str) -> str:
    return re.sub(r"\s", "", text)


def type_in(page: Path, folder: Path) -> list[str]:
    """What the session's commands print, typed in beside a new service."""
    url = f"sqlite:///{folder / 'quickstudy.db'}"
    upgrade(url)
    key = new_key(url)
    with server(url, SHIPPED_MODEL) as address:
        script = "".join(
            f"{command}\necho '{MARK}'\n"
            for command, _ in session_of(page)
            if not command.startswith("KEY=")
        ).replace("http://127.0.0.1:8000", address)
        typed = subprocess.run(
            ["bash", "-eu", "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={"KEY": key, "PATH": "/usr/local/bin:/usr/bin:/bin"},
        )
    return [output for output in typed.stdout.split(MARK) if output.strip()]


@pytest.mark.parametrize(
    "page", [README, REPOSITORY / "docs" / "tour.md"], ids=lambda page: page.name
)
def test_a_session_has_answers_of_the_shape_on_its_page(page: Path, tmp_path: Path) -> None:
    stated = without_spaces("".join(answer for _, answer in session_of(page)))
    printed = type_in(page, tmp_path)
    answers = without_spaces("".join(printed))
    assert re.fullmatch(pattern_of(stated), answers, re.DOTALL), f"{stated}\n\nis not\n{answers}"
    assert len(printed) == sum(1 for _, answer in session_of(page) if answer) >= 3
    if page == README:
        check_claims(*map(json.loads, printed))


def check_claims(first: Any, label: Any, second: Any) -> None:
    """The label raised the probability, and the next payment is scored by the adapted copy."""
    [labelled] = label["labelled"]
    assert labelled["before"]["probability"] == first["probability"]
    assert labelled["after"]["probability"] > labelled["before"]["probability"]
    assert second["adaptation"] == {"used": "adapted", "labels": 1, "revision": 1}
    assert second["probability"] > first["probability"]


def test_the_readme_is_short_and_in_the_order_of_a_newcomer() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 120
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == [
        "Try it",
        "What labels buy",
        "Train on yours",
        "Run it",
        "Links",
    ]
