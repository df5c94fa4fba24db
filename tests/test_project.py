"""The project's own files: what is installed, how it is started, what imports what."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, distribution, metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from app.settings import SECRETS, Settings

REPOSITORY = Path(__file__).resolve().parents[1]
LOCK = REPOSITORY / "requirements.lock"
MAKEFILE = REPOSITORY / "Makefile"
TARGETS = {
    "setup",
    "serve",
    "test",
    "torture",
    "lint",
    "docs",
    "lock",
    "audit",
    "train",
    "demo",
    "bench",
}


# What the wheel has to hold of the repository, but for what is compiled.
PACKAGED = ("app/", "migrations/", "models/default/")
COMPILED = (".pyx", ".pxd", ".pyi", ".h")


def project() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def locked() -> dict[str, Requirement]:
    lines = [line for line in LOCK.read_text().splitlines() if not line.startswith("#")]
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def declared() -> list[Requirement]:
    extras = project()["optional-dependencies"].values()
    lines = [*project()["dependencies"], *(line for extra in extras for line in extra)]
    requirements = [Requirement(line) for line in lines]
    return [requirement for requirement in requirements if requirement.name != project()["name"]]


@pytest.mark.parametrize("requirement", declared(), ids=lambda requirement: requirement.name)
def test_the_lock_holds_every_dependency_at_a_version_within_its_range(
    requirement: Requirement,
) -> None:
    pin = locked()[canonicalize_name(requirement.name)]
    version = next(iter(pin.specifier)).version
    assert requirement.specifier.contains(version)
    assert pin.marker == requirement.marker


def test_the_lock_is_exact_pins_alone_without_a_path_host_or_option() -> None:
    pins = [line for line in LOCK.read_text().splitlines() if not line.startswith("#")]
    names = "sys_platform|implementation_name|platform_python_implementation"
    marker = rf"({names}) [!=]= '[A-Za-z0-9]+'"
    exact = re.compile(rf"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*( ; {marker}( and {marker})*)?")
    assert [pin for pin in pins if not exact.fullmatch(pin)] == []
    assert len(locked()) == len(pins)
    assert re.search(r"://|/|@|--|\.env", LOCK.read_text()) is None


def test_uv_lock_has_the_versions_of_the_lock_with_hashes_and_what_the_project_declares() -> None:
    packages = tomllib.loads((REPOSITORY / "uv.lock").read_text())["package"]
    [own] = [package for package in packages if package["name"] == project()["name"]]
    packages = {package["name"]: package for package in packages if package is not own}
    versions = {name: f"=={package['version']}" for name, package in packages.items()}
    # The CUDA packages of PyPI's build of PyTorch are in uv.lock alone.
    assert {name: str(pin.specifier) for name, pin in locked().items()}.items() <= versions.items()
    for package in packages.values():
        files = [*package.get("wheels", []), *filter(None, [package.get("sdist")])]
        assert files
        assert all(file["hash"].startswith("sha256:") for file in files)
    stated = {
        (line["name"], SpecifierSet(line.get("specifier", "")))
        for line in own["metadata"]["requires-dist"]
        if line["name"] != project()["name"]
    }
    stated_here = {(canonicalize_name(line.name), line.specifier) for line in declared()}
    assert stated == stated_here, "run make lock"


def test_the_lock_names_the_release_of_pytorch_and_not_one_build_of_it() -> None:
    assert str(locked()["torch"].specifier) == "==2.13.0"


def test_make_alone_lists_the_targets() -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert set(re.findall(r"^  make (\w+) +\S", listed.stdout, re.MULTILINE)) >= TARGETS


def test_ci_runs_the_same_commands_as_a_developer() -> None:
    ci = REPOSITORY / ".ci" / "run"
    assert ci.stat().st_mode & 0o111
    commands = [line for line in ci.read_text().splitlines() if line.startswith("make ")]
    assert commands == ["make lint", "make test"]
    workflow = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "ci.yml").read_text())
    assert {"run": ".ci/run"} in workflow["jobs"]["checks"]["steps"]
    assert {"run": "make audit"} in workflow["jobs"]["audit"]["steps"]
    assert workflow["permissions"] == {"contents": "read"}


def test_no_vulnerability_is_passed_over_without_a_reason() -> None:
    [exceptions] = re.findall(r"^NOT_AFFECTED :=(.*)$", MAKEFILE.read_text(), re.MULTILINE)
    security = (REPOSITORY / "SECURITY.md").read_text()
    assert [part for part in exceptions.split() if part not in security] == []


# None requires more than that its notice is kept, or that changes to its own files are published.
LICENCES = re.compile(
    r"MIT|BSD|Apache|MPL-2|Mozilla|ISC|PSF|Python Software Foundation|Zlib|BSL-1|Public Domain"
)


@pytest.mark.parametrize("name", sorted(locked()))
def test_every_dependency_has_a_licence_that_a_product_can_bear(name: str) -> None:
    try:
        package = metadata(name)
    except PackageNotFoundError:
        pytest.skip("not for this platform")
    classifiers = [
        classifier
        for classifier in package.get_all("Classifier", [])
        if classifier.startswith("License")
    ]
    licence = " ".join([package.get("License-Expression") or "", *classifiers]).strip()
    # CurrencyConverter names its licence in the text of it alone.
    title = distribution(name).read_text("licenses/LICENSE") or ""
    licence = licence or (package.get("License") or title).strip().splitlines()[0]
    assert LICENCES.search(licence), licence
    assert "GPL" not in licence


def compose() -> dict[str, Any]:
    return yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())


def test_compose_starts_the_service_after_the_migrations_and_those_after_the_database() -> None:
    every = compose()["services"]
    services = {name: service for name, service in every.items() if "profiles" not in service}
    assert set(services) == {"secrets", "db", "migrate", "service"}
    assert {
        name: service["profiles"] for name, service in every.items() if name not in services
    } == {
        "prometheus": ["monitoring"],
        "grafana": ["monitoring"],
        "backup": ["backup"],
        "tls": ["tls"],
    }
    finished = {"condition": "service_completed_successfully"}
    assert services["db"]["depends_on"] == {"secrets": finished}
    assert services["migrate"]["depends_on"] == {"db": {"condition": "service_healthy"}}
    assert services["service"]["depends_on"]["migrate"] == finished


def test_compose_builds_no_image_name_twice_at_once() -> None:
    built = [service for service in compose()["services"].values() if "build" in service]
    assert [service.get("image") for service in built] == [None, None]


def test_compose_draws_a_password_once_that_the_service_and_the_database_read_from_files(
    tmp_path: Path,
) -> None:
    services = compose()["services"]
    [script] = services["secrets"]["command"]
    here = script.replace("/run/secrets", str(tmp_path)).replace("$$", "$")
    found = []
    for _ in range(2):
        subprocess.run([*services["secrets"]["entrypoint"], here], check=True)
        found.append({path.name: path.read_text() for path in tmp_path.iterdir()})
    assert found[0] == found[1]
    password = found[0]["postgres_password"]
    assert re.fullmatch("[0-9a-f]{64}", password)
    url = Settings(_secrets_dir=str(tmp_path)).database_url  # type: ignore[call-arg]
    assert url == f"postgresql://quickstudy:{password}@db:5432/quickstudy"
    assert set(found[0]) == {"postgres_password", "quickstudy_database_url"}
    assert services["db"]["environment"]["POSTGRES_PASSWORD_FILE"] == f"{SECRETS}/postgres_password"
    for name in ("db", "migrate", "service"):
        assert f"secrets:{SECRETS}:ro" in services[name]["volumes"]


def test_a_variable_comes_before_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "quickstudy_database_url").write_text("sqlite:///filed.db\n")
    monkeypatch.delenv("QUICKSTUDY_DATABASE_URL", raising=False)
    assert Settings(_secrets_dir=str(tmp_path)).database_url == "sqlite:///filed.db"  # type: ignore[call-arg]
    monkeypatch.setenv("QUICKSTUDY_DATABASE_URL", "sqlite:///named.db")
    assert Settings(_secrets_dir=str(tmp_path)).database_url == "sqlite:///named.db"  # type: ignore[call-arg]
    assert Settings.model_config["secrets_dir"] == (SECRETS if SECRETS.is_dir() else None)
    # Else the image's own would come before the one that compose wrote.
    assert "QUICKSTUDY_DATABASE_URL" not in (REPOSITORY / "Dockerfile").read_text()


def test_no_secret_stands_in_the_compose_file_or_the_image() -> None:
    for name, service in compose()["services"].items():
        for variable in service.get("environment", {}):
            assert not re.search("PASSWORD$|SECRET|TOKEN|KEY|DATABASE_URL", variable), name
    assert not re.search("(?i)password|secret=", (REPOSITORY / "Dockerfile").read_text())


@pytest.mark.parametrize("name", sorted(compose()["services"]))
def test_compose_gives_a_container_no_more_rights_than_it_needs(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "tls" else [])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] == 512
    assert service["mem_limit"]
    assert not {"privileged", "pid", "ipc", "devices", "userns_mode"} & set(service)
    # Of the profile `tls` alone somebody may say otherwise.
    own = ("127.0.0.1:", "${QUICKSTUDY_TLS_ADDRESS:-127.0.0.1}:") if name == "tls" else "127.0.0.1:"
    assert [port for port in service.get("ports", []) if not port.startswith(own)] == []
    assert [volume for volume in service.get("volumes", []) if "docker.sock" in volume] == []
    # Root without a capability, without a network, for as long as two files take.
    assert (service.get("user") == "root") == (name == "secrets")
    assert (service.get("network_mode") == "none") == (name == "secrets")


def test_the_database_can_be_reached_by_the_service_alone_and_reaches_nobody() -> None:
    assert compose()["networks"] == {"database": {"internal": True}}
    networks = {
        name: service.get("networks", ["default"])
        for name, service in compose()["services"].items()
    }
    assert networks["db"] == networks["migrate"] == ["database"]
    assert networks["service"] == ["database", "default"]
    assert networks["backup"] == ["database"]
    assert networks["prometheus"] == networks["grafana"] == networks["tls"] == ["default"]
    assert compose()["services"]["db"]["user"] == "postgres"


def test_the_image_runs_as_a_user_of_its_own() -> None:
    last_stage = (REPOSITORY / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (\S+)$", last_stage, re.MULTILINE) == ["quickstudy"]
    assert "HEALTHCHECK" in last_stage


def test_half_a_training_is_left_out_of_the_image() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    # The last line that fits a path decides.
    unfinished = "models/default/training.safetensors"
    assert ignored.index(unfinished) > ignored.index("!models/default")


def copied_into_the_image() -> list[str]:
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    return [path for sources in copies for path in sources.split()]


@pytest.mark.parametrize("path", copied_into_the_image())
def test_what_the_image_copies_is_not_left_out_of_its_build(path: str) -> None:
    assert f"!{path}" in (REPOSITORY / ".dockerignore").read_text().splitlines()


def test_the_wheel_has_all_of_the_service_and_runs_in_an_empty_folder(tmp_path: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    tracked = [path for path in listed.stdout.split("\0") if (REPOSITORY / path).is_file()]
    compiled = [
        f"{path.removesuffix('.pyx')}{ending}"
        for path in tracked
        if path.endswith(".pyx")
        for ending in (".c", sysconfig.get_config_var("EXT_SUFFIX"))
    ]
    source = tmp_path / "source"
    # As built by the set-up: compiling the kernels again would take a minute.
    libraries = f"build/lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    for path in [*tracked, *compiled]:
        copy = source / libraries / path if path.endswith(".so") else source / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / path, copy)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    subprocess.run([*build, str(source)], check=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    needed = [path for path in tracked if path.startswith(PACKAGED)]
    assert [path for path in needed if path not in names and not path.endswith(COMPILED)] == []

    installed, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    subprocess.run([*pip, "install", "--no-deps", "--target", str(installed), wheel], check=True)
    shown = subprocess.run(
        [sys.executable, installed / "bin" / "quickstudy", "--help"],
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "learn each account" in shown.stdout
