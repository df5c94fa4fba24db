"""Erasures and their certificates."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

ERASURE: JsonDict = {
    "id": "5f0c8a9d1b2e3f4a5b6c7d8e",
    "erased_at": "2026-03-01T08:00:00.000000Z",
    "account_digest": "ac" * 32,
    "salt": "0f" * 16,
    "erased": {"transactions": 41, "labels": 3, "label_events": 4, "reviews": 2},
    "merchants_rebuilt": 12,
    "labels_corrected": 1,
    "features": "3b1f5c0e9a7d2468",
    "model": "default@ee2277d1f564",
    "training_data_sha256": "5e" * 32,
    "not_covered": ["The model's own weights."],
    "digest": "d1" * 32,
}


class ErasedRows(BaseModel):
    """How many rows are gone."""

    transactions: int
    labels: int
    label_events: int
    reviews: int


class ErasureFacts(BaseModel):
    """What was erased, what was made as if it had never been, and what this does not cover."""

    id: str
    erased_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    account_digest: Annotated[
        str,
        Field(
            description="Of the account's id in UTF-8: scrypt with n = 2**15, r = 8, p = 1 and "
            "32 bytes, in hexadecimal. Whoever has the id can match it."
        ),
    ]
    salt: Annotated[str, Field(description="Of that digest, in hexadecimal.")]
    erased: ErasedRows
    merchants_rebuilt: Annotated[
        int,
        Field(
            description="Merchants, devices and other entities whose counts and amounts were "
            "summed anew without the account."
        ),
    ]
    labels_corrected: Annotated[
        int, Field(description="Labelled transactions of others that had seen its labels.")
    ]
    features: Annotated[str, Field(description="The digest of the features' definition.")]
    model: Annotated[str | None, Field(description="Null where it could not be loaded.")]
    training_data_sha256: str | None
    not_covered: list[str]
    digest: Annotated[
        str,
        Field(
            description="SHA-256 of the certificate without this, as canonical JSON: with the "
            "account's id, sorted, without spaces, in ASCII."
        ),
    ]


class Certificate(ErasureFacts):
    """The certificate of an erasure; it is kept without the account's id."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"account_id": "a-17", **ERASURE}]})

    account_id: str


class Erasure(ErasureFacts):
    """The certificate of an erasure as it is kept: without the account's id."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"actor": "3c81463f5052", **ERASURE}]}
    )

    actor: Annotated[str, Field(description="The id of the key that erased.")]
