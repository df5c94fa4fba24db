"""What thieves do with the accounts: the documented kinds of fraud of the simulator.

Every kind is superimposed on the account's own spending, which goes on (Fawcett & Provost 1997),
or is on accounts that thieves opened. A thief borrows the hours, tastes and amounts of a stranger,
another account of the population, so that many frauds are ordinary transactions of somebody else:
only what is known about the account, its device, address and card tells them apart. Banks decline
some frauds, so every kind has declined rows, more often than holders have.
"""

from collections.abc import Callable

import numpy as np

from app.simulator.events import Events, World
from app.simulator.frauds.returns import returning
from app.simulator.frauds.scripts import account_farm, burst, card_testing, enumeration
from app.simulator.frauds.thieves import KINDS as KINDS
from app.simulator.frauds.victims import (
    IMPOSSIBLE_KMH as IMPOSSIBLE_KMH,
)
from app.simulator.frauds.victims import (
    impossible_travel,
    large_amount,
    merchant_compromise,
    takeover,
)

# Each kind with its share of the fraudulent transactions. Kinds of many rows an episode have so few
# that none drowns the others.
FRAUDS: tuple[tuple[Callable[[np.random.Generator, World, Events, int], Events], float], ...] = (
    (takeover, 0.26),
    (card_testing, 0.14),
    (merchant_compromise, 0.08),
    (large_amount, 0.10),
    (impossible_travel, 0.08),
    (burst, 0.28),
    (enumeration, 0.09),
    (account_farm, 0.07),
)
# Who opens accounts does not come back to one.
RETURNING = {takeover, card_testing, merchant_compromise, large_amount, impossible_travel, burst}
# The share of the rows that are not of thieves who come back.
FIRST_VISITS = 0.75


def defraud(rng: np.random.Generator, world: World, genuine: Events, fraud_rate: float) -> Events:
    """All fraudulent transactions: about `fraud_rate` of the legitimate ones, of every kind.

    A small simulation has more: there is at least one episode of every kind.
    """
    if not len(genuine):
        return genuine
    rows = FIRST_VISITS * fraud_rate * len(genuine)
    targets = [(fraud, max(1, round(share * rows))) for fraud, share in FRAUDS]
    parts = [fraud(rng, world, genuine, target) for fraud, target in targets]
    on_holders = [
        part for (fraud, _), part in zip(FRAUDS, parts, strict=True) if fraud in RETURNING
    ]
    return Events.concatenate([*parts, returning(rng, world, Events.concatenate(on_holders))])
