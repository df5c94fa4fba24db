"""The Python client: every operation in its type, and retries that keep to the rules."""

import asyncio
import email.utils
import inspect
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from clients.python import generate
from quickstudy_client import ApiError, AsyncClient, Client, transport
from quickstudy_client.models import PostedTransaction, Score
from quickstudy_client.transport import ATTEMPTS
from tests.api.callers import openapi_document
from tests.api.requests import NOON, label, posted
from tests.servers import START_SECONDS, made_key, server

REPOSITORY = Path(__file__).resolve().parents[1]
DISTRIBUTION = REPOSITORY / "clients" / "python"
Call = Callable[..., Awaitable[Any]]
# A method's name, and a request that it has sent.
Sent = list[tuple[str, httpx.Request]]
pytestmark = pytest.mark.anyio


@pytest.fixture
async def call(
    request: pytest.FixtureRequest, database_url: str, checkpoint: Path
) -> AsyncIterator[tuple[Call, Sent]]:
    """Calls a client's method by its name, and the requests that have gone out."""
    sent: Sent = []
    called: list[str] = []
    key = await made_key(database_url)

    def note(request: httpx.Request) -> None:
        sent.append((called[-1], request))

    async def note_async(request: httpx.Request) -> None:
        note(request)

    with server(database_url, checkpoint) as url:
        if request.param is Client:
            hooks: dict[str, Any] = {"request": [note]}
            with Client(url, key, timeout=START_SECONDS, event_hooks=hooks) as client:

                async def ask(name: str, *arguments: Any, **named: Any) -> Any:
                    called.append(name)
                    return getattr(client, name)(*arguments, **named)

                yield ask, sent
        else:
            hooks = {"request": [note_async]}
            async with AsyncClient(url, key, timeout=START_SECONDS, event_hooks=hooks) as waiting:

                async def ask(name: str, *arguments: Any, **named: Any) -> Any:
                    called.append(name)
                    return await getattr(waiting, name)(*arguments, **named)

                yield ask, sent


async def until_ended(ask: Call, method: str, model: str, job: Any) -> Any:
    while job.status in {"queued", "running"}:
        await asyncio.sleep(0.1)
        job = await ask(method, model, job.id)
    return job


