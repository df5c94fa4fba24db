"""Who changed what: an entry for every change of a label, a status, a threshold, a key, a model, …

Entries are written in the database transaction of the change, so that neither is there without
the other. Who acts is ambient: a request's key, or the person of its session, set where it is
authenticated.
"""

import json
import secrets
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from app.ops.actor import actor as acting
from app.times import now_us

Action = Literal[
    "label.set",
    "label.removed",
    "label.rolled_back",
    "account.rolled_back",
    "account.erased",
    "status.set",
    "review.claimed",
    "review.handed_over",
    "review.released",
    "review.snoozed",
    "review.woken",
    "review.resolved",
    "review.reopened",
    "note.added",
    "thresholds.set",
    "thresholds.reset",
    "key.created",
    "key.rotated",
    "key.revoked",
    "webhook.created",
    "webhook.rotated",
    "webhook.enabled",
    "webhook.removed",
    "person.added",
    "person.password_set",
    "person.role_set",
    "person.reset",
    "person.removed",
    "model.activated",
    "model.shadowed",
    "demo.loaded",
    "tenant.exported",
    "tenant.imported",
    "payments.pruned",
]


class Entry(NamedTuple):
    """A row of `audit_log`: `before` and `after` are JSON, None where there was or is nothing."""

    tenant: str
    at_us: int
    id: str
    actor: str
    action: Action
    subject: str
    account_id: str | None
    before: str | None
    after: str | None


def entry(
    tenant: str,
    action: Action,
    subject: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    account_id: str | None = None,
) -> Entry:
    """An entry of now, by whoever is acting. With an account's erasure its entries are erased."""
    return Entry(
        tenant,
        now_us(),
        secrets.token_hex(8),
        acting.get(),
        action,
        subject,
        account_id,
        _text(before),
        _text(after),
    )


def _text(facts: Mapping[str, Any] | None) -> str | None:
    return None if facts is None else json.dumps(facts, ensure_ascii=False, sort_keys=True)
