"""API keys: shown once, kept as a digest, distinguished from anything else, revoked."""

import ast
import asyncio
import contextlib
import hmac
import inspect
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from app.db.database import Database
from app.db.schema import api_keys
from app.http.problems import Forbidden, Unauthenticated
from app.keys import service as keys
from app.keys.errors import KeyNotFound, TooManyKeys
from app.keys.scopes import DEFAULT_TENANT
from app.times import now_us

pytestmark = pytest.mark.anyio


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def authenticator(database: Database, clock: Clock) -> AsyncIterator[keys.Authenticator]:
    authenticator = keys.Authenticator(database, clock)
    yield authenticator
    await authenticator.close()


async def caller_of(database: Database, key: str) -> keys.Caller:
    """Whom a key speaks for in a process that has never seen it."""
    authenticator = keys.Authenticator(database)
    try:
        return await authenticator.caller_of(key)
    finally:
        await authenticator.close()


async def test_a_key_speaks_for_its_tenant(database: Database) -> None:
    key = await keys.create(database, "till", tenant="acme")
    assert (await caller_of(database, key)).tenant == "acme"


async def test_a_tenant_has_so_many_live_keys_and_a_list_of_so_many(database: Database) -> None:
    def rows(count: int, **columns: object) -> list[dict[str, object]]:
        made = {"tenant": "acme", "name": "till", "digest": b"", "scopes": "read", **columns}
        return [{"id": f"{count} {n}", "created_at_us": n, **made} for n in range(count)]

    async with database.write() as connection:
        await connection.execute(api_keys.insert(), rows(keys.MOST_LISTED, revoked_at_us=5))
        await connection.execute(api_keys.insert(), rows(keys.MOST_KEYS - 1, expires_at_us=None))
    created = (keys.create(database, "one more", tenant="acme") for _ in range(3))
    made = await asyncio.gather(*created, return_exceptions=True)
    # Of three at once, one.
    [new] = [key for key in made if isinstance(key, str)]
    assert sum(isinstance(key, TooManyKeys) for key in made) == 2
    with pytest.raises(TooManyKeys):
        await keys.rotate(database, new[3:15], 1, "acme")
    await keys.create(database, "till", tenant="else")
    listed = await keys.listed(database, "acme")
    assert len(listed) == keys.MOST_LISTED
    assert sum(key.revoked_at_us is None for key in listed) == keys.MOST_KEYS
    # One that ends at once makes room for its own successor.
    new = await keys.rotate(database, new[3:15], 0, "acme")
    await keys.revoke(database, new[3:15])
    await keys.create(database, "one more", tenant="acme")


