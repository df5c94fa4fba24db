"""Frauds on the accounts of holders: takeover, compromised merchants, large amounts, cloned cards.

Axes: N transactions, E episodes, H merchants a thief uses, K markets, X those chosen.
"""

import numpy as np

from app.simulator.accounts import PERSONAS
from app.simulator.countries import COUNTRIES, distances_km_LL
from app.simulator.events import (
    DAY_SECONDS,
    Events,
    World,
    charges,
    log_uniform,
    ordinary_amounts,
    seconds_of_day,
)
from app.simulator.frauds.thieves import (
    IMPOSSIBLE_TRAVEL,
    LARGE_AMOUNT,
    MERCHANT_COMPROMISE,
    RESALE_K,
    TAKEOVER,
    sizes,
    thieves_entities,
    victims,
)
from app.simulator.merchants import CHANNEL_K, IN_PERSON_K, ONLINE_K, pick, pick_by_row

# Faster than any airliner between two payments in person.
IMPOSSIBLE_KMH = 900
# Of the rows of takeovers, those of an hour in which a thief tries again and again.
HURRIED_SHARE = 0.2
# And those of thieves who take a few dear things at once.
SHORT_SHARE = 0.3
SHORT = (1, 8)
DEAR = (5, 40)
ON_TRAVELLERS = 0.2
TRAVELLER = [persona.name for persona in PERSONAS].index("traveller")


def takeover(rng: np.random.Generator, world: World, genuine: Events, target: int) -> Events:
    """Somebody else spends from the account, for days or in one hurried hour.

    A thief in a hurry tries tens of payments within the hour until the account is closed, and most
    are declined. Another takes a few dear things that resell, and is gone.
    """
    hurried, short = round(HURRIED_SHARE * target), round(SHORT_SHARE * target)
    parts = [
        _slow_takeover(rng, world, genuine, max(1, target - hurried - short)),
        _short_takeover(rng, world, genuine, short),
    ]
    if hurried >= 15:
        parts.append(_hurried_takeover(rng, world, genuine, hurried))
    return Events.concatenate(parts)


def merchant_compromise(
    rng: np.random.Generator, world: World, genuine: Events, target: int
) -> Events:
    """For 14 to 28 days a quarter of a merchant's customers are charged again, one to three times.

    The false charges come within 7 days of an honest visit, at the same merchant and with its
    usual amounts: a skimmed terminal or a colluding clerk, the point of compromise of Araujo et
    al. (2017, SIAM Data Mining, "BreachRadar") and scenario 2 of the Fraud Detection Handbook.
    The largest merchants are spared, of which one alone would be all of this kind.
    """
    visits_M = np.bincount(genuine.merchant_N, minlength=len(world.merchants.market_M))
    visits_M = visits_M * (CHANNEL_K != "recurring")[world.merchants.market_M]
    visits_M[visits_M > max(200, 0.01 * len(genuine))] = 0
    parts = [genuine.take(np.arange(0))]
    while sum(map(len, parts)) < target and visits_M.any():
        merchant = pick(rng, visits_M.astype(np.float64), 1)[0]
        visits_M[merchant] = 0
        parts.append(_false_charges(rng, world, genuine, int(merchant), target))
    return Events.concatenate(parts)


def large_amount(rng: np.random.Generator, world: World, genuine: Events, target: int) -> Events:
    """One or two purchases far above the account's typical amount, up to 50,000 times.

    Three in five are 6 to 20 times it: large for this account, and everyday for a larger one, as
    amounts are judged against the holder's own (Whitrow et al. 2009, Data Mining and Knowledge
    Discovery 18:30), where scenario 1 of the Fraud Detection Handbook has one limit for all. The
    others have a tail, log-uniform, as whoever empties an account or talks its holder into paying
    does not stop at what is usual; most of those are declined. Half are goods that resell, the
    others ordinary online or in person, and half are paid with the holder's own device.
    """
    accounts = world.accounts
    victim_E = victims(rng, world, genuine, max(1, round(target / 1.5)))
    start_E = rng.integers(0, world.days, len(victim_E)) * DAY_SECONDS
    start_E += seconds_of_day(rng, accounts, victim_E)
    episode_N = np.repeat(np.arange(len(victim_E)), rng.integers(1, 3, len(victim_E)))
    victim_N = victim_E[episode_N]
    second_N = start_E[episode_N] + rng.integers(0, 7200, len(victim_N))
    resold_N = rng.random(len(victim_N)) < 0.5
    usual_K = np.isin(CHANNEL_K, ("card_present", "online"))
    ordinary_NK = accounts.market_share_AK[victim_N] * usual_K
    market_N = np.where(
        resold_N,
        pick(rng, RESALE_K.astype(np.float64), len(victim_N)),
        pick_by_row(rng, ordinary_NK),
    )
    merchant_N = world.merchants.pick(rng, accounts.home_A[victim_N], market_N)
    way_N = rng.random(len(victim_N))
    times_N = np.select(
        [way_N < 0.6, way_N < 0.85],
        [rng.uniform(6, 20, len(victim_N)), log_uniform(rng, 20, 500, len(victim_N))],
        log_uniform(rng, 500, 50_000, len(victim_N)),
    )
    return charges(
        rng,
        world,
        victim_N,
        second_N,
        merchant_N,
        accounts.typical_amount_A[victim_N] * times_N,
        LARGE_AMOUNT,
        entities=thieves_entities(rng, world, victim_N, second_N, episode_N, on_own_device=0.5),
        declined=np.where(times_N > 50, 0.7, 0.3),
    )


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
    return charges(
        rng, world, victim_N, second_N, merchant_N, amount_N, IMPOSSIBLE_TRAVEL, declined=0.35
    )


