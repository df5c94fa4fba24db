"""Labels: of a transaction, of an account as its support, of an entity as they mature."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Table,
    and_,
    bindparam,
    delete,
    false,
    func,
    null,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy import cast as sql_cast

from app.db.connection import Connection
from app.db.pages import Part, read_page
from app.db.schema import (
    WAS_REMOVED,
    accounts,
    erasures,
    forgettings,
    label_entities,
    label_events,
    labels,
    past_features,
    transactions,
)
from app.db.statements import IsWanted, by_key, columns
from app.entities.states import EntityKey
from app.labels.records import (
    EntityLabel,
    Forgetting,
    LabelChange,
    LabelEntity,
    LabelEvent,
    Progress,
    Removals,
    StoredLabel,
    SupportRow,
    Witness,
)
from app.learner.adaptation import SUPPORT_LIMIT
from app.learner.transaction import MOST_ITEMS
from app.ops.background import in_a_thread
from app.scoring.store import AS_SCORED, COMPUTED_AT_US


async def labels_of(
    connection: Connection, tenant: str, transaction_ids: Iterable[str]
) -> dict[str, StoredLabel]:
    """The labels that these transactions have."""
    return await connection.by_transaction(labels, StoredLabel, tenant, transaction_ids)


async def supports(
    connection: Connection,
    tenant: str,
    account_ids: Iterable[str],
    most: int = SUPPORT_LIMIT,
) -> dict[str, list[SupportRow]]:
    """The newest labelled transactions of these accounts, newest first, so many of each class."""
    wanted = list(account_ids)
    if not wanted:
        return {}
    found: dict[str, list[SupportRow]] = {key: [] for key in wanted}
    for account_id, *row in await connection.fetch(
        tuple[Any, ...],
        _supports(),
        tenant,
        wanted,
        most > 10 * SUPPORT_LIMIT,
        most=most,
    ):
        found[account_id].append(SupportRow(*row))
    return found


@cache
def _supports() -> Any:
    newest_first = (labels.c.occurred_at_us.desc(), labels.c.transaction_id.desc())
    rank = func.row_number().over(
        partition_by=(labels.c.account_id, labels.c.is_fraud), order_by=newest_first
    )
    ranked = (
        select(labels, rank.label("rank"))
        .where(labels.c.tenant == bindparam("of_tenant"), IsWanted(labels.c.account_id))
        .subquery()
    )
    return (
        select(
            ranked.c.account_id,
            ranked.c.transaction_id,
            func.coalesce(ranked.c.features, transactions.c.features),
            ranked.c.is_fraud,
            ranked.c.occurred_at_us,
            ranked.c.labelled_at_us,
        )
        .join_from(
            ranked,
            transactions,
            by_key(transactions, ranked, "transaction_id"),
        )
        .where(ranked.c.rank <= bindparam("most"))
        .order_by(ranked.c.occurred_at_us.desc(), ranked.c.transaction_id.desc())
    )


_OF_ENTITIES = (
    label_entities.c.tenant == bindparam("of_tenant"),
    IsWanted(label_entities.c.kind, label_entities.c.entity_id),
)


def _with_entities(table: Table) -> ColumnElement[bool]:
    """That a row of a table is about a transaction whose entities these are."""
    return by_key(table, label_entities, "transaction_id")


_ENTITY_LABELS = select(
    *(label_entities.c[name] for name in EntityLabel._fields[:-1]), labels.c.is_fraud
).join_from(label_entities, labels, _with_entities(labels))
_IS_FOLDED = label_entities.c.folded == true()
_IS_MATURING = and_(
    label_entities.c.folded == false(), label_entities.c.matures_at_us < bindparam("before_us")
)
# In a score, whose statements are to take microseconds: of more labels, rarely, elsewhere.
_MATURING = _ENTITY_LABELS.where(*_OF_ENTITIES, _IS_MATURING).limit(bindparam("most"))
_OF_RECORD = _ENTITY_LABELS.where(*_OF_ENTITIES, _IS_FOLDED)
_OF_RECORD_OR_MATURING = _ENTITY_LABELS.add_columns(label_entities.c.folded).where(
    *_OF_ENTITIES, or_(_IS_FOLDED, _IS_MATURING)
)
_FOLDED = (
    update(label_entities)
    .where(
        label_entities.c.tenant == bindparam("of_tenant"),
        IsWanted(label_entities.c.transaction_id, label_entities.c.kind),
    )
    .values(folded=True)
)
_NAMED = select(*columns(label_entities, LabelEntity)).where(
    label_entities.c.tenant == bindparam("of_tenant"), IsWanted(label_entities.c.transaction_id)
)
_UNNAMED = (
    update(label_entities)
    .where(
        label_entities.c.tenant == bindparam("of_tenant"), IsWanted(label_entities.c.transaction_id)
    )
    .values(folded=None, removed_at_us=sql_cast(bindparam("at_us"), BigInteger))
)
_CAME_BACK = (
    update(label_entities)
    .where(
        label_entities.c.tenant == bindparam("of_tenant"), IsWanted(label_entities.c.transaction_id)
    )
    .values(removed_at_us=sql_cast(bindparam("at_us"), BigInteger))
)
_DELETED = delete(labels).where(
    labels.c.tenant == bindparam("of_tenant"), IsWanted(labels.c.transaction_id)
)
_WITNESSING = (
    select(
        labels.c.transaction_id,
        labels.c.account_id,
        label_entities.c.kind,
        label_entities.c.entity_id,
        labels.c.occurred_at_us,
        COMPUTED_AT_US,
        labels.c.features.is_not(None),
    )
    .join_from(label_entities, labels, _with_entities(labels))
    .join(transactions, _with_entities(transactions))
    .where(*_OF_ENTITIES, labels.c.occurred_at_us > bindparam("after_us"))
)
_OWN_WITNESSING = _WITNESSING.where(labels.c.account_id == bindparam("of_account"))
_OTHERS_WITNESSING = _WITNESSING.where(labels.c.account_id != bindparam("of_account"))
# What labelled transactions learn from.
_LATEST = (
    select(labels.c.transaction_id, func.coalesce(labels.c.features, transactions.c.features))
    .join_from(labels, transactions, by_key(transactions, labels, "transaction_id"))
    .where(labels.c.tenant == bindparam("of_tenant"), IsWanted(labels.c.transaction_id))
)
# In no order: the database would sort by texts, in the language of its collation.
_CHANGES = (
    select(
        label_entities.c.kind,
        label_entities.c.entity_id,
        *(label_events.c[name] for name in LabelChange._fields[2:]),
    )
    .join_from(label_entities, label_events, _with_entities(label_events))
    .where(*_OF_ENTITIES, label_events.c.is_correction == false())
)
# Not their sum, which is too large for 64 bits.
_REMOVALS: Any = select(
    func.count(), func.sum(label_entities.c.removed_at_us % bindparam("modulus"))
).where(*_OF_ENTITIES, text(WAS_REMOVED))
_ERASURE_OF = select(*columns(forgettings, Forgetting)).where(
    forgettings.c.tenant == bindparam("of_tenant"),
    forgettings.c.account_id == bindparam("of_account"),
    forgettings.c.is_erasure == true(),
)
_ERASURES = (
    select(erasures.c.at_us, erasures.c.id)
    .where(erasures.c.tenant == bindparam("of_tenant"))
    .order_by(erasures.c.at_us.desc(), erasures.c.id.desc())
    .limit(1)
)
_ERASING = (
    select(forgettings.c.id)
    .where(forgettings.c.tenant == bindparam("of_tenant"), forgettings.c.is_erasure == true())
    .order_by(forgettings.c.id)
)
_MATURITIES = select(label_events.c.transaction_id, label_events.c.matures_at_us).where(
    label_events.c.tenant == bindparam("of_tenant"),
    IsWanted(label_events.c.transaction_id),
    label_events.c.is_fraud.is_not(None),
)
_REMOVED = (
    select(label_entities.c.removed_at_us)
    .where(
        *_OF_ENTITIES,
        text(WAS_REMOVED),
        label_entities.c.removed_at_us >= bindparam("since_us"),
    )
    .limit(1)
)
_NEWEST_REMOVALS: Any = (
    select(
        label_entities.c.kind, label_entities.c.entity_id, func.max(label_entities.c.removed_at_us)
    )
    .where(*_OF_ENTITIES, text(WAS_REMOVED))
    .group_by(label_entities.c.kind, label_entities.c.entity_id)
)
_CORRECTED = select(label_events.c.transaction_id).where(
    label_events.c.tenant == bindparam("of_tenant"),
    IsWanted(label_events.c.transaction_id),
    label_events.c.features.is_not(None),
)
_ANY_CORRECTED = _CORRECTED.limit(1)
_CORRECT = (
    update(labels)
    .where(
        labels.c.tenant == bindparam("of_tenant"),
        labels.c.transaction_id == bindparam("of_id"),
    )
    .values(features=bindparam("new_features"))
)
_PROGRESS = (
    update(forgettings)
    .where(
        forgettings.c.tenant == bindparam("of_tenant"),
        forgettings.c.id == bindparam("of_id"),
    )
    .values(
        **{name: forgettings.c[name] + bindparam(f"more_{name}") for name in Progress._fields},
        at_us=bindparam("now_us"),
    )
)
_UNDER_WAY = select(forgettings.c.id).where(
    forgettings.c.tenant == bindparam("of_tenant"), forgettings.c.id == bindparam("of_id")
)
_OF_EVENT: dict[str, Any] = {
    "revision": accounts.c.revision,
    "recorded_at_us": sql_cast(bindparam("at_us"), BigInteger),
    "is_correction": true(),
    "as_of": sql_cast(null(), BigInteger),
}
_NOTE = label_events.insert().from_select(
    LabelEvent._fields,
    select(
        *[_OF_EVENT[name] if name in _OF_EVENT else labels.c[name] for name in LabelEvent._fields]
    )
    .join_from(
        labels,
        accounts,
        by_key(accounts, labels, "account_id"),
    )
    .where(labels.c.tenant == bindparam("of_tenant"), IsWanted(labels.c.transaction_id)),
)
# Of the sum that distinguishes removals of an entity's labels.
MODULUS = 1_000_000_007


async def maturing_labels(
    connection: Connection, tenant: str, before_us: Mapping[EntityKey, int]
) -> list[EntityLabel]:
    """The labels of each entity that mature before its time and are not folded yet."""
    if not before_us:
        return []
    parameters: dict[str, Any] = {"before_us": max(before_us.values())}
    make, query = EntityLabel._make, _MATURING
    rows = await connection.fetch(make, query, tenant, before_us, most=MOST_ITEMS + 1, **parameters)
    if len(rows) > MOST_ITEMS:
        rows = await connection.fetch(
            make, query, tenant, before_us, are_many=True, most=2**62, **parameters
        )
    return [row for row in rows if row.matures_at_us < before_us[row.key]]


async def labels_of_record(
    connection: Connection, tenant: str, keys: Iterable[EntityKey]
) -> list[EntityLabel]:
    """The labels that are folded into these entities' label_state."""
    return await connection.fetch(EntityLabel._make, _OF_RECORD, tenant, keys, are_many=True)


