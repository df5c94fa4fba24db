"""What the report of a back-test contains, and that of an evaluation."""

from collections.abc import Iterable, Mapping

from app.learner.checkpoint import Checkpoint
from app.training.bootstrap import RESAMPLES
from app.training.differences import LEAST_DEFRAUDED
from app.training.report.choices import doubtful, few_frauds, finds_nothing, of_choices
from app.training.report.comparison import AVERAGE_PRECISION, RECALL, Titles, against_rivals
from app.training.report.report import Origin, Report, titles_of
from app.training.report.sections import (
    Section,
    of_costs,
    of_figures,
    of_groups,
    of_pairs,
    summary,
)
from app.training.results import Metrics

A, UNSEEN_B = "Protocol A", "Protocol B, accounts not in training"
UNSEEN = "Accounts that were not in training; means over the folds."
PROTOCOL_A = (
    "A model is trained for each fold on the days before the label delay, and tested without the "
    "accounts already known to be defrauded, so copies learn from legitimate labels alone. Means "
    "over the folds."
)
PROTOCOL_B = "The same test days, no account left out, labels as they arrive."
INTERVALS = (
    f"Intervals are 95 % bootstrap intervals over accounts ({RESAMPLES:,} draws with replacement, "
    "the same for every method and fold). They do not cover other seeds and other weeks, and there "
    f"is none for fewer than {LEAST_DEFRAUDED} defrauded accounts. Probabilities of every method "
    "are calibrated alike, by Platt scaling on the fold's held-out accounts."
)
COST = (
    "The time to learn an account's labels and score its transactions until another label is "
    "known, measured on the machine and in the run of this report. Bytes are what must be kept of "
    "each account beside its transactions and labels."
)
PAIRS = (
    "Of all pairs of a fraud and a legitimate transaction of one account, both after its first "
    "known label, the share in which the fraud scores higher (ties half): whether labels teach "
    "which payments are suspect, and not only which accounts. Intervals are over accounts with "
    "such a pair."
)
BY_KIND = "Frauds of one kind against all legitimate transactions."
BY_LABELS = "At most so many labels of an account are used."
BY_WRONG_LABELS = (
    "A random share of the labels that accounts learn from is inverted; or, as a thief would have "
    "it, the label of every fraud and no other. The same accounts as by number of labels."
)
ON_TRAINING_DATA = (
    "The model was trained on this very file, so these figures flatter it. A back-test does not."
)


def backtest_report(metrics: Metrics, origin: Origin) -> Report:
    """The report of `app.training.backtest.Backtest.run`."""
    a, b, titles = metrics["protocol_a"], metrics["protocol_b"], titles_of(metrics)
    warnings = [
        *_warnings(A, _choices(a), a["methods"], titles),
        *_warnings(UNSEEN_B, _choices(b), b["unseen"], titles),
    ]
    return Report(
        title=f"Back-test on {metrics['spec']}",
        origin=origin,
        metrics=metrics,
        summary=summary({A: a["methods"], UNSEEN_B: b["unseen"]}, titles),
        sections=_with_columns([*_sections_a(a, titles), *_sections_b(b, titles)]),
        charted=b,
        notes=tuple(warnings),
        standings=(
            against_rivals(UNSEEN_B, b["differences"], titles),
            against_rivals(A, a["differences"], titles),
        ),
        remarks=(INTERVALS,),
    )


def _sections_a(a: Metrics, titles: Titles) -> Iterable[Section]:
    folds = {fold["test_start"]: fold for fold in a["folds"]}
    yield of_figures(A, PROTOCOL_A, a["methods"], titles, a["differences"])
    note = "By the day from which a fold is tested."
    yield of_groups(f"{A}, fold by fold", note, folds, titles, AVERAGE_PRECISION)
    yield of_pairs(f"{A}, pairs in order within accounts", PAIRS, a["pairs_in_order"], titles)
    yield of_choices(f"{A}, what was chosen", _choices(a), titles)


