"""Connections that write the bytes of a test as they are, and a server for them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import uvicorn

from app.db.database import Database
from app.keys import service as keys
from app.main import create_app
from app.settings import Settings
from app.web.protocol import BoundedProtocol

# For what comes at once, or never: of a machine that is busy with other things, too.
PATIENCE_SECONDS = 60


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    document: Any

    @property
    def problem(self) -> tuple[int, str]:
        return self.status, self.document["code"]


class Caller:
    """One connection, which writes bytes as they are."""

    def __init__(self, port: int, key: str) -> None:
        self._port, self._key = port, key

    async def connect(self) -> "Caller":
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    def request(self, body: Any, *headers: str, path: str = "/v1/transactions") -> bytes:
        """A whole request, with a length unless its headers say how long it is."""
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [
            f"POST {path} HTTP/1.1",
            "Host: x",
            "Content-Type: application/json",
            f"Authorization: Bearer {self._key}",
            *headers,
        ]
        if not any("chunked" in line or "length" in line.lower() for line in headers):
            lines.append(f"Content-Length: {len(text)}")
        return "\r\n".join([*lines, "", ""]).encode() + text

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0.02)

    async def answer(self) -> Answer:
        async with asyncio.timeout(PATIENCE_SECONDS):
            first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            headers = dict(line.lower().split(": ", 1) for line in lines)
            document = json.loads(await self.reader.readexactly(int(headers["content-length"])))
        return Answer(int(first.split()[1]), headers, document)

    async def is_closed(self) -> bool:
        """Whether it is hung up, sooner than for having been idle, but where a test wants that."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.read() == b""


class Served(NamedTuple):
    app: Any
    server: uvicorn.Server
    port: int
    key: str
    callers: list[Caller]

    async def caller(self) -> Caller:
        self.callers.append(await Caller(self.port, self.key).connect())
        return self.callers[-1]


@asynccontextmanager
async def serving(settings: Settings, **options: Any) -> AsyncIterator[Served]:
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        port=0,
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        **{"timeout_keep_alive": 2 * PATIENCE_SECONDS, **options},
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not server.started:
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    served = Served(
        app, server, port, await keys.create(app.state.service.part(Database), "tests"), []
    )
    try:
        yield served
    finally:
        for caller in served.callers:
            caller.writer.close()
        server.should_exit = True
        await task
