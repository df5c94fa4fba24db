"""`quickstudy simulate`, `train`, `evaluate` and `backtest`."""

import shlex
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from app import __version__
from app.cli.reading import say, say_of_file
from app.cli.terminal import console
from app.errors import SetupError
from app.learner.algorithms import Algorithm

# All else is imported inside the functions: `quickstudy --help` takes as long as what it imports,
# and `app.training` takes libraries that serving does without.
if TYPE_CHECKING:
    from rich.table import Table

    from app.learner.checkpoint import AlertBudget, Costs, Metadata
    from app.learner.spec import DatasetSpec
    from app.training.parts import Parts
    from app.training.report.report import Origin, Report
    from app.training.report.sections import Section
    from app.training.rivals import Rival
    from app.training.run import Source
    from app.training.train import Options, Status

INTERRUPTED = 130

Data = Annotated[
    Path,
    typer.Option(help="CSV, Parquet or JSON: a file, folder, or pattern in quotes."),
]
Spec = Annotated[str, typer.Option(help="TOML file, or the name of a built-in spec.")]
ReportFolder = Annotated[Path, typer.Option(metavar="DIRECTORY", help="Where the report goes.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")]
GlobalSteps = Annotated[
    int | None, typer.Option(min=1, help="At most so many steps for accounts without labels.")
]
MetaSteps = Annotated[
    int | None, typer.Option(min=1, help="At most so many steps in learning to adapt.")
]
ReviewedShare = Annotated[
    float | None, typer.Option(help="Alert budget: at most this share of transactions held up.")
]
DeclinedShare = Annotated[
    float | None, typer.Option(help="Alert budget: at most this share of transactions declined.")
]
ReviewCost = Annotated[float | None, typer.Option(help="What a review costs.")]
FraudCost = Annotated[float | None, typer.Option(help="Cost of a missed fraud.")]
WrongDeclineCost = Annotated[
    float | None, typer.Option(help="What it costs to decline a legitimate payment.")
]
WhichAlgorithm = Annotated[
    Algorithm, typer.Option("--algorithm", help="How an account's labels are learned.")
]
Trees = Annotated[
    bool,
    typer.Option(help="Grow trees beside the network, kept where held-out accounts gain by them."),
]

WhichRates = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Rates of currencies: a TOML file, or the folder of the model whose rates to keep; "
        "without it those that come along.",
    ),
]


def simulate(
    out: Annotated[Path, typer.Option(help="File to write, .csv or .parquet.")],
    accounts: Annotated[int, typer.Option(min=2, help="Number of accounts.")] = 2000,
    days: Annotated[int, typer.Option(min=1, help="Number of days.")] = 180,
    seed: Seed = 0,
) -> None:
    """Write card payments with fraud, from a simulator: a file to train on without your own."""
    from app.simulator.simulate import simulate as simulated

    if out.suffix.lower() not in (".csv", ".parquet"):
        raise SetupError(f"{out}: {out.suffix or 'no suffix'} is neither .csv nor .parquet")
    out.parent.mkdir(parents=True, exist_ok=True)
    frame = simulated(accounts, days, seed)
    write = frame.write_csv if out.suffix.lower() == ".csv" else frame.write_parquet
    write(out)
    console.print(f"{len(frame):,} transactions are in {escape(str(out))}; spec: simulated.")


def partition(
    data: Data,
    spec: Spec,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the parts go.")],
    parts: Annotated[
        int | None,
        typer.Option(min=1, help="Number of parts; by default one for about 250,000 rows."),
    ] = None,
    rates: WhichRates = None,
) -> None:
    """Divide transactions by account, with their features: for data larger than memory."""
    from app.learner.spec import DatasetSpec
    from app.training.partition import partition as partitioned
    from app.training.rates import rates_for

    chosen = DatasetSpec.load(spec)
    with console.status("Partitioning …"):
        found, left_out = partitioned(data, chosen, rates_for(chosen, rates), out, parts)
    if left_out:
        say(f"{left_out.sentence()}; they are in {left_out.keep()}.")
    _say_of(found, chosen)
    say(
        f"{found.data.transactions:,} transactions of {found.data.accounts:,} accounts are in "
        f"{len(found.rows_of_part):,} parts in {out}."
    )


