"""Where a PostgreSQL URL leads: as libpq would, and a sentence for what it cannot follow."""

import pytest

from app.db.connections import Address
from app.errors import SetupError

PLAIN = "postgresql://mia@db/quickstudy"


def test_one_host_is_left_to_the_driver() -> None:
    for url in (PLAIN, "postgresql:///quickstudy?host=/run/postgresql", "postgresql://"):
        address = Address(url)
        assert (address.hosts, address.dsn.split("?")[0]) == ([{}], url.split("?")[0])
    assert Address("postgresql+asyncpg://mia@db/quickstudy").dsn == PLAIN
    assert Address("postgres://mia@db/quickstudy").dsn == PLAIN


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://mia@h1:5433,[::1]:5434/quickstudy?target_session_attrs=read-write",
        "postgresql://mia@/quickstudy?host=h1:5433&host=[::1]:5434",
        "postgresql://mia@/quickstudy?host=h1,[::1]&port=5433,5434",
    ],
)
def test_several_hosts_are_each_connected_to(url: str) -> None:
    address = Address(url)
    assert address.hosts == [{"host": "h1", "port": 5433}, {"host": "::1", "port": 5434}]
    assert address.dsn.startswith("postgresql://mia@/quickstudy")
    assert "host" not in address.dsn


def test_hosts_without_a_port_have_the_usual_one_or_one_for_all() -> None:
    assert [host["port"] for host in Address("postgresql://h1,h2/db").hosts] == [5432, 5432]
    assert [host["port"] for host in Address("postgresql://h1,h2:1/db?port=7").hosts] == [7, 1]


def test_a_password_may_hold_anything_and_parameters_keep_their_names() -> None:
    assert Address("postgresql://mia:p/a?s#s@db/q").dsn == "postgresql://mia:p%2Fa%3Fs%23s@db/q"
    assert Address("postgresql://mia:p%2Fa@db/q").dsn == "postgresql://mia:p%2Fa@db/q"
    assert Address(f"{PLAIN}?ssl=require").dsn == f"{PLAIN}?sslmode=require"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (f"{PLAIN}?pgbouncer=true", "parameter 'pgbouncer' is not supported"),
        (f"{PLAIN}?target_session_attrs=standby", "use read-write"),
        ("postgresql://h1,h2/db?port=1,2,3", "more ports than hosts, or fewer"),
        ("postgresql://h1:x,h2/db", "the port 'x': a port is"),
        ("postgresql://h:99999/db", "the port '99999': a port is"),
        ("postgresql://h/db?port=0", "the port '0': a port is"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_a_sentence(url: str, sentence: str) -> None:
    with pytest.raises(SetupError, match=sentence):
        Address(url)
