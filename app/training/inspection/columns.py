"""Which column of a file is what: the account, the id, entities, categories, numbers, leaks."""

import re
from collections.abc import Sequence
from itertools import chain, count

import numpy as np
import polars as pl

from app.learner.entities import canonical
from app.learner.spec import MOST_ENTITIES
from app.learner.transaction import STANDARD_FIELDS
from app.training import guesses, languages
from app.training.inspection import names
from app.training.inspection.draft import Draft
from app.training.inspection.names import rank
from app.training.inspection.questions import Answers, Question

NOBODY = "none"
ROW = "row"
SCIENTIFIC = re.compile(r"\d(\.\d+)?E\+\d+")
ENTITIES = ("merchant", "device", "ip", "card", "email")
CATEGORIES = ("merchant_category", "channel", "country")
# Of a category nobody can learn from what is different in every row.
MOST_CATEGORIES = 1000
MOST_FIELDS = 40
SHOWN, FEW_ROWS = 8, 20
LEAST_DIGITS = 7
# A column whose values separate frauds so well says what came after.
LEAKS_AT, LEAST_FRAUDS = 0.98, 8
# A column of more different words says something else, as a free text does.
MOST_ACCUSING = 12


def candidates(role: str, columns: Sequence[str], taken: set[str]) -> list[list[str]]:
    """The columns that a role may have by their names, those of equal likelihood together."""
    ranked: dict[int, list[str]] = {}
    for column in columns:
        if column not in taken and (place := rank(role, column)) is not None:
            ranked.setdefault(place, []).append(column)
    return [ranked[place] for place in sorted(ranked)]


def chosen_columns(role: str, answers: Answers, columns: Sequence[str]) -> list[str] | None:
    """What an answer states of a role without a question."""
    if (answer := answers.stated(role)) is None:
        return None
    return [] if answer == NOBODY else _parts(role, answer, columns)


def _parts(role: str, answer: str, columns: Sequence[str]) -> list[str]:
    if answer in columns:
        return [answer]
    parts = [part.strip() for part in answer.split("+")]
    if unknown := [part for part in parts if part not in columns]:
        raise ValueError(
            f"--answer {role}={answer}: there is no column {unknown[0]!r}; the file has "
            f"{', '.join(columns)}"
        )
    return parts


def add_account(draft: Draft, frame: pl.DataFrame, answers: Answers, taken: set[str]) -> None:
    """Who pays; a question where columns of several kinds may say so, or none does."""
    stated, columns = chosen_columns("account", answers, frame.columns), frame.columns
    ranked = candidates("account", columns, taken)
    sums = {column for some in ranked for column in some if _is_sum(frame[column])}
    ranked = candidates("account", columns, taken | sums)
    if stated is None and len(ranked) == 1 and len(ranked[0]) == 1 and ranked[0][0] != "merchant":
        [[column]] = ranked
        # What is the same in every row may be the shop's own.
        is_one = len(frame) > FEW_ROWS and frame[column].n_unique() == 1
        if not names.plain(column).startswith("merchant") and not is_one:
            draft.add("columns", "account", column, f"by its name; {_distinct(frame, column)}")
            _note_scientific(draft, frame, [column])
            taken.add(column)
            return
    if stated is None:
        stated = _account_by_question(
            frame, answers, [column for some in ranked for column in some]
        )
    if not stated:
        draft.add(
            "columns",
            "account",
            {"row_number": f"{draft.name}-account-"},
            "nobody says who pays: each row is an account of its own, and none has a history",
        )
        return
    named = stated[0] if len(stated) == 1 else stated
    draft.add("columns", "account", named, "as answered")
    _note_scientific(draft, frame, stated)
    taken.update(stated)


def _is_sum(values_N: pl.Series) -> bool:
    """Whether all values have two decimals, as what a card has paid, and no card itself, has."""
    text_N = values_N.cast(pl.String).drop_nulls()
    return guesses.share(text_N.str.contains(r"^\W*\d[\d.,' ]*[.,]\d\d\W*$")) == 1


