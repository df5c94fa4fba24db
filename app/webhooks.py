"""Webhooks by Standard Webhooks: written with what they tell of, delivered until they arrive.

A message is a row of `outbox` in the database transaction of its event, so that neither is there
without the other. Every process delivers what is due; a claim is a lease, so that a process that
dies loses nothing and a message may arrive twice, with the same `webhook-id`.
https://www.standardwebhooks.com
"""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import logging
import random
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, get_args

import httpx
from sqlalchemy.ext.asyncio import AsyncConnection

from app import store
from app.background import BackgroundTask, TaskHealth
from app.database import Database
from app.errors import FieldError, ValidationFailed, WebhookNotFound
from app.rows import Message, Webhook
from app.schemas.webhooks import Event
from app.times import now_us, text_of

logger = logging.getLogger("quickstudy.webhooks")
EVENTS: tuple[Event, ...] = get_args(Event)
# What has happened, and what there is to tell of it.
News = tuple[Event, Mapping[str, Any]]

SECOND_US = 1_000_000
# After each failure; then it is given up, and stays to be seen. A random part of each is added.
DELAYS_SECONDS = (5, 30, 120, 600, 3600, 4 * 3600, 12 * 3600, 24 * 3600)
JITTER = 0.25
TIMEOUT_SECONDS = 10.0
# Longer than any delivery: another process may take over only what nobody is delivering.
LEASE_US = 60 * SECOND_US
POLL_SECONDS = 1.0
# How long stopping waits for what is being delivered; what it cuts off is delivered again.
GRACE_SECONDS = 2.0
LONGEST_ROUND_SECONDS = 60.0
TOGETHER = 20
# How long a replaced secret signs too.
OLD_SECRET_US = 24 * 3600 * SECOND_US


async def announce(connection: AsyncConnection, tenant: str, news: Sequence[News]) -> None:
    """Queue a message for each piece of news, to every webhook that wants to know of its event.

    An `account_id` in it is erased with its account.
    """
    if not news:
        return
    known = await store.webhooks(connection, tenant)
    messages = [
        Message(
            f"msg_{secrets.token_hex(12)}",
            tenant,
            webhook.id,
            event,
            data.get("account_id"),
            at_us,
            json.dumps({"type": event, "timestamp": text_of(at_us), "data": data}),
            next_at_us=at_us,
        )
        for webhook in known
        # A time for each, by which they can be told apart and put in order.
        for at_us, (event, data) in enumerate(news, now_us())
        if event in webhook.events.split()
    ]
    await store.save_messages(connection, messages)


def signed(webhook: Webhook, message_id: str, at_seconds: int, body: str) -> dict[str, str]:
    """The headers of a delivery; while a secret is being replaced, both of them sign."""
    chosen = [webhook.secret]
    if webhook.old_secret and (webhook.old_until_us or 0) > at_seconds * SECOND_US:
        chosen.append(webhook.old_secret)
    content = f"{message_id}.{at_seconds}.{body}".encode()
    signatures = [
        base64.b64encode(hmac.digest(_key(secret), content, hashlib.sha256)).decode()
        for secret in chosen
    ]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at_seconds),
        "webhook-signature": " ".join(f"v1,{one}" for one in signatures),
        "content-type": "application/json",
    }


def new_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix("whsec_"))