async def all_labels(
    connection: Connection, tenant: str, before_us: Mapping[EntityKey, int]
) -> tuple[dict[EntityKey, list[EntityLabel]], list[EntityLabel]]:
    """What `labels_of_record` finds of each entity, and `maturing_labels` of all, at one moment."""
    rows = await connection.fetch(
        tuple[Any, ...],
        _OF_RECORD_OR_MATURING,
        tenant,
        before_us,
        are_many=True,
        before_us=max(before_us.values()),
    )

    def sort_out() -> tuple[dict[EntityKey, list[EntityLabel]], list[EntityLabel]]:
        folded: dict[EntityKey, list[EntityLabel]] = {key: [] for key in before_us}
        maturing = []
        for *values, is_folded in rows:
            label = EntityLabel._make(values)
            if is_folded:
                folded[label.key].append(label)
            elif label.matures_at_us < before_us[label.key]:
                maturing.append(label)
        return folded, maturing

    return await in_a_thread(sort_out)


async def entities_of_labels(
    connection: Connection, tenant: str, transaction_ids: Iterable[str]
) -> list[LabelEntity]:
    """The entities of these transactions that have, or had, a label."""
    wanted = list(transaction_ids)
    if not wanted:
        return []
    return await connection.fetch(LabelEntity._make, _NAMED, tenant, wanted, are_many=True)


