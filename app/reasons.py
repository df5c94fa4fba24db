"""Reasons: the shares of a score by code, each with what was observed and what is usual.

A code stands for the features that tell of one thing; docs/reasons.md says what each means. The
usual values are those of the account's own payments before this one.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, cached_property, lru_cache
from math import atan2, expm1, fsum, tau
from typing import Any, NamedTuple

import numpy as np
from pydantic_core import from_json

from app.attribution import Attribution
from app.content import figure
from app.features import Features, FeatureSet
from app.kernels.features import CODE
from app.states import Floats, Ints
from app.times import text_of
from app.transactions import STANDARD_FIELDS, AttributeValue, Transaction

# Payments that an account's usual values are taken from, and reasons that a score is told with.
PAST = 32
MOST_REASONS = 5
# In log-odds, a hundredth of the odds: what raises a score by less is nobody's reason.
LEAST_SHARE = 0.01
LABELS = "labels"

# Every feature has the code of the first pattern that fits; the rest are named in `code_of`.
CODES = (
    ("amount", r"log_amount|account_amount_(z|ratio)_\d+d"),
    ("account_spending", r"account_(log_amount_(mean|spread)|mean_amount)_\d+d"),
    ("account_pace", r"account_count_\d+d"),
    ("account_gap", r"account_gap"),
    ("hour", r"hour_sin|hour_cos|account_hour_habit"),
    ("weekend", r"weekend"),
    ("merchant", r"account_merchant_id_novelty"),
    ("merchant_amount", r"merchant_amount_z_\d+d"),
    ("merchant_fraud", r"merchant_(fraud_share|frauds)_\d+[hd]"),
    ("merchant_activity", r"merchant_gap|merchant_count_\d+d|merchant_log_amount_\w+"),
)
Value = float | str | None


class Reason(NamedTuple):
    """What a score rests on. `share` is in calibrated log-odds; above 0 it raises the risk."""

    code: str
    sentence: str
    observed: Value
    usual: Value
    share: float

    def rounded(self) -> "Reason":
        """Its figures as they are answered."""
        return self._replace(
            observed=_figure(self.observed), usual=_figure(self.usual), share=figure(self.share)
        )


class Share(NamedTuple):
    """What a code adds to a score, in calibrated log-odds."""

    code: str
    share: float


@dataclass(frozen=True)
class Case:
    """A payment beside those before it: what sentences are made of."""

    transaction: Transaction
    contents: Sequence[str]
    place: Mapping[str, int]
    now_F: Features
    usual_F: Floats
    labels: tuple[int, int]

    def now(self, name: str) -> float:
        """A feature of the payment."""
        return float(self.now_F[self.place[name]])

    def usual(self, name: str) -> float:
        """Its mean over the earlier payments."""
        return float(self.usual_F[self.place[name]])

    @property
    def is_first(self) -> bool:
        """Whether the account has no earlier payment."""
        return not self.contents

    @cached_property
    def past(self) -> list[dict[str, Any]]:
        """The earlier payments' fields, which few sentences ask for."""
        return list(map(_fields, self.contents))


# Risky payments of an account come in bursts, and have nearly the same past.
@lru_cache(maxsize=4096)
def _fields(content: str) -> dict[str, Any]:
    fields: dict[str, Any] = from_json(content)
    return fields


@cache
def code_of(name: str, categories: tuple[str, ...]) -> str:
    """The code of a feature; raises ValueError for one that nobody has given a code."""
    for category in categories:
        if name in (f"{category}{CODE}", f"account_{category}_novelty"):
            return "merchant" if category == "merchant_id" else category
    if found := re.fullmatch(r"(attribute_\w+?)(_missing)?", name):
        return found[1]
    for code, pattern in CODES:
        if re.fullmatch(pattern, name):
            return code
    if found := re.fullmatch(r"account_(\w+)_z", name):
        return f"attribute_{found[1]}"
    raise ValueError(f"feature {name} has no code")


def shares_of(
    features: FeatureSet, attribution: Attribution, slope: float, has_labels: bool
) -> list[Share]:
    """Every code with its share, the largest first; the shares add up to the whole difference.

    `slope` is that of the calibration; an account without labels has no share of theirs.
    """
    codes, code_F = _codes(features)
    shares = list(map(Share, codes, (slope * np.bincount(code_F, attribution.share_F)).tolist()))
    if has_labels:
        shares.append(Share(LABELS, slope * attribution.labels))
    return sorted(shares, key=lambda one: -one.share)


