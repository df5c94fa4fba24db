"""Erasure: an account forgotten, with a certificate."""

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from app.accounts import store as account_store
from app.accounts.errors import AccountNotFound
from app.accounts.records import Account
from app.audit import store as audit_store
from app.audit.entries import entry
from app.db.connection import Connection
from app.db.database import Database
from app.db.errors import Raced
from app.db.rebuilding import refuse_while_rebuilding
from app.db.threads import in_a_thread
from app.entities import states as entity_states
from app.entities.records import EntityKey, EntityState
from app.erasures import store as erasure_store
from app.erasures.certificates import certified
from app.erasures.rebuilding import Rebuilding
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
from app.models.errors import ModelUnavailable
from app.scoring import store as transaction_store
from app.scoring.pipeline import Pipeline
from app.webhooks import store as webhook_store

# Accounts whose payments are found by their ids; texts of as many are compared for each step.
MOST_USERS = 10_000


class ErasurePlan(NamedTuple):
    """What erasing an account does, while it and its entities are as they were.

    `entities` are those that it has used, as they are, `states` theirs without its payments.
    """

    account: Account
    labels: list[StoredLabel]
    entities: dict[EntityKey, list[EntityState]]
    states: dict[EntityKey, bytes | None]
    corrections: Corrections


class Erasing:
    """Erases accounts."""

    def __init__(self, database: Database, pipeline: Pipeline) -> None:
        self._database = database
        self._pipeline = pipeline

    async def erase(self, tenant: str, account_id: str) -> Erasure:
        """Delete all rows of an account; its entities and their witnesses forget it.

        Returns the certificate, which is kept without the account's id.
        What is left is as if its transactions and labels had never come, but for the counts and
        amounts of its entities in features already stored. Entities that nobody else has used are
        gone with it. Raises AccountNotFound.
        """
        # What takes long, before anything is locked.
        async with self._database.read() as connection:
            planned: ErasurePlan | None = await self._plan(connection, tenant, account_id)
            model = await self._model(connection, tenant)

        async def erase_all(connection: Connection) -> Erasure:
            nonlocal planned
            await refuse_while_rebuilding(connection, tenant)
            plan = planned or await self._plan(connection, tenant, account_id)
            # It is tried again only where it was outdated.
            planned = None
            plan = await self._locked(connection, plan)
            used, corrections = plan.entities, plan.corrections
            labelled = await label_store.entities_of_labels(
                connection, tenant, [label.transaction_id for label in plan.labels]
            )
            await correct(connection, tenant, account_id, corrections)
            counts = await account_store.erase_account(connection, tenant, account_id)
            await audit_store.erase_entries(connection, tenant, account_id)
            await webhook_store.erase_messages(connection, tenant, account_id)
            now = await entity_states.lock_entities(connection, tenant, used)
            await entity_states.replace_states(connection, tenant, now, plan.states)
            await forget_in_record(connection, self._pipeline.features, tenant, labelled)
            await entity_states.delete_unused(connection, tenant, used)
            facts = {
                "erased": dict(zip(ERASED, counts, strict=True)),
                "merchants_rebuilt": len(used),
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

        return await self._database.run(erase_all, aside=True)

    async def _model(self, connection: Connection, tenant: str) -> dict[str, str | None]:
        """The tenant's model, as certificates have it; nothing where it cannot be loaded."""
        try:
            scorer = await self._pipeline.models.active(connection, tenant)
        except ModelUnavailable:
            return {"model": None, "training_data_sha256": None}
        return {"model": scorer.model, "training_data_sha256": scorer.training_data_sha256}

    async def _plan(self, connection: Connection, tenant: str, account_id: str) -> ErasurePlan:
        account = await account_store.account(connection, tenant, account_id)
        if account is None:
            raise AccountNotFound(f"There is no account {account_id!r}.")
        labels = await label_store.labels_of_account(connection, tenant, account_id)
        used = await entity_states.used_by(connection, tenant, account_id)
        entities = await entity_states.states_of(connection, tenant, used)
        states = await self._rebuilt(connection, account, used)
        # Its own labels are about to go, with their history.
        corrections = await plan_corrections(
            connection, self._pipeline.features, tenant, labels, account_id, others_only=True
        )
        return ErasurePlan(account, labels, entities, states, corrections)

    async def _locked(self, connection: Connection, plan: ErasurePlan) -> ErasurePlan:
        """The plan as it is once nobody else can change anything that it is made of.

        Raises Raced where the account has changed meanwhile, or others are to be locked.
        """
        tenant, account_id = plan.account.tenant, plan.account.account_id
        corrections = plan.corrections
        await account_store.lock_only(connection, tenant, {account_id, *corrections.accounts})
        entities = await entity_states.lock_entities(connection, tenant, plan.entities)
        account = await account_store.account(connection, tenant, account_id)
        if account != plan.account:
            raise Raced
        labels = await label_store.labels_of_account(connection, tenant, account_id)
        plan = plan._replace(labels=labels)
        changed = [key for key, rows in entities.items() if rows != plan.entities.get(key)]
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
        self, connection: Connection, account: Account, keys: Iterable[EntityKey]
    ) -> dict[EntityKey, bytes | None]:
        """The entities' states from the transactions of all other accounts."""
        wanted, tenant = sorted(set(keys)), account.tenant
        if not wanted:
            return {}
        rebuilding = Rebuilding(self._pipeline.features, wanted)
        users = await entity_states.users_of(
            connection, tenant, wanted, account.account_id, MOST_USERS + 1
        )
        if users:
            # Of more users it costs less to look at all payments.
            of = users if len(users) <= MOST_USERS else None
            async for payments in transaction_store.payments_of(
                connection, tenant, of, without=account.account_id
            ):
                if payments:
                    await in_a_thread(partial(rebuilding.add, payments))
        return dict(await in_a_thread(rebuilding.states))
