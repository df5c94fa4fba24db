"""Worlds in which people pay: their countries, money, shops and hours, and a past for each person.

Amounts are stated in euros and paid in the world's currency. Hours are those of its own clock.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any, NamedTuple

Payment = dict[str, Any]

PAST_DAYS, PAST_PAYMENTS = 40, 30


class Habit(NamedTuple):
    """A kind of purchase: its median amount, in euros, the spread of its logarithm, and how often
    it is made beside the others, at how many shops.
    """

    category: str
    channel: str
    median: float
    spread: float
    often: float
    shops: int


@dataclass(frozen=True)
class World:
    """A country at home, where its people go, what they pay with, and what thieves buy there.

    `units` of `currency` are about one euro; one unit of `weak` is worth far less. `hours` is what
    the clock is ahead of UTC. `entities` says whether callers send devices, addresses and cards.
    """

    name: str
    home: str
    abroad: str
    holiday: str
    currency: str
    weak: str
    units: float
    hours: float
    today: datetime
    habits: tuple[Habit, ...]
    resold: str
    lodging: str
    digital: str
    decimals: int = 2
    entities: bool = True

    def at(self, day: int, hour: float, second: float = 0) -> datetime:
        """A moment by the clock of the world; day 0 follows the past of its people."""
        midnight = self.today.replace(tzinfo=timezone(timedelta(hours=self.hours)))
        return midnight + timedelta(days=day, hours=hour, seconds=second)

    def price(self, euros: float) -> float:
        return round(max(euros * self.units, 10.0**-self.decimals), self.decimals)

    def shop(self, category: str, country: str, number: int = 0) -> str:
        return f"{self.name}-{country}-{category}-{number}"


@dataclass
class Person:
    """An account with its habits, device, card and address. Equal seeds have equal pasts.

    `bare` people pay through a caller that sends neither attributes nor entities.
    """

    world: World
    account: str
    seed: object = None
    bare: bool = False
    entities: bool | None = None
    larger: float = 1.0
    past_days: int = PAST_DAYS
    past_payments: int = PAST_PAYMENTS
    since: datetime = field(init=False)
    device: str = field(init=False)
    random: Random = field(init=False)
    sent: int = 0

    def __post_init__(self) -> None:
        self.random = Random(f"{self.world.name} {self.seed or self.account}")
        self.since = self.world.at(-200, 12)
        self.account = f"{self.world.name}-{self.account}"
        self.device = f"{self.account}-phone"
        self.entities = self.world.entities if self.entities is None else self.entities
        self.shops = {
            habit.category: self.random.sample(range(2 * habit.shops), habit.shops)
            for habit in self.world.habits
        }

    def pay(
        self,
        at: datetime,
        euros: float,
        category: str,
        channel: str = "online",
        country: str | None = None,
        shop: int | str = 0,
        km: float = 4.0,
        device_age_days: float | None = None,
        **fields: Any,
    ) -> Payment:
        """A payment, with what its channel knows: a device online, a distance in person."""
        world = self.world
        country = country or world.home
        merchant = shop if isinstance(shop, str) else world.shop(category, country, shop)
        self.sent += 1
        payment: Payment = {
            "transaction_id": f"{self.account}-{self.sent}",
            "account_id": self.account,
            "occurred_at": at.astimezone(UTC).isoformat(),
            "amount": world.price(euros),
            "currency": world.currency,
            "merchant_id": merchant,
            "merchant_category": category,
            "channel": channel,
            "country": country,
        }
        if self.bare:
            return payment | fields
        if channel == "online":
            age = (at - self.since) / timedelta(days=1)
            payment["attributes"] = {
                "device_age_days": round(age if device_age_days is None else device_age_days, 1)
            }
        else:
            payment["attributes"] = {"distance_from_home_km": round(km, 1)}
        if self.entities:
            payment["card_fingerprint"] = f"{self.account}-card"
            if channel == "online":
                payment["device_id"] = self.device
                payment["ip_address"] = _address(self.account)
                payment["email"] = f"{self.account}@example.com"
        return payment | fields

    def usual(self, at: datetime, habit: Habit | None = None, **changes: Any) -> Payment:
        """One of the purchases that this person makes all the time."""
        habit = habit or self._chosen(self.world.habits)
        euros = self.larger * habit.median * self.random.lognormvariate(0, habit.spread)
        shop = self.random.choice(self.shops[habit.category])
        km = self.random.lognormvariate(1.5, 0.7)
        return self.pay(
            at,
            euros,
            habit.category,
            **{"channel": habit.channel, "shop": shop, "km": km, **changes},
        )

    def usual_online(self, at: datetime, **changes: Any) -> Payment:
        return self.usual(at, self._chosen(online(self.world)), **changes)

    def usual_in_person(self, at: datetime, **changes: Any) -> Payment:
        return self.usual(at, self._chosen(in_person(self.world)), **changes)

    def past(self) -> Iterator[Payment]:
        """The purchases before day 0, between nine and nine."""
        for _ in range(self.past_payments):
            day = -1 - int(self.random.random() * self.past_days)
            yield self.usual(self.world.at(day, self.random.uniform(9, 21)))

    def _chosen(self, habits: tuple[Habit, ...]) -> Habit:
        return self.random.choices(habits, [habit.often for habit in habits])[0]


def online(world: World) -> tuple[Habit, ...]:
    return tuple(habit for habit in world.habits if habit.channel == "online")


def in_person(world: World) -> tuple[Habit, ...]:
    return tuple(habit for habit in world.habits if habit.channel == "card_present")


def favourite(habits: tuple[Habit, ...]) -> Habit:
    return max(habits, key=lambda habit: habit.often)


def odds(score: dict[str, Any]) -> float:
    probability = min(max(float(score["probability"]), 1e-9), 1 - 1e-9)
    return probability / (1 - probability)


def waits(score: dict[str, Any]) -> bool:
    return bool(score["outcome"] != "approve")


def waiting_share(scores: list[dict[str, Any]]) -> float:
    return sum(map(waits, scores)) / len(scores) if scores else math.nan


def _address(name: str) -> str:
    """An address of a household, from the range for documentation."""
    number = Random(name).getrandbits(64)
    return f"2001:db8:{number >> 48 & 0xFFFF:x}:{number >> 32 & 0xFFFF:x}::{number & 0xFFFF:x}"


WORLDS = (
    World(
        name="hamburg",
        home="DE",
        abroad="US",
        holiday="IT",
        currency="EUR",
        weak="JPY",
        units=1.0,
        hours=1.0,
        today=datetime(2025, 11, 10),
        habits=(
            Habit("grocery", "card_present", 28, 0.5, 10, 3),
            Habit("restaurant", "card_present", 24, 0.5, 5, 4),
            Habit("transport", "card_present", 8, 0.5, 4, 1),
            Habit("fuel", "card_present", 45, 0.3, 2, 2),
            Habit("marketplace", "online", 32, 0.6, 4, 2),
            Habit("fashion", "online", 50, 0.5, 1, 2),
            Habit("food_delivery", "online", 26, 0.4, 2, 1),
        ),
        resold="electronics",
        lodging="hotel",
        digital="gaming",
    ),
    World(
        name="pune",
        home="IN",
        abroad="GB",
        holiday="TH",
        currency="INR",
        weak="IDR",
        units=40.0,
        hours=5.5,
        today=datetime(2025, 3, 3),
        habits=(
            Habit("grocery", "card_present", 18, 0.6, 8, 4),
            Habit("transport", "card_present", 5, 0.5, 6, 2),
            Habit("restaurant", "card_present", 14, 0.6, 4, 3),
            Habit("health", "card_present", 22, 0.5, 2, 1),
            Habit("food_delivery", "online", 12, 0.4, 6, 2),
            Habit("marketplace", "online", 30, 0.7, 5, 2),
            Habit("digital_goods", "online", 6, 0.4, 3, 1),
        ),
        resold="jewellery",
        lodging="hotel",
        digital="digital_goods",
        entities=False,
    ),
    World(
        name="sapporo",
        home="JP",
        abroad="BR",
        holiday="KR",
        currency="JPY",
        weak="IDR",
        units=170.0,
        hours=9.0,
        today=datetime(2025, 7, 21),
        habits=(
            Habit("grocery", "card_present", 15, 0.5, 12, 2),
            Habit("restaurant", "card_present", 12, 0.4, 8, 5),
            Habit("transport", "card_present", 4, 0.4, 8, 1),
            Habit("household", "card_present", 40, 0.6, 2, 2),
            Habit("marketplace", "online", 28, 0.6, 4, 1),
            Habit("entertainment", "card_present", 20, 0.5, 2, 2),
            Habit("fashion", "online", 60, 0.5, 2, 2),
        ),
        resold="gift_card",
        lodging="travel",
        digital="gaming",
        decimals=0,
    ),
    World(
        name="recife",
        home="BR",
        abroad="ZA",
        holiday="MX",
        currency="BRL",
        weak="KRW",
        units=5.0,
        hours=-3.0,
        today=datetime(2025, 5, 12),
        # Categories by codes of ISO 18245, as card schemes send them: none was trained on.
        habits=(
            Habit("5411", "card_present", 25, 0.5, 9, 3),
            Habit("5814", "card_present", 9, 0.5, 7, 4),
            Habit("5541", "card_present", 35, 0.3, 3, 2),
            Habit("5912", "card_present", 15, 0.6, 3, 2),
            Habit("5399", "online", 27, 0.7, 5, 2),
            Habit("4121", "online", 5, 0.4, 6, 1),
        ),
        resold="5732",
        lodging="7011",
        digital="5816",
    ),
)
