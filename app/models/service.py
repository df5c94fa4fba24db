"""Checkpoints by name, each loaded once a process, and the one that decides for a tenant.

A tenant's active checkpoint is read in the database transaction of every batch, so all processes
change over with their next one. All checkpoints that can be served compute the same features:
those stored are good for each of them, and copies are made anew when they are first needed.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections import defaultdict
from pathlib import Path
from typing import Literal

from app.db.connection import Connection
from app.learner.checkpoint import Checkpoint, CheckpointError, Files, PastCheckpoint
from app.learner.scorer import Judge, PastJudge, Scorer
from app.models import store as model_store
from app.models.errors import ModelNotFound, ModelRefused, ModelUnavailable
from app.models.records import KeptCheckpoint, ModelChange
from app.models.shelf import Shelf, replaced
from app.settings import Settings

logger = logging.getLogger("quickstudy")

# After a checkpoint could not be loaded, until it is tried again.
RETRY_SECONDS = 5.0
# How long batches wait for a checkpoint that an activation names, from when it is first wanted.
LOADING_SECONDS = 2.0
Role = Literal["active", "shadow"]


class Models:
    """The checkpoints that are loaded, and the shelf that they come from.

    `default` serves every tenant that has not chosen another.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        default = Checkpoint.load(settings.model)
        self.shelf = Shelf(settings, default)
        self.default = self._ready(default)
        self._loaded = {self.default.digest: self.default}
        # By what scores call them: what decides is only ever what lies in the folder.
        self._past: dict[str, Judge] = {}
        # By name: a folder that does not answer holds up no other.
        self._loading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        # Of what was activated, by name and digest: what is being loaded, until when that is
        # waited for, and when it could not be loaded last, and why.
        self._trying: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._awaited_until: dict[tuple[str, str], float] = {}
        self._failed: dict[tuple[str, str], tuple[float, str]] = {}

    async def active(self, connection: Connection, tenant: str) -> Scorer:
        """What decides for a tenant now. Raises ModelUnavailable where it cannot be loaded."""
        return await self.of(await model_store.model_change(connection, tenant, "active"))

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

        A batch waits for this, and others share it: not for long, nor once it has failed.
        """
        key, now = (name, digest), time.monotonic()
        until = self._awaited_until.setdefault(key, now + LOADING_SECONDS)
        failed_at, detail = self._failed.get(key, (-math.inf, f"Model {name!r} is being loaded."))
        if key not in self._trying and now - failed_at >= RETRY_SECONDS:
            self._trying[key] = asyncio.create_task(self._try(name, digest))
        trying = self._trying.get(key)
        if trying is not None and key not in self._failed and until > now:
            await asyncio.wait({trying}, timeout=until - now)
            _, detail = self._failed.get(key, (now, detail))
        if digest not in self._loaded:
            raise ModelUnavailable(detail)

    async def _try(self, name: str, digest: str) -> None:
        """Load a checkpoint that was activated, or keep why it cannot be."""
        if failure := await self._failure_of(name, digest):
            self._failed[name, digest] = time.monotonic(), failure
        del self._trying[name, digest]

    async def _failure_of(self, name: str, digest: str) -> str:
        """Load it; what kept it from being loaded, if anything did."""
        try:
            scorer = await self.load(name)
        except (ModelNotFound, ModelRefused) as error:
            return error.detail
        except Exception:
            logger.exception("a model could not be loaded")
            return f"Model {name!r} cannot be loaded."
        if scorer.digest != digest:
            return replaced(name)
        return ""

    async def load(self, name: str) -> Scorer:
        """The checkpoint that has this name now. Raises ModelNotFound or ModelRefused."""
        self.shelf.expect(name)
        async with self._loading[name]:
            checkpoint = await self.shelf.checkpoint(name)
            if checkpoint.digest not in self._loaded:
                self._loaded[checkpoint.digest] = await asyncio.to_thread(self._ready, checkpoint)
            return self._loaded[checkpoint.digest]

    async def that_scored(self, connection: Connection, model: str) -> Judge | None:
        """A checkpoint by what scores call it, `name@digest`: a loaded one, or one that was kept.

        It may read other features than are computed now. None where it is neither, or where this
        version cannot compute with it any more.
        """
        for loaded in (*self._loaded.values(), *self._past.values()):
            if loaded.model == model:
                return loaded
        row = await model_store.kept_checkpoint(connection, model)
        if row is None:
            return None
        try:
            self._past[model] = await asyncio.to_thread(self._kept, row)
        except CheckpointError as error:
            logger.warning("a checkpoint that was kept cannot be used: %s", error)
            return None
        return self._past[model]

    def _kept(self, row: KeptCheckpoint) -> Judge:
        files, place = Files(row.description, row.weights), Path(row.model)
        try:
            return Scorer(Checkpoint.of(files, place), self._settings.device, bank_bytes=0)
        except CheckpointError as error:
            with contextlib.suppress(CheckpointError):
                return PastJudge(PastCheckpoint.of(files, place))
            raise error

    def _ready(self, checkpoint: Checkpoint) -> Scorer:
        return Scorer(checkpoint, self._settings.device, self._settings.bank_bytes)
