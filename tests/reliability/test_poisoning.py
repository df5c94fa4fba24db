"""Poisoned labels: what they cost the account that learns from them, and no other account.

Axes: N rows of the file, E episodes (an account at a cut), K its support, Q its queries, A asked
rows of all episodes.
"""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import cycle, repeat
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from app.db.database import Database
from app.keys import service as keys
from app.learner.adaptation import LARGEST_MOVE, SUPPORT_LIMIT
from app.learner.checkpoint import Checkpoint
from app.learner.differentiable.adaptation import Learner, pad_supports
from app.learner.differentiable.network import Encoded
from app.learner.differentiable.saving import learner_of
from app.learner.states import Floats
from app.learner.transaction import DAY_US
from app.main import create_app
from app.settings import SHIPPED_MODEL, Settings
from app.training.dataset import UNLABELLED
from app.training.episodes import Episode, Rows, collate
from app.training.evaluate import average_precision
from tests.api.requests import client_of, label, posted
from tests.reliability.conftest import Note
from tests.training.files import rows_of, simulated_source

# Of the labels that an account learns from, how many are wrong, and what that may cost of average
# precision.
MOST_LOST = {0.05: 0.04, 0.1: 0.05, 0.2: 0.06, 0.5: 0.08}
TOGETHER = 64

Attack = Callable[["Accounts", list[Floats]], list[NDArray[np.intp]]]


class Answered(NamedTuple):
    """What the copies of E accounts, and the base, make of what each is asked."""

    is_fraud_E: list[NDArray[np.bool_]]
    served_E: list[Floats]
    base_E: list[Floats]
    weight_E: list[float]

    def own(self, logit_E: list[Floats]) -> float:
        """The mean of the accounts' own average precisions."""
        return float(np.mean([*map(average_precision, self.is_fraud_E, logit_E)]))

    def pooled(self, logit_E: list[Floats]) -> float:
        """The average precision of all that they are asked, in one queue."""
        return average_precision(np.concatenate(self.is_fraud_E), np.concatenate(logit_E))

    @property
    def floor_E(self) -> list[Floats]:
        """The worst that any labels could do: each fraud moved down and all else up, as far as
        gate and bound let them."""
        return [
            base_Q + np.where(is_fraud_Q, -1, 1) * weight * LARGEST_MOVE
            for is_fraud_Q, base_Q, weight in zip(
                self.is_fraud_E, self.base_E, self.weight_E, strict=True
            )
        ]


class Precision(NamedTuple):
    """Average precision with clean labels, with wrong ones, and with none."""

    clean: float
    wrong: float
    none: float


class Measured(NamedTuple):
    """Within each account, on average, and of all their payments in one queue."""

    within: Precision
    queue: Precision

    @classmethod
    def mean(cls, clean: list[Answered], poisoned: list[Answered]) -> "Measured":
        """Of several cuts."""
        found = [
            [(rank(was, was.served_E), rank(one, one.served_E), rank(one, one.base_E))]
            for rank in (Answered.own, Answered.pooled)
            for was, one in zip(clean, poisoned, strict=True)
        ]
        within, queue = np.array(found).reshape(2, len(clean), 3).mean(1).tolist()
        return cls(Precision(*within), Precision(*queue))


