"""Pages to look around in: an account, a payment, an entity, and finding one by its id."""

from typing import Annotated, Literal, NamedTuple

from fastapi import APIRouter, Query, Request, Response

from app.accounts.errors import AccountNotFound
from app.accounts.routes import read_account
from app.audit.routes import read_audit_log
from app.console import texts
from app.console.charts import strip
from app.console.payments import shown_payment
from app.console.queue import done_of, tab_of
from app.console.viewing import Cursor, SignedIn, ViewerRoute, go, show
from app.db.database import Database
from app.entities.errors import EntityNotFound
from app.entities.routes import list_links, read_entity
from app.errors import ValidationFailed
from app.explanations.routes import RunningReplay, list_revisions, replay_transaction
from app.http.fields import Id
from app.http.paging import PageParams
from app.http.parts import RunningDatabase
from app.labels.routes import read_label
from app.learner.spec import EntityKind
from app.learner.validity import ID
from app.notes.routes import list_notes
from app.people.records import PERSON
from app.people.routes import list_people
from app.reviews.errors import ReviewNotFound
from app.reviews.routes import read_review
from app.reviews.schemas import ReviewedTransaction
from app.scoring.errors import TransactionNotFound
from app.scoring.routes import list_transactions, read_transaction

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ViewerRoute)

PAYMENTS, LINKS, CHANGES, ENTRIES, NOTES = 60, 30, 30, 20, 30


class FoundPage(NamedTuple):
    """Something that has an id: its page below the console, and what it is."""

    path: str
    what: str
    kind: str | None = None


@router.get("/account")
async def show_account(
    request: Request,
    viewer: SignedIn,
    database: RunningDatabase,
    id: Id,
    cursor: Cursor = None,
    notice: Literal["changed"] | None = None,
    noted: bool = False,
    stored: Annotated[int | None, Query(ge=0, le=9999)] = None,
    revision: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    """An account: its payments, what it uses, its labels, notes, what was done about it."""
    tenant = viewer.tenant
    account = await read_account(id, database, tenant)
    payments = await list_transactions(
        database, tenant, PageParams(PAYMENTS, cursor), account_id=id
    )
    return await show(
        request,
        "account.html",
        account=account,
        payments=payments,
        marks=strip(payments.data, None),
        names=await _names(database, tenant),
        notes=await list_notes(id, database, tenant, PageParams(NOTES, None)),
        notice=notice,
        noted=noted,
        stored=stored,
        revision=revision,
        links=await list_links(id, database, tenant, PageParams(LINKS, None)),
        changes=await list_revisions(id, database, tenant, PageParams(CHANGES, None)),
        log=await read_audit_log(database, tenant, PageParams(ENTRIES, None), account_id=id),
    )


@router.get("/payment")
async def show_payment(
    request: Request,
    viewer: SignedIn,
    database: RunningDatabase,
    replay: RunningReplay,
    id: Id,
    done: Id | None = None,
    cleared: Annotated[int, Query(ge=0, le=9999)] = 0,
    raised: Annotated[int, Query(ge=0, le=9999)] = 0,
    notice: str | None = None,
) -> Response:
    """A payment: what was posted, why it has its score, and every change of its label."""
    about = await shown_payment(database, replay, viewer.tenant, id)
    review = await _review(database, viewer.tenant, id)
    return await show(
        request,
        "payment.html",
        about=about,
        review=review,
        review_tab=tab_of(review) if review else None,
        labels=await read_label(id, database, viewer.tenant),
        done=await done_of(database, viewer, done, cleared, raised) if done == id else None,
        notice=notice if notice == "changed" else None,
    )


@router.get("/replay")
async def show_replay(
    request: Request, viewer: SignedIn, replay: RunningReplay, id: Id
) -> Response:
    """A payment's score computed again, set beside the one that was answered."""
    replayed = await replay_transaction(id, replay, viewer.tenant)
    return await show(request, "replay.html", replayed=replayed)


@router.get("/entity")
async def show_entity(
    request: Request,
    viewer: SignedIn,
    database: RunningDatabase,
    kind: EntityKind,
    id: Id,
    cursor: Cursor = None,
) -> Response:
    """A device, an address, a card, …: what is known of it, and who has used it."""
    entity = await read_entity(kind, id, database, viewer.tenant, PageParams(PAYMENTS, cursor))
    return await show(request, "entity.html", entity=entity)


@router.get("/find")
async def find(request: Request, viewer: SignedIn, database: RunningDatabase, id: str) -> Response:
    """Go to what has this id; where several things have it, name them."""
    wanted = id.strip()
    found = await _found(database, viewer.tenant, wanted) if ID.allows(wanted) else []
    if len(found) == 1:
        return go(request, found[0].path, id=wanted, kind=found[0].kind)
    return await show(request, "found.html", 200 if found else 404, wanted=wanted, found=found)


async def _names(database: Database, tenant: str) -> dict[str, str]:
    """Whom the audit log means by its actors."""
    return {f"{PERSON}{row.id}": row.name for row in (await list_people(database, tenant)).data}


async def _review(
    database: Database, tenant: str, transaction_id: str
) -> ReviewedTransaction | None:
    try:
        return await read_review(transaction_id, database, tenant)
    except ReviewNotFound:
        return None


async def _found(database: Database, tenant: str, wanted: str) -> list[FoundPage]:
    """Everything of this very id."""
    found = []
    try:
        await read_transaction(wanted, database, tenant)
        found.append(FoundPage("/payment", texts.PAYMENT))
    except TransactionNotFound:
        pass
    try:
        await read_account(wanted, database, tenant)
        found.append(FoundPage("/account", texts.ACCOUNT))
    except AccountNotFound:
        pass
    for kind, name in texts.ENTITIES.items():
        try:
            await read_entity(kind, wanted, database, tenant, PageParams(1, None))
            found.append(FoundPage("/entity", name, kind))
        except (EntityNotFound, ValidationFailed):
            # Of some kinds not every text is an id.
            pass
    return found
