"""API keys: shown once, kept as a digest, told apart from anything else, revoked."""

import pytest
from sqlalchemy import text

from app import keys
from app.database import Database
from app.errors import Unauthenticated

pytestmark = pytest.mark.anyio


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_key_speaks_for_its_tenant(database: Database) -> None:
    key = await keys.create(database, "till", tenant="acme")
    assert await keys.Authenticator(database).tenant_of(key) == "acme"


async def test_two_keys_of_one_name_differ(database: Database) -> None:
    assert await keys.create(database, "till") != await keys.create(database, "till")


async def test_the_secret_is_stored_nowhere(database: Database) -> None:
    key = await keys.create(database, "till")
    secret = key.split("_", 2)[2]
    async with database.read() as connection:
        stored = str((await connection.execute(text("SELECT * FROM api_keys"))).all())
    assert secret not in stored
    assert secret not in str(await keys.listed(database))


async def test_anything_but_the_whole_key_is_refused(database: Database) -> None:
    key = await keys.create(database, "till")
    authenticator = keys.Authenticator(database)
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
            await authenticator.tenant_of(wrong)
    assert await authenticator.tenant_of(key) == keys.DEFAULT_TENANT


async def test_a_revoked_key_is_refused_a_second_later_even_where_it_is_cached(
    database: Database,
) -> None:
    clock = Clock()
    authenticator = keys.Authenticator(database, clock)
    key = await keys.create(database, "till")
    other = await keys.create(database, "another till")
    await authenticator.tenant_of(key)
    await keys.revoke(database, key.split("_")[1])
    clock.now += keys.CACHE_SECONDS
    with pytest.raises(Unauthenticated, match="revoked"):
        await authenticator.tenant_of(key)
    assert await authenticator.tenant_of(other) == keys.DEFAULT_TENANT


async def test_a_key_that_was_just_seen_is_not_looked_up_again(database: Database) -> None:
    authenticator = keys.Authenticator(database, Clock())
    key = await keys.create(database, "till")
    await authenticator.tenant_of(key)
    async with database.write() as connection:
        await connection.execute(text("DELETE FROM api_keys"))
    assert await authenticator.tenant_of(key) == keys.DEFAULT_TENANT


async def test_keys_are_listed_with_what_became_of_them(database: Database) -> None:
    first = await keys.create(database, "one", tenant="acme")
    await keys.create(database, "two")
    await keys.revoke(database, first.split("_")[1])
    [one, two] = await keys.listed(database)
    assert (one.name, one.tenant, one.revoked_at_us is None) == ("one", "acme", False)
    assert (two.name, two.tenant, two.revoked_at_us) == ("two", "default", None)


async def test_revoking_twice_or_something_else_is_refused(database: Database) -> None:
    key_id = (await keys.create(database, "till")).split("_")[1]
    await keys.revoke(database, key_id)
    for wrong in (key_id, "000000000000"):
        with pytest.raises(ValueError, match=f"no live key {wrong}"):
            await keys.revoke(database, wrong)


@pytest.mark.parametrize("name", ["", "x" * 129, "line\nbreak"])
async def test_a_name_must_be_printable_and_short(database: Database, name: str) -> None:
    with pytest.raises(ValueError, match="1 to 128 printable"):
        await keys.create(database, name)
