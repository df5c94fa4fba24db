"""An environment for the rivals alone, made from `requirements.txt`, and how each is started in it.

It lies in `build/rivals-env`, or where RIVALS_ENV says.
"""

import os
import subprocess
import venv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
DEFAULT_FOLDER = Path(__file__).parents[2] / "build" / "rivals-env"


class Rival(NamedTuple):
    """The command that serves on a port, given the folder of the environment's programs."""

    command: Callable[[Path, int], list[str]]
    # The header, if any, that names the account.
    account_header: str | None = None


def module(name: str, *arguments: str) -> Callable[[Path, int], list[str]]:
    """`python -m name` with arguments, of which `{}` is the port."""
    return lambda programs, port: [
        str(programs / "python"),
        "-m",
        name,
        *(argument.format(port) for argument in arguments),
    ]


def bentoml(programs: Path, port: int) -> list[str]:
    served = "benchmarks.rivals.bentoml_modules:Modules"
    return [str(programs / "bentoml"), "serve", served, "--host", "127.0.0.1", "--port", str(port)]


RIVALS = {
    "plain_fastapi": Rival(
        module(
            "uvicorn", "benchmarks.rivals.fastapi_modules:app", "--no-access-log", "--port", "{}"
        )
    ),
    "mosec": Rival(
        module(
            "benchmarks.rivals.mosec_modules",
            *("--address", "127.0.0.1", "--log-level", "warning", "--port", "{}"),
        )
    ),
    "litserve": Rival(module("benchmarks.rivals.litserve_modules", "{}")),
    "bentoml": Rival(bentoml),
    "ray": Rival(
        module("benchmarks.rivals.ray_modules", "{}"), account_header="serve_multiplexed_model_id"
    ),
}


# What stores, as the service does: with a database, and so not among the others.
STORED = Rival(
    module("uvicorn", "benchmarks.rivals.stored_modules:app", "--no-access-log", "--port", "{}")
)


def settings(home: str) -> dict[str, str]:
    """Environment variables of a rival: its files stay in a folder, and it reports to nobody."""
    return {
        "HOME": home,
        "TMPDIR": home,
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Keeps Ray to loopback.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }


def programs() -> Path:
    """The folder of the environment's programs; made anew where the requirements are others."""
    folder = Path(os.environ.get("RIVALS_ENV", DEFAULT_FOLDER))
    installed, wanted = folder / REQUIREMENTS.name, REQUIREMENTS.read_text()
    if not installed.exists() or installed.read_text() != wanted:
        print(f"Installing the rivals into {folder} ...", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--disable-pip-version-check", "-r", str(REQUIREMENTS)], check=True)
        installed.write_text(wanted)
    return folder / "bin"
