"""Ray Serve, multiplexed: an account is a model's id, named in a header of the request.

One replica, in which all models stay loaded. `python -m benchmarks.rivals.ray_modules 8000`
"""

import sys
from typing import Any

import ray
from ray import serve
from ray._common.tls_utils import add_port_to_grpc_server
from ray.serve._private import replica
from starlette.requests import Request

from benchmarks.rivals.modules import ACCOUNTS, BATCH, Model, model_of

LOGGING = {"enable_access_log": False}


@serve.deployment(max_ongoing_requests=2 * BATCH, logging_config=LOGGING)
class Modules:
    def __init__(self) -> None:
        # The only server of Ray's that no setting keeps to loopback.
        replica.add_port_to_grpc_server = lambda server, _: add_port_to_grpc_server(
            server, "127.0.0.1:0"
        )

    @serve.multiplexed(max_num_models_per_replica=ACCOUNTS)
    async def load(self, account_id: str) -> Model:
        return model_of(account_id)

    async def __call__(self, request: Request) -> dict[str, Any]:
        model = await self.load(serve.get_multiplexed_model_id())
        return model.score(await request.json())


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config=LOGGING
    )
    serve.run(Modules.bind(), route_prefix="/v1/transactions", blocking=True)
