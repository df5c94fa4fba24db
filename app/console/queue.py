"""The queue: what waits, why, what a verdict would do; a verdict, its undoing, and the next."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, get_args

from fastapi import APIRouter, Query, Request, Response

from app.accounts.routes import adapt_account, list_accounts
from app.accounts.schemas import Adapted, AdaptRequest, Hypothesis
from app.console import browsers, texts
from app.console.browsers import BadForm
from app.console.payments import shown_payment
from app.console.records import DECIDING, Viewer
from app.console.viewing import PollRoute, SignedIn, ViewerRoute, go, show
from app.db.database import Database
from app.errors import Problem
from app.explanations.routes import RunningReplay
from app.http.fields import Id, LabelName
from app.http.paging import PageParams
from app.http.parts import RunningDatabase, part_of
from app.keys.scopes import ROLES
from app.labels.errors import LabelChanged
from app.labels.routes import (
    RunningLabelling,
    give_label,
    read_label,
    take_label,
)
from app.labels.schemas import LabelGiven, LabelHistory, TransactionLabelled
from app.learner.transaction import HOUR_US
from app.people.routes import list_people
from app.reviews.errors import QueueEmpty, ReviewNotFound, ReviewTaken
from app.reviews.routes import (
    assign_review,
    count_reviews,
    list_reviews,
    read_review,
    release_review,
    snooze_review,
    take_next_review,
    wake_review,
)
from app.reviews.schemas import (
    Assignment,
    Kind,
    NextAssignment,
    Order,
    ReviewedTransaction,
    Snooze,
    Status,
)
from app.reviews.service import CLAIM_HOURS, holds
from app.scoring.routes import read_transaction
from app.settings import Settings
from app.times import now_us, parse_us, text_of

router, polling = (
    APIRouter(prefix="/console", include_in_schema=False, route_class=kind)
    for kind in (ViewerRoute, PollRoute)
)

ROWS = 30
# So long after a verdict it can be taken back from the queue; later, on the payment's page.
UNDO_US = HOUR_US
Name = Literal["open", "mine", "declined", "sampled", "cleared", "resolved", "snoozed"]
# What a review can be snoozed for, in hours; the page says these in words.
SNOOZES = (1, 4, 24, 72, 168)


class Tab(NamedTuple):
    """A part of the queue: reviews of these kinds and a status, of all or of who looks."""

    kinds: Sequence[Kind]
    status: Status
    is_mine: bool = False
    is_asleep: bool = False


TABS: dict[Name, Tab] = {
    "open": Tab(["review"], "open"),
    "mine": Tab(["review", "decline", "sample"], "open", is_mine=True),
    "declined": Tab(["decline"], "open"),
    "sampled": Tab(["sample"], "open"),
    "cleared": Tab(["review"], "cleared"),
    "resolved": Tab(["review"], "resolved"),
    "snoozed": Tab(["review", "decline", "sample"], "open", is_asleep=True),
}


class Counts(NamedTuple):
    """How many reviews each tab has, as a page says it, and since when the oldest of it waits."""

    tabs: dict[Name, str]
    oldest: dict[Name, str]


class RecentVerdict(NamedTuple):
    """A verdict that was just given and can be taken back: what it was, and what it did."""

    history: LabelHistory
    was: str
    cleared: int
    raised: int


@router.get("")
async def show_queue(
    request: Request,
    viewer: SignedIn,
    database: RunningDatabase,
    replay: RunningReplay,
    tab: Name = "open",
    order: Order = "risk",
    at: Id | None = None,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
    done: Id | None = None,
    cleared: Annotated[int, Query(ge=0, le=9999)] = 0,
    raised: Annotated[int, Query(ge=0, le=9999)] = 0,
    slept: Id | None = None,
    notice: Literal["changed", "taken", "gone", "empty"] | None = None,
) -> Response:
    """What waits, and all about one of it: the one that the address names, or else the first."""
    rows, following = await _listed(database, viewer, tab, order, cursor)
    if not rows and await _is_empty(database, viewer.tenant):
        return await show(request, "first_run.html", here="queue", **_first_steps(request))
    ids = [row.transaction_id for row in rows]
    n = ids.index(at) if at in ids else 0
    chosen = rows[n] if rows else None
    return await show(
        request,
        "queue.html",
        here="queue",
        tab=tab,
        order=order,
        snoozes=SNOOZES,
        cursor=cursor,
        counts=await _counts(database, viewer),
        rows=rows,
        following=following,
        chosen=chosen,
        holder=holder_of(chosen, viewer) if chosen else None,
        before=ids[n - 1] if n else None,
        after=ids[n + 1] if n + 1 < len(ids) else None,
        about=await shown_payment(database, replay, viewer.tenant, ids[n]) if rows else None,
        done=await done_of(database, viewer, done, cleared, raised) if done else None,
        slept=await _asleep(database, viewer, slept) if slept else None,
        colleagues=await _colleagues(database, viewer),
        # After a verdict, the next may be gone by it.
        missing=at if at and at not in ids and not done and not slept else None,
        notice=notice,
    )


@polling.get("/counts")
async def show_counts(
    request: Request,
    viewer: SignedIn,
    database: RunningDatabase,
    tab: Name = "open",
    order: Order = "risk",
) -> Response:
    """The tabs with their counts, as the page asks for them by itself."""
    counts = await _counts(database, viewer)
    return await show(request, "tabs.html", tab=tab, order=order, counts=counts)


@router.get("/what-if")
async def show_what_if(
    request: Request,
    viewer: SignedIn,
    labelling: RunningLabelling,
    database: RunningDatabase,
    id: Id,
) -> Response:
    """What each verdict on a payment would do; nothing is stored."""
    viewer.caller.check(DECIDING)
    payment = await read_transaction(id, database, viewer.tenant)
    tried = [
        (name, await _previewed(labelling, viewer, payment.account_id, id, name))
        for name in ("fraud", "legitimate")
    ]
    return await show(request, "what_if.html", payment=payment, tried=tried)


@router.post("/verdict")
async def give_verdict(request: Request, viewer: SignedIn, labelling: RunningLabelling) -> Response:
    """Label the payment that the page showed, if its label is still the one that it showed."""
    viewer.caller.check(DECIDING)
    form = await browsers.form_of(request)
    transaction_id = browsers.id_in(form, "id", texts.PAYMENT)
    posted = _label_body(viewer, _label_in(form), browsers.note_in(form))
    shown = form.get("shown", "")
    try:
        result = await give_label(labelling, viewer.tenant, transaction_id, posted, shown)
    except LabelChanged:
        return _back(request, form, transaction_id, notice="changed")
    return _back(
        request,
        form,
        form.get("next") or transaction_id,
        done=transaction_id,
        **_effects(result),
    )


@router.post("/undo")
async def undo_verdict(
    request: Request, viewer: SignedIn, labelling: RunningLabelling, database: RunningDatabase
) -> Response:
    """Make a payment's label what it was, if nobody has changed it since."""
    viewer.caller.check(DECIDING)
    form = await browsers.form_of(request)
    transaction_id = browsers.id_in(form, "id", texts.PAYMENT)
    history = (await read_label(transaction_id, database, viewer.tenant)).history
    if not history or str(history[-1].revision) != form.get("revision"):
        return _back(request, form, transaction_id, notice="changed")
    current = history[-1].label or ""
    try:
        if form.get("was"):
            posted = _label_body(viewer, _label_in(form, "was"))
            await give_label(labelling, viewer.tenant, transaction_id, posted, current)
        else:
            await take_label(labelling, viewer.tenant, transaction_id, current)
    except LabelChanged:
        return _back(request, form, transaction_id, notice="changed")
    return _back(request, form, transaction_id)