class Accounts(NamedTuple):
    """Accounts at a cut: what they have learned by then, and what they are asked from then on."""

    learner: Learner
    rows: Rows
    episodes: list[Episode]

    @classmethod
    def of(cls, learner: Learner, rows: Rows, cut_days: int) -> "Accounts":
        """Those with a label by then and a fraud to come."""
        cut_us = int(rows.time_us_N.min()) + cut_days * DAY_US
        episodes = []
        for account in np.unique(rows.account_N[rows.is_fraud_N == 1]):
            own = np.flatnonzero(rows.account_N == account)
            query = own[(rows.time_us_N[own] >= cut_us) & (rows.is_fraud_N[own] != UNLABELLED)]
            if (rows.is_fraud_N[query] == 1).any():
                support = rows.support_of(int(query[0]), SUPPORT_LIMIT)
                if len(support):
                    episodes.append(Episode(support, query))
        return cls(learner, rows, episodes)

    def poisoned(self, flipped: list[NDArray[np.intp]]) -> "Accounts":
        """The same accounts with these labels of each the other way round: what they learn from
        is chosen anew, by what the labels say."""
        is_fraud_N = self.rows.is_fraud_N.copy()
        for chosen in flipped:
            is_fraud_N[chosen] = 1 - is_fraud_N[chosen]
        rows = replace(self.rows, is_fraud_N=is_fraud_N)
        return self._replace(
            rows=rows,
            episodes=[
                Episode(rows.support_of(int(query[0]), SUPPORT_LIMIT), query)
                for _, query in self.episodes
            ],
        )

    def is_fraud(self, chosen: NDArray[np.intp]) -> NDArray[np.bool_]:
        is_fraud: NDArray[np.bool_] = self.rows.is_fraud_N[chosen] == 1
        return is_fraud

    @torch.inference_mode()
    def answered(self, truth: Rows) -> Answered:
        served_E, base_E, weight_E = [], [], []
        for first in range(0, len(self.episodes), TOGETHER):
            some = self.episodes[first : first + TOGETHER]
            batch = collate(self.rows, some)
            queries = self.learner.network.encode(batch.query_BQF, batch.query_day_BQ)
            copies = self.learner.learn(batch.support)
            base_BQ = self.learner.base_logits(queries)
            served_BQ = self.learner.served_logits(queries, copies, base_BQ)
            for b, episode in enumerate(some):
                asked = slice(len(episode.query))
                served_E.append(served_BQ[b, asked].double().numpy())
                base_E.append(base_BQ[b, asked].double().numpy())
            weight_E += copies.weight_B.tolist()
        is_fraud_E = [truth.is_fraud_N[episode.query] == 1 for episode in self.episodes]
        return Answered(is_fraud_E, served_E, base_E, weight_E)

    @torch.inference_mode()
    def harm(self, episode: Episode) -> Floats:
        """How much closer frauds and the rest come, by the label that is flipped: [K].

        As somebody would reckon it who knew what the account will be asked.
        """
        count = len(episode.support)
        known = self.rows.support(episode.support)
        flipped_KK = known.is_fraud_K ^ np.eye(count, dtype=bool)
        variants = [known, *(known._replace(is_fraud_K=one) for one in flipped_KK)]
        copies = self.learner.learn(pad_supports(variants, self.rows.features_NF.shape[1]))
        batch = collate(self.rows, [episode])
        encoded = self.learner.network.encode(batch.query_BQF, batch.query_day_BQ)
        queries = Encoded(*(part.expand(count + 1, *part.shape[1:]) for part in encoded))
        served_VQ = self.learner.served_logits(queries, copies).numpy()
        is_fraud_Q = self.is_fraud(episode.query)
        gap_V = served_VQ[:, is_fraud_Q].mean(1) - served_VQ[:, ~is_fraud_Q].mean(1)
        harm_K: Floats = gap_V[0] - gap_V[1:]
        return harm_K


def first(episode: Episode, order: NDArray[np.intp], share: float) -> NDArray[np.intp]:
    """That share of an account's labels, rounded up, in an order."""
    return episode.support[order][: math.ceil(share * len(episode.support))]


@pytest.fixture(scope="module")
def accounts(torture: bool, tmp_path_factory: pytest.TempPathFactory) -> list[Accounts]:
    """Simulated accounts that the shipped checkpoint has never seen, at one cut or at several."""
    simulated, cuts = (1000, (60, 90, 120)) if torture else (300, (90,))
    learner = learner_of(Checkpoint.load(SHIPPED_MODEL))
    source = simulated_source(tmp_path_factory.mktemp("data"), simulated, 180, seed=7)
    rows = rows_of(source.dataset)
    return [Accounts.of(learner, rows, cut) for cut in cuts]


@pytest.fixture(scope="module")
def harms(accounts: list[Accounts]) -> list[list[Floats]]:
    """The harm of each account's labels, at each cut."""
    return [[some.harm(episode) for episode in some.episodes] for some in accounts]


def at_random(some: Accounts, harm_E: list[Floats]) -> list[NDArray[np.intp]]:
    random = np.random.default_rng(0)
    return [random.permutation(len(episode.support)) for episode in some.episodes]