def _sections_b(b: Metrics, titles: Titles) -> Iterable[Section]:
    note = f"{PROTOCOL_B} {UNSEEN}"
    yield of_figures(UNSEEN_B, note, b["unseen"], titles, b["differences"])
    note = "Accounts trained on and accounts that were not; means over the folds."
    yield of_figures("Protocol B, all accounts", note, b["all"], titles, b["differences_all"])
    for title, note, key in (
        ("Protocol B, pairs in order within accounts", f"{UNSEEN} {PAIRS}", "pairs_in_order"),
        ("Protocol B, pairs in order within all accounts", PAIRS, "pairs_in_order_all"),
    ):
        yield of_pairs(title, note, b[key], titles)
    by_kind, by_support = b.get("by_kind", {}), b["by_support"]
    for title, note, groups, differences in (
        ("by kind of fraud", BY_KIND, by_kind, b["differences_by_kind"]),
        ("by support mix", "By the labels of an account.", by_support, b["differences_by_support"]),
    ):
        title, note = f"Protocol B, {title}", f"{UNSEEN} {note}"
        yield of_groups(title, note, groups, titles, AVERAGE_PRECISION, differences)
    for figure in (AVERAGE_PRECISION, RECALL):
        title = f"Protocol B, {figure.short} by number of labels"
        yield of_groups(title, f"{UNSEEN} {BY_LABELS}", b["by_labels"], titles, figure)
    yield of_costs("Protocol B, what an account costs", COST, b["cost"], titles)
    yield of_choices("Protocol B, what was chosen", _choices(b), titles)


def evaluation_report(metrics: Metrics, origin: Origin, checkpoint: Checkpoint) -> Report:
    """The report of `app.training.figures.evaluation`."""
    metadata, titles = checkpoint.metadata, titles_of(metrics)
    whole = "All labelled transactions"
    note = "Each scored with the labels its account had by then."
    groups = (
        ("By kind of fraud", BY_KIND, "by_kind", AVERAGE_PRECISION),
        ("AP by number of labels", BY_LABELS, "by_labels", AVERAGE_PRECISION),
        ("recall by number of labels", BY_LABELS, "by_labels", RECALL),
        ("By wrong labels", BY_WRONG_LABELS, "by_wrong_labels", AVERAGE_PRECISION),
    )
    choices = {metadata.name: metrics["chosen"]}
    pairs = "Pairs in order within accounts"
    sections = [
        of_figures(whole, note, metrics["all"], titles),
        of_pairs(pairs, PAIRS, metrics["pairs_in_order"], titles),
    ]
    for title, note, key, figure in groups:
        sections.append(of_groups(title, note, metrics[key], titles, figure))
    sections.append(of_choices("What was chosen in training", choices, titles))
    notes = [ON_TRAINING_DATA] if metadata.data.sha256 == origin.data_sha256 else []
    notes += _warnings("In training", choices, metrics["all"], titles)
    return Report(
        title=f"Evaluation of {metadata.name} on {metrics['spec']}",
        origin=origin,
        metrics={"model": {"name": metadata.name, "digest": checkpoint.digest}, **metrics},
        summary=summary({whole: metrics["all"]}, titles),
        sections=_with_columns(sections),
        charted=metrics,
        notes=tuple(notes),
    )


def _choices(protocol: Metrics) -> dict[str, Metrics]:
    """What was chosen in each fold."""
    return {fold["test_start"]: fold["chosen"] for fold in protocol["folds"]}


def _warnings(
    where: str, choices: Mapping[str, Metrics], methods: Metrics, titles: Titles
) -> list[str]:
    return [
        *few_frauds(where, choices),
        *doubtful(where, choices, titles),
        *finds_nothing(where, methods, titles),
    ]


def _with_columns(sections: Iterable[Section]) -> list[Section]:
    """Those that have a column to show: a file without kinds of fraud has none by kind."""
    return [section for section in sections if len(section.header) > 1]
