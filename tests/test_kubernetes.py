"""The manifests are what the chart makes, valid, and give pods no more rights than compose does."""

import shutil
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.web.server import SHUTDOWN_SECONDS
from deploy.generate import CHART, MANIFESTS, OVERLAYS, overlays, rendered
from tests.conftest import REPOSITORY

# The oldest that the chart takes, and the newest that the validator knows.
VERSIONS = ("1.27", kubernetes_validate.latest_version())
# Of operators: the validator has no schema of them.
OF_OPERATORS = {"Cluster", "PodMonitor", "PrometheusRule", "ServiceMonitor"}
ALWAYS = {("Deployment", "quickstudy"), ("NetworkPolicy", "quickstudy"), ("Service", "quickstudy")}
REPLICAS = ALWAYS | {
    ("HorizontalPodAutoscaler", "quickstudy"),
    ("Job", "quickstudy-migrate-0-1-0"),
    ("PodDisruptionBudget", "quickstudy"),
}
WITH_CLUSTER = REPLICAS | {("Cluster", "quickstudy-db"), ("NetworkPolicy", "quickstudy-db")}
MONITORING = {
    ("ConfigMap", "quickstudy-dashboard"),
    ("PodMonitor", "quickstudy-db"),
    ("PrometheusRule", "quickstudy"),
    ("ServiceMonitor", "quickstudy"),
}
EXPECTED = {
    "single": ALWAYS | {("PersistentVolumeClaim", "quickstudy")},
    "replicated": REPLICAS,
    "cloudnative-pg": WITH_CLUSTER,
    "monitored": WITH_CLUSTER | MONITORING,
}
Manifest = dict[str, Any]


def parsed(text: str) -> list[Manifest]:
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def manifests(overlay: str) -> list[Manifest]:
    return parsed((OVERLAYS / overlay / MANIFESTS).read_text())


def find(overlay: str, kind: str, name: str = "quickstudy") -> Manifest:
    [found] = [
        manifest
        for manifest in manifests(overlay)
        if (manifest["kind"], manifest["metadata"]["name"]) == (kind, name)
    ]
    return found


def pods(overlay: str) -> list[Manifest]:
    """The pods of deployments and jobs, as templates."""
    return [
        manifest["spec"]["template"]
        for manifest in manifests(overlay)
        if manifest["kind"] in ("Deployment", "Job")
    ]


def validate(manifest: Manifest) -> None:
    for version in VERSIONS:
        kubernetes_validate.validate(manifest, version, strict=True)


