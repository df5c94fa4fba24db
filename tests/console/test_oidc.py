"""Signing in by an OpenID provider, a real one over HTTP, which can also lie."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from pydantic import ValidationError

from app.db.migrating import upgrade
from app.settings import Settings
from tests.servers import new_key, server_process

CLIENT, SECRET = "quick study", "s3cret/+%"
MIA = "mia@example.com"


class Provider:
    """An OpenID provider that knows one person, and gives tokens as `claims` and `key` say."""

    def __init__(self) -> None:
        self.key, self.other_key = (RSAKey.generate_key(2048, {"kid": "k"}) for _ in range(2))
        self.claims: dict[str, Any] = {}
        self.signing, self.header = self.key, {"alg": "RS256", "kid": "k"}
        self.is_away = False
        self.issuer = ""
        # By code: the query that it answers.
        self.codes: dict[str, dict[str, str]] = {}

    def authorize(self, query: dict[str, str]) -> str:
        code = f"code-{len(self.codes)}"
        self.codes[code] = query
        return f"{query['redirect_uri']}?code={code}&state={query['state']}"

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        """As RFC 6749 and RFC 7636 have it: each code once, for who began with it."""
        name, _, secret = (
            base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        )
        if dict(parse_qsl(f"name={name}&secret={secret}")) != {"name": CLIENT, "secret": SECRET}:
            return 401, {"error": "invalid_client"}
        query = self.codes.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if query is None or (query["code_challenge"], query["redirect_uri"]) != (
            challenge,
            form["redirect_uri"],
        ):
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "1",
            "nonce": query["nonce"],
            "iat": now,
            "exp": now + 300,
            "email": MIA.upper(),
            "email_verified": True,
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return 200, {"id_token": jwt.encode(self.header, claims, self.signing), "access_token": "a"}


@contextmanager
def running(provider: Provider) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            match address.path:
                case "/.well-known/openid-configuration":
                    self.answer(
                        200,
                        {
                            "issuer": provider.issuer,
                            "authorization_endpoint": f"{provider.issuer}/authorize",
                            "token_endpoint": f"{provider.issuer}/token",
                            "jwks_uri": f"{provider.issuer}/keys",
                        },
                    )
                case "/keys":
                    self.answer(200, {"keys": [provider.key.as_dict(private=False)]})
                case "/authorize":
                    self.send_response(302)
                    self.send_header("Location", provider.authorize(query))
                    self.end_headers()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = dict(parse_qsl(body))
            self.answer(*provider.token(form, self.headers.get("Authorization", "")))

        def answer(self, status: int, content: dict[str, Any]) -> None:
            text = json.dumps(content).encode()
            self.send_response(503 if provider.is_away else status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as service:
        provider.issuer = f"http://127.0.0.1:{service.server_port}"
        threading.Thread(target=service.serve_forever, daemon=True).start()
        yield
        service.shutdown()


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    made = Provider()
    with running(made):
        yield made


@pytest.fixture(scope="module")
def console(
    provider: Provider, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a service that knows the provider, and has a person, mia."""
    url = f"sqlite:///{tmp_path_factory.mktemp('oidc') / 'q.db'}"
    upgrade(url)
    key = new_key(url)
    settings = {"ISSUER": provider.issuer, "CLIENT_ID": CLIENT, "CLIENT_SECRET": SECRET}
    variables = {f"QUICKSTUDY_OIDC_{name}": value for name, value in settings.items()}
    with server_process(url, checkpoint, **variables) as service:
        for name, email in (("mia", MIA), ("leo", "leo@example.com")):
            answer = httpx.post(
                f"{service.url}/v1/people",
                json={"name": name, "role": "lead", "email": email},
                headers={"Authorization": f"Bearer {key}"},
            )
            assert answer.is_success, answer.text
        yield f"{service.url}/console"


@pytest.fixture
def browser(provider: Provider) -> Iterator[httpx.Client]:
    provider.claims, provider.signing, provider.is_away = {}, provider.key, False
    provider.header = {"alg": "RS256", "kid": "k"}
    with httpx.Client(follow_redirects=True) as client:
        yield client


def sign_in(browser: httpx.Client, console: str, **query: str) -> httpx.Response:
    return browser.get(f"{console}/sign-in/provider", params=query)


