"""Accounts: what is known of them, and what they learn."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.accounts import store as account_store
from app.accounts.errors import AccountNotFound
from app.accounts.schemas import AccountState, Adapted, AdaptRequest, RollbackRequest, RolledBack
from app.errors import FieldError, ValidationFailed
from app.http.authentication import MayLabel, MayRead
from app.http.keyed import KeyedRoute
from app.http.pages import Page
from app.http.paging import BY_ID, Paging
from app.http.parts import RunningDatabase, part
from app.http.paths import AccountId
from app.http.problems import EVERYWHERE, documented
from app.labels.changes import Verdict
from app.labels.errors import RevisionNotFound, TooManyLabels, WrongAccount
from app.labels.routes import changed_of, state_of
from app.labels.service import Labelling
from app.ops.background import in_a_thread
from app.scoring.errors import TransactionNotFound
from app.scoring.routes import WRITES

router = APIRouter(
    prefix="/v1/accounts",
    tags=["accounts"],
    responses=documented(*EVERYWHERE),
    route_class=KeyedRoute,
)
RunningLabelling = Annotated[Labelling, part(Labelling)]


@router.get("")
async def list_accounts(
    database: RunningDatabase,
    tenant: MayRead,
    paging: Paging,
    labelled: Annotated[bool | None, Query(description="With labels, or without.")] = None,
) -> Page[AccountState]:
    """Accounts in the order of their ids."""
    listed = paging.of(BY_ID, "accounts", labelled)
    async with database.read() as connection:
        found = await account_store.listed_accounts(
            connection, tenant, labelled, listed.after, listed.rows
        )
        return await listed.page(
            found,
            lambda row: AccountState(**state_of(row)),
            lambda row: (row.account_id,),
        )


@router.get("/{account_id}", responses=documented(AccountNotFound))
async def read_account(
    account_id: AccountId, database: RunningDatabase, tenant: MayRead
) -> AccountState:
    """What is known of an account."""
    async with database.read() as connection:
        account = await account_store.require_account(connection, tenant, account_id)
    return AccountState(**state_of(account))


@router.post(
    "/{account_id}/adapt",
    responses={
        **WRITES,
        **documented(AccountNotFound, TransactionNotFound, ValidationFailed, WrongAccount),
    },
)
async def adapt_account(
    account_id: AccountId,
    labelling: RunningLabelling,
    tenant: MayLabel,
    posted: AdaptRequest | None = None,
) -> Adapted:
    """Adapt now, ahead of the next score; or preview what labels would do, storing nothing."""
    is_preview = posted is not None and posted.dry_run
    if posted is not None and is_preview:
        hypotheses = [Verdict(item.transaction_id, item.label == "fraud") for item in posted.labels]
        _check_distinct(hypotheses)
        done = await labelling.preview(tenant, account_id, hypotheses)
    else:
        done = await labelling.adapt(tenant, account_id)
    changed = changed_of(done.account, done.change)
    return Adapted(**changed, account_id=account_id, dry_run=is_preview)


@router.post(
    "/{account_id}/rollback",
    responses={**WRITES, **documented(AccountNotFound, RevisionNotFound, TooManyLabels)},
)
async def roll_back_account(
    account_id: AccountId, posted: RollbackRequest, labelling: RunningLabelling, tenant: MayLabel
) -> RolledBack:
    """Make the account's labels what they were at a revision, as a new one; or preview that."""
    roll_back = labelling.preview_roll_back if posted.dry_run else labelling.roll_back
    done = await roll_back(tenant, account_id, posted.revision)
    # It may have thousands of labels.
    return await in_a_thread(
        lambda: RolledBack(
            **state_of(done.account),
            **changed_of(done.account, done.change),
            as_of=posted.revision,
            dry_run=posted.dry_run,
        )
    )


def _check_distinct(verdicts: list[Verdict]) -> None:
    earlier: set[str] = set()
    for position, verdict in enumerate(verdicts):
        if verdict.transaction_id in earlier:
            message = "This transaction has a label earlier in the same request."
            raise ValidationFailed(message, [FieldError(f"labels[{position}]", message)])
        earlier.add(verdict.transaction_id)
