"""Labels: of one transaction, of one account, of many at once; what each did, and its history."""

from collections.abc import Iterable, Mapping
from io import StringIO
from types import MappingProxyType
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Body, Query
from pydantic import WithJsonSchema

from app.accounts.schemas import LabelCounts, LabelledAccount
from app.accounts.store import Account
from app.errors import FieldError, ValidationFailed
from app.http.authentication import Admission, MayLabel, MayRead, RunningAdmission
from app.http.fields import LabelName
from app.http.keyed import KeyedRoute
from app.http.parts import RunningDatabase, part
from app.http.paths import AccountId, TransactionId
from app.http.problems import EVERYWHERE, documented
from app.labels import store as label_store
from app.labels.changes import Verdict
from app.labels.errors import LabelNotFound, TooManyLabels, WrongAccount
from app.labels.files import importing
from app.labels.files.reading import LabelFile, UnreadableLabels, read_labels
from app.labels.plans import Change
from app.labels.plans import Effect as Judged
from app.labels.records import LabelEvent as Event
from app.labels.schemas import (
    LABEL_FILE,
    LABEL_OBJECT,
    AdaptationMade,
    DecisionMade,
    Effect,
    LabelBatch,
    LabelBatchResult,
    LabelEvent,
    LabelGiven,
    LabelHistory,
    LabelNotStored,
    LabelsImported,
    LabelStored,
    PostedLabel,
    PostedLabels,
    RefusedLabelRow,
    Source,
    TransactionLabelled,
    UnmatchedRow,
)
from app.labels.service import Fate, Labelled, Labelling
from app.learner.decisions import Decision
from app.learner.network import INNER_STEPS
from app.learner.scorer import Copy
from app.learner.transaction import MOST_ITEMS
from app.objects import is_by_line
from app.ops.actor import actor
from app.ops.background import in_a_thread
from app.scoring import store as transaction_store
from app.scoring.errors import TransactionConflict, TransactionNotFound
from app.scoring.items import Items, otherwise
from app.scoring.routes import WRITES, label_name
from app.times import now_us, text_of

router = APIRouter(
    prefix="/v1",
    tags=["labels"],
    responses=documented(*EVERYWHERE),
    route_class=KeyedRoute,
)
RunningLabelling = Annotated[Labelling, part(Labelling)]
LabelFileBody = Annotated[
    bytes,
    Body(media_type="text/csv", openapi_examples={"three columns": {"value": LABEL_FILE}}),
    WithJsonSchema({"type": "string", "description": "CSV in UTF-8, with a header."}),
]
# The same rows as objects, one a line.
LABEL_LINES = {
    "application/x-ndjson": {
        "schema": {"type": "string", "description": "JSON in UTF-8, an object a line."},
        "examples": {"three fields": {"value": LABEL_OBJECT}},
    }
}
Conflicting = documented(
    TransactionNotFound, TransactionConflict, ValidationFailed, WrongAccount, TooManyLabels
)


@router.put(
    "/transactions/{transaction_id}/label",
    responses={**WRITES, **documented(TransactionNotFound, TooManyLabels)},
)
async def label_transaction(
    transaction_id: TransactionId, posted: LabelGiven, labelling: RunningLabelling, tenant: MayLabel
) -> TransactionLabelled:
    """Label a transaction, or change its label; its account's very next score uses it."""
    return await give_label(labelling, tenant, transaction_id, posted)


@router.delete(
    "/transactions/{transaction_id}/label", responses=documented(LabelNotFound, TooManyLabels)
)
async def remove_label(
    transaction_id: TransactionId, labelling: RunningLabelling, tenant: MayLabel
) -> TransactionLabelled:
    """Unlearn a label: the account's copy becomes what it would be had it never been there."""
    return await take_label(labelling, tenant, transaction_id)


@router.get("/transactions/{transaction_id}/label", responses=documented(TransactionNotFound))
async def read_label(
    transaction_id: TransactionId, database: RunningDatabase, tenant: MayRead
) -> LabelHistory:
    """The label of a transaction, and its whole history."""
    async with database.read() as connection:
        row = await transaction_store.require_scored(connection, tenant, transaction_id)
        history = await label_store.label_history(connection, tenant, transaction_id)
    return LabelHistory(
        transaction_id=transaction_id,
        account_id=row.account_id,
        label=_label(history[-1]) if history else None,
        history=[event_of(event) for event in history],
    )


