"""Alerts are raised by the figures that they are for, and each leads to a runbook."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY

RULES = REPOSITORY / "monitoring" / "rules.yml"
SCENES = REPOSITORY / "tests" / "data" / "alerts.yml"


def alerts() -> dict[str, dict[str, Any]]:
    """The rules that raise alerts, by name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def promtool(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (on Debian: apt-get install prometheus)")
    return subprocess.run([program, *arguments], capture_output=True, text=True)


def tried(rules: str, folder: Path, scene: str = "") -> "subprocess.CompletedProcess[str]":
    """The scenes whose name contains this, on these rules."""
    (folder / "rules.yml").write_text(rules)
    document = yaml.safe_load(SCENES.read_text())
    document["tests"] = [test for test in document["tests"] if scene in test["name"]]
    assert document["tests"]
    (folder / "alerts.yml").write_text(yaml.safe_dump(document))
    return promtool("test", "rules", folder / "alerts.yml")


def test_alerts_are_raised_by_what_they_are_for_and_by_nothing_else(tmp_path: Path) -> None:
    checked = promtool("check", "rules", RULES)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    ended = tried(RULES.read_text(), tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("right", "wrong", "scene"),
    [
        ('status=~"5.."', 'status=~"4.."', "wake somebody"),
        ("min by (task)", "max by (task)", "in the service raises"),
        ("max(quickstudy_oldest_review_seconds", "max(quickstudy_oldest", "people and models"),
        ("sum(rate(", "sum(rate", "CloudNativePG"),
    ],
)
def test_a_rule_that_was_broken_is_noticed(
    tmp_path: Path, right: str, wrong: str, scene: str
) -> None:
    rules = RULES.read_text()
    assert right in rules
    assert tried(rules, tmp_path, scene).returncode == 0
    assert tried(rules.replace(right, wrong), tmp_path, scene).returncode != 0


def test_every_alert_has_a_scene_that_raises_it() -> None:
    raised = set(re.findall(r'labels: \'\{alertname="(\w+)"', SCENES.read_text()))
    assert raised == set(alerts())


def test_every_alert_leads_to_a_section_of_the_runbooks_and_says_how_urgent_it_is() -> None:
    sections = re.findall(r"^## (\w+)$", (REPOSITORY / "docs" / "runbooks.md").read_text(), re.M)
    assert sections == list(alerts())
    for name, rule in alerts().items():
        assert rule["annotations"]["runbook"] == f"docs/runbooks.md#{name.lower()}"
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_prometheus_reads_the_rules_in_compose() -> None:
    configuration = yaml.safe_load((REPOSITORY / "monitoring" / "prometheus.yml").read_text())
    [place] = configuration["rule_files"]
    compose = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
    mounted = [volume.split(":")[:2] for volume in compose["services"]["prometheus"]["volumes"]]
    assert ["./monitoring/rules.yml", f"/etc/prometheus/{place}"] in mounted
