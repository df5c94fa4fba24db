"""The schema's revisions: up, down, in step with the tables, and refused when they differ."""

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from app.database import MIGRATIONS, Database, downgrade, migration_config, upgrade
from app.errors import SetupError
from app.tables import metadata


async def tables_of(url: str) -> set[str]:
    database = Database(url)
    try:
        async with database.read() as connection:
            return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))
    finally:
        await database.close()


async def revised(url: str, revision: str) -> None:
    database = Database(url)
    async with database.write() as connection:
        await connection.execute(
            text("UPDATE alembic_version SET version_num = :r"), {"r": revision}
        )
    await database.close()


async def check(url: str) -> None:
    database = Database(url)
    try:
        await database.check_revision()
    finally:
        await database.close()


def test_the_migrations_make_exactly_the_tables_that_the_code_knows(database_url: str) -> None:
    command.check(migration_config(database_url))


def test_every_revision_goes_up_and_down_and_up_again(unmigrated_database_url: str) -> None:
    for revision in reversed(list(ScriptDirectory(str(MIGRATIONS)).walk_revisions())):
        upgrade(unmigrated_database_url, revision.revision)
    downgrade(unmigrated_database_url, "base")
    upgrade(unmigrated_database_url)
    command.check(migration_config(unmigrated_database_url))


def test_an_upgrade_of_an_upgraded_database_changes_nothing(database_url: str) -> None:
    upgrade(database_url)
    command.check(migration_config(database_url))


@pytest.mark.anyio
async def test_a_migrated_database_has_every_table(database_url: str) -> None:
    assert await tables_of(database_url) == {*metadata.tables, "alembic_version"}


@pytest.mark.anyio
async def test_the_schema_of_this_version_is_accepted(database_url: str) -> None:
    await check(database_url)


@pytest.mark.anyio
async def test_a_database_without_a_schema_is_refused_with_a_sentence(
    unmigrated_database_url: str,
) -> None:
    with pytest.raises(SetupError, match=r"revision none, this version needs .* db upgrade"):
        await check(unmigrated_database_url)


@pytest.mark.anyio
async def test_a_database_of_a_newer_version_is_refused_with_a_sentence(database_url: str) -> None:
    await revised(database_url, "9999")
    with pytest.raises(SetupError, match="revision 9999, this version needs"):
        await check(database_url)


def test_an_older_version_does_not_migrate_a_newer_database(
    database_url: str, anyio_backend: str
) -> None:
    import anyio

    anyio.run(revised, database_url, "9999")
    with pytest.raises(SetupError, match="unknown to this version"):
        upgrade(database_url)


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:", "nonsense"])
def test_another_kind_of_database_is_refused_with_a_sentence(url: str) -> None:
    with pytest.raises(SetupError, match="sqlite:///"):
        Database(url)


def test_a_postgresql_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(SetupError, match="cannot be migrated"):
        upgrade("postgresql://nobody@127.0.0.1:1/nothing")