async def save_labels(
    connection: Connection, rows: Iterable[StoredLabel], named: Iterable[LabelEntity]
) -> None:
    """Insert or overwrite labels of accounts that the transaction has locked.

    And the entities that they are evidence about, which are locked, too.
    """
    await connection.write_rows(labels, rows, ("tenant", "transaction_id"))
    await connection.write_rows(
        label_entities,
        named,
        ("tenant", "transaction_id", "kind"),
        kept=("removed_at_us",),
    )


async def insert_labels(
    connection: Connection, rows: Iterable[StoredLabel], named: Iterable[LabelEntity]
) -> None:
    """The same of transactions that are new."""
    await connection.write_rows(labels, rows)
    await connection.write_rows(label_entities, named)


async def mark_folded(connection: Connection, tenant: str, rows: Iterable[EntityLabel]) -> None:
    """These labels of locked entities are in the entities' label_state now."""
    await connection.change(_FOLDED, tenant, [(row.transaction_id, row.kind) for row in rows])


async def delete_labels(
    connection: Connection, tenant: str, transaction_ids: Iterable[str], at_us: int
) -> None:
    """Delete labels of accounts that the transaction has locked."""
    wanted = list(transaction_ids)
    await connection.change(_DELETED, tenant, wanted)
    await connection.change(_UNNAMED, tenant, wanted, at_us=at_us)