# Each client and each database once: no client can tell by which database it is answered.
@pytest.mark.parametrize(
    ("call", "database_url"), [(Client, "sqlite"), (AsyncClient, "postgresql")], indirect=True
)
async def test_every_operation_is_answered_in_its_type(
    call: tuple[Call, Sent],
) -> None:
    ask, sent = call
    assert (await ask("ready")).status == "ok"
    await ask("set_thresholds", review=1e-8, decline=0.999, note="Look at everything.")
    assert (await ask("thresholds")).review == 1e-8
    assert (await ask("set_thresholds", review=0.1, decline=0.2, dry_run=True)).dry_run
    assert (await ask("reset_thresholds")).source == "model"
    assert (await ask("threshold_effects", review=0.01)).effect.review == 0.01
    assert (await ask("demo")).status == "none"
    await ask("set_thresholds", review=1e-8, decline=0.999)
    assert [kept.decline for kept in (await ask("threshold_history")).data][::2] == [0.999, 0.999]

    model = PostedTransaction.model_validate(posted("a/b", amount="12.30"))
    assert isinstance(await ask("score", model), Score)
    batch = await ask("score_batch", [posted(f"t-{n}", amount=50 + n) for n in range(4)])
    assert [result.transaction_id for result in batch.results] == ["t-0", "t-1", "t-2", "t-3"]
    assert (await ask("transaction", "a/b")).amount == "12.3"
    page = await ask("transactions", account_id="alice", limit=2)
    rest = await ask("transactions", account_id="alice", limit=3, cursor=page.next_cursor)
    assert len({payment.transaction_id for payment in [*page.data, *rest.data]}) == 5

    with pytest.raises(ApiError, match="tenant_not_empty"):
        await ask("load_demo")
    assert sum(day.opened for day in (await ask("figures")).days) == 5
    assert (await ask("ask_next_of_all", 1)).data[0].account_id
    waiting = await ask("reviews", order="age")
    assert len(waiting.data) == 5
    assert (await ask("assign_review", "t-0", "mia")).assignee == "mia"
    assert (await ask("assign_review", "t-0", "noah", take_over=True)).assignee == "noah"
    handed = await ask("assign_review", "t-0", "mia", hand_over=True)
    assert handed.assignee == "mia"
    assert (await ask("release_review", "t-0")).assignee is None
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert (await ask("snooze_review", "t-0", until)).snoozed_until is not None
    assert (await ask("wake_review", "t-0")).snoozed_until is None
    following = await ask("next_review", "mia", order="age")
    assert (await ask("release_review", following.transaction_id)).assignee is None
    assert [counts.opened for counts in (await ask("review_figures")).data] == [5, 0, 0]
    assert [counts.open for counts in (await ask("review_counts", assignee="noah")).data] == [
        0,
        0,
        0,
    ]
    assert (await ask("review", "t-0")).transaction.amount == "50"

    tried = await ask("preview", "alice", [label("t-0"), label("t-1", "legitimate")])
    labelled = await ask(
        "label",
        "t-0",
        "fraud",
        labelled_at=NOON,
        source="chargeback",
        analyst="mia",
        note="Said so.",
    )
    assert tried.dry_run
    assert labelled.adaptation.revision == 1
    more = await ask("label_account", "alice", [label("t-1", "legitimate")])
    assert more.adaptation.adapter == tried.adaptation.adapter
    [outcome] = (await ask("label_batch", [label("t-2")])).results
    assert outcome.changed
    tried_file = await ask("import_labels", "transaction,label\nt-2,fraud\nnone,1", dry_run=True)
    assert (tried_file.unchanged, len(tried_file.unmatched)) == (1, 1)
    assert (await ask("label_history", "t-0")).history[0].source == "chargeback"
    assert (await ask("adapt", "alice")).adaptation.labels == 3
    assert (await ask("account", "alice")).labels.fraud == 2
    accounts = (await ask("accounts", labelled=True)).data
    assert [account.account_id for account in accounts] == ["alice"]

    assert (await ask("set_status", "a/b", "refunded")).changed
    refused = [{"transaction_id": "t-3", "status": "declined"}]
    assert [result.changed for result in (await ask("set_statuses", refused)).results] == [True]
    assert [link.entity_id for link in (await ask("links", "alice", limit=1)).data] == ["gadgets"]
    assert [use.account_id for use in (await ask("entity", "merchant", "gadgets")).data] == [
        "alice"
    ]

    assert (await ask("reasons", "a/b")).reasons
    assert (await ask("replay", "a/b")).match
    assert len((await ask("influence", "alice")).labels) == 3
    assert len((await ask("ask_next", "alice", limit=1)).suggestions) == 1
    changes = (await ask("revisions", "alice", limit=2)).data
    assert [(change.revision, change.transaction_id) for change in changes] == [
        (3, "t-2"),
        (2, "t-1"),
    ]
    assert (await ask("revision", "alice", 2)).adaptation.adapter == tried.adaptation.adapter
    assert (await ask("remove_label", "t-2")).adaptation.adapter == tried.adaptation.adapter
    assert (await ask("roll_back", "alice", 1, dry_run=True)).revision == 4
    assert (await ask("roll_back", "alice", 2)).labels.fraud == 1
    # Of a name that no resolver knows: refused before it is stored.
    with pytest.raises(ApiError, match="validation_failed"):
        await ask("create_webhook", "https://nowhere.invalid/", ["label.changed"])
    assert (await ask("webhooks")).data == []
    for method in ("rotate_webhook", "enable_webhook", "remove_webhook", "waiting_messages"):
        with pytest.raises(ApiError, match="webhook_not_found"):
            await ask(method, "0" * 12)
    [model] = [state.name for state in (await ask("models")).data if state.active]
    await ask("shadow_model", model)
    job = await until_ended(ask, "comparison", model, await ask("compare_model", model, days=365.0))
    assert job.result.agreement == 1.0
    assert [kept.id for kept in (await ask("comparisons", model)).data] == [job.id]
    measured = await until_ended(ask, "drift", model, await ask("measure_drift", model, days=365))
    assert (measured.status, measured.result.name) == ("done", model)
    assert [kept.id for kept in (await ask("drifts", model)).data] == [measured.id]
    with pytest.raises(ApiError, match="report_not_found"):
        await ask("model_report", model)
    await ask("end_shadow", model)
    with pytest.raises(ApiError, match="model_refused"):
        await ask("promote_model", model, job.id)
    await ask("activate_model", model)
    await ask("roll_back_model")
    key = await ask("create_key", "till", ["score"])
    successor = await ask("rotate_key", key.id, hours=1.0)
    assert [key.name for key in (await ask("keys")).data] == ["tests", "till", "till"]
    ended = await ask("revoke_key", successor.id)
    assert ended.data[-1].revoked_at is not None
    saved = await ask("save_search", "large", amount_from="500.50", label="none")
    assert (await ask("searches")).data == [saved]
    assert (saved.filters.amount_from, saved.filters.label) == ("500.5", "none")
    assert (await ask("remove_search", "large")).data == []
    person = await ask("add_person", "mia", "analyst", email="mia@x.example")
    assert (await ask("reset_person", person.id)).setup_path != person.setup_path
    assert (await ask("set_role", person.id, "lead")).role == "lead"
    with pytest.raises(ApiError, match="wrong_password"):
        await ask("change_password", person.id, "none so far", "correct horse battery")
    assert (await ask("remove_person", person.id)).state == "removed"
    assert [person.name for person in (await ask("people")).data] == ["mia"]
    logged = (await ask("audit_log", account_id="alice")).data
    of_labels = [entry.action for entry in logged if entry.action.startswith("label.")]
    assert of_labels == ["label.removed", *["label.set"] * 3]
    assert logged[-1].action == "review.claimed"
    noted = await ask("add_note", "alice", "Called.", author="mia")
    assert (await ask("notes", "alice")).data == [noted]
    certificate = await ask("erase_account", "alice")
    assert certificate.erased.transactions == 5
    assert [kept.id for kept in (await ask("erasures")).data] == [certificate.id]
    assert (await ask("erasure", certificate.id)).digest == certificate.digest
    with pytest.raises(ApiError) as refused:
        await ask("account", "alice")
    assert (refused.value.status, refused.value.code) == (404, "account_not_found")
    assert "alice" in refused.value.detail

    # Nothing that the service offers is out of the client's reach, but what orchestrators ask;
    # and the client has nothing else. Every answer has the type that the document states.
    document = openapi_document()
    operations = {
        (method.upper(), path): _answer_of(operation, document)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if path not in ("/livez", "/metrics")
    }
    reached = {
        (name, operation)
        for name, request in sent
        for operation in operations
        if operation[0] == request.method
        and _is_of(operation[1], request.url.raw_path.decode().partition("?")[0])
    }
    assert {operation for _, operation in reached} == operations.keys()
    assert {name for name, _ in reached} == methods(Client).keys()
    answers = {name: signature.return_annotation for name, signature in methods(Client).items()}
    assert [
        (name, operation)
        for name, operation in reached
        if answers[name].__name__ != operations[operation]
    ] == []


