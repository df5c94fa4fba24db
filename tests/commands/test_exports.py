"""Exports as other programs write them, from `inspect` to training's reading and the import's.

All are written of one truth of simulated payments, and must give its features to the bit. What is
not sure must be asked, and nothing else.
"""

import gzip
import io
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.history.reading import History
from app.learner.columns import columns_of
from app.learner.features import FeatureSet
from app.learner.spec import DatasetSpec
from app.training.dataset import Dataset, read_transactions
from app.training.entries import read_entries
from app.training.files import DataError

runner = CliRunner()
ROWS, ACCOUNTS, MERCHANTS = 240, 24, 9
START = datetime(2024, 1, 3, 8)
SHOPS = {f"café {shop}": f"渋谷店{shop}" for shop in range(MERCHANTS)}
CATEGORIES = ("grocery", "travel", "games")
NAMES = ("order", "customer", "paid at", "total", "merchant", "category", "fraud")
TRUTH = ("id", "account", "time", "amount", "merchant", "category", "fraud")
QUESTION = re.compile(r"--answer '?([\w.$¥€]+)=")


class Spelling(NamedTuple):
    """A file of the truth as a program writes it, and what a person answers about it.

    `columns` are the truth's columns by those of the file; `frame` is what it tells of the truth,
    where that is something else.
    """

    file: str
    content: bytes
    columns: Mapping[str, str]
    answers: Mapping[str, str] = {}
    frame: pl.DataFrame | None = None


def truth() -> pl.DataFrame:
    """Payments of a quarter: whole minutes, whole cents, each with a label."""
    random = np.random.default_rng(7)
    minute_N = np.sort(random.choice(90 * 1440, ROWS, replace=False))
    is_fraud_N = random.random(ROWS) < 0.12
    return pl.DataFrame(
        {
            "id": [f"t{n:04}" for n in range(ROWS)],
            "account": [f"k{account}" for account in random.integers(0, ACCOUNTS, ROWS)],
            "time": [START + timedelta(minutes=int(minute)) for minute in minute_N],
            "amount": np.round(random.lognormal(4 + is_fraud_N, 1.2), 2),
            "merchant": [f"café {shop}" for shop in random.integers(0, MERCHANTS, ROWS)],
            "category": random.choice(CATEGORIES, ROWS),
            "fraud": is_fraud_N.astype(int),
        }
    )


def named(frame: pl.DataFrame, names: tuple[str, ...] = NAMES) -> pl.DataFrame:
    return frame.rename(dict(zip(TRUTH, names, strict=True)))


def back(names: tuple[str, ...] = NAMES) -> dict[str, str]:
    return dict(zip(names, TRUTH, strict=True))


def iso(frame: pl.DataFrame, form: str = "%Y-%m-%d %H:%M:%S") -> pl.DataFrame:
    return frame.with_columns(pl.col("time").dt.strftime(form))


def texts(frame: pl.DataFrame, spell: Callable[[float], str]) -> pl.DataFrame:
    return frame.with_columns(pl.col("amount").map_elements(spell, pl.String))


def compressed(frame: pl.DataFrame) -> Spelling:
    content = named(iso(frame)).write_csv().encode()
    return Spelling("orders.csv.gz", gzip.compress(content), back())


def latin(frame: pl.DataFrame) -> Spelling:
    content = named(iso(frame)).write_csv().encode("latin-1")
    return Spelling("orders.csv", content, back(), {"encoding": "latin-1"})


def utf_16(frame: pl.DataFrame) -> Spelling:
    content = named(iso(frame)).write_csv(separator="\t").encode("utf-16")
    return Spelling("orders.csv", content, back())


