"""Honest occasions that look like an attack: sales, sprees, payrolls, nights at hotels, projects.

- A sale brings hundreds of customers to one shop within the hour, some of whom buy again and
  again; what people do comes in bursts by nature (Barabasi 2005, Nature 435:207).
- On one day of a month all shops have sales, and many holders go round those where they always
  buy.
- A business pays its people within minutes on the same day of each month, which few holders do.
  Firms are of all sizes, most of them small (Axtell 2001, Science 293:1818).
- A traveller's hotel takes its charge in the evening, each night or once for all.
- A holder takes something up, a hobby, a renovation, a wedding, and pays for weeks what the account
  never paid before: large sums at the same new shops (events of life change what is bought: Mehta
  & Belk 1991, Journal of Consumer Research 17:398; Andreasen 1984, 11:784).

How many and how large are choices.

Axes: N transactions, S sales, A accounts, T trips, P payers, M months, R recipients.
"""

import numpy as np

from app.simulator.accounts import FAVOURITES, PERSONAS, Accounts
from app.simulator.countries import COUNTRIES, Floats, Ints, distances_km_LL
from app.simulator.events import (
    DAY_SECONDS,
    MEDIAN_K,
    Events,
    World,
    charges,
    log_uniform,
    ordinary_amounts,
)
from app.simulator.merchants import (
    CATEGORY_K,
    CHANNEL_K,
    ONLINE_K,
    PAYEES,
    TRANSFER,
    pick,
    pick_by_row,
)

FLIGHT_KMH = 700
AIRPORT_HOURS = 3
HOTEL = int(np.flatnonzero(CATEGORY_K == "hotel")[0])
ON_SALE_K = ONLINE_K & np.isin(CATEGORY_K, ("marketplace", "fashion", "electronics", "gaming"))
BUSINESS = [persona.name for persona in PERSONAS].index("business")
PAYER_SHARE = 0.2
# Of those who are no business: who pays people for a household, a club or a shop of one's own.
PRIVATE_PAYER_SHARE = 0.005
PAID = (4, 151)
# What firms pay a month, in euros, whatever else they buy.
WAGES = (250, 3500)
# How many purchases somebody makes who buys again and again within the hour: few have most.
SPREE = (5, 31)
# So many of the sprees stay at the shop where they begin, and go round the holder's usual shops.
STAYS_SHARE, USUAL_SHARE = 0.25, 0.5
# Days of a month on which all shops have sales, and the share of holders who then buy and buy.
SALE_DAYS, SALE_BUYERS = 1, 0.05
EVENING_HOURS = (17, 22)


def occasions(
    rng: np.random.Generator, world: World, account_N: Ints, second_N: Ints, merchant_N: Ints
) -> list[Events]:
    """What comes to the purchases of `account_N` at `second_N` and `merchant_N`."""
    return [
        _sales(rng, world),
        sprees(rng, world, account_N, second_N, merchant_N),
        sale_days(rng, world),
        payrolls(rng, world),
        _nights(rng, world),
        _projects(rng, world, account_N, second_N),
    ]


def flights_days(accounts: Accounts) -> Floats:
    """How long each trip's flight takes, one way, A by T."""
    distance_AT = distances_km_LL()[accounts.home_A[:, None], accounts.trip_country_AT]
    return np.asarray((AIRPORT_HOURS + distance_AT / FLIGHT_KMH) / 24)