async def note_return(
    connection: Connection, tenant: str, transaction_ids: Iterable[str], at_us: int
) -> None:
    """Labels of locked entities are what they were before: to whoever was scored meanwhile, as if
    one were removed."""
    await connection.change(_CAME_BACK, tenant, list(transaction_ids), at_us=at_us)


async def save_label_events(connection: Connection, rows: Iterable[LabelEvent]) -> None:
    """Write down changes of labels, for ever."""
    await connection.write_rows(label_events, rows)


async def label_history(
    connection: Connection, tenant: str, transaction_id: str
) -> list[LabelEvent]:
    """Every change of a transaction's label, the oldest first."""
    query = (
        select(*columns(label_events, LabelEvent))
        .where(label_events.c.tenant == tenant, label_events.c.transaction_id == transaction_id)
        .order_by(label_events.c.revision)
    )
    return await connection.read(LabelEvent._make, query)


async def labels_of_account(
    connection: Connection, tenant: str, account_id: str
) -> list[StoredLabel]:
    """All labels of an account."""
    query = select(*columns(labels, StoredLabel)).where(
        labels.c.tenant == tenant, labels.c.account_id == account_id
    )
    return await connection.read(StoredLabel._make, query)


async def witnesses(
    connection: Connection,
    tenant: str,
    after_us: Mapping[EntityKey, int],
    account_id: str,
    of_others: bool,
) -> list[Witness]:
    """The labelled transactions at these entities that occurred after the first of the times.

    Of one account, or of all others.
    """
    if not after_us:
        return []
    return await connection.fetch(
        Witness._make,
        _OTHERS_WITNESSING if of_others else _OWN_WITNESSING,
        tenant,
        after_us,
        are_many=True,
        after_us=min(after_us.values()),
        of_account=account_id,
    )


async def latest_features(
    connection: Connection, tenant: str, transaction_ids: Iterable[str]
) -> dict[str, bytes]:
    """The features that these labelled transactions learn from, as corrected if they were."""
    rows = await connection.fetch(tuple[Any, ...], _LATEST, tenant, transaction_ids)
    return dict(rows)


async def first_maturities(
    connection: Connection, tenant: str, transaction_ids: Iterable[str]
) -> dict[EntityKey, int]:
    """When the first label that these transactions ever had matured, by entity."""
    wanted = list(transaction_ids)
    # Not as one query with a join: for each row SQLite would try all the ids that are wanted.
    events = await connection.fetch(tuple[Any, ...], _MATURITIES, tenant, wanted, are_many=True)
    first_us: dict[str, int] = {}
    for transaction_id, matures_at_us in events:
        before_us = first_us.get(transaction_id, matures_at_us)
        first_us[transaction_id] = min(matures_at_us, before_us)
    found: dict[EntityKey, int] = {}
    for row in await entities_of_labels(connection, tenant, wanted):
        if (matures_at_us := first_us.get(row.transaction_id)) is not None:
            found[row.key] = min(matures_at_us, found.get(row.key, matures_at_us))
    return found


