"""Claims of reviews: who works on one, by which key; each change is in the audit log.

Proven is the key of a request alone: the analyst is whom its caller names. But a person is who they
are, and has what bears their name, whoever gave it to them.
"""

from app.audit import store as audit_store
from app.audit.entries import Action, entry
from app.db.connection import Connection
from app.http.authentication import Caller
from app.http.problems import Forbidden
from app.learner.transaction import HOUR_US
from app.reviews import store as review_store
from app.reviews.errors import QueueEmpty, ReviewNotFound, ReviewTaken
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
    hand_over: bool = False,
) -> Review:
    """Assign a review. Who has it already keeps it, from when they took it, or hands it over.

    Raises ReviewNotFound, ReviewTaken where somebody else has it or it is resolved, and Forbidden
    where somebody without the scope `manage` would take it over.
    """
    if take_over and not caller.may_manage:
        raise Forbidden("Taking over a review needs the scope manage.")
    row = await _locked(connection, caller.tenant, transaction_id)
    now = now_us()
    if _is_claimed(row, now):
        owns = holds(caller, row.assignee, row.assigned_by)
        if row.assignee == assignee and owns:
            return row
        if hand_over and owns:
            return await _assign(connection, caller, row, "review.handed_over", assignee, now)
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
    _check_held(caller, row, "release")
    return await _assign(connection, caller, row, "review.released", None, None)


async def take_next(
    connection: Connection, caller: Caller, assignee: str, kind: str, by_risk: bool
) -> Review:
    """Assign the first review of a kind that nobody has: of two at once, each gets another.

    Raises QueueEmpty where there is none.
    """
    now = now_us()
    free_at_us = now - CLAIM_HOURS * HOUR_US
    row = await review_store.lock_next(connection, caller.tenant, kind, by_risk, free_at_us, now)
    if row is None:
        raise QueueEmpty
    return await _assign(connection, caller, row, "review.claimed", assignee, now)


async def snooze(
    connection: Connection, caller: Caller, transaction_id: str, until_us: int | None
) -> Review:
    """Leave a review out of the queue until a time, when it is back by itself; or wake it, by None.

    Raises ReviewNotFound, and ReviewTaken where somebody else holds it or it is resolved.
    """
    row = await _locked(connection, caller.tenant, transaction_id)
    _check_held(caller, row, "snooze or wake")
    now = row._replace(snoozed_until_us=until_us)
    if now == row:
        return row
    await review_store.snooze_review(connection, now)
    action: Action = "review.woken" if until_us is None else "review.snoozed"
    return await _noted(connection, action, row, now)


def holds(caller: Caller, assignee: str | None, assigned_by: str | None) -> bool:
    """Whether a claim is the caller's: a person's by their name, else by the key it came with.

    A key that has replaced it is the same caller.
    """
    if caller.person is not None:
        return assignee == caller.person
    return assigned_by in (caller.owner, None)


def _check_held(caller: Caller, row: Review, change: str) -> None:
    """Raises ReviewTaken where somebody else has the review, and the caller may not overrule."""
    is_free = row.assignee is None or not _is_claimed(row, now_us())
    owns = is_free or holds(caller, row.assignee, row.assigned_by)
    if not owns and not caller.may_manage:
        raise ReviewTaken(
            f"{row.assignee!r} has this review by another key until {_until(row)}: only that key, "
            f"or one with the scope manage, may {change} it."
        )


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
        assigned_by=caller.owner if assignee is not None else None,
    )
    await review_store.assign_review(connection, now)
    return await _noted(connection, action, row, now)


async def _noted(connection: Connection, action: Action, old: Review, new: Review) -> Review:
    noted = entry(
        old.tenant, action, old.transaction_id, facts_of(old), facts_of(new), old.account_id
    )
    await audit_store.save_entries(connection, [noted])
    return new


def facts_of(row: Review) -> dict[str, str | None]:
    """What the audit log keeps of a review."""
    until = row.snoozed_until_us
    return {
        **({} if until is None else {"snoozed_until": text_of(until)}),
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
