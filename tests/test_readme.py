"""The README's session, typed in as it stands, answers what it says there."""

import re
import subprocess
from pathlib import Path

import pytest

from app.db.migrating import upgrade
from app.settings import SHIPPED_MODEL
from tests.servers import new_key, server

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
NUMBER = r"-?\d+\.\d+(?:e-?\d+)?"
DIGEST = r"[0-9a-f]{16}"
# What is another every time, or on every machine: times, the digests of a copy's bits, and the
# last digits of a number.
VARYING = re.compile(rf'"\d{{4}}-[\dT:.-]+Z"|"{DIGEST}"|{NUMBER}…?|…|.', re.DOTALL)
MARK = "=== answer ==="


def session() -> list[tuple[str, str]]:
    """The commands, each with its answer, which is empty for definitions."""
    text = README.partition("\n## A session\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    steps = re.split(r"^\$ ", "".join(blocks), flags=re.MULTILINE)[1:]
    return [_cut(step) for step in steps]


def _cut(step: str) -> tuple[str, str]:
    """The command and its answer, which begins with the first line that begins with a brace."""
    command, brace, answer = f"\n{step}".partition("\n{")
    return command.strip(), brace.strip() + answer


def pattern_of(answer: str) -> tuple[str, list[float]]:
    """A pattern that answers like this one match, and the numbers in it, in their order."""
    pattern, numbers, digests = "", [], {}
    for token in VARYING.findall(answer):
        if re.fullmatch(r'"\d{4}-.*Z"', token):
            pattern += r'"[^"]*"'
        elif re.fullmatch(f'"{DIGEST}"', token):
            name = f"d{token.strip(chr(34))}"
            pattern += f"(?P={name})" if name in digests else f'(?P<{name}>"{DIGEST}")'
            digests[name] = True
        elif re.fullmatch(f"{NUMBER}…", token):
            pattern += re.escape(token[:-1]) + r"\d*.*?"
        elif re.fullmatch(NUMBER, token):
            pattern += f"({NUMBER})"
            numbers.append(float(token))
        else:
            pattern += ".*?" if token == "…" else re.escape(token)
    return pattern, numbers


def without_spaces(text: str) -> str:
    return re.sub(r"\s", "", text)


def test_the_session_answers_what_the_readme_says(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'quickstudy.db'}"
    upgrade(url)

    key = new_key(url)
    steps = session()
    with server(url, SHIPPED_MODEL) as address:
        script = "".join(
            f"{command}\necho '{MARK}'\n" for command, _ in steps if not command.startswith("KEY=")
        ).replace("http://127.0.0.1:8000", address)
        done = subprocess.run(
            ["bash", "-eu", "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={"KEY": key, "PATH": "/usr/local/bin:/usr/bin:/bin"},
        )
    said = without_spaces("".join(answer for _, answer in steps))
    answered = without_spaces(done.stdout.replace(MARK, ""))
    pattern, numbers = pattern_of(said)
    match = re.fullmatch(pattern, answered, re.DOTALL)
    assert match, f"the README says\n{said}\n\nand the service\n{answered}"
    told = [float(one) for one in match.groups() if re.fullmatch(NUMBER, one)]
    assert told == pytest.approx(numbers, rel=1e-6)
    assert len(numbers) > 20
    assert done.stdout.count(MARK) == len(steps) - 1