def _answer_of(operation: dict[str, Any], document: dict[str, Any]) -> str:
    """The name of the type that an operation answers with."""
    [schema] = (
        response["content"]["application/json"]["schema"]
        for status, response in operation["responses"].items()
        if status.startswith("2")
    )
    title: str = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["title"]
    return title


def _is_of(path: str, raw: str) -> bool:
    """Whether this address is one of the path with its parameters filled in."""
    parts, found = path.split("/"), raw.split("/")
    names = {"batch", "history", "rollback", "statuses"}
    return len(parts) == len(found) and all(
        part == name or (part.startswith("{") and name not in names)
        for part, name in zip(parts, found, strict=True)
    )


def methods(client: type) -> dict[str, inspect.Signature]:
    """The operations of a client: its public methods, but for the one that closes it."""
    return {
        name: inspect.signature(method)
        for name, method in inspect.getmembers(client, inspect.isfunction)
        if name[0] != "_" and "close" not in name
    }


def test_both_clients_have_the_same_methods_with_the_same_arguments_and_answers() -> None:
    assert methods(Client) == methods(AsyncClient)
    assert len(methods(Client)) > 20


def test_what_is_generated_is_up_to_date() -> None:
    for path, text in generate.files().items():
        assert path.read_text() == text, f"{path.name} is out of date: run make client"


Script = list[tuple[int, dict[str, str], str]]


