"""The API in Python: one method an operation, typed answers, retries that keep to Retry-After.

    with Client("http://127.0.0.1:8000", key) as quickstudy:
        score = quickstudy.score({"transaction_id": "t-1", ...})

`AsyncClient` has the same methods, awaited. Bodies are dictionaries or the models of
`app.schemas`; ids may hold anything. Whatever the service refuses raises ApiError.
"""

import asyncio
import email.utils
import random
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from app.schemas.accounts import (
    AccountState,
    Adapted,
    AdaptRequest,
    LabelledAccount,
    RollbackRequest,
    RolledBack,
)
from app.schemas.audit import (
    AccountRevision,
    AskNext,
    Certificate,
    Erasure,
    Influence,
    Replayed,
)
from app.schemas.health import Readiness
from app.schemas.keys import ApiKeys, NewKey, PostedKey, Rotation
from app.schemas.labels import (
    LabelBatch,
    LabelBatchResult,
    LabelGiven,
    LabelHistory,
    PostedLabels,
    TransactionLabelled,
)
from app.schemas.log import LogEntry
from app.schemas.models import (
    ComparisonJob,
    ComparisonRequest,
    DriftJob,
    DriftRequest,
    ModelComparison,
    ModelList,
    Promotion,
)
from app.schemas.pages import Page
from app.schemas.reviews import Assignment, Review, ReviewedTransaction, ReviewFigures
from app.schemas.thresholds import (
    PostedThresholds,
    ThresholdsInForce,
    ThresholdsKept,
    ThresholdsSet,
)
from app.schemas.transactions import (
    BatchResult,
    Explanation,
    PostedBatch,
    PostedTransaction,
    Score,
    StoredTransaction,
)
from app.schemas.webhooks import (
    NewWebhook,
    PostedWebhook,
    WaitingMessages,
    WebhookList,
    WebhookState,
)
from app.scopes import GRACE_HOURS

Answer = TypeVar("Answer", bound=BaseModel)
Json = Mapping[str, Any]

ATTEMPTS = 4
# Before the second attempt, and twice as long before each further one; half of it at random, so
# that callers who failed together do not come back together.
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 30.0
RETRIED = frozenset({429, 502, 503, 504})
# As many connections stay open as there may be: a pool that closes surplus ones can close one that
# another thread has just been given (https://github.com/encode/httpcore/issues/1110).
LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=100)


class ApiError(Exception):
    """The service refused: `code` is stable, `errors` name fields, `document` is all it said."""

    def __init__(self, status: int, document: Json) -> None:
        self.status = status
        self.code = str(document.get("code", ""))
        self.detail = str(document.get("detail", ""))
        self.errors: list[dict[str, str]] = list(document.get("errors", []))
        self.document = document
        super().__init__(f"{status} {self.code}: {self.detail}")


class Asked(NamedTuple, Generic[Answer]):
    """A request, and the type of its answer. Not all may be sent twice."""

    kind: type[Answer]
    method: str
    path: str
    body: BaseModel | None = None
    query: Json = {}  # noqa: RUF012
    repeatable: bool = True

    def arguments(self) -> dict[str, Any]:
        """What httpx is given."""
        said = {name: value for name, value in self.query.items() if value is not None}
        content = self.body.model_dump_json(exclude_unset=True) if self.body else None
        headers = {"Content-Type": "application/json"} if content else {}
        return {
            "method": self.method,
            "url": self.path,
            "params": said,
            "content": content,
            "headers": headers,
        }

    def answer(self, response: httpx.Response) -> Answer:
        """The answer in its type; raises ApiError."""
        if response.is_success:
            return self.kind.model_validate_json(response.content)
        try:
            document = response.json()
        except ValueError:
            document = {"detail": response.text[:200]}
        raise ApiError(response.status_code, document if isinstance(document, dict) else {})

    def wait_seconds(self, response: httpx.Response | None, attempt: int) -> float | None:
        """How long to wait before trying again, None where that is of no use."""
        failed = response is None or response.status_code in RETRIED
        if not failed or not self.repeatable or attempt >= ATTEMPTS:
            return None
        asked = None if response is None else _retry_after(response.headers.get("Retry-After"))
        if asked is not None:
            return asked if asked <= LONGEST_WAIT_SECONDS else None
        return random.uniform(0.5, 1.0) * FIRST_WAIT_SECONDS * 2.0 ** (attempt - 1)


