"""The transactions of a file, each value checked and converted, before anything is hashed.

`train` and `import` both read files by this, so that they agree on every value.

Axes: N transactions, M numeric attributes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from app.learner.entities import canonical
from app.learner.spec import DatasetSpec, LabelDelay
from app.learner.spelling import Named, RowNumber, columns_of_name
from app.learner.transaction import (
    DAY_US,
    LONGEST_DELAY_DAYS,
    STANDARD_FIELDS,
    Status,
    Type,
)
from app.learner.validity import ATTRIBUTE, DECIMAL_TEXT, FRAUD_WORDS, ID, LEGITIMATE_WORDS
from app.training.files import DataError
from app.training.gate import as_amounts, refuse_numbers, refuse_texts, refuse_times
from app.training.left_out import LeftOut
from app.training.table import BadRows, Table, mapped, texts
from app.training.values import amounts, currency_words, numbers, times, toml_text

UNLABELLED = -1
NEVER_US = np.iinfo(np.int64).max

LABELS = {**dict.fromkeys(LEGITIMATE_WORDS, 0), **dict.fromkeys(FRAUD_WORDS, 1)}
# Of the words of a spec this one stands for every other.
ANY_WORD = "*"
SAME_ID = (
    'where rows of one id are one order, same_transaction = "first" or "sum" under [rows] says '
    "what they make; else transaction under [columns] may be several columns"
)
# What arithmetic in binary leaves behind, as in 0.1 + 0.2, is no part of an amount.
DECIMALS = 9


@dataclass(frozen=True, slots=True)
class Entries:
    """N transactions in the order of time, those of equal time in the order of the file.

    `amount_N` is as in the file, in `currency_N`, and not negative; `written_N` has the decimal
    text that it comes of, which may have more digits, or null. `numeric_NM` is NaN where an
    attribute is missing. Of `types_N` and `statuses_N` the latter is null where the file does not
    say. Labels are as in `Dataset`. `left_out` are the rows that are not among them.
    """

    ids_N: pl.Series
    accounts_N: pl.Series
    time_us_N: NDArray[np.int64]
    amount_N: NDArray[np.float64]
    written_N: pl.Series
    currency_N: pl.Series
    types_N: pl.Series
    statuses_N: pl.Series
    categories: dict[str, pl.Series]
    entities: dict[str, pl.Series]
    numeric_NM: NDArray[np.float64]
    is_fraud_N: NDArray[np.int8]
    known_at_us_N: NDArray[np.int64]
    fraud_kinds_N: pl.Series
    left_out: LeftOut

    def __len__(self) -> int:
        return len(self.ids_N)


def read_entries(path: str | Path, spec: DatasetSpec) -> Entries:
    """Read and check a CSV, Parquet or JSON file, or those of a folder or a pattern, by a spec.

    Raises DataError with one sentence for the first thing that is wrong, or where more rows cannot
    be read than the spec leaves out.
    """
    return entries_of(Table.read(Path(path), spec))


def entries_of(table: Table) -> Entries:
    """The same of a table. Raises DataError as `read_entries` does."""
    left_out = LeftOut(table)
    while True:
        try:
            return _entries(table, left_out)
        except BadRows as bad:
            table = left_out.without(table, bad)


def _entries(table: Table, left_out: LeftOut) -> Entries:
    columns, same = table.spec.columns, table.spec.rows.same_transaction
    table, chargebacks = _apart(table)
    _leave_out_others(table)
    ids_N = _identifiers(table, columns.transaction)
    if same == "refuse":
        _check_unique(table, columns.transaction, ids_N)
        return _checked(table, ids_N, None, chargebacks, left_out)
    first_N = ids_N.is_first_distinct()
    try:
        sum_N = _sums(table, ids_N) if same == "sum" else None
        return _checked(table.filter(first_N), ids_N.filter(first_N), sum_N, chargebacks, left_out)
    except BadRows as bad:
        if not (is_bad_N := bad.among(table)).any():
            # Of rows that are no transactions.
            raise
        # A transaction without one of its rows would be another one.
        of_transaction = set(ids_N.filter(pl.Series(is_bad_N)))
        raise bad.widened(table.row_N[ids_N.is_in(list(of_transaction)).to_numpy()]) from None


def _apart(table: Table) -> tuple[Table, Table | None]:
    """The payments of a table, and the rows that only say that one of them was fraud."""
    how = table.spec.label
    if not how.chargebacks:
        return table, None
    is_one_N = pl.repeat(True, len(table), eager=True)
    for column, values in how.chargebacks.items():
        is_one_N &= texts(table[column]).is_in(values).fill_null(False)
    if is_one_N.all():
        raise DataError(f"{table.path}: there is no transaction in it, only chargebacks")
    return table.filter(~is_one_N), table.filter(is_one_N) if is_one_N.any() else None


def _charged_back(
    table: Table, ids_N: pl.Series, types_N: pl.Series, chargebacks: Table
) -> dict[int, int]:
    """Which rows of a table were charged back, and when that was first known.

    A chargeback of a payment that is not in the file is left out: it may be older than the file.
    """
    spec, how = table.spec, table.spec.label
    known_us_N = times(chargebacks)
    refuse_times(chargebacks, known_us_N)
    named = how.payment or spec.columns.transaction
    assert not isinstance(named, RowNumber)
    payment_N = chargebacks.text(named, spec.rows.joined_by)
    chargebacks.refuse(named, payment_N.is_null() | (payment_N == ""), "it names no payment")
    own_N = ids_N if how.payment_id is None else texts(table[how.payment_id])
    # A refund of the same order may have its number.
    rows = {
        id_: row
        for row, (id_, kind) in enumerate(zip(own_N.to_list(), types_N.to_list(), strict=True))
        if kind != "refund"
    }
    column = columns_of_name(named)[0]
    _wish(chargebacks, column, ~payment_N.is_in(list(rows)), "a chargeback of no payment here")
    found = dict[int, int]()
    for id_, known_us in zip(payment_N.to_list(), known_us_N.tolist(), strict=True):
        row = rows[id_]
        found[row] = min(known_us, found.get(row, known_us))
    return found


def _checked(
    table: Table,
    ids_N: pl.Series,
    sum_N: pl.Series | None,
    chargebacks: Table | None,
    left_out: LeftOut,
) -> Entries:
    """The entries of a table with one row for each transaction, in the order of time."""
    spec, columns = table.spec, table.spec.columns
    time_us_N = times(table)
    refuse_times(table, time_us_N)
    is_fraud_N = _labels(table)
    known_at_us_N = _known_at(table, time_us_N, is_fraud_N)
    signed_N, currency_N = amounts(table)
    magnitude_N, types_N = _signs(table, signed_N if sum_N is None else sum_N, _types(table))
    amount_N, written_N = magnitude_N.to_numpy(writable=True), _written_amounts(table)
    if columns.amount is not None:
        amount_N = as_amounts(table, columns.amount, amount_N, written_N)
    accounts_N = _identifiers(table, columns.account)
    if chargebacks is not None:
        for row, known_us in _charged_back(table, ids_N, types_N, chargebacks).items():
            is_fraud_N[row] = 1
            # Of a day without its hour the payment may be later.
            known_at_us_N[row] = max(known_us, time_us_N[row])
    entities = {kind: _ids(table, kind, spec.entities[kind]) for kind in spec.entity_names}

    order_N = np.argsort(time_us_N, kind="stable")
    return Entries(
        ids_N=ids_N.gather(order_N),
        accounts_N=accounts_N.gather(order_N),
        time_us_N=time_us_N[order_N],
        amount_N=amount_N[order_N],
        written_N=written_N.gather(order_N),
        currency_N=currency_N.gather(order_N),
        types_N=types_N.gather(order_N),
        statuses_N=_statuses(table).gather(order_N),
        categories={
            name: _category(table, name, types_N).gather(order_N) for name in spec.categorical_names
        },
        entities={kind: ids.gather(order_N) for kind, ids in entities.items()},
        numeric_NM=_numeric(table)[order_N],
        is_fraud_N=is_fraud_N[order_N],
        known_at_us_N=known_at_us_N[order_N],
        fraud_kinds_N=_optional(table, columns.fraud_kind).gather(order_N),
        left_out=left_out,
    )


def _leave_out_others(table: Table) -> None:
    """Rows that are no transactions by the spec, and those that are no rows of the file."""
    for column, values in table.spec.rows.only.items():
        other_N = ~texts(table[column]).is_in(values).fill_null(False)
        _wish(table, column, other_N, f"not {' or '.join(values)}")
    if table.broken:
        first = table.frame.columns[0]
        is_json = table.piece(min(table.broken)).content.is_json
        broken_N = pl.Series(np.isin(table.row_N, list(table.broken)))
        table.refuse(first, broken_N, "not JSON" if is_json else "more fields than the header")


def _wish(table: Table, column: str, bad_N: pl.Series, fault: str) -> None:
    """Leave out what the spec calls no transaction."""
    if bad_N.any():
        raise BadRows(column, table.row_N[bad_N.to_numpy()], fault, "", is_by_spec=True)


def _identifiers(table: Table, named: Named | RowNumber) -> pl.Series:
    between = table.spec.rows.joined_by
    text_N = table.text(named, between)
    if isinstance(named, RowNumber):
        if problem := ID.problem(text_N[-1]):
            raise DataError(f"{table.path}: row_number under [columns]: {problem}")
        return text_N
    table.refuse(named, text_N.is_null() | (text_N == ""), "it is missing", shown_N=text_N)
    if not isinstance(named, str) and len(named) > 1:
        _check_joined(table, named, text_N)
    refuse_texts(table, named, text_N, ID, "no id")
    return text_N


def _check_joined(table: Table, named: tuple[str, ...], text_N: pl.Series) -> None:
    """Two ids must not become one by what stands between their parts."""
    parts = pl.DataFrame([texts(table[column]).alias(str(n)) for n, column in enumerate(named)])
    whole = pl.struct(pl.exclude("id"))
    is_other = parts.with_columns(id=text_N).select(whole != whole.first().over("id"))
    table.refuse(
        named,
        is_other.to_series(),
        "the text of another id",
        lambda value: f"{value!r} is the text of another id, too",
        lambda _: 'joined_by under [rows], such as "/", sets them apart',
        text_N,
    )


def _optional(table: Table, column: str | None) -> pl.Series:
    if column is None:
        return pl.repeat(None, len(table), dtype=pl.String, eager=True)
    return texts(table[column])


def _check_unique(table: Table, named: Named | RowNumber, ids_N: pl.Series) -> None:
    again_N = ~ids_N.is_first_distinct()
    if isinstance(named, RowNumber) or not again_N.any():
        return
    first = (ids_N == ids_N.filter(again_N)[0]).arg_max()
    assert first is not None
    shown_N = table[named] if isinstance(named, str) else ids_N
    table.refuse(
        named,
        again_N,
        "an id that is there already",
        lambda value: f"{value!r} is already in {table.place(first)}",
        lambda _: SAME_ID,
        shown_N,
    )


def _sums(table: Table, ids_N: pl.Series) -> pl.Series:
    """The amount of each transaction, the sum of its rows, in the order of their first rows."""
    amount_N, currency_N = amounts(table)
    columns, spec = table.spec.columns, table.spec
    if not isinstance(columns.account, RowNumber):
        accounts_N = table.text(columns.account, spec.rows.joined_by)
        _check_same(table, columns.account, ids_N, accounts_N, "account")
    if (column := spec.currency_column or columns.amount) is not None:
        _check_same(table, column, ids_N, currency_N, "currency")
    frame = pl.DataFrame([ids_N.alias("id"), amount_N.alias("amount")])
    sums = frame.group_by("id", maintain_order=True).agg(pl.col("amount").sum().round(DECIMALS))
    return sums["amount"]


def _check_same(
    table: Table, named: Named, ids_N: pl.Series, value_N: pl.Series, what: str
) -> None:
    value, frame = pl.col("value"), pl.DataFrame([ids_N.alias("id"), value_N.alias("value")])
    differs_N = frame.select(value != value.drop_nulls().first().over("id")).to_series()
    table.refuse(
        named,
        differs_N.fill_null(False),
        f"another {what} of one transaction",
        lambda value: f"{value!r} is another {what} than in the first row of this transaction",
        shown_N=value_N,
    )


def _signs(table: Table, amount_N: pl.Series, types_N: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Amounts without their signs, and the types that signs and zeros stand for."""
    how, column = table.spec.amount, table.spec.columns.amount
    if column is None:
        return amount_N, types_N
    negative_N, zero_N = amount_N < 0, amount_N == 0
    refunds_N = negative_N
    if how.negative == "leave_out":
        _wish(table, column, negative_N, "a negative amount")
    elif how.negative == "spending" and table.spec.columns.refund is None:
        refunds_N = amount_N > 0
    elif how.negative == "refuse" and not how.sides and table.spec.columns.refund is None:
        table.refuse(
            column,
            negative_N,
            "a negative amount",
            lambda value: f"the amount {value} is negative",
            lambda _: (
                'negative = "refund", "spending" or "leave_out" under [amount] says what it is'
            ),
            amount_N if table.spec.rows.same_transaction == "sum" else None,
        )
    if how.zero == "leave_out":
        _wish(table, column, zero_N, "an amount of 0")
    is_verification_N = zero_N if how.zero == "verification" else zero_N & False
    kind = (
        pl.when(pl.lit(refunds_N))
        .then(pl.lit("refund"))
        .when(pl.lit(is_verification_N))
        .then(pl.lit("verification"))
        .otherwise(pl.lit(types_N))
    )
    return amount_N.abs(), pl.select(kind).to_series()


