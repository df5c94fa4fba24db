"""Frauds by programs, many at once: card testing, bursts, enumeration, farms of accounts.

Their signs are counts over minutes and what the accounts share (Jurgovsky et al. 2018, Expert
Systems with Applications 100:234, on sequences; Cao et al. 2014, CCS, "Uncovering large groups of
active malicious accounts", on accounts that act together from few addresses).

Axes: N transactions, E episodes, H merchants a thief uses, K markets, X those chosen.
"""

import numpy as np

from app.simulator.countries import Floats, Ints
from app.simulator.entities import shared_codes, thieves_codes
from app.simulator.events import DAY_SECONDS, Events, World, charges, log_uniform, ordinary_amounts
from app.simulator.frauds.thieves import (
    ACCOUNT_FARM,
    BURST,
    CARD_TESTING,
    ENUMERATION,
    RESALE_K,
    TESTED_K,
    opened_accounts,
    opened_limit,
    sizes,
    thieves_entities,
    victims,
)
from app.simulator.merchants import ONLINE_K, pick, pick_by_row

# Fewer honest transactions have no attack by many new accounts, which would outnumber them.
LEAST_FOR_MANY_ACCOUNTS = 1000


def card_testing(rng: np.random.Generator, world: World, genuine: Events, target: int) -> Events:
    """A burst of tiny online charges at one of few merchants, then one or two large ones.

    By hand 4 to 12 within 40 minutes, by a script 12 to 60 within two; half of the scripts try
    another card each time, and some charge nothing, which is a check of the card.

    Small charges show which stolen or guessed card details work, at merchants whose checks are
    weak; the card is spent within 36 hours (Ali et al. 2017, IEEE Security & Privacy 15(2):78;
    the networks' advice on enumeration attacks). The merchants are popular ones with honest
    customers, the large charges four to twelve times the account's typical purchase.
    """
    accounts, merchants = world.accounts, world.merchants
    by_hand = max(1, round(0.5 * target / 9.5))
    size_E = np.concatenate([rng.integers(4, 13, by_hand), sizes(rng, round(0.5 * target), 12, 60)])
    if target < 30:
        size_E = size_E[:by_hand]
    episodes = len(size_E)
    victim_E = victims(rng, world, genuine, episodes)
    tested_H = pick(rng, merchants.popularity_M * TESTED_K[merchants.market_M], 6)
    is_script_E = np.arange(episodes) >= by_hand
    length_E = np.where(is_script_E, rng.uniform(15, 120, episodes), 2400)
    episode_N = np.repeat(np.arange(episodes), size_E)
    start_E = rng.integers(0, world.days * DAY_SECONDS, episodes)
    second_N = start_E[episode_N] + (rng.random(len(episode_N)) * length_E[episode_N]).astype(
        np.int64
    )
    merchant_N = tested_H[rng.integers(0, 6, episodes)][episode_N]
    amount_N = tiny_amounts(rng, episode_N)
    victim_N = victim_E[episode_N]
    entities = thieves_entities(rng, world, victim_N, second_N, episode_N, on_own_device=0.15)
    many_E = is_script_E & (rng.random(episodes) < 0.5)
    cards_N = np.where(many_E[episode_N], thieves_codes(rng, len(episode_N)), entities.card_N)
    entities = entities._replace(card_N=cards_N)
    tests = charges(
        rng, world, victim_N, second_N, merchant_N, amount_N, CARD_TESTING, None, entities, 0.5
    )

    episode_X = np.repeat(np.arange(episodes), rng.integers(1, 3, episodes))
    second_X = start_E[episode_X] + rng.integers(3600, 36 * 3600, len(episode_X))
    victim_X = victim_E[episode_X]
    market_X = pick(rng, (RESALE_K & ONLINE_K).astype(np.float64), len(episode_X))
    merchant_X = merchants.pick(rng, accounts.home_A[victim_X], market_X)
    amount_X = accounts.typical_amount_A[victim_X] * rng.uniform(4, 12, len(episode_X))
    entities = thieves_entities(rng, world, victim_X, second_X, episode_X)
    spent = charges(
        rng,
        world,
        victim_X,
        second_X,
        merchant_X,
        np.maximum(60, amount_X),
        CARD_TESTING,
        entities=entities,
        declined=0.4,
    )
    return Events.concatenate([tests, spent])


