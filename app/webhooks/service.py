"""Webhooks by Standard Webhooks: written with their events, delivered until they arrive.

A message is a row of `outbox` in the database transaction of its event, so that neither is there
without the other. Every process delivers what is due; a claim is a lease, so that a process that
dies loses nothing and a message may arrive twice, with the same `webhook-id`.
https://www.standardwebhooks.com
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import random
import re
import secrets
import ssl
import time
from collections import Counter
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from app.audit import store as audit_store
from app.audit.entries import Action, entry
from app.db.connection import Connection
from app.db.database import Database
from app.db.turns import take_turn
from app.errors import FieldError, ValidationFailed
from app.http.problems import RateLimited
from app.ops import metrics
from app.ops.background import BackgroundTask, InBackground, TaskHealth
from app.times import now_us
from app.webhooks import addresses, posting
from app.webhooks import store as webhook_store
from app.webhooks.errors import TooManyWebhooks, WebhookNotFound
from app.webhooks.records import Message, Webhook
from app.webhooks.schemas import Event

if TYPE_CHECKING:
    import httpx

EVENTS: tuple[Event, ...] = get_args(Event)

SECOND_US = 1_000_000
# After each failure; then it is given up, and stays to be seen. A random part of each is added.
DELAYS_SECONDS = (5, 30, 120, 600, 3600, 4 * 3600, 12 * 3600, 24 * 3600)
JITTER = 0.25
# Of a whole delivery: the host is looked up, connected to, written to, and has answered.
TIMEOUT_SECONDS = 10.0
# No receiver may ask to be left alone for longer at once.
LONGEST_RETRY_AFTER_SECONDS = 3600
# Longer than any delivery: another process may take over only what nobody is delivering.
LEASE_US = 60 * SECOND_US
POLL_SECONDS = 1.0
# How long stopping waits for what is being delivered; what it cuts off is delivered again.
GRACE_SECONDS = 2.0
LONGEST_ROUND_SECONDS = 60.0
MOST_WEBHOOKS = 10
MOST_LOOKUPS = 4
# Webhooks that a process delivers to at once, messages of each at once, and webhooks that a round
# begins to deliver to. Connections are a quarter of the 1,024 descriptors that a process has at
# the least.
LANES, MESSAGES_OF_A_LANE, LANES_OF_A_ROUND = 64, 4, 32
# A tenant has at most so many times fewer lanes than are free (dynamic thresholds, Choudhury and
# Hahne, 1998): however many tenants have receivers that hang, there is room for one more tenant.
FREE_FOR_ONE = 4
# How long a replaced secret signs too.
OLD_SECRET_US = 24 * 3600 * SECOND_US


class Attempt(NamedTuple):
    """What became of a message; without a failure it has arrived."""

    message: Message
    failure: str | None = None
    status: int | None = None
    retry_after_seconds: float = 0.0


class Lane(NamedTuple):
    """A webhook that is being delivered to."""

    tenant: str
    task: "asyncio.Task[None]"


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
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
        "content-type": "application/json",
    }


def new_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix("whsec_"))


class Webhooks(InBackground):
    """Registers webhooks, and delivers to them while it is entered."""

    def __init__(self, database: Database, allow_private: bool) -> None:
        self._database = database
        self._allow_private = allow_private
        self._tls: ssl.SSLContext | None = None
        # By webhook.
        self._lanes: dict[str, Lane] = {}
        # Set when there may be something to deliver at once: a lane is free, or more is due.
        self._is_room = asyncio.Event()
        # By tenant: host names of webhooks to be registered.
        self._lookups: Counter[str] = Counter()
        self.health = TaskHealth("webhooks", is_needed=True)
        self._task = BackgroundTask(
            self.health,
            self._wait,
            self._begin_due,
            longest_seconds=LONGEST_ROUND_SECONDS,
            # A connection that is cut off while it opens leaves its thread behind.
            grace_seconds=GRACE_SECONDS,
        )

    async def register(self, tenant: str, url: str, events: Sequence[str]) -> Webhook:
        """Keep a webhook.

        Raises ValidationFailed where it could not be delivered to, RateLimited while the names of
        others are still being looked up, and TooManyWebhooks.
        """
        try:
            parsed = posting.url_of(url)
            await self._check(tenant, parsed)
        except ValueError as error:
            message = str(error)
            raise ValidationFailed(f"url: {message}", [FieldError("url", message)]) from None
        ordered = " ".join(event for event in EVENTS if event in events)
        webhook = Webhook(
            tenant, secrets.token_hex(6), url, ordered, new_secret(), None, None, now_us()
        )

        async def save(connection: Connection) -> None:
            await take_turn(connection, "webhooks", tenant)
            if len(await webhook_store.webhooks(connection, tenant)) >= MOST_WEBHOOKS:
                raise TooManyWebhooks(
                    f"This tenant has {MOST_WEBHOOKS} webhooks, the most there can be: "
                    "remove one first."
                )
            await webhook_store.save_webhook(connection, webhook)
            await _note(connection, "webhook.created", None, webhook)

        await self._database.run(save)
        return webhook

    async def rotate(self, tenant: str, webhook_id: str) -> Webhook:
        """Give it a new secret; the old one signs beside it for a day. Raises WebhookNotFound."""

        async def replace(connection: Connection) -> Webhook:
            old = await _locked(connection, tenant, webhook_id)
            row = old._replace(
                secret=new_secret(), old_secret=old.secret, old_until_us=now_us() + OLD_SECRET_US
            )
            await webhook_store.save_webhook(connection, row)
            await _note(connection, "webhook.rotated", old, row)
            return row

        return await self._database.run(replace)

    async def enable(self, tenant: str, webhook_id: str) -> Webhook:
        """Deliver to it again, what has waited first. Raises WebhookNotFound."""

        async def change(connection: Connection) -> Webhook:
            old = await _locked(connection, tenant, webhook_id)
            row = old._replace(disabled_at_us=None, disabled_reason=None, paused_until_us=None)
            await webhook_store.save_webhook(connection, row)
            await _note(connection, "webhook.enabled", old, row)
            return row

        return await self._database.run(change)

    async def remove(self, tenant: str, webhook_id: str) -> None:
        """Remove a webhook, and what is still to be delivered to it. Raises WebhookNotFound."""

        async def delete(connection: Connection) -> None:
            old = await _locked(connection, tenant, webhook_id)
            await webhook_store.delete_webhook(connection, tenant, webhook_id)
            await _note(connection, "webhook.removed", old, None)

        await self._database.run(delete)

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        tasks = [lane.task for lane in self._lanes.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_room.wait(), POLL_SECONDS)
        self._is_room.clear()

    async def deliver_due(self) -> int:
        """Try once to deliver some of what is due; returns to how many webhooks."""
        await self._begin_due()
        begun = [lane.task for lane in self._lanes.values()]
        if begun:
            await asyncio.wait(begun)
        return len(begun)

    async def _begin_due(self) -> None:
        """Claim messages for webhooks that have a lane to themselves, and begin to deliver them."""
        at_us = now_us()
        # Looked for first: claiming is writing, and mostly there is nothing.
        async with self._database.read() as connection:
            due = await webhook_store.due(connection, at_us)
        chosen = self._choose([webhook for webhook in due if webhook.webhook_id not in self._lanes])
        if not chosen:
            return

        async def claim(connection: Connection) -> list[webhook_store.Claim]:
            until_us = at_us + LEASE_US
            found = await webhook_store.claim(
                connection, chosen, at_us, until_us, MESSAGES_OF_A_LANE
            )
            for webhook, messages in found:
                if webhook is None:
                    await webhook_store.delete_messages(
                        connection, [message.id for message in messages]
                    )
            return found

        for webhook, messages in await self._database.run(claim):
            if webhook is not None:
                self._begin(webhook, messages)
        if len(chosen) == LANES_OF_A_ROUND:
            self._is_room.set()

    def _choose(self, due: list[webhook_store.Due]) -> list[webhook_store.Due]:
        """Those to begin now: as many as there are free lanes, the tenants in turn."""
        lanes = Counter(lane.tenant for lane in self._lanes.values())
        turns, by_turn = lanes.copy(), []
        random.shuffle(due)
        for webhook in due:
            by_turn.append((turns[webhook.tenant], webhook))
            turns[webhook.tenant] += 1
        chosen: list[webhook_store.Due] = []
        for _, webhook in sorted(by_turn, key=itemgetter(0)):
            free = LANES - len(self._lanes) - len(chosen)
            if free <= 0 or len(chosen) == LANES_OF_A_ROUND:
                break
            if lanes[webhook.tenant] < max(1, free // FREE_FOR_ONE):
                lanes[webhook.tenant] += 1
                chosen.append(webhook)
        return chosen

    def _begin(self, webhook: Webhook, messages: Sequence[Message]) -> None:
        task = asyncio.create_task(self._deliver(webhook, messages))
        self._lanes[webhook.id] = Lane(webhook.tenant, task)

        def end(task: "asyncio.Task[None]") -> None:
            del self._lanes[webhook.id]
            self._is_room.set()
            if not task.cancelled() and (error := task.exception()) is not None:
                # What was claimed is delivered again when its lease is over.
                self.health.failed(error)

        task.add_done_callback(end)

    async def _deliver(self, webhook: Webhook, messages: Sequence[Message]) -> None:
        """Deliver messages of one webhook side by side, and store what became of them."""
        until = asyncio.get_running_loop().time() + TIMEOUT_SECONDS
        lookup = None
        try:
            url = posting.url_of(webhook.url)
            lookup = self._look_up(url)
            # To the address that was looked at, not to what the name may mean a moment later.
            address = await self._address(lookup, until)
        except ValueError as error:
            attempts = [Attempt(message, str(error)) for message in messages]
        else:
            attempts = await asyncio.gather(
                *(self._post(webhook, url, address, message, until) for message in messages)
            )
        await self._database.run(lambda connection: _store(connection, webhook, attempts))
        if lookup is not None:
            # A name server that does not answer has one thread of each webhook, and not more.
            await asyncio.wait([lookup])

    async def _post(
        self, webhook: Webhook, url: "httpx.URL", address: str, message: Message, until: float
    ) -> Attempt:
        headers = signed(webhook, message.id, int(time.time()), message.body)
        try:
            async with asyncio.timeout_at(until):
                # To read the authorities takes 50 ms: not at the start, nor in the event loop.
                if self._tls is None and url.scheme == "https":
                    self._tls = await asyncio.to_thread(posting.create_tls)
                answer = await posting.post(url, address, headers, message.body.encode(), self._tls)
        except posting.NoAnswer as error:
            return Attempt(message, str(error))
        except TimeoutError:
            return Attempt(message, f"no answer within {TIMEOUT_SECONDS:.0f} s")
        status = answer.status
        if 200 <= status < 300:
            return Attempt(message)
        seconds = _seconds(answer.retry_after) if status in (429, 503) else 0.0
        return Attempt(message, f"answered {status}", status, seconds)

    async def _check(self, tenant: str, url: "httpx.URL") -> None:
        """Raises ValueError where a URL may not be delivered to, and RateLimited."""
        if self._lookups[tenant] >= MOST_LOOKUPS:
            raise RateLimited(
                "The host names of other webhooks are still being looked up: retry later.",
                headers={"Retry-After": "1"},
            )
        lookup = self._look_up(url)
        self._lookups[tenant] += 1

        def end(_: object) -> None:
            # Also where nobody waits any more.
            self._lookups[tenant] -= 1
            if not self._lookups[tenant]:
                del self._lookups[tenant]

        lookup.add_done_callback(end)
        await self._address(lookup, asyncio.get_running_loop().time() + TIMEOUT_SECONDS)

    def _look_up(self, url: "httpx.URL") -> "asyncio.Future[Sequence[str]]":
        """The addresses of a URL's host; raises ValueError where there can be none."""
        if url.scheme != "https" and not (self._allow_private and url.scheme == "http"):
            raise ValueError("a webhook's URL begins with https://")
        port = posting.port_of(url)
        if not url.host or not 0 < port < 65536:
            raise ValueError("a webhook's URL has a host, and a port from 1 to 65535")
        return addresses.look_up(url.raw_host.decode(), port)

    async def _address(self, lookup: "asyncio.Future[Sequence[str]]", until: float) -> str:
        """The first address; raises ValueError where there is none, or one is not public."""
        try:
            async with asyncio.timeout_at(until):
                found = await asyncio.shield(lookup)
        except TimeoutError:
            raise ValueError("this host's name servers do not answer") from None
        except OSError:
            raise ValueError("this host is not known") from None
        return found[0] if self._allow_private else addresses.chosen(found)


