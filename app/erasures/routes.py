"""Erasure of accounts, and its certificates."""

import json
from typing import Annotated

from fastapi import APIRouter

from app.accounts.errors import AccountNotFound
from app.erasures import store as erasure_store
from app.erasures.errors import ErasureNotFound
from app.erasures.records import Erasure as Kept
from app.erasures.schemas import Certificate, Erasure
from app.erasures.service import ErasureService
from app.http.authentication import MayAdminister, MayRead
from app.http.keyed import KeyedRoute
from app.http.pages import Page
from app.http.paging import BY_TIME, Paging
from app.http.parts import RunningDatabase, part
from app.http.paths import AccountId, ErasureId
from app.http.problems import EVERYWHERE, documented

router = APIRouter(
    prefix="/v1",
    tags=["audit"],
    responses=documented(*EVERYWHERE),
    route_class=KeyedRoute,
)
RunningErasing = Annotated[ErasureService, part(ErasureService)]


@router.delete("/accounts/{account_id}", responses=documented(AccountNotFound))
async def erase_account(
    account_id: AccountId, erasing: RunningErasing, tenant: MayAdminister
) -> Certificate:
    """Erase an account: its transactions, labels, their history and reviews. There is no way
    back."""
    row = await erasing.erase(tenant, account_id)
    return Certificate(account_id=account_id, digest=row.digest, **json.loads(row.content))


@router.get("/erasures")
async def list_erasures(
    database: RunningDatabase, tenant: MayRead, paging: Paging
) -> Page[Erasure]:
    """The certificates of erasures, without the accounts' ids, the newest first."""
    listed = paging.of(BY_TIME, "erasures")
    async with database.read() as connection:
        found = await erasure_store.listed_erasures(connection, tenant, listed.after, listed.rows)
        return await listed.page(found, _erasure, lambda row: (row.at_us, row.id))


@router.get("/erasures/{erasure_id}", responses=documented(ErasureNotFound))
async def read_erasure(
    erasure_id: ErasureId, database: RunningDatabase, tenant: MayRead
) -> Erasure:
    """One certificate, without the account's id."""
    async with database.read() as connection:
        row = await erasure_store.erasure(connection, tenant, erasure_id)
    if row is None:
        raise ErasureNotFound(f"There is no erasure {erasure_id!r}.")
    return _erasure(row)


def _erasure(row: Kept) -> Erasure:
    return Erasure(actor=row.actor, digest=row.digest, **json.loads(row.content))