def frauds_first(some: Accounts, harm_E: list[Floats]) -> list[NDArray[np.intp]]:
    """As somebody would who wants more of the same to pass: then the newest of the rest."""
    return [np.argsort(~some.is_fraud(one.support), kind="stable") for one in some.episodes]


def most_harmful_first(some: Accounts, harm_E: list[Floats]) -> list[NDArray[np.intp]]:
    """As somebody could who knew the model and what is to come: no attacker has more."""
    return [np.argsort(-harm_K, kind="stable") for harm_K in harm_E]


@pytest.mark.parametrize(
    "attack", [at_random, frauds_first, most_harmful_first], ids=lambda one: one.__name__
)
def test_poisoned_labels_cost_an_account_no_more_than_they_may(
    accounts: list[Accounts], harms: list[list[Floats]], attack: Attack, noted: Note
) -> None:
    clean = [some.answered(some.rows) for some in accounts]
    orders = [attack(some, harm_E) for some, harm_E in zip(accounts, harms, strict=True)]
    measured = {}
    for share, most in MOST_LOST.items():
        poisoned = [
            some.poisoned([*map(first, some.episodes, order, repeat(share))]).answered(some.rows)
            for some, order in zip(accounts, orders, strict=True)
        ]
        # By design: no answer is further from the base than gate and bound let it, so that
        # accounts are ranked no worse than if each answer was moved the wrong way by all of that.
        for one in poisoned:
            answers = zip(one.served_E, one.base_E, one.weight_E, strict=True)
            for served_Q, base_Q, weight in answers:
                assert np.abs(served_Q - base_Q).max() <= weight * LARGEST_MOVE + 1e-5
            assert one.own(one.served_E) >= one.own(one.floor_E)
        # As measured, with some room: behind clean labels, and behind none at all.
        measured[share] = Measured.mean(clean, poisoned)
        for clean_labels, wrong_labels, no_labels in measured[share]:
            assert max(clean_labels, no_labels) - wrong_labels <= most
    within, _ = measured[max(measured)]
    assert within.clean - within.wrong > 0.005, "no attack"
    where = ("within an account", "in one queue")
    for name, figures in zip(where, zip(*measured.values(), strict=True), strict=True):
        told = ", ".join(
            f"{share:.0%} wrong {one.wrong:.3f}"
            for share, one in zip(measured, figures, strict=True)
        )
        noted(
            f"poisoned labels, {attack.__name__.replace('_', ' ')}: average precision {name}",
            "-",
            f"clean {figures[0].clean:.3f}, no labels {figures[0].none:.3f}; {told}; "
            f"{sum(len(one.served_E) for one in clean)} accounts",
        )


NOW = datetime.now(UTC)
# Of the shipped checkpoint: younger labels are no evidence about their merchant.
DELAY_DAYS = 14
# After what is posted now is known: a payment may come from a clock that is ahead.
AHEAD_DAYS = -0.2
SHARED = ("gadgets", "grocer")


def payments(account: str, many: int, days_ago: float, days: float) -> list[dict[str, Any]]:
    """Payments of so many days, half of them where everybody pays."""
    return [
        posted(
            f"{account}-{days_ago:g}-{n}",
            account_id=account,
            occurred_at=(NOW - timedelta(days=days_ago - days * n / many)).isoformat(),
            amount=20 + 37 * n % 400,
            merchant_id=SHARED[n % 4] if n % 4 < 2 else f"shop-of-{account}",
        )
        for n in range(many)
    ]


