"""`benchmarks/results.json`: ratios by their names, and the figures of each run that gave them."""

import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")


def keep(ratios: Mapping[str, float], **figures: Any) -> None:
    """Add what a program found, in the place of what it had found before."""
    name = Path(sys.argv[0]).stem
    run = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "command": " ".join([f"python -m benchmarks.{name}", *sys.argv[1:]]),
        **figures,
    }
    results = read()
    results |= {key: round(ratio, 3) for key, ratio in ratios.items()}
    results["runs"] = results.get("runs", {}) | {name: run}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def read() -> dict[str, Any]:
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return results
