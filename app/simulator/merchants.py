"""Where money can be spent: the markets and merchants of the simulator.

Purchases return to few merchants with a Zipf law (Krumme et al. 2013, Scientific Reports 3:1645).
The shares and medians are choices, not estimates from any data set; medians are in euros. Trade
online is concentrated: most purchases on marketplaces go to one in each country, which is so in
about every tenth payment there.

Axes: M merchants, K markets (a channel and a category), L countries, G groups (country, market),
N rows, X choices.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from app.simulator.countries import COUNTRIES, Floats, Ints


class Market(NamedTuple):
    """A channel and a category: its share of purchases, median amount, and log-spread."""

    channel: str
    category: str
    share: float
    median: float
    sigma: float


MARKETS = (
    Market("card_present", "grocery", 0.24, 28, 0.7),
    Market("card_present", "restaurant", 0.13, 24, 0.6),
    Market("card_present", "fuel", 0.06, 45, 0.4),
    Market("card_present", "transport", 0.07, 8, 0.7),
    Market("card_present", "fashion", 0.04, 48, 0.7),
    Market("card_present", "health", 0.05, 20, 0.7),
    Market("card_present", "household", 0.04, 55, 0.9),
    Market("card_present", "entertainment", 0.04, 25, 0.6),
    Market("card_present", "electronics", 0.015, 140, 0.9),
    Market("card_present", "jewellery", 0.004, 220, 0.9),
    Market("card_present", "hotel", 0.012, 150, 0.6),
    Market("atm", "cash", 0.06, 80, 0.6),
    Market("online", "marketplace", 0.13, 32, 0.9),
    Market("online", "fashion", 0.035, 55, 0.7),
    Market("online", "electronics", 0.02, 130, 1.0),
    Market("online", "digital_goods", 0.04, 12, 0.8),
    Market("online", "gift_card", 0.008, 50, 0.5),
    Market("online", "travel", 0.015, 220, 0.9),
    Market("online", "food_delivery", 0.05, 26, 0.4),
    Market("online", "gaming", 0.02, 15, 0.8),
    Market("online", "transfer", 0.002, 90, 1.1),
    Market("recurring", "subscription", 0.0, 11, 0.5),
)
CHANNEL_K = np.array([market.channel for market in MARKETS])
CATEGORY_K = np.array([market.category for market in MARKETS])
IN_PERSON_K = np.isin(CHANNEL_K, ("card_present", "atm"))
ONLINE_K = CHANNEL_K == "online"
MARKETPLACE = int(np.flatnonzero(CATEGORY_K == "marketplace")[0])
TRANSFER = int(np.flatnonzero(CATEGORY_K == "transfer")[0])
CASH = int(np.flatnonzero(CATEGORY_K == "cash")[0])
SUBSCRIPTION = int(np.flatnonzero(CATEGORY_K == "subscription")[0])

# Who is paid by transfer in each country: employees and suppliers, none more popular than others.
PAYEES = 160
LEADER_SHARE = 0.8


@dataclass(frozen=True)
class Merchants:
    """Merchants, sorted by (country, market), with a Zipf popularity inside each such group."""

    country_M: Ints
    market_M: Ints
    price_M: Floats
    popularity_M: Floats

    @classmethod
    def draw(cls, rng: np.random.Generator, accounts: int) -> "Merchants":
        """About half as many merchants as accounts, and at least three in every group."""
        share_LK = np.outer([c.share for c in COUNTRIES], [m.share + 0.01 for m in MARKETS])
        size_LK = 3 + np.round(0.5 * accounts * share_LK / share_LK.sum()).astype(np.int64)
        size_LK[:, TRANSFER] = PAYEES
        size_G = size_LK.ravel()
        group_M = np.repeat(np.arange(len(size_G)), size_G)
        rank_M = np.arange(len(group_M)) - np.repeat(np.cumsum(size_G) - size_G, size_G)
        market_M = group_M % len(MARKETS)
        popularity_M = np.where(market_M == TRANSFER, 1.0, 1 / (1 + rank_M))
        others_G = np.bincount(group_M, popularity_M) - 1
        leads_M = (market_M == MARKETPLACE) & (rank_M == 0)
        leader_M = others_G[group_M] * LEADER_SHARE / (1 - LEADER_SHARE)
        return cls(
            country_M=group_M // len(MARKETS),
            market_M=market_M,
            price_M=rng.lognormal(0, 0.3, len(group_M)),
            popularity_M=np.where(leads_M, leader_M, popularity_M),
        )

    def pick(self, rng: np.random.Generator, country_N: Ints, market_N: Ints) -> Ints:
        """One merchant for each row, by popularity among those of its country and market."""
        group_M = self.country_M * len(MARKETS) + self.market_M
        total_M1 = np.concatenate([[0.0], np.cumsum(self.popularity_M)])
        group_N = country_N * len(MARKETS) + market_N
        first_N = np.searchsorted(group_M, group_N, "left")
        last_N = np.searchsorted(group_M, group_N, "right")
        point_N = rng.uniform(total_M1[first_N], total_M1[last_N])
        return np.clip(np.searchsorted(total_M1, point_N, "right") - 1, first_N, last_N - 1)


def pick(rng: np.random.Generator, weight_X: Floats, count: int) -> Ints:
    """`count` positions, each with a probability in proportion to its weight."""
    total_X = np.cumsum(weight_X)
    chosen_N: Ints = np.searchsorted(total_X, rng.random(count) * total_X[-1], "right")
    return chosen_N


def pick_by_row(rng: np.random.Generator, weight_NX: Floats) -> Ints:
    """One position for each row, with a probability in proportion to the row's weights."""
    total_NX = np.cumsum(weight_NX, axis=1)
    point_N1 = rng.random((len(weight_NX), 1)) * total_NX[:, -1:]
    chosen_N: Ints = (total_NX <= point_N1).sum(axis=1)
    return chosen_N
