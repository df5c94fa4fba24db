"""schemathesis against a real server: what the OpenAPI document says, tried in many ways."""

import os
import subprocess
import sys
from pathlib import Path

from quickstudy_client import Client
from tests.api import schemathesis_hooks
from tests.api.requests import posted
from tests.conftest import REPOSITORY
from tests.servers import new_key, server

# Which of an address's ids exist decides how deep a request gets: in one run whichever comes, in
# the other those that do, of an account that is not erased meanwhile.
EXISTING = """
[parameters]
"path.account_id" = "a-17"
"path.transaction_id" = "t-1001"
"path.revision" = 1
"""
# No schema can say how far a time may lie ahead of now, or whose a transaction is. And there may
# be a transaction `batch` or `statuses`, or a review of a transaction `next`: their addresses know
# GET, which the schema has under another path. Of a batch what is wrong is refused item by item, in
# an answer of 200. An amount may be a number.
EVERY = """
[checks]
positive_data_acceptance.enabled = false

[[operations]]
include-path-regex = "^/v1/transactions/(batch|statuses)$"
checks.allow_header_conformance.enabled = false
checks.negative_data_rejection.enabled = false

[[operations]]
include-path-regex = "^/v1/reviews/next$"
checks.allow_header_conformance.enabled = false

[[operations]]
include-path-regex = "^/v1/(transactions(/statuses)?|labels|accounts/[^/]+/(labels|adapt))$"
checks.negative_data_rejection.enabled = false

[[operations]]
include-path-regex = "^/v1/searches/[^/]+$"
checks.negative_data_rejection.enabled = false
"""
# Else most examples of labels would be refused unseen, and no webhook be registered.
ALLOWED = {"QUICKSTUDY_LABELS_PER_ACCOUNT": "1000000", "QUICKSTUDY_WEBHOOKS_PRIVATE": "1"}
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "any ids": ("", ()),
    "existing ids": (EXISTING, ("--exclude-operation-id-regex", "^erase_account")),
}


def tried(
    database_url: str, checkpoint: Path, folder: Path, run: str, examples: int
) -> tuple[str, bool]:
    """What schemathesis says after so many examples an operation, and whether it found anything.

    The server knows the ids of the document's examples.
    """
    config, options = RUNS[run]
    (folder / "schemathesis.toml").write_text(config + EVERY)
    key = new_key(database_url)
    with (
        server(database_url, checkpoint, **ALLOWED) as url,
        Client(url, key) as client,
    ):
        client.set_thresholds(review=1e-6, decline=0.999)
        client.score_batch([posted(f"t-100{n}", account_id="a-17") for n in range(3)])
        client.label("t-1001", "fraud")
        command = [
            *("--config-file", str(folder / "schemathesis.toml")),
            *("run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {key}", *options),
            *("--max-examples", str(examples), "--seed", "1"),
            "--generation-database=none",
            "--no-color",
        ]
        done = subprocess.run(
            [Path(sys.executable).with_name("schemathesis"), *command],
            capture_output=True,
            text=True,
            cwd=folder,
            env={
                **os.environ,
                "SCHEMATHESIS_HOOKS": schemathesis_hooks.__name__,
                "PYTHONPATH": str(REPOSITORY),
                # To try every character by a codec takes it seconds, and it keeps what it finds.
                "HYPOTHESIS_STORAGE_DIRECTORY": str(REPOSITORY / ".hypothesis"),
            },
        )
    return done.stdout + done.stderr, done.returncode != 0
