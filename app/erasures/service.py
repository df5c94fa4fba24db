"""Erasure: an account forgotten, with a certificate."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from app.accounts import merchants as merchant_store
from app.accounts import store as account_store
from app.accounts.errors import AccountNotFound
from app.accounts.records import Account, Merchant
from app.audit import store as audit_store
from app.audit.entries import entry
from app.db.database import Database, Raced
from app.db.sqlite import in_a_thread
from app.erasures import store as erasure_store
from app.erasures.certificates import certified
from app.erasures.records import Erasure
from app.labels import store as label_store
from app.labels.forgetting import (
    ERASED,
    Corrections,
    are_settled,
    correct,
    forget_in_record,
    plan_corrections,
)
from app.labels.records import StoredLabel
from app.learner.columns import columns_of
from app.learner.content import transaction_of
from app.learner.features import MerchantLabels
from app.learner.states import States
from app.models.errors import ModelUnavailable
from app.scoring import store as transaction_store
from app.scoring.pipeline import Pipeline
from app.webhooks import store as webhook_store


class ErasurePlan(NamedTuple):
    """What erasing an account does, while it and its merchants are as they were.

    `merchants` are those that it has paid, as they are, `states` theirs without its payments.
    """

    account: Account
    labels: list[StoredLabel]
    merchants: dict[str, Merchant]
    states: dict[str, bytes | None]
    corrections: Corrections


class Erasing:
    """Erases accounts."""

    def __init__(self, database: Database, pipeline: Pipeline) -> None:
        self._database = database
        self._pipeline = pipeline

    async def erase(self, tenant: str, account_id: str) -> Erasure:
        """Delete all rows of an account; its merchants and their witnesses forget it.

        Returns the certificate, which is kept without the account's id.
        What is left is as if its transactions and labels had never come, but for the counts and
        amounts of its merchants in features already stored. Raises AccountNotFound.
        """
        # What takes long, before anything is locked.
        async with self._database.survey() as connection:
            planned: ErasurePlan | None = await self._plan(connection, tenant, account_id)
            model = await self._model(connection, tenant)

        async def work(connection: AsyncConnection) -> Erasure:
            nonlocal planned
            plan = planned or await self._plan(connection, tenant, account_id)
            # It is tried again only where it was outdated.
            planned = None
            plan = await self._locked(connection, plan)
            visited, labels, corrections = plan.merchants, plan.labels, plan.corrections
            await correct(connection, tenant, account_id, corrections)
            counts = await account_store.erase_account(connection, tenant, account_id)
            await audit_store.erase_entries(connection, tenant, account_id)
            await webhook_store.erase_messages(connection, tenant, account_id)
            now = await merchant_store.lock_merchants(connection, tenant, visited)
            await merchant_store.save_merchants(
                connection,
                [row._replace(state=plan.states[key]) for key, row in now.items()],
            )
            await forget_in_record(connection, self._pipeline.features, tenant, labels)
            facts = {
                "erased": dict(zip(ERASED, counts, strict=True)),
                "merchants_rebuilt": len(visited),
                "labels_corrected": len(corrections.features),
                "features": self._pipeline.features.digest,
                **model,
            }
            erasure = await in_a_thread(lambda: certified(tenant, account_id, facts))
            await erasure_store.save_erasure(connection, erasure)
            # That it was, and not whose: that is in the certificate.
            noted = entry(tenant, "account.erased", erasure.id, after={"digest": erasure.digest})
            await audit_store.save_entries(connection, [noted])
            return erasure

        return await self._database.run(work, aside=True)

    async def _model(self, connection: AsyncConnection, tenant: str) -> dict[str, str | None]:
        """The tenant's model, as certificates have it; nothing where it cannot be loaded."""
        try:
            scorer = await self._pipeline.models.active(connection, tenant)
        except ModelUnavailable:
            return {"model": None, "training_data_sha256": None}
        return {"model": scorer.model, "training_data_sha256": scorer.training_data_sha256}

    async def _plan(self, connection: AsyncConnection, tenant: str, account_id: str) -> ErasurePlan:
        account = await account_store.account(connection, tenant, account_id)
        if account is None:
            raise AccountNotFound(f"There is no account {account_id!r}.")
        labels = await label_store.labels_of_account(connection, tenant, account_id)
        visited = await transaction_store.merchants_of_account(connection, tenant, account_id)
        merchants = await merchant_store.merchants_of(connection, tenant, visited)
        states = await self._rebuilt(connection, account, visited)
        # Its own labels are about to go, with their history.
        corrections = await plan_corrections(
            connection, self._pipeline.features, tenant, labels, account_id, others_only=True
        )
        return ErasurePlan(account, labels, merchants, states, corrections)

    async def _locked(self, connection: AsyncConnection, plan: ErasurePlan) -> ErasurePlan:
        """The plan as it is once nobody else can change anything that it is made of.

        Raises Raced where the account has changed meanwhile, or others are to be locked.
        """
        tenant, account_id = plan.account.tenant, plan.account.account_id
        corrections = plan.corrections
        await account_store.lock_only(connection, tenant, {account_id, *corrections.accounts})
        merchants = await merchant_store.lock_merchants(connection, tenant, plan.merchants)
        account = await account_store.account(connection, tenant, account_id)
        if account != plan.account:
            raise Raced
        labels = await label_store.labels_of_account(connection, tenant, account_id)
        plan = plan._replace(labels=labels)
        changed = [key for key, row in merchants.items() if row != plan.merchants.get(key)]
        if changed:
            states = await self._rebuilt(connection, account, changed)
            plan = plan._replace(states={**plan.states, **states})
        if await are_settled(connection, tenant, corrections):
            return plan
        now = await plan_corrections(
            connection, self._pipeline.features, tenant, labels, account_id, others_only=True
        )
        if not now.accounts <= corrections.accounts:
            raise Raced
        return plan._replace(corrections=now)

    async def _rebuilt(
        self, connection: AsyncConnection, account: Account, merchant_ids: Iterable[str]
    ) -> dict[str, bytes | None]:
        """The merchants' states from the transactions of all other accounts."""
        features = self._pipeline.features
        states: dict[str, bytes | None] = dict.fromkeys(merchant_ids)
        if not states:
            return {}

        def add(contents: Sequence[str]) -> None:
            transactions = [transaction_of(content) for content in contents]
            columns, accounts, merchants = columns_of(features.spec, transactions, features.rates)
            known = States.from_bytes([states[key] for key in merchants], features.merchant_sums)
            memory = replace(features.empty(len(accounts), len(merchants)), merchants=known)
            after = features.remember(columns, memory, MerchantLabels.none()).merchants
            states.update(zip(merchants, after.to_bytes(), strict=True))

        async for contents in transaction_store.contents_of_merchants(
            connection, account.tenant, states, account.account_id
        ):
            if contents:
                await in_a_thread(partial(add, contents))
        return states
