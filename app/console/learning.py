"""What an account has learned, and might: several labels at once, revisions, notes."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.accounts.routes import adapt_account, roll_back_account
from app.accounts.schemas import AdaptRequest, Hypothesis, RollbackRequest
from app.console import browsers, texts
from app.console.browsers import BadForm
from app.console.records import DECIDING
from app.console.viewing import SignedIn, ViewerRoute, go, show
from app.explanations.routes import RunningQuestions, RunningReplay, ask_next, read_revision
from app.http.authentication import RunningAdmission
from app.http.fields import Id, LabelName
from app.http.parts import RunningDatabase
from app.labels.errors import LabelChanged
from app.labels.routes import RunningLabelling, give_labels, read_label
from app.labels.schemas import PostedLabels
from app.notes.routes import add_note
from app.notes.schemas import PostedNote

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ViewerRoute)

MOST_CHOSEN, SUGGESTIONS = 60, 5
# Of a revision: Python makes no number of a text of any length.
MOST_DIGITS = 19
Chosen = Annotated[list[Id], Query(alias="id", max_length=MOST_CHOSEN)]


@router.get("/try")
async def show_trial(
    request: Request,
    viewer: SignedIn,
    labelling: RunningLabelling,
    database: RunningDatabase,
    account: Id,
    label: LabelName,
    chosen: Chosen = [],  # noqa: B006
) -> Response:
    """What one verdict on several payments of an account would do; nothing is stored."""
    viewer.caller.check(DECIDING)
    ids = list(dict.fromkeys(chosen))
    if not ids:
        raise BadForm(texts.NOTHING_CHOSEN)
    labels = [Hypothesis(transaction_id=id_, label=label) for id_ in ids]
    posted = AdaptRequest(dry_run=True, labels=labels)
    done = await adapt_account(account, labelling, viewer.tenant, posted)
    shown = [(await read_label(id_, database, viewer.tenant)).label or "" for id_ in ids]
    return await show(
        request,
        "trial.html",
        account=account,
        label=label,
        ids=ids,
        # Ids have no line breaks in them.
        fields={"ids": "\n".join(ids), "shown": "\n".join(shown)},
        done=done,
    )


@router.post("/label-chosen")
async def label_chosen(
    request: Request,
    viewer: SignedIn,
    labelling: RunningLabelling,
    admission: RunningAdmission,
) -> Response:
    """Label several payments of an account, if each has the label that the page showed."""
    viewer.caller.check(DECIDING)
    form = await browsers.form_of(request)
    account = browsers.id_in(form, "account", texts.ACCOUNT)
    ids, shown = (form.get(name, "").replace("\r", "").split("\n") for name in ("ids", "shown"))
    label = form.get("label")
    if label not in texts.LABELS:
        raise BadForm(texts.NO_VERDICT)
    if not 0 < len(ids) == len(shown) <= MOST_CHOSEN:
        raise BadForm(texts.NOTHING_CHOSEN)
    note = browsers.note_in(form)
    each = {"label": label, "analyst": viewer.person, **({"note": note} if note else {})}
    labels = [{"transaction_id": id_, **each} for id_ in ids]
    posted = browsers.checked(PostedLabels, {"labels": labels})
    seen = dict(zip(ids, shown, strict=True))
    try:
        done = await give_labels(admission, labelling, viewer.tenant, account, posted, seen)
    except LabelChanged:
        return go(request, "/account", id=account, notice="changed")
    return go(request, "/account", id=account, stored=done.stored, revision=done.revision)


@router.get("/revision")
async def show_revision(
    request: Request,
    viewer: SignedIn,
    replay: RunningReplay,
    labelling: RunningLabelling,
    id: Id,
    revision: Annotated[int, Query(ge=1, le=2**63 - 1)],
) -> Response:
    """What a revision changed, and what going back to it would do now; nothing is stored."""
    tenant = viewer.tenant
    after = await read_revision(id, revision, replay, tenant)
    before = await read_revision(id, revision - 1, replay, tenant)
    posted = RollbackRequest(revision=revision - 1, dry_run=True)
    may_go_back = viewer.may_decide
    back = await roll_back_account(id, posted, labelling, tenant) if may_go_back else None
    then, now = (
        {label.transaction_id: label.label for label in half.labels} for half in (before, after)
    )
    return await show(
        request,
        "revision.html",
        account=id,
        before=before,
        after=after,
        differences=[
            (id_, then.get(id_), now.get(id_))
            for id_ in sorted(then.keys() | now.keys())
            if then.get(id_) != now.get(id_)
        ],
        back=back,
    )


@router.post("/roll-back")
async def roll_back(request: Request, viewer: SignedIn, labelling: RunningLabelling) -> Response:
    """Make an account's labels what they were, if they are still those that the page showed."""
    viewer.caller.check(DECIDING)
    form = await browsers.form_of(request)
    account = browsers.id_in(form, "account", texts.ACCOUNT)
    revision = form.get("revision", "")
    if not (revision.isdecimal() and len(revision) <= MOST_DIGITS):
        raise BadForm(texts.REVISION)
    posted = browsers.checked(RollbackRequest, {"revision": int(revision), "dry_run": True})
    tried = await roll_back_account(account, posted, labelling, viewer.tenant)
    if str(tried.revision) != form.get("shown"):
        return go(request, "/account", id=account, notice="changed")
    real = RollbackRequest(revision=posted.revision, dry_run=False)
    done = await roll_back_account(account, real, labelling, viewer.tenant)
    return go(request, "/account", id=account, stored=len(done.labelled), revision=done.revision)


@router.get("/ask-next")
async def show_ask_next(
    request: Request, viewer: SignedIn, questions: RunningQuestions, id: Id
) -> Response:
    """Which payments of an account to label next."""
    found = await ask_next(id, questions, viewer.tenant, SUGGESTIONS)
    return await show(request, "ask_next.html", found=found)


@router.post("/note")
async def write_note(request: Request, viewer: SignedIn, database: RunningDatabase) -> Response:
    """Write something down about an account."""
    viewer.caller.check(("decide",))
    form = await browsers.form_of(request)
    account = browsers.id_in(form, "account", texts.ACCOUNT)
    text = browsers.note_in(form)
    if text is None:
        raise BadForm(texts.NO_NOTE)
    posted = PostedNote(text=text, author=viewer.person)
    await add_note(account, posted, database, viewer.caller)
    return go(request, "/account", id=account, noted=1)