@router.post("/take")
async def take(request: Request, viewer: SignedIn, database: RunningDatabase) -> Response:
    """Take a review, so that nobody else looks at it meanwhile."""
    viewer.caller.check(DECIDING)
    form = await browsers.form_of(request)
    transaction_id = browsers.id_in(form, "id", texts.PAYMENT)
    posted = Assignment(assignee=viewer.person)
    taking = assign_review(transaction_id, posted, database, viewer.caller)
    return await _back_after(taking, request, form, transaction_id)


@router.post("/give-back")
async def give_back(request: Request, viewer: SignedIn, database: RunningDatabase) -> Response:
    """Give a review back to the queue."""
    viewer.caller.check(DECIDING)
    form = await browsers.form_of(request)
    transaction_id = browsers.id_in(form, "id", texts.PAYMENT)
    releasing = release_review(transaction_id, database, viewer.caller)
    return await _back_after(releasing, request, form, transaction_id)


@router.post("/next")
async def take_next(request: Request, viewer: SignedIn, database: RunningDatabase) -> Response:
    """Take the most urgent review that nobody has, and show it."""
    viewer.caller.check(DECIDING)
    form = await browsers.form_of(request)
    kind: Kind = "decline" if form.get("tab") == "declined" else "review"
    order: Order = "age" if form.get("order") == "age" else "risk"
    posted = NextAssignment(assignee=viewer.person, kind=kind, order=order)
    try:
        taken = await take_next_review(posted, database, viewer.caller)
    except QueueEmpty:
        return go(request, "", tab=form.get("tab"), order=order, notice="empty")
    return go(request, "", tab="mine", order=order, at=taken.transaction_id)


