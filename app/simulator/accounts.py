"""Who pays: the accounts of the simulator and their habits.

Every account has habits of its own, because profiling work on real cards finds that what is
ordinary for one holder is alarming for another (Fawcett & Provost 1997, Data Mining and Knowledge
Discovery 1:291; Bolton & Hand 2002, Statistical Science 17:235). Sources of the shapes:

- purchases return to a few favourites and sometimes explore (Krumme et al. 2013, Scientific
  Reports 3:1645);
- hours of the day follow a circular (von Mises) law per holder (Correa Bahnsen et al. 2016,
  Expert Systems with Applications 51:134);
- amounts are judged per holder, so levels and spreads differ by holder (Whitrow et al. 2009,
  Data Mining and Knowledge Discovery 18:30); the log-normal is a choice;
- spending peaks after the holder's salary (Gelman et al. 2014, Science 345:212);
- activity is far from even: most customers of a shop buy a few times (Fader et al. 2005,
  Marketing Science 24:275), and they come and go. So many accounts open during the simulation,
  half of them with a history elsewhere, as when a platform begins to send its payments;
- the sizes of firms follow Zipf's law (Axtell 2001, Science 293:1818), so a few offices have most
  of those who work in one.

An account belongs to one of `GROUPS` platforms, whose callers send the same fields for all of
theirs.

Axes: A accounts, K markets, F favourites, P personas, T trips, N rows.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from app.simulator.countries import COUNTRIES, CURRENCY_L, POINTS, Floats, Ints
from app.simulator.merchants import MARKETS, ONLINE_K, Merchants, pick, pick_by_row

FAVOURITES = 20
GROUPS = 60
OPENING_SHARE = 0.35
OTHER_CURRENCY_SHARE = 0.04
POINTS_SHARE = 0.015
OFFICE_SHARE = 0.35


class Persona(NamedTuple):
    """A kind of account, by the centre of its habits; every account departs from its own."""

    name: str
    share: float
    daily_rate: float
    amount_level: float
    peak_hour: float
    online_weight: float
    days_between_trips: float
    burst_share: float


PERSONAS = (
    Persona("everyday", 0.60, 0.7, 1.0, 14, 1.0, 150, 0.02),
    Persona("night_worker", 0.07, 0.7, 1.0, 2, 1.0, 150, 0.02),
    Persona("traveller", 0.07, 0.9, 1.8, 15, 1.0, 12, 0.02),
    Persona("big_spender", 0.05, 0.9, 5.0, 16, 1.0, 60, 0.02),
    Persona("business", 0.05, 2.2, 7.0, 11, 1.5, 60, 0.0),
    Persona("online_native", 0.10, 1.0, 0.6, 22, 4.0, 200, 0.25),
    Persona("dormant", 0.06, 0.04, 1.2, 14, 1.0, 300, 0.02),
    Persona("guest", 0.14, 0.015, 1.0, 17, 4.0, 300, 0.02),
)


@dataclass(frozen=True)
class Accounts:
    """The habits of A accounts. Days count from the start of the simulation.

    The first `holders` accounts are of honest holders; the others are there for thieves to open.
    """

    holders: int
    persona_A: Ints
    home_A: Ints
    currency_A: Ints
    group_A: Ints
    opens_on_A: Floats
    household_A: Ints  # The account that leads it, often the account itself.
    daily_rate_A: Floats
    amount_level_A: Floats
    amount_spread_A: Floats
    hour_A2: Floats  # Peaks of the day in UTC.
    hour_focus_A: Floats
    market_share_AK: Floats
    explore_A: Floats
    abroad_online_A: Floats
    radius_km_A: Floats
    weekend_A: Floats
    payday_A: Ints
    burst_share_A: Floats
    favourite_A2F: Ints  # Before and after the account moves house.
    moves_on_A: Floats
    device_since_A: Floats  # Of the first device; inf where its first payment is in the file.
    new_device_on_A: Floats
    card_years_A: Floats  # How long a card lasts.
    office_A: Ints  # Where its holder works, within the country; -1 for nowhere.
    trip_start_AT: Floats
    trip_end_AT: Floats
    trip_country_AT: Ints

    def __len__(self) -> int:
        return len(self.home_A)

    @property
    def typical_amount_A(self) -> Floats:
        """A middling purchase of each account."""
        return 28 * self.amount_level_A

    @classmethod
    def draw(
        cls, rng: np.random.Generator, holders: int, days: int, merchants: Merchants
    ) -> "Accounts":
        """Habits of `holders` accounts, and of a third as many that only thieves open."""
        count = holders + 100 + holders // 3
        is_holder_A = np.arange(count) < holders
        persona_A = pick(rng, np.array([p.share for p in PERSONAS]), count)
        home_A = pick(rng, np.array([c.share for c in COUNTRIES]), count)
        share_AK = _market_shares(rng, _of(persona_A, "online_weight"))
        start_AT, end_AT = _trips(rng, _of(persona_A, "days_between_trips"), days)
        opens_A = rng.random(count) < OPENING_SHARE
        opens_A |= _of(persona_A, "daily_rate") < 0.02
        opens_on_A = np.where(opens_A, rng.uniform(0, days, count), -np.inf)
        from_elsewhere_A = is_holder_A & (~opens_A | (rng.random(count) < 0.5))
        begins_on_A = np.maximum(opens_on_A, 0)
        rate_A = _of(persona_A, "daily_rate") * rng.lognormal(0, 0.5, count)
        return cls(
            holders=holders,
            persona_A=persona_A,
            home_A=home_A,
            currency_A=_currencies(rng, home_A),
            group_A=rng.integers(0, GROUPS, count),
            opens_on_A=opens_on_A,
            household_A=_households(rng, home_A, holders),
            daily_rate_A=np.where(is_holder_A, rate_A, 0.0),
            amount_level_A=_of(persona_A, "amount_level") * rng.lognormal(0, 0.5, count),
            amount_spread_A=rng.uniform(0.6, 1.4, count),
            hour_A2=_hours(rng, persona_A, home_A),
            hour_focus_A=rng.uniform(0.8, 5, count),
            market_share_AK=share_AK,
            explore_A=rng.beta(2, 5, count),
            abroad_online_A=rng.beta(1.5, 12, count),
            radius_km_A=rng.lognormal(np.log(6), 0.9, count),
            weekend_A=rng.lognormal(0, 0.35, count),
            payday_A=rng.choice([1, 15, 25, 28], count),
            burst_share_A=_of(persona_A, "burst_share"),
            favourite_A2F=_favourites(rng, merchants, home_A, share_AK),
            moves_on_A=np.where(rng.random(count) < 0.08, rng.uniform(0, days, count), np.inf),
            device_since_A=np.where(
                from_elsewhere_A, begins_on_A - rng.exponential(400, count), np.inf
            ),
            new_device_on_A=begins_on_A + rng.exponential(600, count),
            card_years_A=rng.uniform(1, 4, count),
            office_A=np.where(
                rng.random(count) < OFFICE_SHARE,
                pick(rng, 1 / np.arange(1.0, 2 + holders // 150), count),
                -1,
            ),
            trip_start_AT=start_AT,
            trip_end_AT=end_AT,
            trip_country_AT=(home_A[:, None] + rng.integers(1, len(COUNTRIES), start_AT.shape))
            % len(COUNTRIES),
        )


def _of(persona_A: Ints, name: str) -> Floats:
    centre_P = np.array([getattr(p, name) for p in PERSONAS], dtype=np.float64)
    return centre_P[persona_A]


def _currencies(rng: np.random.Generator, home_A: Ints) -> Ints:
    """The currency of the home; now and then a large one, or loyalty points."""
    way_A = rng.random(len(home_A))
    large_A = CURRENCY_L[pick(rng, np.array([c.share for c in COUNTRIES]), len(home_A))]
    other_A = way_A < POINTS_SHARE + OTHER_CURRENCY_SHARE
    return np.select([way_A < POINTS_SHARE, other_A], [POINTS, large_A], CURRENCY_L[home_A])


def _households(rng: np.random.Generator, home_A: Ints, holders: int) -> Ints:
    """Every seventh holder lives with the next one or two of the same country."""
    household_A = np.arange(len(home_A))
    by_home_H = np.argsort(home_A[:holders], kind="stable")
    joins_H = (rng.random(holders) < 0.15) & (np.arange(holders) > 0)
    joins_H &= home_A[by_home_H] == home_A[np.roll(by_home_H, 1)]
    leader_H = np.maximum.accumulate(np.where(joins_H, 0, np.arange(holders)))
    household_A[by_home_H] = by_home_H[leader_H]
    return household_A


def _market_shares(rng: np.random.Generator, online_weight_A: Floats) -> Floats:
    share_AK = rng.gamma(1.5, size=(len(online_weight_A), len(MARKETS)))
    share_AK *= [market.share for market in MARKETS]
    taste_A = online_weight_A * rng.lognormal(0, 0.6, len(online_weight_A))
    share_AK[:, ONLINE_K] *= taste_A[:, None]
    share_AK /= share_AK.sum(axis=1, keepdims=True)
    return share_AK


def _hours(rng: np.random.Generator, persona_A: Ints, home_A: Ints) -> Floats:
    first_A = _of(persona_A, "peak_hour") + rng.normal(0, 2, len(persona_A))
    second_A = first_A + rng.uniform(-6, 6, len(persona_A))
    offset_A = np.array([c.utc_offset_hours for c in COUNTRIES])[home_A]
    return np.asarray((np.stack([first_A, second_A], axis=1) - offset_A[:, None]) % 24)


def _favourites(
    rng: np.random.Generator, merchants: Merchants, home_A: Ints, share_AK: Floats
) -> Ints:
    rows_N = np.repeat(np.arange(len(home_A)), 2 * FAVOURITES)
    market_N = pick_by_row(rng, share_AK[rows_N])
    return merchants.pick(rng, home_A[rows_N], market_N).reshape(len(home_A), 2, FAVOURITES)


def _trips(rng: np.random.Generator, days_between_A: Floats, days: int) -> tuple[Floats, Floats]:
    most = 1 + days // 14
    gap_AT = 2 + rng.exponential(days_between_A[:, None], (len(days_between_A), most))
    length_AT = rng.uniform(2, 12, gap_AT.shape)
    end_AT = np.cumsum(gap_AT + length_AT, axis=1)
    return end_AT - length_AT, end_AT
