"""What happens in a world: frauds that anybody would name first, and honest days that look odd.

A scene is a list of payments, by a name; all scenes of a world make one stream, in the order of
time, so that accounts and shops are seen by the service as they would be.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from tests.expectations.worlds import (
    Payment,
    Person,
    World,
    favourite,
    in_person,
    online,
)

Scenes = dict[str, list[Payment]]
# The name of a scene, who still lacks a past in it, and payments of it.
Acts = Iterator[tuple[str, Person | None, list[Payment]]]

# Euros, by accounts that spend about 30 at a time.
AMOUNTS = (300, 1_000, 10_000, 100_000, 1_000_000)
FARM = 100

RESIDENTS, COLLEAGUES, SHOPPERS, TRAVELLERS, BUSINESSES = 135, 60, 32, 28, 12


def stream(world: World) -> tuple[Scenes, Scenes]:
    """The pasts of everybody, and what follows, both by scene."""
    past: Scenes = {"ordinary": [], "rent": [], "refund": [], "first wages": []}
    later: Scenes = {}
    for scene in (amounts, velocity, refusals, without_attributes, currencies):
        _add(later, past, scene(world))
    for group in (residents, colleagues, shoppers, travellers, businesses):
        group(world, past, later)
    return past, later


def _add(later: Scenes, past: Scenes, acts: Acts) -> None:
    for name, person, payments in acts:
        later.setdefault(name, []).extend(payments)
        if person is not None:
            past["ordinary"].extend(person.past())


# Frauds.


def amounts(world: World) -> Acts:
    """Ever larger payments, each by an account with the same past."""
    at = world.at(0, 15, 600)
    groceries = favourite(in_person(world))
    for euros in AMOUNTS:
        buyer = Person(world, f"goods-{euros}", seed="goods")
        yield "goods", buyer, [buyer.pay(at, euros, world.resold)]
        shopper = Person(world, f"till-{euros}", seed="till")
        shop = shopper.shops[groceries.category][0]
        paid = shopper.pay(at, euros, groceries.category, "card_present", shop=shop)
        yield "till", shopper, [paid]
        bare = Person(world, f"bare-goods-{euros}", seed="bare goods", bare=True)
        yield "bare goods", bare, [bare.pay(at, euros, world.resold)]


def velocity(world: World) -> Acts:
    """Programs that pay: by a hijacked phone, a new device, a list of cards, made-up accounts."""
    shop = favourite(online(world)).category
    own = Person(world, "hijacked")
    yield (
        "own device burst",
        own,
        [own.pay(world.at(0, 15, 60 * i), 20, shop, shop=own.shops[shop][0]) for i in range(60)],
    )
    new = Person(world, "bot")
    yield (
        "new device burst",
        new,
        [
            _stranger(new, world.at(0, 15, 12 * i), 20, shop, shop=new.shops[shop][0])
            for i in range(200)
        ],
    )
    tester = Person(world, "tested")
    yield (
        "card testing",
        tester,
        [_stranger(tester, world.at(0, 4, i), 1.0, world.digital) for i in range(40)],
    )
    for i in range(FARM):
        fresh = Person(world, f"made-up-{i}")
        paid = fresh.pay(
            world.at(0, 5, 3 * i),
            1.0,
            world.digital,
            device_age_days=0.0,
            device_id=f"{world.name}-farm",
            ip_address="203.0.113.7",
        )
        yield "farm", None, [paid]


def refusals(world: World) -> Acts:
    victim = Person(world, "besieged")
    yield "takeovers", victim, [takeover(victim, 0, 60 * i) for i in range(30)]


def without_attributes(world: World) -> Acts:
    groceries = favourite(in_person(world)).category
    cloned = Person(world, "cloned", bare=True)
    yield "at home", cloned, [cloned.pay(world.at(0, 12), 28, groceries, "card_present")]
    abroad = cloned.pay(world.at(0, 12.5), 180, world.resold, "card_present", world.abroad)
    yield "overseas", None, [abroad]
    robbed = Person(world, "robbed", bare=True)
    yield (
        "bare takeover",
        robbed,
        [robbed.pay(world.at(0, 3), 900, world.resold, country=world.abroad)],
    )


def currencies(world: World) -> Acts:
    """The same number of units, of the account's own currency and of a weak one."""
    for name, currency in (("own currency", world.currency), ("weak currency", world.weak)):
        buyer = Person(world, name.replace(" ", "-"), seed="currency")
        yield name, buyer, [buyer.pay(world.at(0, 15), 5000, world.resold, currency=currency)]


def takeover(victim: Person, day: int, second: float) -> Payment:
    """At night, from abroad, on a device never seen, thirty times the usual amount."""
    world = victim.world
    at = world.at(day, 3, second)
    return _stranger(victim, at, 900, world.resold, country=world.abroad)


def _stranger(victim: Person, at: datetime, euros: float, category: str, **more: Any) -> Payment:
    if victim.entities:
        more = {"device_id": f"{victim.account}-thief", "ip_address": "198.51.100.9", **more}
    return victim.pay(at, euros, category, device_age_days=0.0, **more)