@router.post("/hand-over")
async def hand_over(request: Request, viewer: SignedIn, database: RunningDatabase) -> Response:
    """Give a review to a colleague."""
    viewer.caller.check(DECIDING)
    form = await browsers.form_of(request)
    transaction_id = browsers.id_in(form, "id", texts.PAYMENT)
    assignee = form.get("assignee", "")
    if assignee not in await _colleagues(database, viewer):
        raise BadForm(texts.NO_COLLEAGUE)
    posted = Assignment(assignee=assignee, hand_over=True, take_over=viewer.caller.may_manage)
    handing = assign_review(transaction_id, posted, database, viewer.caller)
    return await _back_after(handing, request, form, form.get("next") or transaction_id)


@router.post("/snooze")
async def snooze(request: Request, viewer: SignedIn, database: RunningDatabase) -> Response:
    """Leave a review out of the queue for some hours."""
    viewer.caller.check(DECIDING)
    form = await browsers.form_of(request)
    transaction_id = browsers.id_in(form, "id", texts.PAYMENT)
    hours = next((offered for offered in SNOOZES if str(offered) == form.get("hours")), None)
    if hours is None:
        raise BadForm(texts.NO_SNOOZE)
    posted = Snooze.model_validate({"until": text_of(now_us() + hours * HOUR_US)})
    snoozing = snooze_review(transaction_id, posted, database, viewer.caller)
    following = form.get("next") or transaction_id
    return await _back_after(snoozing, request, form, following, slept=transaction_id)


@router.post("/wake")
async def wake(request: Request, viewer: SignedIn, database: RunningDatabase) -> Response:
    """Put a review back into the queue."""
    viewer.caller.check(DECIDING)
    form = await browsers.form_of(request)
    transaction_id = browsers.id_in(form, "id", texts.PAYMENT)
    waking = wake_review(transaction_id, database, viewer.caller)
    return await _back_after(waking, request, form, transaction_id)


def holder_of(review: ReviewedTransaction, viewer: Viewer) -> Literal["you", "another"] | None:
    """Who has a review, as the viewer sees it; None where anybody may take it."""
    if review.assignee is None or review.assigned_at is None:
        return None
    if now_us() - parse_us(review.assigned_at) >= CLAIM_HOURS * HOUR_US:
        return None
    # By a key one is whom one says.
    is_own = review.assignee == viewer.person and holds(
        viewer.caller, review.assignee, review.assigned_by
    )
    return "you" if is_own else "another"


def tab_of(review: ReviewedTransaction) -> Name:
    """The part of the queue that a review is in."""
    for name, tab in TABS.items():
        if not tab.is_mine and review.kind in tab.kinds and review.status == tab.status:
            return name
    return "resolved"


async def done_of(
    database: Database, viewer: Viewer, transaction_id: str, cleared: int, raised: int
) -> RecentVerdict | None:
    """The viewer's own verdict on a payment, if it is the newest and they gave it just now."""
    history = await read_label(transaction_id, database, viewer.tenant)
    if not history.history:
        return None
    *earlier, last = history.history
    is_fresh = now_us() - parse_us(last.recorded_at) < UNDO_US
    if last.label is None or last.analyst != viewer.person or not is_fresh:
        return None
    return RecentVerdict(history, (earlier[-1].label or "") if earlier else "", cleared, raised)


async def _listed(
    database: Database, viewer: Viewer, tab: Name, order: Order, cursor: str | None
) -> tuple[list[ReviewedTransaction], str | None]:
    """The reviews of a page, and the cursor of the next page."""
    here = TABS[tab]
    assignee = viewer.person if here.is_mine else None
    rows: list[ReviewedTransaction] = []
    following = None
    for kind in here.kinds:
        page = await list_reviews(
            database,
            viewer.tenant,
            PageParams(ROWS, cursor),
            kind=kind,
            status=here.status,
            assignee=assignee,
            order=order,
            snoozed=here.is_asleep,
        )
        rows += page.data
        # Nobody has so many that they need a second page of them.
        following = page.next_cursor if len(here.kinds) == 1 else None
    return rows, following


