"""Countries and currencies of the simulator, and what an amount in euros is in each currency.

Rates and minor units (ISO 4217) are approximate and fixed: they give amounts the scale of their
currency, where 5,000 yen are a lunch and 5,000 dinars a car. Loyalty points are a unit without a
public rate, as wallets and game shops have one.

Axes: C currencies, L countries, N rows.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Currency(NamedTuple):
    """`rate` units are worth a euro; amounts have `digits` decimals."""

    code: str
    rate: float
    digits: int


CURRENCIES = (
    Currency("EUR", 1.0, 2),
    Currency("GBP", 0.86, 2),
    Currency("USD", 1.08, 2),
    Currency("CAD", 1.47, 2),
    Currency("CHF", 0.95, 2),
    Currency("SEK", 11.3, 2),
    Currency("PLN", 4.3, 2),
    Currency("HUF", 395, 2),
    Currency("TRY", 35, 2),
    Currency("AED", 3.97, 2),
    Currency("KWD", 0.332, 3),
    Currency("ZAR", 20, 2),
    Currency("NGN", 1600, 2),
    Currency("BRL", 5.6, 2),
    Currency("MXN", 19, 2),
    Currency("INR", 90, 2),
    Currency("SGD", 1.45, 2),
    Currency("THB", 38.5, 2),
    Currency("IDR", 17_000, 2),
    Currency("JPY", 162, 0),
    Currency("KRW", 1460, 0),
    Currency("AUD", 1.64, 2),
    Currency("PTS", 140, 0),
)
CURRENCY_CODE_C = np.array([currency.code for currency in CURRENCIES])
POINTS = int(np.flatnonzero(CURRENCY_CODE_C == "PTS")[0])


class Country(NamedTuple):
    """`share` is of the accounts, in parts of the whole."""

    code: str
    latitude: float
    longitude: float
    utc_offset_hours: int
    share: float
    currency: str


COUNTRIES = (
    Country("DE", 51.2, 10.4, 1, 14, "EUR"),
    Country("FR", 46.6, 2.4, 1, 10, "EUR"),
    Country("ES", 40.3, -3.7, 1, 6, "EUR"),
    Country("IT", 42.8, 12.1, 1, 5, "EUR"),
    Country("NL", 52.2, 5.3, 1, 3, "EUR"),
    Country("GB", 53.0, -1.5, 0, 10, "GBP"),
    Country("CH", 46.8, 8.2, 1, 2, "CHF"),
    Country("SE", 62.0, 15.0, 1, 2, "SEK"),
    Country("PL", 52.1, 19.4, 1, 3, "PLN"),
    Country("HU", 47.2, 19.4, 1, 1.5, "HUF"),
    Country("TR", 39.0, 35.2, 3, 2, "TRY"),
    Country("AE", 24.0, 54.0, 4, 1, "AED"),
    Country("KW", 29.3, 47.6, 3, 1, "KWD"),
    Country("ZA", -29.0, 25.1, 2, 1.5, "ZAR"),
    Country("NG", 9.6, 8.1, 1, 1.5, "NGN"),
    Country("US", 39.8, -98.6, -6, 16, "USD"),
    Country("CA", 50.0, -97.0, -6, 3, "CAD"),
    Country("MX", 23.9, -102.5, -6, 3, "MXN"),
    Country("BR", -14.2, -51.9, -3, 4, "BRL"),
    Country("IN", 22.9, 79.6, 5, 4, "INR"),
    Country("SG", 1.3, 103.8, 8, 1.5, "SGD"),
    Country("TH", 15.9, 100.9, 7, 1.5, "THB"),
    Country("ID", -2.2, 117.2, 8, 1.5, "IDR"),
    Country("JP", 37.6, 138.0, 9, 4, "JPY"),
    Country("KR", 36.4, 127.8, 9, 2, "KRW"),
    Country("AU", -25.7, 134.5, 10, 2.5, "AUD"),
)
CURRENCY_L = np.array([list(CURRENCY_CODE_C).index(country.currency) for country in COUNTRIES])


def local_amounts(euros_N: Floats, currency_N: Ints) -> Floats:
    """Amounts in units of each row's currency, rounded to its minor unit; no price falls to 0."""
    rate_N = np.array([currency.rate for currency in CURRENCIES])[currency_N]
    unit_N = 10.0 ** np.array([currency.digits for currency in CURRENCIES])[currency_N]
    minor_N = np.round(euros_N * rate_N * unit_N)
    return np.where(euros_N > 0, np.maximum(minor_N, 1), 0) / unit_N


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
