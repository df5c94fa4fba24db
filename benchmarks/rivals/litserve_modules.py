"""LitServe, which gathers requests in a worker process: it loops over the modules of a batch.

`python -m benchmarks.rivals.litserve_modules 8000`
"""

import sys
from typing import Any

from litserve import LitAPI, LitServer

from benchmarks.rivals.modules import BATCH, BATCH_MILLISECONDS, score


class Modules(LitAPI):
    def setup(self, device: str) -> None:
        """Nothing: the modules are imported."""

    def batch(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return inputs

    def predict(self, x: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [score(payment) for payment in x]

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output


if __name__ == "__main__":
    modules = Modules(
        max_batch_size=BATCH, batch_timeout=BATCH_MILLISECONDS / 1000, api_path="/v1/transactions"
    )
    server = LitServer(modules, accelerator="cpu", fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
