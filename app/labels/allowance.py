"""How many changes of an account's labels one key may make in a day.

Whoever steals a key can move an account, but not for ever to and fro. Counted in the audit log,
inside the change's own database transaction and under its account's lock: replicas count alike.
"""

import math

from app.audit import store as audit_store
from app.db.connection import Connection
from app.labels.errors import TooManyLabels
from app.learner.transaction import DAY_US, SECOND_US
from app.ops.actor import actor
from app.times import now_us


class Allowance:
    """So many changes of the labels of each account by each key, in any 24 hours.

    None is as many as there are.
    """

    def __init__(self, changes: int | None) -> None:
        self.changes = changes

    async def check(
        self, connection: Connection, tenant: str, account_id: str, wanted: int
    ) -> None:
        """Raises TooManyLabels where so many more changes by who acts now are too many.

        The account is locked, and the changes are not written down yet.
        """
        if self.changes is None:
            return
        now = now_us()
        # With this one and those after it, the wanted ones would be one too many.
        rank = max(self.changes - wanted, 0)
        last_us = await audit_store.change_of_rank(
            connection, tenant, account_id, actor.get(), now - DAY_US, rank
        )
        if last_us is None and wanted <= self.changes:
            return
        seconds = math.ceil(((last_us or now) + DAY_US - now) / SECOND_US)
        raise TooManyLabels(
            f"A key may change at most {self.changes} labels of an account in 24 hours.",
            headers={"Retry-After": str(seconds)},
        )
