"""The model card (Mitchell et al., FAT* 2019) of a checkpoint: `models/NAME/README.md`."""

from app.learner.checkpoint import AlertBudget, Costs, Metadata
from app.training.report.rendering import render

SIMULATED = "simulated"
SHIPPED = "default"
# The settings that a command states; all others are the defaults of their version.
SETTINGS = "global_steps", "meta_steps", "heed"


def model_card(metadata: Metadata) -> str:
    """Markdown on what a model is, what it is for, and where its figures come from."""
    stated, is_simulated = metadata.decisions.stated, metadata.spec.name == SIMULATED
    return render(
        "card.md",
        metadata=metadata,
        is_simulated=is_simulated,
        is_shipped=is_simulated and metadata.name == SHIPPED,
        budget=stated if isinstance(stated, AlertBudget) else None,
        costs=stated if isinstance(stated, Costs) else None,
        command=_command(metadata),
    )


def _command(metadata: Metadata) -> str:
    """The training as a command, without names of files."""
    options: dict[str, object] = {"seed": metadata.seed, "algorithm": metadata.algorithm}
    options |= {
        name: value
        for name, value in metadata.options.items()
        if name in SETTINGS and value is not None
    }
    if metadata.options.get("start"):
        del options["meta_steps"]
        options["start"] = "MODEL"
    elif metadata.rates:
        options["rates"] = f"models/{metadata.name}"
    match metadata.decisions.stated:
        case AlertBudget(reviewed=reviewed, declined=declined):
            options |= {"reviewed-share": reviewed, "declined-share": declined}
        case Costs(review=review, fraud=fraud, wrong_decline=wrong_decline):
            options |= {"review-cost": review, "fraud-cost": fraud}
            options["wrong-decline-cost"] = wrong_decline
    words = [f" --{name.replace('_', '-')} {value}" for name, value in options.items()]
    if not metadata.options.get("trees", True):
        words.append(" --no-trees")
    return f"quickstudy train --data FILE --spec SPEC --out models/{metadata.name}{''.join(words)}"
