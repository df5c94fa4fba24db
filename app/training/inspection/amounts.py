"""Which column of a file says how much, in which currency, and how numbers are written."""

import re
from collections.abc import Mapping

import polars as pl

from app.learner.money import MINOR_UNITS, MOST_DECIMALS, USUAL_DECIMALS
from app.training import guesses
from app.training.guesses import Marks
from app.training.inspection import names
from app.training.inspection.columns import ENTITIES, NOBODY, candidates, chosen_columns
from app.training.inspection.draft import Draft
from app.training.inspection.questions import Answers, Question

SAMPLED = 20_000
# Of hundreds of columns of numbers, which all may be one.
MOST_SHOWN = 20
QUESTION = "Which column is the amount that was paid?"
# Cents that are taken for whole amounts make the largest at least so much.
LEAST_CENTS, LEAST_ROWS = 1000, 20
MOST_CURRENCIES = 200
# Stripe has other decimals than ISO 4217 for the first three, Adyen for the others and ISK.
OWN_DECIMALS = {"ISK", "MGA", "UGX", "CLP", "CVE", "IDR"}
NEGATIVE, ZERO = "[-\u2212]\\s*\\D*\\d|^\\(.*\\)$|-$", "^[0.,]+$"
# Of two decimals written as millionths.
MILLIONTHS = "0000"
PLAIN = Marks(".", "")


def add_amount(draft: Draft, frame: pl.DataFrame, answers: Answers, taken: set[str]) -> None:
    """The columns of amounts and currencies, how they are written, and what a sign says."""
    columns = _amount_columns(frame, answers, taken)
    currency = _currency_column(frame, answers, taken, columns[:1])
    if not columns:
        draft.notes.append("No column says how much: all amounts are 0, and callers send 0, too.")
        return
    column, refund = columns[0], columns[1] if len(columns) > 1 else None
    why = "as answered" if answers.stated("amount") else "by its name"
    draft.add("columns", "amount", column, why)
    if refund is not None:
        draft.add("columns", "refund", refund, "what was paid back")
    taken.update(columns)
    text_N = pl.concat([_texts(frame[column]) for column in columns])
    if refund is None:
        text_N = _without_sides(draft, text_N, column, answers)
    signs = sorted({sign for text in text_N.to_list() if (sign := guesses.sign_of(text))})
    meanings = {sign: _meaning(sign, answers) for sign in signs}
    if currency is not None:
        draft.add("columns", "currency", currency, "of each amount")
        taken.add(currency)
        meanings |= _words(frame[currency], answers)
        if len(_codes(frame[currency], meanings)) > 1:
            draft.add("categorical", "currency", currency, "several")
    if meanings:
        draft.add("amount", "currencies", meanings, "what the file's signs and words mean")
    elif stated := answers.stated("amount.currency"):
        if wrong := _no_code(stated):
            raise ValueError(f"--answer amount.currency={stated}: {wrong}")
        draft.add("amount", "currency", stated, "as answered")
    elif currency is None and (code := _code_in_name(column)):
        draft.add("amount", "currency", code, "by the column's name")
    bare = [_without(text, signs) for text in text_N.to_list()]
    decimals = [MINOR_UNITS.get(code, MOST_DECIMALS) for code in meanings.values()]
    marks = _marks(bare, column, answers, max(decimals, default=MOST_DECIMALS))
    if marks.decimal != PLAIN.decimal:
        draft.add("file", "decimal", marks.decimal, f"such as {text_N[0]!r}")
    if marks.thousands:
        shown = next((text for text in text_N.to_list() if marks.thousands in text), text_N[0])
        draft.add("file", "thousands", marks.thousands, f"such as {shown!r}")
    _add_unit(draft, frame, column, bare, answers)
    _add_negative(draft, frame, text_N, answers)


def _texts(values_N: pl.Series) -> pl.Series:
    text_N = values_N.cast(pl.String).drop_nulls().str.strip_chars()
    return text_N.filter(text_N != "").unique(maintain_order=True).head(SAMPLED)


