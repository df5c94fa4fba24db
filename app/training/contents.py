"""What stands in the report of a back-test, and in that of an evaluation."""

from collections.abc import Iterable

from app.checkpoint import Checkpoint
from app.training.bootstrap import RESAMPLES
from app.training.comparison import AVERAGE_PRECISION, RECALL
from app.training.curve import Curve
from app.training.differences import LEAST_DEFRAUDED
from app.training.report import Origin, Report, titles_of
from app.training.results import Metrics
from app.training.sections import Section, Titles, of_costs, of_figures, of_groups
from app.training.verdict import against_rivals

UNSEEN = "Accounts that were not in training; means over the folds."
PROTOCOL_A = (
    "Trained anew for each fold on the days before the label delay; tested without the accounts "
    "already known to be defrauded, so copies learn from legitimate labels alone."
)
INTERVALS = (
    f"Intervals hold 95 % of {RESAMPLES:,} draws of the accounts with replacement, the same draws "
    "for every method and fold; they know nothing of other seeds and other weeks, and "
    f"there is none for fewer than {LEAST_DEFRAUDED} defrauded accounts. Probabilities "
    "of every method are calibrated alike, by Platt scaling on the fold's held-out accounts."
)
COST = (
    "To learn an account's labels and score its transactions of a day, by the clock, on the "
    "machine and in the run of this report. Bytes are what must be kept of each account beside "
    "its transactions and labels."
)
BY_KIND = "Frauds of one kind against all legitimate transactions."
BY_LABELS = "At most so many labels of an account are used."
BY_WRONG_LABELS = (
    "At random, so many of the labels that accounts learn from are the other way round; or, as a "
    "thief would have it, all frauds among them and nothing else. The same accounts as by number "
    "of labels."
)
ON_TRAINING_DATA = (
    "The model was trained on this very file: these figures flatter it. A back-test does not."
)


def backtest_report(metrics: Metrics, origin: Origin) -> Report:
    """The report of `app.training.backtest.Backtest.run`."""
    a, b, titles = metrics["protocol_a"], metrics["protocol_b"], titles_of(metrics)
    return Report(
        title=f"Back-test on {metrics['spec']}",
        notes=(),
        origin=origin,
        metrics=metrics,
        sections=_told([*_sections_a(a, titles), *_sections_b(b, titles)]),
        standings=(
            against_rivals("Protocol B, accounts not in training", b["differences"], titles),
            against_rivals("Protocol A", a["differences"], titles),
        ),
        remarks=(INTERVALS,),
        tiles=(("Protocol A", a["methods"]), ("Protocol B, accounts not in training", b["unseen"])),
        curve=Curve(b["by_labels"], metrics["methods"], b["bands_by_labels"]),
        reliability=b["reliability"],
    )


def _sections_a(a: Metrics, titles: Titles) -> Iterable[Section]:
    folds = {fold["test_start"]: fold for fold in a["folds"]}
    note = f"{PROTOCOL_A} Means over the folds."
    yield of_figures("Protocol A", note, a["methods"], titles, a["differences"])
    note = "By the day from which a fold is tested."
    yield of_groups("Protocol A, fold by fold", note, folds, titles, AVERAGE_PRECISION)


def _sections_b(b: Metrics, titles: Titles) -> Iterable[Section]:
    note = "The same test days, no account left out, labels as they arrive."
    yield of_figures(
        "Protocol B, accounts not in training",
        f"{note} {UNSEEN}",
        b["unseen"],
        titles,
        b["differences"],
    )
    note = "Accounts trained on and accounts that were not; means over the folds."
    yield of_figures("Protocol B, all accounts", note, b["all"], titles, b["differences_all"])
    yield of_groups(
        "Protocol B, by kind of fraud",
        f"{UNSEEN} {BY_KIND}",
        b.get("by_kind", {}),
        titles,
        AVERAGE_PRECISION,
        b["differences_by_kind"],
    )
    yield of_groups(
        "Protocol B, by support mix",
        f"{UNSEEN} By the labels known of an account.",
        b["by_support"],
        titles,
        AVERAGE_PRECISION,
        b["differences_by_support"],
    )
    for figure in (AVERAGE_PRECISION, RECALL):
        title = f"Protocol B, {figure.short} by number of labels"
        yield of_groups(title, f"{UNSEEN} {BY_LABELS}", b["by_labels"], titles, figure)
    yield of_costs("Protocol B, what an account costs", COST, b["cost"], titles)


def evaluation_report(metrics: Metrics, origin: Origin, checkpoint: Checkpoint) -> Report:
    """The report of `app.training.figures.evaluation`."""
    metadata, titles = checkpoint.metadata, titles_of(metrics)
    by_kind = of_groups("By kind of fraud", BY_KIND, metrics["by_kind"], titles, AVERAGE_PRECISION)
    by_labels = [
        of_groups(
            f"{figure.short} by number of labels", BY_LABELS, metrics["by_labels"], titles, figure
        )
        for figure in (AVERAGE_PRECISION, RECALL)
    ]
    wrong = of_groups(
        "By wrong labels",
        BY_WRONG_LABELS,
        metrics["by_wrong_labels"],
        titles,
        AVERAGE_PRECISION,
    )
    note = "Each scored with the labels its account had by then."
    whole = of_figures("All labelled transactions", note, metrics["all"], titles)
    return Report(
        title=f"Evaluation of {metadata.name} on {metrics['spec']}",
        notes=(ON_TRAINING_DATA,) if metadata.data.sha256 == origin.data_sha256 else (),
        origin=origin,
        metrics={"model": {"name": metadata.name, "digest": checkpoint.digest}, **metrics},
        sections=_told([whole, by_kind, *by_labels, wrong]),
        standings=(),
        remarks=(),
        tiles=(("All labelled transactions", metrics["all"]),),
        curve=Curve(metrics["by_labels"], metrics["methods"]),
        reliability=metrics["reliability"],
    )


def _told(sections: Iterable[Section]) -> tuple[Section, ...]:
    """Those that have a column to show: a file without kinds of fraud has none by kind."""
    return tuple(section for section in sections if len(section.header) > 1)
