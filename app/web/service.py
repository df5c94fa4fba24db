"""All the parts of a running service, put together."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from app.console.sessions import Sessions
from app.db.database import Database
from app.db.patience import Patience
from app.erasures.service import ErasureService
from app.erasures.unfinished import Unfinished
from app.explanations.questions import Questions
from app.explanations.replay import Replay
from app.figures.service import Figures
from app.http.authentication import Admission
from app.http.batching import Batcher
from app.http.parts import Service
from app.http.quotas import Rates, Shares
from app.http.refusals import Refusals
from app.jobs.aside import Aside
from app.jobs.service import Jobs
from app.keys.service import Authenticator
from app.labels.allowance import Allowance
from app.labels.service import Labelling
from app.models.comparison import ShadowService
from app.models.drift import DriftGauges
from app.models.service import Models
from app.ops import metrics
from app.ops.turns import Turns
from app.people.oidc import OpenId
from app.people.service import People
from app.rebuilds.service import check_states
from app.scoring.pipeline import Pipeline
from app.settings import Settings
from app.statuses.service import Statuses
from app.thresholds.service import TenantPolicy
from app.web.backlog import Backlog
from app.web.health import Exposition
from app.webhooks.service import Webhooks

# Requests other than for scores, which all want the database for themselves, at once.
MOST_AT_ONCE = 64
# Pages of lists that are read and made at once.
LISTS_AT_ONCE = 2
# Answers by copies of the past, or by previewed ones: whoever scores has the other threads.
ANSWERS_AT_ONCE = 1
# Bytes of bodies that are arriving or being answered, of those that do not come in one piece.
MOST_BODY_BYTES = 64 << 20


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Service]:
    """A service on the settings' database and checkpoint; raises SetupError or ValueError."""
    database = Database(settings.database_url, settings.connections_per_worker)
    try:
        await database.check_schema()
        models = Models(settings)
        await check_states(database, models.default.features)
        await models.shelf.keep_all(database)
        if (created := models.default.created_at) is not None:
            metrics.model_created_seconds.labels(models.default.model).set(created.timestamp())
        pipeline = Pipeline(database, models, settings.sampled_approvals)
        authenticator, people = Authenticator(database), People(database)
        openid = OpenId(settings)
        aside = Aside(settings)
        erasing = ErasureService(database, pipeline)
        unfinished = Unfinished(database, pipeline, erasing)
        # Before anybody is scored by what should have been forgotten.
        await unfinished.finish_all()
        figures = Figures(database)
        async with (
            Webhooks(database, settings.webhooks_private) as webhooks,
            DriftGauges(aside) as drifting,
            Backlog(database) as backlog,
            Jobs(database, aside) as jobs,
            unfinished,
            Batcher(
                pipeline.score,
                metrics.batch_size.observe,
                Refusals().count,
                most_waiting=settings.most_waiting,
                deadline_seconds=settings.deadline_seconds,
            ) as batcher,
        ):
            computing = Turns(ANSWERS_AT_ONCE)
            rates = Rates(settings.rate_per_worker)
            admission = Admission(
                authenticator=authenticator,
                rates=rates,
                queue=batcher,
                bodies=Shares(MOST_BODY_BYTES),
                places=Shares(MOST_AT_ONCE),
                lists=Turns(LISTS_AT_ONCE),
                deadline_seconds=settings.deadline_seconds,
            )
            yield Service(
                parts=(
                    settings,
                    database,
                    models,
                    pipeline,
                    admission,
                    people,
                    openid,
                    Sessions(database, authenticator, people),
                    Labelling(database, pipeline, Allowance(settings.labels_per_account)),
                    Statuses(database, pipeline),
                    TenantPolicy(database, pipeline),
                    figures,
                    Questions(database, pipeline, computing),
                    Replay(database, pipeline, computing),
                    erasing,
                    ShadowService(database, pipeline),
                    drifting,
                    backlog,
                    jobs,
                    webhooks,
                    Exposition(),
                ),
                background=(
                    batcher.health,
                    batcher.health_apart,
                    webhooks.health,
                    drifting.health,
                    backlog.health,
                    jobs.health,
                    unfinished.health,
                    authenticator.health,
                    *database.background,
                ),
            )
            await figures.close()
            await authenticator.close()
            await openid.close()
    finally:
        await database.close()


@asynccontextmanager
async def running_patiently(settings: Settings, patience: Patience) -> AsyncIterator[Service]:
    """The same for a long command, once the database is there."""
    async with AsyncExitStack() as stack:
        yield await patience.run(lambda: stack.enter_async_context(running(settings)))
