"""For schemathesis, what no schema can express: without it, little would get past validation.

Times lie in the past, an id is not taken by a transaction with other content, and a webhook's
host has an address.
"""

import re
from datetime import datetime
from itertools import count
from typing import Any

import schemathesis
from hypothesis import strategies as st

PAST = st.datetimes(datetime(1970, 1, 1), datetime(2026, 1, 31))
# Of the document's examples, which most bodies are made of.
EXAMPLE = "t-1001"
# What the document says of it: what is wrong on purpose stays wrong.
URL = re.compile(r"[\x21-\x7e]{1,2000}")
_numbers = count()

schemathesis.openapi.format("date-time", PAST.map(lambda time: f"{time.isoformat()}Z"))
# A file of labels is sent as the text that it is.
schemathesis.serializer.alias("application/x-ndjson", "text/plain")


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    path = context.operation.path if context.operation else ""
    if not isinstance(body, dict):
        return body
    if path == "/v1/transactions" and body.get("transaction_id") == EXAMPLE:
        return {**body, "transaction_id": f"{EXAMPLE}-{next(_numbers)}"}
    url = body.get("url")
    if path == "/v1/webhooks" and isinstance(url, str) and URL.fullmatch(url):
        return {**body, "url": "http://127.0.0.1:9/nobody-listens"}
    return body
