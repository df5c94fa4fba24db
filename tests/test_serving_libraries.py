"""A service that computes on the CPU loads none of the libraries that training needs."""

import json
import os
import subprocess
import sys
from pathlib import Path

SERVES_A_SCORE = """
import asyncio, json, sys
from fastapi.testclient import TestClient
from app.db.database import Database
from app.db.migrating import upgrade
from app.keys import service as keys
from app.main import create_app
from app.settings import Settings

async def make_key():
    database = Database(Settings().database_url)
    try:
        return await keys.create(database, "test", "default", ["score"])
    finally:
        await database.close()

upgrade(Settings().database_url)
key = asyncio.run(make_key())
payment = {"transaction_id": "t", "account_id": "a", "occurred_at": "2026-01-01T00:00:00Z",
           "amount": 1, "currency": "EUR"}
with TestClient(create_app()) as client:
    answer = client.post(
        "/v1/transactions", json=payment, headers={"Authorization": f"Bearer {key}"}
    )
print(json.dumps([answer.status_code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""
TRAINING = {"duckdb", "torch", "currency_converter", "polars", "sklearn", "scipy", "matplotlib"}


def test_a_process_that_has_served_a_score_has_no_library_of_training(tmp_path: Path) -> None:
    variables = os.environ | {
        "QUICKSTUDY_DATABASE_URL": f"sqlite:///{tmp_path}/test.db",
        "QUICKSTUDY_DEVICE": "cpu",
    }
    printed = subprocess.run(
        [sys.executable, "-c", SERVES_A_SCORE],
        env=variables,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    status, modules = json.loads(printed.splitlines()[-1])
    assert status == 200
    assert TRAINING & set(modules) == set()
