"""Which column of a file says what was fraud, and in which words; types and statuses."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

import polars as pl

from app.learner.transaction import Status, Type
from app.training import guesses
from app.training.entries import ANY_WORD, LABELS
from app.training.inspection import names
from app.training.inspection.columns import (
    FEW_ROWS,
    NOBODY,
    accusing_word,
    candidates,
    chosen_columns,
)
from app.training.inspection.draft import Draft
from app.training.inspection.names import rank
from app.training.inspection.questions import Answers, Question

FEW_WORDS, MOST_WORDS, MOST_TYPES = 2, 12, 40
USUAL_DELAY, USUAL_CHARGEBACKS = 30, 90
# Frauds are rare: where one in three is, the words may stand for something else.
MOST_FRAUDS = 1 / 3
# An amount that nobody disputed.
NOTHING = re.compile(r"0+(?:[.,]0+)?")
GUESSED_DELAY = "a guess: how many days after a payment its label is known, as a rule"
SHORT_DAYS = 180
# Of the rows of chargebacks this share names payments of the file: others are older than it is.
MOST_UNNAMED, LITTLE = 0.5, 1e-6
MEANINGS = {"fraud": "a fraud", "legitimate": "no fraud", "unknown": "nobody knows yet"}


def add_label(
    draft: Draft, frame: pl.DataFrame, answers: Answers, taken: set[str]
) -> pl.Series | None:
    """The label's column and words; returns what each row is (1, 0 or null): [N].

    Raises ValueError where too many words of the column could each mean something.
    """
    if draft.value("label", "chargebacks") is not None:
        _add_legitimate(draft, answers)
        return None
    column = _column(frame, answers, taken)
    if column is None:
        draft.notes.append(
            "No column says what was fraud: the file can be imported and scored; to train, name "
            "one with --answer label=COLUMN."
        )
        return None
    taken.add(column)
    comment = "as answered" if answers.stated("label") else "by its name"
    draft.add("columns", "label", column, comment)
    word_N = frame[column].cast(pl.String).str.strip_chars().str.to_lowercase()
    word_N = word_N.replace("", None)
    words = word_N.drop_nulls().value_counts(sort=True)
    # Each word once are the ids or the days of disputes.
    is_any = len(words) > FEW_WORDS and words["count"].max() == 1
    if len(words) > MOST_WORDS or is_any:
        zeros = [word for word in words[column].to_list() if NOTHING.fullmatch(word)]
        filled = len(word_N.drop_nulls()) - guesses.share(word_N.is_in(zeros)) * len(word_N)
        if filled > MOST_FRAUDS * len(word_N):
            raise ValueError(
                f"{column} has {len(words):,} different words in too many rows; name another "
                "column with --answer label=COLUMN, or write [label] of a spec yourself"
            )
        meaning = {**dict.fromkeys(zeros, "unknown"), ANY_WORD: "fraud"}
        word_N = word_N.replace({word: ANY_WORD for word in words[column] if word not in zeros})
    else:
        meaning = _meanings(column, dict(words.iter_rows()), answers)
    is_usual = all(LABELS.get(word) == _number(found) for word, found in meaning.items())
    if not is_usual:
        for kind in MEANINGS:
            if some := [word for word, found in meaning.items() if found == kind]:
                draft.add("label", kind, some)
    has_question = any(question.name.startswith("label.") for question in answers.open())
    if "fraud" in meaning.values() and "legitimate" not in meaning.values() and not has_question:
        _add_chargebacks(draft, answers)
        # What is not known to be fraud will be legitimate.
        meaning, word_N = {**meaning, "": "legitimate"}, word_N.fill_null("")
    else:
        _add_delay(draft, frame, answers, taken)
    numbers = {word: _number(found) for word, found in meaning.items()}
    kinds = [
        column for ranked in candidates("fraud_kind", frame.columns, taken) for column in ranked
    ]
    if kinds:
        draft.add("columns", "fraud_kind", kinds[0], "for reports only; no model sees it")
        taken.add(kinds[0])
    return word_N.replace_strict(numbers, default=None, return_dtype=pl.Int8)


def _column(frame: pl.DataFrame, answers: Answers, taken: set[str]) -> str | None:
    stated = chosen_columns("label", answers, frame.columns)
    if stated is not None:
        return stated[0] if stated else None
    for ranked in candidates("label", frame.columns, taken):
        for column in ranked:
            if frame[column].cast(pl.String).drop_nulls().n_unique() <= MOST_WORDS:
                return column
    disputed = {
        column: f"has the word {word!r}"
        for column in frame.columns
        if column not in taken and (word := accusing_word(frame[column]))
    }
    disputed |= {
        column: how
        for column in frame.columns
        if column not in taken and column not in disputed and (how := _dispute(frame[column]))
    }
    if not disputed:
        return None
    first = next(iter(disputed))
    text = f"{first} {disputed[first]}. Does it say what was fraud?"
    choices = {column: f"it does; it {how}" for column, how in disputed.items()}
    choices = {**choices, NOBODY: "no column says what was fraud"}
    answer = answers.of(Question("label", text, choices, proposal=first))
    return None if answer == NOBODY else answer


def _dispute(values_N: pl.Series) -> str:
    """How a column called after disputes tells some payments from the others, if it does."""
    if not names.DISPUTE.fullmatch(names.plain(values_N.name)):
        return ""
    text_N = values_N.cast(pl.String)
    text_N = text_N.set(text_N.str.contains(f"^(?:{NOTHING.pattern})?$"), None)
    words = text_N.drop_nulls().unique(maintain_order=True)
    filled = len(text_N) - text_N.null_count()
    if filled and filled <= MOST_FRAUDS * len(text_N):
        return f"is filled in {filled:,} of {len(text_N):,} rows, such as {words[0]!r}"
    if 2 <= len(words) <= MOST_WORDS:
        return f"has the words {', '.join(words.to_list())}"
    return ""


def _number(meaning: str) -> int | None:
    return {"fraud": 1, "legitimate": 0}.get(meaning)


def _meanings(column: str, words: Mapping[str, int], answers: Answers) -> dict[str, str]:
    meaning = {}
    for word in words:
        usual = [
            kind
            for kind, some in (
                ("fraud", names.FRAUD),
                ("legitimate", names.LEGITIMATE),
                ("unknown", names.UNKNOWN),
            )
            if word in some or names.plain(word) in some
        ]
        stated = answers.stated(f"label.{word}")
        meaning[word] = stated or (usual[0] if usual else "")
    rows = sum(words.values())
    frauds = sum(count for word, count in words.items() if meaning[word] == "fraud")
    legitimate = sum(count for word, count in words.items() if meaning[word] == "legitimate")
    # 1 and 2 are words of somebody's own, and 1 then need not be fraud.
    is_doubtful = "" in meaning.values() or (
        legitimate and rows > FEW_ROWS and frauds > MOST_FRAUDS * rows
    )
    for word in words:
        is_plain = word in ("fraud", "legit", "legitimate", "nonfraud", "non-fraud")
        if meaning[word] and not (is_doubtful and not is_plain):
            continue
        meaning[word] = answers.of(
            Question(
                f"label.{word}",
                f"What does {word!r} in {column} mean ({words[word]:,} of {rows:,} labels)?",
                MEANINGS,
                proposal=meaning[word] or None,
            )
        )
    return meaning


def _add_chargebacks(draft: Draft, answers: Answers) -> None:
    _add_legitimate(draft, answers)
    draft.add("label", "delay_days", USUAL_DELAY, GUESSED_DELAY)


def _add_legitimate(draft: Draft, answers: Answers) -> None:
    days = answers.of(
        Question(
            "label.legitimate_after_days",
            "Only frauds are labelled. After how many days is a payment without a label "
            "legitimate? Chargebacks take up to 120",
            check=_no_days,
            proposal=str(USUAL_CHARGEBACKS),
        )
    )
    draft.add("label", "legitimate_after_days", float(days or 1), "as answered")


def _add_delay(draft: Draft, frame: pl.DataFrame, answers: Answers, taken: set[str]) -> None:
    some = [column for ranked in candidates("delay", frame.columns, taken) for column in ranked]
    if some:
        draft.add("label", "delay_column", some[0], "days until the label was known, by its name")
        taken.add(some[0])
        return
    days = answers.stated("label.delay_days")
    if days is not None:
        draft.add("label", "delay_days", float(days), "as answered")
        return
    draft.add("label", "delay_days", USUAL_DELAY, GUESSED_DELAY)


def fit_delay(draft: Draft, days: float) -> None:
    """Guess a shorter delay of labels where a file spans so few days that none would be known."""
    is_guess = draft.comment("label", "delay_days") == GUESSED_DELAY
    if is_guess and days < SHORT_DAYS:
        shorter = round(days * USUAL_DELAY / SHORT_DAYS)
        draft.replace("label", "delay_days", shorter, f"{GUESSED_DELAY}; the file is short")


def _no_days(text: str) -> str | None:
    try:
        days = float(text)
    except ValueError:
        return f"{text!r} is not a number of days"
    return None if 0 < days <= 3650 else f"{text} days are not between 0 and 3650"


class Chargebacks(NamedTuple):
    """Rows of a file that say which payments were charged back.

    Their `column` has one of `words`; `payment` names the payment, by what the payment's row has
    in its column `payment_id`, which may be the same.
    """

    column: str
    words: list[str]
    payment: str
    payment_id: str


def without_chargebacks(
    draft: Draft, frame: pl.DataFrame, answers: Answers
) -> tuple[pl.DataFrame, Chargebacks | None]:
    """The frame without rows that are chargebacks of others, where a person says so."""
    for column in (name for ranked in candidates("type", frame.columns, set()) for name in ranked):
        words = frame[column].cast(pl.String).drop_nulls().unique().sort().to_list()
        some = [word for word in words if names.CHARGEBACK.fullmatch(names.plain(word))]
        if not some or len(some) == len(words) or len(words) > MOST_TYPES:
            continue
        is_one_N = frame[column].cast(pl.String).is_in(some).fill_null(False)
        found = _named_payments(frame.filter(is_one_N), frame.filter(~is_one_N))
        if found is None:
            continue
        payment, payment_id = found
        by = payment if payment == payment_id else f"{payment}, which is the {payment_id} of these"
        text = (
            f"Some rows are of the {column} {', '.join(some)}, and name payments by {by}. Do they "
            "say which payments were fraud?"
        )
        choices = {
            "fraud": "they do: those payments were, and it was known at the time of these rows",
            "leave_out": "no; leave these rows out",
            "keep": "no; these rows are payments of their own",
        }
        answer = answers.of(Question("chargebacks", text, choices, proposal="fraud"))
        if answer == "keep":
            return frame, None
        rest = frame.filter(~is_one_N)
        if answer == "fraud":
            return rest, Chargebacks(column, some, payment, payment_id)
        kept = [word for word in words if word not in some]
        _add_only(draft, column, kept, some)
        return rest, None
    return frame, None


def add_chargebacks(draft: Draft, found: Chargebacks, taken: set[str]) -> None:
    """What the spec says of rows that are chargebacks, once it is known what payments' ids are."""
    draft.add("label", "chargebacks", {found.column: found.words}, "as answered: frauds, and when")
    is_id = draft.value("columns", "transaction") == found.payment_id
    if not is_id or found.payment != found.payment_id:
        draft.add("label", "payment", found.payment, "names the payment that was charged back")
    if not is_id:
        draft.add("label", "payment_id", found.payment_id, "by what its own row has here")
    taken.add(found.payment)


