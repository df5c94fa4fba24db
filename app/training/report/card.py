"""The model card (Mitchell et al., FAT* 2019) of a checkpoint: `models/NAME/README.md`."""

from app.checkpoint import AlertBudget, Costs, Metadata
from app.training.report.rendering import Table, render

SIMULATED = "simulated"
SHIPPED = "default"


def model_card(metadata: Metadata) -> str:
    """Markdown on what a model is, what it is for, and where its figures come from."""
    decisions, is_simulated = metadata.decisions, metadata.spec.name == SIMULATED
    options = {**metadata.options, "seed": metadata.seed}
    return render(
        "card.md",
        metadata=metadata,
        is_simulated=is_simulated,
        is_shipped=is_simulated and metadata.name == SHIPPED,
        budget=decisions.stated if isinstance(decisions.stated, AlertBudget) else None,
        costs=decisions.stated if isinstance(decisions.stated, Costs) else None,
        command=_command(metadata),
        versions=", ".join(f"{name} {version}" for name, version in metadata.versions.items()),
        data=_data(metadata),
        options=Table(("option", "value"), [(name, str(v)) for name, v in options.items()]),
        step_sizes=_step_sizes(metadata),
        figures=Table(
            ("figure", "value"),
            [(name.replace("_", " "), f"{value:,.6g}") for name, value in metadata.metrics.items()],
        ),
        thresholds=Table(
            ("outcome", "from probability", "reached by held-out transactions"),
            [
                ("review", f"{decisions.review:.6f}", _share(metadata, "reviewed_share")),
                ("decline", f"{decisions.decline:.6f}", _share(metadata, "declined_share")),
            ],
        ),
    )


def _data(metadata: Metadata) -> Table:
    data = metadata.data
    rows = [
        ("spec", metadata.spec.name),
        ("transactions", f"{data.transactions:,}"),
        ("accounts", f"{data.accounts:,}"),
        ("transactions labelled fraud", f"{data.frauds:,}"),
        ("period", f"{data.first} to {data.last}"),
        ("SHA-256 of the file", data.sha256),
    ]
    return Table(("what", "value"), rows)


def _step_sizes(metadata: Metadata) -> Table:
    # Without the axes at the end of their names.
    rows = [
        (layer.rpartition("_")[0].replace("_", " "), *(f"{size:.2g}" for size in sizes))
        for layer, sizes in metadata.step_sizes.items()
    ]
    steps = max(map(len, metadata.step_sizes.values()))
    return Table(("layer", *map(str, range(1, 1 + steps))), rows)


def _share(metadata: Metadata, name: str) -> str:
    share = metadata.metrics.get(name)
    return "unknown" if share is None else f"{share:.2%}"


def _command(metadata: Metadata) -> str:
    """The training as a command, without names of files."""
    options: dict[str, object] = {
        name: value
        for name, value in metadata.options.items()
        if name in ("global_steps", "meta_steps")
    }
    stated = metadata.decisions.stated
    if isinstance(stated, AlertBudget):
        options |= {"reviewed_share": stated.reviewed, "declined_share": stated.declined}
    elif stated:
        options |= {
            "review_cost": stated.review,
            "fraud_cost": stated.fraud,
            "wrong_decline_cost": stated.wrong_decline,
        }
    return (
        f"quickstudy train --data FILE --spec SPEC --out models/{metadata.name} "
        f"--seed {metadata.seed}"
        + "".join(f" --{name.replace('_', '-')} {value}" for name, value in options.items())
    )
