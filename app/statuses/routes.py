"""What became of transactions: one by one, or up to 1,000 at once."""

from typing import Annotated

from fastapi import APIRouter

from app.http.authentication import MayScore, RunningAdmission
from app.http.keyed import KeyedRoute
from app.http.parts import part
from app.http.paths import TransactionId
from app.http.problems import EVERYWHERE, documented
from app.ops.actor import actor
from app.scoring.errors import TransactionNotFound
from app.scoring.items import Items
from app.scoring.routes import WRITES
from app.statuses.schemas import (
    NewStatus,
    StatusBatch,
    StatusBatchResult,
    StatusNotStored,
    StatusStored,
)
from app.statuses.service import Statuses, StatusSet

router = APIRouter(
    prefix="/v1/transactions",
    tags=["transactions"],
    responses=documented(*EVERYWHERE),
    route_class=KeyedRoute,
)
RunningStatuses = Annotated[Statuses, part(Statuses)]


@router.put("/{transaction_id}/status", responses={**WRITES, **documented(TransactionNotFound)})
async def set_status(
    transaction_id: TransactionId, posted: NewStatus, statuses: RunningStatuses, tenant: MayScore
) -> StatusStored:
    """Say what became of a transaction; its account's very next score goes by it."""
    return _stored(transaction_id, await statuses.put(tenant, transaction_id, posted.status))


@router.put("/statuses", responses=WRITES)
async def set_statuses(
    posted: StatusBatch, admission: RunningAdmission, statuses: RunningStatuses, tenant: MayScore
) -> StatusBatchResult:
    """Say what became of up to 1,000 transactions, such as a file of a processor.

    The results come in their order, each with its own outcome; those of one account are stored
    together.
    """
    admission.rates.owe(actor.get(), len(posted.statuses) - 1)
    items = Items(posted.statuses, "status")
    statuses_of = {key: item.status for key, item in items.first.items()}
    answers = await statuses.put_each(tenant, statuses_of)
    return StatusBatchResult(results=items.results(answers, _stored, StatusNotStored))


def _stored(transaction_id: str, done: StatusSet) -> StatusStored:
    return StatusStored(
        transaction_id=transaction_id,
        account_id=done.account_id,
        status=done.status,
        changed=done.changed,
    )
