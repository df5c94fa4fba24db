"""Notes on accounts: added, and read back, the newest first."""

import secrets

from fastapi import APIRouter

from app.accounts import store as account_store
from app.accounts.errors import AccountNotFound
from app.audit import store as audit_store
from app.audit.entries import entry
from app.db.connection import Connection
from app.http.authentication import DecidingCaller, MayRead
from app.http.keyed import KeyedRoute
from app.http.pages import Page
from app.http.paging import BY_TIME, Paging
from app.http.parts import RunningDatabase
from app.http.paths import AccountId
from app.http.problems import EVERYWHERE, documented
from app.labels.errors import WrongAccount
from app.notes import store as note_store
from app.notes.records import StoredNote
from app.notes.schemas import Note, PostedNote
from app.ops.actor import actor
from app.scoring import store as transaction_store
from app.scoring.errors import TransactionNotFound
from app.scoring.routes import WRITES
from app.times import now_us, text_of

router = APIRouter(
    prefix="/v1/accounts/{account_id}/notes",
    tags=["accounts"],
    responses=documented(*EVERYWHERE, AccountNotFound),
    route_class=KeyedRoute,
)


@router.get("")
async def list_notes(
    account_id: AccountId, database: RunningDatabase, tenant: MayRead, paging: Paging
) -> Page[Note]:
    """What people have written down about an account, the newest first."""
    listed = paging.of(BY_TIME, "notes", account_id)
    async with database.read() as connection:
        await account_store.require_account(connection, tenant, account_id)
        found = await note_store.listed_notes(
            connection, tenant, account_id, listed.after, listed.rows
        )
        return await listed.page(found, _note, lambda row: (row.at_us, row.id))


@router.post("", responses=WRITES | documented(TransactionNotFound, WrongAccount))
async def add_note(
    account_id: AccountId, posted: PostedNote, database: RunningDatabase, caller: DecidingCaller
) -> Note:
    """Write something down about an account. It stays until the account is erased."""
    tenant, payment = caller.tenant, posted.transaction_id
    author = caller.person or posted.author

    async def add(connection: Connection) -> StoredNote:
        await account_store.require_account(connection, tenant, account_id)
        # So that it is not erased meanwhile, and its note left.
        await account_store.lock_only(connection, tenant, {account_id})
        if payment is not None:
            scored = await transaction_store.require_scored(connection, tenant, payment)
            if scored.account_id != account_id:
                raise WrongAccount(f"Transaction {payment!r} is of another account.")
        row = StoredNote(
            tenant,
            account_id,
            now_us(),
            secrets.token_hex(8),
            payment,
            author,
            actor.get(),
            posted.text,
        )
        await note_store.add_note(connection, row)
        facts = {"author": author, "transaction_id": payment}
        noted = entry(tenant, "note.added", row.id, after=facts, account_id=account_id)
        await audit_store.save_entries(connection, [noted])
        return row

    return _note(await database.run(add))


def _note(row: StoredNote) -> Note:
    return Note(
        id=row.id,
        account_id=row.account_id,
        transaction_id=row.transaction_id,
        text=row.text,
        author=row.author,
        actor=row.actor,
        at=text_of(row.at_us),
    )