async def _store(connection: Connection, webhook: Webhook, attempts: Sequence[Attempt]) -> None:
    """Strike off what has arrived, note when to try the rest again, and what its receiver wants."""
    arrived = [attempt.message.id for attempt in attempts if not attempt.failure]
    if arrived:
        await webhook_store.delete_messages(connection, arrived)
    for attempt in attempts:
        if attempt.failure:
            await webhook_store.change_message(connection, _message_after(attempt))
    for attempt in attempts:
        metrics.labelled(metrics.deliveries, _result(attempt)).inc()
    pause = max(attempt.retry_after_seconds for attempt in attempts)
    changes: dict[str, Any] = {}
    if pause:
        changes["paused_until_us"] = now_us() + int(pause * SECOND_US)
    if any(attempt.status == 410 for attempt in attempts):
        changes |= {"disabled_at_us": now_us(), "disabled_reason": "answered 410"}
    if changes:
        await webhook_store.change_webhook(connection, webhook.tenant, webhook.id, **changes)


def _result(attempt: Attempt) -> str:
    if attempt.failure is None:
        return "arrived"
    return "failed" if attempt.message.attempts < len(DELAYS_SECONDS) else "given_up"


def _message_after(attempt: Attempt) -> Message:
    """A message after a failed attempt, with its next one or none."""
    message = attempt.message
    attempts = message.attempts + 1
    next_at_us = None
    if attempts <= len(DELAYS_SECONDS):
        seconds = DELAYS_SECONDS[attempts - 1] * (1 + JITTER * random.random())
        seconds = max(seconds, attempt.retry_after_seconds)
        next_at_us = now_us() + int(seconds * SECOND_US)
    return message._replace(
        attempts=attempts, next_at_us=next_at_us, last_error=(attempt.failure or "")[:200]
    )


def _seconds(retry_after: str | None) -> float:
    """How long `Retry-After` asks to wait, in seconds or by a date; 0 where it says nothing."""
    text = (retry_after or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        seconds = float(text)
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)


async def _locked(connection: Connection, tenant: str, webhook_id: str) -> Webhook:
    found = await webhook_store.webhook(connection, tenant, webhook_id, locked=True)
    if found is None:
        raise WebhookNotFound(f"There is no webhook {webhook_id!r}.")
    return found


async def _note(
    connection: Connection, action: Action, before: Webhook | None, after: Webhook | None
) -> None:
    [row, *_] = [row for row in (after, before) if row is not None]
    noted = entry(row.tenant, action, row.id, before and _facts(before), after and _facts(after))
    await audit_store.save_entries(connection, [noted])


def _facts(row: Webhook) -> dict[str, Any]:
    """What everybody who may read may know of a webhook: the rest of an address may be a secret."""
    url = posting.url_of(row.url)
    return {
        "receiver": f"{url.scheme}://{url.netloc.decode()}",
        "events": row.events.split(),
        **({} if row.disabled_reason is None else {"disabled_reason": row.disabled_reason}),
    }
