"""`quickstudy inspect`: guesses, questions, and a spec that reads the file."""

import shlex
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from app.cli.main import app
from app.learner.checkpoint import Checkpoint
from app.learner.spec import DatasetSpec
from app.simulator.simulate import simulate
from app.training.entries import read_entries
from tests.conftest import sqlite_url

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


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "there is no line in it"),
        (b"\r\n\n", "there is no line in it"),
        (b'id,account,time\n1,"' + b"x" * 200_000, "field larger than field limit (131072)"),
        (b"\xff\xfe\x00\xd8", "unexpected end of data"),
        (b"a," * 1_000_000, "its first line has no end"),
    ],
    ids=["empty", "blank", "quote", "half", "line"],
)
def test_what_has_no_rows_is_refused_in_a_sentence(
    tmp_path: Path, content: bytes, why: str
) -> None:
    path = tmp_path / "orders.csv"
    path.write_bytes(content)
    result = runner.invoke(app, ["inspect", str(path)])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {path}: cannot be read as rows of text: ")
    assert result.stderr.strip().endswith(why)


def test_open_questions_are_printed_and_nothing_is_written(tmp_path: Path) -> None:
    result, spec = inspected(tmp_path, STEPS, status=2)
    for name in ("time.unit", "time.origin", "currency.$", "amount.negative"):
        assert f"--answer {name}=…" in result.stderr
    assert not spec.exists()


@pytest.mark.parametrize(("unit", "seconds"), [("hours", 3600), ("days", 86400)])
def test_answers_go_into_the_spec(tmp_path: Path, unit: str, seconds: int) -> None:
    answers = [f"time.unit={unit}", "time.origin=2024-01-01", "currency.$=USD"]
    _, spec = inspected(tmp_path, STEPS, *answers, "amount.negative=refund")
    found = read_entries(tmp_path / "file.csv", DatasetSpec.load(spec))
    assert int(found.time_us_N[1] - found.time_us_N[0]) == seconds * 1_000_000
    assert found.types_N.to_list() == ["refund", "payment"]


def test_rows_that_cannot_be_read_become_a_question(tmp_path: Path) -> None:
    rows = "".join(f"t{n},c,2024-01-{n + 10},1\n" for n in range(19))
    content = f"id,account,time,amount\n{rows}t20,c,soon,1\n"
    assert "leave_out" in inspected(tmp_path, content, status=2)[0].stderr
    _, spec = inspected(tmp_path, content, "leave_out=yes")
    assert DatasetSpec.load(spec).rows.leave_out == 0.05


def next_command(result: Result) -> list[str]:
    """The command that an inspection says comes next, without its `quickstudy`."""
    [line] = [line for line in result.output.splitlines() if line.startswith("Next: ")]
    program, *words = shlex.split(line.removeprefix("Next: "))
    assert program == "quickstudy"
    return words


def german(frame: pl.DataFrame) -> str:
    """Payments as a German bank would write them."""
    return frame.select(
        pl.col("transaction_id").alias("Nr"),
        pl.col("account_id").alias("Konto"),
        pl.col("occurred_at").dt.strftime("%d.%m.%Y %H:%M:%S").alias("Datum"),
        pl.col("amount").map_elements(euros, pl.String).alias("Betrag"),
        pl.col("merchant_category").alias("Branche"),
        pl.col("is_fraud").replace_strict({True: "ja", False: "nein"}).alias("Betrug"),
    ).write_csv(separator=";")


def euros(amount: float) -> str:
    return f"{amount:,.2f} €".translate(str.maketrans(",.", ".,"))


def test_a_bank_s_export_is_trained_on_by_the_command_that_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    frame = simulate(100, 60, 3).filter(pl.col("is_fraud").is_not_null())
    result, _ = inspected(tmp_path, german(frame))
    command = next_command(result)
    assert command[0] == "train"
    done = runner.invoke(app, [*command, "--global-steps", "2", "--meta-steps", "1"])
    assert done.exit_code == 0, done.output
    [model] = (tmp_path / "models").iterdir()
    data = Checkpoint.load(model).metadata.data
    assert (data.transactions, data.frauds) == (len(frame), frame["is_fraud"].sum())


def test_an_export_without_labels_is_imported_by_the_command_that_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUICKSTUDY_DATABASE_URL", sqlite_url(tmp_path / "shop.db"))
    rows = "".join(f"o{n},buyer{n % 4},2024-03-{n + 10}T10:00:00Z,{n}.50,EUR\n" for n in range(15))
    content = f"Order,Customer email,Paid at,Total,Currency\n{rows}"
    result, _ = inspected(tmp_path, content)
    command = next_command(result)
    assert command[0] == "import"
    done = runner.invoke(app, command)
    assert done.exit_code == 0, done.output
    exported = runner.invoke(app, ["export", "all.parquet"])
    assert exported.exit_code == 0, exported.output
    written = pl.read_parquet(tmp_path / "all.parquet")
    assert written["amount"].cast(pl.Float64).to_list() == [n + 0.5 for n in range(15)]
    # Again, it brings nothing new and nothing that differs.
    again = runner.invoke(app, command)
    assert again.exit_code == 0, again.output
    assert "0 of them new" in again.output


def test_a_column_with_a_word_for_fraud_becomes_a_question_whatever_its_name(
    tmp_path: Path,
) -> None:
    outcomes = ["chargeback", *["ok"] * 17, "chargeback", "ok"]
    rows = "".join(
        f"o{n},buyer{n % 4},2024-03-{n + 10}T10:00:00Z,{n}.50,{outcome}\n"
        for n, outcome in enumerate(outcomes)
    )
    content = f"order,customer,placed at,total,outcome\n{rows}"
    result, spec = inspected(tmp_path, content, status=2)
    assert "outcome has the word 'chargeback'. Does it say what was fraud?" in result.output
    assert "--answer label=…" in result.stderr
    assert not spec.exists()
    _, spec = inspected(tmp_path, content, "label=outcome")
    found = DatasetSpec.load(spec)
    assert (found.columns.label, found.label.fraud) == ("outcome", ("chargeback",))
    # Whatever it says, it is known only later: no model is to see it.
    spec.unlink()
    _, spec = inspected(tmp_path, content, "label=none")
    assert "outcome" not in DatasetSpec.load(spec).categorical
    assert "'chargeback' among its words is known only later" in spec.read_text()