def _currency_column(
    frame: pl.DataFrame, answers: Answers, taken: set[str], amounts: list[str]
) -> str | None:
    """The column of currencies: that which is called as the amount is, or else by its name."""
    stated = chosen_columns("currency", answers, frame.columns)
    if stated is not None:
        return stated[0] if stated else None
    called = {re.sub(r"\b(amount|amt|value)\b", "currency", names.plain(name)) for name in amounts}
    called -= {names.plain(name) for name in amounts}
    alike = [
        column
        for column in frame.columns
        if column not in taken and re.sub(r" (iso )?code$", "", names.plain(column)) in called
    ]
    # In the same object: amount.value and amount.currency.
    parents = {name.rpartition(".")[0] for name in amounts} - {""}
    alike += [
        column
        for column in frame.columns
        if column not in taken
        and column.rpartition(".")[0] in parents
        and names.rank("currency", column.rpartition(".")[2]) is not None
    ]
    ranked = candidates("currency", frame.columns, taken)
    for column in (*alike, *(name for some in ranked for name in some)):
        words = frame[column].cast(pl.String).drop_nulls().unique().to_list()
        # Words that are no codes are questions.
        if 0 < len(words) <= MOST_CURRENCIES:
            return column
    return None


def _amount_columns(frame: pl.DataFrame, answers: Answers, taken: set[str]) -> list[str]:
    stated = chosen_columns("amount", answers, frame.columns)
    if stated is not None:
        return stated
    debit, credit = (
        [
            column
            for column in frame.columns
            if side.fullmatch(names.plain(column)) and column not in taken
        ]
        for side in (names.DEBIT_COLUMN, names.CREDIT_COLUMN)
    )
    is_pair = len(debit) == len(credit) == 1 and debit != credit
    if is_pair and any(_is_money(frame[column]) for column in debit + credit):
        return _side_by_question(debit[0], credit[0], answers)
    for ranked in candidates("amount", frame.columns, taken):
        money = [column for column in ranked if _is_money(frame[column])]
        if len(money) == 1:
            return money
        if money:
            shown = {column: f"such as {_texts(frame[column])[0]!r}" for column in money}
            return [answers.of(Question("amount", QUESTION, shown))]
    numeric = [
        column
        for column in frame.columns
        if column not in taken and not _says_who(column) and _is_money(frame[column])
    ]
    # Whole numbers may be ids.
    numeric.sort(key=lambda column: not _texts(frame[column]).str.contains(r"\d[.,]\d+\b").any())
    shown = {column: f"such as {_texts(frame[column])[0]!r}" for column in numeric[:MOST_SHOWN]}
    shown[NOBODY] = "no column: all amounts are 0"

    def no_number(answer: str) -> str | None:
        return None if answer in numeric else f"{answer!r} is not a column of numbers"

    answer = answers.of(Question("amount", QUESTION, shown, no_number, NOBODY))
    return [] if answer == NOBODY else [answer]


def _says_who(column: str) -> bool:
    """Whether a column is called as an id is, of somebody or of something."""
    return any(names.rank(role, column) is not None for role in ("account", *ENTITIES))


def _side_by_question(debit: str, credit: str, answers: Answers) -> list[str]:
    answer = answers.of(
        Question(
            "amount",
            "Which column has payments, and which refunds?",
            {
                f"{credit}+{debit}": f"{credit} has payments, as a shop sees them",
                f"{debit}+{credit}": f"{debit} has payments, as a cardholder's bank sees them",
            },
        )
    )
    return [part.strip() for part in answer.split("+")]


def _without_sides(draft: Draft, text_N: pl.Series, column: str, answers: Answers) -> pl.Series:
    """Amounts without the words that say on which side of a ledger each is: a question."""
    some = [side for text in text_N.to_list() if (side := guesses.side_of(text))]
    if not some:
        return text_N
    found = sorted(set(some))
    debit, credit = (
        [word for word in found if word.rstrip(".").lower() in side]
        for side in (guesses.DEBIT, guesses.CREDIT)
    )
    is_mixed = len(some) < len(text_N)
    nothing = "those without a word"
    shown = {
        "debit": ", ".join(debit) or nothing,
        "credit": ", ".join(credit) or nothing,
    }
    answer = answers.of(
        Question(
            "amount.side",
            f"Amounts of {column} have words beside them, such as {text_N[0]}. Which are payments?",
            {
                "credit": f"{shown['credit']}, as a shop sees them; {shown['debit']} are refunds",
                "debit": f"{shown['debit']}, as a cardholder's bank sees them; {shown['credit']} "
                "are refunds",
            },
        )
    )
    sides = dict.fromkeys(debit, "payment" if answer == "debit" else "refund")
    sides |= dict.fromkeys(credit, "payment" if answer == "credit" else "refund")
    if is_mixed and (not debit or not credit) and set(sides.values()) == {"payment"}:
        sides[""] = "refund"
    draft.add("amount", "sides", sides, "as answered")
    return pl.Series(text_N.name, map(guesses.without_side, text_N.to_list()), dtype=pl.String)


