"""Erasure: an account forgotten, with a certificate."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from functools import partial
from typing import NamedTuple

from app.accounts import store as account_store
from app.accounts.errors import AccountNotFound, no_account
from app.accounts.store import Account
from app.audit import store as audit_store
from app.audit.entries import entry
from app.db.connection import Connection
from app.db.database import Database, refuse_while_rebuilding
from app.entities import states as entity_states
from app.entities.states import EntityKey, EntityState
from app.erasures import store as erasure_store
from app.erasures.certificates import SaltedDigest, certified, salted_digest
from app.erasures.rebuilding import Rebuilding
from app.erasures.records import Erasure
from app.labels import store as label_store
from app.labels.committing import counted
from app.labels.correcting import MOST_STEPS, PAUSE_SECONDS, Correcting, forgetting_of
from app.labels.forgetting import change_records, event_of, records_after
from app.labels.records import Forgetting, Progress
from app.models.errors import ModelUnavailable
from app.ops.background import in_a_thread
from app.scoring import store as transaction_store
from app.scoring.pipeline import IN_PLACE, Pipeline
from app.searches import store as search_store
from app.times import now_us
from app.webhooks import store as webhook_store

# Accounts whose payments are found by their ids; texts of as many are compared for each step.
MOST_USERS = 10_000
# Payments of the account that are deleted in one transaction, as are entries of the audit log: some
# milliseconds. The newest, which are more than any score looks back on, go with the account.
STEP_PAYMENTS, SPARED_PAYMENTS = 100, 100
# Payments of others that are added to the sums of entities before scores come in between.
ADDED_PAYMENTS = 200


class ErasurePlan(NamedTuple):
    """What erasing an account does, while it and its entities are as they were.

    `entities` are those that it has used, as they are, `states` theirs without its payments.
    """

    account: Account
    entities: dict[EntityKey, list[EntityState]]
    states: dict[EntityKey, bytes | None]


class _Erased(NamedTuple):
    """How far the steps are: how many payments there were, how many are gone, the last of these."""

    there: int | None = None
    payments: int = 0
    last: tuple[int, str] | None = None


class ErasureService:
    """Erases accounts."""

    def __init__(self, database: Database, pipeline: Pipeline) -> None:
        self._database = database
        self._pipeline = pipeline
        self._correcting = Correcting(database, pipeline.features)

    async def erase(self, tenant: str, account_id: str) -> Erasure:
        """Delete all rows of an account; its entities and their witnesses forget it.

        Returns the certificate, which is kept without the account's id.
        What is left is as if its transactions and labels had never come, but for the counts and
        amounts of its entities in features already stored. Entities that nobody else has used are
        gone with it. Raises AccountNotFound. An erasure that has begun is finished after a crash,
        too.
        """
        forgetting = await self._unlearn(tenant, account_id)
        try:
            return await self.finish(forgetting)
        except AccountNotFound:
            # Another process has finished it.
            async with self._database.read() as connection:
                found = await erasure_store.erasure(connection, tenant, forgetting.id)
            if found is None:
                raise
            return found

    async def finish(self, forgetting: Forgetting) -> Erasure:
        """Let all others forget the account, then delete it. Raises AccountNotFound."""
        tenant, account_id = forgetting.tenant, forgetting.account_id
        while True:
            # All that takes long, before anything is locked.
            await self._correcting.correct(forgetting)
            await self._erase_oldest(forgetting)
            async with self._database.read() as connection:
                planned = await self._plan(connection, tenant, account_id)
                model = await self._model(connection, tenant)
            salted = await in_a_thread(partial(salted_digest, account_id))
            erase_all = partial(
                self._erase, forgetting=forgetting, planned=planned, model=model, salted=salted
            )
            aside = len(planned.entities) > IN_PLACE
            if erasure := await self._database.run(erase_all, aside):
                return erasure
            # Labels have come meanwhile.
            forgetting = await self._unlearn(tenant, account_id)

    async def _unlearn(self, tenant: str, account_id: str) -> Forgetting:
        """Remove all labels of an account, and note that it is to be erased.

        Raises AccountNotFound.
        """
        features = self._pipeline.features
        async with self._database.read() as connection:
            labels = await label_store.labels_of_account(connection, tenant, account_id)
            records = await records_after(
                connection, features, tenant, [label.transaction_id for label in labels]
            )

        async def unlearn(connection: Connection) -> Forgetting:
            await refuse_while_rebuilding(connection, tenant)
            if account_id not in await account_store.lock_revisions(
                connection, tenant, [account_id]
            ):
                raise no_account(account_id)
            account = await account_store.account(connection, tenant, account_id)
            assert account is not None
            labels = await label_store.labels_of_account(connection, tenant, account_id)
            ids = [label.transaction_id for label in labels]
            named = await label_store.entities_of_labels(connection, tenant, ids)
            await entity_states.lock_only(connection, tenant, {entity.key for entity in named})
            # As they are now that nobody else can fold the labels into their entities' records.
            named = await label_store.entities_of_labels(connection, tenant, ids)
            await label_store.delete_labels(connection, tenant, ids, now_us())
            removals = [event_of(label, account.revision + 1, removed=True) for label in labels]
            await label_store.save_label_events(connection, removals)
            await change_records(connection, features, tenant, named, [], records)
            await account_store.count_labels(connection, tenant, counted([], labels))
            before = await label_store.erasure_of(connection, tenant, account_id)
            forgetting = forgetting_of(tenant, account_id, ids, is_erasure=True)
            if before:
                # It was interrupted, or another one is under way.
                forgetting = forgetting._replace(
                    id=before.id,
                    actor=before.actor,
                    transactions=json.dumps(sorted({*ids, *before.ids})),
                    labels=before.labels + len(ids),
                )
            await label_store.save_forgetting(connection, forgetting)
            return forgetting

        return await self._database.run(unlearn, aside=len(labels) > IN_PLACE)

    async def _erase_oldest(self, forgetting: Forgetting) -> None:
        """Delete all but the newest payments of the account, and its entries of the audit log.

        In steps, the oldest first: until the last one, sums and the newest payments are those of
        the whole account, so that what is scored for it meanwhile is scored as before. There are as
        many as there were payments: who pays faster than that would never be erased.
        """
        done: _Erased | None = _Erased()
        while done is not None:
            step = partial(self._erase_some, forgetting=forgetting, before=done)
            done = await self._database.run(step)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _erase_some(
        self, connection: Connection, forgetting: Forgetting, before: _Erased
    ) -> _Erased | None:
        """One step; None where there is no other."""
        tenant, account_id = forgetting.tenant, forgetting.account_id
        account = await self._under_way(connection, forgetting)
        there = before.there if before.there is not None else account.transactions
        if account.has_labels or before.payments > there:
            # Others are to forget them first; and the rest goes with the account.
            return None
        most = max(STEP_PAYMENTS, account.transactions // MOST_STEPS)
        is_more = await audit_store.erase_entries(connection, tenant, account_id, most)
        done = before._replace(there=there)
        if erased := await account_store.erase_payments(
            connection, tenant, account_id, before.last, most, SPARED_PAYMENTS
        ):
            is_more = True
            done = _Erased(there, before.payments + erased.transactions, erased.last)
            progress = Progress(
                erased_transactions=erased.transactions,
                erased_label_events=erased.label_events,
                erased_reviews=erased.reviews,
            )
            await label_store.note_progress(connection, tenant, forgetting.id, progress, now_us())
        return done if is_more else None

    async def _under_way(self, connection: Connection, forgetting: Forgetting) -> Account:
        """The account, which is locked.

        Raises AccountNotFound where another process has finished its erasure.
        """
        tenant, account_id = forgetting.tenant, forgetting.account_id
        await refuse_while_rebuilding(connection, tenant)
        await account_store.lock_revisions(connection, tenant, [account_id])
        account = await account_store.account(connection, tenant, account_id)
        if account is None or not await label_store.is_under_way(connection, tenant, forgetting.id):
            raise no_account(account_id)
        return account

    async def _erase(
        self,
        connection: Connection,
        forgetting: Forgetting,
        planned: ErasurePlan,
        model: Mapping[str, str | None],
        salted: SaltedDigest,
    ) -> Erasure | None:
        """Delete all rows of an account that others have forgotten; None where it has labels."""
        tenant, account_id = forgetting.tenant, forgetting.account_id
        await refuse_while_rebuilding(connection, tenant)
        plan = await self._locked(connection, planned)
        if plan.account.has_labels:
            return None
        noted = await label_store.forgetting(connection, tenant, forgetting.id)
        if noted is None:
            raise no_account(account_id)
        used = plan.entities
        rest = await account_store.erase_account(connection, tenant, account_id)
        await audit_store.erase_entries(connection, tenant, account_id)
        await webhook_store.erase_messages(connection, tenant, account_id)
        now = await entity_states.lock_entities(connection, tenant, used)
        await entity_states.replace_states(connection, tenant, now, plan.states)
        await entity_states.delete_unused(connection, tenant, used)
        await search_store.erase_searches(connection, tenant, account_id, used)
        await label_store.delete_forgetting(connection, tenant, noted.id)
        facts = {
            "erased": {
                "transactions": noted.erased_transactions + rest.transactions,
                "labels": noted.labels,
                # Without those of their removal.
                "label_events": noted.erased_label_events + rest.label_events - noted.labels,
                "reviews": noted.erased_reviews + rest.reviews,
            },
            "merchants_rebuilt": len(used),
            "labels_corrected": noted.corrected,
            "features": self._pipeline.features.digest,
            **model,
        }
        erasure = certified(noted, salted, facts)
        await erasure_store.save_erasure(connection, erasure)
        # That it was, and not whose: that is in the certificate.
        entries = [entry(tenant, "account.erased", erasure.id, after={"digest": erasure.digest})]
        await audit_store.save_entries(connection, entries)
        return erasure

    async def _model(self, connection: Connection, tenant: str) -> dict[str, str | None]:
        """The tenant's model, as certificates have it; nothing where it cannot be loaded."""
        try:
            scorer = await self._pipeline.models.active(connection, tenant)
        except ModelUnavailable:
            return {"model": None, "training_data_sha256": None}
        return {"model": scorer.model, "training_data_sha256": scorer.training_data_sha256}

    async def _plan(self, connection: Connection, tenant: str, account_id: str) -> ErasurePlan:
        account = await account_store.require_account(connection, tenant, account_id)
        used = await entity_states.used_by(connection, tenant, account_id)
        entities = await entity_states.states_of(connection, tenant, used)
        return ErasurePlan(account, entities, await self._rebuilt(connection, account, used))

    async def _locked(self, connection: Connection, plan: ErasurePlan) -> ErasurePlan:
        """The plan as it is once nobody else can change anything that it is made of.

        An account that pays all the time has done so since, also with entities that are new to it.
        Raises AccountNotFound.
        """
        tenant, account_id = plan.account.tenant, plan.account.account_id
        await account_store.lock_only(connection, tenant, [account_id])
        account = await account_store.require_account(connection, tenant, account_id)
        used = await entity_states.used_by(connection, tenant, account_id)
        entities = await entity_states.lock_entities(connection, tenant, used)
        changed = [key for key, rows in entities.items() if rows != plan.entities.get(key)]
        states = plan.states | await self._rebuilt(connection, account, changed)
        return ErasurePlan(account, entities, {key: states[key] for key in entities})

    async def _rebuilt(
        self, connection: Connection, account: Account, keys: Iterable[EntityKey]
    ) -> dict[EntityKey, bytes | None]:
        """The entities' states from the transactions of all other accounts."""
        wanted, tenant = sorted(set(keys)), account.tenant
        if not wanted:
            return {}
        remainders = await erasure_store.remainders_of(
            connection, tenant, wanted, account.account_id
        )
        rebuilding = Rebuilding(self._pipeline.features, wanted, remainders)
        users = await entity_states.users_of(
            connection, tenant, wanted, account.account_id, MOST_USERS + 1
        )
        if users:
            # Of more users it costs less to look at all payments.
            of = users if len(users) <= MOST_USERS else None
            async for payments in transaction_store.payments_of(
                connection, tenant, of, without=account.account_id
            ):
                for first in range(0, len(payments), ADDED_PAYMENTS):
                    some = payments[first : first + ADDED_PAYMENTS]
                    await in_a_thread(partial(rebuilding.add, some))
                    await asyncio.sleep(PAUSE_SECONDS)
        return dict(await in_a_thread(rebuilding.states))