def _account_by_question(frame: pl.DataFrame, answers: Answers, likely: list[str]) -> list[str]:
    choices = {column: _distinct(frame, column) for column in likely}
    if 2 <= len(likely) <= 3:
        choices["+".join(likely)] = "together"
    choices[NOBODY] = "no column says who pays: each row is an account of its own"

    def no_column(answer: str) -> str | None:
        unknown = [part for part in answer.split("+") if part.strip() not in frame.columns]
        return f"there is no column {unknown[0]!r}" if unknown else None

    answer = answers.of(
        Question(
            "account",
            "Which column says whose payment it is: who pays again and again? Several make one "
            f"account with a + between. The file has {', '.join(frame.columns[:40])}",
            choices,
            no_column,
            next((column for column in likely if frame[column].n_unique() > 1), NOBODY),
        )
    )
    return [] if answer == NOBODY else _parts("account", answer, frame.columns)


def _distinct(frame: pl.DataFrame, column: str) -> str:
    return f"{frame[column].n_unique():,} different in {len(frame):,} rows"


def _note_scientific(draft: Draft, frame: pl.DataFrame, columns: Sequence[str]) -> None:
    for column in columns:
        text_N = frame[column].cast(pl.String).drop_nulls()
        if len(text_N) and text_N.str.contains(f"^{SCIENTIFIC.pattern}$").all():
            draft.notes.append(
                f"{column} is in the form of {text_N[0]}: a spreadsheet has rounded it, and "
                "accounts may have become one; export it as text where you can."
            )


def add_transaction(draft: Draft, frame: pl.DataFrame, answers: Answers, taken: set[str]) -> None:
    """The id of each transaction; several rows of one id are a question."""
    stated = chosen_columns("transaction", answers, frame.columns)
    row_number = {"row_number": f"{draft.name}-"}
    if stated is None:
        some = [
            column
            for ranked in candidates("transaction", frame.columns, taken)
            for column in ranked
        ]
        some = [column for column in some if _looks_like_id(frame[column])]
        whole = [
            column
            for column in some
            if frame[column].null_count() == 0 and frame[column].is_unique().all()
        ]
        # Rows without an id cannot be read, and are no reason to take the others for one order.
        whole = whole or [column for column in some if frame[column].drop_nulls().is_unique().all()]
        stated = whole[:1] or some[:1] or _stated_id(frame, answers, taken)
    if not stated:
        draft.add("columns", "transaction", row_number, "no column looks like an id of the payment")
        return
    named = stated[0] if len(stated) == 1 else stated
    there = frame.select(stated).drop_nulls()
    if there.is_unique().all():
        lacking = len(frame) - len(there)
        draft.add(
            *("columns", "transaction", named),
            "an id of its own in every row"
            + (f" but {lacking:,}, which have none" * (lacking > 0)),
        )
    else:
        same = _same_by_question(frame, stated, answers)
        if same == ROW:
            draft.add("columns", "transaction", row_number, f"{named} is there several times")
            return
        draft.add("columns", "transaction", named, "of several rows, see [rows]")
        draft.add("rows", "same_transaction", same, "several rows have one id")
    taken.update(stated)


def _stated_id(frame: pl.DataFrame, answers: Answers, taken: set[str]) -> list[str]:
    """The column of ids where none is called so, but values of some are there only once."""
    unlike = [
        column
        for column in frame.columns
        if column not in taken and not _says_else(column) and _is_all_ids(frame[column])
    ]
    if not unlike:
        return []
    answer = answers.of(
        Question(
            "transaction",
            f"Is there an id of the payment? {', '.join(unlike)} has another value in every row.",
            {**dict.fromkeys(unlike, "this column"), NOBODY: "no, take the row's number"},
            proposal=unlike[0],
        )
    )
    return [] if answer == NOBODY else [answer]


def _says_else(column: str) -> bool:
    """Whether a column is called as others are."""
    is_other = any(rank(role, column) is not None for role in names.ROLES)
    return is_other or names.TIME.match(column) is not None


def _is_all_ids(values_N: pl.Series) -> bool:
    """Whether every row has a word of its own, that is no number."""
    if values_N.dtype != pl.String or values_N.null_count() or not values_N.is_unique().all():
        return False
    return not (
        values_N.cast(pl.Float64, strict=False).is_not_null().any()
        or values_N.str.contains(r"[\s.,:/$€£¥@]").any()
    )


def _looks_like_id(values_N: pl.Series) -> bool:
    text_N = values_N.drop_nulls()
    return len(text_N) > 0 and text_N.n_unique() > len(text_N) / 4


