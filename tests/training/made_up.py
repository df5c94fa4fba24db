"""Made-up figures in the shape that back-tests and evaluations give them, for tests of reports."""

import math
from collections.abc import Mapping
from typing import Any

from app.training.results import TITLES

RIVALS = {"trees": "gradient boosting", "linear": "logistic regression", "near": "neighbours"}


def quality(average_precision: float, recall: float = 0.5) -> dict[str, float]:
    return {
        "transactions": 1000,
        "frauds": 10,
        "average_precision": average_precision,
        "recall_at_1_percent": recall,
        "brier": 0.01,
        "calibration_error": 0.002,
        "card_precision_100": 0.25,
    }


def group(
    adapted: float, base: float, recall: float = 0.5, rivals: Mapping[str, str] | None = None
) -> dict[str, Any]:
    others = {name: quality(0.3 + n / 100) for n, name in enumerate(rivals or {})}
    return {"adapted": quality(adapted, recall), "base": quality(base), **others}


def lead(difference: float, half: float = 0.02) -> dict[str, float]:
    return {"difference": difference, "low": difference - half, "high": difference + half}


def methods(rivals: Mapping[str, str]) -> dict[str, Any]:
    """The network and the rivals, of which all but `linear` read labels."""
    titles = {**TITLES, **rivals}
    return {
        name: {"title": title, "reads_labels": name not in ("base", "linear")}
        for name, title in titles.items()
    }


def reliability() -> dict[str, Any]:
    counts = {"transactions": 1000, "frauds": 10, "brier": 0.0123, "calibration_error": 0.0045}
    bins = [
        {"transactions": 500, "frauds": 0, "probability": 0.0, "observed": 0.0},
        {"transactions": 500, "frauds": 10, "probability": 0.03, "observed": 0.02},
    ]
    return {name: {**counts, "bins": bins} for name in ("adapted", "base")}


def chosen(rivals: Mapping[str, str], frauds: float = 40) -> dict[str, Any]:
    """As `Methods.chosen` gives it."""
    return {
        "held_out_transactions": 900,
        "held_out_frauds": frauds,
        "gate": {"trust": 3.0, "heed": 0.5, "reach": 0.25, "habit": 0.5, "pardon": 1.0},
        "trees": 60,
        "step_sizes": {"out_weight_BMH": [0.1, 0.02], "out_bias_BM": [0.3, 0.00001]},
        "rivals": {
            name: {"setting": {"depth": 4, "rate": 0.1}, "doubts": list[str]()} for name in rivals
        },
    }


def pairs(rivals: Mapping[str, str]) -> dict[str, Any]:
    """As `pairs_in_order` gives them."""
    shares = {name: 0.8 + n / 100 for n, name in enumerate(["adapted", *rivals])}
    methods = {
        name: {"share": share, **lead(share - 0.75, half=0.01)} for name, share in shares.items()
    }
    nothing = {"share": 0.75, "difference": 0.0, "low": 0.0, "high": 0.0}
    return {"pairs": 4321.0, "accounts": 56, "methods": methods | {"base": nothing}}


def backtest_metrics(
    adapted: float = 0.7,
    kind: str = "takeover",
    spec: str = "tests",
    rivals: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """As `Backtest.run` gives them, with one fraud kind of which one fold has no fraud."""
    rivals = rivals or {}
    counts = {"train_transactions": 5000, "train_frauds": 40}
    days = "2026-01-01", "2026-01-08"
    nothing = group(math.nan, math.nan)
    leads = {name: lead(0.03 * (n - 1)) for n, name in enumerate(rivals)}
    limits = ("0", "1", "3")
    band = {"low": 0.4, "high": 0.9}
    bands = dict.fromkeys(("average_precision", "recall_at_1_percent"), band)
    return {
        "spec": spec,
        "methods": methods(rivals),
        "protocol_a": {
            "folds": [
                {"test_start": day, **counts, **group(0.7, 0.6), "chosen": chosen(rivals)}
                for day in days
            ],
            "mean": quality(0.7),
            "methods": group(0.7, 0.6, rivals=rivals),
            "differences": {"base": lead(0.1), **leads},
            "pairs_in_order": pairs(rivals),
        },
        "protocol_b": {
            "folds": [
                {"test_start": days[0], "by_kind": {kind: nothing}, "chosen": chosen(rivals)}
            ],
            "pairs_in_order": pairs(rivals),
            "pairs_in_order_all": pairs(rivals),
            "all": group(0.8, 0.7, rivals=rivals),
            "unseen": group(0.75, 0.7, rivals=rivals),
            "by_kind": {kind: group(adapted, 0.65, rivals=rivals)},
            "by_support": {"no labels": nothing, "one fraud": group(0.8, 0.7)},
            "by_labels": {k: group(0.7 + int(k) / 100, 0.7, rivals=rivals) for k in limits},
            "differences": {"base": lead(0.05), **leads},
            "differences_all": {"base": lead(0.1), **leads},
            "differences_by_kind": {kind: {"base": lead(adapted - 0.65)}},
            "differences_by_support": {
                "no labels": {"base": lead(math.nan)},
                "one fraud": {"base": lead(0.1, half=0.2)},
            },
            "bands_by_labels": {k: {"adapted": bands, "base": bands} for k in limits},
            "reliability": reliability(),
            "cost": {
                name: {
                    "milliseconds_an_account": 1.5,
                    "bytes_an_account": 0.0 if name in ("base", "linear") else math.nan,
                }
                for name in methods(rivals)
            }
            | {"adapted": {"milliseconds_an_account": 2.5, "bytes_an_account": 34_000.0}},
        },
    }


def evaluation_metrics(adapted: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """As `evaluation` gives them, of a file without kinds of fraud."""
    whole = {"adapted": adapted, "base": base}
    return {
        "spec": "s",
        "methods": methods({}),
        "chosen": chosen({}),
        "all": whole,
        "pairs_in_order": pairs({}),
        "by_kind": {},
        "by_labels": {"0": {"adapted": base, "base": base}, "16": whole},
        "by_wrong_labels": {"0%": whole, "50%": {"adapted": base, "base": base}},
        "reliability": reliability(),
    }
