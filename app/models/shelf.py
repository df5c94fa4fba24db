"""The folder of checkpoints: what can be served, by name, and what decides, as files."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from app.db.connection import Connection
from app.learner.checkpoint import METADATA, WEIGHTS, Checkpoint, CheckpointError
from app.models import store as model_store
from app.models.errors import ModelNotFound, ModelRefused, ReportNotFound
from app.settings import Settings

# What training writes for people, if it is in a checkpoint's folder.
REPORT = "report.html"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Shelved(NamedTuple):
    """A checkpoint in the folder of checkpoints; `refused` says why it cannot be served."""

    name: str
    digest: str | None
    refused: str | None


def replaced(name: str) -> str:
    return f"Model {name!r} is no longer the checkpoint that was activated."


class Shelf:
    """Checkpoints that nothing scores by yet.

    `default` serves every tenant that has not chosen another.
    """

    def __init__(self, settings: Settings) -> None:
        self._path_of_default = settings.model
        self._folder = settings.models or settings.model.resolve().parent
        self.default = Checkpoint.load(settings.model)
        self.default_name = settings.model.resolve().name

    async def active(self, connection: Connection, tenant: str) -> Checkpoint:
        """What decides for a tenant now. Raises ModelNotFound or ModelRefused."""
        change = await model_store.model_change(connection, tenant, "active")
        if change is None or change.name is None:
            return self.default
        checkpoint = await self.checkpoint(change.name)
        if checkpoint.digest != change.digest:
            raise ModelRefused(replaced(change.name))
        return checkpoint

    async def shelved(self) -> Sequence[Shelved]:
        """What is in the folder, by name."""
        names = [self.default_name]
        if self._folder.is_dir():
            found = [path.parent.name for path in self._folder.glob(f"*/{METADATA}")]
            names = sorted({*names, *(name for name in found if NAME.fullmatch(name))})
        shelf = []
        for name in names:
            try:
                shelf.append(Shelved(name, (await self.checkpoint(name)).digest, None))
            except (ModelNotFound, ModelRefused) as error:
                shelf.append(Shelved(name, None, error.detail))
        return shelf

    async def checkpoint(self, name: str) -> Checkpoint:
        """What has this name now. Raises ModelNotFound or ModelRefused."""
        try:
            checkpoint = await asyncio.to_thread(Checkpoint.load, self._path(name))
        except CheckpointError as error:
            raise ModelRefused(f"Model {name!r} cannot be served: {error.reason}.") from error
        if checkpoint.features.digest != self.default.features.digest:
            raise ModelRefused(
                f"Model {name!r} reads features {checkpoint.features.digest}, and the database "
                f"holds {self.default.features.digest}: it needs a database of its own, or "
                "`quickstudy db rebuild` for all tenants."
            )
        return checkpoint

    def expect(self, name: str) -> None:
        """Raises ModelNotFound where there is no checkpoint of this name."""
        self._path(name)

    async def report(self, name: str) -> str:
        """The page that training wrote beside a checkpoint. Raises ReportNotFound."""
        path = self._path(name) / REPORT
        if not path.resolve().is_relative_to(self._path(name).resolve()):
            raise ReportNotFound(f"Model {name!r} has no {REPORT} in its folder.")
        try:
            return await asyncio.to_thread(path.read_text, "utf-8")
        except (OSError, ValueError):
            raise ReportNotFound(f"Model {name!r} has no {REPORT} in its folder.") from None

    def _path(self, name: str) -> Path:
        if name == self.default_name:
            return self._path_of_default
        # Only names of this shape become part of a path.
        if not NAME.fullmatch(name) or not self._has(self._folder / name):
            raise ModelNotFound(f"There is no model {name!r}.")
        return self._folder / name

    def _has(self, folder: Path) -> bool:
        """Whether there is a checkpoint that no link leads out of the folder of checkpoints."""
        top = self._folder.resolve()
        files = ((folder / file).resolve() for file in (METADATA, WEIGHTS))
        return (folder / METADATA).is_file() and all(path.is_relative_to(top) for path in files)