class Life:
    """A tenant's weeks: everybody pays and is labelled, and one account is poisoned, or is not."""

    def __init__(self, client: httpx.AsyncClient, accounts: int, many: int) -> None:
        self.client = client
        self.others = [f"account-{n}" for n in range(accounts)]
        self.many = many
        self.changes = 0

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        answer = await self.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def score(self, bodies: list[dict[str, Any]]) -> list[Any]:
        """What was answered, but for the moment of the answer."""
        done = await self.post("/v1/transactions/batch", {"transactions": bodies})
        return [{**one, "evaluated_at": None} for one in done["results"]]

    async def begin(self, days_ago: float) -> None:
        for account in ("victim", *self.others):
            bodies = payments(account, self.many, days_ago, 1.0)
            await self.score(sorted(bodies, key=lambda body: body["occurred_at"]))

    async def poison(self, days_ago: float) -> None:
        """All labels that a stolen key may give the account, to and fro; then it is revoked."""
        made = await self.post("/v1/keys", {"name": "stolen", "scopes": ["label"]})
        headers = {"Authorization": f"Bearer {made['key']}"}
        bodies = payments("victim", self.many, days_ago, 1.0)
        for name in cycle(("legitimate", "fraud")):
            labels = [label(body["transaction_id"], name) for body in bodies]
            answer = await self.client.post(
                "/v1/accounts/victim/labels", json={"labels": labels}, headers=headers
            )
            if answer.status_code == 429:
                break
            assert answer.status_code == 200, answer.text
            self.changes += answer.json()["stored"]
        assert (await self.client.delete(f"/v1/keys/{made['id']}")).status_code == 200

    async def go_on(self, days_ago: float) -> list[Any]:
        """The others learn and are scored: what they were answered, and their copies' digests."""
        seen: list[Any] = []
        for account in self.others:
            labels = [
                label(body["transaction_id"], "fraud" if n % 7 == 0 else "legitimate")
                for n, body in enumerate(payments(account, self.many, days_ago, 1.0)[::3])
            ]
            done = await self.post(f"/v1/accounts/{account}/labels", {"labels": labels})
            seen.append(done["adaptation"])
        return [*seen, *await self.later(AHEAD_DAYS)]

    async def later(self, days_ago: float) -> list[Any]:
        return [
            one
            for account in self.others
            for one in await self.score(payments(account, 8, days_ago, 0.1))
        ]


@pytest.fixture
async def tenants(database_url: str) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two tenants of a service with the shipped checkpoint: the first is never poisoned."""
    app = create_app(Settings(database_url=database_url, device="cpu"))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        database = app.state.service.part(Database)
        made = [await keys.create(database, "tests", tenant=name) for name in ("calm", "hit")]
        yield [await stack.enter_async_context(client_of(app, key)) for key in made]


@pytest.mark.anyio
async def test_a_poisoned_account_changes_no_bit_of_any_other(
    tenants: list[httpx.AsyncClient], torture: bool, noted: Note, database_url: str
) -> None:
    accounts, many = (40, 100) if torture else (4, 25)
    days_ago = DELAY_DAYS - 4.0
    calm, hit = (Life(client, accounts, many) for client in tenants)
    seen = []
    for life in (calm, hit):
        await life.begin(days_ago)
        if life is hit:
            await life.poison(days_ago)
        seen.append(await life.go_on(days_ago))
    assert hit.changes == Settings().labels_per_account
    assert seen[0] == seen[1]
    kind = "postgresql" if "postgresql" in database_url else "sqlite"
    what = f"{hit.changes} labels of one; {len(seen[1])} copies and scores of {accounts} others"
    noted("a poisoned account changes no bit of any other", kind, f"{what}: none differs")


@pytest.mark.anyio
async def test_what_has_matured_crosses_through_merchants_and_is_rolled_back(
    tenants: list[httpx.AsyncClient],
) -> None:
    """Labels of payments older than the delay are evidence about their merchant at once."""
    days_ago = DELAY_DAYS + 4.0
    calm, hit = (Life(client, 4, 25) for client in tenants)
    seen = []
    for life in (calm, hit):
        await life.begin(days_ago)
        bodies = payments("victim", 4, days_ago, 1.0)
        honest = [label(body["transaction_id"], "legitimate") for body in bodies]
        said = await life.post("/v1/accounts/victim/labels", {"labels": honest})
        if life is hit:
            await life.poison(days_ago)
        before = await life.later(AHEAD_DAYS)
        if life is hit:
            back = await life.post("/v1/accounts/victim/rollback", {"revision": said["revision"]})
            assert back["adaptation"]["adapter"] == said["adaptation"]["adapter"]
        seen.append((before, await life.later(2 * AHEAD_DAYS)))
    (calm_before, calm_after), (hit_before, hit_after) = seen
    changed = {
        n % 8 % 4 < len(SHARED)
        for n, (one, other) in enumerate(zip(calm_before, hit_before, strict=True))
        if one != other
    }
    assert changed == {True}
    # Reasons set a payment against earlier ones, which keep the features that they were scored by.
    for one in (*calm_after, *hit_after):
        del one["reasons"]
    assert calm_after == hit_after
