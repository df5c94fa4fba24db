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
from itertools import pairwise
from math import expm1, fsum, inf, isfinite, log
from typing import Any, NamedTuple

import numpy as np
from pydantic_core import from_json

from app.learner.attribution import Attribution
from app.learner.content import figure
from app.learner.features import Features, FeatureSet
from app.learner.kernels.features import CODE
from app.learner.money import Rates, amount_of, posted_amount
from app.learner.states import Ints
from app.learner.transaction import (
    DAY_US,
    HOUR_US,
    SECOND_US,
    STANDARD_FIELDS,
    AttributeValue,
    category_text,
)
from app.times import text_of

# Payments that an account's usual values are taken from, and reasons that a score is told with.
PAST = 32
MOST_REASONS = 5
# In log-odds, a hundredth of the odds: what raises a score by less is nobody's reason.
LEAST_SHARE = 0.01
LABELS = "labels"
NO_EARLIER, NO_MERCHANT = "this account has no earlier payments", "no merchant named"
MONTH_US, NEAR_US = 30 * DAY_US, 2 * HOUR_US
# Payments a day that a sum of a half-life of 7 days stands for.
A_DAY = log(2) / 7
# A merchant's payments, decayed, that a typical amount can be told of.
LEAST_COUNT = 0.5
# Payments in one currency that are enough to compare with, where others are in another.
LEAST_ALIKE = 3
AT_RATES = "at the model's rates"
# Numbers beyond these are told with an exponent.
LEAST_PLAIN, LONGEST_WHOLE = 1e-6, 1e15
# Of times: a unit, how long it is, and from which time on it is used.
UNITS = (
    ("day", DAY_US, 2 * DAY_US),
    ("hour", HOUR_US, 2 * HOUR_US),
    ("minute", 60 * SECOND_US, 120 * SECOND_US),
)

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


class Compared(NamedTuple):
    """The amount of a payment and those of earlier ones, all in `currency`.

    `earlier` has how long before it each was, in microseconds, and its amount, newest first;
    `which` says of what payments they are, `how` how they came to be in one currency.
    """

    currency: str | None
    amount: float
    earlier: Sequence[tuple[int, float]]
    which: str = ""
    how: str = ""

    def within(self, us: float = inf) -> list[float]:
        """The amounts of those at most so long before."""
        return [amount for age_us, amount in self.earlier if age_us <= us]

    @property
    def last(self) -> str:
        """The earlier payments, in words."""
        return f"{_last(len(self.earlier))}{self.which}"


@dataclass(frozen=True)
class Case:
    """A payment beside those before it: what sentences are made of.

    `past` are the earlier payments at hand, newest first, as fields of their content; there are
    more of them where they are `PAST`. Sentences state what is counted or computed from these.
    What is known as decayed sums only, of merchants, is said to be that. `rates` are the model's;
    `has_currencies` is whether what it was trained on named the currency of each amount.
    """

    payment: Mapping[str, Any]
    past: Sequence[Mapping[str, Any]]
    place: Mapping[str, int]
    now_F: Features
    past_KF: Features
    labels: tuple[int, int]
    rates: Rates | None
    has_currencies: bool

    def now(self, name: str) -> float:
        """A feature of the payment."""
        return float(self.now_F[self.place[name]])

    def of_merchants(self, name: str) -> tuple[list[float], str]:
        """A feature of each earlier payment that names a merchant, and these in words."""
        rows = [k for k, one in enumerate(self.past) if one.get("merchant_id") is not None]
        values: list[float] = self.past_KF[rows, self.place[name]].tolist()
        which = "" if len(rows) == len(self.past) else " that name one"
        return values, f"at the merchants of {_last(len(rows))}{which}"

    @property
    def is_first(self) -> bool:
        """Whether the account has no earlier payment."""
        return not self.past

    @property
    def last(self) -> str:
        """The earlier payments at hand, in words."""
        return _last(len(self.past))

    def ages_us(self) -> list[int]:
        """How long before this payment the earlier ones were, in microseconds, newest first."""
        now_us = self.payment["occurred_at_us"]
        return [now_us - one["occurred_at_us"] for one in self.past]

    @property
    def currency(self) -> str | None:
        """That of the payment; content from before there were currencies has none."""
        found: str | None = self.payment.get("currency")
        return found

    @cached_property
    def reference_amount(self) -> float | None:
        """The amount of the payment in the reference currency, if it has a rate."""
        return self._converted(self.payment)

    @cached_property
    def compared(self) -> Compared:
        """Amounts in the payment's own currency, or, where too few are, in the reference currency.

        Never amounts of several currencies as plain numbers.
        """
        amount = float(self.payment["amount"])
        aged = list(zip(self.ages_us(), self.past, strict=True))
        alike = [
            (age_us, float(one["amount"]))
            for age_us, one in aged
            if one.get("currency") == self.currency
        ]
        which = "" if len(alike) == len(aged) else f" in {self.currency or 'no currency'}"
        own = Compared(self.currency, amount, alike, which)
        reference_amount = self.reference_amount
        if len(alike) >= LEAST_ALIKE or reference_amount is None or self.rates is None:
            return own
        converted = [
            (age_us, value) for age_us, one in aged if (value := self._converted(one)) is not None
        ]
        if len(converted) == len(alike):
            return own
        which = "" if len(converted) == len(aged) else " in a currency with a rate"
        reference = self.rates.reference
        return Compared(reference, reference_amount, converted, which, f", {AT_RATES}")

    def _converted(self, payment: Mapping[str, Any]) -> float | None:
        if self.rates is None:
            return None
        return self.rates.converted(float(payment["amount"]), payment.get("currency"))


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
    content: str,
    contents: Sequence[str],
    features_F: Features,
    past_KF: Features,
    labels: tuple[int, int],
) -> list[Reason]:
    """Shares in words.

    `content` is the text of the payment and `contents` are those of the payments before it, newest
    first, whose features are `past_KF`; `labels` the account's fraud and legitimate labels.
    """
    past = list(map(_fields, contents))
    case = Case(
        *(_fields(content), past, _places(features), features_F, past_KF, labels),
        features.rates,
        features.spec.currency_column is not None,
    )
    return [Reason(code, *_told(code, case), share) for code, share in shares]


