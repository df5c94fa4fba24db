"""Nothing lost, nobody in: what the service promises under load, faults and hostile input.

`make test` runs a short form of each; `make torture` the full one, and writes what it saw into
docs/reliability.md.
"""

import pytest

pytest.register_assert_rewrite("tests.reliability.ledger")
