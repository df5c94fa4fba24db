"""Checkpoints by name, each loaded once a process, and the one that decides for a tenant.

A tenant's active checkpoint is read in the database transaction of every batch, so all processes
change over with their next one. All checkpoints that can be served compute the same features:
those stored are good for each of them, and copies are made anew when they are first needed.
"""

import asyncio
import logging
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from app import store
from app.checkpoint import METADATA, WEIGHTS, Checkpoint, CheckpointError
from app.errors import ModelNotFound, ModelRefused, ModelUnavailable
from app.rows import ModelChange
from app.scoring import Scorer
from app.settings import Settings

logger = logging.getLogger("quickstudy")

# After a checkpoint could not be loaded, until it is tried again.
RETRY_SECONDS = 5.0
Role = Literal["active", "shadow"]
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Shelved(NamedTuple):
    """A checkpoint in the folder of checkpoints; `refused` says why it cannot be served."""

    name: str
    digest: str | None
    refused: str | None


class Models:
    """The folder of checkpoints, and those of them that are loaded.

    `default` serves every tenant that has not chosen another.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.models or settings.model.resolve().parent
        self.default = self._ready(Checkpoint.load(settings.model))
        self.default_name = settings.model.resolve().name
        self._loaded = {self.default.digest: self.default}
        self._loading = asyncio.Lock()
        # When a checkpoint could not be loaded, by name and digest, and why.
        self._failed: dict[tuple[str, str], tuple[float, str]] = {}

    async def active(self, connection: AsyncConnection, tenant: str) -> Scorer:
        """What decides for a tenant now. Raises ModelUnavailable where it cannot be loaded."""
        return await self.of(await store.model_change(connection, tenant, "active"))

    async def of(self, change: ModelChange | None) -> Scorer:
        """The checkpoint of a change, the very same bits, or the deployment's before the first.

        Raises ModelUnavailable.
        """
        if change is None or change.name is None or change.digest is None:
            return self.default
        if change.digest not in self._loaded:
            await self._load_again(change.name, change.digest)
        return self._loaded[change.digest]

    async def _load_again(self, name: str, digest: str) -> None:
        """Load a checkpoint that was activated; raises ModelUnavailable.

        A batch waits for this, and others share it: what fails is not tried again at once.
        """
        now = time.monotonic()
        failed_at, detail = self._failed.get((name, digest), (-math.inf, ""))
        if now - failed_at >= RETRY_SECONDS:
            detail = await self._tried(name, digest)
            if not detail:
                self._failed.pop((name, digest), None)
                return
            self._failed[name, digest] = time.monotonic(), detail
        raise ModelUnavailable(detail)

    async def _tried(self, name: str, digest: str) -> str:
        """Load it; what kept it from being loaded, if anything did."""
        try:
            scorer = await self.load(name)
        except (ModelNotFound, ModelRefused) as error:
            return error.detail
        except Exception:
            logger.exception("a model could not be loaded")
            return f"Model {name!r} cannot be loaded."
        if scorer.digest != digest:
            return f"Model {name!r} is no longer the checkpoint that was activated."
        return ""

    async def load(self, name: str) -> Scorer:
        """The checkpoint that has this name now. Raises ModelNotFound or ModelRefused."""
        async with self._loading:
            checkpoint = await self.checkpoint(name)
            if checkpoint.digest not in self._loaded:
                self._loaded[checkpoint.digest] = await asyncio.to_thread(self._ready, checkpoint)
            return self._loaded[checkpoint.digest]

    def loaded(self, model: str) -> Scorer | None:
        """A loaded checkpoint by what scores call it, `name@digest`."""
        return next((one for one in self._loaded.values() if one.model == model), None)

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
        """What has this name now, not loaded. Raises ModelNotFound or ModelRefused."""
        try:
            checkpoint = await asyncio.to_thread(Checkpoint.load, self._path(name))
        except CheckpointError as error:
            raise ModelRefused(f"Model {name!r} cannot be served: {error.reason}.") from error
        if checkpoint.features.digest != self.default.features.digest:
            raise ModelRefused(
                f"Model {name!r} reads features {checkpoint.features.digest}, and the database "
                f"holds {self.default.features.digest}: it needs a database of its own."
            )
        return checkpoint

    def _path(self, name: str) -> Path:
        if name == self.default_name:
            return self._settings.model
        # Only names of this shape become part of a path.
        if not NAME.fullmatch(name) or not self._has(self._folder / name):
            raise ModelNotFound(f"There is no model {name!r}.")
        return self._folder / name

    def _has(self, folder: Path) -> bool:
        """Whether there is a checkpoint that no link leads out of the folder of checkpoints."""
        top = self._folder.resolve()
        files = ((folder / file).resolve() for file in (METADATA, WEIGHTS))
        return (folder / METADATA).is_file() and all(one.is_relative_to(top) for one in files)

    def _ready(self, checkpoint: Checkpoint) -> Scorer:
        return Scorer(checkpoint, self._settings.device, self._settings.bank_bytes)