def _told(code: str, case: Case) -> tuple[str, Value, Value]:
    if code in TOLD:
        return TOLD[code](case)
    if code.startswith("attribute_"):
        return _attribute(code.removeprefix("attribute_"), case)
    return _category(code, case)


def _amount(case: Case) -> tuple[str, Value, Value]:
    compared = case.compared
    amount = compared.amount
    if case.is_first:
        return f"{_own_amount(case)}; {NO_EARLIER}", amount, None
    if not compared.earlier:
        return f"{_own_amount(case)}; {_none_in_currency(case)}", amount, None
    sentence = _own_amount(case, compared.currency)
    usual = _median(compared.within())
    median = f"the median {amount_of(usual, compared.currency)} of {compared.last}{compared.how}"
    if usual <= 0:
        return f"{sentence}, against {median}", amount, usual
    return f"{sentence}, {_figures(amount / usual)} times {median}", amount, usual


def _spending(case: Case) -> tuple[str, Value, Value]:
    if case.is_first:
        return NO_EARLIER, None, None
    compared = case.compared
    lately, currency = compared.within(MONTH_US), compared.currency
    if not compared.earlier:
        return _none_in_currency(case), None, None
    usual = _mean(compared.within())
    whole = f"{amount_of(usual, currency)} over {compared.last}{compared.how}"
    if len(case.past) == PAST and case.ages_us()[-1] <= MONTH_US:
        # What came before these may be of the last days, too.
        return f"average amount {whole}", usual, None
    if not lately:
        sentence = f"no payments{compared.which} in the 30 days before"
        return f"{sentence}; average amount {whole}", None, usual
    recent = _mean(lately)
    count = f"{_count(len(lately), 'payment')}{compared.which}"
    sentence = f"average amount {amount_of(recent, currency)} over {count} in the 30 days before"
    return f"{sentence}, {whole}", recent, usual


def _pace(case: Case) -> tuple[str, Value, Value]:
    ages_us = case.ages_us()
    lately = sum(age_us <= DAY_US for age_us in ages_us)
    counted = f"{_count(lately, 'payment')} in the 24 hours before"
    if lately == PAST:
        counted = f"at least {counted}"
    if case.is_first or ages_us[-1] < DAY_US:
        return counted, float(lately), None
    usual = len(ages_us) / (ages_us[-1] / DAY_US)
    return f"{counted}; {_figures(usual)} a day on average over {case.last}", float(lately), usual


def _gap(case: Case) -> tuple[str, Value, Value]:
    if case.is_first:
        return NO_EARLIER, None, None
    ages_us = case.ages_us()
    observed = ages_us[0] / HOUR_US
    sentence = f"{_duration(ages_us[0])} since this account's last earlier payment"
    gaps_us = [older - newer for newer, older in pairwise(ages_us)]
    if not gaps_us:
        return sentence, observed, None
    usual_us = _median(gaps_us)
    usual = f"the median time between {case.last} is {_duration(usual_us)}"
    return f"{sentence}; {usual}", observed, usual_us / HOUR_US