def _written_amounts(table: Table) -> pl.Series:
    """The decimal texts of amounts, null where the amount is another, or no such text."""
    spec, column = table.spec, table.spec.columns.amount
    is_as_written = (
        column is not None
        and table[column].dtype == pl.String
        and spec.amount.divide_by == 1
        and not spec.amount.minor_units
        and spec.columns.refund is None
        and spec.rows.same_transaction != "sum"
        and not spec.file.thousands
    )
    if column is None or not is_as_written:
        return pl.repeat(None, len(table), dtype=pl.String, eager=True)
    text = pl.lit(table[column])
    pattern = f"^{DECIMAL_TEXT.pattern}$".replace(r"\d", "[0-9]")
    return pl.select(pl.when(text.str.contains(pattern)).then(text)).to_series()


def _numeric(table: Table) -> NDArray[np.float64]:
    spec = table.spec
    number_NM = np.empty((len(table), len(spec.numeric_names)))
    for m, name in enumerate(spec.numeric_names):
        number_N = numbers(table, spec.numeric[name])
        refuse_numbers(table, spec.numeric[name], number_N)
        number_NM[:, m] = number_N.fill_null(np.nan).to_numpy()
    return number_NM


def _category(table: Table, name: str, types_N: pl.Series) -> pl.Series:
    if name == "type":
        return types_N
    column = table.spec.categorical[name]
    if name == "currency":
        return currency_words(table, column)
    text_N = texts(table[column])
    if name not in STANDARD_FIELDS:
        if table[column].dtype.is_float():
            refuse_numbers(table, column, table[column].fill_nan(None))
        refuse_texts(table, column, text_N, ATTRIBUTE, "too long")
        return text_N
    text_N = text_N.replace("", None)
    refuse_texts(table, column, text_N, ID, f"no {name}")
    return text_N