def _is_money(values_N: pl.Series) -> bool:
    """Whether most values are a number, with a sign of a currency or the word of a side at most."""
    text_N = _texts(values_N).head(1000)
    text_N = pl.Series(map(guesses.without_side, text_N.to_list()), dtype=pl.String)
    signs = sorted({sign for text in text_N.to_list() if (sign := guesses.sign_of(text))})
    if any(sign[0].isalnum() and not _is_code(sign) for sign in signs):
        return False
    return bool(guesses.most_marks([_without(text, signs) for text in text_N.to_list()]))


def _is_code(word: str) -> bool:
    return word in names.SIGNS or word in names.OF_SEVERAL or word.upper() in MINOR_UNITS


def _code_in_name(column: str) -> str | None:
    """The currency that a column's name ends with, as in "Betrag (EUR)" and amount_usd."""
    if found := re.search(r"[(\[]\s*([A-Z]{3}|[^\w\s]{1,3})\s*[)\]]\s*$", column):
        code = names.SIGNS.get(found[1], found[1])
        return code if code in MINOR_UNITS else None
    last = names.plain(column).split()[-1:]
    return last[0].upper() if last and last[0] in names.USUAL_CODES else None


def _add_unit(
    draft: Draft, frame: pl.DataFrame, column: str, bare: list[str], answers: Answers
) -> None:
    """Whether amounts are cents; a question where all are whole and nothing says so."""
    currency, meanings = draft.value("columns", "currency"), draft.value("amount", "currencies")
    if currency is not None:
        codes = _codes(frame[currency], meanings or {})
    else:
        codes = {*(meanings or {}).values(), draft.value("amount", "currency")} - {None}
    if re.search(r"(cents|pence|minor)", names.plain(column)):
        _add_minor(draft, codes, "by its name", answers)
        return
    answer = answers.stated("amount.unit")
    has_minor = not codes or any(MINOR_UNITS.get(code, USUAL_DECIMALS) > 0 for code in codes)
    if answer is None and not (has_minor and len(frame) >= LEAST_ROWS and _is_all_whole(bare)):
        return
    example = max(bare, key=len, default="")
    minor = f"minor units, such as cents: {example} is {float(example or 0) / 100:,.2f}"
    choices = {
        "minor": f"{minor}; of yen it is {example}" if len(codes) > 1 else minor,
        "whole": f"whole: {example} is {example}",
    }
    if all(text.endswith(MILLIONTHS) or not text.strip("0") for text in bare):
        choices["micro"] = f"millionths: {example} is {float(example or 0) / 1e6:,.2f}"
    text = f"All amounts of {column} are whole, such as {example}. What do they count?"
    answer = answers.of(Question("amount.unit", text, choices))
    if answer == "minor":
        _add_minor(draft, codes, "as answered", answers)
    elif answer == "micro":
        draft.add("amount", "divide_by", 1_000_000, "as answered: millionths")


def _add_minor(draft: Draft, codes: set[str], why: str, answers: Answers) -> None:
    """Amounts in minor units: in hundredths where no column says of which currency."""
    if draft.value("columns", "currency") is None:
        draft.add("amount", "divide_by", 100, why)
        return
    own = {code: _decimals_by_question(code, answers) for code in sorted(codes & OWN_DECIMALS)}
    others = {code: decimals for code, decimals in own.items() if decimals != MINOR_UNITS[code]}
    why = f"{why}: cents, or what a currency has"
    draft.add("amount", "minor_units", others or True, why)


def _decimals_by_question(code: str, answers: Answers) -> int:
    iso = MINOR_UNITS[code]
    choices = {str(iso): "by ISO 4217", str(2 - iso): "as some payment providers have it"}
    question = f"How many decimals do minor units of {code} stand for?"
    return int(answers.of(Question(f"amount.decimals.{code}", question, choices)))


