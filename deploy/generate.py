"""Write the manifests of deploy/kubernetes/, for `kubectl apply -k`: what the chart makes of the
values beside each. Run by `make manifests`, with helm 3 or 4.

tests/test_kubernetes.py fails where they are not what the chart says.
"""

import subprocess
from pathlib import Path

HERE = Path(__file__).parent
CHART, OVERLAYS = HERE / "chart", HERE / "kubernetes"
MANIFESTS = "quickstudy.yaml"
NOTICE = "# Written by deploy/generate.py from deploy/chart: do not edit.\n"


def overlays() -> list[str]:
    """The names of the folders that are written."""
    return sorted(path.parent.name for path in OVERLAYS.glob("*/values.yaml"))


def rendered(overlay: str) -> str:
    """The manifests of an overlay, by the program `helm`; raises where it refuses."""
    values = OVERLAYS / overlay / "values.yaml"
    done = subprocess.run(
        ["helm", "template", "quickstudy", CHART, "--values", values],
        stdout=subprocess.PIPE,
        # That it follows the links to monitoring/.
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return NOTICE + done.stdout


if __name__ == "__main__":
    for name in overlays():
        (OVERLAYS / name / MANIFESTS).write_text(rendered(name))
