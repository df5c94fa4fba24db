"""BentoML, which gathers requests adaptively: its service loops over the modules of a batch.

`bentoml serve benchmarks.rivals.bentoml_modules:Modules --host 127.0.0.1 --port 8000`
"""

from typing import Annotated, Any

import bentoml
from pydantic import BeforeValidator, PlainSerializer

from benchmarks.rivals.modules import BATCH, score

# BentoML batches lists of payments; a body is one of them, and so is an answer.
Payments = Annotated[list[dict[str, Any]], BeforeValidator(lambda payment: [payment])]
Scores = Annotated[list[dict[str, Any]], PlainSerializer(lambda scores: scores[0])]


@bentoml.service(logging={"access": {"enabled": False}})
class Modules:
    @bentoml.api(batchable=True, max_batch_size=BATCH, route="/v1/transactions")
    def score(self, payments: Payments, /) -> Scores:
        return [score(payment) for payment in payments]