def _ids(table: Table, kind: str, column: str) -> pl.Series:
    """The ids of one kind of entity as the service would keep them; null where there is none."""
    text_N = texts(table[column]).replace("", None)
    respelled, wrong = dict[str, str](), dict[str, str]()
    for text in text_N.drop_nulls().unique():
        try:
            if (id_ := canonical(kind, text)) != text:
                respelled[text] = id_
        except ValueError as error:
            wrong[text] = str(error)
    is_wrong_N = text_N.is_in(list(wrong)).fill_null(False)
    table.refuse(column, is_wrong_N, f"no {kind}", lambda _: wrong[text_N.filter(is_wrong_N)[0]])
    id_N = text_N.replace(respelled)
    # Lower case may be longer.
    refuse_texts(table, column, id_N, ID, f"no {kind}")
    return id_N


def _types(table: Table) -> pl.Series:
    """What kind of transaction each row is; a payment where the file does not say."""
    column, words = table.spec.columns.type, table.spec.types
    types_N = _optional(table, column).replace(words).fill_null("payment")
    if column is not None:
        _refuse_words(table, column, types_N, get_args(Type), "type", "types")
    return types_N


def _statuses(table: Table) -> pl.Series:
    column, words = table.spec.columns.status, table.spec.statuses
    status_N = _optional(table, column).replace(words)
    if column is not None:
        _refuse_words(table, column, status_N, get_args(Status), "status", "statuses")
    return status_N