class Scripted(BaseHTTPRequestHandler):
    """Answers by a script, and remembers the requests, and when they came."""

    script: Script
    requests: list[tuple[float, str, str, bytes]]

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.requests.append((time.monotonic(), self.command, self.path, body))
        status, headers, text = self.script.pop(0)
        if not status:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def scripted() -> Iterator[tuple[str, type[Scripted]]]:
    """A real HTTP server that answers by a script."""
    kind = type("Here", (Scripted,), {"script": [], "requests": []})
    with serving(kind) as url:
        yield url, kind


class Listening(ThreadingHTTPServer):
    """Lets everybody in at once."""

    request_queue_size = 128


@contextmanager
def serving(kind: type[Scripted]) -> Iterator[str]:
    listening = Listening(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    thread.join()
    listening.server_close()


OK = (200, {}, '{"status": "ok", "model": "m"}')


def busy(**headers: str) -> tuple[int, dict[str, str], str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return 503, named, '{"code": "database_unavailable", "detail": "Away."}'


async def ready(kind: str, url: str) -> Any:
    if kind == "sync":
        with Client(url, "key") as client:
            return client.ready()
    async with AsyncClient(url, "key") as client:
        return await client.ready()


both = pytest.mark.parametrize("kind", ["sync", "async"])


AT_ONCE = 60


@both
async def test_a_client_shared_by_many_keeps_their_connections(kind: str) -> None:
    together = threading.Barrier(AT_ONCE)
    connections = []

    class Kept(Scripted):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            connections.append(self.client_address)
            super().setup()

        def answer(self) -> None:
            together.wait(START_SECONDS)
            super().answer()

        do_GET = answer

    Kept.script, Kept.requests = [OK] * 2 * AT_ONCE, []
    with serving(Kept) as url:
        if kind == "sync":
            with Client(url, "key") as client, ThreadPoolExecutor(AT_ONCE) as threads:
                for _ in range(2):
                    list(threads.map(lambda _: client.ready(), range(AT_ONCE)))
        else:
            async with AsyncClient(url, "key") as waiting:
                for _ in range(2):
                    await asyncio.gather(*(waiting.ready() for _ in range(AT_ONCE)))
    assert len(connections) == AT_ONCE


@both
async def test_a_busy_service_is_tried_again_after_its_retry_after(
    kind: str, scripted: tuple[str, type[Scripted]]
) -> None:
    url, handler = scripted
    handler.script[:] = [busy(Retry_After="1"), OK]
    assert (await ready(kind, url)).model == "m"
    (first, *_), (second, *_) = handler.requests
    assert 1 <= second - first < 5


@both
async def test_a_date_in_retry_after_is_waited_for(
    kind: str, scripted: tuple[str, type[Scripted]]
) -> None:
    url, handler = scripted
    # Dates have whole seconds: at least one lies ahead.
    date = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    handler.script[:] = [busy(Retry_After=date), OK]
    await ready(kind, url)
    (first, *_), (second, *_) = handler.requests
    assert 0.9 < second - first < 5


@both
@pytest.mark.parametrize(
    "header", ["soon", "Mon, 99 Foo 2026", "-1", "Mon, 23 Nov 2026 10:00:00 -0000"]
)
async def test_an_unreadable_retry_after_is_no_reason_to_fail(
    kind: str, scripted: tuple[str, type[Scripted]], header: str
) -> None:
    url, handler = scripted
    handler.script[:] = [busy(Retry_After=header), OK]
    assert (await ready(kind, url)).model == "m"


@both
async def test_a_wait_of_minutes_is_left_to_the_caller(
    kind: str, scripted: tuple[str, type[Scripted]]
) -> None:
    url, handler = scripted
    handler.script[:] = [busy(Retry_After="3600"), OK]
    with pytest.raises(ApiError, match="503 database_unavailable: Away"):
        await ready(kind, url)
    assert len(handler.requests) == 1


@both
async def test_after_four_attempts_the_last_answer_is_raised(
    kind: str, scripted: tuple[str, type[Scripted]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "FIRST_WAIT_SECONDS", 0.001)
    url, handler = scripted
    handler.script[:] = [busy(), busy(), busy(), (503, {}, '{"code": "unavailable"}'), OK]
    with pytest.raises(ApiError) as refused:
        await ready(kind, url)
    assert (refused.value.code, len(handler.requests)) == ("unavailable", ATTEMPTS)


@both
async def test_a_connection_that_breaks_is_made_again_and_at_last_reported(
    kind: str, scripted: tuple[str, type[Scripted]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "FIRST_WAIT_SECONDS", 0.001)
    url, handler = scripted
    broken = (0, {}, "")
    handler.script[:] = [broken, broken, OK]
    assert (await ready(kind, url)).model == "m"
    handler.script[:] = [broken] * ATTEMPTS
    with pytest.raises(httpx.TransportError):
        await ready(kind, url)
    assert handler.script == []


def test_what_may_not_happen_twice_is_not_sent_twice(
    scripted: tuple[str, type[Scripted]],
) -> None:
    url, handler = scripted
    with Client(url, "key") as client:
        for once in (
            lambda: client.set_thresholds(reviews_per_day=50.0),
            lambda: client.remove_label("t-1"),
            lambda: client.erase_account("alice"),
        ):
            handler.script[:] = [busy(Retry_After="0"), OK]
            with pytest.raises(ApiError):
                once()
    assert len(handler.requests) == 3


def test_a_refusal_is_not_retried_and_names_its_fields(
    scripted: tuple[str, type[Scripted]],
) -> None:
    url, handler = scripted
    errors = '[{"field": "amount", "message": "too large"}]'
    text = f'{{"code": "validation_failed", "detail": "amount: too large", "errors": {errors}}}'
    handler.script[:] = [(422, {}, text)]
    with Client(url, "key") as client, pytest.raises(ApiError) as refused:
        client.score(posted())
    assert refused.value.errors == [{"field": "amount", "message": "too large"}]
    assert refused.value.document["code"] == refused.value.code == "validation_failed"
    assert len(handler.requests) == 1


@pytest.mark.parametrize("text", ["<html>Bad gateway</html>", "[]", '"text"', ""])
def test_an_answer_that_is_not_ours_is_an_error_all_the_same(
    scripted: tuple[str, type[Scripted]], text: str
) -> None:
    url, handler = scripted
    handler.script[:] = [(500, {}, text)]
    with Client(url, "key") as client, pytest.raises(ApiError) as refused:
        client.ready()
    assert (refused.value.status, refused.value.code) == (500, "")


def test_what_the_client_knows_to_be_wrong_is_never_sent(
    scripted: tuple[str, type[Scripted]],
) -> None:
    url, handler = scripted
    with Client(url, "key") as client, pytest.raises(ValueError, match="amount"):
        client.score(posted(amount=-1))
    assert handler.requests == []


def test_a_body_has_the_arguments_and_nothing_else(
    scripted: tuple[str, type[Scripted]],
) -> None:
    url, handler = scripted
    body = {"transaction_id": "t", "account_id": "a", "occurred_at": NOON, "amount": "1.50"}
    handler.script[:] = [(500, {}, "")]
    with Client(url, "key") as client, pytest.raises(ApiError):
        client.score({**body, "currency": "EUR"})
    [(_, _, _, sent)] = handler.requests
    assert PostedTransaction.model_validate_json(sent) == PostedTransaction.model_validate(
        {**body, "currency": "EUR"}
    )
    assert b"merchant_id" not in sent


def test_every_answer_is_a_model() -> None:
    for name, signature in methods(Client).items():
        assert issubclass(signature.return_annotation, BaseModel), name


def test_the_wheel_needs_httpx_and_pydantic_alone(
    tmp_path: Path, scripted: tuple[str, type[Scripted]]
) -> None:
    url, handler = scripted
    handler.script[:] = [OK]
    # A copy: building leaves files beside the sources, and packs those of earlier builds.
    source, packages = tmp_path / "source", tmp_path / "packages"
    shutil.copytree(DISTRIBUTION, source, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", str(source)]
    subprocess.run([*build, "--wheel-dir", str(tmp_path)], check=True)
    [wheel] = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    lock = REPOSITORY / "requirements.lock"
    install = [*pip, "install", "--constraint", str(lock), "--target", str(packages), str(wheel)]
    subprocess.run(install, check=True)
    [licence] = packages.glob("quickstudy_client-*.dist-info/licenses/LICENSE")
    assert licence.read_bytes() == (REPOSITORY / "LICENSE").read_bytes()
    assert (packages / "quickstudy_client" / "py.typed").exists()
    # Without the packages of the interpreter itself: -I and -S.
    script = (
        f"import sys; sys.path.append({str(packages)!r})\n"
        "from quickstudy_client import Client\n"
        f"with Client({url!r}, 'key') as client: print(client.ready().model)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "m\n"