@cache
def _codes(features: FeatureSet) -> tuple[Sequence[str], Ints]:
    """The codes there are, and which of them each feature has."""
    of_each = [code_of(name, features.spec.categorical_names) for name in features.names]
    codes = list(dict.fromkeys(of_each))
    return codes, np.array([codes.index(code) for code in of_each], np.int64)


@cache
def _places(features: FeatureSet) -> dict[str, int]:
    return {name: f for f, name in enumerate(features.names)}


def _figure(value: Value) -> Value:
    return figure(value) if isinstance(value, float) else value


def raising(shares: Sequence[Share]) -> list[Share]:
    """The few that raise a score most."""
    return [one for one in shares if one.share >= LEAST_SHARE][:MOST_REASONS]


def tell(
    shares: Iterable[Share],
    features: FeatureSet,
    transaction: Transaction,
    contents: Sequence[str],
    features_F: Features,
    past_KF: Features,
    labels: tuple[int, int],
) -> list[Reason]:
    """Shares in words.

    `contents` are the texts of the payments before it, whose features are `past_KF`; `labels` the
    account's fraud and legitimate labels.
    """
    usual_F = past_KF.mean(0, np.float64) if len(past_KF) else np.zeros(len(features_F))
    case = Case(transaction, contents, _places(features), features_F, usual_F, labels)
    return [Reason(code, *_told(code, case), share) for code, share in shares]


def _told(code: str, case: Case) -> tuple[str, Value, Value]:
    if code in TOLD:
        return TOLD[code](case)
    if code.startswith("attribute_"):
        return _attribute(code.removeprefix("attribute_"), case)
    return _category(code, case)


def _amount(case: Case) -> tuple[str, Value, Value]:
    amount = float(case.transaction.amount)
    said = f"amount {_money(case.transaction.amount)}"
    if case.is_first:
        return f"{said}; this account has no earlier payments", amount, None
    usual = expm1(case.usual("log_amount"))
    if usual <= 0:
        return f"{said}, this account's usual {usual:.2f}", amount, usual
    times = amount / usual
    return f"{said}, {times:.1f} times this account's usual {usual:.2f}", amount, usual


def _spending(case: Case) -> tuple[str, Value, Value]:
    name = "account_mean_amount_30d"
    lately = expm1(case.now(name))
    return _compared("{} a payment lately", lately, case, expm1(case.usual(name)), ".2f")


def _pace(case: Case) -> tuple[str, Value, Value]:
    name = "account_count_1d"
    lately = expm1(case.now(name))
    return _compared("{} payments in the last day", lately, case, expm1(case.usual(name)), ".1f")


def _gap(case: Case) -> tuple[str, Value, Value]:
    if case.is_first:
        return "the account's first payment", None, None
    hours = expm1(case.now("account_gap"))
    usual = expm1(case.usual("account_gap"))
    return _compared("{} hours since the last payment", hours, case, usual, ".1f")


def _hour(case: Case) -> tuple[str, Value, Value]:
    clock = text_of(case.transaction.occurred_at_us)[11:16]
    if case.is_first:
        return f"at {clock} UTC; this account has no earlier payments", clock, None
    angle = atan2(case.usual("hour_sin"), case.usual("hour_cos")) % tau
    minutes = round(angle / tau * 24 * 60) % (24 * 60)
    usual = f"{minutes // 60:02}:{minutes % 60:02}"
    return f"at {clock} UTC, usually about {usual}", clock, usual


def _weekend(case: Case) -> tuple[str, Value, Value]:
    is_weekend = case.now("weekend") > 0
    observed = "weekend" if is_weekend else "weekday"
    if case.is_first:
        return f"on a {observed}; this account has no earlier payments", observed, None
    share = case.usual("weekend") if is_weekend else 1 - case.usual("weekend")
    return f"on a {observed}, as {share:.0%} of this account's payments", observed, share