# Honest days.


def residents(world: World, past: Scenes, later: Scenes) -> None:
    """Rent and refunds, as they come to everybody; families of three then share a card."""
    people = [
        Person(world, f"resident-{i}", past_days=75, past_payments=45, entities=True)
        for i in range(RESIDENTS)
    ]
    for person in people:
        purchases = list(person.past())
        past["ordinary"].extend(purchases)
        rent = person.random.uniform(600, 1100)
        for day in (-61, -30, 0):
            at = world.at(day, person.random.uniform(7, 10))
            landlord = f"{person.account}-landlord"
            paid = person.pay(at, rent, "transfer", shop=landlord, type="transfer")
            (past if day < 0 else later).setdefault("rent", []).append(paid)
        for purchase in person.random.sample(purchases, 4):
            past["refund"].append(_refund(person, purchase))
    family = later.setdefault("family card", [])
    for first in range(0, RESIDENTS, 3):
        card = f"{people[first].account}-card"
        for person in people[first : first + 3]:
            for day in person.random.sample(range(1, 7), 4):
                at = world.at(day, person.random.uniform(9, 21))
                family.append(person.usual(at, card_fingerprint=card))


def _refund(person: Person, purchase: Payment) -> Payment:
    at = datetime.fromisoformat(purchase["occurred_at"])
    at = min(at + timedelta(days=person.random.uniform(2, 9)), person.world.at(-1, 22))
    person.sent += 1
    return purchase | {
        "transaction_id": f"{person.account}-{person.sent}",
        "occurred_at": at.isoformat(),
        "type": "refund",
    }


def colleagues(world: World, past: Scenes, later: Scenes) -> None:
    """Sixty people buy at work, behind one address; a week later each has a new phone."""
    office = later.setdefault("office address", [])
    phones = later.setdefault("new phone", [])
    for i in range(COLLEAGUES):
        person = Person(world, f"colleague-{i}", entities=True)
        past["ordinary"].extend(person.past())
        for _ in range(8):
            at = world.at(person.random.randrange(5), person.random.uniform(9, 17))
            office.append(person.usual_online(at, ip_address="203.0.113.200"))
        person.device = f"{person.account}-new-phone"
        days = sorted(person.random.sample(range(8, 20), 8))
        person.since = world.at(days[0], 9)
        for day in days:
            at = person.since if day == days[0] else world.at(day, person.random.uniform(9, 21))
            phones.append(person.usual_online(at))


def shoppers(world: World, past: Scenes, later: Scenes) -> None:
    """An hour of a sale at the usual shops, and an evening of a festival some days later."""
    sale = later.setdefault("sale", [])
    festival = later.setdefault("festival", [])
    for i in range(SHOPPERS):
        person = Person(world, f"shopper-{i}")
        past["ordinary"].extend(person.past())
        for _ in range(person.random.randint(12, 20)):
            sale.append(person.usual_online(world.at(1, 19.5, person.random.uniform(0, 3600))))
        snacks = min(in_person(world), key=lambda habit: habit.median)
        for _ in range(20):
            at = world.at(4, person.random.uniform(17.5, 23))
            stall = f"{world.name}-stall-{person.random.randrange(12)}"
            euros = person.random.uniform(2, 9)
            km = person.random.uniform(15, 40)
            festival.append(
                person.pay(at, euros, snacks.category, "card_present", shop=stall, km=km)
            )


def travellers(world: World, past: Scenes, later: Scenes) -> None:
    """Five days overseas, first seen there after a night's flight; no attributes are sent."""
    travel = later.setdefault("bare traveller", [])
    for i in range(TRAVELLERS):
        person = Person(world, f"traveller-{i}", bare=True)
        past["ordinary"].extend(person.past())
        later["at home"].append(person.usual_in_person(world.at(0, person.random.uniform(9, 12))))
        travel.append(person.pay(world.at(1, 15), 130, world.lodging, "card_present", world.abroad))
        for _ in range(16):
            at = world.at(person.random.randrange(1, 6), person.random.uniform(9, 21))
            shop = person.random.randrange(6)
            travel.append(person.usual_in_person(at, country=world.abroad, shop=shop))


def businesses(world: World, past: Scenes, later: Scenes) -> None:
    """Wages of forty people within minutes, for the first time and a month later."""
    later["wages"] = []
    for i in range(BUSINESSES):
        firm = Person(world, f"firm-{i}", larger=4.0, past_days=75, past_payments=60)
        past["ordinary"].extend(firm.past())
        wages = [firm.random.uniform(1200, 3200) for _ in range(40)]
        for day, scene in ((-28, past["first wages"]), (2, later["wages"])):
            for k, wage in enumerate(wages):
                at = world.at(day, 9, firm.random.uniform(0, 900))
                payee = f"{firm.account}-employee-{k}"
                scene.append(firm.pay(at, wage, "transfer", shop=payee, type="transfer"))


def ordered(scenes: Scenes) -> list[Payment]:
    return sorted(chain.from_iterable(scenes.values()), key=lambda payment: payment["occurred_at"])