def _sales(rng: np.random.Generator, world: World) -> Events:
    """Now and then an online shop sells out: about one sale a month for each 500 accounts."""
    accounts, merchants = world.accounts, world.merchants
    count = max(1, round(accounts.holders / 500 * world.days / 30))
    customers_M = np.array([country.share for country in COUNTRIES])[merchants.country_M]
    weight_M = ON_SALE_K[merchants.market_M] * merchants.popularity_M.clip(max=1) * customers_M
    merchant_S = pick(rng, weight_M, count)
    begin_S = rng.integers(0, world.days, count) * DAY_SECONDS + rng.integers(0, DAY_SECONDS, count)
    parts = []
    for merchant, begin in zip(merchant_S, begin_S, strict=True):
        comes_A = rng.random(accounts.holders) < 0.002
        comes_A |= (accounts.home_A[: accounts.holders] == merchants.country_M[merchant]) & (
            rng.random(accounts.holders) < 0.12
        )
        active_A = accounts.daily_rate_A[: accounts.holders] > 0.05
        active_A &= accounts.opens_on_A[: accounts.holders] < begin / DAY_SECONDS
        comer_X = np.flatnonzero(comes_A & active_A)
        size_X = np.where(
            rng.random(len(comer_X)) < 0.06,
            log_uniform(rng, *SPREE, len(comer_X)).astype(np.int64),
            1 + rng.poisson(0.3, len(comer_X)),
        )
        account_N = np.repeat(comer_X, size_X)
        parts.append((account_N, np.full(len(account_N), merchant), np.full(len(account_N), begin)))
    account_N, merchant_N, begin_N = (np.concatenate(part) for part in zip(*parts, strict=True))
    second_N = begin_N + (3600 * rng.beta(1, 2.5, len(account_N))).astype(np.int64)
    amount_N = ordinary_amounts(rng, world, account_N, merchant_N)
    amount_N *= rng.uniform(0.4, 1, len(amount_N))
    return charges(rng, world, account_N, second_N, merchant_N, amount_N)


def sprees(
    rng: np.random.Generator, world: World, account_N: Ints, second_N: Ints, merchant_N: Ints
) -> Events:
    """Five to thirty purchases within an hour, at online shops.

    One purchase in 1,200 begins a spree. A quarter stays at the shop where it begins, where that
    is online; half go round the shops where the holder always buys, the others one to three.
    """
    accounts, merchants = world.accounts, world.merchants
    begin_X = np.flatnonzero(rng.random(len(account_N)) < 1 / 1200)
    size_X = log_uniform(rng, *SPREE, len(begin_X)).astype(np.int64)
    spree_N = np.repeat(np.arange(len(begin_X)), size_X)
    buyer_N = account_N[begin_X][spree_N]
    market_X3 = pick(rng, ON_SALE_K.astype(np.float64), 3 * len(begin_X))
    home_X3 = np.repeat(accounts.home_A[account_N[begin_X]], 3)
    shop_X3 = merchants.pick(rng, home_X3, market_X3).reshape(-1, 3)
    first_X = merchant_N[begin_X]
    way_X = rng.random(len(begin_X))
    stays_X = ONLINE_K[merchants.market_M[first_X]] & (way_X < STAYS_SHARE)
    shop_X3[stays_X, 0] = first_X[stays_X]
    shops_X = np.where(stays_X, 1, rng.integers(1, 4, len(begin_X)))
    shop_N = shop_X3[spree_N, (rng.random(len(spree_N)) * shops_X[spree_N]).astype(np.int64)]
    usual_N = _usual_shops(rng, world, buyer_N)
    is_usual_N = (way_X > 1 - USUAL_SHARE)[spree_N] & (usual_N >= 0)
    shop_N = np.where(is_usual_N, usual_N, shop_N)
    when_N = second_N[begin_X][spree_N] + rng.integers(60, 3600, len(spree_N))
    amount_N = ordinary_amounts(rng, world, buyer_N, shop_N)
    return charges(rng, world, buyer_N, when_N, shop_N, amount_N)


def sale_days(rng: np.random.Generator, world: World) -> Events:
    """On one day of a month one holder in twenty buys five to thirty times within the hour.

    At the online shops where they always buy; all of a country begin within half an hour.
    """
    accounts = world.accounts
    days = rng.permutation(world.days)[: max(1, round(SALE_DAYS * world.days / 30))]
    active_A = accounts.daily_rate_A[: accounts.holders] > 0.05
    comes_DA = rng.random((len(days), accounts.holders)) < SALE_BUYERS
    comes_DA &= active_A & (accounts.opens_on_A[: accounts.holders] < days[:, None])
    day_X, buyer_X = np.nonzero(comes_DA)
    size_X = log_uniform(rng, *SPREE, len(buyer_X)).astype(np.int64)
    # For all of a country it begins at the same moment.
    later_DL = rng.integers(0, DAY_SECONDS, (len(days), len(COUNTRIES)))
    begin_DL = days[:, None] * DAY_SECONDS + later_DL
    begin_X = begin_DL[day_X, accounts.home_A[buyer_X]] + rng.integers(0, 1800, len(buyer_X))
    account_N = np.repeat(buyer_X, size_X)
    second_N = np.repeat(begin_X, size_X) + rng.integers(0, 3600, len(account_N))
    shop_N = _usual_shops(rng, world, account_N)
    account_N, second_N, shop_N = (part[shop_N >= 0] for part in (account_N, second_N, shop_N))
    amount_N = ordinary_amounts(rng, world, account_N, shop_N)
    amount_N *= rng.uniform(0.4, 1, len(amount_N))
    return charges(rng, world, account_N, second_N, shop_N, amount_N)


