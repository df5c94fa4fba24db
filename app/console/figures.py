"""Figures of a team, and the next question to answer."""

import csv
import io

from fastapi import APIRouter, Query, Request, Response

from app.console import browsers, texts
from app.console.charts import day_bars
from app.console.payments import shown_payment
from app.console.queue import done_of
from app.console.viewing import SignedIn, ViewerRoute, show
from app.explanations.routes import RunningQuestions, RunningReplay, ask_next_of_all
from app.figures.routes import read_figures
from app.figures.service import RunningFigures
from app.http.fields import Id
from app.http.parts import RunningDatabase

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ViewerRoute)

# Questions that are read at once: skipping goes on to the next.
QUESTIONS = 20


@router.get("/figures")
async def show_figures(request: Request, viewer: SignedIn, figures: RunningFigures) -> Response:
    """Alerts, decisions and their precision by day, waiting times, and who decided."""
    found = await read_figures(figures, viewer.tenant)
    return await show(
        request, "figures.html", here="figures", found=found, bars=day_bars(found.days)
    )


@router.get("/figures.csv")
async def send_figures(viewer: SignedIn, figures: RunningFigures) -> Response:
    """The days as a file."""
    found = await read_figures(figures, viewer.tenant)
    text = io.StringIO()
    names = ("start", "opened", "declined", "decided", "frauds", "legitimates", "precision")
    rows = csv.DictWriter(text, names)
    rows.writeheader()
    rows.writerows(day.model_dump() for day in found.days)
    headers = {**browsers.HEADERS, "Content-Disposition": 'attachment; filename="figures.csv"'}
    return Response(text.getvalue(), media_type="text/csv", headers=headers)


@router.get("/ask")
async def show_question(
    request: Request,
    viewer: SignedIn,
    questions: RunningQuestions,
    database: RunningDatabase,
    replay: RunningReplay,
    skip: int = Query(default=0, ge=0, lt=QUESTIONS),
    done: Id | None = None,
    cleared: int = Query(default=0, ge=0, le=9999),
    raised: int = Query(default=0, ge=0, le=9999),
    notice: str | None = None,
) -> Response:
    """One payment at a time: that whose label would teach its account most."""
    found = await ask_next_of_all(questions, viewer.tenant, QUESTIONS)
    question = found.data[skip] if skip < len(found.data) else None
    about = None
    if question is not None:
        payment_id = question.transaction.transaction_id
        about = await shown_payment(database, replay, viewer.tenant, payment_id)
    return await show(
        request,
        "ask.html",
        here="ask",
        question=question,
        about=about,
        number=skip + 1,
        most=len(found.data),
        accounts=found.accounts,
        done=await done_of(database, viewer, done, cleared, raised) if done else None,
        notice=notice if notice in texts.NOTICES else None,
    )
