"""Simulated files: who finds frauds out and when, thieves who return, what looks odd and is not."""

from datetime import timedelta

import polars as pl
import pytest

from app.simulator.simulate import simulate

EARLY_DAYS = 3


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return simulate(accounts=1500, days=120, seed=11)


@pytest.fixture(scope="module")
def labelled(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.drop_nulls("is_fraud").with_columns(
        is_early=pl.col("label_delay_days") < EARLY_DAYS
    )


def test_reviews_come_within_hours_and_most_say_legitimate(labelled: pl.DataFrame) -> None:
    early = labelled.filter("is_early", pl.col("label_delay_days") < 1)
    assert early.filter(~pl.col("is_fraud"))["label_delay_days"].median() < 2 / 24
    assert 0.05 < early["is_fraud"].mean() < 0.5
    assert 0.005 < labelled.filter(~pl.col("is_fraud"))["is_early"].mean() < 0.05


def test_only_some_frauds_are_found_early(labelled: pl.DataFrame) -> None:
    share = labelled.filter("is_fraud")["is_early"].mean()
    assert 0.3 < share < 0.7


def test_what_a_reviewer_clears_is_no_fraud(labelled: pl.DataFrame) -> None:
    cleared = labelled.filter("is_early", ~pl.col("is_fraud"))
    assert cleared["fraud_kind"].null_count() == len(cleared)


def test_thieves_return_to_the_same_account_and_shop(frame: pl.DataFrame) -> None:
    returns = frame.filter(pl.col("fraud_kind") == "return")
    first = frame.filter(pl.col("fraud_kind").is_not_null() & (pl.col("fraud_kind") != "return"))
    pair = ["account_id", "merchant_id"]
    before = first.group_by(pair).agg(first=pl.col("occurred_at").min())
    after = returns.join(before, on=pair)
    assert len(returns) > 100
    # The others were kept out before they came to that shop the first time.
    assert len(after) > 0.9 * len(returns)
    assert set(returns["account_id"]) <= set(first["account_id"])
    assert (after["occurred_at"] - after["first"]).min() > timedelta(hours=5)
    opened = frame.filter(pl.col("fraud_kind").is_in(["enumeration", "account_farm"]))
    assert not set(opened["account_id"]) & set(returns["account_id"])


def test_most_attacks_end_soon_after_one_of_their_frauds_is_known(frame: pl.DataFrame) -> None:
    attacks = frame.filter(pl.col("fraud_kind").is_not_null() & (pl.col("fraud_kind") != "return"))
    attack = ["account_id", "fraud_kind"]
    labelled_at = pl.col("occurred_at") + pl.duration(seconds=pl.col("label_delay_days") * 86_400)
    first = attacks.filter("is_fraud").group_by(attack).agg(labelled_at=labelled_at.min())
    late = pl.col("occurred_at") > pl.col("labelled_at") + timedelta(hours=6)
    goes_on = attacks.join(first, on=attack).group_by(attack).agg(late.any().alias("goes_on"))
    # Without an end a quarter of them have a fraud that late.
    assert len(goes_on) > 100
    assert 0 < goes_on["goes_on"].mean() < 0.08


def test_an_account_with_a_fraud_is_likelier_to_have_another(labelled: pl.DataFrame) -> None:
    """A week from a fraud that is known, at least five times as likely as at any other account."""
    reported = labelled.filter("is_fraud").select(
        "account_id",
        labelled_at=pl.col("occurred_at")
        + pl.duration(seconds=pl.col("label_delay_days") * 86_400),
        of=pl.col("occurred_at"),
    )
    pairs = labelled.join(reported, on="account_id").filter(
        pl.col("occurred_at") > pl.col("labelled_at"),
        pl.col("occurred_at") - pl.col("of") < pl.duration(days=7),
    )
    after = pairs.unique("transaction_id")["is_fraud"]
    assert len(after) > 100
    assert after.mean() > 5 * labelled["is_fraud"].mean()


def test_honest_projects_are_large_and_return_to_new_shops(frame: pl.DataFrame) -> None:
    honest = frame.filter(pl.col("fraud_kind").is_null(), pl.col("type") == "payment")
    usual = honest.group_by("account_id").agg(usual=pl.col("amount").median())
    large = honest.join(usual, on="account_id").filter(pl.col("amount") > 10 * pl.col("usual"))
    again = large.group_by("account_id", "merchant_id", "merchant_category").agg(size=pl.len())
    assert (again["size"] >= 3).sum() > 20