@router.post("/labels", responses=WRITES)
async def label_many(
    posted: LabelBatch, admission: RunningAdmission, labelling: RunningLabelling, tenant: MayLabel
) -> LabelBatchResult:
    """Store up to 1,000 labels of any accounts, such as a file of chargebacks.

    The results come in their order, each with its own outcome; labels of one account are stored
    together.
    """
    admission.rates.owe(actor.get(), len(posted.labels) - 1)
    items = Items(posted.labels, "label")
    verdicts = [_verdict(key, item) for key, item in items.first.items()]
    answers = await labelling.store_each(tenant, verdicts)
    stored = [answer for answer in answers if isinstance(answer, Labelled)]
    effects = {
        effect.transaction_id: effect for answer in stored for effect in answer.change.labelled
    }

    def outcome(transaction_id: str, answer: Labelled) -> LabelStored:
        return _stored(transaction_id, answer, effects[transaction_id])

    by_id = dict(zip(items.first, answers, strict=True))
    return LabelBatchResult(results=items.results(by_id, outcome, LabelNotStored))


@router.post(
    "/labels/import",
    responses=WRITES,
    openapi_extra={"requestBody": {"content": LABEL_LINES}},
)
async def import_labels(
    file: LabelFileBody,
    admission: RunningAdmission,
    labelling: RunningLabelling,
    tenant: MayLabel,
    source: Annotated[Source, Query(description="How they were found out.")] = "chargeback",
    dry_run: Annotated[bool, Query(description="Store nothing, only say what would be.")] = False,
) -> LabelsImported:
    """Store the labels of a file of up to 1,000 rows: transaction, label and perhaps date.

    It is CSV, or JSON with an object a line, as its first line shows. Each row is answered alone.
    A label counts from its date, and of two the one known later stands; those that are there
    already are left alone, so that a file may be sent again.
    """
    found = await in_a_thread(lambda: _read(file))
    admission.rates.owe(actor.get(), found.rows - 1)
    stated, contradicting = importing.settle(found.labels, now_us())
    done = await importing.import_labels(labelling, tenant, stated, source, dry_run)
    refused = sorted([*found.refused, *contradicting, *done.refused])
    return LabelsImported(
        dry_run=dry_run,
        rows=found.rows,
        **{fate: done.labels[fate] for fate in get_args(Fate)},
        unmatched=[
            UnmatchedRow(
                row=unmatched_row.row,
                line=unmatched_row.line,
                transaction_id=unmatched_row.transaction_id,
            )
            for unmatched_row in sorted(done.unmatched)
        ],
        refused=[RefusedLabelRow(**refused_row._asdict()) for refused_row in refused],
    )


@router.post("/accounts/{account_id}/labels", responses={**WRITES, **Conflicting})
async def label_account(
    account_id: AccountId,
    posted: PostedLabels,
    admission: RunningAdmission,
    labelling: RunningLabelling,
    tenant: MayLabel,
) -> LabelledAccount:
    """Store labels of one account, all or none; its very next score uses them."""
    return await give_labels(admission, labelling, tenant, account_id, posted)


def _read(file: bytes) -> LabelFile:
    """The labels of a file. Raises ValidationFailed."""
    text = _text_of(file)
    try:
        is_json = is_by_line(StringIO(text))
        return read_labels(StringIO(text, newline=""), None, MOST_ITEMS, is_json)
    except UnreadableLabels as error:
        raise ValidationFailed(str(error)) from None


def _text_of(file: bytes) -> str:
    """The text of a file, which may begin with a byte order mark. Raises ValidationFailed."""
    try:
        return file.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = file.count(b"\n", 0, error.start) + 1
        raise ValidationFailed(f"line {line}: the file is not UTF-8; save it in UTF-8") from None


def state_of(account: Account) -> dict[str, Any]:
    """What is known of an account, as fields of an answer."""
    return {
        "account_id": account.account_id,
        "revision": account.revision,
        "transactions": account.transactions,
        "labels": LabelCounts(fraud=account.fraud_labels, legitimate=account.legitimate_labels),
    }


def changed_of(account: Account, change: Change) -> dict[str, Any]:
    """What labels did, as fields of an answer."""
    judged = {effect.transaction_id: effect for effect in change.effects}
    raised = [
        key for key, effect in judged.items() if _held(effect.after) and not _held(effect.before)
    ]
    return {
        "adaptation": adaptation_of(account.revision, change.copy),
        "labelled": _effects(change.labelled),
        "recent": _effects(change.recent),
        "alerts": _effects(change.alerts),
        "guard": _effects(change.guard),
        "cleared": [alert.transaction_id for alert in change.alerts if not _held(alert.after)],
        "raised": raised,
    }


def adaptation_of(revision: int, made: Copy) -> AdaptationMade:
    """The answer that a copy of this revision stands for."""
    return AdaptationMade(
        used=made.used,
        labels=made.labels,
        revision=revision,
        weight=made.weight,
        evidence=made.evidence,
        steps=INNER_STEPS if made.labels else 0,
        loss_before=made.loss_before,
        loss_after=made.loss_after,
        drift=made.drift,
        adapter=made.digest,
    )