class Webhooks:
    """Registers webhooks, and delivers to them while it is entered."""

    def __init__(self, database: Database, allow_private: bool) -> None:
        self._database = database
        self._allow_private = allow_private
        self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, follow_redirects=False)
        self._delivered = 0
        self.health = TaskHealth("webhooks", is_needed=True)
        self._task = BackgroundTask(
            self.health,
            self._wait,
            self._deliver,
            longest_seconds=LONGEST_ROUND_SECONDS,
            # A connection that is cut off while it opens leaves its thread behind.
            grace_seconds=GRACE_SECONDS,
        )

    async def register(self, tenant: str, url: str, events: Sequence[str]) -> Webhook:
        """Keep a webhook. Raises ValidationFailed where it could not be delivered to."""
        try:
            await self._address(httpx.URL(url))
        except (ValueError, httpx.InvalidURL, UnicodeError) as error:
            message = str(error)
            raise ValidationFailed(f"url: {message}", [FieldError("url", message)]) from None
        ordered = " ".join(event for event in EVENTS if event in events)
        webhook = Webhook(
            tenant, secrets.token_hex(6), url, ordered, new_secret(), None, None, now_us()
        )
        await self._database.run(lambda connection: store.save_webhook(connection, webhook))
        return webhook

    async def rotate(self, tenant: str, webhook_id: str) -> Webhook:
        """Give it a new secret; the old one signs beside it for a day. Raises WebhookNotFound."""

        async def work(connection: AsyncConnection) -> Webhook:
            old = await store.webhook(connection, tenant, webhook_id)
            if old is None:
                raise _unknown(webhook_id)
            row = old._replace(
                secret=new_secret(), old_secret=old.secret, old_until_us=now_us() + OLD_SECRET_US
            )
            await store.save_webhook(connection, row)
            return row

        return await self._database.run(work)

    async def remove(self, tenant: str, webhook_id: str) -> None:
        """Forget it, and what is still to be delivered to it. Raises WebhookNotFound."""

        async def work(connection: AsyncConnection) -> None:
            if not await store.delete_webhook(connection, tenant, webhook_id):
                raise _unknown(webhook_id)

        await self._database.run(work)

    async def __aenter__(self) -> Self:
        await self._task.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._task.__aexit__(kind, error, traceback)
        await self._client.aclose()

    async def _wait(self) -> None:
        if not self._delivered:
            await asyncio.sleep(POLL_SECONDS)

    async def _deliver(self) -> None:
        self._delivered = 0
        self._delivered = await self.deliver_due()

    async def deliver_due(self) -> int:
        """Try to deliver what is due, some of it; returns how many were tried."""
        at_us = now_us()
        async with self._database.read() as connection:
            # Looked for first: claiming is writing, and mostly there is nothing.
            if not await store.any_due(connection, at_us):
                return 0
        claimed = await self._database.run(
            lambda connection: store.claim(connection, at_us, at_us + LEASE_US, TOGETHER)
        )
        await asyncio.gather(*(self._deliver_one(message) for message in claimed))
        return len(claimed)

    async def _deliver_one(self, message: Message) -> None:
        async with self._database.read() as connection:
            webhook = await store.webhook(connection, message.tenant, message.webhook_id)
        failure = "there is no such webhook any more" if webhook is None else ""
        if webhook is not None:
            failure = await self._post(webhook, message)

        async def work(connection: AsyncConnection) -> None:
            if not failure or webhook is None:
                await store.delete_message(connection, message.id)
                return
            attempts = message.attempts + 1
            next_at_us = None
            if attempts <= len(DELAYS_SECONDS):
                seconds = DELAYS_SECONDS[attempts - 1] * (1 + JITTER * random.random())
                next_at_us = now_us() + int(seconds * SECOND_US)
            tried = message._replace(
                attempts=attempts, next_at_us=next_at_us, last_error=failure[:200]
            )
            await store.save_messages(connection, [tried])

        await self._database.run(work)

    async def _post(self, webhook: Webhook, message: Message) -> str:
        """Why it did not arrive; empty where it did."""
        url = httpx.URL(webhook.url)
        headers = signed(webhook, message.id, int(time.time()), message.body)
        try:
            # To the address that was looked at, not to what the name may mean a moment later.
            address = await self._address(url)
            response = await self._client.post(
                url.copy_with(host=address),
                content=message.body.encode(),
                headers={**headers, "host": url.netloc.decode()},
                extensions={"sni_hostname": url.host},
            )
        except (httpx.HTTPError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
        return "" if response.is_success else f"answered {response.status_code}"

    async def _address(self, url: httpx.URL) -> str:
        """An address of a URL's host; raises ValueError where it is not public."""
        if url.scheme != "https" and not (self._allow_private and url.scheme == "http"):
            raise ValueError("a webhook's URL begins with https://")
        port = 443 if url.port is None else url.port
        if not url.host or not 0 < port < 65536:
            raise ValueError("a webhook's URL has a host, and a port from 1 to 65535")
        try:
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
        except OSError:
            raise ValueError("this host is not known") from None
        addresses = [str(one[4][0]) for one in found]
        for address in addresses:
            if not self._allow_private and not ipaddress.ip_address(address).is_global:
                raise ValueError("this host has a private address")
        return addresses[0]


def _unknown(webhook_id: str) -> WebhookNotFound:
    return WebhookNotFound(f"There is no webhook {webhook_id!r}.")