def _merchant(case: Case) -> tuple[str, Value, Value]:
    merchant = case.transaction.merchant_id
    if merchant is None:
        return "no merchant named", None, None
    merchants = [one.get("merchant_id") for one in case.past]
    if case.is_first:
        return f"merchant {merchant}; this account has no earlier payments", merchant, None
    return (
        f"merchant {merchant}, {_in(merchants, merchant)}",
        merchant,
        _most_usual(merchants),
    )


def _merchant_amount(case: Case) -> tuple[str, Value, Value]:
    if case.transaction.merchant_id is None:
        return "no merchant named", None, None
    usual = expm1(case.now("merchant_log_amount_mean_30d"))
    amount = case.transaction.amount
    return f"amount {_money(amount)}, usual at this merchant {usual:.2f}", float(amount), usual


def _merchant_fraud(case: Case) -> tuple[str, Value, Value]:
    if case.transaction.merchant_id is None:
        return "no merchant named", None, None
    share, frauds = case.now("merchant_fraud_share_30d"), case.now("merchant_frauds_30d")
    said = f"{share:.1%} of this merchant's labels of late are frauds ({expm1(frauds):.1f})"
    if case.is_first:
        return said, share, None
    usual = case.usual("merchant_fraud_share_30d")
    return f"{said}, {usual:.1%} where this account usually pays", share, usual


def _merchant_activity(case: Case) -> tuple[str, Value, Value]:
    if case.transaction.merchant_id is None:
        return "no merchant named", None, None
    name = "merchant_count_7d"
    lately = expm1(case.now(name))
    said = "{} payments at this merchant in the last week"
    return _compared(said, lately, case, expm1(case.usual(name)), ".1f")


def _labels(case: Case) -> tuple[str, Value, Value]:
    frauds, legitimates = case.labels
    said = f"{_count(frauds, 'fraud label')} and {_count(legitimates, 'legitimate label')}"
    return f"{said} move all of this account's scores", f"{frauds}+{legitimates}", None


def _attribute(name: str, case: Case) -> tuple[str, Value, Value]:
    given = case.transaction.attributes.get(name)
    if not isinstance(given, int | float):
        return f"{name} missing", None, None
    past = [one["attributes"].get(name) for one in case.past]
    known = [value for value in past if isinstance(value, int | float)]
    if not known:
        return f"{name} {given:g}; this account has no earlier ones", float(given), None
    usual = fsum(known) / len(known)
    return f"{name} {given:g}, usually {usual:g}", float(given), usual


def _category(name: str, case: Case) -> tuple[str, Value, Value]:
    is_standard = name in STANDARD_FIELDS
    transaction = case.transaction
    value = _text(getattr(transaction, name) if is_standard else transaction.attributes.get(name))
    past = [_text((one if is_standard else one["attributes"]).get(name)) for one in case.past]
    usual = _most_usual(past)
    if value is None:
        return f"{name} missing" + (f", usually {usual}" if usual else ""), None, usual
    if case.is_first:
        return f"{name} {value}; this account has no earlier payments", value, None
    return f"{name} {value}, {_in(past, value)}", value, usual


def _compared(
    said: str, observed: float, case: Case, usual: float, form: str
) -> tuple[str, Value, Value]:
    text = said.format(format(observed, form))
    if case.is_first:
        return text, observed, None
    return f"{text}, usually {usual:{form}}", observed, usual


def _text(value: AttributeValue | None) -> str | None:
    return None if value is None else str(value)


def _in(values: Sequence[str | None], value: str) -> str:
    return f"in {values.count(value)} of this account's last {len(values)} payments"


def _most_usual(values: Iterable[str | None]) -> str | None:
    counted = Counter(value for value in values if value is not None)
    return counted.most_common(1)[0][0] if counted else None


def _money(amount: Decimal) -> str:
    decimals = max(2, -int(amount.as_tuple().exponent))
    return f"{amount:.{decimals}f}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


TOLD: dict[str, Callable[[Case], tuple[str, Value, Value]]] = {
    "amount": _amount,
    "account_spending": _spending,
    "account_pace": _pace,
    "account_gap": _gap,
    "hour": _hour,
    "weekend": _weekend,
    "merchant": _merchant,
    "merchant_amount": _merchant_amount,
    "merchant_fraud": _merchant_fraud,
    "merchant_activity": _merchant_activity,
    LABELS: _labels,
}
