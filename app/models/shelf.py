"""The folder of checkpoints: what can be served, by name, and what decides, as files."""

import asyncio
import contextlib
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from app.db.connection import Connection
from app.db.database import Database
from app.db.errors import DatabaseUnavailable
from app.learner.checkpoint import METADATA, WEIGHTS, Checkpoint, CheckpointError
from app.models import store as model_store
from app.models.errors import ModelNotFound, ModelRefused, ReportNotFound
from app.models.records import KeptCheckpoint
from app.settings import Settings
from app.times import now_us

logger = logging.getLogger("quickstudy")

# What training writes for people, if it is in a checkpoint's folder.
REPORT = "report.html"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


# Of a file: its device, number, size, and when its content and its entry were last changed.
Version = tuple[int, int, int, int, int]


class Shelved(NamedTuple):
    """A checkpoint in the folder of checkpoints; `refused` says why it cannot be served."""

    name: str
    digest: str | None
    refused: str | None


def replaced(name: str) -> str:
    return f"Model {name!r} is no longer the checkpoint that was activated."


class Shelf:
    """Checkpoints as files: each is read when somebody wants it; for lists, its digest is kept."""

    def __init__(self, settings: Settings, default: Checkpoint) -> None:
        """`default` is the settings' own: it serves every tenant that has not chosen another."""
        self._path_of_default = settings.model
        self._folder = settings.models or settings.model.resolve().parent
        self.default_name = settings.model.resolve().name
        self._default_digest, self._features_digest = default.digest, default.features.digest
        self._kept: dict[str, tuple[tuple[Version | None, ...], Shelved]] = {}

    async def active(self, connection: Connection, tenant: str) -> Checkpoint:
        """What decides for a tenant now. Raises ModelNotFound or ModelRefused."""
        change = await model_store.model_change(connection, tenant, "active")
        if change is None or change.name is None:
            return await self.checkpoint(self.default_name)
        checkpoint = await self.checkpoint(change.name)
        if checkpoint.digest != change.digest:
            raise ModelRefused(replaced(change.name))
        return checkpoint

    async def shelved(self, expected: Iterable[str]) -> Sequence[Shelved]:
        """What is in the folder, by name, and what is expected there and may be gone."""
        names = {self.default_name, *expected}
        if self._folder.is_dir():
            found = [path.parent.name for path in self._folder.glob(f"*/{METADATA}")]
            names.update(name for name in found if NAME.fullmatch(name))
        return [await self._shelved(name) for name in sorted(names)]

    async def check(self, name: str) -> None:
        """Raises ModelNotFound or ModelRefused where `checkpoint` would."""
        self.expect(name)
        found = await self._shelved(name)
        if found.refused is not None:
            raise ModelRefused(found.refused)

    async def _shelved(self, name: str) -> Shelved:
        """What is known of a checkpoint; its files are read again once one of them is another."""
        try:
            path = self._path(name)
        except ModelNotFound as error:
            return Shelved(name, None, error.detail)
        # Before they are read: whatever replaces them meanwhile is another version.
        versions = tuple(_version_of(path / file) for file in (METADATA, WEIGHTS))
        versions_kept, shelved = self._kept.get(name, (None, None))
        if shelved is not None and versions_kept == versions:
            return shelved
        try:
            found = Shelved(name, (await self.checkpoint(name)).digest, None)
        except (ModelNotFound, ModelRefused) as error:
            # Not kept: what could not be read for want of a file handle can be in a moment.
            return Shelved(name, None, error.detail)
        self._kept[name] = versions, found
        return found

    async def checkpoint(self, name: str) -> Checkpoint:
        """What has this name now. Raises ModelNotFound or ModelRefused."""
        try:
            checkpoint = await asyncio.to_thread(Checkpoint.load, self._path(name))
        except CheckpointError as error:
            raise ModelRefused(f"Model {name!r} cannot be served: {error.reason}.") from error
        if checkpoint.features.digest != self._features_digest:
            raise ModelRefused(
                f"Model {name!r} reads features {checkpoint.features.digest}, and the database "
                f"holds {self._features_digest}: it needs a database of its own, or "
                "`quickstudy db rebuild` for all tenants."
            )
        return checkpoint

    async def to_keep(self, name: str, digest: str) -> KeptCheckpoint:
        """What is to be kept of a checkpoint, so that its scores can be replayed for ever.

        Raises ModelNotFound or ModelRefused, also where another has its name by now.
        """
        checkpoint = await self.checkpoint(name)
        if checkpoint.digest != digest:
            raise ModelRefused(f"Model {name!r} is being replaced: activate it once that is done.")
        return KeptCheckpoint(digest, checkpoint.model, *checkpoint.files, now_us())

    async def keep_all(self, database: Database) -> None:
        """Keep the default and what any tenant has activated, as far as they are not kept yet.

        What is activated later is kept with its activation.
        """
        async with database.read() as connection:
            kept = await model_store.kept_digests(connection)
            activated = await model_store.activated(connection)
        missing: list[KeptCheckpoint] = []
        for digest, name in {**activated, self._default_digest: self.default_name}.items():
            if digest not in kept:
                # One that is not there any more, or cannot be read, is lost; no other is for that.
                with contextlib.suppress(Exception):
                    missing.append(await self.to_keep(name, digest))

        async def keep_missing(connection: Connection) -> None:
            for row in missing:
                await model_store.keep_checkpoint(connection, row)

        if missing:
            try:
                await database.run(keep_missing)
            except DatabaseUnavailable as error:
                names = ", ".join(row.model for row in missing)
                logger.warning("scores by %s may not replay after an upgrade: %s", names, error)

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


def _version_of(path: Path) -> Version | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