def _usual_shops(rng: np.random.Generator, world: World, account_N: Ints) -> Ints:
    """For each row a shop on the internet where its account always buys, -1 where there is none."""
    accounts, market_M = world.accounts, world.merchants.market_M
    online_AF = ONLINE_K[market_M[accounts.favourite_A2F[:, 0]]]
    online_AF &= market_M[accounts.favourite_A2F[:, 0]] != TRANSFER
    weight_F = 1 / np.arange(1.0, FAVOURITES + 1)
    rank_N = pick_by_row(rng, (online_AF * weight_F)[account_N])
    shop_N = accounts.favourite_A2F[account_N, 0, np.minimum(rank_N, FAVOURITES - 1)]
    return np.where(online_AF.any(axis=1)[account_N], shop_N, -1)


def payrolls(rng: np.random.Generator, world: World) -> Events:
    """A fifth of the businesses, and some others, pay 4 to 150 people within minutes each month.

    Half of them begin within the file.
    """
    accounts, merchants = world.accounts, world.merchants
    is_business_A = accounts.persona_A[: accounts.holders] == BUSINESS
    share_A = np.where(is_business_A, PAYER_SHARE, PRIVATE_PAYER_SHARE)
    payer_P = np.flatnonzero(rng.random(accounts.holders) < share_A)
    size_P = log_uniform(rng, *PAID, len(payer_P)).astype(np.int64)
    payee_L = np.searchsorted(
        merchants.country_M * len(CATEGORY_K) + merchants.market_M,
        np.arange(len(COUNTRIES)) * len(CATEGORY_K) + TRANSFER,
    )
    shift_P = (rng.random(len(payer_P)) * (PAYEES - size_P)).astype(np.int64)
    pay_P = log_uniform(rng, *WAGES, len(payer_P))
    months = np.arange(1 + world.days // 30)
    hour_PM = rng.uniform(6, 17, len(payer_P))[:, None] + rng.normal(0, 0.3, (1, len(months)))
    begin_PM = (accounts.payday_A[payer_P][:, None] - 1 + 30 * months) * DAY_SECONDS
    begin_PM = begin_PM + (hour_PM * 3600).astype(np.int64)
    length_P = rng.integers(120, 900, len(payer_P))

    recipient_R = np.repeat(np.arange(len(payer_P)), size_P)
    rank_R = np.arange(len(recipient_R)) - np.repeat(np.cumsum(size_P) - size_P, size_P)
    merchant_R = (payee_L[accounts.home_A[payer_P]] + shift_P)[recipient_R] + rank_R
    amount_R = pay_P[recipient_R] * rng.lognormal(0, 0.35, len(recipient_R))
    row_N, month_N = (part.ravel() for part in np.indices((len(recipient_R), len(months))))
    payer_N = recipient_R[row_N]
    second_N = begin_PM[payer_N, month_N] + rng.integers(0, length_P[payer_N])
    # Half have always done so; the others begin within the file.
    begins_P = world.days * rng.uniform(-1, 1, len(payer_P))
    begins_P = np.maximum(begins_P, accounts.opens_on_A[payer_P])
    open_N = second_N >= begins_P[payer_N] * DAY_SECONDS
    row_N, payer_N, second_N = row_N[open_N], payer_N[open_N], second_N[open_N]
    return charges(
        rng, world, payer_P[payer_N], second_N, merchant_R[row_N], np.round(amount_R[row_N], 2)
    )


def _projects(rng: np.random.Generator, world: World, account_N: Ints, second_N: Ints) -> Events:
    """Three to twelve purchases of one kind within six weeks, at one to three new shops.

    Each 4 to 40 times what is usual. One purchase in 2,500 begins a project.
    """
    accounts, merchants = world.accounts, world.merchants
    begin_X = np.flatnonzero(rng.random(len(account_N)) < 1 / 2500)
    project_N = np.repeat(np.arange(len(begin_X)), rng.integers(3, 13, len(begin_X)))
    holder_X = account_N[begin_X]
    goods_K = np.isin(CHANNEL_K, ("card_present", "online"))
    market_X3 = np.repeat(pick(rng, goods_K.astype(np.float64), len(begin_X)), 3)
    shop_X3 = merchants.pick(rng, np.repeat(accounts.home_A[holder_X], 3), market_X3).reshape(-1, 3)
    shops_X = rng.integers(1, 4, len(begin_X))
    merchant_N = shop_X3[
        project_N, (rng.random(len(project_N)) * shops_X[project_N]).astype(np.int64)
    ]
    length_X = rng.uniform(2, 42, len(begin_X)) * DAY_SECONDS
    when_N = second_N[begin_X][project_N]
    when_N = when_N + (rng.random(len(project_N)) * length_X[project_N]).astype(np.int64)
    # Nobody is at a shop at home while travelling, or in the air.
    day_N1 = when_N[:, None] / DAY_SECONDS
    holder_N = holder_X[project_N]
    away_N = (
        (day_N1 > accounts.trip_start_AT[holder_N] - 2)
        & (day_N1 < accounts.trip_end_AT[holder_N] + 2)
    ).any(axis=1)
    comes_N = ONLINE_K[merchants.market_M[merchant_N]] | ~away_N
    project_N, merchant_N, when_N = project_N[comes_N], merchant_N[comes_N], when_N[comes_N]
    times_X = log_uniform(rng, 4, 40, len(begin_X))
    amount_N = accounts.typical_amount_A[holder_X][project_N] * times_X[project_N]
    amount_N = amount_N * rng.lognormal(0, 0.4, len(project_N))
    return charges(rng, world, holder_X[project_N], when_N, merchant_N, amount_N)


def _nights(rng: np.random.Generator, world: World) -> Events:
    """The hotel of seven trips in ten, paid each night or once."""
    accounts = world.accounts
    begin_AT = accounts.trip_start_AT + flights_days(accounts)
    stays_AT = (rng.random(begin_AT.shape) < 0.7) & (begin_AT < world.days)
    stays_AT &= (accounts.daily_rate_A > 0.05)[:, None]
    stays_AT &= begin_AT > accounts.opens_on_A[:, None]
    traveller_X, trip_X = np.nonzero(stays_AT)
    country_X = accounts.trip_country_AT[traveller_X, trip_X]
    hotel_X = world.merchants.pick(rng, country_X, np.full(len(country_X), HOTEL))
    offset_X = np.array([country.utc_offset_hours for country in COUNTRIES])[country_X]
    nights_X = rng.integers(1, 8, len(traveller_X))
    price_X = MEDIAN_K[HOTEL] * accounts.amount_level_A[traveller_X].clip(0.4, 5)
    price_X = price_X * rng.lognormal(0, 0.5, len(traveller_X))
    at_once_X = rng.random(len(traveller_X)) < 0.4
    price_X = np.where(at_once_X, price_X * nights_X, price_X)

    stay_N = np.repeat(np.arange(len(traveller_X)), np.where(at_once_X, 1, nights_X))
    night_N = np.concatenate([[0], np.cumsum(np.diff(stay_N) == 0)])[: len(stay_N)]
    night_N = night_N - np.maximum.accumulate(np.where(np.diff(stay_N, prepend=-1) > 0, night_N, 0))
    hour_N = rng.uniform(*EVENING_HOURS, len(stay_N)) - offset_X[stay_N]
    arrives_N = begin_AT[traveller_X, trip_X][stay_N]
    day_N = np.floor(arrives_N) + night_N + hour_N / 24
    day_N = np.where(day_N < arrives_N, day_N + 1, day_N)
    stays_N = day_N < accounts.trip_end_AT[traveller_X, trip_X][stay_N]
    stay_N, day_N = stay_N[stays_N], day_N[stays_N]
    return charges(
        rng,
        world,
        traveller_X[stay_N],
        (day_N * DAY_SECONDS).astype(np.int64),
        hotel_X[stay_N],
        price_X[stay_N],
    )
