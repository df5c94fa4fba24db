"""What thieves do with the accounts: the documented kinds of fraud of the simulator.

Every kind is superimposed on the account's own spending, which goes on (Fawcett & Provost 1997).
A thief borrows the hours, tastes and amounts of a stranger, another account of the population,
so that most frauds are ordinary transactions of somebody else: only what is known about the
account tells them apart.

Axes: N transactions, E episodes, H merchants a thief uses, K markets.
"""

from collections.abc import Callable

import numpy as np

from app.simulator.merchants import (
    CATEGORY_K,
    CHANNEL_K,
    COUNTRIES,
    IN_PERSON_K,
    ONLINE_K,
    Floats,
    Ints,
    distances_km_LL,
    pick,
    pick_by_row,
)
from app.simulator.spending import (
    DAY_SECONDS,
    Events,
    World,
    distances_from_home,
    ordinary_amounts,
    own_device_age,
    seconds_of_day,
)

KINDS = (
    "genuine",
    "takeover",
    "card_testing",
    "merchant_compromise",
    "large_amount",
    "impossible_travel",
)
TAKEOVER, CARD_TESTING, MERCHANT_COMPROMISE, LARGE_AMOUNT, IMPOSSIBLE_TRAVEL = range(1, 6)

# Faster than any airliner between two payments in person.
IMPOSSIBLE_KMH = 900
RESALE_K = np.isin(CATEGORY_K, ("electronics", "gift_card", "jewellery", "travel", "marketplace"))
TESTED_K = np.isin(CATEGORY_K, ("gaming", "digital_goods")) & ONLINE_K


def takeover(rng: np.random.Generator, world: World, genuine: Events, target: int) -> Events:
    """For 1 to 10 days somebody else spends from the account, beside its holder.

    The thief has a stranger's hours, tastes and level of amounts, leans half of the time to goods
    that resell, keeps to three merchants, and sits in the holder's country or the stranger's. A
    quarter of the accounts are visited again by the same thief after 15 to 60 days, as crime
    returns to its victims (Farrell & Pease 1993, Home Office Crime Prevention Unit paper 46).
    The kind follows Fawcett & Provost (1997) and scenario 3 of the Fraud Detection Handbook
    (Le Borgne et al. 2022).
    """
    accounts, merchants = world.accounts, world.merchants
    episodes = max(1, round(target / 10))
    victim_E = _victims(rng, world, genuine, episodes)
    stranger_E = rng.integers(0, len(accounts), episodes)
    country_E = accounts.home_A[np.where(rng.random(episodes) < 0.5, victim_E, stranger_E)]
    taste_EK = accounts.market_share_AK[stranger_E] * ~(CHANNEL_K == "recurring")
    resale_EK = RESALE_K * accounts.market_share_AK[stranger_E]
    resale_EK *= taste_EK.sum(axis=1, keepdims=True) / resale_EK.sum(axis=1, keepdims=True)
    market_EH = pick_by_row(rng, np.repeat(taste_EK + resale_EK, 3, axis=0)).reshape(-1, 3)
    merchant_EH = merchants.pick(rng, np.repeat(country_E, 3), market_EH.ravel()).reshape(-1, 3)
    start_E = rng.uniform(0, world.days, episodes)
    again_E = np.flatnonzero(rng.random(episodes) < 0.25)

    episode_E = np.concatenate([np.arange(episodes), again_E])
    start_E = np.concatenate([start_E, start_E[again_E] + rng.uniform(15, 60, len(again_E))])
    size_E = 3 + rng.poisson(5, len(episode_E))
    episode_N, start_N = np.repeat(episode_E, size_E), np.repeat(start_E, size_E)
    last_day_N = np.repeat(rng.uniform(1, 10, len(episode_E)), size_E)
    day_N = np.floor(start_N + rng.random(len(start_N)) * last_day_N).astype(np.int64)
    stranger_N = stranger_E[episode_N]
    second_N = day_N * DAY_SECONDS + seconds_of_day(rng, accounts, stranger_N)
    merchant_N = merchant_EH[episode_N, rng.integers(0, 3, len(episode_N))]
    amount_N = ordinary_amounts(rng, world, stranger_N, merchant_N)
    amount_N *= rng.uniform(1, 2.5, len(amount_N))
    return _charges(
        rng, world, TAKEOVER, victim_E[episode_N], stranger_N, second_N, merchant_N, amount_N
    )


