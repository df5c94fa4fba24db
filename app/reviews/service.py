"""Claims of reviews: who works on one, by which key; each change is in the audit log.

Proven is the key of a request alone: the analyst is whom its caller names.
"""

from app.audit import store as audit_store
from app.audit.entries import Action, entry
from app.db.connection import Connection
from app.http.authentication import Caller
from app.http.problems import Forbidden
from app.learner.transaction import HOUR_US
from app.reviews import store as review_store
from app.reviews.errors import ReviewNotFound, ReviewTaken
from app.reviews.records import Review
from app.times import now_us, text_of

# So long a claim is good for; then anybody may take or release the review.
CLAIM_HOURS = 24


async def take(
    connection: Connection,
    caller: Caller,
    transaction_id: str,
    assignee: str,
    take_over: bool = False,
) -> Review:
    """Assign a review. Who has it already keeps it, from when they took it.

    Raises ReviewNotFound, ReviewTaken where somebody else has it or it is resolved, and Forbidden
    where somebody without the scope `manage` would take it over.
    """
    if take_over and not caller.may_manage:
        raise Forbidden("Only who has the scope manage may take a review over.")
    row = await _locked(connection, caller.tenant, transaction_id)
    now = now_us()
    if _is_claimed(row, now):
        if row.assignee == assignee and row.assigned_by in (caller.key_id, None):
            return row
        if not take_over:
            raise ReviewTaken(
                f"{row.assignee!r} has this review until {_until(row)}; who has the scope "
                "manage may take it over with take_over: true."
            )
    return await _assign(connection, caller, row, "review.claimed", assignee, now)


async def release(connection: Connection, caller: Caller, transaction_id: str) -> Review:
    """Give a review back to the queue; nobody having it, nothing changes.

    Raises ReviewNotFound, and ReviewTaken where another key holds it or it is resolved.
    """
    row = await _locked(connection, caller.tenant, transaction_id)
    if row.assignee is None:
        return row
    owns = row.assigned_by in (caller.key_id, None) or not _is_claimed(row, now_us())
    if not owns and not caller.may_manage:
        raise ReviewTaken(
            f"{row.assignee!r} has this review by another key until {_until(row)}: only that key, "
            "or one with the scope manage, may release it."
        )
    return await _assign(connection, caller, row, "review.released", None, None)


async def found(connection: Connection, tenant: str, transaction_id: str) -> Review:
    """A review; raises ReviewNotFound."""
    rows = await review_store.reviews_of(connection, tenant, [transaction_id])
    return _there(rows.get(transaction_id), transaction_id)


async def _locked(connection: Connection, tenant: str, transaction_id: str) -> Review:
    row = _there(await review_store.lock_review(connection, tenant, transaction_id), transaction_id)
    if row.status == "resolved":
        raise ReviewTaken("This review is resolved: its transaction has a label.")
    return row


async def _assign(
    connection: Connection,
    caller: Caller,
    row: Review,
    action: Action,
    assignee: str | None,
    at_us: int | None,
) -> Review:
    now = row._replace(
        assignee=assignee,
        assigned_at_us=at_us,
        assigned_by=caller.key_id if assignee is not None else None,
    )
    await review_store.assign_review(connection, now)
    noted = entry(
        row.tenant, action, row.transaction_id, facts_of(row), facts_of(now), row.account_id
    )
    await audit_store.save_entries(connection, [noted])
    return now


def facts_of(row: Review) -> dict[str, str | None]:
    """What the audit log keeps of a review."""
    return {
        "kind": row.kind,
        "status": row.status,
        "assignee": row.assignee,
        "assigned_by": row.assigned_by,
    }


def _is_claimed(row: Review, at_us: int) -> bool:
    return row.assigned_at_us is not None and at_us < _until_us(row)


def _until_us(row: Review) -> int:
    return (row.assigned_at_us or 0) + CLAIM_HOURS * HOUR_US


def _until(row: Review) -> str:
    return text_of(_until_us(row))


def _there(row: Review | None, transaction_id: str) -> Review:
    if row is None:
        raise ReviewNotFound(f"Transaction {transaction_id!r} is not up for review.")
    return row
