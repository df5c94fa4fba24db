"""What the process of a job computes, as the JSON that is stored and answered."""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from app.db.database import Database
from app.db.errors import DatabaseUnavailable
from app.errors import Problem
from app.jobs.aside import LONGEST_SECONDS, NICENESS, OUT_OF_MEMORY_FIRST, Task
from app.models.comparison import Comparison, Quality, ShadowService
from app.models.drift import Drift, DriftService
from app.models.schemas import (
    DriftDay,
    Drifted,
    DriftProfile,
    FraudShareDrift,
    ModelComparison,
    ModelDrift,
    ModelQuality,
    OutcomeChange,
)
from app.models.service import Models
from app.scoring.pipeline import Pipeline
from app.settings import Settings
from app.times import text_of


async def measured(settings: Settings, task: Task) -> str:
    """The result of a task; raises ModelNotFound, ModelRefused or ModelUnavailable."""
    # The one that the worker who started this has kept free for it.
    database = Database(settings.database_url, pg_connections=1)
    try:
        pipeline = Pipeline(database, Models(settings))
        if task.kind == "comparison":
            compared = await ShadowService(database, pipeline).compare(
                task.tenant, task.model, task.days
            )
            return comparison_of(task.model, compared).model_dump_json()
        if task.kind == "demo":
            # The way of imports: a third of what this process would read, and for no other task.
            from app.demo.loading import load

            return (await load(database, pipeline, task.tenant)).model_dump_json()
        drifting = DriftService(database, pipeline)
        if task.kind == "drift":
            found = await drifting.of_model(task.tenant, task.model, int(task.days))
            return drift_of(task.model, found).model_dump_json()
        return json.dumps((await drifting.gauges())._asdict())
    finally:
        await database.close()


def comparison_of(name: str, found: Comparison) -> ModelComparison:
    """A comparison as it is answered."""
    return ModelComparison(
        name=name,
        digest=found.digest,
        active_digest=found.active_digest,
        since=text_of(found.since_us),
        transactions=found.transactions,
        agreement=found.agreement,
        changes=[
            OutcomeChange.model_validate(
                {"active": active, "shadow": shadow, "transactions": count}
            )
            for (active, shadow), count in sorted(found.outcomes.items())
            if active != shadow
        ],
        shift=found.shift,
        frauds=found.frauds,
        legitimates=found.legitimates,
        active=_quality(found.active),
        shadow=_quality(found.shadow),
        better=found.is_better,
    )


def drift_of(name: str, found: Drift) -> ModelDrift:
    """Drift as it is answered."""
    furthest = sorted(found.features, key=lambda feature: -(feature.psi or 0.0))
    return ModelDrift(
        name=name,
        days=[
            DriftDay(
                start=text_of(day.start_us),
                transactions=day.transactions,
                labelled=day.labelled,
                frauds=day.frauds,
            )
            for day in found.days
        ],
        transactions=found.transactions,
        sampled=found.sampled,
        profile=DriftProfile(
            first=found.profile.first,
            last=found.profile.last,
            transactions=found.profile.transactions,
            frauds=found.profile.frauds,
        ),
        drifted=[column.name for column in [found.score, *furthest] if column.drifted],
        fraud_share=FraudShareDrift.model_validate(found.fraud_share._asdict()),
        score=Drifted.model_validate(found.score._asdict()),
        features=[Drifted.model_validate(feature._asdict()) for feature in furthest],
    )


def _quality(found: Quality) -> ModelQuality:
    return ModelQuality.model_validate(found._asdict())


async def _computed(settings: Settings, task: Task) -> str:
    try:
        return f"done\n{await measured(settings, task)}"
    except DatabaseUnavailable:
        # Nothing is wrong with the task: whoever started this tries again a little later.
        raise
    except Problem as problem:
        return f"failed\n{json.dumps(problem.document())}"


def main() -> None:
    """Compute what the standard input asks for."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OUT_OF_MEMORY_FIRST)
    # Whoever started it may be gone.
    signal.alarm(LONGEST_SECONDS)
    request: dict[str, Any] = json.load(sys.stdin)
    task = Task(**request["task"])
    if not task.writes:
        os.nice(NICENESS)
    print(asyncio.run(_computed(Settings(**request["settings"]), task)))


if __name__ == "__main__":
    main()
