"""Clients that others generate from the OpenAPI document score payments by a running service."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from tests.api.callers import openapi_document
from tests.servers import new_key, server

pytestmark = pytest.mark.torture
PROGRAMS = Path(__file__).with_name("clients")
JAR = str(files("openapi_generator_cli") / "openapi-generator.jar")
# Debian's golang-gopkg-validator.v2-dev: what the generated Go client needs beyond Go itself.
GO_VALIDATOR = Path("/usr/share/gocode/src/gopkg.in/validator.v2")
GENERATED = """package javax.annotation;
public @interface Generated { String[] value(); String date() default ""; String comments(); }
"""


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("openapi") / "openapi.json"
    path.write_text(json.dumps(openapi_document()))
    return path


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path, checkpoint: Path
) -> Iterator[tuple[str, str]]:
    """The URL of a service, and a key."""
    path = shutil.copy(migrated_sqlite, tmp_path_factory.mktemp("service") / "quickstudy.db")
    database_url = f"sqlite:///{path}"
    with server(database_url, checkpoint) as url:
        yield url, new_key(database_url)


def run(folder: Path, *command: str, **variables: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def needs(*commands: str) -> None:
    for command in commands:
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed")


def python(client: Path) -> list[str]:
    shutil.copy(PROGRAMS / "score.py", client)
    return [sys.executable, "score.py"]


def java(client: Path) -> list[str]:
    needs("javac")
    # What the client needs, Jackson, is in the generator's own file, but for one annotation.
    annotation = client / "Generated.java"
    annotation.write_text(GENERATED)
    sources = [str(path) for path in (client / "src" / "main" / "java").rglob("*.java")]
    program = str(PROGRAMS / "ScorePayments.java")
    run(client, "javac", "-nowarn", "-cp", JAR, "-d", "built", str(annotation), program, *sources)
    return ["java", "-cp", os.pathsep.join(["built", JAR]), "ScorePayments"]


def go(client: Path) -> list[str]:
    needs("go")
    if not GO_VALIDATOR.exists():
        pytest.skip(f"{GO_VALIDATOR} is not installed")
    validator, program = client / "validator", client / "program"
    shutil.copytree(GO_VALIDATOR, validator)
    (validator / "go.mod").write_text("module gopkg.in/validator.v2\n")
    program.mkdir()
    shutil.copy(PROGRAMS / "score.go", program)
    (client / "go.mod").write_text(
        "module quickstudy/client\n\nrequire gopkg.in/validator.v2 v2.0.1\n\n"
        "replace gopkg.in/validator.v2 => ./validator\n"
    )
    shutil.rmtree(client / "test", ignore_errors=True)
    run(client, "go", "build", "-o", "score", "./program", GOFLAGS="-mod=mod", GOPROXY="off")
    return ["./score"]


def typescript(client: Path) -> list[str]:
    needs("java", "npm", "node")
    source = client / "source"
    source.mkdir()
    for part in ("apis", "models", "index.ts", "runtime.ts"):
        (source / "client").mkdir(exist_ok=True)
        shutil.move(client / part, source / "client" / part)
    shutil.copy(PROGRAMS / "score.ts", source)
    if subprocess.run(
        ["npm", "install", "--silent", "--no-save", "typescript@5"], cwd=client
    ).returncode:
        pytest.skip("npm cannot install typescript here")
    options = ["--strict", "--target", "es2020", "--module", "commonjs", "--outDir", "built"]
    run(client, "node_modules/.bin/tsc", *options, "source/score.ts")
    return ["node", "built/score.js"]


GENERATORS: dict[str, tuple[Callable[[Path], list[str]], tuple[str, ...]]] = {
    "python": (python, ()),
    "java": (java, ("--library", "native", "--additional-properties=openApiNullable=false")),
    "go": (go, ()),
    "typescript-fetch": (typescript, ()),
}


@pytest.mark.parametrize("language", GENERATORS)
def test_a_generated_client_scores_a_payment(
    service: tuple[str, str], document: Path, tmp_path: Path, language: str
) -> None:
    needs("java")
    build, options = GENERATORS[language]
    client = tmp_path / "client"
    command = ("java", "-jar", JAR, "generate", "-i", str(document), "-g", language)
    run(tmp_path, *command, "-o", str(client), *options)
    printed = run(client, *build(client), *service)
    score, again, code = printed.split()
    assert 0 < float(score) < 1
    assert float(again) == float(score)
    assert code == "transaction_conflict"
