"""A plan of labels committed: stored, counted as one revision, written down and announced."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set

from app.accounts import store as account_store
from app.accounts.store import Account
from app.audit import store as audit_store
from app.audit.entries import Action, Entry, entry
from app.db.connection import Connection
from app.entities import states as entity_states
from app.entities.states import EntityKey
from app.labels import store as label_store
from app.labels.changes import Alteration
from app.labels.correcting import forgetting_of
from app.labels.forgetting import change_records, event_of, need_correction, put_in_records
from app.labels.plans import REVIEWED, Draft, Plan
from app.labels.records import Forgetting, LabelEntity, LabelEvent, StoredLabel
from app.learner.decisions import Decision
from app.learner.features import FeatureSet
from app.learner.scorer import Copy
from app.reviews import store as review_store
from app.reviews.records import Review
from app.reviews.service import facts_of
from app.scoring import store as transaction_store
from app.scoring.pipeline import IN_PLACE, in_a_thread_if
from app.times import now_us
from app.webhooks.store import News, announce


async def lock(connection: Connection, alteration: Alteration) -> Account:
    """Lock all that an alteration changes; the account as it is then, which may be another.

    Raises AccountNotFound.
    """
    tenant, account_id = alteration.account.tenant, alteration.account.account_id
    account = (await account_store.lock_accounts(connection, tenant, [account_id]))[account_id]
    await entity_states.lock_only(connection, tenant, alteration.entities)
    return account


async def is_current(connection: Connection, draft: Draft, now: Account) -> bool:
    """Whether a draft would be the same again, by what is locked now."""
    alteration = draft.alteration
    was, tenant = alteration.account, now.tenant
    if (now.revision, now.created_at_us) != (was.revision, was.created_at_us):
        return False
    if now.transactions != was.transactions:
        ids = [row.transaction_id for row in alteration.rows]
        if len(await transaction_store.scored(connection, tenant, ids)) < len(set(ids)):
            # Pruned meanwhile.
            return False
        queue = await review_store.open_of_account(connection, tenant, now.account_id, REVIEWED)
        if [review.transaction_id for review in queue] != [
            review.transaction_id for review in draft.watched.reviews
        ]:
            return False
    if alteration.removals is None:
        unseen, named = alteration.unseen, alteration.named
        return not await need_correction(connection, tenant, unseen, named)
    entities = alteration.entities
    removals = await label_store.removals_of(connection, tenant, entities)
    return removals == alteration.removals


async def commit(
    connection: Connection, features: FeatureSet, plan: Plan
) -> tuple[Plan, Account, Forgetting | None]:
    """Carry out a plan; its account and entities are locked.

    The plan as it was stored, the account as it is then, and what others have yet to forget.
    """
    draft = plan.draft
    alteration = draft.alteration
    account, old = alteration.account, alteration.old
    tenant = account.tenant
    forgetting = (
        forgetting_of(tenant, account.account_id, alteration.for_others)
        if alteration.for_others
        else None
    )
    # Only now: who has scored at the entities meanwhile has not seen them.
    new = alteration.labels(now_us(), draft.corrected)
    if alteration.changed:
        account = await _replace(connection, features, alteration, old, new)
        if alteration.as_of is not None:
            revisions = (
                {"revision": alteration.account.revision},
                {"revision": account.revision, "as_of": alteration.as_of},
            )
            key = account.account_id
            entries = [entry(tenant, "account.rolled_back", key, *revisions, key)]
            await audit_store.save_entries(connection, entries)
        if alteration.corrections:
            corrected = alteration.corrections
            await label_store.correct_labels(connection, tenant, corrected, now_us())
        if forgetting:
            await label_store.save_forgetting(connection, forgetting)
    await _save_reviews(connection, plan, new.keys(), account.revision)
    news = _news(old, new)
    if draft.has_new_copy:
        news.append(_adaptation(account, plan.change.copy))
    await announce(connection, tenant, news)
    return plan.stored(new), account, forgetting


def counted(
    added: Iterable[StoredLabel], removed: Iterable[StoredLabel]
) -> dict[str, tuple[int, int]]:
    """By how many frauds and legitimates each account's labels grow."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for labels, sign in ((added, 1), (removed, -1)):
        for label in labels:
            counts[label.account_id][0 if label.is_fraud else 1] += sign
    return {account_id: (fraud, legitimate) for account_id, (fraud, legitimate) in counts.items()}


