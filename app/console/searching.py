"""Payments by whatever is known of them: searched, kept as a search, taken along as a file."""

import csv
import io
import time
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.console import browsers, texts
from app.console.browsers import BadForm
from app.console.viewing import Cursor, SignedIn, ViewerRoute, go, show
from app.db.database import Database
from app.errors import ValidationFailed
from app.http.authentication import Admission
from app.http.keyed import HeldShare
from app.http.paging import PageParams
from app.http.parts import RunningDatabase, part_of
from app.http.paths import stored_entity
from app.scoring.routes import list_transactions
from app.scoring.schemas import StoredTransaction
from app.searches.routes import list_searches, remove_search, save_search
from app.searches.schemas import SearchFilters

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ViewerRoute)

PAYMENTS = 60
# How long a page goes on looking for payments that are few among many.
LOOKING_SECONDS = 0.035
# Of a file: its payments, those of a page of the list, and the pages that are read for it.
MOST_IN_FILE, FILE_PAGE, MOST_PAGES = 10_000, 200, 200
FIRST = ("transaction_id", "account_id", "occurred_at", "amount", "currency", "type", "status")
OF_SCORE = ("probability", "risk_score", "outcome")
# Texts that were posted; not what is no text.
POSTED = [
    name
    for name in StoredTransaction.model_fields
    if name not in (*FIRST, "attributes", "entities", "score", "label")
]
COLUMNS = (*FIRST, *POSTED, *OF_SCORE, "label")
# What spreadsheets take for the beginning of a formula, in some languages also as wide characters.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


# What is filled in: an empty field is no filter, and what is wrong in one is shown beside it.
Field = Annotated[str, Query(max_length=1000)]


async def _filled(
    account_id: Field = "",
    occurred_from: Field = "",
    occurred_to: Field = "",
    outcome: Field = "",
    risk_level: Field = "",
    entity_kind: Field = "",
    entity_id: Field = "",
    amount_from: Field = "",
    amount_to: Field = "",
    label: Field = "",
) -> dict[str, str]:
    return dict(locals())


FilledIn = Annotated[dict[str, str], Depends(_filled)]


class FoundPayments(NamedTuple):
    """Payments, and where to go on looking; None where all have been looked at."""

    payments: list[StoredTransaction]
    cursor: str | None


@router.get("/payments")
async def show_payments(
    request: Request,
    viewer: SignedIn,
    database: RunningDatabase,
    fields: FilledIn,
    cursor: Cursor = None,
) -> Response:
    """Payments that match all that is filled in."""
    error, filters, found = "", SearchFilters(), None
    try:
        filters = _filters(fields)
        found = await _found(database, viewer.tenant, filters, cursor)
    except (BadForm, ValidationFailed) as problem:
        error = str(problem)
    return await show(
        request,
        "payments.html",
        422 if error else 200,
        here="payments",
        error=error,
        fields=_fields(filters) if found else fields,
        chosen=_fields(filters),
        found=found,
        searches=(await list_searches(database, viewer.caller)).data,
        address=_fields,
    )


@router.get("/payments.csv")
async def send_payments(
    request: Request, viewer: SignedIn, database: RunningDatabase, fields: FilledIn
) -> Response:
    """The same as a file, while it is being read."""
    filters = _filters(fields)
    headers = {**browsers.HEADERS, "Content-Disposition": 'attachment; filename="payments.csv"'}
    lines = _lines(part_of(request.scope, Admission), database, viewer.tenant, filters)
    return StreamingResponse(lines, media_type="text/csv", headers=headers)


@router.post("/payments/save")
async def save(request: Request, viewer: SignedIn, database: RunningDatabase) -> Response:
    """Keep a search under a name, for whoever keeps it."""
    form = await browsers.form_of(request)
    name = browsers.id_in(form, "name", texts.SEARCH_NAME)
    filters = _filters(form)
    await save_search(name, filters, database, viewer.caller)
    return go(request, "/payments", **_fields(filters))


@router.post("/payments/forget")
async def forget(request: Request, viewer: SignedIn, database: RunningDatabase) -> Response:
    """Forget a search."""
    form = await browsers.form_of(request)
    await remove_search(browsers.id_in(form, "name", texts.SEARCH_NAME), database, viewer.caller)
    return go(request, "/payments")


async def _found(
    database: Database, tenant: str, filters: SearchFilters, cursor: str | None
) -> FoundPayments:
    """A page of payments; of few among many those that are found in a moment."""
    found: list[StoredTransaction] = []
    began = time.monotonic()
    while True:
        paging = PageParams(PAYMENTS - len(found), cursor)
        page = await list_transactions(database, tenant, paging, **dict(filters))
        found += page.data
        cursor = page.next_cursor
        is_late = time.monotonic() - began > LOOKING_SECONDS
        if cursor is None or is_late or len(found) == PAYMENTS:
            return FoundPayments(found, cursor)


async def _lines(
    admission: Admission, database: Database, tenant: str, filters: SearchFilters
) -> AsyncIterator[str]:
    """A file of payments, page by page, each in its turn among the lists of others.

    While it waits for a page and reads it, it holds a place of its tenant's; not while it is sent,
    which whoever reads it slowly makes as long as they like. Raises Overloaded.
    """
    yield _line(COLUMNS)
    cursor, sent = None, 0
    for _ in range(MOST_PAGES):
        with HeldShare(admission, admission.places, tenant) as place:
            place.take(1)
            async with admission.lists.one():
                paging = PageParams(min(FILE_PAGE, MOST_IN_FILE - sent), cursor)
                page = await list_transactions(database, tenant, paging, **dict(filters))
        sent += len(page.data)
        yield "".join(_line(_cells(payment)) for payment in page.data)
        cursor = page.next_cursor
        if cursor is None:
            return
        if sent == MOST_IN_FILE:
            break
    yield _line([texts.MORE_THAN_FILE])


def _cells(payment: StoredTransaction) -> list[str]:
    values = payment.model_dump(include=set(COLUMNS))
    values |= payment.score.model_dump(include=set(OF_SCORE))
    return [_cell(values[name]) for name in COLUMNS]


def _cell(value: object) -> str:
    """A value as text, behind an apostrophe where a spreadsheet would compute it."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _line(cells: Any) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


def _filters(fields: Mapping[str, str]) -> SearchFilters:
    """What is filled in; raises BadForm, and ValidationFailed for what is no entity."""
    wanted = {
        name: text.strip()
        for name in SearchFilters.model_fields
        if (text := fields.get(name, "")).strip()
    }
    if "entity_id" not in wanted:
        # Its kind is always chosen.
        wanted.pop("entity_kind", None)
    for name in ("occurred_from", "occurred_to"):
        if name in wanted:
            wanted[name] = browsers.in_utc(wanted[name])
    filters = browsers.checked(SearchFilters, wanted)
    # Of a file that has begun nobody would see the error.
    stored_entity(filters.entity_kind, filters.entity_id)
    return filters


def _fields(filters: SearchFilters) -> dict[str, str]:
    """The same as a form and an address have it."""
    found: dict[str, str] = filters.model_dump(mode="json", exclude_none=True)
    return found