def card_testing(rng: np.random.Generator, world: World, genuine: Events, target: int) -> Events:
    """A burst of 4 to 12 tiny online charges at one of few merchants, then one or two large ones.

    Small charges tell which stolen or guessed card details work, at merchants whose checks are
    weak; the card is spent within 36 hours (Ali et al. 2017, IEEE Security & Privacy 15(2):78;
    the networks' advice on enumeration attacks). The merchants are popular ones with honest
    customers, the large charges four to twelve times the account's typical purchase.
    """
    accounts, merchants = world.accounts, world.merchants
    episodes = max(1, round(target / 9.5))
    victim_E = _victims(rng, world, genuine, episodes)
    tested_H = pick(rng, merchants.popularity_M * TESTED_K[merchants.market_M], 6)
    size_E = rng.integers(4, 13, episodes)
    episode_N = np.repeat(np.arange(episodes), size_E)
    start_E = rng.integers(0, world.days * DAY_SECONDS, episodes)
    second_N = start_E[episode_N] + rng.integers(0, 2400, len(episode_N))
    merchant_N = tested_H[rng.integers(0, 6, episodes)][episode_N]
    amount_N = rng.uniform(0.5, 5, len(episode_N))

    episode_X = np.repeat(np.arange(episodes), rng.integers(1, 3, episodes))
    second_X = start_E[episode_X] + rng.integers(3600, 36 * 3600, len(episode_X))
    market_X = pick(rng, (RESALE_K & ONLINE_K).astype(np.float64), len(episode_X))
    merchant_X = merchants.pick(rng, accounts.home_A[victim_E[episode_X]], market_X)
    amount_X = accounts.typical_amount_A[victim_E[episode_X]] * rng.uniform(4, 12, len(episode_X))

    victim_N = victim_E[np.concatenate([episode_N, episode_X])]
    return _charges(
        rng,
        world,
        CARD_TESTING,
        victim_N,
        victim_N,
        np.concatenate([second_N, second_X]),
        np.concatenate([merchant_N, merchant_X]),
        np.concatenate([amount_N, np.maximum(60, amount_X)]),
    )


def merchant_compromise(
    rng: np.random.Generator, world: World, genuine: Events, target: int
) -> Events:
    """For 14 to 28 days a quarter of a merchant's customers are charged again, one to three times.

    The false charges come within 7 days of an honest visit, at the same merchant and with its
    usual amounts: a skimmed terminal or a colluding clerk, the point of compromise of Araujo et
    al. (2017, SIAM Data Mining, "BreachRadar") and scenario 2 of the Fraud Detection Handbook.
    """
    visits_M = np.bincount(genuine.merchant_N, minlength=len(world.merchants.market_M))
    visits_M = visits_M * (CHANNEL_K != "recurring")[world.merchants.market_M]
    parts = [genuine.take(np.arange(0))]
    while sum(map(len, parts)) < target and visits_M.any():
        merchant = pick(rng, visits_M.astype(np.float64), 1)[0]
        visits_M[merchant] = 0
        parts.append(_false_charges(rng, world, genuine, int(merchant), target))
    return Events.concatenate(parts)


def large_amount(rng: np.random.Generator, world: World, genuine: Events, target: int) -> Events:
    """One or two purchases of resale goods at 6 to 20 times the account's typical amount.

    Large for this account, and everyday for a larger one: amounts are judged against the
    holder's own (Whitrow et al. 2009, Data Mining and Knowledge Discovery 18:30), where scenario
    1 of the Fraud Detection Handbook has one limit for all.
    """
    accounts = world.accounts
    victim_E = _victims(rng, world, genuine, max(1, round(target / 1.5)))
    start_E = rng.integers(0, world.days, len(victim_E)) * DAY_SECONDS
    start_E += seconds_of_day(rng, accounts, victim_E)
    size_E = rng.integers(1, 3, len(victim_E))
    victim_N = np.repeat(victim_E, size_E)
    second_N = np.repeat(start_E, size_E) + rng.integers(0, 7200, len(victim_N))
    market_N = pick(rng, RESALE_K.astype(np.float64), len(victim_N))
    merchant_N = world.merchants.pick(rng, accounts.home_A[victim_N], market_N)
    amount_N = accounts.typical_amount_A[victim_N] * rng.uniform(6, 20, len(victim_N))
    return _charges(rng, world, LARGE_AMOUNT, victim_N, victim_N, second_N, merchant_N, amount_N)


