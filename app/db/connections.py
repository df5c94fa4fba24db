"""PostgreSQL's connections: where they lead, how they are opened and checked, how all are cut."""

import asyncio
import logging
import math
import re
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import asyncpg

from app.db.breaker import Breaker
from app.db.errors import DatabaseUnavailable
from app.errors import SetupError

CONNECT_SECONDS = 5
# Later than `statement_timeout`, by which a server that answers has ended a statement itself.
STATEMENT_SECONDS = 12
# A plan made while a table was small, or its statistics were being replaced, reads all of it.
PLAN_SECONDS = 5
# Between warnings that no connection can be had, which every request would have.
WARN_SECONDS = 10
# Classes of errors by which a server refuses whoever connects: a password or a role that is good no
# more, a database that is not there or closed to this role.
REFUSALS = frozenset({"28", "3D", "42"})
REFUSED = "The database refuses this service: its password, its rights or the name have changed."
TAKES_NONE = "The database takes no connections at the moment."
# Classes of errors by which a server is gone, has no room left, or is ended by its operator.
AWAY = frozenset({"08", "53", "57"})
NONE_LEFT = "lower QUICKSTUDY_DATABASE_CONNECTIONS, or raise max_connections of the server"
logger = logging.getLogger("quickstudy")
APPLICATION = "quickstudy"
URL = re.compile(
    r"[^:/]+://(?:(?P<user>[^:/@]*)(?::(?P<password>[^@]*))?@)?(?P<rest>.*)", re.DOTALL
)
# libpq's names, as far as asyncpg knows them; `ssl` is what SQLAlchemy calls `sslmode`.
PARAMETERS = (
    *("application_name", "database", "dbname", "gsslib", "host", "krbsrvname", "options"),
    *("passfile", "password", "port", "service", "ssl", "ssl_max_protocol_version"),
    *("ssl_min_protocol_version", "sslcert", "sslcrl", "sslkey", "sslmode", "sslnegotiation"),
    *("sslpassword", "sslrootcert", "target_session_attrs", "user"),
)
# Scores are stored, so a server that only reads is of no use.
WRITABLE = ("any", "primary", "read-write")
READ_ONLY = asyncpg.ReadOnlySQLTransactionError
# A pooler answers with a process id of its own: the server's differs.
CHECK = "SELECT pg_backend_pid(), current_setting('transaction_read_only') = 'on'"
# PostgreSQL's timeline: another one after each promotion and each recovery to a point in time.
TIMELINE = "SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"


class Session(asyncpg.Connection):  # type: ignore[misc]
    """A connection, and whether a pooler may give each of its transactions another server."""

    is_pooled = False
    # To be repeated in each transaction where it is.
    settings: Mapping[str, str] = {}

    def is_in_transaction(self) -> bool:
        """Raises InterfaceError where this was closed meanwhile: asyncpg's own fails otherwise, or
        says that nothing was begun."""
        if self.is_closed():
            raise asyncpg.InterfaceError("connection is closed")
        return bool(super().is_in_transaction())


class Address:
    """A PostgreSQL URL: libpq's, with any number of hosts.

    Raises SetupError where it cannot be read, or leads to servers that only read.
    """

    def __init__(self, url: str) -> None:
        found = URL.fullmatch(url)
        if found is None:
            raise SetupError("the database URL is not like postgresql://user@host/quickstudy")
        parts = urlsplit(f"//{found['rest']}")
        query = _parameters(parts.query)
        hosts = _hosts(query.get("host", parts.netloc), query.get("port", ""))
        # One is left to asyncpg, as are the places of the socket where there is none.
        is_one = len(hosts) < 2
        self.hosts: Sequence[dict[str, Any]] = [{}] if is_one else hosts
        if not is_one:
            query = {name: value for name, value in query.items() if name not in ("host", "port")}
        # Not every password comes quoted.
        names = [found[name] for name in ("user", "password") if found[name] is not None]
        login = ":".join(quote(unquote(name), safe="") for name in names) + "@" * bool(names)
        netloc = parts.netloc if is_one else ""
        self.dsn = f"postgresql://{login}{netloc}{parts.path}"
        if query:
            self.dsn += f"?{urlencode(query)}"