def _held(decision: Decision) -> bool:
    return decision.outcome != "approve"


def _effects(effects: Iterable[Judged]) -> list[Effect]:
    return [
        Effect(
            transaction_id=effect.transaction_id,
            before=decision_of(effect.before),
            after=decision_of(effect.after),
        )
        for effect in effects
    ]


def decision_of(decision: Decision) -> DecisionMade:
    """The answer that a decision stands for."""
    return DecisionMade.model_validate(decision._asdict())


def _labelled(transaction_id: str, done: Labelled, label: LabelName | None) -> TransactionLabelled:
    return TransactionLabelled(
        **changed_of(done.account, done.change),
        transaction_id=transaction_id,
        account_id=done.account.account_id,
        label=label,
        changed=done.unchanged == 0,
    )


def _stored(transaction_id: str, answer: Labelled, own: Judged) -> LabelStored:
    return LabelStored(
        transaction_id=transaction_id,
        account_id=answer.account.account_id,
        changed=transaction_id in answer.changed,
        adaptation=adaptation_of(answer.account.revision, answer.change.copy),
        before=decision_of(own.before),
        after=decision_of(own.after),
    )


def _label(event: Event) -> LabelName | None:
    return None if event.is_fraud is None else label_name(event.is_fraud)


def event_of(event: Event) -> LabelEvent:
    """The answer that a change of a label stands for."""
    return LabelEvent(
        label=_label(event),
        revision=event.revision,
        labelled_at=text_of(event.labelled_at_us),
        recorded_at=text_of(event.recorded_at_us),
        source=event.source,
        analyst=event.analyst,
        note=event.note,
        corrected=event.features is not None,
    )


def _posted(label: PostedLabel) -> Verdict:
    if "transaction_id" in label.model_fields_set:
        return _verdict(label.transaction_id, label)
    transaction = label.transaction.transaction()
    return _verdict(transaction.transaction_id, label)._replace(transaction=transaction)


async def give_label(
    labelling: Labelling,
    tenant: str,
    transaction_id: str,
    posted: LabelGiven,
    shown: str | None = None,
) -> TransactionLabelled:
    """Label a transaction; raises LabelChanged where it has another label than was shown."""
    verdict = _verdict(transaction_id, posted)._replace(shown=shown)
    done = await labelling.put(tenant, verdict)
    return _labelled(transaction_id, done, posted.label)


async def give_labels(
    admission: Admission,
    labelling: Labelling,
    tenant: str,
    account_id: str,
    posted: PostedLabels,
    shown: Mapping[str, str] = MappingProxyType({}),
) -> LabelledAccount:
    """Label payments of an account, all or none; raises LabelChanged where one of them has another
    label than was shown."""
    admission.rates.owe(actor.get(), len(posted.labels) - 1)
    verdicts = [
        verdict._replace(shown=shown.get(verdict.transaction_id))
        for verdict in _distinct([_posted(label) for label in posted.labels])
    ]
    done = await labelling.store(tenant, account_id, verdicts)
    return LabelledAccount(
        **state_of(done.account),
        **changed_of(done.account, done.change),
        stored=done.stored,
        unchanged=done.unchanged,
    )


async def take_label(
    labelling: Labelling, tenant: str, transaction_id: str, shown: str | None = None
) -> TransactionLabelled:
    """Unlearn a label; raises LabelChanged where there is another than was shown."""
    done = await labelling.remove(tenant, transaction_id, shown)
    return _labelled(transaction_id, done, None)


def _verdict(transaction_id: str, posted: LabelGiven) -> Verdict:
    return Verdict(
        transaction_id,
        posted.label == "fraud",
        labelled_at_us=posted.labelled_at,
        source=posted.source,
        analyst=posted.analyst,
        note=posted.note,
    )


def _distinct(verdicts: list[Verdict]) -> list[Verdict]:
    """Each transaction once; raises ValidationFailed where one is given two labels."""
    distinct: dict[str, Verdict] = {}
    for position, verdict in enumerate(verdicts):
        first = distinct.setdefault(verdict.transaction_id, verdict)
        if first.is_fraud != verdict.is_fraud:
            field = f"labels[{position}].label"
            message = otherwise("label")
            raise ValidationFailed(message, [FieldError(field, message)])
        if first.transaction != verdict.transaction:
            message = "The same request has another label for this transaction earlier on."
            raise ValidationFailed(message, [FieldError(f"labels[{position}]", message)])
    return list(distinct.values())