def german(frame: pl.DataFrame) -> Spelling:
    names = ("Nr", "Konto", "Datum", "Betrag", "Händler", "Branche", "Betrug")
    frame = iso(frame, "%d.%m.%Y %H:%M:%S")
    frame = texts(frame, lambda amount: f"{amount:,.2f}".translate(str.maketrans(",.", ".,")))
    return Spelling(
        "umsatz.csv", named(frame, names).write_csv(separator=";").encode(), back(names)
    )


def tabs(frame: pl.DataFrame) -> Spelling:
    return Spelling("orders.tsv", named(iso(frame)).write_csv(separator="\t").encode(), back())


def epoch(frame: pl.DataFrame) -> Spelling:
    frame = frame.with_columns(pl.col("time").dt.epoch("ms"))
    return Spelling("orders.csv", named(frame).write_csv().encode(), back())


def excel(frame: pl.DataFrame) -> Spelling:
    names = (
        "trans_num",
        "cc_num",
        "trans_date_trans_time",
        "amt",
        "merchant",
        "category",
        "is_fraud",
    )
    frame = iso(frame, "%-m/%-d/%Y %-H:%M")
    return Spelling("sparkov.csv", named(frame, names).write_csv().encode(), back(names))


def dollars(frame: pl.DataFrame) -> Spelling:
    frame = texts(iso(frame), lambda amount: f"${amount:,.2f}")
    return Spelling("orders.csv", named(frame).write_csv().encode(), back(), {"currency.$": "USD"})


def parquet(frame: pl.DataFrame) -> Spelling:
    file = io.BytesIO()
    named(frame).write_parquet(file)
    return Spelling("orders.parquet", file.getvalue(), back())


def hours(frame: pl.DataFrame) -> Spelling:
    hour = (pl.col("time") - START).dt.total_minutes() / 60
    frame = frame.with_columns(time=hour)
    names = ("id", "customer", "step", "amount", "merchant", "category", "fraud")
    answers = {"time.unit": "hours", "time.origin": START.isoformat()}
    return Spelling("banksim.csv", named(frame, names).write_csv().encode(), back(names), answers)


def chargebacks(frame: pl.DataFrame) -> Spelling:
    frame = iso(frame).with_columns(fraud=pl.when(pl.col("fraud") == 1).then(1))
    names = (*NAMES[:-1], "chargeback")
    return Spelling(
        "orders.csv",
        named(frame, names).write_csv().encode(),
        back(names),
        {"label.legitimate_after_days": "60"},
    )


def words(frame: pl.DataFrame) -> Spelling:
    names = (
        "EVENT_ID",
        "ENTITY_ID",
        "EVENT_TIMESTAMP",
        "amount",
        "merchant",
        "category",
        "EVENT_LABEL",
    )
    word = pl.col("fraud").replace_strict({1: "fraud", 0: "legit"}, return_dtype=pl.String)
    frame = iso(frame, "%Y-%m-%dT%H:%M:%SZ").with_columns(fraud=word)
    return Spelling("afd.csv", named(frame, names).write_csv().encode(), back(names))


def lines(frame: pl.DataFrame) -> Spelling:
    """Of an order a row for each thing that was bought; only the first has its total."""
    first = named(iso(frame)).cast(pl.String)
    others = first.gather_every(3).with_columns(total=None, fraud=None)
    whole = pl.concat([first, others]).sort("order", maintain_order=True)
    return Spelling("orders.csv", whole.write_csv().encode(), back(), {"same_transaction": "first"})


def japanese(frame: pl.DataFrame) -> Spelling:
    frame = frame.with_columns(pl.col("merchant").replace_strict(SHOPS))
    content = named(iso(frame)).write_csv().encode("cp932")
    return Spelling("orders.csv", content, back(), {"encoding": "cp932"}, frame)


