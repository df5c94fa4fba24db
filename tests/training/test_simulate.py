"""The simulator: what its docstrings say about accounts, frauds and labels holds in its frames."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from app.learner.spec import DatasetSpec
from app.simulator.frauds import IMPOSSIBLE_KMH, KINDS
from app.simulator.merchants import COUNTRIES, distances_km_LL
from app.simulator.simulate import CLEARING_DAYS, START, simulate

DAYS = 90
RESALE = ["electronics", "gift_card", "jewellery", "travel", "marketplace"]


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return simulate(accounts=1000, days=DAYS, seed=5)


@pytest.fixture(scope="module")
def honest(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("fraud_kind").is_null())


def frauds(frame: pl.DataFrame, kind: str) -> pl.DataFrame:
    return frame.filter(pl.col("fraud_kind") == kind)


def accounts(honest: pl.DataFrame) -> pl.DataFrame:
    """Habits of the accounts with enough transactions to have some."""
    return (
        honest.group_by("account_id", maintain_order=True)
        .agg(
            rate=pl.len() / DAYS,
            typical=pl.col("amount").median(),
            spread=pl.col("amount").log().std(),
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


def test_the_columns_are_those_of_the_built_in_spec(frame: pl.DataFrame) -> None:
    spec = DatasetSpec.load("simulated")
    named = {*spec.columns.model_dump(exclude_none=True).values(), spec.label.delay_column}
    named |= {*spec.categorical.values(), *spec.numeric.values()}
    assert set(frame.columns) == named
    assert frame.schema["occurred_at"] == pl.Datetime("us", "UTC")
    assert frame.schema["is_fraud"] == pl.Boolean
    required = set(named) - {
        "distance_from_home_km",
        "device_age_days",
        "is_fraud",
        "fraud_kind",
        "label_delay_days",
    }
    assert frame.select(required).null_count().sum_horizontal().item() == 0


def test_values_are_possible_and_sorted_by_time(frame: pl.DataFrame) -> None:
    assert frame["occurred_at"].is_sorted()
    assert frame["occurred_at"].min() >= START
    assert (frame["occurred_at"].max() - START).days < DAYS
    assert frame["transaction_id"].is_unique().all()
    assert frame["amount"].min() >= 0.01
    assert (frame["amount"] * 100 - (frame["amount"] * 100).round()).abs().max() < 1e-4
    assert frame["device_age_days"].min() >= 0
    online = frame["channel"] == "online"
    in_person = frame["channel"].is_in(["card_present", "atm"])
    assert (frame["device_age_days"].is_not_null() == online).all()
    assert (frame["distance_from_home_km"].is_not_null() == in_person).all()


def test_an_account_has_one_currency(frame: pl.DataFrame) -> None:
    assert frame.group_by("account_id").agg(pl.col("currency").n_unique())["currency"].max() == 1


def test_frauds_are_about_one_in_a_hundred_and_most_accounts_have_none(
    frame: pl.DataFrame,
) -> None:
    is_fraud = frame["fraud_kind"].is_not_null()
    assert 0.005 <= is_fraud.mean() <= 0.01
    defrauded = frame.filter(is_fraud)["account_id"].n_unique()
    assert 0.05 < defrauded / frame["account_id"].n_unique() < 0.5


def test_every_kind_of_fraud_is_a_noticeable_share(frame: pl.DataFrame) -> None:
    known = frame["fraud_kind"].drop_nulls()
    shares = dict(known.value_counts(normalize=True).iter_rows())
    assert set(shares) == set(KINDS[1:])
    assert min(shares.values()) > 0.05
    assert max(shares.values()) < 0.55


def test_even_a_small_simulation_has_every_kind_of_fraud() -> None:
    kinds = simulate(accounts=100, days=30, seed=0)["fraud_kind"].drop_nulls().unique()
    assert set(kinds) == set(KINDS[1:])


@pytest.mark.parametrize(("count", "days"), [(2, 1), (2, 400), (300, 1), (20, 5)])
def test_of_the_smallest_sizes_no_transaction_lies_outside_what_was_asked_for(
    count: int, days: int
) -> None:
    found = simulate(accounts=count, days=days, seed=0)
    assert 0 < found["account_id"].n_unique() <= count
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
    assert 0.02 < (per_account < 0.15).mean() < 0.2


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

    hours = frame["occurred_at"].dt.hour()
    by_hour = np.bincount(hours.filter(frame["fraud_kind"].is_null()), minlength=24)
    stolen_by_hour = np.bincount(stolen["occurred_at"].dt.hour(), minlength=24)
    population, thief = by_hour / by_hour.sum(), stolen_by_hour / stolen_by_hour.sum()
    assert np.abs(population - thief).sum() / 2 < 0.25

    span = stolen.group_by("account_id").agg(
        pl.col("occurred_at").max() - pl.col("occurred_at").min()
    )["occurred_at"]
    assert (span.dt.total_days() <= 11).mean() > 0.5


def test_a_takeover_leaves_the_holder_spending(frame: pl.DataFrame, honest: pl.DataFrame) -> None:
    window = (
        frauds(frame, "takeover")
        .group_by("account_id")
        .agg(first=pl.col("occurred_at").min(), last=pl.col("occurred_at").max())
    )
    between = honest.join(window, on="account_id").filter(
        pl.col("occurred_at").is_between("first", "last")
    )
    assert between["account_id"].n_unique() > 0.7 * len(window)


def test_card_testing_is_a_burst_of_small_charges_before_a_large_one(frame: pl.DataFrame) -> None:
    tests = frauds(frame, "card_testing")
    small = tests.filter(pl.col("amount") <= 5)
    large = tests.filter(pl.col("amount") > 5)
    bursts = small.group_by("account_id", "merchant_id").agg(
        size=pl.len(), length=pl.col("occurred_at").max() - pl.col("occurred_at").min()
    )
    single = bursts.filter(pl.col("size") <= 12)
    assert len(single) > 0.7 * len(bursts)
    assert single["length"].median().total_seconds() <= 2400
    assert bursts["size"].median() >= 4
    assert small["merchant_id"].n_unique() <= 6
    assert set(tests["channel"]) == {"online"}
    assert large["amount"].min() >= 60
    assert large["merchant_category"].is_in(RESALE).all()
    begins = small.group_by("account_id").agg(begin=pl.col("occurred_at").min())
    followed = large.join(begins, on="account_id").filter(pl.col("occurred_at") > pl.col("begin"))
    assert len(followed) > 0.95 * len(large)


def test_small_bursts_of_honest_holders_exist_too(honest: pl.DataFrame) -> None:
    small = honest.filter((pl.col("channel") == "online") & (pl.col("amount") < 10))
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


def test_a_large_amount_is_large_for_its_account_and_usual_for_the_largest(
    frame: pl.DataFrame, honest: pl.DataFrame
) -> None:
    typical = honest.group_by("account_id").agg(typical=pl.col("amount").median())
    large = frauds(frame, "large_amount").join(typical, on="account_id")
    assert (large["amount"] / large["typical"]).median() > 6
    assert large["merchant_category"].is_in(RESALE).all()
    assert (honest["amount"] > large["amount"].median()).sum() > 5 * len(large)


def kilometres() -> dict[tuple[str, str], float]:
    between_LL = distances_km_LL()
    codes = [country.code for country in COUNTRIES]
    return {
        (a, b): float(between_LL[i, j]) for i, a in enumerate(codes) for j, b in enumerate(codes)
    }


def speeds(frame: pl.DataFrame, kind: str | None) -> list[float]:
    """Implied km/h between consecutive payments in person of honest holders and of one kind."""
    chosen = pl.col("fraud_kind").is_null() | pl.col("fraud_kind").eq_missing(kind)
    rows = (
        frame.filter(pl.col("channel").is_in(["card_present", "atm"]) & chosen)
        .with_columns(
            before=pl.col("country").shift().over("account_id"),
            kind_before=pl.col("fraud_kind").shift().over("account_id"),
            hours=pl.col("occurred_at").diff().over("account_id").dt.total_seconds() / 3600,
        )
        .filter(pl.col("before") != pl.col("country"), pl.col("kind_before").is_null())
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
    outsized = honest.filter(pl.col("amount") > 8 * pl.col("amount").median().over("account_id"))
    assert len(outsized) > 200


def test_spending_rises_after_salary_days(honest: pl.DataFrame) -> None:
    by_day = honest.group_by(pl.col("occurred_at").dt.day()).len().sort("occurred_at")["len"]
    quiet = by_day[7:13].mean()
    assert by_day[24:27].mean() > 1.05 * quiet


def test_reports_of_fraud_come_late_and_some_never(frame: pl.DataFrame) -> None:
    old = frame.filter(pl.col("occurred_at") < pl.lit(START).dt.offset_by("60d"))
    reported = old.filter(pl.col("is_fraud"))
    assert 3 < reported["label_delay_days"].median() < 6
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
    known = older.drop_nulls("is_fraud").select(
        pl.col("occurred_at").dt.epoch("s") + pl.col("label_delay_days") * 86_400
    )
    assert known.to_series().max() <= end + 60


def test_a_start_can_be_given_and_needs_a_zone() -> None:
    later = simulate(accounts=20, days=5, seed=1, start=datetime(2025, 6, 1, tzinfo=UTC))
    assert later["occurred_at"].min().date() == datetime(2025, 6, 1).date()
    with pytest.raises(ValueError, match="needs a time zone"):
        simulate(accounts=20, days=5, seed=1, start=datetime(2025, 6, 1))


@pytest.mark.parametrize(("count", "days"), [(1, 10), (10, 0), (0, 0), (-3, 5)])
def test_too_small_a_simulation_is_refused(count: int, days: int) -> None:
    with pytest.raises(ValueError, match="at least 2 accounts and 1 day"):
        simulate(accounts=count, days=days, seed=0)
