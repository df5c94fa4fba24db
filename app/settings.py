"""The service's settings, from the environment or from files, which keep secrets out of it.

QUICKSTUDY_DATABASE_URL is a variable, or else the file /run/secrets/quickstudy_database_url, which
is where container engines and orchestrators put secrets.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

# Of a worker's connections to PostgreSQL: more do not make it faster, with fewer lists and scores
# wait for each other.
MOST_CONNECTIONS, LEAST_CONNECTIONS = 15, 4
SHIPPED_MODEL = Path(__file__).parent.parent / "models" / "default"
SECRETS = Path("/run/secrets")
PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")


class Settings(BaseSettings):
    """Everything an operator can set. Wrong values are refused at start (ValidationError)."""

    model_config = SettingsConfigDict(
        validate_default=True,
        env_prefix="QUICKSTUDY_",
        extra="ignore",
        secrets_dir=SECRETS if SECRETS.is_dir() else None,
    )

    database_url: str = "sqlite:///quickstudy.db"
    model: Path = SHIPPED_MODEL
    # Where the other checkpoints are; None is the folder that `model` is in.
    models: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    # To PostgreSQL, of all workers of this server together.
    database_connections: Annotated[int, Field(ge=1)] = 48
    log_level: Literal["critical", "error", "warning", "info", "debug"] = "info"
    # /docs and /openapi.json.
    docs: bool = True
    # What a proxy takes off the paths of requests, and callers see in front of ours.
    root_path: str = "/"
    # Spans to where OTEL_EXPORTER_OTLP_ENDPOINT says; needs the extra `tracing`.
    tracing: bool = False
    bank_bytes: Annotated[int, Field(ge=1 << 20)] = 256 << 20
    # Webhooks to addresses inside the network, over http:// too: for trying out.
    webhooks_private: bool = False
    # Requests for scores at once: more are refused.
    most_waiting: Annotated[int, Field(ge=1)] = 96
    # Requests, transactions and labels a second that each key may send to this server, spread
    # evenly over its workers. Other servers count for themselves.
    rate_per_second: Annotated[float, Field(gt=0)] | None = None
    deadline_seconds: Annotated[float, Field(gt=0)] = 30.0
    # From slow clients: so long for the headers of a request, and again for its body.
    arrival_seconds: Annotated[float, Field(gt=0)] = 20.0
    # Changes of an account's labels by one key, in any 24 hours; copies learn from 32 labels.
    labels_per_account: Annotated[int, Field(ge=1)] = 200
    # The share of approved payments that people are shown too, to know what is let pass.
    sampled_approvals: Annotated[float, Field(ge=0, le=1)] = 0.001
    max_body_bytes: Annotated[int, Field(ge=1 << 10)] = 4 << 20

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

    @property
    def prefix(self) -> str:
        """What stands before the path of an address that a caller is to use; empty without one."""
        return self.root_path.rstrip("/")

    @property
    def connections_per_worker(self) -> int:
        """Of each worker's pool: one more is kept free for asking whether the database answers."""
        return min(MOST_CONNECTIONS, self.database_connections // self.workers - 1)

    @property
    def rate_per_worker(self) -> float | None:
        """A key's share of what one process lets in: its connections spread over all of them."""
        return None if self.rate_per_second is None else self.rate_per_second / self.workers