def _named_payments(rows: pl.DataFrame, payments: pl.DataFrame) -> tuple[str, str] | None:
    """By which column rows name payments, and which column of these has the same."""
    best, found = MOST_UNNAMED, None
    ids = {
        name: payments[name].cast(pl.String).drop_nulls().to_list()
        for name in payments.columns
        if _names_each(payments[name].cast(pl.String))
    }
    for named in rows.columns:
        text_N = rows[named].cast(pl.String)
        if text_N.drop_nulls().n_unique() <= len(rows) / 2:
            continue
        for id_, there in ids.items():
            share = guesses.share(text_N.is_in(there))
            # Of equal ones that which is called an id, and the first.
            is_called = rank("transaction", id_) is not None
            if share + is_called * LITTLE > best:
                best, found = share + is_called * LITTLE, (named, id_)
    return found


def _names_each(text_N: pl.Series) -> bool:
    """Whether a column has another word in most rows, and no plain number, as amounts are."""
    some_N = text_N.drop_nulls()
    if not len(some_N) or some_N.n_unique() < len(text_N) / 2:
        return False
    return (
        not some_N.str.contains(r"^[-+(]*\d+[.,]\d{1,3}\)?$").any()
        and not some_N.str.contains(r"\d:\d\d").any()
    )


def without_own_money(draft: Draft, frame: pl.DataFrame, answers: Answers) -> pl.DataFrame:
    """The frame without payouts, fees and the like, where a person leaves them out."""
    for column in (name for ranked in candidates("type", frame.columns, set()) for name in ranked):
        words = frame[column].cast(pl.String).drop_nulls().unique().sort().to_list()
        others = [word for word in words if names.OWN_MONEY.fullmatch(word.replace("_", " "))]
        kept = [word for word in words if word not in others]
        if not others or not kept or len(words) > MOST_TYPES:
            continue
        shown = ", ".join(others)
        answer = answers.of(
            Question(
                f"rows.{column}",
                f"Some rows are of the {column} {shown}. Are they transactions of customers?",
                {"leave_out": f"no: only {', '.join(kept)} are", "keep": "they are"},
                proposal="leave_out",
            )
        )
        if answer == "leave_out":
            _add_only(draft, column, kept, others)
            return frame.filter(pl.col(column).cast(pl.String).is_in(kept))
    return frame