def tabformer(frame: pl.DataFrame) -> Spelling:
    """IBM's: no id, an account of two columns, the time in four, and Yes or No."""
    at = pl.col("time").dt
    written = texts(frame, lambda amount: f"${amount:.2f}").select(
        pl.col("account").str.slice(1).alias("User"),
        pl.lit(0).alias("Card"),
        at.year().alias("Year"),
        at.month().alias("Month"),
        at.day().alias("Day"),
        at.strftime("%H:%M").alias("Time"),
        pl.col("amount").alias("Amount"),
        pl.col("merchant").alias("Merchant Name"),
        pl.col("category").alias("MCC"),
        pl.col("fraud")
        .replace_strict({1: "Yes", 0: "No"}, return_dtype=pl.String)
        .alias("Is Fraud?"),
    )
    columns = {"Merchant Name": "merchant", "MCC": "category"}
    answers = {"currency.$": "USD", "account": "User+Card"}
    return Spelling("tabformer.csv", written.write_csv().encode(), columns, answers)


def kaggle(frame: pl.DataFrame) -> Spelling:
    """creditcard.csv: seconds since a start, components, and nobody who pays."""
    second = (pl.col("time") - START).dt.total_seconds()
    frame = frame.with_columns(
        account=pl.col("id"), V1=pl.col("amount").log1p(), V2=-pl.col("amount").sqrt()
    )
    written = frame.select(
        second.cast(pl.Float64).alias("Time"),
        *("V1", "V2"),
        pl.col("amount").alias("Amount"),
        pl.col("fraud").cast(pl.String).alias("Class"),
    )
    content = written.write_csv(quote_style="non_numeric").encode()
    answers = {"time.unit": "seconds", "time.origin": START.isoformat(), "account": "none"}
    return Spelling("creditcard.csv", content, {"V1": "V1", "V2": "V2"}, answers, frame)


def paypal(frame: pl.DataFrame) -> Spelling:
    written = texts(frame, lambda amount: f"{amount:,.2f}").select(
        pl.col("time").dt.strftime("%m/%d/%Y").alias("Date"),
        pl.col("time").dt.strftime("%H:%M:%S").alias("Time"),
        pl.lit("UTC").alias("TimeZone"),
        pl.lit("USD").alias("Currency"),
        pl.col("amount").alias("Gross"),
        pl.col("account").alias("From Email Address") + "@example.com",
        pl.col("id").alias("Transaction ID"),
        pl.col("fraud").alias("fraud"),
    )
    content = written.write_csv(quote_style="always").encode()
    frame = frame.with_columns(currency=pl.lit("USD"))
    return Spelling(
        "paypal.csv", content, {"Transaction ID": "id", "Currency": "currency"}, {}, frame
    )


def unheard_of(frame: pl.DataFrame) -> Spelling:
    names = ("Viite", "customer", "paid at", "total", "merchant", "category", "fraud")
    content = named(iso(frame), names).write_csv().encode()
    return Spelling("orders.csv", content, back(names), {"transaction": "Viite"})


SPELLINGS = (
    *(compressed, latin, utf_16, german, tabs, epoch, excel, dollars, hours, chargebacks, words),
    parquet,
    *(lines, japanese, unheard_of, tabformer, kaggle, paypal),
)


def inspected(folder: Path, spelling: Spelling) -> DatasetSpec:
    """The spec that `inspect` writes, after exactly the questions that a person answers."""
    path, spec = folder / spelling.file, folder / "spec.toml"
    path.write_bytes(spelling.content)
    command = ["inspect", str(path), "--spec", str(spec)]
    result = runner.invoke(app, command)
    questions = set(QUESTION.findall(result.stderr))
    assert questions == set(spelling.answers), result.output
    for name, answer in spelling.answers.items():
        command += ["--answer", f"{name}={answer}"]
    if spelling.answers:
        result = runner.invoke(app, command)
    assert result.exit_code == 0, result.output
    return DatasetSpec.load(spec)