async def label_changes(
    connection: Connection, tenant: str, keys: Iterable[EntityKey]
) -> list[LabelChange]:
    """Every change of a label of these entities, in no order. Some may say again what was there."""
    wanted = list(keys)
    if not wanted:
        return []
    return await connection.fetch(LabelChange._make, _CHANGES, tenant, wanted, are_many=True)


async def removals_of(connection: Connection, tenant: str, keys: Iterable[EntityKey]) -> Removals:
    """Which labels of these entities are removed, so that it shows when there is one more."""
    wanted, rows, total = list(keys), 0, 0
    if wanted:
        [(rows, total)] = await connection.fetch(
            tuple[Any, ...], _REMOVALS, tenant, wanted, are_many=True, modulus=MODULUS
        )
    newest = await connection.fetch(tuple[Any, ...], _ERASURES, tenant)
    erasing = await connection.fetch(tuple[Any, ...], _ERASING, tenant)
    return Removals(rows, int(total or 0), tuple(newest), tuple(erasing))


async def newest_removals(
    connection: Connection, tenant: str, keys: Iterable[EntityKey]
) -> dict[EntityKey, int]:
    """When a label of these entities was last removed; without those of which none was."""
    wanted = list(keys)
    if not wanted:
        return {}
    rows = await connection.fetch(tuple[Any, ...], _NEWEST_REMOVALS, tenant, wanted, are_many=True)
    return {(kind, entity_id): removed_at_us for kind, entity_id, removed_at_us in rows}


async def any_removed(
    connection: Connection, tenant: str, keys: Iterable[EntityKey], since_us: int
) -> bool:
    """Whether any label of these entities was removed since then."""
    found = await connection.fetch(
        tuple[Any, ...],
        _REMOVED,
        tenant,
        keys,
        are_many=True,
        since_us=since_us,
    )
    return bool(found)


async def any_corrected(
    connection: Connection, tenant: str, transaction_ids: Iterable[str]
) -> bool:
    """Whether any of these transactions was ever given other features to be learned from."""
    return bool(await connection.fetch(tuple[Any, ...], _ANY_CORRECTED, tenant, transaction_ids))


async def corrected_before(
    connection: Connection, tenant: str, transaction_ids: Iterable[str]
) -> set[str]:
    """Which of these transactions that is."""
    wanted = list(transaction_ids)
    rows = await connection.fetch(tuple[Any, ...], _CORRECTED, tenant, wanted, are_many=True)
    return {transaction_id for (transaction_id,) in rows}


async def correct_labels(
    connection: Connection, tenant: str, features: Mapping[str, bytes], at_us: int
) -> None:
    """Give labels of locked accounts, whose revision has changed, other features: by transaction.

    Each is a change that is written down.
    """
    rows = (
        {"of_tenant": tenant, "of_id": key, "new_features": value}
        for key, value in features.items()
    )
    await connection.update_rows(_CORRECT, rows)
    keys = list(features)
    for first in range(0, len(keys), MOST_ITEMS):
        some = keys[first : first + MOST_ITEMS]
        await connection.change(_NOTE, tenant, some, at_us=at_us)


async def save_forgetting(connection: Connection, row: Forgetting) -> None:
    """Keep that others have yet to forget labels; of one that is kept already, its progress is."""
    await connection.write_rows(forgettings, [row], ("tenant", "id"), kept=Progress._fields)


async def note_progress(
    connection: Connection, tenant: str, forgetting_id: str, more: Progress, at_us: int
) -> None:
    """So much more has been done of it."""
    row = {f"more_{name}": value for name, value in more._asdict().items()}
    row |= {"of_tenant": tenant, "of_id": forgetting_id, "now_us": at_us}
    await connection.update_rows(_PROGRESS, [row])


async def is_under_way(connection: Connection, tenant: str, forgetting_id: str) -> bool:
    """Whether a forgetting has not ended."""
    return bool(await connection.fetch(tuple[str], _UNDER_WAY, tenant, of_id=forgetting_id))


