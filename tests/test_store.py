"""What is loaded and saved for a batch, and in which order it is locked."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import Table

from app.accounts import store as account_store
from app.accounts.store import Account
from app.db.database import Database
from app.db.schema import accounts, entities, label_entities, labels, links, transactions
from app.entities import states as entity_states
from app.entities.states import EntityState, Link
from app.labels import store as label_store
from app.labels.records import EntityLabel, LabelEntity, StoredLabel
from app.learner.adaptation import SUPPORT_LIMIT
from app.learner.transaction import MOST_ITEMS
from app.scoring import store as transaction_store
from app.scoring.records import Scored

pytestmark = pytest.mark.anyio

TENANT = "t"


def scored_row(transaction_id: str, at_us: int = 0, account_id: str = "alice") -> Scored:
    return Scored(
        tenant=TENANT,
        transaction_id=transaction_id,
        account_id=account_id,
        occurred_at_us=at_us,
        content="{}",
        content_digest=b"digest",
        features=transaction_id.encode(),
        features_digest="f",
        probability=0.1 + 0.2,
        risk_score=12.34,
        risk_level="low",
        outcome="approve",
        used="insufficient_labels",
        labels=0,
        revision=0,
        model="m",
        evaluated_at_us=2**53 + 1,
    )


def label_row(transaction_id: str, at_us: int = 0, **changes: Any) -> StoredLabel:
    row = StoredLabel(
        tenant=TENANT,
        transaction_id=transaction_id,
        account_id="alice",
        is_fraud=True,
        occurred_at_us=at_us,
        labelled_at_us=at_us,
        matures_at_us=at_us,
    )
    return row._replace(**changes)


@pytest.mark.parametrize(
    ("table", "row"),
    [
        (accounts, Account),
        (entities, EntityState),
        (links, Link),
        (transactions, Scored),
        (labels, StoredLabel),
        (label_entities, LabelEntity),
    ],
    ids=lambda part: getattr(part, "name", ""),
)
async def test_rows_have_the_columns_of_their_tables(table: Table, row: Any) -> None:
    # What is left of pruned payments is for erasures alone.
    beside = {"remainder"} if table is links else set()
    assert set(table.columns.keys()) - beside == set(row._fields)


async def test_a_scored_transaction_comes_back_to_the_bit(database: Database) -> None:
    rows = [scored_row("b"), scored_row("a")]
    async with database.write() as connection:
        await transaction_store.save_scored(connection, rows)
    async with database.read() as connection:
        found = await transaction_store.scored(connection, TENANT, ["a", "b", "c"])
        assert await transaction_store.scored(connection, "another tenant", ["a"]) == {}
    assert found == {"a": rows[1], "b": rows[0]}


async def test_a_thousand_keys_are_one_question(database: Database) -> None:
    rows = [scored_row(f"t-{n}") for n in range(1000)]
    async with database.write() as connection:
        await transaction_store.save_scored(connection, rows)
        found = await transaction_store.scored(
            connection, TENANT, [row.transaction_id for row in rows]
        )
    assert len(found) == 1000


async def test_more_keys_than_a_statement_may_have_parameters_are_one_statement(
    database: Database,
) -> None:
    keys = [f"k-{n}" for n in range(40_000)]
    async with database.write() as connection:
        await label_store.delete_labels(connection, "a", keys, 1)
        named = [("device", key) for key in keys]
        assert await label_store.label_changes(connection, "a", named) == []
        assert await label_store.labels_of_record(connection, "a", named) == []


async def test_the_past_of_each_account_ends_at_a_time_of_its_own(database: Database) -> None:
    paid = [
        *(scored_row(f"a-{at_us}", at_us) for at_us in (10, 20, 30)),
        # At one instant, in the order of their ids.
        *(scored_row(f"b-{n}", 15, "bob") for n in range(3)),
    ]
    moments = [("alice", 30), ("nobody", 30), ("bob", 16), ("alice", 21), ("alice", 10)]
    async with database.write() as connection:
        await transaction_store.save_scored(connection, paid)
    for opened in (database.write, database.read):
        async with opened() as connection:
            pasts = await transaction_store.pasts_of(connection, TENANT, moments, 2)
            assert (
                await transaction_store.pasts_of(connection, "another tenant", moments, 2)
                == [[]] * 5
            )
        assert [[payment.features for payment in past] for past in pasts] == [
            [b"a-20", b"a-10"],
            [],
            [b"b-2", b"b-1"],
            [b"a-20", b"a-10"],
            [],
        ]


async def test_new_accounts_are_empty_and_saved_ones_return(database: Database) -> None:
    async with database.write() as connection:
        locked = await account_store.lock_accounts(connection, TENANT, ["b", "a"])
        assert locked == {"a": Account(TENANT, "a"), "b": Account(TENANT, "b")}
        changed = locked["a"]._replace(transactions=3, state=b"\x00state")
        await account_store.save_accounts(connection, [changed])
    async with database.read() as connection:
        assert await account_store.account(connection, TENANT, "a") == changed
        assert await account_store.account(connection, "another tenant", "a") is None


async def test_a_locked_account_is_waited_for(database: Database) -> None:
    order: list[str] = []
    locked = asyncio.Event()

    async def first() -> None:
        async with database.write() as connection:
            await account_store.lock_accounts(connection, TENANT, ["a"])
            locked.set()
            await asyncio.sleep(0.1)
            order.append("first")

    async def second() -> None:
        await locked.wait()
        async with database.write() as connection:
            await account_store.lock_accounts(connection, TENANT, ["a"])
            order.append("second")

    await asyncio.gather(second(), first())
    assert order == ["first", "second"]


async def test_accounts_in_any_order_never_deadlock(database: Database) -> None:
    names = [f"a-{n}" for n in range(20)]

    async def add_one(turn: int) -> None:
        shuffled = names[turn:] + names[:turn]
        async with database.write() as connection:
            rows = await account_store.lock_accounts(connection, TENANT, shuffled)
            for_kinds = [(kind, name) for kind in ("device", "card") for name in shuffled]
            await entity_states.lock_entities(connection, TENANT, for_kinds)
            await account_store.save_accounts(
                connection,
                [row._replace(transactions=row.transactions + 1) for row in rows.values()],
            )

    await asyncio.gather(*(add_one(turn) for turn in range(12)))
    async with database.read() as connection:
        counts = [(await account_store.account(connection, TENANT, name)) for name in names]
    assert {row.transactions for row in counts if row} == {12}


def named(row: StoredLabel, kind: str, id_: str = "m", folded: bool = False) -> LabelEntity:
    return LabelEntity(TENANT, row.transaction_id, kind, id_, row.matures_at_us, folded)


def known_of(row: StoredLabel, kind: str) -> EntityLabel:
    return EntityLabel(row.transaction_id, kind, "m", row.matures_at_us, row.is_fraud)


async def test_labels_mature_strictly_before_the_time_their_entity_is_used(
    database: Database,
) -> None:
    early, exact, folded, elsewhere, nowhere, other = (
        label_row("early", matures_at_us=10),
        label_row("exact", matures_at_us=20),
        label_row("folded", matures_at_us=10),
        label_row("elsewhere", matures_at_us=10),
        label_row("nowhere", matures_at_us=10),
        label_row("other kind", matures_at_us=10),
    )
    rows = [
        *(named(early, kind) for kind in ("card", "device")),
        named(exact, "card"),
        named(folded, "card", folded=True),
        named(elsewhere, "card", "n"),
        named(other, "email"),
    ]
    async with database.write() as connection:
        labelled = [early, exact, folded, elsewhere, nowhere, other]
        await label_store.save_labels(connection, labelled, rows)
        since = {("card", "m"): 20, ("device", "m"): 20, ("card", "n"): 5}
        found = await label_store.maturing_labels(connection, TENANT, since)
        assert sorted(found) == [known_of(early, "card"), known_of(early, "device")]
        # Of each kind for itself.
        await label_store.mark_folded(connection, TENANT, found[:1])
        assert await label_store.maturing_labels(connection, TENANT, since) == found[1:]


async def test_a_removed_label_matures_no_more_and_its_removal_is_found(
    database: Database,
) -> None:
    rows = [label_row("kept", matures_at_us=10), label_row("removed", matures_at_us=10)]
    since = {("card", "m"): 20}
    async with database.write() as connection:
        await label_store.save_labels(connection, rows, [named(row, "card") for row in rows])
        await label_store.delete_labels(connection, TENANT, ["removed"], 50)
        found = await label_store.maturing_labels(connection, TENANT, since)
        assert found == [known_of(rows[0], "card")]
        assert await label_store.any_removed(connection, TENANT, since, 50)
        assert not await label_store.any_removed(connection, TENANT, since, 51)
        assert not await label_store.any_removed(connection, TENANT, [("device", "m")], 0)
        # Set again, it is there, and was removed.
        await label_store.save_labels(connection, rows[1:], [named(rows[1], "card")])
        assert len(await label_store.maturing_labels(connection, TENANT, since)) == 2
        assert await label_store.any_removed(connection, TENANT, since, 50)


async def test_of_any_number_of_labels_all_mature_and_are_folded(database: Database) -> None:
    rows = [label_row(f"t-{n:04}", matures_at_us=n) for n in range(2 * MOST_ITEMS + 1)]
    async with database.write() as connection:
        await label_store.save_labels(connection, rows, [named(row, "card") for row in rows])
        found = await label_store.maturing_labels(
            connection, TENANT, {("card", "m"): 2 * MOST_ITEMS}
        )
        assert [row.transaction_id for row in found] == [row.transaction_id for row in rows[:-1]]
        await label_store.mark_folded(connection, TENANT, found)
        assert await label_store.labels_of_record(connection, TENANT, [("card", "m")]) == found
        left = await label_store.maturing_labels(connection, TENANT, {("card", "m"): 2**60})
    assert left == [known_of(rows[-1], "card")]


async def test_links_come_back_by_pair_and_are_overwritten(database: Database) -> None:
    links_ = [
        Link(TENANT, "card", "c", "alice", 5),
        Link(TENANT, "card", "c", "bob", 6),
        Link(TENANT, "device", "c", "alice", 7),
    ]
    async with database.write() as connection:
        await entity_states.save_links(connection, links_)
        await entity_states.save_links(connection, [links_[0]._replace(first_use_us=3)])
        links = [("card", "c", "alice"), ("card", "c", "bob"), ("device", "c", "bob")]
        found = await entity_states.links_of(connection, TENANT, links)
        assert found == {links[0]: 3, links[1]: 6}
        assert await entity_states.links_of(connection, "another tenant", links) == {}
        assert await entity_states.used_by(connection, TENANT, "alice") == {
            ("card", "c"),
            ("device", "c"),
        }
        others = await entity_states.users_of(connection, TENANT, [("card", "c")], "alice", 10)
        assert others == {"bob"}


async def test_entities_that_nobody_uses_are_deleted_and_locked_anew(database: Database) -> None:
    used, unused = ("card", "used"), ("card", "unused")
    async with database.write() as connection:
        rows = await entity_states.lock_entities(connection, TENANT, [used, unused])
        await entity_states.save_entities(
            connection, [row._replace(state=b"sums") for [row] in rows.values()]
        )
        await entity_states.save_links(connection, [Link(TENANT, *used, "alice", 5)])
        await entity_states.delete_unused(connection, TENANT, [used, unused])

    async def locked(connection: Any) -> Any:
        return await entity_states.lock_entities(connection, TENANT, [used, unused])

    assert await database.run(locked) == {
        used: [EntityState(TENANT, *used, b"sums")],
        unused: [EntityState(TENANT, *unused)],
    }


async def test_a_support_has_the_newest_of_each_class_newest_first(database: Database) -> None:
    frauds = [(f"f-{n:02}", n, True) for n in range(SUPPORT_LIMIT + 3)]
    legitimate = [(f"l-{n:02}", 1000, False) for n in range(3)]
    async with database.write() as connection:
        for name, at_us, is_fraud in frauds + legitimate:
            await transaction_store.save_scored(connection, [scored_row(name, at_us)])
            await label_store.save_labels(
                connection, [label_row(name, at_us, is_fraud=is_fraud)], []
            )
        other = label_row("x", account_id="bob")
        await transaction_store.save_scored(connection, [scored_row("x", account_id="bob")])
        await label_store.save_labels(connection, [other], [])
        found = await label_store.supports(connection, TENANT, ["alice", "carol"])
    assert found["carol"] == []
    names = [row.features.decode() for row in found["alice"]]
    # Equal times are ordered by id, so that every replica learns from the same rows.
    newest = [name for name, _, _ in reversed(legitimate)]
    assert names == newest + [name for name, _, _ in reversed(frauds[3:])]
    assert [row.is_fraud for row in found["alice"]] == [False] * 3 + [True] * SUPPORT_LIMIT


async def test_counting_labels_is_a_revision(database: Database) -> None:
    async with database.write() as connection:
        await account_store.save_accounts(connection, [Account(TENANT, "a"), Account(TENANT, "b")])
        await account_store.count_labels(connection, TENANT, {"a": (2, 1)})
        await account_store.count_labels(connection, TENANT, {"a": (-1, 1)})
        assert await account_store.account(connection, TENANT, "a") == Account(
            TENANT, "a", revision=2, fraud_labels=1, legitimate_labels=2
        )
        assert await account_store.account(connection, TENANT, "b") == Account(TENANT, "b")


@pytest.mark.parametrize("step", [1, 2, 3, 5, 100])
async def test_what_accounts_paid_is_read_once_in_the_order_of_time(
    database: Database, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """However its steps fall: some find nothing, and times are shared."""
    monkeypatch.setattr("app.scoring.store.STEP_ENTRIES", step)
    paid = [("m", 5), ("n", 5), ("o", 1), ("o", 2), ("o", 3), ("p", 4), ("m", 9), ("n", 9)]
    rows = [
        scored_row(f"t-{n}", at_us, account)._replace(content=f"{at_us} {n}")
        for n, (account, at_us) in enumerate(paid)
    ]
    async with database.write() as connection:
        await transaction_store.save_scored(connection, rows)
        await transaction_store.save_scored(connection, [rows[0]._replace(tenant="another")])

    async def read(accounts: list[str] | None, without: str) -> list[str]:
        async with database.read() as connection:
            return [
                payment.content
                async for payments in transaction_store.payments_of(
                    connection, TENANT, accounts, without
                )
                for payment in payments
            ]

    assert await read(["n", "m"], "p") == ["5 0", "5 1", "9 6", "9 7"]
    assert await read(["n", "m"], "m") == ["5 1", "9 7"]
    assert await read(None, "o") == ["4 5", "5 0", "5 1", "9 6", "9 7"]
