"""The service's settings, read from the environment: QUICKSTUDY_DATABASE_URL, …"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

SHIPPED_MODEL = Path(__file__).parent.parent / "models" / "default"


class Settings(BaseSettings):
    """Everything an operator can set. Wrong values are refused at start (ValidationError)."""

    model_config = SettingsConfigDict(env_prefix="QUICKSTUDY_", extra="ignore")

    database_url: str = "sqlite:///quickstudy.db"
    model: Path = SHIPPED_MODEL
    # Where the other checkpoints are; None is the folder that `model` is in.
    models: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    log_level: Literal["critical", "error", "warning", "info", "debug"] = "info"
    # Spans to where OTEL_EXPORTER_OTLP_ENDPOINT says; needs the extra `tracing`.
    tracing: bool = False
    bank_bytes: Annotated[int, Field(ge=1 << 20)] = 256 << 20
    # Webhooks to addresses inside the network, over http:// too: for trying out.
    webhooks_private: bool = False
    # Changes of an account's labels by one key, in any 24 hours; copies learn from 32 labels.
    labels_per_account: Annotated[int, Field(ge=1)] = 200
    max_body_bytes: Annotated[int, Field(ge=1 << 10)] = 4 << 20