async def _replace(
    connection: Connection,
    features: FeatureSet,
    alteration: Alteration,
    old: Mapping[str, StoredLabel],
    new: Mapping[str, StoredLabel],
) -> Account:
    """Put new labels in the place of old ones; the account as it is then."""
    account, action = alteration.account, alteration.action
    tenant = account.tenant
    removed = {key: label for key, label in old.items() if key not in new}
    # As they are now that nobody else can fold the labels into their entities' records.
    there = await label_store.entities_of_labels(connection, tenant, old)
    await label_store.delete_labels(connection, tenant, removed, now_us())
    named = label_entities(new.values(), alteration.named)
    put = put_in_records(named, there, new)
    folded = {(row.transaction_id, row.kind) for row in put}
    named = [row._replace(folded=(row.transaction_id, row.kind) in folded) for row in named]
    await label_store.save_labels(connection, new.values(), named)
    if alteration.as_of is not None:
        await label_store.note_return(connection, tenant, new, now_us())
    await change_records(connection, features, tenant, there, put, alteration.records)
    counts = counted(new.values(), old.values())
    await account_store.count_labels(connection, tenant, counts)
    fraud, legitimate = counts[account.account_id]
    now = account._replace(
        revision=account.revision + 1,
        fraud_labels=account.fraud_labels + fraud,
        legitimate_labels=account.legitimate_labels + legitimate,
    )

    def records() -> tuple[list[LabelEvent], list[Entry]]:
        events = [
            *(event_of(label, now.revision) for label in new.values()),
            *(event_of(label, now.revision, removed=True) for label in removed.values()),
        ]
        events = [event._replace(as_of=alteration.as_of) for event in events]
        return events, [_entry(old.get(key), new.get(key), action) for key in (*new, *removed)]

    events, entries = await in_a_thread_if(len(new) + len(removed) > IN_PLACE, records)
    await label_store.save_label_events(connection, events)
    await audit_store.save_entries(connection, entries)
    return now


async def _save_reviews(connection: Connection, plan: Plan, new: Set[str], revision: int) -> None:
    """The reviews as the newest copy sees them; those of labelled transactions are resolved."""
    draft, change = plan.draft, plan.change
    queue = {review.transaction_id: review for review in draft.watched.reviews}
    queue |= draft.reviews
    alteration = draft.alteration
    # Those of the rows whose label has not changed have one.
    labelled = {row.transaction_id for row in alteration.rows} - alteration.changed | new
    decided = {e.transaction_id: e.after for e in (*change.alerts, *change.labelled)}
    reviews = {
        key: _reviewed(review, decided[key], key in labelled, revision)
        for key, review in queue.items()
    }
    await review_store.save_reviews(connection, reviews.values())
    await audit_store.save_entries(
        connection,
        [
            _resolution(queue[key], review)
            for key, review in reviews.items()
            if (review.status == "resolved") != (queue[key].status == "resolved")
        ],
    )


def _reviewed(review: Review, decision: Decision, has_label: bool, revision: int) -> Review:
    # What was declined stays: the lower its risk is now, the sooner somebody should look at it.
    is_cleared = review.kind == "review" and decision.outcome == "approve"
    status = "resolved" if has_label else "cleared" if is_cleared else "open"
    return review._replace(
        probability=decision.probability,
        risk_score=decision.risk_score,
        status=status,
        revision=revision,
        resolved_at_us=(review.resolved_at_us or now_us()) if has_label else None,
    )


def _resolution(old: Review, new: Review) -> Entry:
    """What the audit log keeps of a review that a label resolves, or whose label is removed."""
    action: Action = "review.resolved" if new.status == "resolved" else "review.reopened"
    return entry(
        old.tenant, action, old.transaction_id, facts_of(old), facts_of(new), old.account_id
    )


def _news(old: Mapping[str, StoredLabel], new: Mapping[str, StoredLabel]) -> list[News]:
    """The webhook events of new labels in the place of old ones."""
    removed = [label for key, label in old.items() if key not in new]
    named = [(label, _name(label)) for label in new.values()]
    return [
        (
            "label.changed",
            {
                "transaction_id": label.transaction_id,
                "account_id": label.account_id,
                "label": name,
            },
        )
        for label, name in [*named, *((label, None) for label in removed)]
    ]


def _adaptation(account: Account, copy: Copy) -> News:
    """The webhook event of an account's new copy."""
    return (
        "adaptation.done",
        {
            "account_id": account.account_id,
            "revision": account.revision,
            "used": copy.used,
            "labels": copy.labels,
            "adapter": copy.digest,
        },
    )


def _entry(old: StoredLabel | None, new: StoredLabel | None, action: Action | None) -> Entry:
    """What the audit log keeps of a change."""
    label = new or old
    assert label is not None
    return entry(
        label.tenant,
        action or ("label.set" if new else "label.removed"),
        label.transaction_id,
        _facts(old),
        _facts(new),
        label.account_id,
    )


def _facts(label: StoredLabel | None) -> dict[str, object] | None:
    if label is None:
        return None
    return {
        "label": _name(label),
        "source": label.source,
        "analyst": label.analyst,
        "note": label.note,
    }


def _name(label: StoredLabel) -> str:
    return "fraud" if label.is_fraud else "legitimate"


def label_entities(
    labels: Iterable[StoredLabel], named: Mapping[str, Sequence[EntityKey]]
) -> list[LabelEntity]:
    """The entities of new labels, which have yet to be folded into their records."""
    return [
        LabelEntity(label.tenant, label.transaction_id, *key, label.matures_at_us)
        for label in labels
        for key in named[label.transaction_id]
    ]
