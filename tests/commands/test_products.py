"""Exports as known products write them, from `inspect` to what training and import read.

All are of the same sixty payments. The columns are those of the products; their content is made up.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest

from app.history.reading import History
from app.learner.spec import DatasetSpec
from app.training.entries import UNLABELLED, read_entries
from tests.commands.test_forms import inspected, payments, rows_of, times_of

ROWS = range(60)
AT = [datetime(2025, 9, 13, 7, 11, 5, tzinfo=UTC) + timedelta(hours=17 * n) for n in ROWS]
AMOUNT = [f"{3 * n + 2}.{n % 90 + 10}" for n in ROWS]
FRAUDS = [n for n in ROWS if n % 10 == 3]
REFUNDS = [n for n in ROWS if n % 12 == 5]
Columns = dict[str, Sequence[object]]


class Product(NamedTuple):
    """A file of a product, and what a person answers about it.

    `before` stands above the names. Without `has_ids`, `has_accounts` or `has_clock` the file says
    nothing of these; `refunds` and `frauds` are the rows that are such.
    """

    columns: Columns
    answers: Mapping[str, str] = {}
    file: str = "export.csv"
    before: str = ""
    currency: str | None = None
    refunds: Sequence[int] = ()
    frauds: Sequence[int] | None = None
    has_ids: bool = True
    has_accounts: bool = True
    has_clock: bool = True


def written(form: str, zone: str = "UTC", after: timedelta = timedelta()) -> list[str]:
    return [(at + after).astimezone(ZoneInfo(zone)).strftime(form) for at in AT]


def each(text: str) -> list[str]:
    return [text.format(n=n, who=n % 7) for n in ROWS]


def signed(negative: Sequence[int], sign: str = "-") -> list[str]:
    return [f"{sign * (n in negative)}{amount}" for n, amount in enumerate(AMOUNT)]


def only(rows: Sequence[int], text: str, other: str = "") -> list[str]:
    return [text.format(n=n) if n in rows else other for n in ROWS]


def mollie() -> Product:
    return Product(
        {
            "Date": written("%Y-%m-%d %H:%M:%S"),
            "Payment method": only(FRAUDS, "creditcard", "ideal"),
            "Currency": each("EUR"),
            "Amount": AMOUNT,
            "Status": each("paidout"),
            "ID": each("tr_{n}"),
            "Consumer name": each("J. Jansen {who}"),
            "Consumer bank account": each("NL1{who}RABO0123456789"),
            "Settlement amount": AMOUNT,
            "Amount refunded": each("0.00"),
        },
        currency="EUR",
    )


def braintree() -> Product:
    return Product(
        {
            "Transaction ID": each("bt{n}"),
            "Subscription ID": each(""),
            "Transaction Type": only(REFUNDS, "credit", "sale"),
            "Transaction Status": each("settled"),
            "Created Datetime": written("%m/%d/%Y %H:%M:%S"),
            "Created Timezone": each("UTC"),
            "Settlement Date": written("%m/%d/%Y", after=timedelta(days=1)),
            "Merchant Account": each("shop"),
            "Currency ISO Code": each("USD"),
            "Amount Authorized": AMOUNT,
            "Amount Submitted For Settlement": AMOUNT,
            "Credit Card Number": each("411111******1{who}11"),
            "Customer ID": each("cust_{who}"),
            "Dispute ID": only(FRAUDS, "dp_{n}"),
        },
        {
            "label": "Dispute ID",
            "label.legitimate_after_days": "10",
            "amount": "Amount Authorized",
            "account": "Customer ID",
        },
        currency="USD",
        refunds=REFUNDS,
        frauds=FRAUDS,
    )


def square() -> Product:
    sums = [f"${amount}" for amount in AMOUNT]
    return Product(
        {
            "Date": written("%Y-%m-%d", "America/New_York"),
            "Time": written("%H:%M:%S", "America/New_York"),
            "Time Zone": each("Eastern Time (US & Canada)"),
            "Gross Sales": sums,
            "Total Collected": sums,
            # What cards have paid, and no card.
            "Card": sums,
            "Fees": each("-$0.30"),
            "Transaction ID": each("sq{n}"),
            "Event Type": only(REFUNDS, "Refund", "Payment"),
            "Customer ID": each("CUS{who}"),
        },
        {"amount": "Gross Sales", "currency.$": "USD"},
        currency="USD",
        refunds=REFUNDS,
    )


def klarna() -> Product:
    return Product(
        {
            "type": only(REFUNDS, "RETURN", "SALE"),
            "capture_date": written("%Y-%m-%dT%H:%M:%SZ", after=timedelta(days=2)),
            "sale_date": written("%Y-%m-%dT%H:%M:%SZ"),
            "settlement_date": written("%Y-%m-%dT%H:%M:%SZ", after=timedelta(days=9)),
            "order_id": each("aaaa-bbbb-{n}"),
            "amount": [text.replace(".", "") for text in signed(REFUNDS)],
            "currency_code": each("EUR"),
        },
        {"amount.unit": "minor", "amount.negative": "refund", "account": "none"},
        before="Report created;2025-12-01\n\n",
        currency="EUR",
        refunds=REFUNDS,
        has_accounts=False,
    )


def gocardless() -> Product:
    return Product(
        {
            "id": each("PM{n}"),
            "created_at": written("%Y-%m-%dT%H:%M:%S.000Z"),
            "charge_date": written("%Y-%m-%d", after=timedelta(days=3)),
            "amount": AMOUNT,
            "currency": each("GBP"),
            "status": only(FRAUDS, "charged_back", "paid_out"),
            "reference": each(""),
            "payout_date": written("%Y-%m-%d", after=timedelta(days=7)),
            "links.mandate": each("MD{who}"),
            "customers.id": each("CU{who}"),
        },
        {
            "label": "status",
            "label.paid_out": "legitimate",
            "label.charged_back": "fraud",
        },
        currency="GBP",
        frauds=FRAUDS,
    )


def razorpay() -> Product:
    return Product(
        {
            "order_id": each("order_{n}"),
            "id": each("pay_{n}"),
            "amount": [amount.replace(".", "") for amount in AMOUNT],
            "currency": each("INR"),
            "status": only(FRAUDS, "failed", "captured"),
            "captured": only(FRAUDS, "0", "1"),
            "card_id": each(""),
            "email": each("u{who}@g.in"),
            "contact": each("91987654320{who}"),
            "error_code": only(FRAUDS, "BAD_REQUEST"),
            "created_at": written("%d/%m/%Y %H:%M:%S"),
        },
        {"amount.unit": "minor"},
        currency="INR",
    )


def paystack() -> Product:
    return Product(
        {
            "Reference": each("T{n}"),
            "Status": only(FRAUDS, "failed", "success"),
            "Amount": [f"NGN {amount}" for amount in AMOUNT],
            "Currency": each("NGN"),
            "Customer Email": each("p{who}@x.ng"),
            # What failed was never paid.
            "Paid At": [
                "" if n in FRAUDS else text
                for n, text in enumerate(
                    written("%b %d, %Y, %I:%M:%S %p", after=timedelta(seconds=9))
                )
            ],
            "Created At": written("%b %d, %Y, %I:%M:%S %p"),
        },
        file="export.tsv",
        currency="NGN",
    )


def mpesa() -> Product:
    return Product(
        {
            "Receipt No.": each("SI{n}"),
            "Completion Time": written("%Y-%m-%d %H:%M:%S"),
            "Details": each("Pay Bill to 8880{who}"),
            "Transaction Status": each("Completed"),
            "Paid In": ["" if n not in REFUNDS else amount for n, amount in enumerate(AMOUNT)],
            "Withdrawn": [f"-{amount}" * (n not in REFUNDS) for n, amount in enumerate(AMOUNT)],
            "Balance": each("5000.00"),
        },
        {"amount": "Withdrawn+Paid In", "account": "none"},
        before="M-PESA STATEMENT\nCustomer Name:,JOHN DOE\n\n",
        refunds=REFUNDS,
        has_accounts=False,
    )


def revolut() -> Product:
    return Product(
        {
            "Date started (UTC)": written("%Y-%m-%d"),
            "Date completed (UTC)": written("%Y-%m-%d", after=timedelta(days=1)),
            "ID": each("{n}-1111-2222"),
            "Type": each("CARD_PAYMENT"),
            "State": each("COMPLETED"),
            "Card number": each("5168******200{who}"),
            "Payment currency": each("EUR"),
            "Amount": [f"-{amount}" for amount in AMOUNT],
            "Fee": each("0.00"),
            "Beneficiary account number": each(""),
            "MCC": each("541{who}"),
        },
        {"amount.negative": "spending"},
        currency="EUR",
        has_clock=False,
    )


def wise() -> Product:
    return Product(
        {
            "TransferWise ID": each("CARD-{n}"),
            "Date": written("%d-%m-%Y"),
            "Amount": signed([n for n in ROWS if n not in REFUNDS]),
            "Currency": each("EUR"),
            "Running Balance": each("5000.00"),
            "Payee Name": each(""),
            "Merchant": each("Shop {who}"),
        },
        {"transaction": "TransferWise ID", "amount.negative": "spending", "account": "none"},
        currency="EUR",
        refunds=REFUNDS,
        has_accounts=False,
        has_clock=False,
    )


def checkout() -> Product:
    return Product(
        {
            "Payment ID": each("pay_{n}"),
            "Action ID": each("act_{n}"),
            "Action Type": only(REFUNDS, "Refund", "Capture"),
            "Processed On": written("%Y-%m-%dT%H:%M:%S", after=timedelta(seconds=3)),
            "Requested On": written("%Y-%m-%dT%H:%M:%S"),
            "Holding Currency": each("EUR"),
            "Processing Currency": each("USD"),
            "Response Code": only(FRAUDS, "20005", "10000"),
            "Processing Amount": AMOUNT,
            "Customer Email": each("k{who}@x.com"),
        },
        currency="USD",
        refunds=REFUNDS,
    )


def authorize_net() -> Product:
    return Product(
        {
            "Response Code": only(FRAUDS, "2", "1"),
            "Transaction ID": each("6000{n}"),
            "Submit Date/Time": written("%d-%b-%Y %I:%M:%S %p %Z", "America/Los_Angeles"),
            "Settlement Date/Time": written("%d-%b-%Y", after=timedelta(days=2)),
            "Total Amount": AMOUNT,
            "Currency": each("USD"),
            "Customer ID": each("cu{who}"),
            "Transaction Status": only(FRAUDS, "Declined", "Settled Successfully"),
        },
        {"time.zone": "America/Los_Angeles"},
        file="export.txt",
        currency="USD",
    )


def ieee_cis() -> Product:
    seconds = [int((at - AT[0]).total_seconds()) for at in AT]
    return Product(
        {
            "TransactionID": each("2987{n}"),
            "isFraud": only(FRAUDS, "1", "0"),
            "TransactionDT": seconds,
            "TransactionAmt": AMOUNT,
            "ProductCD": each("W"),
            "card1": each("1392{who}"),
            "dist1": only(REFUNDS, "19.0"),
            "P_emaildomain": each("gmail.com"),
        },
        {"time.unit": "seconds", "time.origin": AT[0].isoformat(), "account": "card1"},
        frauds=FRAUDS,
    )


def elliptic() -> Product:
    others = [n for n in ROWS if n % 10 == 1]
    label = [("1" if n in FRAUDS else "2" if n in others else "unknown") for n in ROWS]
    return Product(
        {
            "txId": each("2304{n}"),
            "class": label,
            "Time step": [n // 2 for n in ROWS],
            **{f"Local_feature_{k}": [f"{n * k % 19 - 9}.25" for n in ROWS] for k in range(1, 40)},
        },
        {
            "label.1": "fraud",
            "label.2": "legitimate",
            "label.unknown": "unknown",
            "time.unit": "weeks",
            "time.origin": "2016-01-01",
            "amount": "none",
            "account": "none",
        },
        frauds=FRAUDS,
        has_accounts=False,
        has_clock=False,
    )


def woocommerce() -> Product:
    return Product(
        {
            "Order Number": each("30{n}"),
            "Order Status": each("Completed"),
            "Order Date": written("%Y-%m-%d %H:%M:%S"),
            "First Name (Billing)": each("Ann"),
            "Email (Billing)": each("w{who}@x.com"),
            "Country Code (Billing)": only(FRAUDS, "FR", "DE"),
            "Order Total Amount": AMOUNT,
            "Item Name": each("Mug"),
        },
        {"amount.currency": "EUR"},
        currency="EUR",
    )


def fraud_ecommerce() -> Product:
    return Product(
        {
            "user_id": each("2205{who}"),
            "signup_time": written("%Y-%m-%d %H:%M:%S", after=-timedelta(days=30)),
            "purchase_time": written("%Y-%m-%d %H:%M:%S"),
            "purchase_value": AMOUNT,
            "device_id": each("QVPSPJ{who}"),
            "ip_address": each("73275836{who}.5"),
            "class": only(FRAUDS, "1", "0"),
        },
        frauds=FRAUDS,
        has_ids=False,
    )


def payu() -> Product:
    return Product(
        {
            "PayU ID": each("4039937155{n}"),
            "Transaction ID": each("txn{n}"),
            "Status": only(FRAUDS, "failure", "captured"),
            "Amount": AMOUNT,
            "Date": written("%Y-%m-%d %H:%M:%S"),
            "Requested Action": only(REFUNDS, "refund", "capture"),
            "Customer Email": each("r{who}@x.in"),
            "Error Code": only(FRAUDS, "E302", "E000"),
        },
        {"refunds": "Requested Action"},
        refunds=REFUNDS,
    )


def nmi() -> Product:
    return Product(
        {
            "transaction_id": each("88123400{n}"),
            "date": written("%Y%m%d%H%M%S"),
            "action_type": only(REFUNDS, "refund", "sale"),
            "condition": only(FRAUDS, "failed", "complete"),
            "amount": signed(REFUNDS),
            "currency": each("USD"),
            "email": each("c{who}@x.com"),
            "response_text": only(FRAUDS, "DECLINE", "SUCCESS"),
        },
        {"amount.negative": "refund"},
        currency="USD",
        refunds=REFUNDS,
    )


def oracle() -> Product:
    return Product(
        {
            "TXN_REF": each("T{n}"),
            "ACCT_NO": each("00123400{who}"),
            "DOB": each("1988-03-1{who}"),
            "TXN_TS": written("%d-%b-%y %I.%M.%S.000000000 %p +00:00"),
            "TXN_AMT": AMOUNT,
            "CCY": each("GBP"),
            "FRD_FLG": only(FRAUDS, "Y", "N"),
        },
        currency="GBP",
        frauds=FRAUDS,
    )


def sift() -> Product:
    return Product(
        {
            "$order_id": each("ORD-{n}"),
            "time": [int(at.timestamp() * 1000) for at in AT],
            "account_created_at": written("%Y-%m-%d", after=-timedelta(days=90)),
            "$user_id": each("u{who}"),
            "$amount": [f"{amount.replace('.', '')}0000" for amount in AMOUNT],
            "$currency_code": each("USD"),
        },
        {"time": "time", "amount.unit": "micro"},
        currency="USD",
    )


def momtsim() -> Product:
    return Product(
        {
            "step": [17 * n for n in ROWS],
            "amount": AMOUNT,
            "account": each("45500{who}123"),
            "newBalInitiator": each("40{n}.00"),
            "isFraud": only(FRAUDS, "1", "0"),
        },
        {"time.unit": "hours", "time.origin": AT[0].isoformat()},
        frauds=FRAUDS,
        has_ids=False,
    )


def mt940() -> Product:
    return Product(
        {
            "Value date": written("%y%m%d", after=timedelta(days=1)),
            "Entry date": written("%y%m%d"),
            "D/C": only(REFUNDS, "C", "D"),
            "Amount": [amount.replace(".", ",") for amount in AMOUNT],
            "Currency": each("EUR"),
            "Reference": each("REF{n}"),
            "Account": each("DE893704004405320130{who}"),
        },
        {"time.unit": "%y%m%d", "type": "debit"},
        before="Bank;\n",
        currency="EUR",
        refunds=REFUNDS,
        has_clock=False,
    )


def german_spreadsheet() -> Product:
    return Product(
        {
            "Bestellnr.": each("P{n}"),
            "Bestelldatum": written("%d.%m.%Y %H:%M:%S"),
            "Kundennr.": each("10{who}"),
            "Betrag": [f"{amount.replace('.', ',')} €" for amount in AMOUNT],
            "Betrug": only(FRAUDS, "WAHR", "FALSCH"),
        },
        before="Bestellungen;\n",
        currency="EUR",
        frauds=FRAUDS,
    )


PRODUCTS = (
    *(mollie, braintree, square, klarna, gocardless, razorpay, paystack, mpesa, revolut, wise),
    *(checkout, authorize_net, ieee_cis, elliptic, woocommerce, fraud_ecommerce),
    *(payu, nmi, oracle, sift, momtsim, mt940, german_spreadsheet),
)
# Answers that nobody is asked for, but that a person may give.
UNASKED = {"amount.currency", "account"}


@pytest.mark.parametrize("make", PRODUCTS)
def test_a_product_s_export_is_read_without_being_edited(
    tmp_path: Path, make: Callable[[], Product]
) -> None:
    product = make()
    path = tmp_path / product.file
    delimiter = ";" if ";" in product.before else "\t" if path.suffix != ".csv" else ","
    path.write_text(product.before + rows_of(product.columns, delimiter))
    questions = inspected(path)[1]
    assert set(product.answers) - UNASKED <= questions <= set(product.answers)
    options = [f"{name}={value}" for name, value in product.answers.items()]
    assert inspected(path, *options)[0].exit_code == 0
    spec = DatasetSpec.load(path.with_suffix(".toml"))
    found = read_entries(path, spec)
    assert found.left_out.unread() == 0
    if make is elliptic:
        assert found.time_us_N.tolist() == sorted(found.time_us_N.tolist())
        assert [label for label in found.is_fraud_N if label != UNLABELLED] == [0, 1] * 6
        return
    days = [at.replace(hour=0, minute=0, second=0) for at in AT]
    assert times_of(found) == (AT if product.has_clock else days)
    assert found.amount_N.tolist() == [float(amount) for amount in AMOUNT]
    assert set(found.currency_N) == {product.currency}
    assert [kind == "refund" for kind in found.types_N] == [n in product.refunds for n in ROWS]
    assert found.ids_N.n_unique() == len(ROWS)
    if product.has_accounts:
        assert found.accounts_N.n_unique() == 7
    if product.frauds is not None:
        labelled = [n for n in ROWS if found.is_fraud_N[n] != UNLABELLED]
        assert [n for n in labelled if found.is_fraud_N[n] == 1] == list(product.frauds)
        assert len(labelled) > len(product.frauds)
    # What became of a payment is no feature of it, and neither is what numbers it.
    named = {*spec.categorical.values(), *spec.numeric.values()}
    assert named.isdisjoint({"captured", "error_code", "Response Code", "Card", "Fee", "Balance"})
    assert named.isdisjoint({"condition", "response_text", "newBalInitiator", "FRD_FLG"})
    assert "contact" not in spec.numeric.values()
    assert len(History(path, spec)) == len(ROWS)


def test_which_of_several_times_is_the_payment_s_is_a_question(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    columns = payments(order_id=[f"o-{n}" for n in range(10)])
    at = columns.pop("created_at")
    path.write_text(
        rows_of({**columns, "checked": at, "seen": [f"2024-04-{n + 11}" for n in range(10)]})
    )
    assert inspected(path)[1] == {"time"}
    for column in ("checked", "seen"):
        assert inspected(path, f"time={column}")[0].exit_code == 0
        assert DatasetSpec.load(path.with_suffix(".toml")).columns.time == column
    # The same twice is no choice, and what is called after the payment is its time.
    path.write_text(rows_of({**columns, "seen": at, "checked": at}))
    assert inspected(path)[1] == set()
    path.write_text(rows_of({**columns, "seen": ["2024-04-11"] * 10, "Purchased at": at}))
    assert inspected(path)[1] == set()
    assert DatasetSpec.load(path.with_suffix(".toml")).columns.time == "Purchased at"


def test_what_other_rows_are_beside_refunds_is_a_question(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    kinds = ["Booking", "Refund", "Booking", "Cash"] * 5
    columns = payments(order_id=[f"o-{n}" for n in range(20)], type=kinds)
    path.write_text(rows_of(columns))
    assert inspected(path)[1] == {"types.Booking", "types.Cash"}
    options = ("types.Booking=payment", "types.Cash=withdrawal")
    assert inspected(path, *options)[0].exit_code == 0
    found = read_entries(path, DatasetSpec.load(path.with_suffix(".toml")))
    assert found.types_N.to_list() == ["payment", "refund", "payment", "withdrawal"] * 5
    # Where they have a minus, that says it.
    amounts = [f"{'-' * (kind == 'Refund')}{n}.50" for n, kind in enumerate(kinds)]
    path.write_text(rows_of({**columns, "amount": amounts}))
    assert inspected(path)[1] == {"amount.negative"}


@pytest.mark.parametrize("answer", ["eur", "GOLD"])
def test_a_currency_that_is_none_is_refused(tmp_path: Path, answer: str) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(rows_of(payments(order_id=[f"o-{n}" for n in range(9)])))
    result, _ = inspected(path, f"amount.currency={answer}")
    assert result.exit_code == 2
    assert f"--answer amount.currency={answer}: '{answer}' is not an ISO 4217 code" in result.output


def test_of_hundreds_of_columns_of_numbers_some_are_shown_and_each_may_be_the_amount(
    tmp_path: Path,
) -> None:
    path = tmp_path / "orders.csv"
    columns = payments(order_id=[f"o-{n}" for n in range(10)])
    del columns["amount"]
    numbers = {f"f{k}": [f"{n * k}.5" for n in range(10)] for k in range(60)}
    path.write_text(rows_of({**columns, **numbers}))
    result, _ = inspected(path)
    assert result.output.count("--answer amount=f") == 20
    assert inspected(path, "amount=f47")[0].exit_code == 0
    assert DatasetSpec.load(path.with_suffix(".toml")).columns.amount == "f47"


def test_a_count_is_the_time_of_a_payment_beside_the_date_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    columns = payments(order_id=[f"o-{n}" for n in range(10)])
    del columns["created_at"]
    seconds = [1_710_000_000 + 9_000 * n for n in range(10)]
    for name in ("dob", "user_created_at", "Date of birth", "card_expiry_date"):
        columns["unix_time"], columns[name] = seconds, [f"1988-03-{n + 13}" for n in range(10)]
        path.write_text(rows_of(columns))
        assert inspected(path)[1] == {"time"}
        assert inspected(path, "time=unix_time")[0].exit_code == 0
        found = read_entries(path, DatasetSpec.load(path.with_suffix(".toml")))
        assert found.time_us_N.tolist() == [second * 1_000_000 for second in seconds]
        del columns[name]


def test_a_number_whose_name_ends_like_a_time_s_is_none(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    columns = payments(order_id=[f"o-{n}" for n in range(10)])
    del columns["created_at"]
    path.write_text(rows_of({"keep_alive_session": [0, 1] * 5, **columns, "month": range(10)}))
    result, questions = inspected(path)
    assert {"time.unit", "time.origin"} <= questions
    assert "What does month count" in result.output


def test_rows_that_cannot_be_read_are_asked_for_with_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    columns = payments(customer_id=["a", "", "b"] * 7)
    path.write_text(rows_of(columns))
    result, questions = inspected(path)
    assert questions == {"leave_out"}
    assert "7 of 21 rows are left out: 7 it is missing (customer_id)" in result.output
    assert "--answer leave_out=no  refuse the file" in result.output


def test_six_digits_are_a_date_only_where_every_row_is_one(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    columns = payments(order_id=[f"o-{n}" for n in range(10)])
    del columns["created_at"]
    path.write_text(rows_of({**columns, "date": [f"2403{n + 13}" for n in range(10)]}))
    output = inspected(path)[0].output
    assert "--answer time.unit=%y%m%d  a date: 13 March 2024" in output
    path.write_text(rows_of({**columns, "date": [f"99{n}{n}99" for n in range(10)]}))
    assert "%y%m%d" not in inspected(path)[0].output


@pytest.mark.parametrize(
    "column", ["Remboursé", "ReasonCode", "AFSResult", "Reembolsado", "Zwrot", "Rücklastschrift"]
)
def test_what_is_known_later_is_no_feature_in_other_words(tmp_path: Path, column: str) -> None:
    path = tmp_path / "orders.csv"
    words = ["a", "b", "a", "a", "b"] * 8
    columns = payments(order_id=[f"o-{n}" for n in range(40)])
    path.write_text(rows_of({**columns, column: words, "shop size": words}))
    assert inspected(path)[0].exit_code in (0, 2)
    inspected(path, *["label=none"] * (column == "Rücklastschrift"))
    spec = DatasetSpec.load(path.with_suffix(".toml"))
    assert list(spec.categorical.values()) == ["shop size"]


def test_what_tells_chargebacks_apart_is_no_feature(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    columns = payments(order_id=[f"o-{n}" for n in range(60)])
    columns["chargeback"] = only(FRAUDS + REFUNDS, "1")
    columns["auto"] = only(FRAUDS + REFUNDS, "D", "A")
    columns["size"] = ["L", "S"] * 30
    path.write_text(rows_of(columns))
    assert inspected(path)[1] == {"label.legitimate_after_days"}
    assert inspected(path, "label.legitimate_after_days=5")[0].exit_code == 0
    spec = DatasetSpec.load(path.with_suffix(".toml"))
    assert list(spec.categorical.values()) == ["size"]