def _hour(case: Case) -> tuple[str, Value, Value]:
    now_us = case.payment["occurred_at_us"]
    clock = text_of(now_us)[11:16]
    if case.is_first:
        return f"at {clock} UTC; {NO_EARLIER}", clock, None
    apart_us = [(one["occurred_at_us"] - now_us) % DAY_US for one in case.past]
    near = sum(min(one, DAY_US - one) <= NEAR_US for one in apart_us)
    sentence = f"at {clock} UTC; {near} of {case.last} came within 2 hours of that time of day"
    return sentence, clock, near / len(case.past)


def _weekend(case: Case) -> tuple[str, Value, Value]:
    is_weekend = _is_weekend(case.payment)
    observed = "weekend" if is_weekend else "weekday"
    if case.is_first:
        return f"on a {observed} (UTC); {NO_EARLIER}", observed, None
    alike = sum(_is_weekend(one) == is_weekend for one in case.past)
    sentence = f"on a {observed} (UTC), as {alike} of {case.last}"
    return sentence, observed, alike / len(case.past)


def _merchant(case: Case) -> tuple[str, Value, Value]:
    merchant = case.payment.get("merchant_id")
    if merchant is None:
        return NO_MERCHANT, None, None
    if case.is_first:
        return f"merchant {merchant}; {NO_EARLIER}", merchant, None
    merchants = [one.get("merchant_id") for one in case.past]
    sentence = f"merchant {merchant}, in {merchants.count(merchant)} of {case.last}"
    return sentence, merchant, _most_usual(merchants)


def _merchant_amount(case: Case) -> tuple[str, Value, Value]:
    if case.payment.get("merchant_id") is None:
        return NO_MERCHANT, None, None
    currency, amount = case.currency, float(case.payment["amount"])
    if case.rates is not None:
        if (converted := case.reference_amount) is None:
            sentence = f"{currency or 'no currency'} has no rate to compare amounts by"
            return f"{_own_amount(case)}; {sentence}", amount, None
        currency, amount = case.rates.reference, converted
    elif case.has_currencies:
        sentence = "this model has no rates, so amounts at this merchant are not compared"
        return f"{_own_amount(case)}; {sentence}", amount, None
    if expm1(case.now("merchant_count_30d")) < LEAST_COUNT:
        sentence = "too few recent payments at this merchant to compare with"
        return f"{_own_amount(case)}; {sentence}", amount, None
    usual = expm1(case.now("merchant_log_amount_mean_30d"))
    # A sum of logarithms is not exact to the last minor unit.
    typical = f"typical at this merchant: about {amount_of(float(f'{usual:.3g}'), currency)}"
    weighed = "a geometric mean in which a payment counts half for every 30 days of age"
    how = f", {AT_RATES}" if case.rates is not None else ""
    return f"{_own_amount(case, currency)}; {typical} ({weighed}{how})", amount, usual


def _merchant_fraud(case: Case) -> tuple[str, Value, Value]:
    if case.payment.get("merchant_id") is None:
        return NO_MERCHANT, None, None
    name = "merchant_fraud_share_30d"
    share = case.now(name)
    sentence = f"frauds are {_figures(100 * share)} % of this merchant's confirmed labels"
    if case.now("merchant_frauds_30d") <= 0:
        sentence = "no confirmed fraud at this merchant lately"
    values, where = case.of_merchants(name)
    usual = _mean(values) if values else None
    if usual is not None:
        sentence = f"{sentence}; {where} they were {_figures(100 * usual)} % on average"
    weighed = "a label counts half for every 30 days of age"
    return f"{sentence} ({weighed})", share, usual


def _merchant_activity(case: Case) -> tuple[str, Value, Value]:
    if case.payment.get("merchant_id") is None:
        return NO_MERCHANT, None, None
    name = "merchant_count_7d"
    if case.now(name) <= 0:
        return "no recent payments at this merchant", 0.0, None
    rate = expm1(case.now(name)) * A_DAY
    sentence = f"{_count(_figures(rate), 'payment')} a day at this merchant lately"
    values, where = case.of_merchants(name)
    usual = _mean(list(map(expm1, values))) * A_DAY if values else None
    if usual is not None:
        sentence = f"{sentence}, {_figures(usual)} {where}"
    weighed = "averages in which a payment counts half for every 7 days of age"
    return f"{sentence} ({weighed})", rate, usual