def _retry_after(text: str | None) -> float | None:
    """Seconds, or the time of an HTTP date (RFC 9110, 10.2.3)."""
    if text is None:
        return None
    if text.isdecimal():
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return max((moment - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):  # No date, or one without a zone.
        return None


def _of(identifier: str) -> str:
    return quote(identifier, safe="")


class _Requests:
    """Every operation of the API as a request: what both clients send."""

    @staticmethod
    def ready() -> Asked[Readiness]:
        return Asked(Readiness, "GET", "/readyz")

    @staticmethod
    def score(transaction: PostedTransaction | Json) -> Asked[Score]:
        body = PostedTransaction.model_validate(transaction)
        return Asked(Score, "POST", "/v1/transactions", body)

    @staticmethod
    def score_batch(transactions: Sequence[PostedTransaction | Json]) -> Asked[BatchResult]:
        body = PostedBatch.model_validate({"transactions": transactions})
        return Asked(BatchResult, "POST", "/v1/transactions/batch", body)

    @staticmethod
    def transaction(transaction_id: str) -> Asked[StoredTransaction]:
        return Asked(StoredTransaction, "GET", f"/v1/transactions/{_of(transaction_id)}")

    @staticmethod
    def transactions(**filters: str | int | None) -> Asked[Page[StoredTransaction]]:
        return Asked(Page[StoredTransaction], "GET", "/v1/transactions", query=filters)

    @staticmethod
    def reasons(transaction_id: str) -> Asked[Explanation]:
        return Asked(Explanation, "GET", f"/v1/transactions/{_of(transaction_id)}/reasons")

    @staticmethod
    def replay(transaction_id: str) -> Asked[Replayed]:
        return Asked(Replayed, "POST", f"/v1/transactions/{_of(transaction_id)}/replay")

    @staticmethod
    def label(transaction_id: str, label: str, **said: str | None) -> Asked[TransactionLabelled]:
        body = LabelGiven.model_validate({"label": label, **said})
        path = f"/v1/transactions/{_of(transaction_id)}/label"
        return Asked(TransactionLabelled, "PUT", path, body)

    @staticmethod
    def remove_label(transaction_id: str) -> Asked[TransactionLabelled]:
        path = f"/v1/transactions/{_of(transaction_id)}/label"
        # The label of a second attempt is gone already.
        return Asked(TransactionLabelled, "DELETE", path, repeatable=False)

    @staticmethod
    def label_history(transaction_id: str) -> Asked[LabelHistory]:
        return Asked(LabelHistory, "GET", f"/v1/transactions/{_of(transaction_id)}/label")

    @staticmethod
    def label_batch(labels: Sequence[Json]) -> Asked[LabelBatchResult]:
        body = LabelBatch.model_validate({"labels": labels})
        return Asked(LabelBatchResult, "POST", "/v1/labels", body)

    @staticmethod
    def account(account_id: str) -> Asked[AccountState]:
        return Asked(AccountState, "GET", f"/v1/accounts/{_of(account_id)}")

    @staticmethod
    def accounts(**filters: str | int | bool | None) -> Asked[Page[AccountState]]:
        return Asked(Page[AccountState], "GET", "/v1/accounts", query=filters)

    @staticmethod
    def label_account(account_id: str, labels: Sequence[Json]) -> Asked[LabelledAccount]:
        body = PostedLabels.model_validate({"labels": labels})
        return Asked(LabelledAccount, "POST", f"/v1/accounts/{_of(account_id)}/labels", body)

    @staticmethod
    def adapt(account_id: str) -> Asked[Adapted]:
        return Asked(Adapted, "POST", f"/v1/accounts/{_of(account_id)}/adapt")

    @staticmethod
    def preview(account_id: str, labels: Sequence[Json]) -> Asked[Adapted]:
        body = AdaptRequest.model_validate({"dry_run": True, "labels": labels})
        return Asked(Adapted, "POST", f"/v1/accounts/{_of(account_id)}/adapt", body)

    @staticmethod
    def roll_back(account_id: str, revision: int, dry_run: bool = False) -> Asked[RolledBack]:
        body = RollbackRequest(revision=revision, dry_run=dry_run)
        return Asked(RolledBack, "POST", f"/v1/accounts/{_of(account_id)}/rollback", body)

    @staticmethod
    def influence(account_id: str) -> Asked[Influence]:
        return Asked(Influence, "GET", f"/v1/accounts/{_of(account_id)}/influence")

    @staticmethod
    def ask_next(account_id: str, limit: int = 5) -> Asked[AskNext]:
        path = f"/v1/accounts/{_of(account_id)}/ask-next"
        return Asked(AskNext, "GET", path, query={"limit": limit})

    @staticmethod
    def revision(account_id: str, revision: int) -> Asked[AccountRevision]:
        path = f"/v1/accounts/{_of(account_id)}/revisions/{revision}"
        return Asked(AccountRevision, "GET", path)

    @staticmethod
    def erase_account(account_id: str) -> Asked[Certificate]:
        path = f"/v1/accounts/{_of(account_id)}"
        return Asked(Certificate, "DELETE", path, repeatable=False)

    @staticmethod
    def erasures(**filters: str | int | None) -> Asked[Page[Erasure]]:
        return Asked(Page[Erasure], "GET", "/v1/erasures", query=filters)

    @staticmethod
    def erasure(erasure_id: str) -> Asked[Erasure]:
        return Asked(Erasure, "GET", f"/v1/erasures/{_of(erasure_id)}")

    @staticmethod
    def reviews(**filters: str | int | None) -> Asked[Page[Review]]:
        return Asked(Page[Review], "GET", "/v1/reviews", query=filters)

    @staticmethod
    def review(transaction_id: str) -> Asked[ReviewedTransaction]:
        return Asked(ReviewedTransaction, "GET", f"/v1/reviews/{_of(transaction_id)}")

    @staticmethod
    def assign_review(transaction_id: str, assignee: str, take_over: bool = False) -> Asked[Review]:
        body = Assignment(assignee=assignee, take_over=take_over)
        return Asked(Review, "PUT", f"/v1/reviews/{_of(transaction_id)}/assignee", body)

    @staticmethod
    def release_review(transaction_id: str) -> Asked[Review]:
        return Asked(Review, "DELETE", f"/v1/reviews/{_of(transaction_id)}/assignee")

    @staticmethod
    def review_figures(days: int = 28) -> Asked[ReviewFigures]:
        return Asked(ReviewFigures, "GET", "/v1/review-figures", query={"days": days})

    @staticmethod
    def thresholds() -> Asked[ThresholdsInForce]:
        return Asked(ThresholdsInForce, "GET", "/v1/thresholds")

    @staticmethod
    def set_thresholds(**stated: Any) -> Asked[ThresholdsSet]:
        body = PostedThresholds.model_validate(stated)
        return Asked(ThresholdsSet, "POST", "/v1/thresholds", body, repeatable=False)

    @staticmethod
    def reset_thresholds() -> Asked[ThresholdsInForce]:
        return Asked(ThresholdsInForce, "DELETE", "/v1/thresholds")

    @staticmethod
    def threshold_history(**page: str | int | None) -> Asked[Page[ThresholdsKept]]:
        return Asked(Page[ThresholdsKept], "GET", "/v1/thresholds/history", query=page)

    @staticmethod
    def keys() -> Asked[ApiKeys]:
        return Asked(ApiKeys, "GET", "/v1/keys")

    @staticmethod
    def create_key(name: str, scopes: Sequence[str]) -> Asked[NewKey]:
        body = PostedKey.model_validate({"name": name, "scopes": scopes})
        return Asked(NewKey, "POST", "/v1/keys", body, repeatable=False)

    @staticmethod
    def rotate_key(key_id: str, hours: float = GRACE_HOURS) -> Asked[NewKey]:
        path = f"/v1/keys/{_of(key_id)}/rotate"
        return Asked(NewKey, "POST", path, Rotation(hours=hours), repeatable=False)

    @staticmethod
    def revoke_key(key_id: str) -> Asked[ApiKeys]:
        return Asked(ApiKeys, "DELETE", f"/v1/keys/{_of(key_id)}", repeatable=False)

    @staticmethod
    def audit_log(**filters: str | int | None) -> Asked[Page[LogEntry]]:
        return Asked(Page[LogEntry], "GET", "/v1/audit-log", query=filters)

    @staticmethod
    def models() -> Asked[ModelList]:
        return Asked(ModelList, "GET", "/v1/models")

    @staticmethod
    def activate_model(name: str) -> Asked[ModelList]:
        return Asked(ModelList, "POST", f"/v1/models/{_of(name)}/activate")

    @staticmethod
    def roll_back_model() -> Asked[ModelList]:
        return Asked(ModelList, "POST", "/v1/models/rollback", repeatable=False)

    @staticmethod
    def shadow_model(name: str) -> Asked[ModelList]:
        return Asked(ModelList, "POST", f"/v1/models/{_of(name)}/shadow")

    @staticmethod
    def end_shadow(name: str) -> Asked[ModelList]:
        path = f"/v1/models/{_of(name)}/shadow"
        return Asked(ModelList, "DELETE", path, repeatable=False)

    @staticmethod
    def compare_model(name: str, days: float = 28.0) -> Asked[ComparisonJob]:
        path, body = f"/v1/models/{_of(name)}/comparisons", ComparisonRequest(days=days)
        return Asked(ComparisonJob, "POST", path, body, repeatable=False)

    @staticmethod
    def comparison(name: str, comparison_id: str) -> Asked[ComparisonJob]:
        path = f"/v1/models/{_of(name)}/comparisons/{_of(comparison_id)}"
        return Asked(ComparisonJob, "GET", path)

    @staticmethod
    def measure_drift(name: str, days: int = 28) -> Asked[DriftJob]:
        path, body = f"/v1/models/{_of(name)}/drift", DriftRequest(days=days)
        return Asked(DriftJob, "POST", path, body, repeatable=False)

    @staticmethod
    def drift(name: str, drift_id: str) -> Asked[DriftJob]:
        return Asked(DriftJob, "GET", f"/v1/models/{_of(name)}/drift/{_of(drift_id)}")

    @staticmethod
    def promote_model(name: str, comparison_id: str) -> Asked[ModelComparison]:
        path, body = f"/v1/models/{_of(name)}/promote", Promotion(comparison=comparison_id)
        return Asked(ModelComparison, "POST", path, body, repeatable=False)

    @staticmethod
    def webhooks() -> Asked[WebhookList]:
        return Asked(WebhookList, "GET", "/v1/webhooks")

    @staticmethod
    def create_webhook(url: str, events: Sequence[str]) -> Asked[NewWebhook]:
        body = PostedWebhook.model_validate({"url": url, "events": events})
        return Asked(NewWebhook, "POST", "/v1/webhooks", body, repeatable=False)

    @staticmethod
    def rotate_webhook(webhook_id: str) -> Asked[NewWebhook]:
        path = f"/v1/webhooks/{_of(webhook_id)}/rotate"
        return Asked(NewWebhook, "POST", path, repeatable=False)

    @staticmethod
    def enable_webhook(webhook_id: str) -> Asked[WebhookState]:
        path = f"/v1/webhooks/{_of(webhook_id)}/enable"
        return Asked(WebhookState, "POST", path)

    @staticmethod
    def remove_webhook(webhook_id: str) -> Asked[WebhookList]:
        path = f"/v1/webhooks/{_of(webhook_id)}"
        return Asked(WebhookList, "DELETE", path, repeatable=False)

    @staticmethod
    def waiting_messages(webhook_id: str) -> Asked[WaitingMessages]:
        path = f"/v1/webhooks/{_of(webhook_id)}/messages"
        return Asked(WaitingMessages, "GET", path)


class Client:
    """The API, one request after the other. `options` are those of httpx.Client."""

    def __init__(self, url: str, key: str, **options: Any) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, headers=headers, **{"limits": LIMITS, **options})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def _send(self, asked: Asked[Answer]) -> Answer:
        for attempt in range(1, ATTEMPTS + 1):
            response = None
            try:
                response = self._http.request(**asked.arguments())
            except httpx.TransportError:
                if asked.wait_seconds(None, attempt) is None:
                    raise
            seconds = asked.wait_seconds(response, attempt)
            if response is not None and seconds is None:
                return asked.answer(response)
            time.sleep(seconds or 0.0)
        raise AssertionError("the last attempt returns or raises")

    def ready(self) -> Readiness:
        """Whether the service is ready, and with which model."""
        return self._send(_Requests.ready())

    def score(self, transaction: PostedTransaction | Json) -> Score:
        """Score one transaction and remember it."""
        return self._send(_Requests.score(transaction))

    def score_batch(self, transactions: Sequence[PostedTransaction | Json]) -> BatchResult:
        """Score up to 1,000 transactions; results in their order."""
        return self._send(_Requests.score_batch(transactions))

    def transaction(self, transaction_id: str) -> StoredTransaction:
        """A transaction as it was posted and scored."""
        return self._send(_Requests.transaction(transaction_id))

    def transactions(self, **filters: str | int | None) -> Page[StoredTransaction]:
        """A page of transactions; filters as in the API."""
        return self._send(_Requests.transactions(**filters))

    def reasons(self, transaction_id: str) -> Explanation:
        """Why a transaction has its score."""
        return self._send(_Requests.reasons(transaction_id))

    def replay(self, transaction_id: str) -> Replayed:
        """Compute a score again and compare."""
        return self._send(_Requests.replay(transaction_id))

    def label(self, transaction_id: str, label: str, **said: str | None) -> TransactionLabelled:
        """Label a transaction; `said` is labelled_at, source, analyst, note."""
        return self._send(_Requests.label(transaction_id, label, **said))

    def remove_label(self, transaction_id: str) -> TransactionLabelled:
        """Unlearn a label."""
        return self._send(_Requests.remove_label(transaction_id))

    def label_history(self, transaction_id: str) -> LabelHistory:
        """A label and every change of it."""
        return self._send(_Requests.label_history(transaction_id))

    def label_batch(self, labels: Sequence[Json]) -> LabelBatchResult:
        """Labels of any accounts, each with its own outcome."""
        return self._send(_Requests.label_batch(labels))

    def account(self, account_id: str) -> AccountState:
        """What is known of an account."""
        return self._send(_Requests.account(account_id))

    def accounts(self, **filters: str | int | bool | None) -> Page[AccountState]:
        """A page of accounts."""
        return self._send(_Requests.accounts(**filters))

    def label_account(self, account_id: str, labels: Sequence[Json]) -> LabelledAccount:
        """Labels of one account, all or none."""
        return self._send(_Requests.label_account(account_id, labels))

    def adapt(self, account_id: str) -> Adapted:
        """Make an account's copy now."""
        return self._send(_Requests.adapt(account_id))

    def preview(self, account_id: str, labels: Sequence[Json]) -> Adapted:
        """What labels would do; nothing is stored."""
        return self._send(_Requests.preview(account_id, labels))

    def roll_back(self, account_id: str, revision: int, dry_run: bool = False) -> RolledBack:
        """Give an account the labels of a revision again; or try it out."""
        return self._send(_Requests.roll_back(account_id, revision, dry_run))

    def influence(self, account_id: str) -> Influence:
        """How far each label moves an account."""
        return self._send(_Requests.influence(account_id))

    def ask_next(self, account_id: str, limit: int = 5) -> AskNext:
        """Which transactions to label next."""
        return self._send(_Requests.ask_next(account_id, limit))

    def revision(self, account_id: str, revision: int) -> AccountRevision:
        """An account's copy of a past revision."""
        return self._send(_Requests.revision(account_id, revision))

    def erase_account(self, account_id: str) -> Certificate:
        """Erase an account for good."""
        return self._send(_Requests.erase_account(account_id))

    def erasures(self, **filters: str | int | None) -> Page[Erasure]:
        """A page of the certificates of erasures."""
        return self._send(_Requests.erasures(**filters))

    def erasure(self, erasure_id: str) -> Erasure:
        """One certificate of an erasure."""
        return self._send(_Requests.erasure(erasure_id))

    def reviews(self, **filters: str | int | None) -> Page[Review]:
        """A page of the review queue."""
        return self._send(_Requests.reviews(**filters))

    def review(self, transaction_id: str) -> ReviewedTransaction:
        """One review with its transaction."""
        return self._send(_Requests.review(transaction_id))

    def assign_review(self, transaction_id: str, assignee: str, take_over: bool = False) -> Review:
        """Take a review; with the scope admin, from whoever has it."""
        return self._send(_Requests.assign_review(transaction_id, assignee, take_over))

    def release_review(self, transaction_id: str) -> Review:
        """Give a review back."""
        return self._send(_Requests.release_review(transaction_id))

    def review_figures(self, days: int = 28) -> ReviewFigures:
        """What labels say of the reviews of each kind."""
        return self._send(_Requests.review_figures(days))

    def thresholds(self) -> ThresholdsInForce:
        """What decides now, and next."""
        return self._send(_Requests.thresholds())

    def set_thresholds(self, **stated: Any) -> ThresholdsSet:
        """Set thresholds, or a budget; with `dry_run=True` only say what would be."""
        return self._send(_Requests.set_thresholds(**stated))

    def reset_thresholds(self) -> ThresholdsInForce:
        """Let the model's own thresholds decide again."""
        return self._send(_Requests.reset_thresholds())

    def threshold_history(self, **page: str | int | None) -> Page[ThresholdsKept]:
        """A page of all thresholds."""
        return self._send(_Requests.threshold_history(**page))

    def keys(self) -> ApiKeys:
        """The tenant's keys, without their secrets."""
        return self._send(_Requests.keys())

    def create_key(self, name: str, scopes: Sequence[str]) -> NewKey:
        """Make a key; its text is told once."""
        return self._send(_Requests.create_key(name, scopes))

    def rotate_key(self, key_id: str, hours: float = GRACE_HOURS) -> NewKey:
        """Replace a key; the old one is good for some hours more."""
        return self._send(_Requests.rotate_key(key_id, hours))

    def revoke_key(self, key_id: str) -> ApiKeys:
        """End a key."""
        return self._send(_Requests.revoke_key(key_id))

    def audit_log(self, **filters: str | int | None) -> Page[LogEntry]:
        """A page of who changed what."""
        return self._send(_Requests.audit_log(**filters))

    def models(self) -> ModelList:
        """The checkpoints that there are, and what each does."""
        return self._send(_Requests.models())

    def activate_model(self, name: str) -> ModelList:
        """Let a checkpoint decide."""
        return self._send(_Requests.activate_model(name))

    def roll_back_model(self) -> ModelList:
        """Let the checkpoint decide that did before."""
        return self._send(_Requests.roll_back_model())

    def shadow_model(self, name: str) -> ModelList:
        """Try a checkpoint out beside the active one."""
        return self._send(_Requests.shadow_model(name))

    def end_shadow(self, name: str) -> ModelList:
        """Try it out no longer."""
        return self._send(_Requests.end_shadow(name))

    def compare_model(self, name: str, days: float = 28.0) -> ComparisonJob:
        """Begin to compute what a checkpoint would have decided on the traffic of some days."""
        return self._send(_Requests.compare_model(name, days))

    def comparison(self, name: str, comparison_id: str) -> ComparisonJob:
        """How far that is, and its result."""
        return self._send(_Requests.comparison(name, comparison_id))

    def measure_drift(self, name: str, days: int = 28) -> DriftJob:
        """Begin to compute how far traffic is from the data that a checkpoint was trained on."""
        return self._send(_Requests.measure_drift(name, days))

    def drift(self, name: str, drift_id: str) -> DriftJob:
        """How far that is, and its result."""
        return self._send(_Requests.drift(name, drift_id))

    def promote_model(self, name: str, comparison_id: str) -> ModelComparison:
        """Activate a checkpoint if a comparison says that it is no worse."""
        return self._send(_Requests.promote_model(name, comparison_id))

    def webhooks(self) -> WebhookList:
        """The tenant's webhooks, without their secrets."""
        return self._send(_Requests.webhooks())

    def create_webhook(self, url: str, events: Sequence[str]) -> NewWebhook:
        """Be told of events; the secret is told once."""
        return self._send(_Requests.create_webhook(url, events))

    def rotate_webhook(self, webhook_id: str) -> NewWebhook:
        """Give a webhook a new secret."""
        return self._send(_Requests.rotate_webhook(webhook_id))

    def enable_webhook(self, webhook_id: str) -> WebhookState:
        """Deliver to a webhook again that its receiver disabled or paused."""
        return self._send(_Requests.enable_webhook(webhook_id))

    def remove_webhook(self, webhook_id: str) -> WebhookList:
        """Forget a webhook."""
        return self._send(_Requests.remove_webhook(webhook_id))

    def waiting_messages(self, webhook_id: str) -> WaitingMessages:
        """What has not arrived at a webhook yet."""
        return self._send(_Requests.waiting_messages(webhook_id))


