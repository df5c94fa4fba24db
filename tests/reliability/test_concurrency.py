"""Replicas label at once, one account and many in shuffled order, and score meanwhile."""

import itertools
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.learner.transaction import entity_code
from tests.api.requests import label, posted
from tests.conftest import mainly
from tests.postgres import execute
from tests.reliability.conftest import Note
from tests.reliability.ledger import Caller, Json, Ledger, kind_of, reconcile
from tests.servers import new_key, replicas

MERCHANTS = 7
MARKETPLACE = "marketplace"
ACCOUNTS = (1, 10)
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
# After so many labels a replica scores a payment of every account, in an order of its own.
SCORED_EVERY = 5
DEADLOCKS = """DO $$ BEGIN ASSERT
    (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()) = 0;
END $$"""


@mainly("postgresql")
def test_labels_of_replicas_are_all_there_and_make_the_serial_copies(
    database_url: str, checkpoint: Path, torture: bool, noted: Note
) -> None:
    count, each = (4, 250) if torture else (2, 20)
    ledger, key = Ledger(), new_key(database_url)
    # More of one account than a key may change in a day.
    most = {"QUICKSTUDY_LABELS_PER_ACCOUNT": str(count * each)}
    with ExitStack() as stack:
        some = stack.enter_context(replicas(count, database_url, checkpoint, **most))
        callers = [stack.enter_context(Caller(server.url, key, ledger)) for server in some]
        for accounts in ACCOUNTS:
            # The same payments twice, each time at one merchant: equal features, label by label.
            together, serial = (
                payments(f"{kind}-{accounts}", accounts, count * each, merchant)
                for kind, merchant in zip(("together", "serial"), namesakes(accounts), strict=True)
            )
            callers[0].score_batch(together)
            callers[0].score_batch(serial)
            label_at_once(callers, together)
            for body in serial:
                give(callers[0], body)
            for pair in zip(account_ids(together), account_ids(serial), strict=True):
                copies = {copy_of(caller, account_id) for caller in callers for account_id in pair}
                assert len(copies) == 1
        pay_at_once(callers, each)
    stored = reconcile(database_url, ledger)
    assert len(stored.labels) == 2 * len(ACCOUNTS) * count * each
    if not database_url.startswith("sqlite"):
        execute(database_url, DEADLOCKS)
        # Replicas have slots of their own, and no more than there are replicas.
        of_all = [row for row in stored.entities if row.entity_id == MARKETPLACE]
        assert all(1 < row.slots <= count for row in of_all)
    for accounts in ACCOUNTS:
        noted(
            f"labels of replicas at once, {accounts} account{'s' * (accounts > 1)}",
            kind_of(database_url),
            f"{count} replicas x {each} labels, and scores of every account meanwhile: "
            f"{count * each:,} labels, adapters equal to the serial ones, no deadlock",
        )


def namesakes(accounts: int) -> tuple[str, str]:
    """Two merchants that a copy cannot tell apart, by chance, though the database does."""
    names = (f"merchant-of-{accounts}-{n}" for n in itertools.count())
    codes = {entity_code("merchant", first := next(names)): first}
    while (other := codes.setdefault(entity_code("merchant", name := next(names)), name)) == name:
        pass
    return other, name


def payments(kind: str, accounts: int, count: int, merchant: str) -> list[Json]:
    return [
        posted(
            f"{kind}-{n}",
            account_id=f"{kind}-{n % accounts}",
            merchant_id=merchant,
            amount=10 + n % 97,
            occurred_at=(NOON + timedelta(minutes=n)).isoformat(),
        )
        for n in range(count)
    ]


def account_ids(bodies: Sequence[Json]) -> list[str]:
    return sorted({body["account_id"] for body in bodies})


def copy_of(caller: Caller, account_id: str) -> str:
    """The digest of its bits, as this replica has made it."""
    answer = caller.ask("POST", f"/v1/accounts/{account_id}/adapt", {})
    adapter: str = answer["adaptation"]["adapter"]
    return adapter


def give(caller: Caller, body: Json) -> Json:
    """Label a payment, with what its amount stands for."""
    name = "fraud" if body["amount"] % 3 == 0 else "legitimate"
    return caller.label(body["account_id"], [label(body["transaction_id"], name)])


def pay_at_once(callers: Sequence[Caller], each: int) -> None:
    """Every replica scores payments of its own account, all at one merchant and device."""

    def pay(replica: int) -> None:
        for n in range(each):
            body = posted(
                f"paid-{replica}-{n}",
                account_id=f"payer-{replica}",
                merchant_id=MARKETPLACE,
                device_id=MARKETPLACE,
                occurred_at=(NOON + timedelta(days=2, seconds=n)).isoformat(),
            )
            callers[replica].score(body)

    with ThreadPoolExecutor(len(callers)) as threads:
        list(threads.map(pay, range(len(callers))))


def label_at_once(callers: Sequence[Caller], bodies: Sequence[Json]) -> None:
    """Each replica its share, in an order of its own; scores meanwhile use what was labelled."""
    accounts = account_ids(bodies)

    def label(replica: int) -> list[str]:
        draw = random.Random(replica)
        chosen = draw.sample(bodies[replica :: len(callers)], len(bodies) // len(callers))
        names = []
        for turn, body in enumerate(chosen):
            done = give(callers[replica], body)
            if turn % SCORED_EVERY == 0:
                name = f"{body['transaction_id']}-meanwhile"
                other = callers[(replica + 1) % len(callers)]
                answers = other.score_batch(
                    [
                        posted(
                            f"{name}-{account}",
                            account_id=account,
                            merchant_id=f"shared-{draw.randrange(MERCHANTS)}",
                            occurred_at=(NOON + timedelta(days=1, minutes=turn)).isoformat(),
                        )
                        for account in draw.sample(accounts, len(accounts))
                    ]
                )
                [own] = [answer for answer in answers if answer["account_id"] == body["account_id"]]
                assert own["adaptation"]["revision"] >= done["adaptation"]["revision"]
                names.append(own["transaction_id"])
        return names

    with ThreadPoolExecutor(len(callers)) as threads:
        scored = [name for names in threads.map(label, range(len(callers))) for name in names]
    for name in scored:
        callers[0].replay(name)