def burst(rng: np.random.Generator, world: World, genuine: Events, target: int) -> Events:
    """A bot pays 20 to 150 times within minutes to an hour, with ordinary amounts.

    At one to five online merchants of any kind, half of the time the holder's own ones, half of the
    time from the holder's device (malware). The amounts are of one article, or as the holder's. Of
    a quarter nothing is declined: the card is good, and nobody counts how often it is used.
    """
    accounts, merchants = world.accounts, world.merchants
    size_E = sizes(rng, target, 20, 150)
    episodes = len(size_E)
    victim_E = victims(rng, world, genuine, episodes)
    episode_N = np.repeat(np.arange(episodes), size_E)
    begin_E = rng.integers(0, world.days * DAY_SECONDS, episodes)
    length_E = log_uniform(rng, 120, 3600, episodes)
    second_N = begin_E[episode_N] + (rng.random(len(episode_N)) * length_E[episode_N]).astype(
        np.int64
    )
    taste_EK = accounts.market_share_AK[victim_E] * ONLINE_K
    market_EH = pick_by_row(rng, np.repeat(taste_EK, 5, axis=0))
    merchant_EH = merchants.pick(rng, np.repeat(accounts.home_A[victim_E], 5), market_EH)
    merchant_EH = merchant_EH.reshape(-1, 5)
    favourite_EF = accounts.favourite_A2F[victim_E, 0]
    usual_EF = ONLINE_K[merchants.market_M[favourite_EF]]
    usual_E = favourite_EF[np.arange(episodes), usual_EF.argmax(axis=1)]
    keeps_E = usual_EF.any(axis=1) & (rng.random(episodes) < 0.5)
    merchant_EH[keeps_E, 0] = usual_E[keeps_E]
    shops_E = np.where(keeps_E, 1, rng.integers(1, 6, episodes))
    shop_N = (rng.random(len(episode_N)) * shops_E[episode_N]).astype(np.int64)
    merchant_N = merchant_EH[episode_N, shop_N]
    victim_N = victim_E[episode_N]
    amount_N = ordinary_amounts(rng, world, victim_N, merchant_N)
    article_E = np.exp(rng.normal(np.log(25), 0.8, episodes))
    one_article_E = rng.random(episodes) < 0.5
    amount_N = np.where(one_article_E[episode_N], article_E[episode_N], amount_N)
    entities = thieves_entities(rng, world, victim_N, second_N, episode_N, on_own_device=0.5)
    declined_E = rng.uniform(0.1, 0.8, episodes) * (rng.random(episodes) < 0.75)
    return charges(
        rng,
        world,
        victim_N,
        second_N,
        merchant_N,
        amount_N,
        BURST,
        entities=entities,
        declined=declined_E[episode_N],
    )


def enumeration(rng: np.random.Generator, world: World, genuine: Events, target: int) -> Events:
    """Numbers of cards are guessed: 30 to 200 new accounts with one or two tiny charges each.

    From one device or one address or both, at one merchant, within 2 to 15 minutes, each account
    with a card of its own (Ali et al. 2017, IEEE Security & Privacy 15(2):78). Most are declined.
    """
    accounts, merchants = world.accounts, world.merchants
    if len(genuine) < LEAST_FOR_MANY_ACCOUNTS:
        return genuine.take(np.arange(0))
    size_E = sizes(rng, round(target / 1.3), 30, 200, opened_limit(accounts))
    account_A, episode_A = opened_accounts(rng, accounts, size_E, 0)
    episodes = len(size_E)
    times_A = 1 + (rng.random(len(account_A)) < 0.3)
    account_N, episode_N = np.repeat(account_A, times_A), np.repeat(episode_A, times_A)
    begin_E = rng.integers(0, world.days * DAY_SECONDS, episodes)
    length_E = rng.uniform(120, 900, episodes)
    second_N = begin_E[episode_N] + (rng.random(len(episode_N)) * length_E[episode_N]).astype(
        np.int64
    )
    home_E = accounts.home_A[account_A[np.searchsorted(episode_A, np.arange(episodes))]]
    market_E = pick(rng, TESTED_K.astype(np.float64), episodes)
    merchant_N = merchants.pick(rng, home_E, market_E)[episode_N]
    way_E = rng.random(episodes)
    entities = thieves_entities(rng, world, account_N, second_N, account_N - account_A[0], 1, 0)
    one_device_N, one_address_N = (way_E < 0.75)[episode_N], (way_E > 0.15)[episode_N]
    entities = entities._replace(
        device_N=np.where(one_device_N, thieves_codes(rng, episodes)[episode_N], entities.device_N),
        address_N=np.where(
            one_address_N, thieves_codes(rng, episodes)[episode_N], entities.address_N
        ),
    )
    amount_N = tiny_amounts(rng, episode_N)
    return charges(
        rng, world, account_N, second_N, merchant_N, amount_N, ENUMERATION, None, entities, 0.65
    )


