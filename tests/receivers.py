"""Receivers of webhooks as they should not be, each at a path of one server on the loopback."""

import asyncio
import gzip
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

GZIP_OF_A_GIGABYTE_AND_SO_ON = gzip.compress(bytes(1 << 20), 9)
HOSTILE = ("endless", "compressed", "dripping", "silent", "headers", "continuing")


@dataclass
class Receivers:
    """A server; requests are counted by path, and what arrives at `/good…` is noted by its time."""

    port: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    arrived: list[tuple[str, float, bytes]] = field(default_factory=list)
    # By path: status line and headers to answer with, in place of 204.
    answers: dict[str, str] = field(default_factory=dict)
    # By path: connections open now, and the most there were.
    open: Counter[str] = field(default_factory=Counter)
    most_open: Counter[str] = field(default_factory=Counter)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Cancelled when the server ends, which would log it.
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split()[1].decode().strip("/")
            [length] = [
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length")
            ]
            body = await reader.readexactly(length)
            self.requests[path] += 1
            self.open[path] += 1
            self.most_open[path] = max(self.most_open[path], self.open[path])
            try:
                if path in HOSTILE:
                    await getattr(self, path)(reader, writer)
                else:
                    await self.plain(path, writer, body)
            finally:
                self.open[path] -= 1
        writer.transport.abort()

    async def plain(self, path: str, writer: asyncio.StreamWriter, body: bytes) -> None:
        head = self.answers.get(path, "204 No Content")
        if head.startswith("2"):
            self.arrived.append((path, time.monotonic(), body))
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()

    async def endless(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 500 No\r\nContent-Type: text/plain\r\n\r\n")
        while True:
            writer.write(bytes(1 << 16))
            await writer.drain()

    async def compressed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 500 No\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _number in range(1024):
            part = GZIP_OF_A_GIGABYTE_AND_SO_ON
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def dripping(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 500 No\r\nX: " + b"x" * 1_000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(1)

    async def silent(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def headers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 500 No\r\n")
        while True:
            writer.write(b"X-More: " + b"x" * 1000 + b"\r\n")
            await writer.drain()

    async def continuing(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 20)
            await writer.drain()
            await asyncio.sleep(0.01)


@contextmanager
def receivers() -> Iterator[Receivers]:
    """The server, in a thread and an event loop of its own."""
    some = Receivers()
    loop = asyncio.new_event_loop()
    started = threading.Event()

    async def serve() -> None:
        server = await asyncio.start_server(some.answer, "127.0.0.1", 0)
        some.port = server.sockets[0].getsockname()[1]
        started.set()
        await over.wait()
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    over = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    started.wait()
    try:
        yield some
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()
