"""What people would expect of the scores in any world, and what a service answers there."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import httpx

from tests.expectations.scenes import AMOUNTS, FARM, ordered, stream, takeover
from tests.expectations.worlds import Payment, Person, World, odds, waits

Score = dict[str, Any]
Answers = dict[str, list[Score]]

BATCH = 1000
MOST_WAITING = 0.02
HONEST = (
    "ordinary",
    "sale",
    "first wages",
    "wages",
    "festival",
    "office address",
    "family card",
    "bare traveller",
    "new phone",
    "rent",
    "refund",
)


class Expectation(NamedTuple):
    """A sentence, and whether it holds of the answers, with what they were in words."""

    name: str
    sentence: str
    judge: Callable[[Answers], tuple[bool, str]]


def observe(client: httpx.Client, world: World) -> Answers:
    """Post everything that happens in a world, in order, and return the scores of each scene."""
    past, later = stream(world)
    scores = {
        score["transaction_id"]: score
        for payments in (ordered(past), ordered(later))
        for first in range(0, len(payments), BATCH)
        for score in post(client, payments[first : first + BATCH])
    }
    answers: Answers = {}
    for scenes in (past, later):
        for name, payments in scenes.items():
            answers.setdefault(name, []).extend(
                scores[payment["transaction_id"]] for payment in payments
            )
    answers |= reasons(client, world)
    return answers


def post(client: httpx.Client, payments: list[Payment]) -> list[Score]:
    """The scores of payments; raises ValueError where the service has none."""
    answer = client.post("/v1/transactions/batch", json={"transactions": payments})
    results: list[Score] = answer.raise_for_status().json()["results"]
    refused = [result for result in results if "probability" not in result]
    if refused:
        raise ValueError(f"a payment was not scored: {refused[0]}")
    return results


def reasons(client: httpx.Client, world: World) -> Answers:
    """The reasons that come with a score, beside those of `/reasons` afterwards."""
    scored, explained = [], []
    for name, size in (("singly", 1), ("at-once", 12)):
        victim = Person(world, f"victim-{name}")
        post(client, sorted(victim.past(), key=lambda payment: payment["occurred_at"]))
        sent = [takeover(victim, 21, 60 * i) for i in range(12)]
        for first in range(0, len(sent), size):
            scored.extend(post(client, sent[first : first + size]))
        for payment in sent:
            answer = client.get(f"/v1/transactions/{payment['transaction_id']}/reasons")
            explained.append(answer.raise_for_status().json())
    return {"scored reasons": scored, "later reasons": explained}


def in_words(scores: list[Score], every: int = 1) -> str:
    return ", ".join(f"{score['probability']:.4f} {score['outcome']}" for score in scores[::every])


def _rising(scene: str) -> Callable[[Answers], tuple[bool, str]]:
    def judge(answers: Answers) -> tuple[bool, str]:
        scores = answers[scene]
        rises = all(odds(more) >= 0.8 * odds(less) for less, more in pairwise(scores))
        return rises, in_words(scores)

    return judge


def _last_waits(scene: str) -> Callable[[Answers], tuple[bool, str]]:
    def judge(answers: Answers) -> tuple[bool, str]:
        return waits(answers[scene][-1]), in_words(answers[scene][-1:])

    return judge


def _mostly_waits(scene: str, after: int, share: float) -> Callable[[Answers], tuple[bool, str]]:
    def judge(answers: Answers) -> tuple[bool, str]:
        rest = answers[scene][after:]
        count = sum(map(waits, rest))
        words = in_words(answers[scene], every=max(1, len(answers[scene]) // 6))
        return count >= share * len(rest), f"{count} of {len(rest)}; {words}"

    return judge


def _no_habit(answers: Answers) -> tuple[bool, str]:
    scores = answers["takeovers"]
    kept = odds(scores[-1]) >= 0.5 * max(map(odds, scores))
    return kept and scores[-1]["outcome"] == "decline", in_words([*scores[::6], scores[-1]])


def _riskier_money(answers: Answers) -> tuple[bool, str]:
    [own], [weak] = answers["own currency"], answers["weak currency"]
    return odds(own) >= 2 * odds(weak), f"{in_words([own])} against {in_words([weak])}"


def _same_reasons(answers: Answers) -> tuple[bool, str]:
    pairs = list(zip(answers["scored reasons"], answers["later reasons"], strict=True))
    differ = [
        score["transaction_id"]
        for score, later in pairs
        if _shares(score) != _shares(later)[: len(score["reasons"])]
    ]
    return not differ, f"{len(differ)} of {len(pairs)} differ: {differ[:3]}"


def _shares(answer: Score) -> list[tuple[str, float]]:
    return [(reason["code"], round(reason["share"], 3)) for reason in answer["reasons"]]


EURO = f"{AMOUNTS[0]} to {AMOUNTS[-1]:,} euros"

EXPECTATIONS = (
    Expectation(
        "goods rise",
        f"Goods bought online, on one's own device, for {EURO}: dearer is never less risky.",
        _rising("goods"),
    ),
    Expectation(
        "goods held up",
        "Goods for a million, by who spends 30 at a time, wait.",
        _last_waits("goods"),
    ),
    Expectation(
        "till rises",
        f"At the usual shop's till {EURO} are never less risky for being more.",
        _rising("till"),
    ),
    Expectation("till held up", "A million at the usual shop's till waits.", _last_waits("till")),
    Expectation(
        "bare goods rise",
        "Without attributes the risk does not fall with the amount either.",
        _rising("bare goods"),
    ),
    Expectation(
        "bare goods held up", "Without attributes a million waits too.", _last_waits("bare goods")
    ),
    Expectation(
        "own device burst",
        "Of sixty payments in an hour, by who makes one a day, half after the twentieth wait.",
        _mostly_waits("own device burst", 20, 0.5),
    ),
    Expectation(
        "new device burst",
        "Of 200 payments in 40 minutes by a new device, nine of ten after the tenth wait.",
        _mostly_waits("new device burst", 10, 0.9),
    ),
    Expectation(
        "card testing",
        "Of forty charges of 1.00 in forty seconds, nine of ten after the tenth wait.",
        _mostly_waits("card testing", 10, 0.9),
    ),
    Expectation(
        "farm",
        f"Of {FARM} new accounts of one device and address, four of five after the twentieth wait.",
        _mostly_waits("farm", 20, 0.8),
    ),
    Expectation(
        "takeovers",
        "What was held up becomes no habit: the thirtieth try at a takeover is still declined.",
        _no_habit,
    ),
    Expectation(
        "overseas",
        "Half an hour after the till at home a card is held up overseas, without attributes too.",
        _last_waits("overseas"),
    ),
    Expectation(
        "bare takeover",
        "A takeover at three at night from abroad waits, without attributes too.",
        _last_waits("bare takeover"),
    ),
    Expectation(
        "money",
        "5,000 units are riskier in the account's own money than in a far weaker one.",
        _riskier_money,
    ),
    Expectation(
        "reasons",
        "The reasons that come with a score are those of later, one by one and in a batch.",
        _same_reasons,
    ),
)