def _refuse_words(
    table: Table, column: str, words_N: pl.Series, possible: Iterable[str], what: str, part: str
) -> None:
    names = ", ".join(possible)
    first = next(iter(possible))
    table.refuse(
        column,
        ~words_N.is_in(list(possible)).fill_null(True),
        f"not a {what}",
        lambda value: f"{value!r} is not a {what} ({names} or null)",
        lambda value: f'{toml_text(str(value))} = "{first}" under [{part}] says which it is',
    )


def _labels(table: Table) -> NDArray[np.int8]:
    column, how = table.spec.columns.label, table.spec.label
    if column is None:
        return np.full(len(table), UNLABELLED, dtype=np.int8)
    meanings, allowed = LABELS, "0, 1, true, false, fraud, legitimate or null"
    if how.fraud or how.legitimate or how.unknown:
        stated = {UNLABELLED: how.unknown, 0: how.legitimate, 1: how.fraud}
        meanings = {
            word.strip().lower(): label for label, words in stated.items() for word in words
        }
        allowed = f"{', '.join((*how.fraud, *how.legitimate, *how.unknown))} or null"
    text_N = texts(table[column]).str.strip_chars().str.to_lowercase().replace("", None)
    words = pl.Series(list(meanings), dtype=pl.String)
    label_N = mapped(text_N, words, list(meanings.values()), pl.Int8())
    if ANY_WORD in meanings:
        any_N = pl.repeat(meanings[ANY_WORD], len(text_N), dtype=pl.Int8, eager=True)
        label_N = label_N.zip_with(label_N.is_not_null() | text_N.is_null(), any_N)
    table.refuse(
        column,
        label_N.is_null() & text_N.is_not_null(),
        "not a label",
        lambda value: f"{value!r} is not a label ({allowed})",
        lambda value: (
            "fraud, legitimate and unknown under [label] list the file's own words, such as "
            f"unknown = [{toml_text(str(value))}]"
        ),
    )
    return label_N.fill_null(UNLABELLED).to_numpy(writable=True)


