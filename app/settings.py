"""The service's settings, from the environment or from files, which keep secrets out of it.

QUICKSTUDY_DATABASE_URL is a variable, or else the file /run/secrets/quickstudy_database_url, which
is where container engines and orchestrators put secrets.
"""

import logging
import os
import re
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

# Of a worker's connections to PostgreSQL: more do not make it faster, with fewer lists and scores
# wait for each other.
MOST_CONNECTIONS, LEAST_CONNECTIONS = 15, 4
SHIPPED_MODEL = Path(__file__).parent.parent / "models" / "default"
SECRETS = Path("/run/secrets")
PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")
# Without https on this machine alone.
ISSUER = re.compile(r"https://.|http://(localhost|127\.0\.0\.1|\[::1\])[:/]")
ENVIRONMENT = "QUICKSTUDY_"
# How like a setting a name is that is taken for a misspelling of it. Others are somebody else's:
# of compose's own file, or of a Kubernetes service.
LIKENESS = 0.65

logger = logging.getLogger("quickstudy")


class Settings(BaseSettings):
    """Everything an operator can set. Wrong values are refused at start (ValidationError), and of
    names that are probably misspelled the log warns.

    The text below a setting is its description in docs/settings.md.
    """

    model_config = SettingsConfigDict(
        validate_default=True,
        env_prefix=ENVIRONMENT,
        extra="ignore",
        secrets_dir=SECRETS if SECRETS.is_dir() else None,
    )

    database_url: str = "sqlite:///quickstudy.db"
    """Or `postgresql://user:password@host/name`, also with several hosts (`h1,h2`: the one that can
    be written to is used) or through a pooler."""
    model: Path = SHIPPED_MODEL
    """Folder of the checkpoint."""
    models: Path | None = None
    """Folder of the other checkpoints, which `GET /v1/models` lists; unless set, the one that
    `QUICKSTUDY_MODEL` is in."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What computes scores; `auto` is the GPU where there is one."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Worker processes."""
    database_connections: Annotated[int, Field(ge=1)] = 48
    """Connections to PostgreSQL that this server may open, all workers together
    ([how many](operations.md#connections))."""
    log_level: Literal["critical", "error", "warning", "info", "debug"] = "info"
    """The lowest level that is logged."""
    docs: bool = True
    """Whether `/docs` and `/openapi.json` are served."""
    console: bool = True
    """Whether [the console](console.md), the pages for analysts, is served at `/console`."""
    root_path: str = "/"
    """The prefix that a proxy takes off the paths of requests, such as `/fraud`
    ([behind a prefix](operations.md#behind-a-prefix))."""
    oidc_issuer: str | None = None
    """The OpenID provider by which people may
    [sign in to the console](console.md#by-an-openid-provider), as it calls itself:
    `https://login.example.com`; needs `pip install '.[oidc]'`."""
    oidc_client_id: str | None = None
    """What the provider calls this service."""
    oidc_client_secret: SecretStr | None = None
    """What proves to the provider that it is this service."""
    oidc_claim: str = "email"
    """The claim in which the provider states an e-mail address. With `email` it is to state
    `email_verified`, too."""
    tracing: bool = False
    """OpenTelemetry spans of requests, batches and stages, sent to where
    `OTEL_EXPORTER_OTLP_ENDPOINT` says; needs `pip install '.[tracing]'`."""
    bank_bytes: Annotated[int, Field(ge=1 << 20)] = 256 << 20
    """Memory for adapted copies, 4 kB each; never fewer than 1,024 copies. The ids of an account's
    labelled payments lie beside it: .6 kB for one label, 4.4 kB for 32."""
    webhooks_private: bool = False
    """Whether webhooks may go to private addresses, over `http://` too: for trying out."""
    most_waiting: Annotated[int, Field(ge=1)] = 96
    """Requests for scores that a worker answers at once; more are refused, 503."""
    rate_per_second: Annotated[float, Field(gt=0)] | None = None
    """Requests, transactions and labels a second that each key may send to this server, in equal
    parts to its workers; above it 429. Other replicas count for themselves."""
    deadline_seconds: Annotated[float, Field(gt=0)] = 30.0
    """A request that takes longer is 503; what is not being committed by then is not stored."""
    arrival_seconds: Annotated[float, Field(gt=0)] = 20.0
    """How long the headers of a request may take to arrive, and its body once more; then 408."""
    labels_per_account: Annotated[int, Field(ge=1)] = 200
    """Changes of one account's labels that a key may make in any 24 hours; above it 429. A copy
    learns from 32 labels."""
    sampled_approvals: Annotated[float, Field(ge=0, le=1)] = 0.001
    """The share of approved payments that become reviews of the kind `sample`, so that it can be
    measured what is missed."""
    max_body_bytes: Annotated[int, Field(ge=1 << 10)] = 4 << 20
    """Largest request body; above it 413."""

    @field_validator("database_connections")
    @classmethod
    def _enough(cls, connections: int, info: ValidationInfo) -> int:
        least = LEAST_CONNECTIONS * info.data.get("workers", 1)
        if connections < least and not info.data.get("database_url", "").startswith("sqlite"):
            raise ValueError(
                f"{info.data['workers']} workers need {least} or more connections to PostgreSQL: "
                "set QUICKSTUDY_DATABASE_CONNECTIONS, within the server's max_connections"
            )
        return connections

    @field_validator("root_path")
    @classmethod
    def _plain_path(cls, path: str) -> str:
        if not PREFIX.fullmatch(path):
            raise ValueError(
                f"{path!r} is not a path: set QUICKSTUDY_ROOT_PATH to the prefix that the proxy "
                "takes off, such as /fraud"
            )
        return path.rstrip("/") or "/"

    @model_validator(mode="after")
    def _provider_whole(self) -> Self:
        provider = self.oidc_issuer, self.oidc_client_id, self.oidc_client_secret
        if any(provider) and not all(provider):
            raise ValueError(
                "an OpenID provider needs all of QUICKSTUDY_OIDC_ISSUER, "
                "QUICKSTUDY_OIDC_CLIENT_ID and QUICKSTUDY_OIDC_CLIENT_SECRET"
            )
        if self.oidc_issuer and not ISSUER.match(self.oidc_issuer):
            raise ValueError(
                f"QUICKSTUDY_OIDC_ISSUER={self.oidc_issuer} is not an https:// address: anyone "
                "on the way to it could sign in as anybody"
            )
        return self

    @model_validator(mode="after")
    def _names_known(self) -> Self:
        found = [path.name for path in SECRETS.iterdir()] if SECRETS.is_dir() else []
        for name in (*os.environ, *found):
            if name.upper().startswith(ENVIRONMENT):
                _warn_of(name, tuple(type(self).model_fields))
        return self

    @property
    def prefix(self) -> str:
        """What stands before the path of an address that a caller is to use; empty without one."""
        return self.root_path.rstrip("/")

    @property
    def connections_per_worker(self) -> int:
        """Of each worker's pool: one more is kept free to check whether the database answers, and
        one for the process of a job."""
        return min(MOST_CONNECTIONS, self.database_connections // self.workers - 2)

    @property
    def rate_per_worker(self) -> float | None:
        """A key's share of what one process lets in: its connections spread over all of them."""
        return None if self.rate_per_second is None else self.rate_per_second / self.workers


# Once: settings are read more than once in a process.
@cache
def _warn_of(name: str, settings: tuple[str, ...]) -> None:
    """Warn of the name of a variable or file that is no setting, and much like one."""
    own = name[len(ENVIRONMENT) :].lower()
    close = get_close_matches(own, settings, n=1, cutoff=LIKENESS)
    if own not in settings and close:
        logger.warning(
            "%s is ignored: there is no such setting; is %s meant?",
            name,
            f"{ENVIRONMENT}{close[0].upper()}",
        )
