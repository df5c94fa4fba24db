"""`quickstudy inspect`: from a file to its spec."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from app.cli.reading import say
from app.cli.terminal import console
from app.errors import SetupError

# All else is imported inside the functions: `quickstudy --help` takes as long as what it imports.
if TYPE_CHECKING:
    from rich.table import Table

    from app.training.entries import Entries
    from app.training.inspection.inspection import FoundEntries, Month
    from app.training.inspection.questions import Answers, Question

FIRST_ROWS = 5
MONTHS_SHOWN = 24
ENTITIES_SHOWN = 3


def inspect(
    file: Annotated[Path, typer.Argument(help="Your transactions, CSV, Parquet or JSON.")],
    spec: Annotated[
        Path | None, typer.Option(metavar="NAME.toml", help="Where the spec goes.")
    ] = None,
    answer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Answer to a question; may be repeated."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the spec.")] = False,
) -> None:
    """Look at a file, and write a spec with a comment for each guess.

    What is not sure becomes a question, or is answered by --answer where there is no terminal.
    Then it shows what the file holds by this spec, and the next command.
    """
    from app.training.inspection.inspection import days_of, drafted, looked_at, spec_name
    from app.training.inspection.labels import fit_delay
    from app.training.inspection.questions import Unanswered

    out = spec or Path(f"{spec_name(file)}.toml")
    if out.suffix != ".toml":
        raise SetupError(f"{out}: a spec is a .toml file")
    if out.exists() and not replace:
        raise SetupError(f"{out} is there already; --replace replaces it, --spec names another")
    answers = _answers(answer or [])
    try:
        draft = drafted(file, spec_name(file), answers)
        # Asked later, once it is known what cannot be read.
        answers.stated("leave_out")
        answers.settle()
        found = looked_at(file, draft.spec())
        if found.unread:
            share = _left_out(found, answers)
            if share:
                draft.add("rows", "leave_out", share, "as answered: rows that cannot be read")
        answers.settle()
    except Unanswered:
        _show_questions(answers)
        raise
    fit_delay(draft, days_of(found.entries))
    out.write_text(draft.text(), "utf-8")
    console.print(escape(draft.text()), highlight=False, soft_wrap=True)
    _show(found)
    console.print(f"The spec is {escape(str(out))}; correct there what was guessed wrongly.")
    _say_next(file, out, found)


def _answers(stated: list[str]) -> "Answers":
    from app.training.inspection.questions import Answers

    pairs = {}
    for answer in stated:
        name, equals, value = answer.partition("=")
        if not equals:
            raise SetupError(f"--answer {answer}: an answer is NAME=VALUE")
        pairs[name] = value
    return Answers(pairs, _ask if sys.stdin.isatty() and console.is_terminal else None)


def _ask(question: "Question") -> str:
    """One question on the terminal, until there is an answer to it."""
    console.print(f"\n[bold]{escape(question.text)}[/bold]", highlight=False, soft_wrap=True)
    choices = list(question.choices)
    for n, choice in enumerate(choices, start=1):
        meaning = question.choices[choice]
        say(f"  {n}  {choice}{': ' * bool(meaning)}{meaning}")
    while True:
        answer = str(typer.prompt("answer", default=question.proposal))
        if answer.isdigit() and 0 < int(answer) <= len(choices) and answer not in choices:
            answer = choices[int(answer) - 1]
        wrong = question.wrong(answer)
        if wrong is None:
            return answer
        say(wrong)


def _show_questions(answers: "Answers") -> None:
    for question in answers.open():
        say(question.text)
        example = {question.proposal or "…": "for example"}
        for choice, meaning in (question.choices or example).items():
            option = shlex.quote(f"{question.name}={choice}")
            say(f"  --answer {option}  {meaning}".rstrip())


def _left_out(found: "FoundEntries", answers: "Answers") -> float:
    """The share of rows that the spec is to leave out; 0 refuses them."""
    from math import ceil

    from app.training.inspection.questions import Question

    whole = len(found.entries) + len(found.entries.left_out)
    share = min(ceil(found.unread / whole * 1000) / 1000, 0.999)
    answer = answers.of(
        Question(
            "leave_out",
            f"{found.entries.left_out.sentence()}. Leave them out in training and import, too?",
            {"yes": f"up to {share:.1%} of rows, kept in a file beside", "no": "refuse the file"},
            proposal="no",
        )
    )
    return share if answer == "yes" else 0.0


def _show(found: "FoundEntries") -> None:
    from app.training.inspection.inspection import expected, months_of, sizes_of

    entries = found.entries
    console.print(_first_rows(entries))
    whole = len(entries) + len(entries.left_out)
    say(f"{found.unread:,} of {whole:,} rows could not be read ({found.unread / whole:.1%}).")
    if entries.left_out:
        say(f"{entries.left_out.sentence()}.")
    console.print(_months(months_of(entries)))
    say(sizes_of(entries))
    say(expected(entries))


def _first_rows(entries: "Entries") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from app.times import text_of

    table = Table(title="First rows, as read", title_justify="left", box=SIMPLE_HEAD)
    kinds = list(entries.entities)[:ENTITIES_SHOWN]
    for name in ("transaction", "account", "time", "amount", "type", "label", *kinds):
        table.add_column(name)
    labels = {1: "fraud", 0: "legitimate"}
    for n in range(min(FIRST_ROWS, len(entries))):
        amount = f"{entries.amount_N[n]:,.10g} {entries.currency_N[n] or ''}".strip()
        cells = [
            entries.ids_N[n],
            entries.accounts_N[n],
            text_of(int(entries.time_us_N[n])),
            amount,
            entries.types_N[n],
            labels.get(int(entries.is_fraud_N[n]), ""),
            *(entries.entities[kind][n] or "" for kind in kinds),
        ]
        table.add_row(*map(escape, cells))
    return table


def _months(months: "list[Month]") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title="Frauds by month", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("month")
    for name in ("payments", "labelled", "frauds"):
        table.add_column(name, justify="right")
    shown = months[-MONTHS_SHOWN:]
    for row in shown:
        table.add_row(row.month, f"{row.payments:,}", f"{row.labelled:,}", f"{row.frauds:,}")
    return table


def _say_next(file: Path, spec: Path, found: "FoundEntries") -> None:
    from app.training.inspection.inspection import labelled_accounts

    entries = found.entries
    if {0, 1} <= set(entries.is_fraud_N.tolist()) and labelled_accounts(entries) > 1:
        words = ["quickstudy", "train", "--data", str(file), "--spec", str(spec)]
        say(f"Next: {shlex.join([*words, '--out', f'models/{spec.stem}'])}")
        return
    if entries.amount_N.any() and entries.currency_N.null_count() == len(entries):
        say(
            "Amounts name no currency, and the shipped model compares them in one: first say which "
            "it is, by --replace --answer amount.currency=EUR, or in the spec by such as "
            'currency = "EUR" under [amount].'
        )
    words = ["quickstudy", "import", str(file), "--spec", str(spec), "--partial"]
    say(f"Next: {shlex.join(words)}")