def train(
    data: Data,
    spec: Spec,
    out: Annotated[Path, typer.Option(metavar="models/NAME", help="Where the model goes.")],
    device: Device = "auto",
    seed: Seed = 0,
    global_steps: GlobalSteps = None,
    meta_steps: MetaSteps = None,
    algorithm: WhichAlgorithm = "anil",
    trees: Trees = True,
    reviewed_share: ReviewedShare = None,
    declined_share: DeclinedShare = None,
    review_cost: ReviewCost = None,
    fraud_cost: FraudCost = None,
    wrong_decline_cost: WrongDeclineCost = None,
    rates: WhichRates = None,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="models/NAME",
            help="A model of the same features to go on from: the first stage alone, at its "
            "rates of currencies.",
        ),
    ] = None,
    heed: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="How much copies have to bear an account's labels out to be followed, in place "
            "of what held-out accounts say: more protects from wrong labels.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the training in --out was stopped.")
    ] = False,
) -> None:
    """Train a model on a file; Ctrl-C keeps what was learned so far.

    `torchrun --no-python quickstudy train …` trains on several processes.
    """
    from app.cli.interruption import Interruption
    from app.cli.progress import TrainingProgress
    from app.learner.checkpoint import Checkpoint
    from app.learner.spec import DatasetSpec
    from app.training.devices import training_device
    from app.training.parts import Parts
    from app.training.ranks import joined
    from app.training.rates import rates_for
    from app.training.run import UNFINISHED, Source, train_checkpoint
    from app.training.train import CONTINUING_STEPS

    chosen = DatasetSpec.load(spec)
    on = training_device(device)
    options = replace(options_of(seed, algorithm, global_steps, meta_steps, trees), heed=heed)
    begun = None
    if start is not None:
        if meta_steps:
            raise SetupError("with --start there is no second stage: leave out --meta-steps")
        begun = Checkpoint.load(start)
        rates = rates or (start if begun.metadata.rates else None)
        options = replace(
            options,
            global_steps=global_steps or CONTINUING_STEPS,
            meta_steps=0,
            start=begun.digest[:12],
        )
    budget = {"reviewed": reviewed_share, "declined": declined_share}
    costs = {"review": review_cost, "fraud": fraud_cost, "wrong_decline": wrong_decline_cost}
    stated = _stated(budget, costs)
    with joined(on) as ranks:
        # One of several speaks for all.
        console.quiet = ranks.rank > 0
        if Parts.are_in(data):
            # Rates are those that the parts were written by, unless others are stated.
            source: Source | Parts = Parts.load(
                data, chosen, rates_for(chosen, rates) if rates else None
            )
        else:
            source = Source.read(data, chosen, rates_for(chosen, rates))
        _say_of(source, chosen)
        with Interruption() as interruption, TrainingProgress() as progress:

            def watch(status: "Status") -> bool:
                interruption.listen()
                progress.show("", status)
                return not interruption.is_requested

            metadata = train_checkpoint(
                source, chosen, out, options, ranks.device, watch, resume, stated, ranks, begun
            )
    if metadata is None:
        return
    console.print(_summary(metadata, out))
    if (out / UNFINISHED).exists():
        console.print(
            f"Training was interrupted. {escape(str(out))} holds a usable checkpoint of the "
            "best so far; the same command with --resume goes on from here."
        )
        raise typer.Exit(INTERRUPTED)


