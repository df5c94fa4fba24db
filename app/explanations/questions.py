"""Questions about an account's labels: which of them moves it how far, and which to ask for next.

Both are answered by copies made for the question, all in one batch.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from app.accounts import store as account_store
from app.accounts.errors import AccountNotFound
from app.accounts.store import Account
from app.db.database import Database
from app.labels import store as label_store
from app.labels.plans import RECENT, with_label
from app.labels.records import SupportRow
from app.learner.adaptation import select_support
from app.learner.decisions import Decision, log_odds
from app.learner.scorer import Copy, CopyDecisions
from app.learner.states import Floats
from app.ops.background import in_a_thread
from app.ops.turns import Turns
from app.reviews import store as review_store
from app.scoring import store as transaction_store
from app.scoring.pipeline import Deciding, Pipeline
from app.scoring.records import Scored
from app.times import now_us

# Across accounts: how many are looked at, of the accounts of so many open reviews.
MOST_ACCOUNTS, RISKIEST = 4, 50
# Unlabelled transactions that are considered, the newest.
CANDIDATES = 50


class Influence(NamedTuple):
    """What one label does: the copy without it, and how far it moves the account.

    `shift` is the mean absolute change of the recent transactions' log-odds when it is left out;
    `before` and `after` are the decisions on the transaction that it moves furthest, without and
    with it.
    """

    label: SupportRow
    is_learned: bool
    shift: float
    furthest: str | None
    before: Decision | None
    after: Decision | None


class Suggestion(NamedTuple):
    """An unlabelled transaction, and how far its label can be expected to move the account.

    `shift` is the expected mean absolute change of the recent transactions' log-odds, fraud
    being as likely as the account's copy says; `if_fraud` and `if_legitimate` are the changes.
    """

    transaction: Scored
    decision: Decision
    shift: float
    if_fraud: float
    if_legitimate: float


class Influences(NamedTuple):
    """What the labels of an account do, the furthest first, beside the copy of them all."""

    account: Account
    copy: Copy
    labels: list[Influence]


class _Labelled(NamedTuple):
    """An account with its labels, its newest transactions, and what decides."""

    account: Account
    support: list[SupportRow]
    newest: list[Scored]
    deciding: Deciding


class Questions:
    """Reads an account and asks its copies; stores nothing."""

    def __init__(self, database: Database, pipeline: Pipeline, computing: Turns) -> None:
        self._database = database
        self._pipeline = pipeline
        self._computing = computing

    async def influence(self, tenant: str, account_id: str) -> Influences:
        """How far each label moves the account, the furthest first. Raises AccountNotFound."""
        account, support, recent, deciding = await self._read(tenant, account_id, RECENT)
        learned = self._learned(support)

        def measure() -> Influences:
            left_out = [[row for row in support if row is not label] for label in learned]
            all_of_them, *without = self._judge([support, *left_out], recent, deciding)
            # In a batch the last bits differ; the copy is the one of labels and replays.
            [alone] = self._judge([support], recent, deciding)
            found = [
                _influence(label, recent, judged.decisions, all_of_them.decisions)
                for label, judged in zip(learned, without, strict=True)
            ]
            ignored = [row for row in support if row not in learned]
            found += [Influence(row, False, 0.0, None, None, None) for row in ignored]
            found.sort(key=lambda influence: -influence.shift)
            return Influences(account, alone.copy, found)

        async with self._computing.one():
            return await in_a_thread(measure)

    async def ask_next(
        self, tenant: str, account_id: str, limit: int
    ) -> tuple[Account, list[Suggestion]]:
        """The unlabelled transactions whose label would move the account furthest.

        Raises AccountNotFound.
        """
        account, support, newest, deciding = await self._read(tenant, account_id, CANDIDATES)
        recent = newest[:RECENT]
        labelled = {row.transaction_id for row in support}
        candidates = [row for row in newest if row.transaction_id not in labelled]

        def rank() -> list[Suggestion]:
            tried = [
                with_label(support, row, is_fraud)
                for row in candidates
                for is_fraud in (True, False)
            ]
            now, *then = self._judge([support, *tried], newest, deciding)
            decided = {
                row.transaction_id: decision
                for row, decision in zip(newest, now.decisions, strict=True)
            }
            found = []
            for n, row in enumerate(candidates):
                own = decided[row.transaction_id]
                if_fraud, if_legitimate = (
                    shift(judged.decisions[: len(recent)], now.decisions[: len(recent)])
                    for judged in then[2 * n : 2 * n + 2]
                )
                expected = own.probability * if_fraud + (1 - own.probability) * if_legitimate
                found.append(Suggestion(row, own, expected, if_fraud, if_legitimate))
            return sorted(found, key=lambda suggestion: -suggestion.shift)[:limit]

        async with self._computing.one():
            return account, await in_a_thread(rank)

    async def ask_next_of_all(self, tenant: str, limit: int) -> tuple[int, list[Suggestion]]:
        """The same of several accounts, those with the riskiest open reviews; and how many.

        Of more accounts it would take longer than whoever waits for the next question waits.
        """
        async with self._database.read() as connection:
            part = await review_store.listed_reviews(
                connection,
                tenant,
                "review",
                "open",
                None,
                None,
                None,
                now_us(),
                True,
                None,
                RISKIEST,
            )
        accounts = list(dict.fromkeys(row.account_id for row in part.rows))[:MOST_ACCOUNTS]
        found: list[Suggestion] = []
        for account_id in accounts:
            with suppress(AccountNotFound):
                found += (await self.ask_next(tenant, account_id, limit))[1]
        return len(accounts), sorted(found, key=lambda suggested: -suggested.shift)[:limit]

    async def _read(self, tenant: str, account_id: str, newest: int) -> _Labelled:
        async with self._database.read() as connection:
            account = await account_store.require_account(connection, tenant, account_id)
            support = await label_store.supports(connection, tenant, [account_id])
            recent = await transaction_store.recent(connection, tenant, account_id, newest)
            deciding = await self._pipeline.deciding(connection, tenant)
        return _Labelled(account, support[account_id], recent, deciding)

    def _learned(self, support: Sequence[SupportRow]) -> list[SupportRow]:
        """The labels that are learned from: of many, the newest of both kinds."""
        chosen = select_support(np.array([row.is_fraud for row in support], np.bool_))
        return [support[k] for k in chosen]

    def _judge(
        self,
        supports: Sequence[Sequence[SupportRow]],
        rows: Sequence[Scored],
        deciding: Deciding,
    ) -> list[CopyDecisions]:
        unlabelled = self._pipeline.rows(rows)
        return deciding.scorer.judge(
            [self._pipeline.support(support) for support in supports],
            [unlabelled] * len(supports),
            deciding.thresholds,
        )


def shift(first: Sequence[Decision], other: Sequence[Decision]) -> float:
    """The mean absolute difference of log-odds between decisions on the same transactions."""
    return float(np.abs(_odds(first) - _odds(other)).mean()) if first else 0.0


def _odds(decisions: Sequence[Decision]) -> Floats:
    return np.array([log_odds(decision.probability) for decision in decisions])


def _influence(
    label: SupportRow,
    recent: Sequence[Scored],
    without: Sequence[Decision],
    with_it: Sequence[Decision],
) -> Influence:
    furthest = int(np.abs(_odds(with_it) - _odds(without)).argmax())
    return Influence(
        label,
        True,
        shift(with_it, without),
        recent[furthest].transaction_id,
        without[furthest],
        with_it[furthest],
    )