def _known_at(
    table: Table, time_us_N: NDArray[np.int64], is_fraud_N: NDArray[np.int8]
) -> NDArray[np.int64]:
    """When each label is known; what has none for long enough becomes legitimate in place."""
    how, is_labelled_N = table.spec.label, is_fraud_N != UNLABELLED
    if how.delay_column is None:
        delay_us_N = np.full(len(table), how.delay_us)
    else:
        delay_us_N = _delays(table, how.delay_column, is_labelled_N)
    known_at_us_N = np.where(is_labelled_N, time_us_N + delay_us_N, NEVER_US)
    clear(how, time_us_N, is_fraud_N, known_at_us_N, time_us_N.max(initial=0))
    return known_at_us_N


def clear(
    how: LabelDelay,
    time_us_N: NDArray[np.int64],
    is_fraud_N: NDArray[np.int8],
    known_at_us_N: NDArray[np.int64],
    newest_us: int,
) -> None:
    """Let what has no label for long enough by the newest transaction be legitimate, in place."""
    if how.legitimate_after_days is None:
        return
    cleared_us_N = time_us_N + round(how.legitimate_after_days * DAY_US)
    is_cleared_N = (is_fraud_N == UNLABELLED) & (cleared_us_N <= newest_us)
    is_fraud_N[is_cleared_N] = 0
    known_at_us_N[is_cleared_N] = cleared_us_N[is_cleared_N]


def _delays(table: Table, column: str, is_labelled_N: NDArray[np.bool_]) -> NDArray[np.int64]:
    days_N = numbers(table, column).fill_nan(None)
    is_possible_N = days_N.is_between(0, LONGEST_DELAY_DAYS).fill_null(False)
    table.refuse(
        column,
        ~is_possible_N & pl.Series(is_labelled_N),
        "no possible delay",
        lambda value: f"a label needs a delay from 0 to {LONGEST_DELAY_DAYS} days, not {value}",
    )
    delay_us_N: NDArray[np.int64] = np.rint(days_N.fill_null(0).to_numpy() * DAY_US).astype(
        np.int64
    )
    return delay_us_N
