"""Searches that a person, or a key, has saved: listed, saved, removed."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BeforeValidator

from app.db.connection import Connection
from app.db.database import Database
from app.db.turns import take_turn
from app.http.authentication import ReadingCaller
from app.http.fields import Id
from app.http.keyed import KeyedRoute
from app.http.parts import RunningDatabase
from app.http.paths import decoded, stored_entity
from app.http.problems import EVERYWHERE, documented
from app.scoring.routes import WRITES
from app.searches import store as search_store
from app.searches.errors import SearchNotFound, TooManySearches
from app.searches.records import StoredSearch
from app.searches.schemas import SavedSearch, SearchFilters, SearchList
from app.times import now_us, text_of

router = APIRouter(
    prefix="/v1/searches",
    tags=["transactions"],
    responses=documented(*EVERYWHERE),
    route_class=KeyedRoute,
)
SearchName = Annotated[
    Id,
    BeforeValidator(decoded),
    Path(description="Percent-encoded: a name may hold a slash.", examples=["missed at m-7"]),
]
# Of a person or a key; the console shows all of them.
MOST_SEARCHES = 50


@router.get("")
async def list_searches(database: RunningDatabase, caller: ReadingCaller) -> SearchList:
    """The searches that you have saved, by name."""
    return await _searches(database, caller.tenant, caller.owner)


@router.put("/{name}", responses=WRITES | documented(TooManySearches))
async def save_search(
    name: SearchName, posted: SearchFilters, database: RunningDatabase, caller: ReadingCaller
) -> SavedSearch:
    """Save a search for yourself, in place of the one of this name; at most 50."""
    entity = stored_entity(posted.entity_kind, posted.entity_id)
    kind, id_ = entity or (None, None)
    filters = posted.model_copy(update={"entity_id": id_})
    row = StoredSearch(
        caller.tenant,
        caller.owner,
        name,
        posted.account_id,
        kind,
        id_,
        filters.model_dump_json(),
        now_us(),
    )

    async def save(connection: Connection) -> None:
        await take_turn(connection, "searches", caller.tenant, caller.owner)
        saved = await search_store.listed_searches(connection, caller.tenant, caller.owner)
        if len(saved) >= MOST_SEARCHES and name not in {search.name for search in saved}:
            raise TooManySearches(f"You have saved {MOST_SEARCHES}: remove one first.")
        await search_store.save_search(connection, row)

    await database.run(save)
    return _saved(row)


@router.delete("/{name}", responses=documented(SearchNotFound))
async def remove_search(
    name: SearchName, database: RunningDatabase, caller: ReadingCaller
) -> SearchList:
    """Forget a search that you have saved."""

    async def remove(connection: Connection) -> None:
        if not await search_store.delete_search(connection, caller.tenant, caller.owner, name):
            raise SearchNotFound(f"You have saved no search {name!r}.")

    await database.run(remove)
    return await _searches(database, caller.tenant, caller.owner)


async def _searches(database: Database, tenant: str, owner: str) -> SearchList:
    async with database.read() as connection:
        rows = await search_store.listed_searches(connection, tenant, owner)
    return SearchList(data=list(map(_saved, rows)))


def _saved(row: StoredSearch) -> SavedSearch:
    return SavedSearch(
        name=row.name,
        filters=SearchFilters.model_validate_json(row.content),
        saved_at=text_of(row.saved_at_us),
    )