def _slow_takeover(rng: np.random.Generator, world: World, genuine: Events, target: int) -> Events:
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
    victim_E = victims(rng, world, genuine, episodes)
    stranger_E = rng.integers(0, accounts.holders, episodes)
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
    emptied_N = rng.random(len(amount_N)) < 0.05
    amount_N[emptied_N] *= log_uniform(rng, 10, 3000, int(emptied_N.sum()))
    entities = thieves_entities(rng, world, victim_E[episode_N], second_N, episode_N)
    return charges(
        rng,
        world,
        victim_E[episode_N],
        second_N,
        merchant_N,
        amount_N,
        TAKEOVER,
        stranger_N,
        entities,
        0.25,
    )


def _short_takeover(rng: np.random.Generator, world: World, genuine: Events, target: int) -> Events:
    """One to eight payments within three hours, each 5 to 40 times what is usual.

    For goods that resell, at one or two shops, half of them abroad, at any hour: whoever has bought
    the access to an account uses it once and soon (Onaolapo et al. 2016, IMC, "What happens after
    you are pwnd"). A fifth are on accounts that travel, where a foreign shop says little.
    """
    accounts = world.accounts
    size_E = sizes(rng, target, *SHORT)
    victim_E = victims(rng, world, genuine, len(size_E))
    traveller_X = np.flatnonzero(accounts.persona_A[: accounts.holders] == TRAVELLER)
    on_traveller_E = (rng.random(len(size_E)) < ON_TRAVELLERS) & (len(traveller_X) > 0)
    victim_E[on_traveller_E] = rng.choice(traveller_X, int(on_traveller_E.sum()))
    stranger_E = rng.integers(0, accounts.holders, len(size_E))
    home_E = accounts.home_A[np.where(rng.random(len(size_E)) < 0.5, victim_E, stranger_E)]
    market_EH = pick(rng, (RESALE_K & ONLINE_K).astype(np.float64), 2 * len(size_E))
    merchant_EH = world.merchants.pick(rng, np.repeat(home_E, 2), market_EH).reshape(-1, 2)
    episode_N = np.repeat(np.arange(len(size_E)), size_E)
    begin_E = rng.integers(0, world.days * DAY_SECONDS, len(size_E))
    second_N = begin_E[episode_N] + rng.integers(0, 3 * 3600, len(episode_N))
    merchant_N = merchant_EH[episode_N, rng.integers(0, 2, len(episode_N))]
    victim_N = victim_E[episode_N]
    amount_N = accounts.typical_amount_A[victim_N] * log_uniform(rng, *DEAR, len(victim_N))
    entities = thieves_entities(rng, world, victim_N, second_N, episode_N, on_own_device=0.2)
    return charges(
        rng, world, victim_N, second_N, merchant_N, amount_N, TAKEOVER, None, entities, 0.35
    )


def _hurried_takeover(
    rng: np.random.Generator, world: World, genuine: Events, target: int
) -> Events:
    size_E = sizes(rng, target, 15, 60)
    victim_E = victims(rng, world, genuine, len(size_E))
    stranger_E = rng.integers(0, world.accounts.holders, len(size_E))
    episode_N = np.repeat(np.arange(len(size_E)), size_E)
    begin_E = rng.integers(0, world.days * DAY_SECONDS, len(size_E))
    second_N = begin_E[episode_N] + rng.integers(0, 3600, len(episode_N))
    market_EH = pick(rng, (RESALE_K & ONLINE_K).astype(np.float64), 2 * len(size_E))
    at_home_E = rng.random(len(size_E)) < 0.4
    home_E = world.accounts.home_A[np.where(at_home_E, victim_E, stranger_E)]
    merchant_EH = world.merchants.pick(rng, np.repeat(home_E, 2), market_EH).reshape(-1, 2)
    merchant_N = merchant_EH[episode_N, rng.integers(0, 2, len(episode_N))]
    victim_N = victim_E[episode_N]
    amount_N = ordinary_amounts(rng, world, stranger_E[episode_N], merchant_N)
    amount_N *= rng.uniform(1, 4, len(size_E))[episode_N]
    entities = thieves_entities(rng, world, victim_N, second_N, episode_N, on_own_device=0.2)
    return charges(
        rng, world, victim_N, second_N, merchant_N, amount_N, TAKEOVER, None, entities, 0.85
    )


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
    episode_N = np.repeat(np.arange(len(hit_X)), size_X)
    entities = thieves_entities(rng, world, victim_N, second_N, episode_N, users=6)
    return charges(
        rng,
        world,
        victim_N,
        second_N,
        merchant_N,
        amount_N,
        MERCHANT_COMPROMISE,
        entities=entities,
        declined=0.1,
    )