def _same_by_question(frame: pl.DataFrame, columns: list[str], answers: Answers) -> str:
    frame = frame.drop_nulls(columns)
    again = frame.filter(~frame.select(pl.struct(columns).is_first_distinct()).to_series())
    example = again.select(columns).row(0)
    emptier = sum(again.null_count().row(0)) > len(again) * frame.width / 4
    return answers.of(
        Question(
            "same_transaction",
            f"{', '.join(columns)} is there more than once ({', '.join(map(str, example))}). What "
            "do rows of one id make?",
            {
                "first": "one order: its first row counts, the others are its items",
                "sum": "one order: the sum of its amounts",
                ROW: "payments of their own: the id is no id, take the row's number",
            },
            proposal="first" if emptier else None,
        )
    )


def add_entities(draft: Draft, frame: pl.DataFrame, taken: set[str]) -> None:
    """The merchant, the device, … of each payment. An account's own column may be one, too."""
    account = draft.value("columns", "account")
    for kind in ENTITIES:
        some = [column for ranked in candidates(kind, frame.columns, taken) for column in ranked]
        if not some or len(candidates(kind, [account] if isinstance(account, str) else [], set())):
            continue
        column = next((name for name in some if names.plain(name) == kind), some[0])
        fits = _fits(kind, frame[column])
        name = kind if fits else f"{kind}_hash"
        why = "by its name" if fits else f"no {kind} as the API takes it: a kind of its own"
        draft.add("entities", name, column, f"{why}; {_distinct(frame, column)}")
        taken.add(column)
    assert len(ENTITIES) <= MOST_ENTITIES


def _fits(kind: str, values_N: pl.Series) -> bool:
    try:
        for text in values_N.cast(pl.String).drop_nulls().unique():
            canonical(kind, text)
    except ValueError:
        return False
    return True


def add_fields(
    draft: Draft, frame: pl.DataFrame, is_fraud_N: pl.Series | None, taken: set[str]
) -> None:
    """Categories and numbers; what looks like a leak is only proposed, with a comment."""
    for role in CATEGORIES:
        some = [column for ranked in candidates(role, frame.columns, taken) for column in ranked]
        if some and not _leak(some[0], frame[some[0]], is_fraud_N):
            draft.add("categorical", role, some[0], _distinct(frame, some[0]))
            taken.add(some[0])
    marks = draft.value("file", "decimal") or ".", draft.value("file", "thousands") or ""
    used = 0
    for column in frame.columns:
        if column in taken:
            continue
        section, comment = _kind_of_field(frame[column], marks)
        if section is None or _says_when(frame[column]):
            continue
        leak = _leak(column, frame[column], is_fraud_N)
        is_active = not leak and used < MOST_FIELDS
        used += is_active
        comment = leak or (comment if is_active else f"{comment}; one of many")
        name = _field_name(column)
        # Of names in another script nothing is left.
        others = (f"{name}_{n}" for n in count(2))
        name = next(name for name in chain((name,), others) if not draft.has(name))
        draft.add(section, name, column, comment, is_active)


