"""Templates made pages: what is inserted is escaped, and texts show what is hidden in them.

Accounts, merchants and notes hold what a fraudster has written. Nothing of it is markup here, and a
character that would turn the rest of a line around, or is not to be seen, is shown by its number.
"""

import hashlib
import re
from datetime import timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from fastapi.responses import HTMLResponse
from markupsafe import Markup, escape

from app.console import texts
from app.console.browsers import HEADERS
from app.learner.decisions import RISK_AT_DECLINE, RISK_AT_REVIEW, Outcome
from app.learner.money import posted_amount
from app.times import now_us, parse_us

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent
STATIC = HERE / "static"
# Zero width, direction, line separators, and other format characters; and controls.
HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f"
    "\u2028-\u202f\u205f-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)


@cache
def digest_of(name: str) -> str:
    """What changes with a static file's content: part of its address, so that it may be kept."""
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:16]


def render(template: str, **values: Any) -> str:
    """The template of that file name, filled; raises UndefinedError for a value that is missing."""
    return _environment().get_template(template).render(values)


def page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """The same as an answer, with what browsers may do with it."""
    return HTMLResponse(render(template, **values), status, headers=HEADERS)


def shown(text: object) -> Markup:
    """A text of callers, apart from the text around it, its hidden characters by their numbers."""
    parts = HIDDEN.split(str(text))
    marks = [
        Markup('<span class="hidden-character">U+{:04X}</span>').format(ord(found))
        for found in HIDDEN.findall(str(text))
    ]
    inner = escape(parts[0])
    for mark, part in zip(marks, parts[1:], strict=True):
        inner += mark + escape(part)
    return Markup("<bdi>{}</bdi>").format(inner)


def lines(text: str) -> Markup:
    """The same of a text of several lines."""
    return Markup("<br>").join(shown(line) for line in text.split("\n"))


def plain(text: object) -> str:
    """The same for where no markup can be, such as a title."""
    return HIDDEN.sub(lambda found: f"U+{ord(found[0]):04X}", str(text))


def query(**values: object) -> str:
    """A query of those values that there are, with its question mark."""
    found = {name: value for name, value in values.items() if value not in (None, "")}
    return f"?{urlencode(found)}" if found else ""


def money(amount: str, currency: str) -> str:
    """An amount as it was posted, as people write it."""
    return posted_amount(Decimal(amount), currency)


def moment(text: str) -> Markup:
    """A time: in UTC to the minute, for the page's script to say it in the reader's own zone."""
    return Markup('<time datetime="{}">{} {} UTC</time>').format(text, text[:10], text[11:16])


def since(text: str) -> str:
    """How long ago a time was, in one unit: 5 min, 3 h, 2 d."""
    waited = timedelta(microseconds=max(now_us() - parse_us(text), 0))
    hours = int(waited.total_seconds() // 3600)
    if hours >= 48:
        return f"{hours // 24} d"
    return f"{hours} h" if hours else f"{int(waited.total_seconds() // 60)} min"


def outcome(risk_score: float) -> Outcome:
    """What a risk comes to: the scale is made so that thresholds have the same place on it."""
    if risk_score < RISK_AT_REVIEW:
        return "approve"
    return "review" if risk_score < RISK_AT_DECLINE else "decline"


def percent(share: float) -> str:
    """A probability, to three digits where it is small."""
    return f"{100 * share:.3g} %"


def share(value: float | None) -> str:
    """A share of something, in percent; or that there is nothing to have a share of."""
    return texts.NOTHING if value is None else f"{100 * value:.1f} %"


def threshold(probability: float) -> str:
    """A threshold as its field has it: in percent, without the sign."""
    return f"{100 * probability:.6g}"


def count(value: float | None) -> str:
    """How many, whole from 100 on; or that there is none."""
    if value is None:
        return texts.NOTHING
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


@cache
def _environment() -> "Environment":
    # Here, since a service that only scores has no pages.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(HERE / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shown": shown,
        "lines": lines,
        "plain": plain,
        "money": money,
        "moment": moment,
        "since": since,
        "outcome": outcome,
        "percent": percent,
        "share": share,
        "threshold": threshold,
        "count": count,
    }
    environment.globals |= {"t": texts, "query": query, "digest_of": digest_of}
    return environment
