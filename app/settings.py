"""The service's settings, from the environment or from files, which keep secrets out of it.

QUICKSTUDY_DATABASE_URL is a variable, or else the file /run/secrets/quickstudy_database_url, which
is where container engines and orchestrators put secrets.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

SHIPPED_MODEL = Path(__file__).parent.parent / "models" / "default"
SECRETS = Path("/run/secrets")


class Settings(BaseSettings):
    """Everything an operator can set. Wrong values are refused at start (ValidationError)."""

    model_config = SettingsConfigDict(
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
    log_level: Literal["critical", "error", "warning", "info", "debug"] = "info"
    # /docs, /redoc and /openapi.json.
    docs: bool = True
    # Spans to where OTEL_EXPORTER_OTLP_ENDPOINT says; needs the extra `tracing`.
    tracing: bool = False
    bank_bytes: Annotated[int, Field(ge=1 << 20)] = 256 << 20
    # Webhooks to addresses inside the network, over http:// too: for trying out.
    webhooks_private: bool = False
    # Requests for scores at once: more are refused.
    most_waiting: Annotated[int, Field(ge=1)] = 96
    # Requests, transactions and labels a second that each key may send to this server.
    rate_per_second: Annotated[float, Field(gt=0)] | None = None
    deadline_seconds: Annotated[float, Field(gt=0)] = 30.0
    # From slow clients: so long for the headers of a request, and again for its body.
    arrival_seconds: Annotated[float, Field(gt=0)] = 20.0
    # Changes of an account's labels by one key, in any 24 hours; copies learn from 32 labels.
    labels_per_account: Annotated[int, Field(ge=1)] = 200
    # The share of approved payments that people are shown too, to know what is let pass.
    sampled_approvals: Annotated[float, Field(ge=0, le=1)] = 0.001
    max_body_bytes: Annotated[int, Field(ge=1 << 10)] = 4 << 20

    @property
    def rate_per_worker(self) -> float | None:
        """A key's share of what one process lets in: its connections spread over all of them."""
        return None if self.rate_per_second is None else self.rate_per_second / self.workers