def impossible_travel(
    rng: np.random.Generator, world: World, genuine: Events, target: int
) -> Events:
    """The card is shown in another country sooner than anybody could fly there.

    A cloned card is used one to four times after an honest payment in person, at an implied
    speed above 900 km/h (location and time since the last payment as evidence: Quah & Sriganesh
    2008, Expert Systems with Applications 35:1721; Van Vlasselaer et al. 2015, Decision Support
    Systems 75:38).
    """
    merchants = world.merchants
    in_person_X = np.flatnonzero(IN_PERSON_K[merchants.market_M[genuine.merchant_N]])
    if not len(in_person_X):
        return genuine.take(in_person_X)
    anchor_E = rng.choice(in_person_X, max(1, round(target / 2.5)))
    here_E = merchants.country_M[genuine.merchant_N[anchor_E]]
    far_EL = distances_km_LL()[here_E] > 1500
    country_E = pick_by_row(rng, far_EL * np.ones(len(COUNTRIES)))
    limit_E = distances_km_LL()[here_E, country_E] / IMPOSSIBLE_KMH * 3600
    gap_E = rng.uniform(0.1, 0.5, len(anchor_E)) * np.minimum(limit_E, 6 * 3600)
    size_E = rng.integers(1, 5, len(anchor_E))
    episode_N = np.repeat(np.arange(len(anchor_E)), size_E)
    first_N = np.diff(episode_N, prepend=-1) > 0
    later_N = np.where(first_N, 0, rng.integers(60, 3600, len(episode_N)))
    second_N = (genuine.second_N[anchor_E] + gap_E.astype(np.int64))[episode_N] + later_N
    victim_N = genuine.account_N[anchor_E][episode_N]
    taste_K = IN_PERSON_K * (1.0 + 3 * RESALE_K)
    merchant_N = merchants.pick(rng, country_E[episode_N], pick(rng, taste_K, len(episode_N)))
    amount_N = ordinary_amounts(rng, world, victim_N, merchant_N)
    amount_N *= rng.uniform(1, 3, len(amount_N))
    return _charges(
        rng, world, IMPOSSIBLE_TRAVEL, victim_N, victim_N, second_N, merchant_N, amount_N
    )


# Each kind with its share of the fraudulent transactions.
FRAUDS: tuple[tuple[Callable[[np.random.Generator, World, Events, int], Events], float], ...] = (
    (takeover, 0.40),
    (card_testing, 0.20),
    (merchant_compromise, 0.15),
    (large_amount, 0.10),
    (impossible_travel, 0.15),
)


def defraud(rng: np.random.Generator, world: World, genuine: Events, fraud_rate: float) -> Events:
    """All fraudulent transactions: about `fraud_rate` of the legitimate ones, of every kind.

    A small simulation has more: there is at least one episode of every kind.
    """
    if not len(genuine):
        return genuine
    targets = [(fraud, max(1, round(share * fraud_rate * len(genuine)))) for fraud, share in FRAUDS]
    return Events.concatenate([fraud(rng, world, genuine, target) for fraud, target in targets])


def _victims(rng: np.random.Generator, world: World, genuine: Events, count: int) -> Ints:
    """Accounts with spending, the more exposed the more they spend, but less than in proportion."""
    exposure_A = np.sqrt(np.bincount(genuine.account_N, minlength=len(world.accounts)))
    return pick(rng, exposure_A, count)


def _false_charges(
    rng: np.random.Generator, world: World, genuine: Events, merchant: int, limit: int
) -> Events:
    length = rng.uniform(14, 28) * DAY_SECONDS
    opens = rng.uniform(0, max(1.0, world.days * DAY_SECONDS - length))
    since_N = genuine.second_N - opens
    visit_X = np.flatnonzero((genuine.merchant_N == merchant) & (since_N >= 0) & (since_N < length))
    customer_X, first_X = np.unique(genuine.account_N[visit_X], return_index=True)
    hit_X = np.flatnonzero(rng.random(len(customer_X)) < 0.25)[: max(1, limit)]
    size_X = rng.integers(1, 4, len(hit_X))
    victim_N = np.repeat(customer_X[hit_X], size_X)
    visit_N = np.repeat(visit_X[first_X[hit_X]], size_X)
    second_N = genuine.second_N[visit_N] + rng.integers(3600, 7 * DAY_SECONDS, len(victim_N))
    merchant_N = np.full(len(victim_N), merchant)
    amount_N = ordinary_amounts(rng, world, victim_N, merchant_N)
    return _charges(
        rng, world, MERCHANT_COMPROMISE, victim_N, victim_N, second_N, merchant_N, amount_N
    )


def _charges(
    rng: np.random.Generator,
    world: World,
    kind: int,
    victim_N: Ints,
    payer_N: Ints,
    second_N: Ints,
    merchant_N: Ints,
    amount_N: Floats,
) -> Events:
    charges = Events(
        account_N=victim_N,
        second_N=second_N,
        merchant_N=merchant_N,
        amount_N=amount_N,
        distance_km_N=distances_from_home(rng, world, victim_N, payer_N, merchant_N),
        device_age_days_N=_thief_device_age(rng, world, victim_N, second_N, merchant_N),
        kind_N=np.full(len(victim_N), kind),
    )
    return charges.take(second_N < world.days * DAY_SECONDS)


def _thief_device_age(
    rng: np.random.Generator, world: World, victim_N: Ints, second_N: Ints, merchant_N: Ints
) -> Floats:
    """The holder's own device (malware, remote access), one with a history, or a new one."""
    own_N = own_device_age(rng, world, victim_N, second_N, merchant_N)
    aged_N = rng.exponential(400, len(victim_N))
    new_N = rng.exponential(2, len(victim_N))
    way_N = rng.random(len(victim_N))
    age_N = np.select([way_N < 0.3, way_N < 0.55], [own_N, aged_N], new_N)
    return np.where(np.isnan(own_N), np.nan, age_N)
