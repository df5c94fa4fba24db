"""Chargebacks that are rows of their own among the payments, as settlement reports have them.

Each file is the same sixty payments: every tenth is charged back twelve days later.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from app.history.reading import History
from app.learner.spec import DatasetSpec
from app.training.entries import UNLABELLED, Entries, read_entries
from app.training.files import DataError
from app.training.partition import partition
from tests.commands.test_forms import inspected, read, rows_of

PAYMENTS = range(60)
AT = [datetime(2026, 1, 3, 10, tzinfo=UTC) + timedelta(hours=19 * n) for n in PAYMENTS]
LATER, CLEARED = timedelta(days=12), timedelta(days=20)
FRAUDS = [n for n in PAYMENTS if n % 10 == 3]


class Row(NamedTuple):
    """A row of a report: what happened with payment `n`, and when."""

    at: datetime
    kind: str
    n: int


ROWS = sorted(
    [
        *(Row(at, "payment", n) for n, at in enumerate(AT)),
        *(Row(AT[n] + LATER, "chargeback", n) for n in FRAUDS),
        # A second one changes nothing.
        Row(AT[3] + 2 * LATER, "chargeback", 3),
        *(Row(AT[n] + timedelta(days=2), "refund", n) for n in PAYMENTS if n % 10 == 7),
        # Paid back in part, too: that row is no fraud.
        Row(AT[13] + timedelta(days=3), "refund", 13),
        # Of a payment before the first.
        Row(AT[5], "chargeback", -1),
    ]
)


def paypal(row: Row) -> Mapping[str, object]:
    names = {"payment": "Website Payment", "chargeback": "Chargeback", "refund": "Payment Refund"}
    is_payment = row.kind == "payment"
    return {
        "Date": f"{row.at:%d/%m/%Y}",
        "Time": f"{row.at:%H:%M:%S}",
        "Type": names[row.kind],
        "Currency": "EUR",
        "Gross": f"{'' if is_payment else '-'}{row.n + 20}.50",
        "From Email Address": f"buyer{row.n % 9}@example.com",
        "Transaction ID": f"{row.kind}{row.at:%d%H}{row.n}" if not is_payment else f"TX{row.n:02}",
        "Reference Txn ID": "" if is_payment else f"TX{row.n:02}",
    }


def shopify(row: Row) -> Mapping[str, object]:
    return {
        "Transaction Date": f"{row.at:%Y-%m-%d %H:%M:%S} +0000",
        "Type": {"payment": "charge"}.get(row.kind, row.kind),
        "Order": f"#{1001 + row.n}",
        "Customer Email": f"buyer{row.n % 9}@example.com",
        "Amount": f"{'' if row.kind == 'payment' else '-'}{row.n + 20}.50",
        "Currency": "EUR",
    }


def adyen(row: Row) -> Mapping[str, object]:
    names = {"payment": "Settled", "chargeback": "Chargeback", "refund": "Refunded"}
    amount = f"{row.n + 20}.50"
    return {
        "Psp Reference": f"88{row.n + 100:04}",
        "Creation Date": f"{row.at:%Y-%m-%d %H:%M:%S}",
        "Type": names[row.kind],
        "Gross Currency": "EUR",
        "Gross Debit (GC)": "" if row.kind == "payment" else amount,
        "Gross Credit (GC)": amount if row.kind == "payment" else "",
        "Shopper Reference": f"s{row.n % 9}",
    }


ANSWERS = {"chargebacks": "fraud", "label.legitimate_after_days": "20"}
REPORTS: dict[str, tuple[Callable[[Row], Mapping[str, object]], dict[str, str]]] = {
    "paypal": (paypal, {"amount.negative": "refund"}),
    "shopify": (shopify, {"same_transaction": "row", "amount.negative": "refund"}),
    "adyen": (
        adyen,
        {
            "same_transaction": "row",
            "amount": "Gross Credit (GC)+Gross Debit (GC)",
        },
    ),
}


def write(path: Path, spell: Callable[[Row], Mapping[str, object]], rows: list[Row]) -> None:
    written = [spell(row) for row in rows]
    path.write_text(rows_of({name: [row[name] for row in written] for name in written[0]}))


def check(found: Entries) -> None:
    """Each charged back payment is a fraud, known then; others are cleared after twenty days."""
    is_refund = [kind == "refund" for kind in found.types_N]
    assert is_refund.count(True) == 7
    assert not any(found.is_fraud_N[n] == 1 for n, refund in enumerate(is_refund) if refund)
    newest = max(row.at for row in ROWS if row.kind != "chargeback")
    for row, n in enumerate(n for n, refund in enumerate(is_refund) if not refund):
        at = AT[row]
        expected = UNLABELLED if at + CLEARED > newest else 0
        known = at + CLEARED
        if row in FRAUDS:
            expected, known = 1, at + LATER
        assert found.is_fraud_N[n] == expected
        if expected != UNLABELLED:
            assert found.known_at_us_N[n] == int(known.timestamp()) * 1_000_000


@pytest.mark.parametrize("name", REPORTS)
def test_a_chargeback_in_a_row_of_its_own_labels_its_payment(tmp_path: Path, name: str) -> None:
    spell, answers = REPORTS[name]
    path = tmp_path / "report.csv"
    write(path, spell, ROWS)
    answers = {**ANSWERS, **answers}
    # What refunds are is only asked once they are known to be rows of their own.
    assert {"chargebacks", "label.legitimate_after_days"} <= inspected(path)[1] <= set(answers)
    options = [f"{name}={value}" for name, value in answers.items()]
    assert inspected(path, *options)[0].exit_code == 0
    found = read_entries(path, DatasetSpec.load(path.with_suffix(".toml")))
    check(found)
    assert found.left_out.sentence().startswith("1 of 75 rows are left out: 1 a chargeback of no")
    # The import brings the same labels.
    history = History(path, DatasetSpec.load(path.with_suffix(".toml")))
    [chunk] = history.chunks(100)
    assert sum(past.is_fraud is True for past in chunk) == len(FRAUDS)


def test_chargebacks_may_stand_in_another_file_than_their_payments(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    write(path, paypal, ROWS)
    read(path, {**ANSWERS, **REPORTS["paypal"][1]})
    spec = DatasetSpec.load(path.with_suffix(".toml"))
    folder = tmp_path / "months"
    folder.mkdir()
    for n in range(3):
        write(folder / f"{n}.csv", paypal, ROWS[n * 25 : (n + 1) * 25])
    check(read_entries(folder, spec))
    # Part by part that cannot be known.
    with pytest.raises(DataError, match="may be in another file than their payments: put all into"):
        partition(folder, spec, None, tmp_path / "parts", None)
    parts, _ = partition(path, spec, None, tmp_path / "parts", None)
    assert parts.data.frauds == len(FRAUDS)


@pytest.mark.parametrize("answer", ["leave_out", "keep"])
def test_chargebacks_need_not_say_what_was_fraud(tmp_path: Path, answer: str) -> None:
    path = tmp_path / "report.csv"
    write(path, paypal, ROWS)
    options = [f"chargebacks={answer}", "amount.negative=refund", "label=none"]
    options = options[: 2 + (answer == "keep")]
    assert inspected(path, *options)[0].exit_code == 0
    found = read_entries(path, DatasetSpec.load(path.with_suffix(".toml")))
    assert len(found) == (67 if answer == "leave_out" else 75)
    assert set(found.is_fraud_N) == {UNLABELLED}


def test_a_bad_row_of_a_chargeback_is_named(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    write(path, paypal, ROWS)
    read(path, {**ANSWERS, **REPORTS["paypal"][1]})
    spec = DatasetSpec.load(path.with_suffix(".toml"))
    first = next(n for n, row in enumerate(ROWS) if row.kind == "chargeback")
    place = rf"row {first + 1} \(line {first + 2}\), column"
    lines = path.read_text().splitlines()
    reference = lines[first + 1].rpartition(",")[0]
    path.write_text("\n".join([*lines[: first + 1], f"{reference},", *lines[first + 2 :]]))
    with pytest.raises(DataError, match=rf'{place} "Reference Txn ID": it names no payment'):
        read_entries(path, spec)
    lenient = spec.rows.model_copy(update={"leave_out": 0.1, "same_transaction": "first"})
    assert read_entries(path, spec.model_copy(update={"rows": lenient})).left_out.unread() == 1
    soon = lines[first + 1].replace(lines[first + 1].split(",")[0], "soon")
    path.write_text("\n".join([*lines[: first + 1], soon, *lines[first + 2 :]]))
    with pytest.raises(DataError, match=rf"{place}s \"Date\", \"Time\": 'soon"):
        read_entries(path, spec)
    path.write_text("\n".join([lines[0], lines[first + 1]]))
    with pytest.raises(DataError, match="there is no transaction in it, only chargebacks"):
        read_entries(path, spec)


@pytest.mark.parametrize(
    ("label", "columns", "sentence"),
    [
        (
            {"payment": "ref"},
            {},
            "payment and payment_id belong to the rows that chargebacks names",
        ),
        ({"payment_id": "id"}, {}, "payment_id is the column of ids that payment refers to"),
        ({}, {"label": "fraud"}, "labels have a column or stand in rows of chargebacks, not both"),
        ({"payment": "ref"}, {"transaction": {"row_number": "r-"}}, "ids are numbers of rows"),
    ],
)
def test_what_a_spec_says_of_chargebacks_is_whole(
    label: dict[str, str], columns: dict[str, object], sentence: str
) -> None:
    rows = {"chargebacks": {"Type": ["Chargeback"]}}
    if sentence.startswith("payment and"):
        rows = {}
    document = {
        "name": "report",
        "columns": {"transaction": "id", "account": "email", "time": "at", **columns},
        "label": {**rows, **label},
    }
    with pytest.raises(ValueError, match=sentence):
        DatasetSpec.model_validate(document)