def account_farm(rng: np.random.Generator, world: World, genuine: Events, target: int) -> Events:
    """15 to 80 new accounts on few devices and addresses warm up, then cash out on one day.

    Each buys up to three small things within 1 to 20 days, and then resale goods once or twice
    (stolen cards, promotions, credit); their payments look like those of new customers.
    """
    accounts, merchants = world.accounts, world.merchants
    if len(genuine) < LEAST_FOR_MANY_ACCOUNTS:
        return genuine.take(np.arange(0))
    size_E = sizes(rng, round(target / 3), 15, 80, opened_limit(accounts))
    account_A, episode_A = opened_accounts(rng, accounts, size_E, 1)
    begin_E = rng.uniform(0, world.days, len(size_E))
    length_E = rng.uniform(1, 20, len(size_E))
    warm_A, cash_A = rng.integers(0, 4, len(account_A)), rng.integers(1, 3, len(account_A))
    row_N = np.concatenate(
        [np.repeat(np.arange(len(account_A)), count) for count in (warm_A, cash_A)]
    )
    is_cash_N = np.arange(len(row_N)) >= warm_A.sum()
    account_N, episode_N = account_A[row_N], episode_A[row_N]
    day_N = begin_E[episode_N] + length_E[episode_N] * np.where(
        is_cash_N, 1, rng.random(len(row_N)) * 0.95
    )
    day_N = day_N + np.where(is_cash_N, rng.uniform(0, 0.3, len(row_N)), 0)
    second_N = (day_N * DAY_SECONDS).astype(np.int64)
    taste_NK = np.where(is_cash_N[:, None], RESALE_K & ONLINE_K, ONLINE_K)
    market_N = pick_by_row(rng, taste_NK.astype(np.float64))
    merchant_N = merchants.pick(rng, accounts.home_A[account_N], market_N)
    amount_N = ordinary_amounts(rng, world, account_N, merchant_N)
    dear_N = amount_N * rng.uniform(1, 5, len(row_N))
    amount_N = np.where(is_cash_N, dear_N, np.minimum(amount_N, 40))
    entities = thieves_entities(rng, world, account_N, second_N, row_N, 1, 0)
    devices_A = shared_codes_within(rng, episode_A, 15)
    entities = entities._replace(
        device_N=devices_A[row_N], address_N=shared_codes_within(rng, episode_A, 25)[row_N]
    )
    return charges(
        rng,
        world,
        account_N,
        second_N,
        merchant_N,
        amount_N,
        ACCOUNT_FARM,
        entities=entities,
        declined=np.where(is_cash_N, 0.35, 0.05),
    )


def tiny_amounts(rng: np.random.Generator, episode_N: Ints) -> Floats:
    """0.50 to 5, of some episodes one amount, of some nothing at all."""
    episodes = int(episode_N.max(initial=-1)) + 1
    way_E = rng.random(episodes)
    fixed_E = np.where(way_E < 0.15, 0.0, rng.choice([0.5, 1.0, 1.0, 2.0, 5.0], episodes))
    varied_N = rng.uniform(0.5, 5, len(episode_N))
    return np.where((way_E < 0.45)[episode_N], fixed_E[episode_N], varied_N)


def shared_codes_within(rng: np.random.Generator, episode_A: Ints, users: int) -> Ints:
    """A code for each account, which about `users` accounts of the same episode share."""
    code_A = shared_codes(rng, len(episode_A), users)
    return code_A + episode_A