def _add_only(draft: Draft, column: str, kept: list[str], others: list[str]) -> None:
    """The words of a column whose rows are transactions."""
    why = f"as answered: not {', '.join(others)}"
    if (before := draft.value("rows", "only")) is None:
        draft.add("rows", "only", {column: kept}, why)
    else:
        why = f"{draft.comment('rows', 'only')}, {', '.join(others)}"
        draft.replace("rows", "only", {**before, column: kept}, why)


def add_type_and_status(
    draft: Draft, frame: pl.DataFrame, answers: Answers, taken: set[str]
) -> None:
    """Columns whose words are all known; others stay what they are."""
    _add_side(draft, frame, answers, taken)
    for role, section, recognized, possible in (
        ("type", "types", names.TYPES, get_args(Type)),
        ("status", "statuses", names.STATUSES, get_args(Status)),
    ):
        if draft.value("columns", role) is not None:
            continue
        called = [name for ranked in candidates(role, frame.columns, taken) for name in ranked]
        if role == "type" and not _is_signed(draft):
            called += _refunds_by_question(frame, {*called, *taken}, answers)
        for column in called:
            words = frame[column].cast(pl.String).drop_nulls().unique().sort().to_list()
            meanings = {word: recognized.get(word.strip().lower()) for word in words}
            if role == "type" and "refund" in meanings.values() and not _is_signed(draft):
                unknown = [word for word, meaning in meanings.items() if meaning is None]
                meanings |= _types_by_question(column, unknown, answers)
            if not words or None in meanings.values():
                continue
            draft.add("columns", role, column, "by its name and words")
            for word, meaning in meanings.items():
                if word not in possible:
                    draft.add(section, word, meaning)
            taken.add(column)
            break


