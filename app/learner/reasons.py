"""Reasons: the shares of a score by code, each with what was observed and what is usual.

A code stands for the features of one thing; docs/reasons.md says what each means. The
usual values are those of the account's own payments before this one.
"""

import re
from bisect import bisect_right
from collections import Counter, defaultdict
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
from app.learner.features import Features, FeatureSet, without_identities
from app.learner.kernels.features import CODE
from app.learner.likeness import LabelledPayments, MostAlike, fields_of, most_alike
from app.learner.money import Rates, amount_of, posted_amount
from app.learner.states import Ints
from app.learner.transaction import (
    DAY_US,
    ENTITY_FIELDS,
    HOUR_US,
    SECOND_US,
    STANDARD_FIELDS,
    AttributeValue,
    category_text,
    figure,
)
from app.times import text_of

# Payments that an account's usual values are taken from, and reasons that come with a score.
PAST = 32
MOST_REASONS = 5
# In log-odds, a hundredth of the odds: what raises a score by less is nobody's reason.
LEAST_SHARE = 0.01
LABELS = "labels"
NEW_ACCOUNT = "new_account"
NO_EARLIER = "this account has no earlier payments"
MONTH_US, NEAR_US, MOMENT_US = 30 * DAY_US, 2 * HOUR_US, 300 * SECOND_US
# Payments a day that a sum of a half-life of 30 days stands for.
A_DAY = log(2) / 30
# An entity's payments, decayed, from which a typical amount can be stated.
LEAST_COUNT = 0.5
# Payments in one currency that are enough to compare with, where others are in another.
LEAST_ALIKE = 3
AT_RATES = "at the model's rates"
# Numbers beyond these have an exponent.
LEAST_PLAIN, LONGEST_WHOLE = 1e-6, 1e15
# What is left of a decayed sum, below which nobody needs to know how little.
LEAST_LEFT = 1e-3
# The gap of an entity is a year where it is longer; as a feature it is exact to some seconds.
NEARLY_A_YEAR_US = 365 * DAY_US - 300 * SECOND_US
# Of times: a unit, how long it is, and from which time on it is used.
UNITS = (
    ("day", DAY_US, 2 * DAY_US),
    ("hour", HOUR_US, 2 * HOUR_US),
    ("minute", 60 * SECOND_US, 120 * SECOND_US),
)

# What people call a kind of entity, and where its payments are; others are their own name.
NOUNS = {"ip": "IP address", "email": "e-mail address"}
# The same of categories, where several stand in a row.
CATEGORY_NOUNS = {"merchant_category": "category"}
PLACES = {"merchant": "at", "device": "from", "ip": "from"}

Value = float | str | None
# The sentence of a reason, what was observed, and what is usual.
Words = tuple[str, Value, Value]


