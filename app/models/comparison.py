"""Shadow: what a checkpoint would have decided on the traffic that the active one decided on.

A score is a function of the checkpoint, the labels of its moment and the features stored with it.
So the shadow's score of any stored transaction can be computed when somebody asks, on the labels
that were known then: nothing runs beside the live traffic that could slow it or break it.

Axes: N transactions.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from app.audit import store as audit_store
from app.audit.entries import Action, entry
from app.db.connection import Connection
from app.db.database import Database
from app.labels import store as label_store
from app.labels.records import SupportRow
from app.learner.decisions import Decision, log_odds
from app.learner.scorer import Scorer
from app.learner.states import Floats
from app.learner.transaction import DAY_US
from app.models import store as model_store
from app.models.errors import ModelRefused
from app.models.records import KeptCheckpoint, ModelChange
from app.models.schemas import ModelComparison
from app.models.service import Models, Role
from app.models.shelf import Shelved
from app.scoring import store as transaction_store
from app.scoring.pipeline import Deciding, Pipeline
from app.scoring.records import Scored
from app.scoring.store import Filters
from app.thresholds import store as threshold_store
from app.times import now_us
from app.webhooks.store import announce

# The newest transactions are compared, of so many accounts with labels at once.
COMPARED, TOGETHER = 5000, 64
# Fewer frauds cannot show which of two models finds them.
LEAST_FRAUDS = 10


class Quality(NamedTuple):
    """How a model fares on labelled transactions; None where nothing can be divided by.

    Held up are those to be reviewed or declined.
    """

    held_up: int
    precision: float | None
    recall: float | None
    average_precision: float | None


class Comparison(NamedTuple):
    """What the active model answered, beside what the other would have.

    `outcomes` counts pairs of outcomes, the active one's first; `shift` is the mean absolute
    difference of log-odds.
    """

    transactions: int
    since_us: int
    agreement: float | None
    outcomes: dict[tuple[str, str], int]
    shift: float | None
    frauds: int
    legitimates: int
    active: Quality
    shadow: Quality
    digest: str
    active_digest: str

    @property
    def is_better(self) -> bool | None:
        """Whether the shadow ranks labelled frauds at least as high; None with too few of them."""
        ours, theirs = self.active.average_precision, self.shadow.average_precision
        if self.frauds < LEAST_FRAUDS or not self.legitimates or ours is None or theirs is None:
            return None
        return theirs >= ours


class CopyRows(NamedTuple):
    """Rows that one copy decides, and the labels that it had learned."""

    support: list[SupportRow]
    rows: list[Scored]


class Roles(NamedTuple):
    """Which checkpoints a tenant has to do with: those on the shelf, the active and the shadow."""

    shelf: Sequence[Shelved]
    active: str
    active_digest: str
    shadow: ModelChange | None


class ShadowService:
    """Gives checkpoints their roles for a tenant, and compares them."""

    def __init__(self, database: Database, pipeline: Pipeline) -> None:
        self._database = database
        self._pipeline = pipeline

    @property
    def _models(self) -> Models:
        return self._pipeline.models

    async def roles(self, tenant: str) -> Roles:
        """What there is, and what it does."""
        async with self._database.read() as connection:
            active = await model_store.model_change(connection, tenant, "active")
            shadow = await model_store.model_change(connection, tenant, "shadow")
        name = active.name if active and active.name else self._models.shelf.default_name
        digest = active.digest if active and active.digest else self._models.default.digest
        tried = None if shadow is None else shadow.name
        shelved = await self._models.shelf.shelved([name] if tried is None else [name, tried])
        return Roles(shelved, name, digest, None if tried is None else shadow)

    async def activate(self, tenant: str, name: str) -> None:
        """Let a checkpoint decide from the next batch on. Raises ModelNotFound or ModelRefused."""
        scorer = await self._models.load(name)
        kept = await self._models.shelf.to_keep(name, scorer.digest)
        await self._change(tenant, "active", name, scorer, "model.activated", kept)

    async def roll_back(self, tenant: str) -> None:
        """Let the checkpoint decide that did before. Raises ModelRefused where none did."""
        async with self._database.read() as connection:
            history = await model_store.model_history(connection, tenant, "active", 2)
        if not history:
            raise ModelRefused("No other model has been active.")
        before = history[1] if len(history) > 1 else None
        if before is None or before.name is None:
            await self._change(tenant, "active", None, None, "model.activated")
            return
        scorer = await self._models.of(before)
        await self._change(tenant, "active", before.name, scorer, "model.activated")

    async def shadow(self, tenant: str, name: str | None) -> None:
        """Try a checkpoint out beside the active one, or none. Raises as `activate`."""
        scorer = None if name is None else await self._models.load(name)
        await self._change(tenant, "shadow", name, scorer, "model.shadowed")

    async def promote(self, tenant: str, name: str, compared: ModelComparison) -> None:
        """Activate a checkpoint if it was no worse on labels than what is still active.

        Raises ModelNotFound or ModelRefused.
        """
        scorer = await self._models.load(name)
        if scorer.digest != compared.digest:
            raise ModelRefused(
                f"Model {name!r} has changed since it was compared: compare it again."
            )
        if (await self.roles(tenant)).active_digest != compared.active_digest:
            raise ModelRefused("Another model has become active since then: compare again.")
        if compared.better is None:
            raise ModelRefused(
                f"{compared.frauds} labelled frauds and {compared.legitimates} legitimate ones "
                f"are too few to compare by: {LEAST_FRAUDS} frauds are needed."
            )
        if not compared.better:
            raise ModelRefused(
                f"Its average precision is {compared.shadow.average_precision:.4f}, the active "
                f"model's {compared.active.average_precision:.4f}."
            )
        await self.activate(tenant, name)

    async def compare(self, tenant: str, name: str, days: float) -> Comparison:
        """Score the newest transactions of some days by a checkpoint too.

        Raises ModelNotFound or ModelRefused.
        """
        scorer = await self._models.load(name)
        since_us = now_us() - int(days * DAY_US)
        filters = Filters(None, since_us, None, None, None)
        async with self._database.read() as connection:
            rows = (
                await transaction_store.listed(connection, tenant, filters, None, COMPARED)
            ).rows
            own = await threshold_store.thresholds_at(connection, tenant, now_us())
            active = await self._pipeline.deciding(connection, tenant)
            groups = await self._groups(connection, tenant, rows)
            labels = await label_store.labels_of(
                connection, tenant, [r.transaction_id for r in rows]
            )
        deciding = Deciding(
            scorer, active.thresholds if own and not own.is_reset else scorer.thresholds
        )
        decisions = await asyncio.to_thread(self._decide, deciding, groups)
        answered_N = [row.probability for row in rows]
        shadowed = [decisions[row.transaction_id] for row in rows]
        labelled = [n for n, row in enumerate(rows) if row.transaction_id in labels]
        is_fraud = np.array([labels[rows[n].transaction_id].is_fraud for n in labelled], np.bool_)
        pairs: Counter[tuple[str, str]] = Counter(
            (row.outcome, answer.outcome) for row, answer in zip(rows, shadowed, strict=True)
        )
        same = sum(count for (outcome, other), count in pairs.items() if outcome == other)
        shifts = [
            abs(log_odds(answer.probability) - log_odds(p))
            for p, answer in zip(answered_N, shadowed, strict=True)
        ]
        return Comparison(
            transactions=len(rows),
            since_us=since_us,
            agreement=same / len(rows) if rows else None,
            outcomes=dict(pairs),
            shift=float(np.mean(shifts)) if rows else None,
            frauds=int(is_fraud.sum()),
            legitimates=int((~is_fraud).sum()),
            active=_quality(
                np.array([answered_N[n] for n in labelled]),
                np.array([rows[n].outcome != "approve" for n in labelled], np.bool_),
                is_fraud,
            ),
            shadow=_quality(
                np.array([shadowed[n].probability for n in labelled]),
                np.array([shadowed[n].outcome != "approve" for n in labelled], np.bool_),
                is_fraud,
            ),
            digest=scorer.digest,
            active_digest=active.scorer.digest,
        )

    async def _change(
        self,
        tenant: str,
        role: Role,
        name: str | None,
        scorer: Scorer | None,
        action: Action,
        kept: KeptCheckpoint | None = None,
    ) -> None:
        digest = scorer.digest if scorer else None

        async def place(connection: Connection) -> None:
            if kept:
                await model_store.keep_checkpoint(connection, kept)
            before = await model_store.model_change(connection, tenant, role)
            row = ModelChange(tenant, role, now_us(), name, digest)
            await model_store.save_model_change(connection, row)
            noted = entry(
                tenant,
                action,
                name or self._models.shelf.default_name,
                {"name": before.name, "digest": before.digest} if before else None,
                {"name": name, "digest": digest},
            )
            await audit_store.save_entries(connection, [noted])
            if action == "model.activated":
                facts = {"name": name or self._models.shelf.default_name, "digest": digest}
                await announce(connection, tenant, [(action, facts)])

        await self._database.run(place)

    async def _groups(
        self, connection: Connection, tenant: str, rows: Sequence[Scored]
    ) -> list[CopyRows]:
        """Rows with the labels that their copies had learned, rows of one copy together."""
        by_copy: dict[tuple[str, int], list[Scored]] = defaultdict(list)
        for row in rows:
            key = (row.account_id, row.revision) if row.labels else ("", 0)
            by_copy[key].append(row)
        groups = []
        for (account_id, revision), rows_of_copy in by_copy.items():
            support: list[SupportRow] = []
            if revision:
                support = await label_store.support_at(connection, tenant, account_id, revision)
            groups.append(CopyRows(support, rows_of_copy))
        return groups

    def _decide(self, deciding: Deciding, groups: Sequence[CopyRows]) -> dict[str, Decision]:
        found: dict[str, Decision] = {}
        # The largest apart: each batch is as wide as its largest.
        ordered = sorted(groups, key=lambda group: -len(group.rows))
        parts = [ordered[:1]]
        parts += [ordered[n : n + TOGETHER] for n in range(1, len(ordered), TOGETHER)]
        for part in parts:
            judged = deciding.scorer.judge(
                [self._pipeline.support(group.support) for group in part],
                [self._pipeline.rows(group.rows) for group in part],
                deciding.thresholds,
            )
            for group, judgement in zip(part, judged, strict=True):
                ids = (row.transaction_id for row in group.rows)
                found.update(zip(ids, judgement.decisions, strict=True))
        return found


def average_precision(probability_N: Floats, is_fraud_N: np.ndarray) -> float | None:
    """The mean of the precision at every fraud, highest probability first; ties count as one.

    The step-wise area under the precision-recall curve. None without frauds.
    """
    if not is_fraud_N.any():
        return None
    values, place_N = np.unique(-probability_N, return_inverse=True)
    frauds_V = np.bincount(place_N, is_fraud_N, len(values))
    found_V = frauds_V.cumsum()
    precision_V = found_V / np.bincount(place_N, minlength=len(values)).cumsum()
    return float((frauds_V * precision_V).sum() / frauds_V.sum())


def _quality(probability_N: Floats, is_held_N: np.ndarray, is_fraud_N: np.ndarray) -> Quality:
    held, caught = int(is_held_N.sum()), int((is_held_N & is_fraud_N).sum())
    return Quality(
        held,
        caught / held if held else None,
        caught / int(is_fraud_N.sum()) if is_fraud_N.any() else None,
        average_precision(probability_N, is_fraud_N),
    )
