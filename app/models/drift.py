"""Drift: how far a tenant's traffic is from what a checkpoint was trained on.

The population stability index of bins with shares p before and q now is the sum of
(q - p) ln(q / p): the symmetric Kullback-Leibler divergence (Kullback and Leibler, 1951) of the
two, 0 where they agree. By custom up to .1 is little and from .25 on is much.

Axes: N sampled transactions, F features, E + 1 bins.
"""

import asyncio
import contextlib
import json
import math
import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.db.database import Database
from app.jobs.aside import Aside, Crashed, Task
from app.learner.features import without_identities
from app.learner.profile import Histogram, Profile
from app.learner.scorer import Scorer
from app.learner.states import Floats, Ints
from app.learner.transaction import DAY_US
from app.models import drift_store
from app.models.drift_store import Sampled
from app.models.errors import ModelRefused, ModelUnavailable
from app.models.service import Models
from app.ops import metrics
from app.ops.background import BackgroundTask, InBackground, TaskHealth
from app.scoring.pipeline import Pipeline
from app.times import now_us

# So many transactions of a period are looked at, and so many make a day worth a figure.
SAMPLE, LEAST_OF_A_DAY = 20_000, 100
# Fewer frauds cannot show where they lie.
LEAST_FRAUDS = 30
DRIFTED = 0.2
# A share of frauds has changed by so much, either way, when it is also no accident.
RATE_CHANGE = 1.5
# Standard deviations: one figure in a thousand lies so far out by chance.
ACCIDENT = 3.1
# The gauges look back so far, every hour or so, first soon after the start.
WATCHED_DAYS, FIRST_SECONDS, EVERY_SECONDS = 28, 60, 3600
# A measurement reads a sample of each tenant's traffic.
LONGEST_MEASUREMENT_SECONDS = 900


class FeatureDrift(NamedTuple):
    """How far a feature, or the score, lies from the profile; None where there is too little.

    `psi` is of all transactions, `fraud_psi` of those labelled fraud, `by_day` of each day's.
    """

    name: str
    psi: float | None
    drifted: bool
    fraud_psi: float | None
    frauds_drifted: bool
    by_day: list[float | None]


class Day(NamedTuple):
    """A day (UTC) by the time of its transactions, with the labels they have by now."""

    start_us: int
    transactions: int
    labelled: int
    frauds: int


class FraudShare(NamedTuple):
    """The share of frauds among transactions old enough for their labels to have come.

    None without such transactions, or where none of them has a label.
    """

    trained: float
    now: float | None
    drifted: bool


class Drift(NamedTuple):
    """A tenant's traffic beside a profile."""

    profile: Profile
    transactions: int
    sampled: int
    days: list[Day]
    fraud_share: FraudShare
    score: FeatureDrift
    features: list[FeatureDrift]


class Gauges(NamedTuple):
    """What metrics show: the highest index of each name, and a ratio of shares of frauds."""

    indices: dict[str, float]
    fraud_ratio: float | None


class DriftGauges(InBackground):
    """Sets the gauges of drift, again and again while it is entered."""

    def __init__(self, aside: Aside) -> None:
        self._aside = aside
        self.health = TaskHealth("drift", longest_pause_seconds=EVERY_SECONDS)
        self._task = BackgroundTask(
            self.health, self._wait, self.measure, longest_seconds=LONGEST_MEASUREMENT_SECONDS
        )
        self._wait_seconds = FIRST_SECONDS

    async def _wait(self) -> None:
        # Processes that started together do not stay so.
        await asyncio.sleep(self._wait_seconds * random.uniform(0.5, 1.5))
        self._wait_seconds = EVERY_SECONDS

    async def measure(self) -> None:
        """Set the gauges by the tenants' active models. Raises Crashed."""
        computed = await self._aside.compute(Task("gauges"))
        if not computed.is_done:
            raise Crashed(computed.text)
        found = Gauges(**json.loads(computed.text))
        for name, index in found.indices.items():
            metrics.drift_psi.labels(name).set(index)
        if found.fraud_ratio is not None:
            metrics.drift_fraud_ratio.set(found.fraud_ratio)


