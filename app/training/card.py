"""The model card (Mitchell et al., FAT* 2019) of a checkpoint: `models/NAME/README.md`."""

from app.checkpoint import AlertBudget, Costs, Metadata
from app.training.markdown import code, escaped, table

SIMULATED = "simulated"
SHIPPED = "default"


def model_card(metadata: Metadata) -> str:
    """Markdown that says what a model is, what it is for, and where its figures come from."""
    parts = [
        f"# {escaped(metadata.name)}: a model card",
        _what(metadata),
        f"## Data\n\n{_data(metadata)}",
        f"## Intended use\n\n{_INTENDED_USE}",
        f"## Limits\n\n{_limits(metadata)}",
        f"## How it was trained\n\n{_training(metadata)}",
        f"## Figures\n\n{_figures(metadata)}",
        f"## Calibration\n\n{_calibration(metadata)}",
        f"## Thresholds\n\n{_thresholds(metadata)}",
        f"## How to reproduce it\n\n{_reproduction(metadata)}",
    ]
    return "\n\n".join(parts) + "\n"


_INTENDED_USE = """\
To rank transactions by their risk of fraud, and to learn each account from the few labels that
its transactions get: an account with labels is scored by a copy of the model adapted to them,
every other account by the model as it is. Made to support people who decide, beside their own
rules, and not to be the only ground on which somebody is refused a payment."""

_ALWAYS_LIMITED = """\
- It knows what its training data showed. New payment methods, markets or frauds need new data.
- Labels are taken as true. Wrong ones mislead the copy of their own account.
- It was not examined for unequal errors between groups of people."""

_FROM_A_SIMULATOR = """\
- **The data are simulated.** No figure below says how well it would do on real payments. The
  model is a start that shows the whole path: train on your own file before it matters."""


def _what(metadata: Metadata) -> str:
    return (
        f"A fraud-scoring network over {len(metadata.features)} features of a transaction, its "
        f"account and its merchant, meta-trained ({escaped(metadata.algorithm)}) so that a few "
        "gradient steps on an account's labels make a better model of that account. Made at "
        f"{escaped(metadata.created_at)} by `quickstudy train`."
    )


def _data(metadata: Metadata) -> str:
    data = metadata.data
    rows = [
        ("spec", metadata.spec.name),
        ("transactions", f"{data.transactions:,}"),
        ("accounts", f"{data.accounts:,}"),
        ("transactions labelled fraud", f"{data.frauds:,}"),
        ("period", f"{data.first} to {data.last}"),
        ("SHA-256 of the file", data.sha256),
    ]
    return table(("what", "value"), rows)


def _limits(metadata: Metadata) -> str:
    is_simulated = metadata.spec.name == SIMULATED
    return f"{_FROM_A_SIMULATOR}\n{_ALWAYS_LIMITED}" if is_simulated else _ALWAYS_LIMITED


def _training(metadata: Metadata) -> str:
    options = {**metadata.options, "seed": metadata.seed}
    # Without the axes at the end of their names.
    steps = [
        (layer.rpartition("_")[0].replace("_", " "), *(f"{size:.2g}" for size in sizes))
        for layer, sizes in metadata.step_sizes.items()
    ]
    numbers = [str(number) for number in range(1, 1 + max(map(len, metadata.step_sizes.values())))]
    return "\n\n".join(
        [
            "First the network for accounts without labels, then, from there, how to adapt it.",
            table(("option", "value"), [(name, str(value)) for name, value in options.items()]),
            "Learned step sizes, by adapted layer and inner step (near 0: no adaptation):",
            table(("layer", *numbers), steps),
        ]
    )


def _figures(metadata: Metadata) -> str:
    if not metadata.metrics:
        return "None were measured."
    rows = [(name.replace("_", " "), f"{value:,.6g}") for name, value in metadata.metrics.items()]
    return (
        "Measured by `quickstudy train` at the end of training, on accounts of the same file "
        "that were held out from it; which state of training was kept was chosen by their loss, "
        "so they flatter a little. `quickstudy backtest` measures on later days.\n\n"
        + table(("figure", "value"), rows)
    )


def _calibration(metadata: Metadata) -> str:
    slope, shift = metadata.calibration.slope, metadata.calibration.shift
    if slope == 1.0 and shift == 0.0:
        return "None: too few frauds were held out to fit it, so probabilities are as trained."
    return (
        f"A probability is sigmoid({slope:.4f} x log-odds {shift:+.4f}), fitted on what the "
        "held-out accounts were served, at the natural rate of fraud."
    )


def _thresholds(metadata: Metadata) -> str:
    decisions, metrics = metadata.decisions, metadata.metrics
    rows = [
        ("review", f"{decisions.review:.6f}", _share(metrics.get("reviewed_share"))),
        ("decline", f"{decisions.decline:.6f}", _share(metrics.get("declined_share"))),
    ]
    return (
        "A transaction whose probability reaches a threshold is reviewed by a person, or "
        f"declined; below both it is approved. {_basis(decisions.stated)}\n\n"
        + table(("outcome", "from probability", "reached by held-out transactions"), rows)
    )


def _basis(stated: AlertBudget | Costs | None) -> str:
    if stated is None:
        return "Nothing was stated of them, so they keep to the usual share of transactions."
    if isinstance(stated, Costs):
        return (
            f"They make the least of stated costs: {stated.review:g} for a review, "
            f"{stated.fraud:g} for a fraud let pass, {stated.wrong_decline:g} for a legitimate "
            "payment declined."
        )
    return (
        f"They keep to a stated budget: at most {stated.reviewed:.2%} of transactions are held "
        f"up, at most {stated.declined:.2%} declined."
    )


def _share(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.2%}"


def _reproduction(metadata: Metadata) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in metadata.versions.items())
    made_by = (
        f"Made with {escaped(versions or 'unknown versions')}. The same file, seed and versions on "
        "the same kind of processor give the same model."
    )
    if metadata.name == SHIPPED and metadata.spec.name == SIMULATED:
        return f"`make train` simulates the data and trains on them.\n\n{made_by}"
    options = "".join(
        f" --{name.replace('_', '-')} {metadata.options[name]}"
        for name in ("global_steps", "meta_steps")
        if name in metadata.options
    )
    stated = metadata.decisions.stated
    if isinstance(stated, AlertBudget):
        options += f" --reviewed-share {stated.reviewed} --declined-share {stated.declined}"
    elif stated:
        options += (
            f" --review-cost {stated.review} --fraud-cost {stated.fraud} "
            f"--wrong-decline-cost {stated.wrong_decline}"
        )
    command = (
        f"quickstudy train --data FILE --spec SPEC --out models/{metadata.name} "
        f"--seed {metadata.seed}{options}"
    )
    return (
        f"{code(command)}, with the file of the digest above and the spec that stands in "
        f"`checkpoint.json`.\n\n{made_by}"
    )