def helm(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    if shutil.which("helm") is None:
        pytest.skip("helm is not installed (https://helm.sh/docs/intro/install/)")
    return subprocess.run(["helm", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("overlay", overlays())
def test_the_manifests_are_what_the_chart_makes_of_the_values(overlay: str) -> None:
    linted = helm("lint", "--strict", CHART, "--values", OVERLAYS / overlay / "values.yaml")
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert manifests(overlay) == parsed(rendered(overlay)), "run make manifests"


@pytest.mark.parametrize(
    "value",
    ["databse=sqlite", "database=mysql", "settings.database_url=x", "replicas.least=0"],
)
def test_the_chart_refuses_values_that_it_does_not_know(value: str) -> None:
    refused = helm("template", "quickstudy", CHART, "--set", value)
    assert refused.returncode != 0
    assert "schema" in refused.stderr


@pytest.mark.parametrize("overlay", overlays())
def test_kustomize_builds_an_overlay_as_it_was_written(overlay: str) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed (https://kubernetes.io/docs/tasks/tools/)")
    built = subprocess.run(
        ["kubectl", "kustomize", OVERLAYS / overlay], capture_output=True, text=True, check=True
    )
    by_name = {(m["kind"], m["metadata"]["name"]): m for m in parsed(built.stdout)}
    assert by_name == {(m["kind"], m["metadata"]["name"]): m for m in manifests(overlay)}


@pytest.mark.parametrize("overlay", overlays())
def test_every_manifest_is_there_and_fits_the_schema_of_its_kind(overlay: str) -> None:
    found = manifests(overlay)
    assert {(m["kind"], m["metadata"]["name"]) for m in found} == EXPECTED[overlay]
    for manifest in found:
        if manifest["kind"] not in OF_OPERATORS:
            validate(manifest)


def test_a_manifest_that_was_broken_is_refused() -> None:
    sound = find("replicated", "Deployment")
    validate(sound)
    misspelt, mistyped, without = deepcopy(sound), deepcopy(sound), deepcopy(sound)
    misspelt["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    mistyped["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = "45s"
    del without["spec"]["selector"]
    for broken in (misspelt, mistyped, without):
        with pytest.raises(kubernetes_validate.ValidationError):
            validate(broken)


@pytest.mark.parametrize("overlay", overlays())
def test_a_pod_has_no_more_rights_than_it_needs(overlay: str) -> None:
    for pod in pods(overlay):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["shareProcessNamespace"] is True
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True
        # As the image has it.
        assert security["runAsUser"] == security["fsGroup"] == 10001
        assert "--uid 10001" in (REPOSITORY / "Dockerfile").read_text()
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        [container] = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        # What is written goes to these; secrets come from files.
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert "/tmp" in mounts
        names = [variable["name"] for variable in container.get("env", [])]
        # The console behind an ingress: whom the network policy lets in is believed.
        assert ("FORWARDED_ALLOW_IPS" in names) is (container["name"] == "service")
        assert [name for name in names if "URL" in name or "SECRET" in name] == []
        if overlay == "single":
            assert "/var/lib/quickstudy" in mounts
        else:
            assert mounts["/run/secrets"]["readOnly"] is True
            [secret] = [v["secret"] for v in spec["volumes"] if v["name"] == "secrets"]
            [item] = secret["items"]
            assert item["path"] == "quickstudy_database_url"
            assert secret["defaultMode"] == 0o440


@pytest.mark.parametrize("overlay", overlays())
def test_a_pod_is_asked_how_it_is_and_ends_in_peace(overlay: str) -> None:
    spec = find(overlay, "Deployment")["spec"]["template"]["spec"]
    [container] = spec["containers"]
    paths = {
        name: container[f"{name}Probe"]["httpGet"]["path"]
        for name in ("startup", "liveness", "readiness")
    }
    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    [_, pause] = container["lifecycle"]["preStop"]["exec"]["command"]
    assert spec["terminationGracePeriodSeconds"] > int(pause) + 2 * SHUTDOWN_SECONDS


@pytest.mark.parametrize("overlay", overlays())
def test_what_selects_pods_selects_those_of_the_service(overlay: str) -> None:
    deployment = find(overlay, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        find(overlay, "Service")["spec"]["selector"],
        find(overlay, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    if overlay != "single":
        selectors.append(find(overlay, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"])
        scaled = find(overlay, "HorizontalPodAutoscaler")["spec"]
        assert scaled["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
        assert "replicas" not in deployment["spec"]
        [job] = [m for m in manifests(overlay) if m["kind"] == "Job"]
        migrating = job["spec"]["template"]
        assert migrating["spec"]["containers"][0]["args"] == ["db", "upgrade"]
        # The service's address leads to no job.
        assert not selectors[1].items() <= migrating["metadata"]["labels"].items()
    else:
        assert deployment["spec"]["replicas"] == 1
        assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert all(selector.items() <= labels for selector in selectors)


def test_the_cluster_has_connections_for_all_replicas_and_a_standby_with_every_commit() -> None:
    cluster = find("cloudnative-pg", "Cluster", "quickstudy-db")["spec"]
    most = find("cloudnative-pg", "HorizontalPodAutoscaler")["spec"]["maxReplicas"]
    [container] = find("cloudnative-pg", "Deployment")["spec"]["template"]["spec"]["containers"]
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    connections = int(variables["QUICKSTUDY_DATABASE_CONNECTIONS"])
    assert int(cluster["postgresql"]["parameters"]["max_connections"]) >= most * connections + 13
    assert cluster["postgresql"]["synchronous"] == {"method": "any", "number": 1}
    assert cluster["instances"] >= 2


def test_what_is_monitored_has_the_rules_and_the_dashboard_of_the_repository() -> None:
    rules = yaml.safe_load((REPOSITORY / "monitoring" / "rules.yml").read_text())
    assert find("monitored", "PrometheusRule")["spec"] == rules
    folder = REPOSITORY / "monitoring" / "provisioning" / "dashboards"
    dashboard = find("monitored", "ConfigMap", "quickstudy-dashboard")["data"]["quickstudy.json"]
    assert yaml.safe_load(dashboard) == yaml.safe_load((folder / "quickstudy.json").read_text())
    [endpoint] = find("monitored", "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["path"] == "/metrics"
    # By this name the alerts find it.
    assert {"targetLabel": "job", "replacement": "quickstudy"} in endpoint["relabelings"]
