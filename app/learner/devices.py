"""Which device computes, found without PyTorch where there is no GPU for it."""

import ctypes
import sys
from importlib.util import find_spec

from app.errors import SetupError

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def choose_device(name: str) -> str:
    """`cpu` or `cuda`; `auto` is the GPU where there is one that PyTorch can use.

    Raises SetupError for a device that is not there.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise SetupError(f"unknown device {name!r}; choose from auto, cpu, cuda")
    has_torch = name != "cpu" and find_spec("torch") is not None
    if name == "cuda" and not has_torch:
        raise SetupError("device cuda needs PyTorch, which is not installed: pip install '.[gpu]'")
    # PyTorch takes a second to import: not where there is no driver for it to use.
    if name == "cuda" or (name == "auto" and has_torch and _has_driver()):
        from app.learner.differentiable.gpu import is_available

        if is_available():
            return "cuda"
    if name == "cuda":
        raise SetupError("device cuda was chosen, but PyTorch finds no GPU; choose cpu, or auto")
    return "cpu"


def _has_driver() -> bool:
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True