async def test_requests_at_once_query_the_database_once(
    database: Database, authenticator: keys.Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, lookups, glance = await keys.create(database, "till"), [], database.glance
    monkeypatch.setattr(database, "glance", lambda: lookups.append(key) or glance())
    callers = [asyncio.create_task(authenticator.caller_of(key)) for _ in range(20)]
    await asyncio.sleep(0)
    # The first one hangs up: the question is everyone's.
    callers[0].cancel()
    found = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert {caller.tenant for caller in found[1:]} == {DEFAULT_TENANT}  # type: ignore[union-attr]
    assert len(lookups) == 1


async def test_two_keys_of_one_name_differ(database: Database) -> None:
    assert await keys.create(database, "till") != await keys.create(database, "till")


async def test_the_secret_is_stored_nowhere(database: Database) -> None:
    key = await keys.create(database, "till")
    secret = key.split("_", 2)[2]
    async with database.read() as connection:
        stored = str((await connection.execute(text("SELECT * FROM api_keys"))).all())
    assert secret not in stored
    assert secret not in str(await keys.listed(database))


async def test_anything_but_the_whole_key_is_refused(
    database: Database, authenticator: keys.Authenticator
) -> None:
    key = await keys.create(database, "till")
    for wrong in (
        "",
        "qs_",
        key[:-1],
        key + "x",
        key.upper(),
        key.replace("qs_", "sq_"),
        key.rpartition("_")[0],
        "qs_000000000000_" + key.split("_", 2)[2],
        "qs_\x00_\ud800",
    ):
        with pytest.raises(Unauthenticated):
            await authenticator.caller_of(wrong)
    assert (await authenticator.caller_of(key)).tenant == DEFAULT_TENANT


async def test_whatever_is_sent_one_digest_is_compared_in_constant_time(
    database: Database, authenticator: keys.Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(digest: bytes, expected: bytes) -> bool:
        compared.append((digest, expected))
        return hmac.compare_digest(digest, expected)

    monkeypatch.setattr(keys, "hmac", SimpleNamespace(compare_digest=compare))
    key = await keys.create(database, "till")
    revoked = await keys.create(database, "till")
    await keys.revoke(database, revoked.split("_")[1])
    secret = key.split("_", 2)[2]
    sent = [
        key,
        revoked,
        key[:-1],
        key.replace("qs_", "sq_"),
        f"qs_000000000000_{secret}",
        f"qs_nonsense_{secret}",
        "",
    ]
    for token in sent:
        with contextlib.suppress(Unauthenticated):
            await authenticator.caller_of(token)
    # An unknown id costs what a wrong secret does, and so does a key that is no more.
    assert len(compared) == len(sent)
    assert {(len(digest), len(expected)) for digest, expected in compared} == {(32, 32)}
    assert [digest == expected for digest, expected in compared] == [
        *(True, True, False, True, False, False, False)
    ]


def test_no_secret_is_compared_otherwise() -> None:
    """Equality of digests and secrets would end at the first byte that differs."""
    secrets = {"secret", "digest", "expected", "key", "_digest"}
    for node in ast.walk(ast.parse(inspect.getsource(keys.Authenticator))):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
            parts = {getattr(part, "id", getattr(part, "attr", "")) for part in ast.walk(node)}
            assert not parts & secrets, ast.unparse(node)


async def test_a_revoked_key_is_refused_a_second_later_even_where_it_is_cached(
    database: Database, authenticator: keys.Authenticator, clock: Clock
) -> None:
    key = await keys.create(database, "till")
    other = await keys.create(database, "another till")
    await authenticator.caller_of(key)
    await keys.revoke(database, key.split("_")[1])
    clock.now += keys.CACHE_SECONDS
    with pytest.raises(Unauthenticated, match="revoked"):
        await authenticator.caller_of(key)
    assert (await authenticator.caller_of(other)).tenant == DEFAULT_TENANT


async def test_a_key_that_was_just_seen_is_not_looked_up_again(
    database: Database, authenticator: keys.Authenticator
) -> None:
    key = await keys.create(database, "till")
    await authenticator.caller_of(key)
    async with database.write() as connection:
        await connection.execute(text("DELETE FROM api_keys"))
    assert (await authenticator.caller_of(key)).tenant == DEFAULT_TENANT


async def test_keys_are_listed_with_what_became_of_them(database: Database) -> None:
    first = await keys.create(database, "one", tenant="acme")
    await keys.create(database, "two")
    await keys.revoke(database, first.split("_")[1])
    [revoked, live] = await keys.listed(database)
    assert (revoked.name, revoked.tenant, revoked.revoked_at_us is None) == ("one", "acme", False)
    assert (live.name, live.tenant, live.revoked_at_us) == ("two", "default", None)


async def test_revoking_twice_or_something_else_is_refused(database: Database) -> None:
    key_id = (await keys.create(database, "till")).split("_")[1]
    await keys.revoke(database, key_id)
    for wrong in (key_id, "000000000000"):
        with pytest.raises(KeyNotFound, match=f"no live key '{wrong}'"):
            await keys.revoke(database, wrong)


@pytest.mark.parametrize("name", ["", "x" * 129, "line\nbreak"])
async def test_a_name_must_be_printable_and_short(database: Database, name: str) -> None:
    with pytest.raises(ValueError, match="1 to 128 printable"):
        await keys.create(database, name)


async def test_a_key_may_do_what_its_scopes_say(database: Database) -> None:
    key = await keys.create(database, "till", scopes=["read", "score"])
    caller = await caller_of(database, key)
    caller.check(["score"])
    with pytest.raises(Forbidden, match="no scope admin, label"):
        caller.check(["label", "admin", "read"])
    [listed] = await keys.listed(database)
    assert listed.scopes == "score read"


@pytest.mark.parametrize("scopes", [[], ["everything"], ["read", "write"]])
async def test_there_are_six_scopes(database: Database, scopes: list[str]) -> None:
    with pytest.raises(ValueError, match="some of score, label, decide, read, manage, admin"):
        await keys.create(database, "till", scopes=scopes)


async def test_a_replaced_key_is_good_until_its_time_and_its_successor_may_do_the_same(
    database: Database,
) -> None:
    old = await keys.create(database, "till", tenant="acme", scopes=["score"])
    new = await keys.rotate(database, old.split("_")[1], hours=1)
    for key in (old, new):
        caller = await caller_of(database, key)
        assert (caller.tenant, caller.scopes) == ("acme", {"score"})
    newest = await keys.rotate(database, new.split("_")[1], hours=0)
    with pytest.raises(Unauthenticated, match="replaced"):
        await caller_of(database, new)
    # Replacing it once more does not make the old one live longer.
    await keys.rotate(database, old.split("_")[1], hours=8000)
    [first, *_] = await keys.listed(database)
    assert first.expires_at_us is not None
    assert first.expires_at_us < now_us() + 2 * keys.HOUR_US
    assert (await caller_of(database, newest)).tenant == "acme"


async def test_the_last_use_of_a_key_is_noted_once_a_minute(
    database: Database, authenticator: keys.Authenticator, clock: Clock
) -> None:
    key = await keys.create(database, "till")
    begun_us, noted = now_us(), []
    for _ in range(2):
        clock.now += keys.CACHE_SECONDS
        await authenticator.caller_of(key)
        await authenticator.close()
        noted.append((await keys.listed(database))[0].last_used_at_us)
    assert begun_us <= noted[0] == noted[1]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_wrong_keys_hold_few_of_the_connections(database: Database) -> None:
    authenticator = keys.Authenticator(database)
    guesses = [f"qs_{n:012x}_guess" for n in range(200)]
    guessing = asyncio.gather(*map(authenticator.caller_of, guesses), return_exceptions=True)
    most = 0
    while not guessing.done():
        most = max(most, database.connections_in_use)
        await asyncio.sleep(0)
    assert {type(refused) for refused in await guessing} == {Unauthenticated}
    assert 0 < most <= keys.MOST_STRANGERS


async def test_of_all_who_start_at_once_one_makes_the_first_key(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(6)]
    try:
        made = await asyncio.gather(
            *(keys.create_first(database, "first") for database in databases)
        )
        [key] = [text for text in made if text is not None]
        [row] = await keys.listed(databases[0])
        assert key.startswith(f"qs_{row.id}_")
        assert await keys.create_first(databases[1], "first") is None
    finally:
        for database in databases:
            await database.close()