def of_truth(spec: DatasetSpec, columns: Mapping[str, str]) -> DatasetSpec:
    """The spec that reads the truth's own columns as a file's spec reads the file's."""

    def renamed(fields: Mapping[str, str]) -> dict[str, str]:
        return {name: columns[column] for name, column in fields.items()}

    return DatasetSpec.model_validate(
        {
            "name": "truth",
            "columns": {
                "transaction": "id",
                **{name: name for name in ("account", "time", "amount")},
                "label": "fraud",
            },
            "label": {"delay_days": spec.label.delay_days},
            "entities": renamed(spec.entities),
            "categorical": renamed(spec.categorical),
            "numeric": renamed(spec.numeric),
        }
    )


def features(data: Dataset, spec: DatasetSpec) -> bytes:
    labels = data.entity_labels(spec.label.delay_us)
    return FeatureSet(spec).compute(data.columns, None, labels).tobytes()


@pytest.mark.parametrize("spell", SPELLINGS)
def test_an_export_gives_the_features_of_the_truth(
    tmp_path: Path, spell: Callable[[pl.DataFrame], Spelling]
) -> None:
    spelling = spell(truth())
    spec, path = inspected(tmp_path, spelling), tmp_path / spelling.file
    frame = truth() if spelling.frame is None else spelling.frame
    frame.write_parquet(tmp_path / "truth.parquet")
    found = read_transactions(path, spec)
    expected_spec = of_truth(spec, spelling.columns)
    expected = read_transactions(tmp_path / "truth.parquet", expected_spec)
    if "id" in spelling.columns.values():
        assert found.transaction_ids == expected.transaction_ids
    assert found.columns.account_N.tolist() == expected.columns.account_N.tolist()
    assert found.columns.time_us_N.tolist() == expected.columns.time_us_N.tolist()
    if spell is chargebacks:
        # What is younger may still be charged back.
        is_old_N = found.is_fraud_N >= 0
        assert 0 < is_old_N.sum() < ROWS
        assert found.is_fraud_N[is_old_N].tolist() == expected.is_fraud_N[is_old_N].tolist()
    else:
        assert found.is_fraud_N.tolist() == expected.is_fraud_N.tolist()
        assert features(found, spec) == features(expected, expected_spec)
    # The import reads the same payments.
    columns, _ = columns_of(
        spec, [past.transaction for chunk in History(path, spec).chunks(100) for past in chunk]
    )
    assert columns.amount_N.tolist() == expected.columns.amount_N.tolist()
    assert columns.categorical_NC.tolist() == found.columns.categorical_NC.tolist()
    assert columns.entity_code_NK.tolist() == expected.columns.entity_code_NK.tolist()


BAD = {
    german: ("Betrag", "zwölf", 'column "Betrag"', "leave_out"),
    epoch: ("paid at", "soon", 'column "paid at"', "leave_out"),
    words: ("EVENT_LABEL", "maybe", 'column "EVENT_LABEL"', "unknown"),
    excel: (
        "trans_date_trans_time",
        "31/31/2024 9:00",
        'column "trans_date_trans_time"',
        "leave_out",
    ),
    dollars: ("total", "€3.00", 'column "total"', "currencies"),
}


@pytest.mark.parametrize("spell", BAD)
def test_a_bad_row_is_named_with_the_line_of_the_spec_that_would_help(
    tmp_path: Path, spell: Callable[[pl.DataFrame], Spelling]
) -> None:
    spelling, (column, value, place, cure) = spell(truth()), BAD[spell]
    spec, path = inspected(tmp_path, spelling), tmp_path / spelling.file
    separator = spec.file.delimiter or ","
    table = pl.read_csv(path, separator=separator, infer_schema=False)
    bad = pl.when(pl.int_range(pl.len()) == 41).then(pl.lit(value)).otherwise(pl.col(column))
    table.with_columns(bad.alias(column)).write_csv(path, separator=separator)
    with pytest.raises(DataError) as refusal:
        read_entries(path, spec)
    for part in ("row 42 (line 43)", place, repr(value), cure):
        assert part in str(refusal.value)