def test_somebody_whom_the_provider_knows_is_signed_in_and_comes_to_their_page(
    browser: httpx.Client, console: str, provider: Provider
) -> None:
    page = browser.get(f"{console}/thresholds")
    assert page.url.path == "/console/sign-in"
    assert "Sign in with 127.0.0.1" in page.text
    page = sign_in(browser, console, back="/console/thresholds")
    assert (page.status_code, page.url.path) == (200, "/console/thresholds")
    # Under the name that they have here, by the address in whatever case.
    assert "mia" in browser.get(console).text
    assert [name for name in browser.cookies if name.endswith("-away")] == []
    assert provider.codes == {}


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"email": "eve@example.com"}, "Nobody here has the e-mail address"),
        ({"email": None}, "does not state your e-mail address"),
        ({"email_verified": False}, "does not vouch for"),
        ({"email_verified": None}, "does not vouch for"),
        ({"email_verified": "true"}, "does not vouch for"),
        ({"nonce": "of another sign-in"}, "is not good"),
        ({"nonce": None}, "is not good"),
        ({"aud": "another service"}, "is not good"),
        ({"aud": [CLIENT, "another service"], "azp": "another service"}, "is not good"),
        ({"iss": "https://evil.example.com"}, "is not good"),
        ({"exp": 1_700_000_000}, "is not good"),
        ({"exp": None}, "is not good"),
    ],
)
def test_a_token_that_proves_nothing_lets_nobody_in(
    browser: httpx.Client, console: str, provider: Provider, claims: dict[str, Any], says: str
) -> None:
    provider.claims = claims
    page = sign_in(browser, console)
    assert (page.status_code, says in page.text) == (401, True), page.text
    assert browser.get(f"{console}/thresholds").url.path == "/console/sign-in"


@pytest.mark.parametrize("alg", ["RS256", "HS256", "none"])
def test_only_the_providers_key_signs(
    browser: httpx.Client,
    console: str,
    provider: Provider,
    alg: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By another key; by the public key as if it were a secret; by nobody."""

    def forged(header: dict[str, str], claims: dict[str, Any], key: object) -> str:
        parts = [json.dumps(part).encode() for part in ({"alg": alg, "kid": "k"}, claims)]
        head, body = (base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
        if alg == "RS256":
            return real(header, claims, provider.other_key)
        if alg == "none":
            return f"{head}.{body}."
        public = provider.key.as_pem(private=False)
        digest = hmac.new(public, f"{head}.{body}".encode(), hashlib.sha256).digest()
        return f"{head}.{body}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"

    real = jwt.encode
    monkeypatch.setattr(jwt, "encode", forged)
    page = sign_in(browser, console)
    assert (page.status_code, "is not good" in page.text) == (401, True)


def test_nobody_comes_back_who_did_not_go(
    browser: httpx.Client, console: str, provider: Provider
) -> None:
    """A code of somebody else, in a link that one is made to follow; and a page loaded again."""
    with httpx.Client() as thief:
        away = thief.get(f"{console}/sign-in/provider").headers["Location"]
        stolen = thief.get(away).headers["Location"]
    page = browser.get(stolen)
    assert (page.status_code, "too long" in page.text) == (401, True)
    # Neither does who is at the provider for something else.
    browser.get(f"{console}/sign-in/provider", follow_redirects=False)
    assert browser.get(stolen).status_code == 401
    assert browser.get(f"{console}/thresholds").url.path == "/console/sign-in"

    away = browser.get(f"{console}/sign-in/provider", follow_redirects=False).headers["Location"]
    back = browser.get(away, follow_redirects=False).headers["Location"]
    assert browser.get(back).status_code == 200
    browser.cookies.clear()
    assert browser.get(back).status_code == 401


def test_of_a_provider_that_is_away_or_refuses_one_is_told(
    browser: httpx.Client, console: str, provider: Provider
) -> None:
    away = browser.get(f"{console}/sign-in/provider", follow_redirects=False).headers["Location"]
    state = parse_qs(urlsplit(away).query)["state"][0]
    page = browser.get(
        f"{console}/sign-in/return", params={"error": "access_denied", "state": state}
    )
    assert (page.status_code, "did not let you in" in page.text) == (401, True)
    away = browser.get(f"{console}/sign-in/provider", follow_redirects=False).headers["Location"]
    back = browser.get(away, follow_redirects=False).headers["Location"]
    provider.is_away = True
    page = browser.get(back)
    assert (page.status_code, "cannot be asked who you are" in page.text) == (503, True)


def test_only_places_of_the_console_are_gone_back_to(browser: httpx.Client, console: str) -> None:
    page = sign_in(browser, console, back="https://evil.example.com/console")
    assert str(page.url) == console


def test_without_a_provider_there_is_no_way_to_it(checkpoint: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'q.db'}"
    upgrade(url)
    with server_process(url, checkpoint) as service:
        page = httpx.get(f"{service.url}/console/sign-in")
        assert "sign-in/provider" not in page.text
        assert httpx.get(f"{service.url}/console/sign-in/provider").status_code == 404
        assert httpx.get(f"{service.url}/console/sign-in/return?code=1&state=").status_code == 401


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"oidc_client_secret": None}, "needs all of"),
        ({"oidc_issuer": None}, "needs all of"),
        ({"oidc_issuer": "http://login.example.com"}, "is not an https:// address"),
        ({"oidc_issuer": "http://localhost.evil.example.com"}, "is not an https:// address"),
    ],
)
def test_half_a_provider_is_refused(changes: dict[str, str | None], says: str) -> None:
    whole: dict[str, Any] = {
        "oidc_issuer": "https://login.example.com",
        "oidc_client_id": CLIENT,
        "oidc_client_secret": SECRET,
    }
    assert Settings(**whole).oidc_issuer == "https://login.example.com"
    with pytest.raises(ValidationError, match=says):
        Settings(**{**whole, **changes})
