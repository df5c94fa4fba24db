"""Certificates of erasures: what was done, provable by whoever has the account's id.

What is kept has no id of the account, only a salted digest of it, made slow on purpose: who has
the id can match it, and to guess ids takes a tenth of a second each. The certificate's own digest
is of all of it, the id included.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple

from app.erasures.records import Erasure
from app.labels.records import Forgetting
from app.times import now_us, text_of

NOT_COVERED = (
    "The model's own weights: they were meta-trained on the data whose digest stands here. "
    "Whether this account was among them is known to whoever trained the model; only a training "
    "without it forgets it.",
    "Transactions of other accounts keep the features they were scored with, which may count "
    "this account's payments and matured labels among those of a merchant, a device or another "
    "entity. Labelled ones learn from features without its labels; unlabelled ones keep them.",
    "Copies of the data outside this database: backups, exports, logs of the caller.",
)
# Of scrypt (RFC 7914): 32 MiB and a tenth of a second.
COST, BLOCK, PARALLEL = 1 << 15, 8, 1
MEMORY = 128 * COST * BLOCK * 2


class SaltedDigest(NamedTuple):
    """The digest of an account's id, and its salt."""

    digest: str
    salt: str


def salted_digest(account_id: str) -> SaltedDigest:
    """A digest of an account's id by a new salt: slow on purpose, so nothing is to be locked."""
    salt = secrets.token_hex(16)
    return SaltedDigest(digest_of_account(account_id, salt), salt)


def certified(forgetting: Forgetting, salted: SaltedDigest, facts: Mapping[str, Any]) -> Erasure:
    """The certificate of an erasure that ends now, as it is kept."""
    at_us = now_us()
    content = {
        "id": forgetting.id,
        "erased_at": text_of(at_us),
        "account_digest": salted.digest,
        "salt": salted.salt,
        **facts,
        "not_covered": list(NOT_COVERED),
    }
    whole = canonical({**content, "account_id": forgetting.account_id})
    digest = hashlib.sha256(whole.encode()).hexdigest()
    by = forgetting.actor
    return Erasure(forgetting.tenant, at_us, forgetting.id, by, canonical(content), digest)


def digest_of_account(account_id: str, salt: str) -> str:
    """The digest of an account's id: scrypt, n = 2**15, r = 8, p = 1, 32 bytes, in hexadecimal."""
    return hashlib.scrypt(
        account_id.encode(),
        salt=bytes.fromhex(salt),
        n=COST,
        r=BLOCK,
        p=PARALLEL,
        maxmem=MEMORY,
        dklen=32,
    ).hex()


def canonical(content: Mapping[str, Any]) -> str:
    """The one text of a certificate: JSON in ASCII, sorted, without spaces."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
