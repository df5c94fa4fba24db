"""People: let in by a link that is good once, then by a password; what each role may do."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from app.cli.main import app
from app.console.sessions import Sessions
from app.db.database import Database
from app.db.migrating import upgrade
from app.db.schema import metadata, sign_in_attempts
from app.db.schema import people as people_table
from app.http.problems import Unauthenticated
from app.keys.scopes import Role
from app.people import passwords
from app.people import service as people
from app.people.errors import TooManyPeople
from app.people.passwords import MOST_WAITING
from app.people.service import MOST_ATTEMPTS
from tests.api.callers import part_of
from tests.api.requests import posted, problem_of
from tests.console.people import (
    HERE,
    app_of,
    browser_of,
    elements,
    forms,
    new_key,
    send,
    sent_to,
    shown,
    text_in,
)

pytestmark = pytest.mark.anyio
PASSWORD = "correct horse battery"
DEAR = "test_the_database_has_neither_passwords_nor_links"


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords that cost a 32nd to hash, but for who looks at what they cost."""
    if request.node.name != DEAR:
        monkeypatch.setattr("app.people.passwords.COST", passwords.COST // 32)


def database_of(client: httpx.AsyncClient) -> Database:
    return app_of(client).state.service.part(Database)


async def invited(
    client: httpx.AsyncClient, name: str, role: Role = "analyst"
) -> tuple[str, dict[str, str]]:
    """A new person's id, and what their link sends on."""
    answer = await client.post("/v1/people", json={"name": name, "role": role})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    path, _, token = body["setup_path"].partition("?token=")
    assert (path, body["state"]) == ("/console/setup", "invited")
    return body["id"], {"token": token, "person": name, "password": PASSWORD}


@asynccontextmanager
async def joined(
    client: httpx.AsyncClient, name: str, role: Role = "analyst"
) -> AsyncIterator[tuple[str, httpx.AsyncClient]]:
    """A new person's id, and the browser that they have chosen their password in."""
    person_id, fields = await invited(client, name, role)
    async with browser_of(app_of(client)) as browser:
        assert sent_to(await send(browser, "/setup", **fields))[0] == "/console"
        yield person_id, browser


async def sign_in(
    client: httpx.AsyncClient, name: str, password: str = PASSWORD, tenant: str = "default"
) -> httpx.Response:
    async with browser_of(app_of(client)) as browser:
        return await send(browser, "/sign-in", person=name, key=password, tenant=tenant)


async def entries(client: httpx.AsyncClient, **filters: str) -> list[dict[str, object]]:
    answer = await client.get("/v1/audit-log", params=filters)
    found: list[dict[str, object]] = answer.json()["data"]
    return found


async def test_the_first_person_comes_by_a_link_and_brings_others(
    shared: httpx.AsyncClient,
) -> None:
    database = database_of(shared)
    secret = await people.first_link(database, "new")
    assert secret is not None
    async with browser_of(app_of(shared)) as lea, browser_of(app_of(shared)) as late:
        page = await shown(lea, "/setup", token=secret)
        assert "You are the first" in text_in(page)
        fields = {"token": secret, "person": "lea", "password": PASSWORD}
        # Of two who have it, one becomes the administrator.
        answers = await asyncio.gather(
            send(lea, "/setup", **fields), send(late, "/setup", **{**fields, "person": "eve"})
        )
        assert sorted(answer.status_code for answer in answers) == [303, 404]
        assert await people.first_link(database, "new") is None
        [first] = await people.listed(database, "new")
        assert first.role == "admin"
        admin = lea if answers[0].status_code == 303 else late
        page = (await send(admin, "/people", name="noah", role="lead", email="n@x.example")).text
        [link] = re.findall(r"http://127\.0\.0\.1(/console/setup\?token=[\w-]+)", page)
        assert "noah" in text_in(page)
        # It is shown this once.
        assert "token=" not in await shown(admin, "/people")
        assert "Send noah" not in (await late.get(link)).text
        async with browser_of(app_of(shared)) as noah:
            page = (await noah.get(link)).text
            assert {"name": "person", "value": "noah"}.items() <= elements(page, "input")[1].items()
            token = forms(page)["/console/setup"]["token"]
            # A name is not theirs to choose.
            own = {"token": token, "person": "lea", "password": PASSWORD}
            assert sent_to(await send(noah, "/setup", **own))[0] == "/console"
            assert "noah" in text_in(await shown(noah, "/people"))
            assert (await noah.get(link)).status_code == 404
        assert (await sign_in(shared, "noah", tenant="new")).status_code == 303
        assert (await sign_in(shared, "noah")).status_code == 401


async def test_verdicts_and_claims_are_their_persons_whatever_a_form_says(
    shared: httpx.AsyncClient,
) -> None:
    await shared.post("/v1/thresholds", json={"review": 1e-8, "decline": 0.999})
    for name in ("p-1", "p-2"):
        await shared.post("/v1/transactions", json=posted(name, account_id="p"))
    async with joined(shared, "mia") as (person_id, mia):
        fields = forms(await shown(mia, "", at="p-1"))["/console/verdict"]
        lie = {"person": "noah", "analyst": "noah", "assignee": "noah"}
        sent_to(await send(mia, "/verdict", **fields, **lie, label="fraud"))
        sent_to(await send(mia, "/take", id="p-2", **lie))
        [event] = (await shared.get("/v1/transactions/p-1/label")).json()["history"]
        assert event["analyst"] == "mia"
        review = (await shared.get("/v1/reviews/p-2")).json()
        assert (review["assignee"], review["assigned_by"]) == ("mia", f"person:{person_id}")
        done = await entries(shared, actor=f"person:{person_id}")
        assert [entry["action"] for entry in done] == [
            *("review.claimed", "review.resolved", "label.set", "person.password_set"),
        ]
        assert "p-2" in await shown(mia, "", tab="mine")
        # Where people look at the log, it has their names.
        account = text_in(await shown(mia, "/account", id="p"))
        assert f"person:{person_id}" not in account
        assert "review.claimedp-2mia" in account.replace(" ", "")


async def test_each_role_may_do_what_it_says_and_no_more(shared: httpx.AsyncClient) -> None:
    await shared.post("/v1/transactions", json=posted("r-1", account_id="r"))
    verdict = {"id": "r-1", "shown": "", "label": "fraud", "page": "payment"}
    roles: dict[Role, tuple[int, int]] = {
        "auditor": (403, 403),
        "analyst": (303, 403),
        "lead": (303, 403),
        "admin": (303, 303),
    }
    for role, (decides, administers) in roles.items():
        async with joined(shared, f"one-{role}", role) as (person_id, browser):
            page = await shown(browser, "/payment", id="r-1")
            assert ('value="fraud"' in page) == (decides == 303)
            label = (await shared.get("/v1/transactions/r-1")).json()["label"] or ""
            answer = await send(browser, "/verdict", **{**verdict, "shown": label})
            assert answer.status_code == decides
            for form in ("/take", "/give-back", "/undo"):
                refused = (await send(browser, form, id="r-1")).status_code == 403
                assert refused == (decides == 403)
            people_page = await shown(browser, "/people")
            assert ("Add a person" in people_page) == (administers == 303)
            answer = await send(browser, "/people/role", id=person_id, role=role)
            assert answer.status_code == administers
            for form in ("/people", "/people/reset", "/people/remove"):
                other = {"id": "0" * 12, "name": "eve", "role": "owner"}
                answer = await send(browser, form, **other)
                assert (answer.status_code == 403) == (administers == 403)


async def test_who_is_removed_is_out_at_once_and_back_by_a_new_link_alone(
    shared: httpx.AsyncClient,
) -> None:
    async with joined(shared, "noah") as (person_id, noah):
        assert (await noah.get("/console")).status_code == 200
        answer = await shared.put(f"/v1/people/{person_id}/role", json={"role": "auditor"})
        assert answer.json()["role"] == "auditor"
        assert (await send(noah, "/verdict", id="x", label="fraud")).status_code == 403
        removed = (await shared.delete(f"/v1/people/{person_id}")).json()
        assert (removed["state"], removed["removed_at"] is None) == ("removed", False)
        assert sent_to(await noah.get("/console"))[0] == "/console/sign-in"
        assert (await sign_in(shared, "noah")).status_code == 401
        # The name stays theirs: what it decided is not another's.
        again = await shared.post("/v1/people", json={"name": "noah", "role": "analyst"})
        assert problem_of(again) == (409, "person_exists")
        reset = (await shared.post(f"/v1/people/{person_id}/reset")).json()
        assert reset["state"] == "invited"
        assert (await sign_in(shared, "noah")).status_code == 401
        token = reset["setup_path"].partition("=")[2]
        fields = {"token": token, "person": "noah", "password": PASSWORD[::-1]}
        assert sent_to(await send(noah, "/setup", **fields))[0] == "/console"
    assert (await sign_in(shared, "noah")).status_code == 401
    assert (await sign_in(shared, "noah", PASSWORD[::-1])).status_code == 303
    done = [entry["action"] for entry in await entries(shared, subject=person_id)]
    assert done == [
        *("person.password_set", "person.reset", "person.removed", "person.role_set"),
        *("person.password_set", "person.added"),
    ]


async def test_people_change_their_own_password_and_all_other_sessions_end(
    shared: httpx.AsyncClient,
) -> None:
    new = "a stapled donkey"
    async with joined(shared, "ida") as (person_id, ida), browser_of(app_of(shared)) as other:
        assert (await send(other, "/sign-in", person="ida", key=PASSWORD)).status_code == 303
        assert 'action="/console/password"' in await shown(ida, "/password")
        for fields, status, problem in (
            ({"password": "wrong", "new_password": new}, 403, "The present password is wrong."),
            ({"password": PASSWORD, "new_password": "short"}, 422, "12 to 200 characters"),
            ({"new_password": new}, 403, "The present password is wrong."),
        ):
            answer = await send(ida, "/password", **fields)
            assert answer.status_code == status
            assert problem in text_in(answer.text)
            assert "set-cookie" not in answer.headers
        before = ida.cookies["qs"]
        changed = await send(ida, "/password", password=PASSWORD, new_password=new)
        assert sent_to(changed) == ("/console/password", {"changed": "true"})
        assert ida.cookies["qs"] != before
        assert "is changed" in text_in(await shown(ida, "/password", changed="true"))
        assert sent_to(await other.get("/console"))[0] == "/console/sign-in"
        stolen = await other.get("/console", headers={"Cookie": f"qs={before}"})
        assert sent_to(stolen)[0] == "/console/sign-in"
        assert (await sign_in(shared, "ida")).status_code == 401
        assert (await sign_in(shared, "ida", new)).status_code == 303
        # By the API it is as well the present one that proves it.
        path = f"/v1/people/{person_id}/password"
        body = {"password": PASSWORD, "new_password": PASSWORD}
        assert problem_of(await shared.put(path, json=body)) == (403, "wrong_password")
        answer = await shared.put(path, json={**body, "password": new})
        assert (answer.status_code, answer.json()["state"]) == (200, "active")
        assert sent_to(await ida.get("/console"))[0] == "/console/sign-in"
        done = await entries(shared, subject=person_id)
        assert [entry["action"] for entry in done] == [*["person.password_set"] * 3, "person.added"]
        assert done[1]["actor"] == f"person:{person_id}"
        # Who guesses is stopped here, too.
        for _ in range(MOST_ATTEMPTS):
            await shared.put(path, json={**body, "password": "guessed"})
        assert problem_of(await shared.put(path, json=body)) == (429, "rate_limited")


async def test_who_signed_in_while_the_password_was_changed_has_no_session(
    shared: httpx.AsyncClient,
) -> None:
    running, sessions = part_of(shared, people.People), part_of(shared, Sessions)
    async with joined(shared, "eve") as (person_id, _):
        proven = await running.sign_in("default", "eve", PASSWORD)
        new = await running.change_password("default", person_id, PASSWORD, PASSWORD[::-1])
        # Else a stolen password would be good for a session that survives its end.
        with pytest.raises(Unauthenticated):
            await sessions.begin_of(proven)
        assert await sessions.viewer(await sessions.begin_of(new)) is not None


async def test_a_session_of_a_key_has_no_password_to_change(client: httpx.AsyncClient) -> None:
    async with browser_of(app_of(client)) as browser:
        key = await new_key(client)
        assert (await send(browser, "/sign-in", person="mia", key=key)).status_code == 303
        assert "of an API key" in text_in(await shown(browser, "/password"))
        fields = {"password": key, "new_password": PASSWORD}
        assert (await send(browser, "/password", **fields)).status_code == 404


async def test_who_guesses_is_stopped_and_learns_nothing(shared: httpx.AsyncClient) -> None:
    async with joined(shared, "lena"):
        pass
    answers = {}
    for name in ("lena", "nobody at all"):
        tries = [await sign_in(shared, name, f"{n} {PASSWORD}") for n in range(MOST_ATTEMPTS + 1)]
        answers[name] = [text_in(answer.text) for answer in tries]
        assert {answer.status_code for answer in tries[:-1]} == {401}
        assert tries[-1].status_code == 429
        assert not any("set-cookie" in answer.headers for answer in tries)
    assert answers["lena"] == answers["nobody at all"]
    # Not by the right one either, until it is over.
    assert (await sign_in(shared, "lena")).status_code == 429


async def test_who_tries_without_end_has_little_written_for_it(client: httpx.AsyncClient) -> None:
    async def counted() -> list[int]:
        async with database_of(client).read() as connection:
            found = await connection.execute(select(sign_in_attempts.c.attempts))
            return list(found.scalars())

    tries = [sign_in(client, f"nobody {n}") for n in range(2 * MOST_WAITING)]
    statuses = Counter(one.status_code for one in await asyncio.gather(*tries))
    assert statuses == {401: MOST_WAITING, 503: MOST_WAITING}
    # Nothing of those who would have waited for long.
    assert await counted() == [1] * MOST_WAITING
    for _ in range(MOST_ATTEMPTS + 4):
        await sign_in(client, "nobody 0")
    assert sorted(await counted()) == [1] * (MOST_WAITING - 1) + [MOST_ATTEMPTS]


@pytest.mark.parametrize("password", ["", "eleven char", "x" * 201, "qs_0123456789ab_secret"])
async def test_a_password_that_will_not_do_leaves_the_link_good(
    client: httpx.AsyncClient, password: str
) -> None:
    _, fields = await invited(client, f"of {len(password)} characters")
    async with browser_of(app_of(client)) as browser:
        refused = await send(browser, "/setup", **{**fields, "password": password})
        assert refused.status_code == 422
        assert "A password" in text_in(refused.text)
        assert not password or password not in refused.text
        sent_to(await send(browser, "/setup", **fields))


async def test_the_database_has_neither_passwords_nor_links(client: httpx.AsyncClient) -> None:
    _, fields = await invited(client, "quiet")
    async with (
        joined(client, "loud") as (_, browser),
        database_of(client).read() as connection,
    ):
        rows = [await connection.execute(select(table)) for table in metadata.sorted_tables]
        stored = repr([[tuple(row) for row in table] for table in rows])
    assert "loud" in stored
    for secret in (PASSWORD, fields["token"], browser.cookies["qs"]):
        assert secret not in stored
    assert "scrypt$32768$8$3$" in stored


async def test_a_link_is_followed_by_https_or_from_this_machine(client: httpx.AsyncClient) -> None:
    _, fields = await invited(client, "far away")
    async with browser_of(app_of(client), "http://fraud.example") as browser:
        assert "ssh -L" in text_in(await shown(browser, "/setup", token=fields["token"]))
        assert (await send(browser, "/setup", **fields)).status_code == 403
    async with browser_of(app_of(client)) as browser:
        for site in ("cross-site", "same-site", "none"):
            headers = {"Sec-Fetch-Site": site}
            answer = await browser.post("/console/setup", data=fields, headers=headers)
            assert answer.status_code == 403
        for ended in ("", "x", fields["token"][:-1]):
            assert (await browser.get(f"/console/setup?token={ended}")).status_code == 404
        assert (await browser.post("/console/setup", data=fields, headers=HERE)).status_code == 303


@pytest.mark.parametrize(("tenant", "email"), [("\0", "x@x.example"), ("default", "\0@x.example")])
async def test_nobody_is_found_by_what_no_database_can_hold(
    shared: httpx.AsyncClient, tenant: str, email: str
) -> None:
    with pytest.raises(Unauthenticated):
        await part_of(shared, people.People).of_email(tenant, email)


async def test_a_tenants_people_are_its_own(shared: httpx.AsyncClient) -> None:
    await invited(shared, "sam")
    key = await new_key(shared, tenant="third")
    headers = {"Authorization": f"Bearer {key}"}
    assert (await shared.get("/v1/people", headers=headers)).json() == {"data": []}
    same = await shared.post("/v1/people", json={"name": "sam", "role": "lead"}, headers=headers)
    assert same.status_code == 200
    listed = (await shared.get("/v1/people")).json()["data"]
    assert ("sam", "analyst") in [(person["name"], person["role"]) for person in listed]


def test_the_commands_add_show_and_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'people.db'}"
    upgrade(url)
    monkeypatch.setenv("QUICKSTUDY_DATABASE_URL", url)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(app, ["people", *arguments])
        assert result.exit_code == status, result.output
        return result.output

    link = run("add", "mia", "--role", "lead", "--email", "Mia@x.example")
    assert re.fullmatch(r"http://127.0.0.1:8000/console/setup\?token=[\w-]{43}\n", link)
    assert run("reset", "mia") != link
    assert "analyst" in run("role", "mia", "analyst")
    assert all(word in run("list") for word in ("mia", "analyst", "default"))
    assert "removed" in run("remove", "mia")
    assert "Another person is named 'mia'" in run("add", "mia", status=2)
    assert "nobody named 'noah'" in run("reset", "noah", status=2)
    assert "role" in run("add", "noah", "--role", "owner", status=2)
    assert "role" in run("role", "mia", "owner", status=2)


async def test_a_tenant_has_so_many_people_and_no_more(database: Database) -> None:
    columns = {"tenant": "acme", "role": "analyst", "created_at_us": 5, "disabled_at_us": 6}
    rows = [{"id": f"p-{n}", "name": f"n-{n}", **columns} for n in range(people.MOST_PEOPLE)]
    async with database.write() as connection:
        await connection.execute(people_table.insert(), rows)
    with pytest.raises(TooManyPeople):
        await people.add(database, "acme", "noah", "analyst")
    await people.add(database, "else", "noah", "analyst")
