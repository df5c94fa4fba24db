"""mosec, which gathers requests in Rust: its worker loops over the modules of a batch.

`python -m benchmarks.rivals.mosec_modules --address 127.0.0.1 --port 8000`
"""

from typing import Any

from mosec import Server, Worker

from benchmarks.rivals.modules import BATCH, BATCH_MILLISECONDS, score


class Modules(Worker):
    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [score(payment) for payment in data]


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Modules,
        max_batch_size=BATCH,
        max_wait_time=BATCH_MILLISECONDS,
        route="/v1/transactions",
    )
    server.run()
