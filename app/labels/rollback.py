"""The way back: what an account's labels of now differ in from those of an earlier revision.

A label comes back with all that it was, the features it learns from among it. But where a label
of another account has been forgotten since then, they stay as if that had never been.
"""

from collections import defaultdict
from typing import NamedTuple

from app.accounts.store import Account
from app.db.connection import Connection
from app.labels import store as label_store
from app.labels.errors import RevisionNotFound
from app.labels.forgetting import corrections
from app.labels.records import LabelEvent, StoredLabel
from app.learner.features import FeatureSet
from app.scoring import store as transaction_store
from app.scoring.records import Scored
from app.times import now_us


class WayBack(NamedTuple):
    """The transactions whose label is another now, their labels as they are, and as they were.

    `now` and `then` lack those that have, or had, no label. Labels of others decide what those of
    then are to learn from where `follows_others`.
    """

    rows: dict[str, Scored]
    now: dict[str, StoredLabel]
    then: dict[str, StoredLabel]
    follows_others: bool


async def way_back(
    connection: Connection, features: FeatureSet, account: Account, revision: int
) -> WayBack:
    """What brings the account's labels back to a revision. Raises RevisionNotFound."""
    tenant, account_id = account.tenant, account.account_id
    if revision > account.revision:
        raise RevisionNotFound(f"Account {account_id!r} is at revision {account.revision}.")
    events = await label_store.events_of_account(connection, tenant, account_id)
    # Every revision has events, but those of before events were kept.
    if events and 0 < revision < events[0].revision:
        raise RevisionNotFound(f"Revisions before {events[0].revision} are not available.")
    of_then: dict[str, LabelEvent] = {}
    since: dict[str, list[LabelEvent]] = defaultdict(list)
    for event in events:
        if event.revision <= revision:
            of_then[event.transaction_id] = event
        else:
            since[event.transaction_id].append(event)
    rows = await transaction_store.scored(connection, tenant, since)
    now = await label_store.labels_of(connection, tenant, since)
    standing = {
        key: of_then[key] for key in since if key in of_then and of_then[key].is_fraud is not None
    }
    # Their features have been corrected since then, or would have been, had they had a label then:
    # for labels of this account, which is undone, or of others, which is not.
    doubtful = [
        rows[key]
        for key, event in standing.items()
        if any(e.is_fraud is None or e.features != event.features for e in since[key])
    ]
    corrected = await corrections(
        connection, features, tenant, doubtful, as_of={account_id: revision}
    )
    found = {key: event.features for key, event in standing.items()}
    for row in doubtful:
        without = corrected.get(row.transaction_id)
        found[row.transaction_id] = None if without == row.features else without
    then = {key: _label(event, found[key]) for key, event in standing.items()}
    changed = [key for key in since if _standing(now.get(key)) != _standing(then.get(key))]
    return WayBack(
        {key: rows[key] for key in changed},
        {key: now[key] for key in changed if key in now},
        {key: then[key] for key in changed if key in then},
        bool(doubtful),
    )


def _label(event: LabelEvent, features: bytes | None) -> StoredLabel:
    return StoredLabel(
        tenant=event.tenant,
        transaction_id=event.transaction_id,
        account_id=event.account_id,
        is_fraud=bool(event.is_fraud),
        occurred_at_us=event.occurred_at_us,
        labelled_at_us=event.labelled_at_us,
        matures_at_us=event.matures_at_us,
        source=event.source,
        analyst=event.analyst,
        note=event.note,
        recorded_at_us=now_us(),
        features=features,
    )


def _standing(label: StoredLabel | None) -> StoredLabel | None:
    """The label without what says nothing of it: when it was stored."""
    return None if label is None else label._replace(recorded_at_us=0)
