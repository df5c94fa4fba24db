"""Entities: what an account has used, and who else has used it."""

from fastapi import APIRouter

from app.accounts import store as account_store
from app.accounts.errors import AccountNotFound
from app.entities import store as entity_store
from app.entities.errors import EntityNotFound
from app.entities.schemas import AccountLink, Entity, EntityUse
from app.entities.states import Link
from app.entities.store import SharedLink
from app.http.authentication import MayRead
from app.http.keyed import KeyedRoute
from app.http.pages import Page
from app.http.paging import BY_ENTITY, BY_ID, Paging
from app.http.parts import RunningDatabase
from app.http.paths import AccountId, EntityId, EntityKind, stored_id
from app.http.problems import EVERYWHERE, documented
from app.times import now_us, text_of

router = APIRouter(
    prefix="/v1",
    tags=["entities"],
    responses=documented(*EVERYWHERE),
    route_class=KeyedRoute,
)


@router.get("/accounts/{account_id}/links", responses=documented(AccountNotFound))
async def list_links(
    account_id: AccountId, database: RunningDatabase, tenant: MayRead, paging: Paging
) -> Page[AccountLink]:
    """The devices, addresses, cards, … that an account has used, by kind and id."""
    listed = paging.of(BY_ENTITY, "links", account_id)
    async with database.read() as connection:
        await account_store.require_account(connection, tenant, account_id)
        found = await entity_store.links_of_account(
            connection, tenant, account_id, listed.after, listed.rows
        )
        return await listed.page(found, _link, lambda row: (row.kind, row.entity_id))


@router.get("/entities/{kind}/{entity_id}", responses=documented(EntityNotFound))
async def read_entity(
    kind: EntityKind,
    entity_id: EntityId,
    database: RunningDatabase,
    tenant: MayRead,
    paging: Paging,
) -> Entity:
    """What is known of a device, an address, a card, …, and who has used it, by their ids."""
    id_ = stored_id(kind, entity_id)
    listed = paging.of(BY_ID, "entities", kind, id_)
    async with database.read() as connection:
        accounts = await entity_store.users(connection, tenant, kind, id_)
        if not accounts:
            raise EntityNotFound(f"There is no {kind} {id_!r}.")
        evidence = await entity_store.evidence(connection, tenant, kind, id_, now_us())
        found = await entity_store.links_of_entity(
            connection, tenant, kind, id_, listed.after, listed.rows
        )
        page = await listed.page(found, _use, lambda row: (row.account_id,))
    return Entity(
        data=page.data,
        has_more=page.has_more,
        next_cursor=page.next_cursor,
        kind=kind,
        entity_id=id_,
        accounts=accounts,
        labels=evidence.labels,
        frauds=evidence.frauds,
    )


def _link(row: SharedLink) -> AccountLink:
    return AccountLink(
        kind=row.kind,
        entity_id=row.entity_id,
        first_used_at=text_of(row.first_use_us),
        accounts=row.accounts,
    )


def _use(row: Link) -> EntityUse:
    return EntityUse(account_id=row.account_id, first_used_at=text_of(row.first_use_us))
