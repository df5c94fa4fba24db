"""`quickstudy inspect`: guesses, questions, and a spec that reads the file."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.cli.main import app
from app.learner.spec import DatasetSpec
from app.training.entries import read_entries

runner = CliRunner()
GERMAN = (
    "Kontoauszug\n\nNr;Konto;Datum;Uhrzeit;Betrag;Betrug\n"
    + "".join(f"{n};k{n % 3};{n + 10}.01.2024;10:00;1.00{n},50 €;nein\n" for n in range(9))
    + "Summe;;;;9,00 €;\n"
)
STEPS = "step,customer,amount,fraud\n0,c1,$-4.55,0\n1,c2,$1.5,1\n"


def inspected(folder: Path, content: str, *answers: str, status: int = 0) -> tuple[Result, Path]:
    data, spec = folder / "file.csv", folder / "file.toml"
    data.write_text(content)
    options = [word for answer in answers for word in ("--answer", answer)]
    result = runner.invoke(app, ["inspect", str(data), "--spec", str(spec), *options])
    assert result.exit_code == status, result.output
    return result, spec


def test_what_is_sure_is_written_with_a_comment(tmp_path: Path) -> None:
    result, spec = inspected(tmp_path, GERMAN)
    found = read_entries(tmp_path / "file.csv", DatasetSpec.load(spec))
    assert found.amount_N.tolist() == [1000.5 + n for n in range(9)]
    assert set(found.currency_N) == {"EUR"}
    assert 'format = "%d.%m.%Y %H:%M"  # reads every value' in spec.read_text()
    assert "Next: quickstudy import" in result.output


def test_what_is_not_sure_is_asked_and_nothing_is_written(tmp_path: Path) -> None:
    result, spec = inspected(tmp_path, STEPS, status=2)
    for name in ("time.unit", "time.origin", "currency.$", "amount.negative"):
        assert f"--answer {name}=…" in result.stderr
    assert not spec.exists()


@pytest.mark.parametrize(("unit", "seconds"), [("hours", 3600), ("days", 86400)])
def test_answers_are_what_the_spec_says(tmp_path: Path, unit: str, seconds: int) -> None:
    answers = [f"time.unit={unit}", "time.origin=2024-01-01", "currency.$=USD"]
    _, spec = inspected(tmp_path, STEPS, *answers, "amount.negative=refund")
    found = read_entries(tmp_path / "file.csv", DatasetSpec.load(spec))
    assert int(found.time_us_N[1] - found.time_us_N[0]) == seconds * 1_000_000
    assert found.types_N.to_list() == ["refund", "payment"]


def test_rows_that_cannot_be_read_are_asked_about(tmp_path: Path) -> None:
    rows = "".join(f"t{n},c,2024-01-{n + 10},1\n" for n in range(19))
    content = f"id,account,time,amount\n{rows}t20,c,soon,1\n"
    assert "leave_out" in inspected(tmp_path, content, status=2)[0].stderr
    _, spec = inspected(tmp_path, content, "leave_out=yes")
    assert DatasetSpec.load(spec).rows.leave_out == 0.05
