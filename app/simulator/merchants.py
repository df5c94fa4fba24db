"""Where money can be spent: the countries, markets and merchants of the simulator.

Purchases return to few merchants with a Zipf law (Krumme et al. 2013, Scientific Reports 3:1645).
The shares and medians are choices, not estimates from any data set.

Axes: M merchants, K markets (a channel and a category), L countries, G groups (country, market),
N rows, X choices.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Country(NamedTuple):
    code: str
    latitude: float
    longitude: float
    utc_offset_hours: int
    share: float
    currency: str


COUNTRIES = (
    Country("DE", 51.2, 10.4, 1, 0.24, "EUR"),
    Country("FR", 46.6, 2.4, 1, 0.16, "EUR"),
    Country("ES", 40.3, -3.7, 1, 0.12, "EUR"),
    Country("GB", 53.0, -1.5, 0, 0.14, "GBP"),
    Country("US", 39.8, -98.6, -6, 0.20, "USD"),
    Country("CA", 50.0, -97.0, -6, 0.05, "CAD"),
    Country("CH", 46.8, 8.2, 1, 0.03, "CHF"),
    Country("SG", 1.3, 103.8, 8, 0.02, "SGD"),
    Country("BR", -14.2, -51.9, -3, 0.01, "USD"),
    Country("TR", 39.0, 35.2, 3, 0.01, "EUR"),
    Country("TH", 15.9, 100.9, 7, 0.01, "USD"),
    Country("AE", 24.0, 54.0, 4, 0.01, "USD"),
)


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
    Market("online", "marketplace", 0.09, 32, 0.9),
    Market("online", "fashion", 0.035, 55, 0.7),
    Market("online", "electronics", 0.02, 130, 1.0),
    Market("online", "digital_goods", 0.04, 12, 0.8),
    Market("online", "gift_card", 0.008, 50, 0.5),
    Market("online", "travel", 0.015, 220, 0.9),
    Market("online", "food_delivery", 0.05, 26, 0.4),
    Market("online", "gaming", 0.02, 15, 0.8),
    Market("recurring", "subscription", 0.0, 11, 0.5),
)
CHANNEL_K = np.array([market.channel for market in MARKETS])
CATEGORY_K = np.array([market.category for market in MARKETS])
IN_PERSON_K = np.isin(CHANNEL_K, ("card_present", "atm"))
ONLINE_K = CHANNEL_K == "online"
CASH = int(np.flatnonzero(CATEGORY_K == "cash")[0])
SUBSCRIPTION = int(np.flatnonzero(CATEGORY_K == "subscription")[0])


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
        size_G = 3 + np.round(0.5 * accounts * share_LK / share_LK.sum()).astype(np.int64).ravel()
        group_M = np.repeat(np.arange(len(size_G)), size_G)
        rank_M = np.arange(len(group_M)) - np.repeat(np.cumsum(size_G) - size_G, size_G)
        return cls(
            country_M=group_M // len(MARKETS),
            market_M=group_M % len(MARKETS),
            price_M=rng.lognormal(0, 0.3, len(group_M)),
            popularity_M=1 / (1 + rank_M),
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


def distances_km_LL() -> Floats:
    """Great-circle distances between the countries' centres."""
    latitude_L = np.radians([c.latitude for c in COUNTRIES])
    longitude_L = np.radians([c.longitude for c in COUNTRIES])
    half_LL = (
        np.sin(np.subtract.outer(latitude_L, latitude_L) / 2) ** 2
        + np.multiply.outer(np.cos(latitude_L), np.cos(latitude_L))
        * np.sin(np.subtract.outer(longitude_L, longitude_L) / 2) ** 2
    )
    distance_LL: Floats = 2 * 6371 * np.arcsin(np.sqrt(half_LL))
    return distance_LL