class AsyncClient:
    """The API without blocking. `options` are those of httpx.AsyncClient."""

    def __init__(self, url: str, key: str, **options: Any) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx.AsyncClient(
            base_url=url, headers=headers, **{"limits": LIMITS, **options}
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _send(self, asked: Asked[Answer]) -> Answer:
        for attempt in range(1, ATTEMPTS + 1):
            response = None
            try:
                response = await self._http.request(**asked.arguments())
            except httpx.TransportError:
                if asked.wait_seconds(None, attempt) is None:
                    raise
            seconds = asked.wait_seconds(response, attempt)
            if response is not None and seconds is None:
                return asked.answer(response)
            await asyncio.sleep(seconds or 0.0)
        raise AssertionError("the last attempt returns or raises")

    async def ready(self) -> Readiness:
        """Whether the service is ready, and with which model."""
        return await self._send(_Requests.ready())

    async def score(self, transaction: PostedTransaction | Json) -> Score:
        """Score one transaction and remember it."""
        return await self._send(_Requests.score(transaction))

    async def score_batch(self, transactions: Sequence[PostedTransaction | Json]) -> BatchResult:
        """Score up to 1,000 transactions; results in their order."""
        return await self._send(_Requests.score_batch(transactions))

    async def transaction(self, transaction_id: str) -> StoredTransaction:
        """A transaction as it was posted and scored."""
        return await self._send(_Requests.transaction(transaction_id))

    async def transactions(self, **filters: str | int | None) -> Page[StoredTransaction]:
        """A page of transactions; filters as in the API."""
        return await self._send(_Requests.transactions(**filters))

    async def reasons(self, transaction_id: str) -> Explanation:
        """Why a transaction has its score."""
        return await self._send(_Requests.reasons(transaction_id))

    async def replay(self, transaction_id: str) -> Replayed:
        """Compute a score again and compare."""
        return await self._send(_Requests.replay(transaction_id))

    async def label(
        self, transaction_id: str, label: str, **said: str | None
    ) -> TransactionLabelled:
        """Label a transaction; `said` is labelled_at, source, analyst, note."""
        return await self._send(_Requests.label(transaction_id, label, **said))

    async def remove_label(self, transaction_id: str) -> TransactionLabelled:
        """Unlearn a label."""
        return await self._send(_Requests.remove_label(transaction_id))

    async def label_history(self, transaction_id: str) -> LabelHistory:
        """A label and every change of it."""
        return await self._send(_Requests.label_history(transaction_id))

    async def label_batch(self, labels: Sequence[Json]) -> LabelBatchResult:
        """Labels of any accounts, each with its own outcome."""
        return await self._send(_Requests.label_batch(labels))

    async def account(self, account_id: str) -> AccountState:
        """What is known of an account."""
        return await self._send(_Requests.account(account_id))

    async def accounts(self, **filters: str | int | bool | None) -> Page[AccountState]:
        """A page of accounts."""
        return await self._send(_Requests.accounts(**filters))

    async def label_account(self, account_id: str, labels: Sequence[Json]) -> LabelledAccount:
        """Labels of one account, all or none."""
        return await self._send(_Requests.label_account(account_id, labels))

    async def adapt(self, account_id: str) -> Adapted:
        """Make an account's copy now."""
        return await self._send(_Requests.adapt(account_id))

    async def preview(self, account_id: str, labels: Sequence[Json]) -> Adapted:
        """What labels would do; nothing is stored."""
        return await self._send(_Requests.preview(account_id, labels))

    async def roll_back(self, account_id: str, revision: int, dry_run: bool = False) -> RolledBack:
        """Give an account the labels of a revision again; or try it out."""
        return await self._send(_Requests.roll_back(account_id, revision, dry_run))

    async def influence(self, account_id: str) -> Influence:
        """How far each label moves an account."""
        return await self._send(_Requests.influence(account_id))

    async def ask_next(self, account_id: str, limit: int = 5) -> AskNext:
        """Which transactions to label next."""
        return await self._send(_Requests.ask_next(account_id, limit))

    async def revision(self, account_id: str, revision: int) -> AccountRevision:
        """An account's copy of a past revision."""
        return await self._send(_Requests.revision(account_id, revision))

    async def erase_account(self, account_id: str) -> Certificate:
        """Erase an account for good."""
        return await self._send(_Requests.erase_account(account_id))

    async def erasures(self, **filters: str | int | None) -> Page[Erasure]:
        """A page of the certificates of erasures."""
        return await self._send(_Requests.erasures(**filters))

    async def erasure(self, erasure_id: str) -> Erasure:
        """One certificate of an erasure."""
        return await self._send(_Requests.erasure(erasure_id))

    async def reviews(self, **filters: str | int | None) -> Page[Review]:
        """A page of the review queue."""
        return await self._send(_Requests.reviews(**filters))

    async def review(self, transaction_id: str) -> ReviewedTransaction:
        """One review with its transaction."""
        return await self._send(_Requests.review(transaction_id))

    async def assign_review(
        self, transaction_id: str, assignee: str, take_over: bool = False
    ) -> Review:
        """Take a review; with the scope admin, from whoever has it."""
        return await self._send(_Requests.assign_review(transaction_id, assignee, take_over))

    async def release_review(self, transaction_id: str) -> Review:
        """Give a review back."""
        return await self._send(_Requests.release_review(transaction_id))

    async def review_figures(self, days: int = 28) -> ReviewFigures:
        """What labels say of the reviews of each kind."""
        return await self._send(_Requests.review_figures(days))

    async def thresholds(self) -> ThresholdsInForce:
        """What decides now, and next."""
        return await self._send(_Requests.thresholds())

    async def set_thresholds(self, **stated: Any) -> ThresholdsSet:
        """Set thresholds, or a budget; with `dry_run=True` only say what would be."""
        return await self._send(_Requests.set_thresholds(**stated))

    async def reset_thresholds(self) -> ThresholdsInForce:
        """Let the model's own thresholds decide again."""
        return await self._send(_Requests.reset_thresholds())

    async def threshold_history(self, **page: str | int | None) -> Page[ThresholdsKept]:
        """A page of all thresholds."""
        return await self._send(_Requests.threshold_history(**page))

    async def keys(self) -> ApiKeys:
        """The tenant's keys, without their secrets."""
        return await self._send(_Requests.keys())

    async def create_key(self, name: str, scopes: Sequence[str]) -> NewKey:
        """Make a key; its text is told once."""
        return await self._send(_Requests.create_key(name, scopes))

    async def rotate_key(self, key_id: str, hours: float = GRACE_HOURS) -> NewKey:
        """Replace a key; the old one is good for some hours more."""
        return await self._send(_Requests.rotate_key(key_id, hours))

    async def revoke_key(self, key_id: str) -> ApiKeys:
        """End a key."""
        return await self._send(_Requests.revoke_key(key_id))

    async def audit_log(self, **filters: str | int | None) -> Page[LogEntry]:
        """A page of who changed what."""
        return await self._send(_Requests.audit_log(**filters))

    async def models(self) -> ModelList:
        """The checkpoints that there are, and what each does."""
        return await self._send(_Requests.models())

    async def activate_model(self, name: str) -> ModelList:
        """Let a checkpoint decide."""
        return await self._send(_Requests.activate_model(name))

    async def roll_back_model(self) -> ModelList:
        """Let the checkpoint decide that did before."""
        return await self._send(_Requests.roll_back_model())

    async def shadow_model(self, name: str) -> ModelList:
        """Try a checkpoint out beside the active one."""
        return await self._send(_Requests.shadow_model(name))

    async def end_shadow(self, name: str) -> ModelList:
        """Try it out no longer."""
        return await self._send(_Requests.end_shadow(name))

    async def compare_model(self, name: str, days: float = 28.0) -> ComparisonJob:
        """Begin to compute what a checkpoint would have decided on the traffic of some days."""
        return await self._send(_Requests.compare_model(name, days))

    async def comparison(self, name: str, comparison_id: str) -> ComparisonJob:
        """How far that is, and its result."""
        return await self._send(_Requests.comparison(name, comparison_id))

    async def measure_drift(self, name: str, days: int = 28) -> DriftJob:
        """Begin to compute how far traffic is from the data that a checkpoint was trained on."""
        return await self._send(_Requests.measure_drift(name, days))

    async def drift(self, name: str, drift_id: str) -> DriftJob:
        """How far that is, and its result."""
        return await self._send(_Requests.drift(name, drift_id))

    async def promote_model(self, name: str, comparison_id: str) -> ModelComparison:
        """Activate a checkpoint if a comparison says that it is no worse."""
        return await self._send(_Requests.promote_model(name, comparison_id))

    async def webhooks(self) -> WebhookList:
        """The tenant's webhooks, without their secrets."""
        return await self._send(_Requests.webhooks())

    async def create_webhook(self, url: str, events: Sequence[str]) -> NewWebhook:
        """Be told of events; the secret is told once."""
        return await self._send(_Requests.create_webhook(url, events))

    async def rotate_webhook(self, webhook_id: str) -> NewWebhook:
        """Give a webhook a new secret."""
        return await self._send(_Requests.rotate_webhook(webhook_id))

    async def enable_webhook(self, webhook_id: str) -> WebhookState:
        """Deliver to a webhook again that its receiver disabled or paused."""
        return await self._send(_Requests.enable_webhook(webhook_id))

    async def remove_webhook(self, webhook_id: str) -> WebhookList:
        """Forget a webhook."""
        return await self._send(_Requests.remove_webhook(webhook_id))

    async def waiting_messages(self, webhook_id: str) -> WaitingMessages:
        """What has not arrived at a webhook yet."""
        return await self._send(_Requests.waiting_messages(webhook_id))
