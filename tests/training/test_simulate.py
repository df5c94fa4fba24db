"""The simulator: what its docstrings say about accounts, frauds and labels holds in its frames."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from app.learner.money import MINOR_UNITS
from app.learner.spec import DatasetSpec
from app.simulator.accounts import GROUPS, PERSONAS, Accounts
from app.simulator.countries import COUNTRIES, CURRENCIES, distances_km_LL
from app.simulator.entities import own_entities
from app.simulator.events import DECLINED, Events, World
from app.simulator.frauds import IMPOSSIBLE_KMH, KINDS
from app.simulator.frauds.scripts import burst
from app.simulator.frauds.victims import takeover
from app.simulator.labelling import CLEARING_DAYS
from app.simulator.merchants import CATEGORY_K, ONLINE_K, Merchants
from app.simulator.occasions import payrolls, sale_days
from app.simulator.occasions import sprees as sprees_of
from app.simulator.omissions import ATTRIBUTES, CATEGORIES, ENTITIES, omitted
from app.simulator.simulate import START, simulate
from app.simulator.spending import spend

DAYS = 90
RESALE = ["electronics", "gift_card", "jewellery", "travel", "marketplace"]


RATES = {currency.code: currency.rate for currency in CURRENCIES}


@pytest.fixture(scope="module")
def raw() -> pl.DataFrame:
    return simulate(accounts=6000, days=DAYS, seed=5)


@pytest.fixture(scope="module")
def frame(raw: pl.DataFrame) -> pl.DataFrame:
    """As simulated, with amounts in euros in a column of their own."""
    rate = pl.col("currency").replace_strict(RATES, return_dtype=pl.Float64)
    return raw.with_columns(euros=pl.col("amount") / rate)


@pytest.fixture(scope="module")
def honest(frame: pl.DataFrame) -> pl.DataFrame:
    """What holders pay: neither refunds nor checks of a card."""
    return frame.filter(
        pl.col("fraud_kind").is_null() & pl.col("type").is_in(["payment", "withdrawal", "transfer"])
    )


def within(rows: pl.DataFrame, by: str, period: str) -> pl.DataFrame:
    """The busiest `period` of each of `by`: how many rows, accounts and merchants, and when."""
    return (
        rows.sort("occurred_at")
        .rolling("occurred_at", period=period, group_by=by)
        .agg(
            size=pl.len(),
            accounts=pl.col("account_id").n_unique(),
            merchants=pl.col("merchant_id").n_unique(),
        )
        .sort("size", descending=True)
        .unique(by, keep="first", maintain_order=True)
    )


def frauds(frame: pl.DataFrame, kind: str) -> pl.DataFrame:
    return frame.filter(pl.col("fraud_kind") == kind)


def accounts(honest: pl.DataFrame) -> pl.DataFrame:
    """Habits of the accounts with enough transactions to have some."""
    return (
        honest.group_by("account_id", maintain_order=True)
        .agg(
            rate=pl.len() / DAYS,
            typical=pl.col("euros").median(),
            spread=pl.col("euros").log().std(),
            night=pl.col("occurred_at").dt.hour().is_between(0, 4).mean(),
            online=(pl.col("channel") == "online").mean(),
            countries=pl.col("country").n_unique(),
            regular=pl.col("merchant_id").value_counts().struct.field("count").max() / pl.len(),
        )
        .filter(pl.col("rate") > 0.2)
    )


def test_the_same_seed_gives_the_same_frame_and_another_seed_another() -> None:
    first = simulate(accounts=50, days=30, seed=1)
    assert first.equals(simulate(accounts=50, days=30, seed=1))
    assert not first.equals(simulate(accounts=50, days=30, seed=2))


def test_the_columns_are_those_of_the_built_in_spec_and_more(raw: pl.DataFrame) -> None:
    spec = DatasetSpec.load("simulated")
    named = {*spec.columns.model_dump(exclude_none=True).values(), spec.label.delay_column}
    named |= {*spec.categorical.values(), *spec.numeric.values()}
    assert named <= set(raw.columns)
    assert {"type", "status", *ENTITIES} <= set(raw.columns)
    assert raw.schema["occurred_at"] == pl.Datetime("us", "UTC")
    assert raw.schema["is_fraud"] == pl.Boolean
    optional = {"is_fraud", "fraud_kind", "label_delay_days", "status"}
    optional |= {*ATTRIBUTES, *ENTITIES, *CATEGORIES}
    assert raw.drop(optional).null_count().sum_horizontal().item() == 0


def test_values_are_possible_and_sorted_by_time(frame: pl.DataFrame) -> None:
    assert frame["occurred_at"].is_sorted()
    assert frame["occurred_at"].min() >= START
    assert (frame["occurred_at"].max() - START).days < DAYS
    assert frame["transaction_id"].is_unique().all()
    assert frame["device_age_days"].min() >= 0
    is_check = pl.col("type") == "verification"
    assert frame.filter(is_check)["amount"].max() == 0
    assert frame.filter(~is_check)["amount"].min() > 0
    assert set(frame["type"]) == {"payment", "withdrawal", "refund", "verification", "transfer"}
    sent = set(frame["status"].drop_nulls())
    assert sent == {"authorised", "declined", "reversed", "refunded"}


def test_there_is_a_device_online_and_a_distance_in_person(frame: pl.DataFrame) -> None:
    paid = frame.filter(pl.col("type") != "refund").drop_nulls("channel")
    online = pl.col("channel") == "online"
    elsewhere = paid.filter(~online)
    for name in ("device_age_days", "device_id", "ip_address"):
        assert elsewhere[name].null_count() == len(elsewhere)
        assert frame.filter(pl.col("type") == "refund")[name].drop_nulls().is_empty()
    assert paid.filter(online)["distance_from_home_km"].drop_nulls().is_empty()
    assert 0.55 < paid.filter(online)["device_age_days"].is_not_null().mean() < 0.75
    in_person = paid.filter(pl.col("channel").is_in(["card_present", "atm"]))
    assert 0.55 < in_person["distance_from_home_km"].is_not_null().mean() < 0.75


def test_amounts_have_the_scale_and_the_minor_units_of_their_currency(
    frame: pl.DataFrame, honest: pl.DataFrame
) -> None:
    for (code,), rows in frame.group_by("currency"):
        unit = 10.0 ** MINOR_UNITS.get(str(code), 0)
        minor = rows["amount"] * unit
        assert (minor - minor.round()).abs().max() < 1e-3 * unit, code
    typical = dict(honest.group_by("currency").agg(pl.col("amount").median()).iter_rows())
    assert set(typical) == set(RATES)
    assert typical["JPY"] > 80 * typical["EUR"]
    assert typical["IDR"] > 5000 * typical["EUR"]
    assert typical["KWD"] < 0.7 * typical["EUR"]
    assert set(typical) - set(MINOR_UNITS) == {"PTS"}, "one unit that no table of rates has"


def test_an_account_pays_in_its_currency_and_in_some_of_foreign_shops(
    honest: pl.DataFrame,
) -> None:
    shares = honest.group_by("account_id").agg(
        usual=pl.col("currency").value_counts(sort=True).struct.field("count").first() / pl.len(),
        currencies=pl.col("currency").n_unique(),
        payments=pl.len(),
    )
    busy = shares.filter(pl.col("payments") > 30)
    assert busy["usual"].median() > 0.95
    assert (busy["currencies"] > 1).mean() > 0.2
    by_shop = honest.group_by("account_id", "merchant_id").agg(pl.col("currency").n_unique())
    assert by_shop["currency"].max() == 1


def test_there_are_many_countries_and_none_has_most_accounts(honest: pl.DataFrame) -> None:
    home = honest.group_by("account_id").agg(pl.col("country").mode().first())["country"]
    shares = home.drop_nulls().value_counts(normalize=True)
    assert len(shares) == len(COUNTRIES) > 20
    assert shares["proportion"].max() < 0.25


def test_frauds_are_about_one_in_a_hundred_and_most_accounts_have_none(
    frame: pl.DataFrame,
) -> None:
    is_fraud = frame["fraud_kind"].is_not_null()
    assert 0.01 <= is_fraud.mean() <= 0.02
    defrauded = frame.filter(is_fraud)["account_id"].n_unique()
    assert 0.05 < defrauded / frame["account_id"].n_unique() < 0.5


def test_every_kind_of_fraud_is_a_noticeable_share(frame: pl.DataFrame) -> None:
    kinds = frame["fraud_kind"].drop_nulls()
    shares = dict(kinds.value_counts(normalize=True).iter_rows())
    assert set(shares) == set(KINDS[1:])
    assert min(shares.values()) > 0.02
    assert max(shares.values()) < 0.45


def test_even_a_small_simulation_has_every_kind_of_fraud() -> None:
    kinds = simulate(accounts=100, days=30, seed=0)["fraud_kind"].drop_nulls().unique()
    assert set(kinds) == set(KINDS[1:])


@pytest.mark.parametrize(("count", "days"), [(2, 1), (2, 400), (300, 1), (20, 5)])
def test_of_the_smallest_sizes_no_transaction_lies_outside_the_days(count: int, days: int) -> None:
    found = simulate(accounts=count, days=days, seed=0)
    holders = found.filter(pl.col("account_id") < f"a{count:06}")
    assert 0 < holders["account_id"].n_unique() <= count
    opened = found.filter(pl.col("account_id") >= f"a{count:06}")
    assert opened["fraud_kind"].drop_nulls().is_in(["enumeration", "account_farm"]).all()
    assert len(opened) < 0.1 * len(found)
    first, last = found["occurred_at"].min(), found["occurred_at"].max()
    assert START <= first <= last < START + timedelta(days=days)
    assert found["transaction_id"].is_unique().all()


def test_accounts_differ_in_every_habit(honest: pl.DataFrame) -> None:
    habits = accounts(honest)
    low, high = (habits.select(pl.exclude("account_id").quantile(q)) for q in (0.05, 0.95))
    ratio = {name: high[name].item() / max(low[name].item(), 0.01) for name in high.columns}
    assert ratio["rate"] > 4
    assert ratio["typical"] > 6
    assert ratio["spread"] > 1.4
    assert high["night"].item() - low["night"].item() > 0.4
    assert high["online"].item() - low["online"].item() > 0.4
    assert high["countries"].item() >= low["countries"].item() + 3
    assert ratio["regular"] > 2


def test_hardly_active_accounts_exist(honest: pl.DataFrame) -> None:
    per_account = honest.group_by("account_id").len()["len"] / DAYS
    assert 0.1 < (per_account < 0.15).mean() < 0.4


def test_what_is_normal_for_one_account_is_far_out_for_another(honest: pl.DataFrame) -> None:
    typical = accounts(honest)["typical"].to_numpy()
    own_limit = 6 * typical
    everyday_for_somebody = np.quantile(typical, 0.98)
    assert (own_limit < everyday_for_somebody).mean() > 0.5


def test_a_takeover_is_unlike_its_account_and_like_the_population(
    frame: pl.DataFrame, honest: pl.DataFrame
) -> None:
    stolen = frauds(frame, "takeover")
    own = honest.join(stolen.select("account_id").unique(), on="account_id")
    visited = own.select("account_id", "merchant_id").unique()
    known_merchants = stolen.join(visited, on=["account_id", "merchant_id"], how="semi")
    again = own.filter(pl.len().over("account_id", "merchant_id") > 1)
    assert len(known_merchants) / len(stolen) < 0.3 < len(again) / len(own)

    def quarters(rows: pl.DataFrame) -> np.ndarray:
        """The shares of night, morning, afternoon and evening in what an account pays."""
        quarter = pl.col("occurred_at").dt.hour() // 6
        shares = [(quarter == n).mean().alias(f"{n}") for n in range(4)]
        return rows.group_by("account_id").agg(shares).drop("account_id").mean().to_numpy()[0]

    assert np.abs(quarters(honest) - quarters(stolen)).sum() / 2 < 0.15

    span = stolen.group_by("account_id").agg(
        pl.col("occurred_at").max() - pl.col("occurred_at").min()
    )["occurred_at"]
    assert (span.dt.total_days() <= 11).mean() > 0.5


def test_a_takeover_leaves_the_holder_spending(frame: pl.DataFrame, honest: pl.DataFrame) -> None:
    window = (
        frauds(frame, "takeover")
        .group_by("account_id")
        .agg(first=pl.col("occurred_at").min(), last=pl.col("occurred_at").max())
        .with_columns(days=(pl.col("last") - pl.col("first")) / pl.duration(days=1))
        .filter(pl.col("days") > 1)
    )
    assert len(window) >= 15
    own = honest.join(window, on="account_id")
    between = own.filter(pl.col("occurred_at").is_between("first", "last"))
    usual = own.group_by("account_id").agg(expected=pl.len() / DAYS * pl.col("days").first())
    # As often as otherwise, as far as so few windows tell.
    assert len(between) > 0.5 * usual["expected"].sum()


def test_card_testing_is_a_burst_of_small_charges_before_a_large_one(frame: pl.DataFrame) -> None:
    tests = frauds(frame, "card_testing")
    small = tests.filter(pl.col("euros") <= 6)
    large = tests.filter(pl.col("euros") > 6)
    bursts = small.group_by("account_id", "merchant_id").agg(
        size=pl.len(), length=pl.col("occurred_at").max() - pl.col("occurred_at").min()
    )
    assert bursts["length"].median().total_seconds() <= 2400
    assert bursts["size"].min() >= 4
    by_script = within(small, "account_id", "2m").filter(pl.col("size") >= 12)
    assert 0.1 * len(bursts) < len(by_script) < 0.7 * len(bursts)
    assert small["merchant_id"].n_unique() <= 6
    assert set(tests["channel"].drop_nulls()) == {"online"}
    assert large["euros"].min() >= 59
    assert large["merchant_category"].drop_nulls().is_in(RESALE).all()
    begins = small.group_by("account_id").agg(begin=pl.col("occurred_at").min())
    followed = large.join(begins, on="account_id").filter(pl.col("occurred_at") > pl.col("begin"))
    assert len(followed) > 0.95 * len(large)


def test_a_script_may_test_another_card_with_each_charge(frame: pl.DataFrame) -> None:
    small = frauds(frame, "card_testing").filter(pl.col("euros") <= 6).drop_nulls("card")
    cards = (
        small.group_by("account_id")
        .agg(cards=pl.col("card").n_unique(), size=pl.len())
        .filter(pl.col("size") >= 12)
    )
    assert (cards["cards"] > 0.9 * cards["size"]).any()
    assert (cards["cards"] <= 2).any()


def test_small_bursts_of_honest_holders_exist_too(honest: pl.DataFrame) -> None:
    small = honest.filter((pl.col("channel") == "online") & (pl.col("euros") < 10))
    in_an_hour = small.group_by(
        "account_id", "merchant_id", pl.col("occurred_at").dt.truncate("1h")
    ).len()
    assert (in_an_hour["len"] >= 4).sum() > 10


def test_a_compromised_merchant_defrauds_some_customers_in_a_window(frame: pl.DataFrame) -> None:
    charges = frauds(frame, "merchant_compromise")
    merchants = charges.group_by("merchant_id").agg(
        victims=pl.col("account_id").n_unique(),
        length=pl.col("occurred_at").max() - pl.col("occurred_at").min(),
    )
    customers = frame.group_by("merchant_id").agg(customers=pl.col("account_id").n_unique())
    joined = merchants.join(customers, on="merchant_id")
    assert len(merchants) < 0.05 * frame["merchant_id"].n_unique()
    assert merchants["length"].max().total_seconds() <= 35 * 86_400
    assert joined["victims"].sum() < 0.5 * joined["customers"].sum()
    assert joined["victims"].max() >= 5


def test_victims_of_a_compromised_merchant_are_its_customers(
    frame: pl.DataFrame, honest: pl.DataFrame
) -> None:
    charges = frauds(frame, "merchant_compromise")
    visits = honest.group_by("account_id", "merchant_id").agg(first=pl.col("occurred_at").min())
    joined = charges.join(visits, on=["account_id", "merchant_id"], how="left")
    assert (joined["first"] < joined["occurred_at"]).all()
    assert not joined["first"].has_nulls()


def test_a_large_amount_is_large_for_its_account_and_some_are_enormous(
    frame: pl.DataFrame, honest: pl.DataFrame
) -> None:
    typical = honest.group_by("account_id").agg(typical=pl.col("euros").median())
    large = frauds(frame, "large_amount").join(typical, on="account_id")
    times = large["euros"] / large["typical"]
    assert (times > 3).mean() > 0.9
    assert 0.25 < (times > 25).mean() < 0.6
    assert 10_000 < times.max() < 200_000
    moderate = large.filter(times < 20)["euros"].median()
    assert (honest["euros"] > moderate).sum() > 5 * len(large)
    categories = large["merchant_category"].drop_nulls()
    assert 0.3 < categories.is_in(RESALE).mean() < 0.9
    assert 0.1 < large["channel"].is_in(["card_present"]).mean() < 0.7
    on_own_device = large.filter(pl.col("device_age_days") > 20)
    assert len(on_own_device) > 0.1 * large["device_age_days"].count()


def test_honest_amounts_are_large_too_now_and_then(honest: pl.DataFrame) -> None:
    typical = pl.col("euros").median().over("account_id")
    busy = honest.filter(pl.len().over("account_id") > 20)
    times = busy.filter(pl.col("type") != "transfer").select(pl.col("euros") / typical).to_series()
    assert 5e-4 < (times > 50).mean() < 4e-3
    assert (times > 1500).mean() < 1e-5


def test_a_bot_pays_dozens_of_times_within_the_hour(frame: pl.DataFrame) -> None:
    bots = frauds(frame, "burst")
    busiest = within(bots, "account_id", "1h")
    assert busiest["size"].min() >= 12
    assert busiest["size"].max() > 40
    assert busiest["size"].max() <= 400
    usual = frame.filter(pl.col("fraud_kind").is_null())["euros"].quantile(0.95)
    assert bots["euros"].median() < usual
    assert bots["merchant_id"].n_unique() > busiest.height
    assert (bots["device_age_days"] < 1).any()
    assert (bots["device_age_days"] > 20).any()


@pytest.fixture(scope="module")
def drawn() -> World:
    """What is decided before the first transaction, of a year."""
    rng = np.random.default_rng(3)
    merchants = Merchants.draw(rng, 4000)
    return World(Accounts.draw(rng, 4000, 360, merchants), merchants, START, 360)


def episodes_of(events: Events) -> pl.DataFrame:
    """Events by account and time, numbered anew where an hour lies between two of an account."""
    rows = pl.DataFrame(
        {
            "account": events.account_N,
            "second": events.second_N,
            "merchant": events.merchant_N,
            "device": events.device_N,
            "declined": events.status_N == DECLINED,
        }
    ).sort("account", "second")
    begins = (pl.col("second").diff().over("account") > 3600).fill_null(True)
    return rows.with_columns(episode=begins.cum_sum())


@pytest.fixture(scope="module")
def bursts(drawn: World) -> pl.DataFrame:
    """Some 900 attacks by bots: sizes, declines, and whether the holder has used the device."""
    rng = np.random.default_rng(4)
    genuine = spend(rng, drawn)
    used = pl.DataFrame({"account": genuine.account_N, "device": genuine.device_N}).unique()
    attacks = episodes_of(burst(rng, drawn, genuine, 60_000))
    return (
        attacks.join(used.with_columns(own=pl.lit(True)), on=["account", "device"], how="left")
        .group_by("account", "episode")
        .agg(size=pl.len(), declined=pl.col("declined").mean(), own=pl.col("own").mean())
        .with_columns(is_own=pl.col("own").fill_null(0) == 1)
        .filter(pl.col("size") >= 20)
    )


def test_of_a_quarter_of_the_bursts_nothing_is_declined(bursts: pl.DataFrame) -> None:
    passed = (bursts["declined"] == 0).mean()
    assert len(bursts) > 700
    assert 0.21 < passed < 0.34
    # Of the others a tenth to four fifths.
    refused = bursts.filter(pl.col("declined") > 0)["declined"]
    assert 0.35 < refused.mean() < 0.55
    assert refused.max() > 0.7


def test_half_of_the_bursts_come_from_the_holders_own_device(bursts: pl.DataFrame) -> None:
    assert 0.45 < bursts["is_own"].mean() < 0.55
    # Which device it is says nothing of what is declined: all four are there.
    both = bursts.group_by("is_own", pl.col("declined") == 0).len()
    assert len(both) == 4
    assert both["len"].min() > 50


@pytest.fixture(scope="module")
def sprees(drawn: World) -> pl.DataFrame:
    """Sprees beside a purchase at noon of each of 300 days: sizes, shops, and the first shop."""
    rng = np.random.default_rng(5)
    holder_N = np.repeat(np.arange(800), 300)
    noon_N = np.tile(np.arange(300), 800) * 86_400 + 43_200
    merchant_N = rng.integers(0, len(drawn.merchants.market_M), len(holder_N))
    shops = pl.DataFrame({"online": ONLINE_K[drawn.merchants.market_M]}).with_row_index("merchant")
    shops = shops.cast({"merchant": pl.Int64})
    firsts = pl.DataFrame({"account": holder_N, "day": noon_N // 86_400, "first": merchant_N}).join(
        shops.rename({"merchant": "first", "online": "began_online"}), on="first"
    )
    usual = pl.DataFrame(usual_shops(drawn)).with_columns(usual=pl.lit(1))
    return (
        episodes_of(sprees_of(rng, drawn, holder_N, noon_N, merchant_N))
        .join(usual, on=["account", "merchant"], how="left")
        .with_columns(day=pl.col("second") // 86_400)
        .join(firsts, on=["account", "day"])
        .join(shops, on="merchant")
        .group_by("account", "day", "began_online")
        .agg(
            size=pl.len(),
            length=pl.col("second").max() - pl.col("second").min(),
            shops=pl.col("merchant").n_unique(),
            stays=(pl.col("merchant") == pl.col("first")).all(),
            online=pl.col("online").all(),
            usual=pl.col("usual").fill_null(0).mean(),
        )
    )


def test_a_spree_is_of_five_to_thirty_purchases_within_the_hour(sprees: pl.DataFrame) -> None:
    assert len(sprees) > 150
    assert sprees["size"].min() == 5
    assert 25 < sprees["size"].max() <= 30
    assert (sprees["size"] > 15).mean() > 0.2
    # Few have most: sizes are log-uniform.
    assert (sprees["size"] < 12).mean() > 0.4
    assert sprees["length"].max() < 3600
    assert sprees["online"].all()


def test_sprees_stay_or_go_round_the_usual_shops_or_others(sprees: pl.DataFrame) -> None:
    begun = sprees.filter("began_online")
    assert len(begun) > 80
    assert 0.1 < begun["stays"].mean() < 0.4
    assert not sprees.filter(~pl.col("began_online"))["stays"].any()
    assert 0.4 < (sprees["usual"] == 1).mean() < 0.65
    others = sprees.filter(~pl.col("stays"), pl.col("usual") < 1)
    assert set(others["shops"]) == {1, 2, 3}


def test_on_sale_days_holders_go_round_their_usual_shops(drawn: World) -> None:
    events = sale_days(np.random.default_rng(7), drawn)
    usual = pl.DataFrame(usual_shops(drawn)).with_columns(usual=pl.lit(True))
    rows = (
        episodes_of(events)
        .join(usual, on=["account", "merchant"], how="left")
        .with_columns(usual=pl.col("usual").fill_null(False))
    )
    assert rows["usual"].all()
    days = rows.group_by(pl.col("second") // 86_400).agg(pl.col("account").n_unique())
    busy = days.filter(pl.col("account") > 20)
    assert len(busy) <= 24, "12, each with its night"
    assert busy["account"].sum() == pytest.approx(12 * 0.05 * 4000 * 0.75, rel=0.2)
    bought = rows.group_by("account", "episode").agg(
        size=pl.len(),
        length=pl.col("second").max() - pl.col("second").min(),
        shops=pl.col("merchant").n_unique(),
    )
    assert bought["size"].min() == 5
    assert bought["size"].max() == 30
    assert bought["length"].max() < 3600
    assert bought["shops"].max() > 5


def usual_shops(drawn: World) -> dict[str, list[int]]:
    """Where accounts always buy, with their shops."""
    favourite_AF = drawn.accounts.favourite_A2F[:, 0]
    account_AF = np.indices(favourite_AF.shape)[0]
    pair_X2 = np.unique(np.stack([account_AF.ravel(), favourite_AF.ravel()], axis=1), axis=0)
    return {"account": pair_X2[:, 0].tolist(), "merchant": pair_X2[:, 1].tolist()}


def test_a_hurried_takeover_tries_tens_of_times_and_is_mostly_declined(
    frame: pl.DataFrame,
) -> None:
    stolen = frauds(frame, "takeover")
    hurried = within(stolen, "account_id", "1h").filter(pl.col("size") >= 15)
    assert len(hurried) >= 2
    declined = stolen.join(hurried, on="account_id", how="semi")["status"] == "declined"
    assert declined.mean() > 0.6


def test_enumeration_is_of_many_new_accounts_from_one_place_in_minutes(
    frame: pl.DataFrame,
) -> None:
    guesses = frauds(frame, "enumeration").sort("merchant_id", "occurred_at")
    begins = (pl.col("occurred_at").diff().over("merchant_id") > pl.duration(hours=1)).fill_null(
        True
    )
    attacks = guesses.group_by(attack=begins.cum_sum()).agg(
        accounts=pl.col("account_id").n_unique(),
        places=pl.min_horizontal(
            *(pl.col(name).drop_nulls().n_unique() for name in ("device_id", "ip_address"))
        ),
        length=pl.col("occurred_at").max() - pl.col("occurred_at").min(),
    )
    assert len(attacks) >= 1
    assert attacks["accounts"].min() >= 30
    assert attacks["places"].max() <= 1
    assert attacks["length"].max().total_seconds() <= 900
    assert guesses["euros"].max() < 6
    assert guesses.group_by("account_id").len()["len"].max() <= 2
    others = frame.filter(pl.col("fraud_kind").is_null() & (pl.col("type") != "refund"))
    assert guesses.join(others, on="account_id", how="semi").is_empty()


def test_a_farm_of_new_accounts_shares_devices_and_cashes_out(frame: pl.DataFrame) -> None:
    farmed = frauds(frame, "account_farm")
    assert farmed["account_id"].n_unique() >= 15
    sharing = farmed.drop_nulls("device_id").group_by("device_id")
    assert sharing.agg(pl.col("account_id").n_unique())["account_id"].max() >= 5
    by_account = farmed.group_by("account_id").agg(
        first=pl.col("euros").first(), last=pl.col("euros").last(), size=pl.len()
    )
    grows = by_account.filter(pl.col("size") >= 2)
    assert len(grows) >= 30
    assert (grows["last"] / grows["first"]).median() > 2


def test_frauds_are_declined_more_often_than_honest_payments_are(
    frame: pl.DataFrame, honest: pl.DataFrame
) -> None:
    stated = frame.drop_nulls("status")
    declined = stated.group_by("fraud_kind").agg((pl.col("status") == "declined").mean())
    shares = dict(declined.iter_rows())
    usual = shares.pop(None)
    assert len(shares) >= 6
    assert 0.01 < usual < 0.05
    assert min(shares.values()) > 1.5 * usual
    again = honest.sort("occurred_at").with_columns(
        then=pl.col("status").shift(-1).over("account_id", "merchant_id", "amount"),
        seconds=pl.col("occurred_at")
        .diff(-1)
        .dt.total_seconds()
        .abs()
        .over("account_id", "merchant_id", "amount"),
    )
    refused = again.filter(pl.col("status") == "declined")
    retried = refused.filter(pl.col("seconds") < 120)
    assert 0.4 < len(retried) / len(refused) < 0.8
    assert (retried["then"] == "authorised").mean() > 0.5


def test_a_refund_is_of_an_earlier_payment_and_some_are_in_part(frame: pl.DataFrame) -> None:
    back = frame.filter(pl.col("type") == "refund")
    paid = frame.filter(pl.col("type") == "payment").select(
        "account_id", "merchant_id", "currency", paid="amount", at="occurred_at", became="status"
    )
    pairs = back.join(paid, on=["account_id", "merchant_id", "currency"]).filter(
        pl.col("at") < pl.col("occurred_at"), pl.col("paid") >= pl.col("amount")
    )
    assert pairs["transaction_id"].n_unique() == len(back) > 0.003 * len(frame)
    # What became of a payment is written where the account's platform sends statuses.
    whole = pairs.filter(pl.col("paid") == pl.col("amount"), pl.col("became") == "refunded")
    sent = back.drop_nulls("status")
    assert 0.6 < whole["transaction_id"].n_unique() / len(sent) < 0.9
    assert frame.filter(pl.col("status") == "refunded").height < len(sent)


def test_the_age_of_a_device_counts_from_its_first_use_by_the_account(
    frame: pl.DataFrame,
) -> None:
    used = frame.drop_nulls(["device_id", "device_age_days"]).with_columns(
        since=pl.col("occurred_at").dt.epoch("s") / 86_400 - pl.col("device_age_days")
    )
    pairs = used.group_by("account_id", "device_id").agg(
        first=pl.col("occurred_at").min().dt.epoch("s") / 86_400,
        since=pl.col("since").min(),
        spread=pl.col("since").max() - pl.col("since").min(),
    )
    assert pairs["spread"].max() <= 0.101
    assert (pairs["since"] <= pairs["first"] + 0.051).all()
    assert (pairs["since"] < pairs["first"] - 30).mean() > 0.05, "devices from before the file"
    assert (pairs["since"] > pairs["first"] - 1).mean() > 0.3, "devices first used in it"


def test_devices_addresses_and_cards_are_shared_by_honest_holders(honest: pl.DataFrame) -> None:
    users = {
        name: honest.drop_nulls(name).group_by(name).agg(pl.col("account_id").n_unique())
        for name in ENTITIES
    }
    assert users["ip_address"]["account_id"].max() > 50, "a carrier"
    assert (users["ip_address"]["account_id"].is_between(5, 40)).sum() > 3, "offices"
    assert 2 <= users["device_id"]["account_id"].max() <= 12, "a household"
    assert 2 <= users["card"]["account_id"].max() <= 12
    assert users["email"]["account_id"].max() == 1
    cards = honest.drop_nulls("card").group_by("account_id").agg(pl.col("card").n_unique())
    assert cards["card"].median() <= 2
    assert cards["card"].quantile(0.99) <= 5


def test_a_few_offices_have_most_of_those_who_work_in_one(drawn: World) -> None:
    workers = np.bincount(drawn.accounts.office_A[drawn.accounts.office_A >= 0])
    assert len(workers) == 27
    # By Zipf's law the first is twice the second, three times the third.
    assert 1.5 < workers[0] / workers[1] < 2.7
    assert workers[:3].sum() > 0.4 * workers.sum()


def test_addresses_of_offices_and_carriers_change_within_a_year_or_two(drawn: World) -> None:
    office_A = drawn.accounts.office_A[: drawn.accounts.holders]
    home_A = drawn.accounts.home_A[: drawn.accounts.holders]
    country = np.bincount(home_A).argmax()
    colleague_X = np.flatnonzero((office_A == 0) & (home_A == country))
    account_N = np.repeat(colleague_X, 800)
    second_N = np.tile(np.arange(800), len(colleague_X)) * 86_400
    rng = np.random.default_rng(8)
    address_N = own_entities(rng, drawn.accounts, account_N, second_N).address_N
    used = pl.DataFrame({"account": account_N, "day": second_N // 86_400, "address": address_N})
    shared = (
        used.group_by("address")
        .agg(
            users=pl.col("account").n_unique(),
            uses=pl.len(),
            days=pl.col("day").max() - pl.col("day").min(),
        )
        # Neither a home's nor a public one.
        .filter(pl.col("users") > 3, pl.col("uses") > 50)
    )
    assert shared["days"].max() <= 400
    office = shared.filter(pl.col("days") > 60)
    assert 2 <= len(office) < 40
    assert (shared["days"] <= 60).sum() > 10


def test_a_thief_may_take_a_few_dear_things_and_be_gone(drawn: World) -> None:
    rng = np.random.default_rng(9)
    stolen = takeover(rng, drawn, spend(rng, drawn), 20_000)
    accounts = drawn.accounts
    times_N = stolen.amount_N / accounts.typical_amount_A[stolen.account_N]
    market_N = drawn.merchants.market_M[stolen.merchant_N]
    resold_N = np.isin(CATEGORY_K[market_N], RESALE) & ONLINE_K[market_N]
    dear_N = resold_N & (times_N > 5) & (times_N < 40)
    assert dear_N.mean() > 0.25
    abroad_N = drawn.merchants.country_M[stolen.merchant_N] != accounts.home_A[stolen.account_N]
    assert 0.3 < abroad_N[dear_N].mean() < 0.6
    travels_N = accounts.persona_A[stolen.account_N] == 2
    assert 0.15 < travels_N[dear_N].mean() < 0.45
    sizes = episodes_of(stolen.take(dear_N)).group_by("account", "episode").len()["len"]
    assert sizes.median() <= 3
    assert (sizes > 4).mean() > 0.05


def test_thieves_have_devices_and_addresses_that_meet_several_victims(
    frame: pl.DataFrame, honest: pl.DataFrame
) -> None:
    stolen = frauds(frame, "takeover")
    theirs = stolen.join(honest, on="device_id", how="anti").drop_nulls("device_id")
    victims = theirs.group_by("device_id").agg(pl.col("account_id").n_unique())
    assert (victims["account_id"] >= 2).mean() > 0.1


def test_many_accounts_open_during_the_file(honest: pl.DataFrame) -> None:
    first = honest.group_by("account_id").agg(
        first=pl.col("occurred_at").min(), age=pl.col("device_age_days").first()
    )
    late = first.filter(pl.col("first") > pl.lit(START).dt.offset_by("30d"))
    assert 0.2 < len(late) / len(first) < 0.5


def test_a_marketplace_is_in_every_tenth_payment_of_its_country(honest: pl.DataFrame) -> None:
    at_home = honest.filter(pl.col("country") == "DE")
    largest = at_home["merchant_id"].value_counts(sort=True, normalize=True)["proportion"][0]
    assert 0.07 < largest < 0.16


def test_a_sale_brings_many_accounts_to_one_shop_in_an_hour(honest: pl.DataFrame) -> None:
    online = honest.filter(pl.col("channel") == "online")
    assert within(online, "merchant_id", "1h")["accounts"][0] >= 20
    sprees = within(online.filter(pl.col("type") == "payment"), "account_id", "1h")
    assert (sprees["size"] >= 5).sum() > 20
    # Two may meet.
    assert sprees["size"].max() <= 60


def test_a_business_pays_dozens_of_others_within_minutes_each_month(honest: pl.DataFrame) -> None:
    sent = honest.filter(pl.col("type") == "transfer")
    payrolls = within(sent, "account_id", "15m").filter(pl.col("size") >= 20)
    assert len(payrolls) >= 2
    assert payrolls["size"].max() <= 200
    payers = sent.join(payrolls, on="account_id", how="semi")
    days = payers.group_by("account_id").agg(pl.col("occurred_at").dt.date().value_counts())
    big = days.explode("occurred_at").unnest("occurred_at").filter(pl.col("count") >= 20)
    assert big.group_by("account_id").len()["len"].median() >= 2


def test_wages_say_nothing_of_what_a_firm_buys_and_firms_are_of_all_sizes(drawn: World) -> None:
    events = payrolls(np.random.default_rng(6), drawn)
    payers = (
        pl.DataFrame(
            {"account": events.account_N, "to": events.merchant_N, "paid": events.amount_N}
        )
        .group_by("account")
        .agg(size=pl.col("to").n_unique(), wage=pl.col("paid").median())
    )
    payer_P = payers["account"].to_numpy()
    assert len(payers) > 40
    assert payers["size"].min() < 10
    assert payers["size"].max() > 80
    assert payers["size"].median() < 40
    assert payers["wage"].min() < 600
    assert payers["wage"].max() > 2000
    usual_P = np.log(drawn.accounts.typical_amount_A[payer_P])
    assert abs(np.corrcoef(usual_P, np.log(payers["wage"].to_numpy()))[0, 1]) < 0.35
    business = [persona.name for persona in PERSONAS].index("business")
    firms = (drawn.accounts.persona_A[payer_P] == business).mean()
    assert 0.6 < firms < 0.95, "some are no business"


def test_half_of_the_payrolls_begin_within_the_file(
    drawn: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of businesses that were there from the start, and once begun without a gap to the end."""
    monkeypatch.setattr("app.simulator.occasions.PAYER_SHARE", 1.0)
    events = payrolls(np.random.default_rng(6), drawn)
    opened = pl.DataFrame({"opens": drawn.accounts.opens_on_A}).with_row_index("account")
    payers = (
        pl.DataFrame({"account": events.account_N, "day": events.second_N // 86_400})
        .group_by("account")
        .agg(first=pl.col("day").min(), last=pl.col("day").max(), days=pl.col("day").n_unique())
        .join(opened.cast({"account": pl.Int64}), on="account")
    )
    assert (payers["first"] >= payers["opens"].floor()).all()
    assert (payers["days"] == 1 + (payers["last"] - payers["first"]) // 30).all()
    assert payers["last"].min() >= 360 - 31
    there = payers.filter(pl.col("opens") < 0)
    assert len(there) > 80
    # The first payday of those who always paid is in the first month.
    assert 0.35 < (there["first"] > 31).mean() < 0.6
    # They begin throughout the file.
    assert there["first"].filter(there["first"] > 31).median() > 90
    assert there["first"].max() > 270


def test_travellers_sleep_in_hotels_night_after_night(honest: pl.DataFrame) -> None:
    nights = honest.filter(pl.col("merchant_category") == "hotel")
    stays = within(nights, "account_id", "7d")
    assert ((stays["size"] >= 3) & (stays["merchants"] <= 2)).sum() > 20


def test_fields_are_missing_for_whole_platforms_and_now_and_then(frame: pl.DataFrame) -> None:
    paid = frame.filter((pl.col("type") == "payment") & (pl.col("channel") == "online"))
    by_account = (
        paid.filter(pl.len().over("account_id") >= 10)
        .group_by("account_id")
        .agg(pl.col(*ATTRIBUTES[1:], *ENTITIES, *CATEGORIES).is_null().mean())
    )
    for name, least, most in [
        ("device_age_days", 0.25, 0.42),
        *((name, 0.3, 0.6) for name in ENTITIES),
        ("merchant_category", 0.01, 0.12),
        ("country", 0.01, 0.12),
    ]:
        missing = by_account[name]
        assert least < (missing == 1).mean() < most, name
        assert 0 < missing.filter(missing < 1).mean() < 0.05, name
        assert missing.is_between(0.3, 0.99).mean() < 0.02, name
    nothing = by_account.select(pl.all_horizontal(pl.col(*ENTITIES) == 1)).to_series()
    assert 0.2 < nothing.mean() < 0.5
    of_one_kind = by_account.select((pl.col("card") == 1) & (pl.col("device_id") < 1))
    assert of_one_kind.to_series().any()


def test_a_platform_sends_the_status_of_all_its_payments_or_of_none(raw: pl.DataFrame) -> None:
    missing = raw.group_by("account_id").agg(pl.col("status").is_null().mean())["status"]
    assert set(missing) == {0.0, 1.0}
    assert 0.2 < missing.mean() < 0.4
    # Frauds are no exception.
    of_frauds = raw.filter(pl.col("fraud_kind").is_not_null())["status"].is_null().mean()
    assert 0.1 < of_frauds < 0.5


def test_three_platforms_in_ten_send_no_status(drawn: World) -> None:
    rng = np.random.default_rng(7)
    everybody = np.arange(len(drawn.accounts))
    missing_A = omitted(rng, drawn.accounts, everybody)["status"]
    of_group = [missing_A[drawn.accounts.group_A == group] for group in range(GROUPS)]
    assert all(len(set(group.tolist())) == 1 for group in of_group)
    assert sum(bool(group[0]) for group in of_group) == 0.3 * GROUPS


def kilometres() -> dict[tuple[str, str], float]:
    between_LL = distances_km_LL()
    codes = [country.code for country in COUNTRIES]
    return {
        (a, b): float(between_LL[i, j]) for i, a in enumerate(codes) for j, b in enumerate(codes)
    }


def speeds(frame: pl.DataFrame, kind: str | None) -> list[float]:
    """Implied km/h between consecutive payments in person of honest holders and of one kind.

    A payment without a channel may have been in person, too: none is measured across it.
    """
    chosen = pl.col("fraud_kind").is_null() | pl.col("fraud_kind").eq_missing(kind)
    in_person = pl.col("channel").is_in(["card_present", "atm"])
    rows = (
        frame.filter(in_person.fill_null(True) & (pl.col("type") != "refund") & chosen)
        .with_columns(
            in_person_before=in_person.shift().over("account_id"),
            before=pl.col("country").shift().over("account_id"),
            kind_before=pl.col("fraud_kind").shift().over("account_id"),
            hours=pl.col("occurred_at").diff().over("account_id").dt.total_seconds() / 3600,
        )
        .filter(in_person, pl.col("in_person_before"), pl.col("kind_before").is_null())
        .filter(pl.col("before") != pl.col("country"))
        .filter(pl.col("fraud_kind").eq_missing(kind))
    )
    between = kilometres()
    return [
        between[a, b] / max(hours, 1 / 3600)
        for a, b, hours in rows.select("before", "country", "hours").iter_rows()
    ]


def test_impossible_travel_is_impossible_and_honest_travel_is_not(frame: pl.DataFrame) -> None:
    stolen, honest = speeds(frame, "impossible_travel"), speeds(frame, None)
    assert len(stolen) > 20
    assert np.mean(np.array(stolen) > IMPOSSIBLE_KMH) > 0.97
    assert len(honest) > 200
    assert max(honest) < IMPOSSIBLE_KMH


def test_holidays_and_new_devices_and_rare_large_purchases_are_honest(
    honest: pl.DataFrame,
) -> None:
    in_person = honest.filter(pl.col("channel") == "card_present")
    home = in_person.group_by("account_id").agg(home=pl.col("country").mode().first())
    abroad = in_person.join(home, on="account_id").filter(pl.col("country") != pl.col("home"))
    assert abroad["account_id"].n_unique() > 0.2 * home.height
    assert (honest["device_age_days"] < 3).sum() > 0.03 * honest["device_age_days"].count()
    outsized = honest.filter(pl.col("euros") > 8 * pl.col("euros").median().over("account_id"))
    assert len(outsized) > 200


def test_spending_rises_after_salary_days(honest: pl.DataFrame) -> None:
    by_day = honest.group_by(pl.col("occurred_at").dt.day()).len().sort("occurred_at")["len"]
    quiet = by_day[7:13].mean()
    assert by_day[24:27].mean() > 1.05 * quiet


def test_reports_of_fraud_come_late_and_some_never(frame: pl.DataFrame) -> None:
    old = frame.filter(pl.col("occurred_at") < pl.lit(START).dt.offset_by("60d"))
    reported = old.filter(pl.col("is_fraud"))
    # Reviews find some within hours.
    assert 2 < reported["label_delay_days"].median() < 6
    assert 9 < reported["label_delay_days"].quantile(0.9) < 24
    assert reported["label_delay_days"].max() <= 120
    overlooked = old.filter(pl.col("fraud_kind").is_not_null() & ~pl.col("is_fraud"))
    assert 0.03 < len(overlooked) / (len(overlooked) + len(reported)) < 0.15
    assert not old.filter(pl.col("fraud_kind").is_null())["is_fraud"].any()


def test_the_newest_transactions_are_unlabelled_and_keep_their_natural_rate(
    frame: pl.DataFrame,
) -> None:
    cleared = pl.lit(START).dt.offset_by(f"{DAYS - int(CLEARING_DAYS)}d")
    newest = frame.filter(pl.col("occurred_at") > cleared)
    older = frame.filter(pl.col("occurred_at") < cleared)
    assert newest["is_fraud"].null_count() == len(newest) > 0
    assert older["is_fraud"].null_count() < 0.01 * len(older)
    assert (frame["is_fraud"].is_null() == frame["label_delay_days"].is_null()).all()
    end = START.timestamp() + DAYS * 86_400
    labelled_at = older.drop_nulls("is_fraud").select(
        pl.col("occurred_at").dt.epoch("s") + pl.col("label_delay_days") * 86_400
    )
    assert labelled_at.to_series().max() <= end + 60


def test_a_start_can_be_set_and_needs_a_zone() -> None:
    later = simulate(accounts=20, days=5, seed=1, start=datetime(2025, 6, 1, tzinfo=UTC))
    assert later["occurred_at"].min().date() == datetime(2025, 6, 1).date()
    with pytest.raises(ValueError, match="needs a time zone"):
        simulate(accounts=20, days=5, seed=1, start=datetime(2025, 6, 1))


@pytest.mark.parametrize(("count", "days"), [(1, 10), (10, 0), (0, 0), (-3, 5)])
def test_too_small_a_simulation_is_refused(count: int, days: int) -> None:
    with pytest.raises(ValueError, match="at least 2 accounts and 1 day"):
        simulate(accounts=count, days=days, seed=0)