def evaluate(
    context: typer.Context,
    data: Data,
    model: Annotated[Path, typer.Option(metavar="models/NAME", help="The model's folder.")],
    report: ReportFolder,
    spec: Annotated[
        str | None,
        typer.Option(
            help="Spec of the file, where its columns are not named as in the model's spec."
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Score a file as it would have been served, and report how good the scores are."""
    from app.learner.checkpoint import Checkpoint
    from app.learner.features import FeatureSet, check_same_features
    from app.learner.spec import DatasetSpec
    from app.training.devices import training_device
    from app.training.episodes import Rows
    from app.training.figures import evaluation
    from app.training.report.contents import evaluation_report
    from app.training.run import Source

    checkpoint = Checkpoint.load(model)
    chosen = checkpoint.metadata.spec if spec is None else DatasetSpec.load(spec)
    rates = checkpoint.metadata.rates
    check_same_features(chosen, checkpoint.features, str(model))
    features = FeatureSet(chosen, rates)
    on = training_device(device)
    report.mkdir(parents=True, exist_ok=True)
    source = Source.read(data, chosen, rates)
    _say_of(source, chosen)
    with console.status("Scoring …"):
        rows = Rows.of(source.dataset, features)
        metrics = evaluation(checkpoint, source.dataset, rows, on)
    _finish(evaluation_report(metrics, _origin(context, data, source), checkpoint), report)


def backtest(
    context: typer.Context,
    data: Data,
    spec: Spec,
    report: ReportFolder,
    device: Device = "auto",
    seed: Seed = 0,
    global_steps: GlobalSteps = None,
    meta_steps: MetaSteps = None,
    algorithm: WhichAlgorithm = "anil",
    trees: Trees = True,
    rivals: Annotated[
        str, typer.Option(metavar="all|none|NAME,NAME", help="Baselines to compare with.")
    ] = "all",
    rates: WhichRates = None,
) -> None:
    """Train anew for each of several test periods, and report how the days after were scored."""
    from app.cli.progress import TrainingProgress
    from app.learner.features import FeatureSet
    from app.learner.spec import DatasetSpec
    from app.training.backtest import Backtest
    from app.training.devices import training_device
    from app.training.episodes import Rows
    from app.training.rates import rates_for
    from app.training.report.contents import backtest_report
    from app.training.run import Source

    against = _rivals(rivals)
    chosen = DatasetSpec.load(spec)
    on = training_device(device)
    options = options_of(seed, algorithm, global_steps, meta_steps, trees)
    report.mkdir(parents=True, exist_ok=True)
    source = Source.read(data, chosen, rates_for(chosen, rates))
    _say_of(source, chosen)
    rows = Rows.of(source.dataset, FeatureSet(chosen, source.rates))
    with TrainingProgress() as progress:

        def watch(name: str, status: "Status") -> bool:
            progress.show(name, status)
            return True

        backtest = Backtest(source.dataset, rows, chosen, options, on, watch, against, say)
        metrics = backtest.run()
    _finish(backtest_report(metrics, _origin(context, data, source)), report)


def _stated(
    budget: dict[str, float | None], costs: dict[str, float | None]
) -> "AlertBudget | Costs | None":
    """What was stated of the thresholds: a whole budget, all costs, or nothing."""
    from pydantic import ValidationError

    from app.learner.checkpoint import AlertBudget, Costs

    complete = [set(part.values()) != {None} for part in (budget, costs)]
    if all(complete):
        raise SetupError("thresholds follow an alert budget or costs, not both")
    if not any(complete):
        return None
    kind, values = (AlertBudget, budget) if complete[0] else (Costs, costs)
    try:
        return kind.model_validate(values)
    except ValidationError:
        raise SetupError(
            "an alert budget is --reviewed-share and --declined-share, each between 0 and 1"
            if complete[0]
            else "costs are --review-cost, --fraud-cost and --wrong-decline-cost, each above 0"
        ) from None


def _rivals(choice: str) -> "list[Rival]":
    """`all` that are installed, `none`, or those named between commas."""
    if choice == "none":
        return []
    from app.training.rivals import rivals

    names = [name.strip() for name in choice.split(",")]
    return rivals(None if choice == "all" else names)


def _say_of(source: "Source | Parts", spec: "DatasetSpec") -> None:
    """What a reader should know of a file; some currency may be missing by mistake."""
    say_of_file(spec, source.newest_us, source.left_out)
    if counts := source.without_rate:
        each = ", ".join(f"{count:,} in {currency}" for currency, count in counts.items())
        say(
            f"Amounts in currencies without a rate are not compared: {each}; "
            "rates are stated with --rates in training."
        )


def _origin(context: typer.Context, data: Path, source: "Source") -> "Origin":
    from app.training.report.report import Origin

    return Origin(
        command=_command(context),
        data=data.name,
        data_sha256=source.sha256,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
    )


def _command(context: typer.Context) -> str:
    """The command as it was given, to give it again."""
    words = ["quickstudy", context.info_name or ""]
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if source and source.name == "COMMANDLINE":
            words += [parameter.opts[0], str(context.params[name])]
    return shlex.join(words)


def _summary(metadata: "Metadata", out: Path) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    data, metrics = metadata.data, metadata.metrics
    table = Table("model", escape(metadata.name), box=SIMPLE_HEAD)
    table.add_row("transactions", f"{data.transactions:,}")
    table.add_row("accounts", f"{data.accounts:,}")
    table.add_row("labelled fraud", f"{data.frauds:,}")
    for method in ("base", "adapted"):
        value = metrics.get(f"held_out_average_precision_{method}")
        figure = "no fraud held out" if value is None else f"{value:.4f}"
        table.add_row(f"held-out average precision, {method}", figure)
    table.add_row("checkpoint", escape(str(out)))
    return table


def options_of(
    seed: int,
    algorithm: Algorithm,
    global_steps: int | None,
    meta_steps: int | None,
    trees: bool,
) -> "Options":
    """The options of a training; where no steps are stated, those of `Options`."""
    from app.training.train import Options

    options = Options(seed=seed, algorithm=algorithm, trees=trees)
    return replace(
        options,
        global_steps=global_steps or options.global_steps,
        meta_steps=meta_steps or options.meta_steps,
    )


def _finish(report: "Report", folder: Path) -> None:
    report.write(folder)
    for section in report.sections:
        console.print(_table(section))
    for sentence in (*report.notes, *report.verdict):
        console.print(escape(sentence), soft_wrap=True)
    console.print(f"The report is {escape(str(folder / 'report.html'))}.", soft_wrap=True)


def _table(section: "Section") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=f"\n{escape(section.title)}",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in section.header:
        table.add_column(escape(name), justify="right")
    table.columns[0].justify = "left"
    for r, row in enumerate(section.rows):
        cells = enumerate(map(escape, row))
        table.add_row(
            *(f"[bold]{cell}[/bold]" if (r, c) in section.best else cell for c, cell in cells)
        )
    return table