def _codes(values_N: pl.Series, meanings: Mapping[str, str]) -> set[str]:
    """The currencies of a column."""
    words = values_N.cast(pl.String).drop_nulls().unique().to_list()
    return {meanings.get(word, word) for word in words if word}


def _is_all_whole(bare: list[str]) -> bool:
    # Where a value is missing, pandas writes whole numbers with a fraction.
    whole = [float(text) for text in bare if re.fullmatch(r"[0-9]+(\.0)?", text)]
    return len(whole) == len(bare) and max(whole, default=0) >= LEAST_CENTS


def _without(text: str, signs: list[str]) -> str:
    for sign in sorted(signs, key=len, reverse=True):
        text = text.replace(sign, "")
    spaces = re.sub("[\u00a0\u202f\u2009]", " ", text.replace("\u2019", "'").replace("\u2212", "-"))
    return spaces.strip().strip("()").strip("+-").strip()


def _meaning(sign: str, answers: Answers) -> str:
    code = names.SIGNS.get(sign, sign.upper())
    if code in MINOR_UNITS:
        return code
    possible = names.OF_SEVERAL.get(sign, ())
    return answers.of(
        Question(
            f"currency.{sign}",
            f"Of which currency is {sign}? Its three letters, such as USD",
            dict.fromkeys(possible, ""),
            _no_code,
            possible[0] if possible else None,
        )
    )


def _no_code(text: str) -> str | None:
    return None if text in MINOR_UNITS else f"{text!r} is not an ISO 4217 code"


def _words(values_N: pl.Series, answers: Answers) -> dict[str, str]:
    """The column's own words for currencies: eur for EUR."""
    words = values_N.cast(pl.String).drop_nulls().unique().sort().to_list()
    return {
        word: _meaning(word.strip(), answers) for word in words if word and word not in MINOR_UNITS
    }


def _marks(bare: list[str], column: str, answers: Answers, decimals: int) -> Marks:
    values = [text for text in bare if re.search(r"\d", text)]
    found = guesses.most_marks(values)
    if len(found) > 1:
        # No amount has more decimals than its currency.
        found = [marks for marks in found if _decimals(values, marks) <= decimals] or found
    if not found:
        return PLAIN
    if len(found) == 1:
        return found[0]
    example = next(text for text in values if re.search(r"\D", text))
    choices = {f"{marks.decimal}{marks.thousands}": _read(example, marks) for marks in found}
    answer = answers.of(
        Question(
            "amount.marks",
            f"Every amount of {column} can be read in {len(found)} ways. What is {example}?",
            choices,
        )
    )
    return next(marks for marks in found if answer in ("", f"{marks.decimal}{marks.thousands}"))


def _decimals(values: list[str], marks: Marks) -> int:
    """The fewest decimals that values have which have any."""
    some = [text.partition(marks.decimal)[2] for text in values if marks.decimal in text]
    return min(map(len, some), default=0)


def _read(text: str, marks: Marks) -> str:
    plain = text.replace(marks.thousands, "") if marks.thousands else text
    number = float(plain.replace(marks.decimal, "."))
    group = f', thousands mark "{marks.thousands}"' if marks.thousands else ""
    return f'{number:,.10g} (decimal mark "{marks.decimal}"{group})'


def _add_negative(draft: Draft, frame: pl.DataFrame, text_N: pl.Series, answers: Answers) -> None:
    is_negative_N = text_N.str.contains(NEGATIVE)
    if not is_negative_N.any():
        return
    if draft.value("columns", "refund") is not None:
        payment_N = _texts(frame[draft.value("columns", "amount")])
        if guesses.share(payment_N.str.contains(NEGATIVE) | payment_N.str.contains(ZERO)) == 1:
            draft.add("amount", "negative", "spending", "payments stand with a minus")
        return
    example, share = text_N.filter(is_negative_N)[0], guesses.share(is_negative_N)
    choices = {"refund": "refunds"}
    if draft.value("amount", "sides") is None:
        choices["spending"] = "what was paid; positive amounts are refunds"
    choices["leave_out"] = "no payments: leave them out"
    answer = answers.of(
        Question(
            "amount.negative",
            f"Some amounts are negative, such as {example}. What are they?",
            choices,
            proposal="spending" if share > 0.6 else None,
        )
    )
    draft.add("amount", "negative", answer, "as answered")