def _parameters(query: str) -> dict[str, str]:
    """Names and values; hosts and ports that are there several times as one list each."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in PARAMETERS:
            raise SetupError(
                f"the database URL's parameter {name!r} is not supported: leave it out; "
                f"supported are {', '.join(PARAMETERS)}"
            )
        if name == "target_session_attrs" and value not in WRITABLE:
            raise SetupError(
                f"the database URL says target_session_attrs={value}, but scores are stored: "
                "use read-write, or leave it out"
            )
        if name in ("host", "port") and name in found:
            value = f"{found[name]},{value}"
        found["sslmode" if name == "ssl" else name] = value
    return found


def _hosts(listed: str, ports: str) -> list[dict[str, Any]]:
    """`h1:5433,h2` with `ports`, for hosts that name none: one for all, or each its own."""
    names = listed.split(",") if listed else []
    others = ports.split(",") if ports else ["5432"]
    if len(others) == 1:
        others *= len(names)
    if len(others) != len(names) and names:
        raise SetupError(
            "the database URL names more ports than hosts, or fewer: give one port for all, or one "
            "for each"
        )
    hosts = []
    for name, other in zip(names, others, strict=False):
        host, colon, port = name.rpartition(":")
        if not colon or port.endswith("]"):
            host, port = name, other
        if not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise SetupError(
                f"the database URL has the port {port!r}: a port is a number from 1 to 65535"
            )
        hosts.append({"host": unquote(host).strip("[]"), "port": int(port)})
    return hosts


class Connections:
    """The PostgreSQL connections of this process, so that those that hang can be cut.

    `settings` hold in each of them: once for all where the connection is the server's own, in each
    transaction where a pooler (pgbouncer) stands between.
    """

    def __init__(
        self,
        address: Address,
        settings: Mapping[str, str],
        *,
        bounds_statements: bool = True,
    ) -> None:
        self.breaker = Breaker(self._ask, self.cut)
        self.settings = settings
        # Whether there is a pooler; None before the first connection.
        self.is_pooled: bool | None = None
        # The server's timeline, as the newest connection read it; "" where it does not say.
        self.history = ""
        self._address = address
        self._warned_at = -math.inf
        self._bounds_statements = bounds_statements
        self._open: set[Session] = set()
        self._opening: set[asyncio.Timeout] = set()

    async def open(self) -> Session:
        """A connection for the pool.

        Raises TimeoutError when it is cut before it is there, DatabaseUnavailable where the server
        refuses it, and what asyncpg raises.
        """
        self.breaker.check()
        async with asyncio.timeout(None) as opening:
            self._opening.add(opening)
            try:
                connection = await self._connected()
            except asyncpg.TooManyConnectionsError:
                self._warn(f"PostgreSQL has no connection left: {NONE_LEFT}")
                raise
            except asyncpg.PostgresError as error:
                if str(error.sqlstate)[:2] in REFUSALS:
                    self._warn(f"PostgreSQL refuses connections: {error}")
                    raise DatabaseUnavailable(REFUSED) from error
                if str(error.sqlstate)[:2] not in AWAY and not isinstance(error, READ_ONLY):
                    # As while somebody restores the database, or its disk is gone.
                    self._warn(f"PostgreSQL takes no connection: {error}")
                    raise DatabaseUnavailable(TAKES_NONE) from error
                raise
            finally:
                self._opening.discard(opening)
        self._open.add(connection)
        connection.add_termination_listener(self._open.discard)
        return connection

    def cut(self) -> None:
        """Whoever waits for an answer gets the error of a lost connection now."""
        for connection in list(self._open):
            connection.terminate()
        for opening in self._opening:
            if not opening.expired():
                opening.reschedule(0)

    def _warn(self, message: str) -> None:
        if time.monotonic() - self._warned_at > WARN_SECONDS:
            self._warned_at = time.monotonic()
            logger.warning(message)

    async def _ask(self) -> None:
        """Raises what a new connection meets while the database is not there, or only reads."""
        try:
            connection = await self._connected()
        except (
            asyncpg.PostgresConnectionError,
            asyncpg.OperatorInterventionError,
            READ_ONLY,
        ):
            raise  # It starts, stops, or is a standby.
        except asyncpg.PostgresError:
            return  # It answers, if only that it has no connection to spare.
        connection.terminate()

    async def _connected(self) -> Session:
        """A connection to the first host that answers and can be written to.

        All are tried at once: one that is off the network would hold up the others.
        """
        attempts = [asyncio.ensure_future(self._checked(host)) for host in self._address.hosts]
        found: Session | None = None
        try:
            pending = set(attempts)
            while pending and found is None:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                found = next(
                    (attempt.result() for attempt in done if not attempt.exception()), None
                )
        finally:
            for attempt in attempts:
                attempt.cancel()
            try:
                ended = await asyncio.gather(*attempts, return_exceptions=True)
            except asyncio.CancelledError:
                # Nobody waits for what has been opened any more, the one that was found included.
                for attempt in attempts:
                    attempt.add_done_callback(_close)
                raise
            for outcome in ended:
                if isinstance(outcome, Session) and outcome is not found:
                    outcome.terminate()
        if found is not None:
            return found
        failures = [outcome for outcome in ended if isinstance(outcome, BaseException)]
        # Of a standby and servers that are off, the standby says most.
        raise min(failures, key=lambda failure: not isinstance(failure, READ_ONLY))

    async def _checked(self, host: Mapping[str, Any]) -> Session:
        connection = await self._attempted(host)
        if connection.is_pooled and not self.is_pooled:
            # Statements with names would be another's who comes to the same server process.
            self.is_pooled = True
            connection.terminate()
            return await self._attempted(host)
        self.is_pooled = connection.is_pooled
        return connection

    async def _attempted(self, host: Mapping[str, Any]) -> Session:
        """Raises ReadOnlySQLTransactionError where the server only reads."""
        connection: Session = await asyncpg.connect(
            self._address.dsn,
            **host,
            connection_class=Session,
            timeout=CONNECT_SECONDS,
            command_timeout=STATEMENT_SECONDS if self._bounds_statements else None,
            statement_cache_size=0 if self.is_pooled else 100,
            max_cached_statement_lifetime=PLAN_SECONDS,
            # Not the settings: a pooler knows few parameters, and refuses the others.
            server_settings={"application_name": APPLICATION},
            target_session_attrs="any",
        )
        try:
            await connection.execute("BEGIN")
            # Without a name: nothing is left of it.
            statement = await connection.prepare(CHECK, name="")
            server_pid, is_read_only = await statement.fetchrow()
            if is_read_only:
                raise READ_ONLY("the server is read-only")
            connection.is_pooled = server_pid != connection.get_server_pid()
            connection.settings = self.settings
            session = "" if connection.is_pooled else self._session
            self.history = await _timeline(connection)
            await connection.execute(f"ROLLBACK{session}")
        except BaseException:
            connection.terminate()
            raise
        return connection

    @cached_property
    def _session(self) -> str:
        return "".join(f"; SET {name} = {value}" for name, value in self.settings.items())


def _close(attempt: "asyncio.Future[Session]") -> None:
    if not attempt.cancelled() and not attempt.exception():
        attempt.result().terminate()


async def _timeline(connection: Session) -> str:
    """Of the server; its transaction may have failed, where the server is no plain PostgreSQL."""
    try:
        statement = await connection.prepare(TIMELINE, name="")
        return str(await statement.fetchval())
    except asyncpg.PostgresError:
        return ""