def _labels(case: Case) -> tuple[str, Value, Value]:
    frauds, legitimates = case.labels
    said = f"{_count(frauds, 'fraud label')} and {_count(legitimates, 'legitimate label')}"
    return f"{said} move all of this account's scores", f"{frauds}+{legitimates}", None


def _attribute(name: str, case: Case) -> tuple[str, Value, Value]:
    value = _number(case.payment["attributes"].get(name))
    numbers = [_number(one["attributes"].get(name)) for one in case.past]
    known = [number for number in numbers if number is not None]
    if value is None:
        sentence = f"{name} missing"
        if case.past:
            sentence = f"{sentence}, as in {len(numbers) - len(known)} of {case.last}"
        return sentence, None, _median(known) if known else None
    sentence = f"{name} {_exact(value)}"
    if case.is_first:
        return f"{sentence}; {NO_EARLIER}", value, None
    if not known:
        return f"{sentence}; missing in {case.last}", value, None
    usual = _median(known)
    of_past = f"the median {_figures(usual)} of {_last(len(known))}"
    which = "" if len(known) == len(numbers) else " that have it"
    return f"{sentence}, against {of_past}{which}", value, usual


def _category(name: str, case: Case) -> tuple[str, Value, Value]:
    value = _category_of(name, case.payment)
    past = [_category_of(name, one) for one in case.past]
    usual = _most_usual(past)
    if value is None:
        sentence = f"{name} missing"
        if case.past:
            sentence = f"{sentence}, as in {past.count(None)} of {case.last}"
        if usual is not None:
            sentence = f"{sentence}; {usual} in {past.count(usual)}"
        return sentence, None, usual
    if case.is_first:
        return f"{name} {value}; {NO_EARLIER}", value, None
    return f"{name} {value}, in {past.count(value)} of {case.last}", value, usual


def _category_of(name: str, payment: Mapping[str, Any]) -> str | None:
    value = (payment if name in STANDARD_FIELDS else payment["attributes"]).get(name)
    # As the features spell it: 3 and 3.0 are one value.
    return None if value is None else category_text(value)


def _number(value: AttributeValue | None) -> float | None:
    """A numeric attribute as the features read it: text may be a number."""
    try:
        number = None if value is None else float(value)
    except ValueError:
        return None
    return number if number is not None and isfinite(number) else None


def _is_weekend(payment: Mapping[str, Any]) -> bool:
    # The epoch began on a Thursday.
    days: int = payment["occurred_at_us"] // DAY_US
    return (days + 3) % 7 >= 5


def _own_amount(case: Case, currency: str | None = None) -> str:
    """The amount of the payment, to the last digit, and what it is in another currency."""
    sentence = f"amount {posted_amount(Decimal(case.payment['amount']), case.currency)}"
    converted = case.reference_amount
    if currency in (None, case.currency) or converted is None:
        return sentence
    return f"{sentence} ({amount_of(converted, currency)})"


def _none_in_currency(case: Case) -> str:
    """Of some that are in others."""
    return f"none of {case.last} was in {case.currency or 'no currency'}"


def _last(count: int) -> str:
    return f"this account's last {_count(count, 'payment')}"


def _most_usual(values: Iterable[str | None]) -> str | None:
    counted = Counter(value for value in values if value is not None)
    return counted.most_common(1)[0][0] if counted else None


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values)


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    # Halves of numbers that could overflow if they were added.
    return ordered[middle] if len(ordered) % 2 else ordered[middle - 1] / 2 + ordered[middle] / 2


def _duration(us: float) -> str:
    """A time in the unit that people would choose."""
    for unit, of_us, least_us in UNITS:
        if us >= least_us:
            return _count(_figures(us / of_us), unit)
    return _count(_figures(us / SECOND_US), "second")


def _figures(value: float) -> str:
    """A number with at most three significant digits, without an exponent unless it is extreme."""
    text = f"{value:.3g}"
    return f"{Decimal(text):f}" if LEAST_PLAIN <= abs(value) < LONGEST_WHOLE else text


def _exact(value: float) -> str:
    """A number of the caller's own: whole ones as they are."""
    is_short = value.is_integer() and abs(value) < LONGEST_WHOLE
    return f"{value:.0f}" if is_short else _figures(value)


def _count(number: int | str, what: str) -> str:
    return f"{number} {what}{'' if str(number) == '1' else 's'}"


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