async def forgetting(connection: Connection, tenant: str, forgetting_id: str) -> Forgetting | None:
    """A forgetting that has not ended."""
    query = select(*columns(forgettings, Forgetting)).where(
        forgettings.c.tenant == tenant, forgettings.c.id == forgetting_id
    )
    return next(iter(await connection.read(Forgetting._make, query)), None)


async def erasure_of(connection: Connection, tenant: str, account_id: str) -> Forgetting | None:
    """The erasure of an account that has not ended."""
    found = await connection.fetch(Forgetting._make, _ERASURE_OF, tenant, of_account=account_id)
    return next(iter(found), None)


async def unfinished(connection: Connection, before_us: int) -> list[Forgetting]:
    """Those of all tenants that nobody has worked on since then."""
    query = select(*columns(forgettings, Forgetting)).where(forgettings.c.at_us < before_us)
    return await connection.read(Forgetting._make, query.order_by(forgettings.c.at_us))


async def delete_forgetting(connection: Connection, tenant: str, forgetting_id: str) -> None:
    """It has ended."""
    await connection.execute(
        delete(forgettings).where(forgettings.c.tenant == tenant, forgettings.c.id == forgetting_id)
    )


async def support_at(
    connection: Connection,
    tenant: str,
    account_id: str,
    revision: int,
    digest: str | None = None,
) -> list[SupportRow]:
    """The labelled transactions of an account as they were at a revision, newest first.

    With the features that they have, or those of a definition that they had, where these were
    replaced since.
    """
    last = (
        select(
            label_events,
            func.row_number()
            .over(
                partition_by=label_events.c.transaction_id,
                order_by=label_events.c.revision.desc(),
            )
            .label("rank"),
        )
        .where(
            label_events.c.tenant == tenant,
            label_events.c.account_id == account_id,
            label_events.c.revision <= revision,
        )
        .subquery()
    )

    def past(of_revision: Any) -> Any:
        return (
            select(past_features.c.features)
            .where(
                by_key(past_features, last, "transaction_id"),
                past_features.c.features_digest == digest,
                past_features.c.revision == of_revision,
            )
            .scalar_subquery()
        )

    pasts = [] if digest is None else [past(last.c.revision), past(AS_SCORED)]
    query = (
        select(
            last.c.transaction_id,
            func.coalesce(*pasts, last.c.features, transactions.c.features),
            last.c.is_fraud,
            last.c.occurred_at_us,
            last.c.labelled_at_us,
        )
        .join_from(
            last,
            transactions,
            by_key(transactions, last, "transaction_id"),
        )
        .where(last.c.rank == 1, last.c.is_fraud.is_not(None))
        .order_by(last.c.occurred_at_us.desc(), last.c.transaction_id.desc())
    )
    return await connection.read(SupportRow._make, query)


async def events_of_account(
    connection: Connection, tenant: str, account_id: str
) -> list[LabelEvent]:
    """Every change of an account's labels, the oldest first."""
    query = (
        select(*columns(label_events, LabelEvent))
        .where(label_events.c.tenant == tenant, label_events.c.account_id == account_id)
        .order_by(label_events.c.revision)
    )
    return await connection.read(LabelEvent._make, query)


async def listed_events(
    connection: Connection,
    tenant: str,
    account_id: str,
    after: tuple[int | float | str, ...] | None,
    limit: int,
) -> Part[LabelEvent]:
    """Changes of an account's labels, the newest revision first."""
    query = select(*columns(label_events, LabelEvent)).where(
        label_events.c.tenant == tenant, label_events.c.account_id == account_id
    )
    order = [label_events.c.revision, label_events.c.transaction_id]
    return await read_page(
        connection, LabelEvent._make, query, order, after, limit, descending=True
    )


async def events_of_revision(
    connection: Connection, tenant: str, account_id: str, revision: int
) -> list[LabelEvent]:
    """What changed with a revision of an account."""
    query = select(*columns(label_events, LabelEvent)).where(
        label_events.c.tenant == tenant,
        label_events.c.account_id == account_id,
        label_events.c.revision == revision,
    )
    return await connection.read(LabelEvent._make, query)