class Reason(NamedTuple):
    """What a score rests on. `share` is in calibrated log-odds; above 0 it raises the risk.

    `labelled_payment` is the one that a sentence about labels names.
    """

    code: str
    sentence: str
    observed: Value
    usual: Value
    share: float
    labelled_payment: MostAlike | None = None

    def rounded(self) -> "Reason":
        """Its figures as they are answered."""
        return self._replace(
            observed=_figure(self.observed), usual=_figure(self.usual), share=figure(self.share)
        )

    def answered(self) -> dict[str, Any]:
        """As it is answered and stored: figures rounded, a labelled payment only if it has one."""
        fields = self.rounded()._asdict()
        labelled = fields.pop("labelled_payment")
        if labelled is not None:
            fields["labelled_payment"] = {
                "transaction_id": labelled.transaction_id,
                "label": "fraud" if labelled.is_fraud else "legitimate",
                "labelled_at": text_of(labelled.labelled_at_us),
                "in_common": list(labelled.in_common),
            }
        return fields


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

    `past` are the earlier payments at hand, newest first, as fields of their content; there may be
    more of them where it `has_more`. Sentences state what is counted or computed from these. What
    is known as decayed sums only, of entities, is called that. `rates` are the model's;
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
    has_more: bool

    def now(self, name: str) -> float:
        """A feature of the payment."""
        return float(self.now_F[self.place[name]])

    def of_entities(self, kind: str, name: str) -> tuple[list[float], str]:
        """A feature of each earlier payment that names an entity, and these in words."""
        rows = [k for k, id_ in enumerate(self.entities(kind)) if id_ is not None]
        values: list[float] = self.past_KF[rows, self.place[name]].tolist()
        which = "" if len(rows) == len(self.past) else " that name one"
        return values, f"the {_plural(_noun(kind))} of {_last(len(rows))}{which}"

    def entity(self, kind: str) -> str | None:
        """The merchant, the device, … of the payment."""
        return _entity(kind, self.payment)

    def entities(self, kind: str) -> list[str | None]:
        """The same of the earlier payments."""
        return [_entity(kind, payment) for payment in self.past]

    def is_known(self, kind: str) -> bool:
        """Whether any account had used the merchant, the device, … before this payment."""
        return self.entity(kind) is not None and round(expm1(self.now(f"{kind}_accounts_ever"))) > 0

    def counted(self, number: int, within_us: int, what: str) -> str:
        """A number of earlier payments of so long before, where there may be more of them."""
        is_all = not self.has_more or self.ages_us()[-1] > within_us
        return f"{'' if is_all else 'at least '}{_count(number, what)}"

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
        return [now_us - payment["occurred_at_us"] for payment in self.past]

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
            (age_us, float(payment["amount"]))
            for age_us, payment in aged
            if payment.get("currency") == self.currency
        ]
        which = "" if len(alike) == len(aged) else f" in {self.currency or 'no currency'}"
        own = Compared(self.currency, amount, alike, which)
        reference_amount = self.reference_amount
        if len(alike) >= LEAST_ALIKE or reference_amount is None or self.rates is None:
            return own
        converted = [
            (age_us, value)
            for age_us, payment in aged
            if (value := self._converted(payment)) is not None
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


# Words about entities of a kind: a sentence, what was observed, what is usual.
WordsOfKind = Callable[[str, Case], Words]


# Risky payments of an account come in bursts, and have nearly the same past.
@lru_cache(maxsize=4096)
def _fields(content: str) -> dict[str, Any]:
    fields: dict[str, Any] = from_json(content)
    return fields


@cache
def code_of(name: str, categories: tuple[str, ...], kinds: tuple[str, ...]) -> str:
    """The code of a feature; raises ValueError for one that nobody has given a code.

    `kinds` are those of entities.
    """
    for kind in kinds:
        if re.fullmatch(rf"account_new_{kind}_\d+[hd]", name):
            return f"account_new_{kind}"
        for of_kind, pattern, _ in CODES_OF_KIND:
            if re.fullmatch(f"{kind}_({pattern})", name):
                return f"{kind}{of_kind}"
    for category in categories:
        of_category = rf"account_{re.escape(category)}_(novelty|novelty_1h|distinct_1h)"
        if name == f"{category}{CODE}" or re.fullmatch(of_category, name):
            return category
    if found := re.fullmatch(r"(attribute_\w+?)(_missing)?", name):
        return found[1]
    for code, pattern, _ in CODES:
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
    codes, coded, code_G = _codes(features)
    share_G = attribution.share_F[coded]
    shares = list(map(Share, codes, (slope * np.bincount(code_G, share_G)).tolist()))
    if has_labels:
        shares.append(Share(LABELS, slope * attribution.labels))
    return sorted(shares, key=lambda share: -share.share)


@cache
def _codes(features: FeatureSet) -> tuple[Sequence[str], Ints, Ints]:
    """The codes there are, the positions of the G features that have one, and which each has."""
    spec, coded = features.spec, without_identities(features.kinds)
    names = [features.names[f] for f in coded]
    of_each = [code_of(name, spec.categorical_names, spec.entity_names) for name in names]
    codes = list(dict.fromkeys(of_each))
    code_G = np.array([codes.index(code) for code in of_each], np.int64)
    return codes, np.array(coded, np.int64), code_G


@cache
def _places(features: FeatureSet) -> dict[str, int]:
    return {name: f for f, name in enumerate(features.names)}


def _figure(value: Value) -> Value:
    return figure(value) if isinstance(value, float) else value


def raising(shares: Sequence[Share]) -> list[Share]:
    """The few that raise a score most."""
    return [share for share in shares if share.share >= LEAST_SHARE][:MOST_REASONS]


def worded_reasons(
    shares: Sequence[Share],
    features: FeatureSet,
    content: str,
    contents: Sequence[str],
    features_F: Features,
    past_KF: Features,
    labels: tuple[int, int],
    labelled: LabelledPayments | None = None,
    *,
    few: bool = False,
) -> list[Reason]:
    """Shares in words, the largest first; of `few`, those alone that raise the score most.

    `content` is the text of the payment and `contents` are those of the payments before it, newest
    first, whose features are `past_KF`; `labels` the account's fraud and legitimate labels, and
    `labelled` the payments of those that its copy learns from.
    """
    fields = list(map(_fields, contents))
    # A refund is no payment of the account.
    rows = [k for k, payment in enumerate(fields) if payment.get("type") != "refund"]
    past = [fields[k] for k in rows]
    case = Case(
        *(_fields(content), past, _places(features), features_F, past_KF[rows], labels),
        features.rates,
        features.spec.has_currencies,
        has_more=len(fields) == PAST and bool(past),
    )
    kinds = features.spec.entity_names
    joined, of_kinds = _joined(shares, case, kinds), _of_kinds(kinds)
    chosen = raising(joined) if few else joined
    reasons = [Reason(code, *_worded(code, case, of_kinds), share) for code, share in chosen]
    if labelled is None:
        return reasons
    return [
        _naming(reason, features, features_F, labelled) if reason.code == LABELS else reason
        for reason in reasons
    ]


def _joined(shares: Sequence[Share], case: Case, kinds: Sequence[str]) -> list[Share]:
    """The shares, the largest first, where codes that would say the same have one together.

    Of an account without a past, and of an entity that nobody has used or that is not named, each
    of their codes says just that.
    """
    stands_in: dict[str, str] = {}
    if case.is_first:
        of_past = [*CODES_OF_PAST, *(f"account_new_{kind}" for kind in kinds)]
        stands_in |= dict.fromkeys(of_past, NEW_ACCOUNT)
    for kind in kinds:
        if not case.is_known(kind):
            stands_in |= {f"{kind}{of_kind}": kind for of_kind, *_ in CODES_OF_KIND}
    sums: dict[str, float] = defaultdict(float)
    for code, share in shares:
        sums[stands_in.get(code, code)] += share
    return sorted((Share(code, share) for code, share in sums.items()), key=lambda s: -s.share)


@cache
def _of_kinds(kinds: tuple[str, ...]) -> dict[str, tuple[str, WordsOfKind]]:
    """The codes of entities of these kinds, each with its kind and what words it."""
    each = [
        (f"{kind}{of_kind}", kind, words) for kind in kinds for of_kind, _, words in CODES_OF_KIND
    ]
    each += [(f"account_new_{kind}", kind, _new_entities) for kind in kinds]
    return {code: (kind, words) for code, kind, words in each}


def _worded(code: str, case: Case, of_kinds: Mapping[str, tuple[str, WordsOfKind]]) -> Words:
    if code in of_kinds:
        kind, words = of_kinds[code]
        return words(kind, case)
    if code in WORDED:
        return WORDED[code](case)
    if code.startswith("attribute_"):
        return _attribute(code.removeprefix("attribute_"), case)
    return _category(code, case)


def _amount(case: Case) -> Words:
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


def _new_account(case: Case) -> Words:
    return NO_EARLIER, 0.0, None


def _spending(case: Case) -> Words:
    compared = case.compared
    lately, currency = compared.within(MONTH_US), compared.currency
    if not compared.earlier:
        return _none_in_currency(case), None, None
    usual = _mean(compared.within())
    whole = f"{amount_of(usual, currency)} over {compared.last}{compared.how}"
    if case.has_more and case.ages_us()[-1] <= MONTH_US:
        # What came before these may be of the last days, too.
        return f"average amount {whole}", usual, None
    if not lately:
        sentence = f"no payments{compared.which} in the 30 days before"
        return f"{sentence}; average amount {whole}", None, usual
    recent = _mean(lately)
    count = f"{_count(len(lately), 'payment')}{compared.which}"
    sentence = f"average amount {amount_of(recent, currency)} over {count} in the 30 days before"
    return f"{sentence}, {whole}", recent, usual


def _pace(case: Case) -> Words:
    ages_us = case.ages_us()
    lately = sum(age_us <= DAY_US for age_us in ages_us)
    counted = f"{case.counted(lately, DAY_US, 'payment')} in the 24 hours before"
    if ages_us[-1] < DAY_US:
        return counted, float(lately), None
    usual = len(ages_us) / (ages_us[-1] / DAY_US)
    return f"{counted}; {_figures(usual)} a day on average over {case.last}", float(lately), usual


def _burst(case: Case) -> Words:
    ages_us = case.ages_us()
    lately = sum(age_us <= HOUR_US for age_us in ages_us)
    moment = sum(age_us <= MOMENT_US for age_us in ages_us)
    counted = f"{case.counted(lately, HOUR_US, 'attempt')} in the hour before"
    if moment:
        counted = f"{counted}, {moment} of them in the last 5 minutes"
    # Of those whose hour before is all at hand.
    of_each = [
        bisect_right(ages_us, age_us + HOUR_US) - bisect_right(ages_us, age_us)
        for age_us in ages_us
        if not case.has_more or ages_us[-1] - age_us > HOUR_US
    ]
    if not of_each:
        return counted, float(lately), None
    usual = _median(of_each)
    of_past = case.last if len(of_each) == len(ages_us) else f"{len(of_each)} of {case.last}"
    return f"{counted}; the median before {of_past} is {_figures(usual)}", float(lately), usual


def _refused(case: Case) -> Words:
    lately = expm1(case.now("account_refused_1d"))
    if lately <= 0:
        return "no attempt of this account was declined or held up lately", 0.0, None
    sentence = f"{_count(_left(lately), 'attempt')} of this account declined or held up lately"
    return f"{sentence} (an attempt counts half for every 24 hours of age)", lately, None


def _gap(case: Case) -> Words:
    ages_us = case.ages_us()
    observed = ages_us[0] / HOUR_US
    sentence = f"{_duration(ages_us[0])} since this account's last earlier payment"
    gaps_us = [older - newer for newer, older in pairwise(ages_us)]
    if not gaps_us:
        return sentence, observed, None
    usual_us = _median(gaps_us)
    usual = f"the median time between {case.last} is {_duration(usual_us)}"
    return f"{sentence}; {usual}", observed, usual_us / HOUR_US


def _hour(case: Case) -> Words:
    now_us = case.payment["occurred_at_us"]
    clock = text_of(now_us)[11:16]
    if case.is_first:
        return f"at {clock} UTC; {NO_EARLIER}", clock, None
    apart_us = [(payment["occurred_at_us"] - now_us) % DAY_US for payment in case.past]
    near = sum(min(distance_us, DAY_US - distance_us) <= NEAR_US for distance_us in apart_us)
    sentence = f"at {clock} UTC; {near} of {case.last} came within 2 hours of that time of day"
    return sentence, clock, near / len(case.past)


def _weekend(case: Case) -> Words:
    is_weekend = _is_weekend(case.payment)
    observed = "weekend" if is_weekend else "weekday"
    if case.is_first:
        return f"on a {observed} (UTC); {NO_EARLIER}", observed, None
    alike = sum(_is_weekend(payment) == is_weekend for payment in case.past)
    sentence = f"on a {observed} (UTC), as {alike} of {case.last}"
    return sentence, observed, alike / len(case.past)


def _entity_used(kind: str, case: Case) -> Words:
    id_, past = case.entity(kind), case.entities(kind)
    if id_ is None:
        sentence = f"no {_noun(kind)} named"
        if past:
            sentence = f"{sentence}, as in {past.count(None)} of {case.last}"
        return sentence, None, _most_usual(past)
    sentence = f"{_noun(kind)} {id_}"
    if not case.is_known(kind):
        return f"{sentence}; used by no account before", id_, _most_usual(past)
    if case.is_first:
        return f"{sentence}; {NO_EARLIER}", id_, None
    sentence = f"{sentence}, in {past.count(id_)} of {case.last}"
    if case.now(f"{kind}_used") > 0:
        since_us = expm1(case.now(f"{kind}_since")) * HOUR_US
        sentence = f"{sentence}; first used by this account {_duration(since_us)} before"
    elif id_ not in past:
        sentence = f"{sentence}; never used by this account before"
    return sentence, id_, _most_usual(past)


def _entity_accounts(kind: str, case: Case) -> Words:
    name, noun = f"{kind}_accounts_ever", _noun(kind)
    count = round(expm1(case.now(name)))
    lately = expm1(case.now(f"{kind}_accounts_1d"))
    values, which = case.of_entities(kind, name)
    usual = _median([float(round(expm1(value))) for value in values]) if values else None
    among = ", this one among them," if case.now(f"{kind}_used") > 0 and count > 1 else ""
    sentence = f"{_count(_figures(count), 'account')}{among} used this {noun} before"
    sentence = f"{sentence}, {_left(lately)} for the first time lately"
    if usual is not None:
        sentence = f"{sentence}; the median of {which} was {_figures(usual)}"
    return f"{sentence} (a first time counts half for every 24 hours of age)", float(count), usual


def _entity_activity(kind: str, case: Case) -> Words:
    name, here = f"{kind}_count_30d", _here(kind)
    if case.now(name) <= 0:
        return f"no recent payments {here}", 0.0, None
    rate, lately = expm1(case.now(name)) * A_DAY, expm1(case.now(f"{kind}_count_1h"))
    sentence = f"{_count(_left(lately), 'payment')} {here} lately"
    if (since_us := expm1(case.now(f"{kind}_gap")) * SECOND_US) > 0:
        at_least = "at least " if since_us > NEARLY_A_YEAR_US else ""
        sentence = f"{sentence}, the last {at_least}{_duration(since_us)} before"
    sentence = f"{sentence}; {_left(rate)} a day over longer"
    values, which = case.of_entities(kind, name)
    usual = _mean(list(map(expm1, values))) * A_DAY if values else None
    if usual is not None:
        sentence = f"{sentence}, {_left(usual)} {_place(kind)} {which}"
    weighed = "a payment counts half for every hour of age, over longer for every 30 days"
    return f"{sentence} ({weighed})", rate, usual


def _entity_amount(kind: str, case: Case) -> Words:
    currency, amount = case.currency, float(case.payment["amount"])
    if case.rates is not None:
        if (converted := case.reference_amount) is None:
            sentence = f"{currency or 'no currency'} has no rate to compare amounts by"
            return f"{_own_amount(case)}; {sentence}", amount, None
        currency, amount = case.rates.reference, converted
    elif case.has_currencies:
        sentence = f"this model has no rates, so amounts {_here(kind)} are not compared"
        return f"{_own_amount(case)}; {sentence}", amount, None
    usual = expm1(case.now(f"{kind}_log_amount_mean_30d"))
    # Amounts without a rate are counted among the payments, and are in no mean.
    if expm1(case.now(f"{kind}_count_30d")) < LEAST_COUNT or usual <= 0:
        sentence = f"too few recent amounts {_here(kind)} to compare with"
        return f"{_own_amount(case, currency)}; {sentence}", amount, None
    # A sum of logarithms is not exact to the last minor unit.
    typical = f"typical {_here(kind)}: about {amount_of(float(f'{usual:.3g}'), currency)}"
    weighed = "a geometric mean in which a payment counts half for every 30 days of age"
    how = f", {AT_RATES}" if case.rates is not None else ""
    return f"{_own_amount(case, currency)}; {typical} ({weighed}{how})", amount, usual


def _entity_fraud(kind: str, case: Case) -> Words:
    name, noun = f"{kind}_fraud_share_30d", _noun(kind)
    share = case.now(name)
    sentence = f"frauds are {_left(100 * share)} % of the confirmed labels of this {noun}"
    if case.now(f"{kind}_frauds_30d") <= 0:
        sentence = f"no confirmed fraud {_here(kind)} lately"
    values, which = case.of_entities(kind, name)
    usual = _mean(values) if values else None
    if usual is not None:
        sentence = f"{sentence}; of {which}, frauds were {_left(100 * usual)} % on average"
    weighed = "a label counts half for every 30 days of age"
    return f"{sentence} ({weighed})", share, usual


def _new_entities(kind: str, case: Case) -> Words:
    used_K = case.past_KF[:, case.place[f"{kind}_used"]].tolist()
    rows = zip(case.ages_us(), case.entities(kind), used_K, strict=True)
    new = {id_ for age_us, id_, used in rows if age_us <= DAY_US and not used} - {None}
    counted = case.counted(len(new), DAY_US, _noun(kind))
    return f"{counted} first used by this account in the 24 hours before", float(len(new)), None


def _noun(kind: str) -> str:
    return NOUNS.get(kind, kind.replace("_", " "))


def _plural(noun: str) -> str:
    return f"{noun}{'es' if noun.endswith('s') else 's'}"


def _place(kind: str) -> str:
    return PLACES.get(kind, "with")


def _here(kind: str) -> str:
    return f"{_place(kind)} this {_noun(kind)}"


def _entity(kind: str, payment: Mapping[str, Any]) -> str | None:
    field = ENTITY_FIELDS.get(kind)
    found: str | None = (
        payment.get("entities", {}).get(kind) if field is None else payment.get(field)
    )
    return found


def _labels(case: Case) -> Words:
    frauds, legitimates = case.labels
    counted = f"{_count(frauds, 'fraud label')} and {_count(legitimates, 'legitimate label')}"
    return f"{counted} move all of this account's scores", f"{frauds}+{legitimates}", None


def _naming(
    reason: Reason, features: FeatureSet, features_F: Features, labelled: LabelledPayments
) -> Reason:
    """A reason about labels with the labelled payment that this one is most like.

    Of frauds where labels raise the risk, of legitimate payments where they lower it; without one
    the reason stays as it is. Where labels hardly move the risk, they lean on none.
    """
    if abs(reason.share) < LEAST_SHARE:
        return reason
    found = most_alike(fields_of(features), features_F, labelled, is_fraud=reason.share > 0)
    if found is None:
        return reason
    verdict = "reported as fraud" if found.is_fraud else "confirmed as legitimate"
    on = text_of(found.labelled_at_us)[:10]
    nouns = [CATEGORY_NOUNS.get(name) or _noun(name) for name in found.in_common]
    sentence = f"like {found.transaction_id}, {verdict} on {on}: same {_listed(nouns)}"
    return reason._replace(sentence=sentence, labelled_payment=found)


def _attribute(name: str, case: Case) -> Words:
    value = _number(case.payment["attributes"].get(name))
    numbers = [_number(payment["attributes"].get(name)) for payment in case.past]
    present = [number for number in numbers if number is not None]
    if value is None:
        sentence = f"{name} missing"
        if case.past:
            sentence = f"{sentence}, as in {len(numbers) - len(present)} of {case.last}"
        return sentence, None, _median(present) if present else None
    sentence = f"{name} {_exact(value)}"
    if case.is_first:
        return f"{sentence}; {NO_EARLIER}", value, None
    if not present:
        return f"{sentence}; missing in {case.last}", value, None
    usual = _median(present)
    of_past = f"the median {_figures(usual)} of {_last(len(present))}"
    which = "" if len(present) == len(numbers) else " that have it"
    return f"{sentence}, against {of_past}{which}", value, usual


def _category(name: str, case: Case) -> Words:
    value = _category_of(name, case.payment)
    past = [_category_of(name, payment) for payment in case.past]
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
    sentence = f"{name} {value}, in {past.count(value)} of {case.last}"
    lately = {
        category for category, age_us in zip(past, case.ages_us(), strict=True) if age_us <= HOUR_US
    }
    if len(lately - {None}) > 1:
        counted = case.counted(len(lately - {None}), HOUR_US, "value")
        sentence = f"{sentence}; {counted} in the hour before"
    return sentence, value, usual


def _category_of(name: str, payment: Mapping[str, Any]) -> str | None:
    if name == "type":
        # A payment is not called one.
        return str(payment.get("type", "payment"))
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


def _left(value: float) -> str:
    """What is left of a decayed sum, or a share or a rate by it."""
    return f"less than {LEAST_LEFT}" if 0 < value < LEAST_LEFT else _figures(value)


def _exact(value: float) -> str:
    """A number of the caller's own: whole ones as they are."""
    is_short = value.is_integer() and abs(value) < LONGEST_WHOLE
    return f"{value:.0f}" if is_short else _figures(value)


def _listed(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _count(number: int | str, what: str) -> str:
    return f"{number} {what if str(number) == '1' else _plural(what)}"


# Each code, the features that it stands for, and what puts it into words. Of several patterns that
# fit a feature the first counts; the rest are named in `code_of`. An identity has no code: it is no
# feature of the trunk, and no share is its own.
CODES: tuple[tuple[str, str, Callable[[Case], Words]], ...] = (
    ("amount", r"log_amount|amount_missing|account_amount_(z|ratio)_\d+d", _amount),
    ("account_spending", r"account_(log_amount_(mean|spread)|mean_amount)_\d+d", _spending),
    ("account_pace", r"account_count_\d+d", _pace),
    ("account_burst", r"account_(attempts|attempted|burst_z)_\w+", _burst),
    ("account_refused", r"account_refused_\w+", _refused),
    ("account_gap", r"account_gap", _gap),
    ("hour", r"hour_sin|hour_cos|account_hour_habit", _hour),
    ("weekend", r"weekend", _weekend),
)
# The same of each kind of entity: after its name, what follows it in a code and in its features.
CODES_OF_KIND: tuple[tuple[str, str, WordsOfKind], ...] = (
    ("", r"missing|used|since", _entity_used),
    ("_accounts", r"accounts_\w+", _entity_accounts),
    ("_activity", r"gap|count_\w+", _entity_activity),
    ("_amount", r"(log_amount_mean|amount_z)_\w+", _entity_amount),
    ("_fraud", r"(fraud_share|frauds)_\w+", _entity_fraud),
)
# Those that say nothing where there is none.
CODES_OF_PAST = [code for code, *_ in CODES if code.startswith("account_")]
WORDED = {code: words for code, _, words in CODES} | {LABELS: _labels, NEW_ACCOUNT: _new_account}
