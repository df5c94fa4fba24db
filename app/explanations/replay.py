"""Replay: a stored score computed again from the checkpoint, the labels of then and its features.

A copy is a pure function of the checkpoint and the account's labels, and every change of a label
is written down with the revision it made: so the copy of any past revision can be made again.
"""

from typing import NamedTuple

import numpy as np

from app.accounts import store as account_store
from app.accounts.store import Account
from app.db.connection import Connection
from app.db.database import Database
from app.labels import store as label_store
from app.labels.errors import RevisionNotFound
from app.labels.records import LabelEvent, SupportRow
from app.learner.decisions import Decision, Thresholds
from app.learner.engine import Rows
from app.learner.reasons import PAST, Reason, shares_of, worded_reasons
from app.learner.scorer import Copy, CopyDecisions, Judge, Scorer, calibrated
from app.learner.transaction import digest_of
from app.ops.background import in_a_thread
from app.ops.turns import Turns
from app.scoring import store as transaction_store
from app.scoring.pipeline import Pipeline, matrix_of, support_of
from app.scoring.records import Past, Scored

# What a probability may differ by and still be the same: another machine sums in another order.
TOLERANCE = 1e-6
# Risk is answered with two decimals.
RISK_TOLERANCE = 0.011


class Replayed(NamedTuple):
    """A stored score, what it comes to now, and in what the two differ: nothing, if all is well."""

    row: Scored
    decision: Decision
    copy: Copy
    model: str
    differs: list[str]


class Revision(NamedTuple):
    """An account as it was at a revision: the labels of then, their copy, and what had changed."""

    account: Account
    support: list[SupportRow]
    copy: Copy
    changes: list[LabelEvent]


class Explained(NamedTuple):
    """A score taken apart, in calibrated log-odds, against `past` payments before it."""

    transaction: Scored
    past: int
    probability: float
    log_odds: float
    baseline: float
    reasons: list[Reason]
    model: str


class Replay:
    """Makes copies of the past; stores nothing."""

    def __init__(self, database: Database, pipeline: Pipeline, computing: Turns) -> None:
        self._database = database
        self._pipeline = pipeline
        self._computing = computing

    async def replay(self, tenant: str, transaction_id: str) -> Replayed:
        """Score a stored transaction again as it was scored. Raises TransactionNotFound."""
        async with self._database.read() as connection:
            row = await transaction_store.require_scored(connection, tenant, transaction_id)
            judge = await self._pipeline.models.that_scored(connection, row.model)
            features = await _as_scored(connection, row, judge)
            if judge is None or features is None:
                judge = await self._pipeline.models.active(connection, tenant)
                features = await _as_scored(connection, row, judge)
            support = await _support(connection, row, judge.features_digest)
        async with self._computing.one():
            return await in_a_thread(lambda: self._again(judge, row, features, support))

    async def revision(self, tenant: str, account_id: str, revision: int) -> Revision:
        """The copy of any past revision. Raises AccountNotFound or RevisionNotFound."""
        async with self._database.read() as connection:
            account = await account_store.require_account(connection, tenant, account_id)
            if revision > account.revision:
                raise RevisionNotFound(f"Account {account_id!r} is at revision {account.revision}.")
            support = await label_store.support_at(connection, tenant, account_id, revision)
            changes = await label_store.events_of_revision(connection, tenant, account_id, revision)
            deciding = await self._pipeline.deciding(connection, tenant)

        def judge() -> list[CopyDecisions]:
            supports, rows = [self._pipeline.support(support)], [self._pipeline.rows([])]
            return deciding.scorer.judge(supports, rows, deciding.thresholds)

        async with self._computing.one():
            [judged] = await in_a_thread(judge)
        return Revision(account, support, judged.copy, changes)

    async def explain(self, tenant: str, transaction_id: str) -> Explained:
        """Why a stored transaction has its score. Raises TransactionNotFound."""
        async with self._database.read() as connection:
            row = await transaction_store.require_scored(connection, tenant, transaction_id)
            support = await _support(connection, row)
            moment = row.account_id, row.occurred_at_us
            [past] = await transaction_store.pasts_of(
                connection, tenant, [moment], PAST, row.evaluated_at_us
            )
            scorer = await self._scorer(connection, row)
        async with self._computing.one():
            return await in_a_thread(lambda: self._explained(scorer, row, support, past))

    async def _scorer(self, connection: Connection, row: Scored) -> Scorer:
        """The model that scored it, where it was kept and reads the features that there are: else
        the tenant's active one."""
        models = self._pipeline.models
        found = await models.that_scored(connection, row.model)
        if isinstance(found, Scorer) and found.features_digest == self._pipeline.features.digest:
            return found
        return await models.active(connection, row.tenant)

    def _explained(
        self, scorer: Scorer, row: Scored, support: list[SupportRow], past: list[Past]
    ) -> Explained:
        rows = self._pipeline.rows([row])
        past_KF = self._pipeline.matrix(payment.features for payment in past)
        why = scorer.explain_with(self._pipeline.support(support), rows, past_KF)
        frauds = sum(label.is_fraud for label in support)
        slope, shift = scorer.calibration.slope, scorer.calibration.shift
        reasons = worded_reasons(
            shares_of(self._pipeline.features, why, slope, bool(support)),
            self._pipeline.features,
            row.content,
            [payment.content for payment in past],
            rows.features_NF[0],
            past_KF,
            (frauds, len(support) - frauds),
            self._pipeline.labelled(support),
        )
        return Explained(
            row,
            len(past),
            calibrated(why.log_odds, scorer.calibration),
            slope * why.log_odds + shift,
            slope * why.baseline + shift,
            reasons,
            scorer.model,
        )

    def _again(
        self, judge: Judge, row: Scored, features: bytes | None, support: list[SupportRow]
    ) -> Replayed:
        """`features` are those that it was scored with; without them those that it has now."""
        thresholds = judge.thresholds
        if row.review_from is not None and row.decline_from is not None:
            thresholds = Thresholds(row.review_from, row.decline_from)
        rows = Rows(
            matrix_of([features or row.features], judge.width),
            np.array([row.occurred_at_us], np.int64),
        )
        [judged] = judge.judge([support_of(support, judge.width)], [rows], thresholds)
        [decision] = judged.decisions
        same = {
            "model": row.model == judge.model,
            "features": features is not None,
            "content": row.content_digest == digest_of(row.content),
            "probability": abs(row.probability - decision.probability) <= TOLERANCE,
            "risk_score": abs(row.risk_score - decision.risk_score) <= RISK_TOLERANCE,
            "risk_level": row.risk_level == decision.risk_level,
            "outcome": row.outcome == decision.outcome,
            "used": row.used == decision.used,
            "labels": row.labels == decision.labels,
        }
        differs = [name for name, is_same in same.items() if not is_same]
        return Replayed(row, decision, judged.copy, judge.model, differs)


async def _as_scored(connection: Connection, row: Scored, judge: Judge | None) -> bytes | None:
    """What a stored score was made of, where it is what this judge reads."""
    if judge is None:
        return None
    return await transaction_store.features_as_scored(connection, row, judge.features_digest)


async def _support(
    connection: Connection, row: Scored, digest: str | None = None
) -> list[SupportRow]:
    """The labels that the copy of a stored score had learned, with features of a definition."""
    if row.labels == 0:
        # By the base, whatever labels there were: imported history is scored so.
        return []
    return await label_store.support_at(
        connection, row.tenant, row.account_id, row.revision, digest
    )
