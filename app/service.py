"""All the parts of a running service, put together."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import torch

from app import metrics, store
from app.allowance import Allowance
from app.aside import Aside
from app.background import TaskHealth
from app.batching import Batcher, Place
from app.comparison import Shadowing
from app.database import Database
from app.drift import DriftGauges
from app.errors import Problem, SetupError
from app.forgetting import Erasing
from app.jobs import Jobs
from app.keys import Authenticator
from app.labelling import Labelling
from app.models import Models
from app.pipeline import Pipeline, Posted
from app.questions import Questions
from app.rates import Rates
from app.refusals import Refusals
from app.replay import Replay
from app.rows import Scored
from app.scoring import Scorer
from app.settings import Settings
from app.shares import Shares
from app.thresholds import TenantPolicy
from app.transactions import Transaction
from app.webhooks import Webhooks

# Requests other than for scores, which all want the database for themselves, at once.
MOST_AT_ONCE = 64
# Pages of lists that are read and made at once.
LISTS_AT_ONCE = 2
# Bytes of bodies that are arriving or being answered, of those that do not come in one piece.
MOST_BODY_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Service:
    """What the routes need. `prefix` stands before every path that an answer holds."""

    prefix: str
    database: Database
    models: Models
    pipeline: Pipeline
    batcher: Batcher[Posted, Scored | Problem]
    bodies: Shares
    places: Shares
    # A list that waits for its turn keeps no connection, and does not make a score wait.
    lists: asyncio.Semaphore
    deadline_seconds: float
    labelling: Labelling
    policy: TenantPolicy
    questions: Questions
    replay: Replay
    erasing: Erasing
    shadowing: Shadowing
    drifting: DriftGauges
    jobs: Jobs
    webhooks: Webhooks
    authenticator: Authenticator
    rates: Rates
    background: Sequence[TaskHealth]

    async def score(
        self, place: Place, transactions: Iterable[Transaction]
    ) -> Sequence[Scored | Problem]:
        """Score in the next batch, beside whoever else is waiting."""
        posted = [Posted(place.tenant, transaction) for transaction in transactions]
        return await self.batcher.submit(place, posted)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Service]:
    """A service on the settings' database and checkpoint; raises SetupError or ValueError."""
    # Matrices are small: threads would wait for each other longer than they compute, and in the
    # way of other workers.
    torch.set_num_threads(1)
    database = Database(settings.database_url, settings.connections_per_worker)
    try:
        await database.check_schema()
        models = Models(settings)
        await check_features(database, models.default)
        await models.keep_all(database)
        pipeline = Pipeline(database, models, settings.sampled_approvals)
        authenticator = Authenticator(database)
        aside = Aside(settings)
        async with (
            Webhooks(database, settings.webhooks_private) as webhooks,
            DriftGauges(aside) as drifting,
            Jobs(database, aside) as jobs,
            Batcher(
                pipeline.score,
                metrics.batch_size.observe,
                Refusals().count,
                most_waiting=settings.most_waiting,
                deadline_seconds=settings.deadline_seconds,
            ) as batcher,
        ):
            yield Service(
                prefix=settings.prefix,
                database=database,
                models=models,
                pipeline=pipeline,
                batcher=batcher,
                bodies=Shares(MOST_BODY_BYTES),
                places=Shares(MOST_AT_ONCE),
                lists=asyncio.Semaphore(LISTS_AT_ONCE),
                deadline_seconds=settings.deadline_seconds,
                labelling=Labelling(database, pipeline, Allowance(settings.labels_per_account)),
                policy=TenantPolicy(database, pipeline),
                questions=Questions(database, pipeline),
                replay=Replay(database, pipeline),
                erasing=Erasing(database, pipeline),
                shadowing=Shadowing(database, pipeline),
                drifting=drifting,
                jobs=jobs,
                webhooks=webhooks,
                authenticator=authenticator,
                rates=Rates(settings.rate_per_worker),
                background=(
                    batcher.health,
                    batcher.health_apart,
                    webhooks.health,
                    drifting.health,
                    jobs.health,
                    authenticator.health,
                    *database.background,
                ),
            )
            await authenticator.close()
    finally:
        await database.close()


async def check_features(database: Database, scorer: Scorer) -> None:
    """Raises SetupError where the stored states belong to other features than the checkpoint's."""
    async with database.read() as connection:
        stored = await store.any_features_digest(connection)
    if stored not in (None, scorer.features.digest):
        raise SetupError(
            f"the database holds features of definition {stored}, the checkpoint has "
            f"{scorer.features.digest}: serve it with a checkpoint of those features, or import "
            "the history into a new database"
        )