def _says_when(values_N: pl.Series) -> bool:
    """Whether a column is another time, or the row's number: a model would learn the date."""
    is_number = names.ROW_NUMBER.fullmatch(names.plain(values_N.name)) is not None
    if values_N.dtype.is_temporal() or is_number or not values_N.name.strip():
        return True
    text_N = values_N.cast(pl.String).drop_nulls().str.strip_chars()
    some_N = text_N.gather_every(1 + len(text_N) // 50)
    if guesses.share(some_N.str.contains(r"^\d{4}-\d\d-\d\d([ T]|$)")) > 0.9:
        return True
    if guesses.share(some_N.str.contains(r"^\d+$")) < 1:
        return _reads(some_N.to_list())
    lengths = some_N.str.len_chars().unique().to_list()
    is_called_so = names.TIME.fullmatch(names.plain(values_N.name)) is not None
    if is_called_so and len(lengths) == 1 and lengths[0] in guesses.EPOCHS:
        return True
    # A count that never goes back is time by another name.
    step_N = text_N.cast(pl.Float64, strict=False).diff().drop_nulls()
    return len(step_N) >= FEW_ROWS and bool((step_N >= 0).all() or (step_N <= 0).all())


def _reads(values: list[str]) -> bool:
    """Whether all values are times, in whatever language."""
    if guesses.time_formats(values):
        return True
    text_N = pl.Series(values, dtype=pl.String)
    return any(
        guesses.time_formats(languages.translated(text_N, words).to_list())
        for words in languages.languages_of(values).values()
    )


def _kind_of_field(values_N: pl.Series, marks: tuple[str, str]) -> tuple[str | None, str]:
    text_N = values_N.cast(pl.String).drop_nulls()
    distinct = text_N.n_unique()
    if distinct < 2:
        return None, ""
    decimal, thousands = marks
    plain = text_N.str.strip_chars()
    if thousands:
        plain = plain.str.replace_all(thousands, "", literal=True)
    number_N = plain.str.replace(decimal, ".", literal=True).cast(pl.Float64, strict=False)
    if number_N.null_count() == 0 and number_N.is_finite().all():
        has_zeros = text_N.str.contains(r"^0\d").any() or _are_ids(text_N)
        # A few whole numbers are codes.
        if not has_zeros and (distinct > SHOWN or text_N.str.contains(r"\D").any()):
            low, high = np.percentile(number_N.to_numpy(), [0, 100])
            return "numeric", f"{low:g} to {high:g}"
    if distinct > min(MOST_CATEGORIES, max(2, len(text_N) / 2)):
        return None, ""
    shown = ", ".join(text_N.value_counts(sort=True)[text_N.name].head(3).to_list())
    return "categorical", f"{distinct:,} different: {shown[:50]}{', …' if distinct > 3 else ''}"


def _are_ids(text_N: pl.Series) -> bool:
    """Whether whole numbers are long, and all as long: of telephones, cards, other rows."""
    length = text_N.str.len_chars()
    is_long = length.min() == length.max() and len(text_N) > 0 and length[0] >= LEAST_DIGITS
    return is_long and bool(text_N.str.contains(r"^\+?\d+$").all())


def _field_name(column: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", names.plain(column)).strip("_") or "field"
    reserved = {
        *STANDARD_FIELDS,
        "merchant_id",
        "device_id",
        "ip_address",
        "card_fingerprint",
        "email",
    }
    return f"{name}_of_file" if name in reserved else name


def _leak(column: str, values_N: pl.Series, is_fraud_N: pl.Series | None) -> str:
    """Why a column may say what became of a payment, empty where nothing shows it."""
    if names.LEAK.fullmatch(names.plain(column)):
        return "left out: by its name it is known only later, or comes from another model"
    if word := accusing_word(values_N):
        return f"left out: {word!r} among its words is known only later"
    if outcomes := _outcomes(values_N):
        return f"left out: {' and '.join(outcomes)} say what became of a payment"
    if rank("status", column) is not None:
        return "left out: by its name it says what became of a payment"
    if is_fraud_N is None or not _distinguishes(values_N, is_fraud_N):
        return ""
    return "left out: it tells nearly every fraud apart by itself, so it may be known only later"


def accusing_word(values_N: pl.Series) -> str | None:
    """A word among the few of a column by which it may say what was fraud."""
    if values_N.dtype != pl.String or values_N.n_unique() > MOST_ACCUSING:
        return None
    for value in values_N.drop_nulls().unique(maintain_order=True).to_list():
        if names.plain(value) in names.ACCUSING:
            return str(value)
    return None


def _outcomes(values_N: pl.Series) -> list[str]:
    """Two words among the few of a column that say what became of payments, if it has two."""
    if values_N.dtype != pl.String or values_N.n_unique() > MOST_ACCUSING:
        return []
    words = values_N.drop_nulls().unique(maintain_order=True).to_list()
    known = [repr(word) for word in words if word.strip().lower() in names.STATUSES]
    return known[:2] if len(known) > 1 else []


def _distinguishes(values_N: pl.Series, is_fraud_N: pl.Series) -> bool:
    """Whether frauds have values of their own, and nearly all of them."""
    frame = pl.DataFrame([values_N.cast(pl.String).alias("value"), is_fraud_N.alias("fraud")])
    frame = frame.filter(pl.col("fraud").is_not_null())
    frauds = int(frame["fraud"].sum())
    if not LEAST_FRAUDS <= frauds <= len(frame) / 2:
        return False
    by_value = frame.group_by("value").agg(pl.len(), pl.col("fraud").sum())
    # Values that are there once say nothing: of an id every fraud has its own.
    pure = by_value.filter((pl.col("fraud") > LEAKS_AT * pl.col("len")) & (pl.col("len") > 1))
    return int(pure["fraud"].sum()) > LEAKS_AT * frauds
