"""What callers do not send: whole fields of a platform, and now and then one of a payment.

An integration sends what its platform has: a shop has no distance, a till no device, a small one
neither, and who does not ask an acquirer has no status. So what is missing goes with the platform,
and seldom with the payment; which fields, and for how many, is a choice.

Axes: N transactions, G groups of accounts.
"""

import numpy as np
from numpy.typing import NDArray

from app.simulator.accounts import GROUPS, Accounts
from app.simulator.countries import Ints

ATTRIBUTES = ("distance_from_home_km", "device_age_days")
ENTITIES = ("device_id", "ip_address", "card", "email")
CATEGORIES = ("merchant_category", "channel", "country")

# Of all groups, those that send none of the attributes, none of the entities, or not this field.
WITHOUT_ATTRIBUTES = 1 / 3
WITHOUT_ENTITIES = 0.3
WITHOUT_ENTITY = 0.2
WITHOUT_CATEGORY = 0.05
WITHOUT_STATUS = 0.3
WITHOUT_NOW_AND_THEN = 0.015


def omitted(
    rng: np.random.Generator, accounts: Accounts, account_N: Ints
) -> dict[str, NDArray[np.bool_]]:
    """For each field that may be missing, where it is."""
    group_N = accounts.group_A[account_N]
    no_attributes_G, no_entities_G = (
        _groups(rng, share) for share in (WITHOUT_ATTRIBUTES, WITHOUT_ENTITIES)
    )
    of_group = dict.fromkeys(ATTRIBUTES, no_attributes_G)
    of_group |= {name: no_entities_G | _groups(rng, WITHOUT_ENTITY) for name in ENTITIES}
    of_group |= {name: _groups(rng, WITHOUT_CATEGORY) for name in CATEGORIES}
    found = {
        name: missing_G[group_N] | (rng.random(len(group_N)) < WITHOUT_NOW_AND_THEN)
        for name, missing_G in of_group.items()
    }
    # A caller has answers of its acquirer or has none.
    return found | {"status": _groups(rng, WITHOUT_STATUS)[group_N]}


def _groups(rng: np.random.Generator, share: float) -> NDArray[np.bool_]:
    return rng.permutation(GROUPS) < round(share * GROUPS)