async def _counts(database: Database, viewer: Viewer) -> Counts:
    found = await count_reviews(database, viewer.tenant)
    own = await count_reviews(database, viewer.tenant, assignee=viewer.person)
    tabs, oldest = {}, {}
    for name, tab in TABS.items():
        by_kind = {counts.kind: counts for counts in (own if tab.is_mine else found).data}
        counted = "snoozed" if tab.is_asleep else tab.status
        count = sum(getattr(by_kind[kind], counted) for kind in tab.kinds)
        tabs[name] = f"{count:,}+" if count >= found.most_counted else f"{count:,}"
        waiting = [by_kind[kind].oldest_opened_at for kind in tab.kinds if counted == "open"]
        if opened_at := min(filter(None, waiting), default=None):
            oldest[name] = opened_at
    return Counts(tabs, oldest)


async def _asleep(
    database: Database, viewer: Viewer, transaction_id: str
) -> ReviewedTransaction | None:
    """A review that sleeps, to be woken by who has just sent it to sleep."""
    try:
        review = await read_review(transaction_id, database, viewer.tenant)
    except ReviewNotFound:
        return None
    return review if review.snoozed_until else None


async def _colleagues(database: Database, viewer: Viewer) -> list[str]:
    """Who else may decide."""
    found = (await list_people(database, viewer.tenant)).data
    return [
        person.name
        for person in found
        if person.state == "active"
        and person.name != viewer.person
        and set(DECIDING) <= set(ROLES[person.role])
    ]


async def _is_empty(database: Database, tenant: str) -> bool:
    return not (await list_accounts(database, tenant, PageParams(1, None))).data


async def _previewed(
    labelling: RunningLabelling,
    viewer: Viewer,
    account_id: str,
    transaction_id: str,
    label: LabelName,
) -> Adapted:
    hypothesis = Hypothesis(transaction_id=transaction_id, label=label)
    posted = AdaptRequest(dry_run=True, labels=[hypothesis])
    return await adapt_account(account_id, labelling, viewer.tenant, posted)


def _label_body(viewer: Viewer, label: LabelName, note: str | None = None) -> LabelGiven:
    body = {"label": label, "analyst": viewer.person, "note": note}
    return LabelGiven.model_validate(body)


def _label_in(form: Mapping[str, str], name: str = "label") -> LabelName:
    label = form.get(name)
    if label == "fraud":
        return "fraud"
    if label == "legitimate":
        return "legitimate"
    raise BadForm(texts.NO_VERDICT)


def _effects(done: TransactionLabelled) -> dict[str, int]:
    return {"cleared": len(done.cleared), "raised": len(done.raised)}


def _notice_of(problem: Problem) -> str:
    return "taken" if isinstance(problem, ReviewTaken) else "gone"


async def _back_after(
    change: Awaitable[object],
    request: Request,
    form: Mapping[str, str],
    transaction_id: str,
    **message: object,
) -> Response:
    """Back once a review is taken or given back, with a notice where somebody else has it."""
    try:
        await change
    except (ReviewTaken, ReviewNotFound) as problem:
        return _back(request, form, form["id"], notice=_notice_of(problem))
    return _back(request, form, transaction_id, **message)


def _back(
    request: Request, form: Mapping[str, str], transaction_id: str, **message: object
) -> Response:
    """To the page that a form was on: the payment's, or the queue at a payment."""
    if form.get("page") == "payment":
        return go(request, "/payment", id=form.get("id"), **message)
    if form.get("page") == "ask":
        return go(request, "/ask", **message)
    tab, order = form.get("tab"), form.get("order")
    return go(
        request,
        "",
        tab=tab if tab in TABS else None,
        order=order if order in get_args(Order) else None,
        at=transaction_id,
        **message,
    )


def _first_steps(request: Request) -> dict[str, Any]:
    """Where the service is, as this browser reaches it, and a time that it takes."""
    prefix = part_of(request.scope, Settings).prefix
    address = f"{request.url.scheme}://{request.url.netloc}{prefix}"
    return {"address": address, "now": text_of(now_us())}
