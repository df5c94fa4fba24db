"""What start-up leaves behind: a collector that works, and has nothing old to look at."""

import subprocess
import sys

STARTED = """
import gc, sys
import app.cli, app.main
assert gc.isenabled()
assert gc.get_freeze_count() > 10 * len(gc.get_objects())
assert not {"polars", "sklearn", "matplotlib"} & set(sys.modules)
"""


def test_start_up_is_frozen_and_takes_nothing_that_only_files_need() -> None:
    done = subprocess.run([sys.executable, "-c", STARTED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
