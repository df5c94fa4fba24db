"""The client of asyncio programs; `make client` writes the synchronous one from it."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import BaseModel

from quickstudy_client.models import (
    AccountLink,
    AccountRevision,
    AccountState,
    Adapted,
    AdaptRequest,
    ApiKeys,
    AskNext,
    Assignment,
    BatchResult,
    Certificate,
    ComparisonJob,
    ComparisonJobs,
    ComparisonRequest,
    CountedFigures,
    DemoState,
    DriftJob,
    DriftJobs,
    DriftRequest,
    Entity,
    Erasure,
    Explanation,
    Influence,
    InvitedPerson,
    LabelBatch,
    LabelBatchResult,
    LabelChange,
    LabelGiven,
    LabelHistory,
    LabelledAccount,
    LabelsImported,
    LogEntry,
    ModelComparison,
    ModelList,
    ModelReport,
    NewKey,
    NewRole,
    NewStatus,
    NewWebhook,
    NextAssignment,
    Note,
    PasswordChange,
    PeopleList,
    PersonState,
    PostedBatch,
    PostedKey,
    PostedLabels,
    PostedNote,
    PostedPerson,
    PostedThresholds,
    PostedTransaction,
    PostedWebhook,
    Promotion,
    Questions,
    Readiness,
    Replayed,
    Review,
    ReviewCounts,
    ReviewedTransaction,
    ReviewFigures,
    RollbackRequest,
    RolledBack,
    Rotation,
    SavedSearch,
    Score,
    SearchFilters,
    SearchList,
    Snooze,
    StatusBatch,
    StatusBatchResult,
    StatusStored,
    StoredTransaction,
    ThresholdEffects,
    ThresholdsInForce,
    ThresholdsKept,
    ThresholdsSet,
    TransactionLabelled,
    WaitingMessages,
    WebhookList,
    WebhookState,
)
from quickstudy_client.transport import ATTEMPTS, LIMITS, Answer, Json, Request, segment
from quickstudy_client.types import Page


class AsyncClient:
    """A client of the service at `url` with an API key, to be shared by all tasks of a program.

    `options` are those of httpx.AsyncClient, such as `timeout` in seconds. Every method raises
    ApiError where the service refuses, httpx.TransportError where it cannot be reached, and
    pydantic.ValidationError where a body is wrong, before it is sent.
    """

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
        """Close all connections."""
        await self._http.aclose()

    async def _send(
        self,
        answer_type: type[Answer],
        method: str,
        path: str,
        body: BaseModel | str | None = None,
        query: Json | None = None,
        repeatable: bool = True,
    ) -> Answer:
        request = Request(answer_type, method, path, body, query or {}, repeatable)
        for attempt in range(1, ATTEMPTS + 1):
            response = None
            try:
                response = await self._http.request(**request.arguments())
            except httpx.TransportError:
                if request.wait_seconds(None, attempt) is None:
                    raise
            seconds = request.wait_seconds(response, attempt)
            if response is not None and seconds is None:
                return request.answer(response)
            await asyncio.sleep(seconds or 0.0)
        raise AssertionError("the last attempt returns or raises")

    async def ready(self) -> Readiness:
        """Whether the service is ready, and with which model."""
        return await self._send(Readiness, "GET", "/readyz")

    async def score(self, transaction: PostedTransaction | Json) -> Score:
        """Score a transaction and store it."""
        body = PostedTransaction.model_validate(transaction)
        return await self._send(Score, "POST", "/v1/transactions", body)

    async def score_batch(self, transactions: Sequence[PostedTransaction | Json]) -> BatchResult:
        """Score up to 1,000 transactions; the results have their order."""
        body = PostedBatch.model_validate({"transactions": transactions})
        return await self._send(BatchResult, "POST", "/v1/transactions/batch", body)

    async def transaction(self, transaction_id: str) -> StoredTransaction:
        """A transaction as it was posted and scored."""
        return await self._send(
            StoredTransaction, "GET", f"/v1/transactions/{segment(transaction_id)}"
        )

    async def transactions(self, **filters: str | int | None) -> Page[StoredTransaction]:
        """A page of transactions; the filters are those of the API."""
        return await self._send(Page[StoredTransaction], "GET", "/v1/transactions", query=filters)

    async def reasons(self, transaction_id: str) -> Explanation:
        """Why a transaction has its score."""
        return await self._send(
            Explanation, "GET", f"/v1/transactions/{segment(transaction_id)}/reasons"
        )

    async def replay(self, transaction_id: str) -> Replayed:
        """Compute a stored score again and compare the two."""
        return await self._send(
            Replayed, "POST", f"/v1/transactions/{segment(transaction_id)}/replay"
        )

    async def set_status(self, transaction_id: str, status: str) -> StatusStored:
        """Say what became of a transaction: authorised, declined, reversed or refunded."""
        body = NewStatus.model_validate({"status": status})
        path = f"/v1/transactions/{segment(transaction_id)}/status"
        return await self._send(StatusStored, "PUT", path, body)

    async def set_statuses(self, statuses: Sequence[Json]) -> StatusBatchResult:
        """Say what became of up to 1,000 transactions; each has its own outcome."""
        body = StatusBatch.model_validate({"statuses": statuses})
        return await self._send(StatusBatchResult, "PUT", "/v1/transactions/statuses", body)

    async def label(
        self, transaction_id: str, label: str, **details: str | None
    ) -> TransactionLabelled:
        """Label a transaction; `details` are labelled_at, source, analyst and note."""
        body = LabelGiven.model_validate({"label": label, **details})
        path = f"/v1/transactions/{segment(transaction_id)}/label"
        return await self._send(TransactionLabelled, "PUT", path, body)

    async def remove_label(self, transaction_id: str) -> TransactionLabelled:
        """Remove a label and unlearn it."""
        path = f"/v1/transactions/{segment(transaction_id)}/label"
        # A second attempt would find no label any more.
        return await self._send(TransactionLabelled, "DELETE", path, repeatable=False)

    async def label_history(self, transaction_id: str) -> LabelHistory:
        """A label and every change of it."""
        return await self._send(
            LabelHistory, "GET", f"/v1/transactions/{segment(transaction_id)}/label"
        )

    async def label_batch(self, labels: Sequence[Json]) -> LabelBatchResult:
        """Set labels of any accounts; each has its own outcome."""
        body = LabelBatch.model_validate({"labels": labels})
        return await self._send(LabelBatchResult, "POST", "/v1/labels", body)

    async def import_labels(
        self, file: str, source: str = "chargeback", dry_run: bool = False
    ) -> LabelsImported:
        """Store the labels of up to 1,000 rows, CSV or an object of JSON a line.

        A row has transaction, label and perhaps date.

        Each row is answered alone; with `dry_run` nothing is stored.
        """
        query = {"source": source, "dry_run": dry_run}
        return await self._send(LabelsImported, "POST", "/v1/labels/import", file, query)

    async def account(self, account_id: str) -> AccountState:
        """The state of an account."""
        return await self._send(AccountState, "GET", f"/v1/accounts/{segment(account_id)}")

    async def accounts(self, **filters: str | int | bool | None) -> Page[AccountState]:
        """A page of accounts."""
        return await self._send(Page[AccountState], "GET", "/v1/accounts", query=filters)

    async def links(self, account_id: str, **page: str | int | None) -> Page[AccountLink]:
        """A page of the devices, addresses, cards, … that an account has used."""
        path = f"/v1/accounts/{segment(account_id)}/links"
        return await self._send(Page[AccountLink], "GET", path, query=page)

    async def entity(self, kind: str, entity_id: str, **page: str | int | None) -> Entity:
        """A device, an address, a card, …, and a page of the accounts that have used it."""
        path = f"/v1/entities/{segment(kind)}/{segment(entity_id)}"
        return await self._send(Entity, "GET", path, query=page)

    async def label_account(self, account_id: str, labels: Sequence[Json]) -> LabelledAccount:
        """Set labels of one account, all or none."""
        body = PostedLabels.model_validate({"labels": labels})
        return await self._send(
            LabelledAccount, "POST", f"/v1/accounts/{segment(account_id)}/labels", body
        )

    async def adapt(self, account_id: str) -> Adapted:
        """Adapt the model to an account now."""
        return await self._send(Adapted, "POST", f"/v1/accounts/{segment(account_id)}/adapt")

    async def preview(self, account_id: str, labels: Sequence[Json]) -> Adapted:
        """What labels would change; nothing is stored."""
        body = AdaptRequest.model_validate({"dry_run": True, "labels": labels})
        return await self._send(Adapted, "POST", f"/v1/accounts/{segment(account_id)}/adapt", body)

    async def notes(self, account_id: str, **paging: str | int | None) -> Page[Note]:
        """A page of the notes on an account, the newest first."""
        path = f"/v1/accounts/{segment(account_id)}/notes"
        return await self._send(Page[Note], "GET", path, query=paging)

    async def add_note(
        self,
        account_id: str,
        text: str,
        author: str | None = None,
        transaction_id: str | None = None,
    ) -> Note:
        """Write something down about an account."""
        body = PostedNote(text=text, author=author, transaction_id=transaction_id)
        path = f"/v1/accounts/{segment(account_id)}/notes"
        return await self._send(Note, "POST", path, body, repeatable=False)

    async def roll_back(self, account_id: str, revision: int, dry_run: bool = False) -> RolledBack:
        """Restore the labels of a revision; with `dry_run` only show what that would change."""
        body = RollbackRequest(revision=revision, dry_run=dry_run)
        return await self._send(
            RolledBack, "POST", f"/v1/accounts/{segment(account_id)}/rollback", body
        )

    async def influence(self, account_id: str) -> Influence:
        """How far each label moves the scores of its account."""
        return await self._send(Influence, "GET", f"/v1/accounts/{segment(account_id)}/influence")

    async def ask_next(self, account_id: str, limit: int = 5) -> AskNext:
        """Which transactions to label next."""
        path = f"/v1/accounts/{segment(account_id)}/ask-next"
        return await self._send(AskNext, "GET", path, query={"limit": limit})

    async def ask_next_of_all(self, limit: int = 5) -> Questions:
        """The payments, of several accounts, whose label would teach their account most."""
        return await self._send(Questions, "GET", "/v1/ask-next", query={"limit": limit})

    async def revisions(self, account_id: str, **paging: str | int | None) -> Page[LabelChange]:
        """A page of the changes of an account's labels, the newest first."""
        path = f"/v1/accounts/{segment(account_id)}/revisions"
        return await self._send(Page[LabelChange], "GET", path, query=paging)

    async def revision(self, account_id: str, revision: int) -> AccountRevision:
        """The adapted copy of an account at a past revision."""
        path = f"/v1/accounts/{segment(account_id)}/revisions/{revision}"
        return await self._send(AccountRevision, "GET", path)

    async def erase_account(self, account_id: str) -> Certificate:
        """Erase an account for good."""
        path = f"/v1/accounts/{segment(account_id)}"
        return await self._send(Certificate, "DELETE", path, repeatable=False)

    async def erasures(self, **filters: str | int | None) -> Page[Erasure]:
        """A page of the certificates of erased accounts."""
        return await self._send(Page[Erasure], "GET", "/v1/erasures", query=filters)

    async def erasure(self, erasure_id: str) -> Erasure:
        """The certificate of an erased account."""
        return await self._send(Erasure, "GET", f"/v1/erasures/{segment(erasure_id)}")

    async def reviews(self, **filters: str | int | None) -> Page[ReviewedTransaction]:
        """A page of the review queue."""
        return await self._send(Page[ReviewedTransaction], "GET", "/v1/reviews", query=filters)

    async def review(self, transaction_id: str) -> ReviewedTransaction:
        """A review with its transaction."""
        return await self._send(
            ReviewedTransaction, "GET", f"/v1/reviews/{segment(transaction_id)}"
        )

    async def next_review(
        self, assignee: str, kind: str = "review", order: str = "risk"
    ) -> ReviewedTransaction:
        """Take the most urgent review that nobody has."""
        body = NextAssignment.model_validate({"assignee": assignee, "kind": kind, "order": order})
        # A second attempt would take another.
        return await self._send(
            ReviewedTransaction, "POST", "/v1/reviews/next", body, repeatable=False
        )

    async def snooze_review(self, transaction_id: str, until: str) -> Review:
        """Leave a review out of the queue until a time."""
        body = Snooze.model_validate({"until": until})
        return await self._send(
            Review, "PUT", f"/v1/reviews/{segment(transaction_id)}/snooze", body
        )

    async def wake_review(self, transaction_id: str) -> Review:
        """Put a snoozed review back into the queue."""
        return await self._send(Review, "DELETE", f"/v1/reviews/{segment(transaction_id)}/snooze")

    async def assign_review(
        self,
        transaction_id: str,
        assignee: str,
        take_over: bool = False,
        hand_over: bool = False,
    ) -> Review:
        """Assign a review; who has it may `hand_over`, the scope manage `take_over`."""
        body = Assignment(assignee=assignee, take_over=take_over, hand_over=hand_over)
        return await self._send(
            Review, "PUT", f"/v1/reviews/{segment(transaction_id)}/assignee", body
        )

    async def release_review(self, transaction_id: str) -> Review:
        """Return a review to the queue."""
        return await self._send(Review, "DELETE", f"/v1/reviews/{segment(transaction_id)}/assignee")

    async def review_figures(self, days: int = 28) -> ReviewFigures:
        """How many reviews of each kind were frauds, by their labels of the last `days`."""
        return await self._send(ReviewFigures, "GET", "/v1/review-figures", query={"days": days})

    async def review_counts(self, assignee: str | None = None) -> ReviewCounts:
        """How many reviews are open, cleared and resolved, of one assignee or of all."""
        query = {"assignee": assignee}
        return await self._send(ReviewCounts, "GET", "/v1/review-counts", query=query)

    async def figures(self) -> CountedFigures:
        """Alerts, decisions and waiting times of four weeks, by day and by person."""
        return await self._send(CountedFigures, "GET", "/v1/figures")

    async def thresholds(self) -> ThresholdsInForce:
        """The thresholds in force, and those that come next."""
        return await self._send(ThresholdsInForce, "GET", "/v1/thresholds")

    async def set_thresholds(self, **thresholds: Any) -> ThresholdsSet:
        """Set thresholds or a budget; with `dry_run=True` only show what that would change."""
        body = PostedThresholds.model_validate(thresholds)
        return await self._send(ThresholdsSet, "POST", "/v1/thresholds", body, repeatable=False)

    async def reset_thresholds(self) -> ThresholdsInForce:
        """Return to the thresholds of the model."""
        return await self._send(ThresholdsInForce, "DELETE", "/v1/thresholds")

    async def threshold_effects(
        self, review: float | None = None, decline: float | None = None
    ) -> ThresholdEffects:
        """What thresholds, by default those in force, would have done of late."""
        query = {"review": review, "decline": decline}
        return await self._send(ThresholdEffects, "GET", "/v1/thresholds/effects", query=query)

    async def threshold_history(self, **page: str | int | None) -> Page[ThresholdsKept]:
        """A page of all thresholds so far."""
        return await self._send(Page[ThresholdsKept], "GET", "/v1/thresholds/history", query=page)

    async def demo(self) -> DemoState:
        """Whether demonstration payments are being loaded."""
        return await self._send(DemoState, "GET", "/v1/demo")

    async def load_demo(self) -> DemoState:
        """Load demonstration payments into an empty tenant, beside requests."""
        return await self._send(DemoState, "POST", "/v1/demo", repeatable=False)

    async def keys(self) -> ApiKeys:
        """The tenant's keys, without their secrets."""
        return await self._send(ApiKeys, "GET", "/v1/keys")

    async def create_key(self, name: str, scopes: Sequence[str]) -> NewKey:
        """Create a key; its text is shown only in this answer."""
        body = PostedKey.model_validate({"name": name, "scopes": scopes})
        return await self._send(NewKey, "POST", "/v1/keys", body, repeatable=False)

    async def rotate_key(self, key_id: str, hours: float = 24.0) -> NewKey:
        """Replace a key; the old one stays valid for `hours`."""
        path = f"/v1/keys/{segment(key_id)}/rotate"
        return await self._send(NewKey, "POST", path, Rotation(hours=hours), repeatable=False)

    async def revoke_key(self, key_id: str) -> ApiKeys:
        """Revoke a key."""
        return await self._send(ApiKeys, "DELETE", f"/v1/keys/{segment(key_id)}", repeatable=False)

    async def audit_log(self, **filters: str | int | None) -> Page[LogEntry]:
        """A page of the audit log: who changed what."""
        return await self._send(Page[LogEntry], "GET", "/v1/audit-log", query=filters)

    async def models(self) -> ModelList:
        """The models, and which is active or a shadow."""
        return await self._send(ModelList, "GET", "/v1/models")

    async def activate_model(self, name: str) -> ModelList:
        """Activate a model."""
        return await self._send(ModelList, "POST", f"/v1/models/{segment(name)}/activate")

    async def roll_back_model(self) -> ModelList:
        """Activate the previous model again."""
        return await self._send(ModelList, "POST", "/v1/models/rollback", repeatable=False)

    async def shadow_model(self, name: str) -> ModelList:
        """Run a model as a shadow beside the active one."""
        return await self._send(ModelList, "POST", f"/v1/models/{segment(name)}/shadow")

    async def end_shadow(self, name: str) -> ModelList:
        """Stop running a model as a shadow."""
        path = f"/v1/models/{segment(name)}/shadow"
        return await self._send(ModelList, "DELETE", path, repeatable=False)

    async def compare_model(self, name: str, days: float = 28.0) -> ComparisonJob:
        """Start a job that compares a model with the active one on the traffic of `days`."""
        path, body = f"/v1/models/{segment(name)}/comparisons", ComparisonRequest(days=days)
        return await self._send(ComparisonJob, "POST", path, body, repeatable=False)

    async def comparison(self, name: str, comparison_id: str) -> ComparisonJob:
        """The state of a comparison, and its result once it is done."""
        path = f"/v1/models/{segment(name)}/comparisons/{segment(comparison_id)}"
        return await self._send(ComparisonJob, "GET", path)

    async def comparisons(self, name: str) -> ComparisonJobs:
        """The newest comparisons of a model."""
        path = f"/v1/models/{segment(name)}/comparisons"
        return await self._send(ComparisonJobs, "GET", path)

    async def drifts(self, name: str) -> DriftJobs:
        """The newest measurements of a model's drift."""
        return await self._send(DriftJobs, "GET", f"/v1/models/{segment(name)}/drift")

    async def model_report(self, name: str) -> ModelReport:
        """The report of a model's training, an HTML page."""
        return await self._send(ModelReport, "GET", f"/v1/models/{segment(name)}/report")

    async def measure_drift(self, name: str, days: int = 28) -> DriftJob:
        """Start a job that measures how far the traffic of `days` is from the training data."""
        path, body = f"/v1/models/{segment(name)}/drift", DriftRequest(days=days)
        return await self._send(DriftJob, "POST", path, body, repeatable=False)

    async def drift(self, name: str, drift_id: str) -> DriftJob:
        """The state of a drift measurement, and its result once it is done."""
        return await self._send(
            DriftJob, "GET", f"/v1/models/{segment(name)}/drift/{segment(drift_id)}"
        )

    async def promote_model(self, name: str, comparison_id: str) -> ModelComparison:
        """Activate a model if a comparison shows that it is no worse."""
        path, body = f"/v1/models/{segment(name)}/promote", Promotion(comparison=comparison_id)
        return await self._send(ModelComparison, "POST", path, body, repeatable=False)

    async def searches(self) -> SearchList:
        """The searches for transactions that whoever has this key has saved."""
        return await self._send(SearchList, "GET", "/v1/searches")

    async def save_search(self, name: str, **filters: str | None) -> SavedSearch:
        """Save a search under a name; the filters are those of `transactions`."""
        body = SearchFilters.model_validate(filters)
        return await self._send(SavedSearch, "PUT", f"/v1/searches/{segment(name)}", body)

    async def remove_search(self, name: str) -> SearchList:
        """Forget a saved search."""
        return await self._send(SearchList, "DELETE", f"/v1/searches/{segment(name)}")

    async def people(self) -> PeopleList:
        """Who may work at the console, and as what."""
        return await self._send(PeopleList, "GET", "/v1/people")

    async def add_person(self, name: str, role: str, email: str | None = None) -> InvitedPerson:
        """Add a person; the link by which they choose a password is shown only in this answer."""
        body = PostedPerson.model_validate({"name": name, "role": role, "email": email})
        return await self._send(InvitedPerson, "POST", "/v1/people", body, repeatable=False)

    async def set_role(self, person_id: str, role: str) -> PersonState:
        """Say what a person may do: auditor, analyst, lead or admin."""
        body = NewRole.model_validate({"role": role})
        return await self._send(PersonState, "PUT", f"/v1/people/{segment(person_id)}/role", body)

    async def change_password(
        self, person_id: str, password: str, new_password: str
    ) -> PersonState:
        """Change a person's password by the present one; their sessions end."""
        body = PasswordChange(password=password, new_password=new_password)
        path = f"/v1/people/{segment(person_id)}/password"
        return await self._send(PersonState, "PUT", path, body, repeatable=False)

    async def reset_person(self, person_id: str) -> InvitedPerson:
        """A new link for a person, whose password and sessions of before end."""
        path = f"/v1/people/{segment(person_id)}/reset"
        return await self._send(InvitedPerson, "POST", path, repeatable=False)

    async def remove_person(self, person_id: str) -> PersonState:
        """End what a person may do."""
        return await self._send(PersonState, "DELETE", f"/v1/people/{segment(person_id)}")

    async def webhooks(self) -> WebhookList:
        """The tenant's webhooks, without their secrets."""
        return await self._send(WebhookList, "GET", "/v1/webhooks")

    async def create_webhook(self, url: str, events: Sequence[str]) -> NewWebhook:
        """Register a webhook; its secret is shown only in this answer."""
        body = PostedWebhook.model_validate({"url": url, "events": events})
        return await self._send(NewWebhook, "POST", "/v1/webhooks", body, repeatable=False)

    async def rotate_webhook(self, webhook_id: str) -> NewWebhook:
        """Give a webhook a new secret."""
        path = f"/v1/webhooks/{segment(webhook_id)}/rotate"
        return await self._send(NewWebhook, "POST", path, repeatable=False)

    async def enable_webhook(self, webhook_id: str) -> WebhookState:
        """Deliver to a disabled or paused webhook again."""
        path = f"/v1/webhooks/{segment(webhook_id)}/enable"
        return await self._send(WebhookState, "POST", path)

    async def remove_webhook(self, webhook_id: str) -> WebhookList:
        """Remove a webhook."""
        path = f"/v1/webhooks/{segment(webhook_id)}"
        return await self._send(WebhookList, "DELETE", path, repeatable=False)

    async def waiting_messages(self, webhook_id: str) -> WaitingMessages:
        """The messages that a webhook has not received yet."""
        path = f"/v1/webhooks/{segment(webhook_id)}/messages"
        return await self._send(WaitingMessages, "GET", path)