class DriftService:
    """Sets stored traffic beside the profiles of checkpoints."""

    def __init__(self, database: Database, pipeline: Pipeline) -> None:
        self._database = database
        self._pipeline = pipeline

    @property
    def _models(self) -> Models:
        return self._pipeline.models

    async def of_model(self, tenant: str, name: str, days: int) -> Drift:
        """How far traffic is from a checkpoint's profile.

        Raises ModelNotFound, or ModelRefused for a checkpoint without a profile.
        """
        return await self._of(tenant, await self._models.load(name), days)

    async def gauges(self) -> Gauges:
        """How far the traffic of all tenants is, at most, from their active models' profiles."""
        async with self._database.read() as connection:
            tenants = await drift_store.tenants(connection)
        indices: dict[str, float] = {}
        ratios = []
        for tenant in tenants:
            # One whose model has no profile, or is gone, is no reason to leave out the others.
            with contextlib.suppress(ModelRefused, ModelUnavailable):
                async with self._database.read() as connection:
                    scorer = await self._models.active(connection, tenant)
                found = await self._of(tenant, scorer, WATCHED_DAYS)
                for column in (found.score, *found.features):
                    if column.psi is not None:
                        indices[column.name] = max(column.psi, indices.get(column.name, column.psi))
                if found.fraud_share.now is not None and found.fraud_share.trained:
                    ratios.append(found.fraud_share.now / found.fraud_share.trained)
        furthest = max(ratios, key=lambda ratio: abs(ratio - 1)) if ratios else None
        return Gauges(indices, furthest)

    async def _of(self, tenant: str, scorer: Scorer, days: int) -> Drift:
        profile = check_profile(scorer.profile, scorer.model)
        today = now_us() // DAY_US
        since_us = (today + 1 - days) * DAY_US
        async with self._database.read() as connection:
            counts = await drift_store.transactions_by_day(connection, tenant, since_us)
            labels = await drift_store.labels_by_day(connection, tenant, since_us)
            one_in = math.ceil(sum(counts.values()) / SAMPLE)
            rows = await drift_store.sampled(connection, tenant, since_us, one_in)
        by_day = [
            Day(day * DAY_US, counts[day], *labels.get(day, (0, 0))) for day in sorted(counts)
        ]
        return await asyncio.to_thread(self._measure, scorer, profile, by_day, rows)

    def _measure(
        self, scorer: Scorer, profile: Profile, days: list[Day], rows: Sequence[Sampled]
    ) -> Drift:
        features_NF = self._pipeline.matrix(row.features for row in rows)
        names, kinds = self._pipeline.features.names, self._pipeline.features.kinds
        sample = _Sample(profile.accounts, days, rows)
        by_model = [n for n, row in enumerate(rows) if row.model == scorer.model]
        of_score = _Sample(profile.accounts, days, [rows[n] for n in by_model])
        probability_N = np.array([rows[n].probability for n in by_model])
        label_delay_us = scorer.spec.label.delay_us
        return Drift(
            profile,
            sum(day.transactions for day in days),
            len(rows),
            days,
            _fraud_share(profile, [d for d in days if d.start_us < now_us() - label_delay_us]),
            of_score.measure("score", profile.score, probability_N),
            [
                sample.measure(names[f], profile.features[names[f]], features_NF[:, f])
                for f in without_identities(kinds)
            ],
        )


class _Sample:
    """Sampled transactions, and which of them belong together."""

    def __init__(self, trained: int, days: Sequence[Day], rows: Sequence[Sampled]) -> None:
        self._day_N = np.array([row.occurred_at_us // DAY_US * DAY_US for row in rows], np.int64)
        self._days = [day.start_us for day in days]
        self._is_fraud_N = np.array([row.is_fraud is True for row in rows], np.bool_)
        # Transactions of one account resemble each other: accounts are what was drawn by chance.
        self._trained = trained
        self._accounts = len({row.account_id for row in rows})
        self._with_fraud = len({row.account_id for row in rows if row.is_fraud})

    def measure(
        self, name: str, histogram: Histogram, value_N: NDArray[np.floating]
    ) -> FeatureDrift:
        """A feature's, or the score's, values beside their histogram of before."""
        before_E = np.array(histogram.counts)
        frauds_E = np.array(histogram.frauds)
        now_E = histogram.count(value_N)
        frauds_now_E = histogram.count(value_N[self._is_fraud_N])
        found = psi(before_E, now_E) if len(value_N) >= LEAST_OF_A_DAY else None
        of_frauds = None
        if min(frauds_E.sum(), frauds_now_E.sum()) >= LEAST_FRAUDS:
            of_frauds = psi(frauds_E, frauds_now_E)
        return FeatureDrift(
            name,
            found,
            found is not None
            and found >= max(DRIFTED, by_chance(before_E, self._trained, self._accounts)),
            of_frauds,
            of_frauds is not None
            and of_frauds
            >= max(DRIFTED, by_chance(frauds_E, int(frauds_E.sum()), self._with_fraud)),
            [self._of_day(before_E, histogram, value_N[self._day_N == day]) for day in self._days],
        )

    def _of_day(
        self, before_E: Ints, histogram: Histogram, value_N: NDArray[np.floating]
    ) -> float | None:
        return psi(before_E, histogram.count(value_N)) if len(value_N) >= LEAST_OF_A_DAY else None


def check_profile(profile: Profile | None, model: str) -> Profile:
    """The profile of a model; raises ModelRefused where it has none."""
    if profile is None:
        raise ModelRefused(
            f"Model {model!r} was trained before checkpoints had a profile to measure drift from: "
            "train it anew."
        )
    return profile


def psi(before_E: Ints, now_E: Ints) -> float:
    """The population stability index of two counts by bin.

    Half a transaction is added to every bin (Krichevsky and Trofimov, 1981), as an empty one
    would make it infinite.
    """
    p_E, q_E = _shares(before_E), _shares(now_E)
    return float(((q_E - p_E) * np.log(q_E / p_E)).sum())


def by_chance(before_E: Ints, before: int, now: int) -> float:
    """How high an index is by chance, once in a thousand, of so many independent draws.

    Without drift it is (1 / before + 1 / now) times a chi-square variable with one degree of
    freedom less than there are bins (Yurdakul, 2018), whose quantile is that of Wilson and
    Hilferty (1931).
    """
    free = max(int((before_E > 0).sum()) - 1, 1)
    cube_root = 1 - 2 / (9 * free) + ACCIDENT * math.sqrt(2 / (9 * free))
    return (1 / max(before, 1) + 1 / max(now, 1)) * free * cube_root**3


def _shares(count_E: Ints) -> Floats:
    share_E: Floats = (count_E + 0.5) / (count_E + 0.5).sum()
    return share_E


def _fraud_share(profile: Profile, days: Sequence[Day]) -> FraudShare:
    trained = profile.frauds / profile.transactions
    count = sum(day.transactions for day in days)
    if not any(day.labelled for day in days):
        return FraudShare(trained, None, False)
    now = sum(day.frauds for day in days) / count
    pooled = (now * count + profile.frauds) / (count + profile.transactions)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / count + 1 / profile.transactions))
    is_change = now >= RATE_CHANGE * trained or now <= trained / RATE_CHANGE
    return FraudShare(trained, now, is_change and abs(now - trained) > ACCIDENT * spread)