def _refunds_by_question(frame: pl.DataFrame, others: set[str], answers: Answers) -> list[str]:
    """The column that says of some rows that they are refunds, whatever it is called."""
    found = {
        column: word
        for column in frame.columns
        if column not in others
        if (word := _refund_word(frame[column]))
    }
    if not found:
        return []
    column, word = next(iter(found.items()))
    choices = {
        column: f"they are, and others not; {word!r} in {column}" for column, word in found.items()
    }
    choices[NOBODY] = "no column says which rows are refunds"
    text = f"Some rows have {word!r} in {column}. Are they refunds?"
    answer = answers.of(Question("refunds", text, choices, proposal=column))
    return [] if answer == NOBODY else [answer]


def _refund_word(values_N: pl.Series) -> str | None:
    """A word among the few of a column by which its row pays something back."""
    if values_N.dtype != pl.String or rank("status", values_N.name) is not None:
        return None
    words = values_N.drop_nulls().unique(maintain_order=True).to_list()
    if not 2 <= len(words) <= MOST_WORDS:
        return None
    return next((word for word in words if word.strip().lower() in names.REFUNDS), None)


def _types_by_question(column: str, words: list[str], answers: Answers) -> dict[str, Any]:
    """What words mean beside refunds, which no sign tells from payments."""
    if len(words) > MOST_WORDS:
        return {}
    choices = dict.fromkeys(get_args(Type), "")
    return {
        word: answers.of(
            Question(
                f"types.{word}",
                f"Beside refunds, some rows are of the {column} {word}. What are they?",
                choices,
                proposal="payment",
            )
        )
        for word in words
    }


def _is_signed(draft: Draft) -> bool:
    """Whether signs, words or columns say of amounts which are refunds."""
    says = draft.value("amount", "negative") or draft.value("amount", "sides")
    return bool(says or draft.value("columns", "refund"))


def _add_side(draft: Draft, frame: pl.DataFrame, answers: Answers, taken: set[str]) -> None:
    """A column of debit and credit, where nothing else says what is paid back: a question."""
    if _is_signed(draft):
        return
    for column in frame.columns:
        if column in taken or not names.SIDE.fullmatch(names.plain(column)):
            continue
        words = frame[column].cast(pl.String).drop_nulls().unique().sort().to_list()
        debit = [word for word in words if word.strip().lower() in guesses.DEBIT]
        credit = [word for word in words if word.strip().lower() in guesses.CREDIT]
        if not debit or not credit or len(debit) + len(credit) < len(words):
            continue
        choices = {
            "credit": f"{', '.join(credit)}, as a shop sees them; {', '.join(debit)} are refunds",
            "debit": f"{', '.join(debit)}, as a cardholder's bank sees them; {', '.join(credit)} "
            "are refunds",
            NOBODY: "neither: it says something else",
        }
        answer = answers.of(Question("type", f"Which rows are payments, by {column}?", choices))
        if answer == NOBODY:
            continue
        draft.add("columns", "type", column, "as answered")
        for side, some in (("debit", debit), ("credit", credit)):
            for word in some:
                draft.add("types", word, "payment" if side == answer else "refund")
        taken.add(column)
        return
