"""What is read and written: SQL only, a few statements whatever the batch's size. A file a table.

Every function works inside the caller's transaction. Writers lock in one order everywhere, so
that replicas never deadlock: tenants in order, then accounts in key order, then merchants in key
order. On SQLite the transaction itself is the lock.
"""

from app.store.accounts import account as account
from app.store.accounts import count_labels as count_labels
from app.store.accounts import erase_account as erase_account
from app.store.accounts import listed_accounts as listed_accounts
from app.store.accounts import lock_accounts as lock_accounts
from app.store.accounts import save_accounts as save_accounts
from app.store.audit import EntryFilters as EntryFilters
from app.store.audit import change_of_rank as change_of_rank
from app.store.audit import erase_entries as erase_entries
from app.store.audit import listed_entries as listed_entries
from app.store.audit import save_entries as save_entries
from app.store.drift import Sampled as Sampled
from app.store.drift import labels_by_day as labels_by_day
from app.store.drift import sampled as sampled
from app.store.drift import tenants as tenants
from app.store.drift import transactions_by_day as transactions_by_day
from app.store.labels import any_forgotten as any_forgotten
from app.store.labels import delete_labels as delete_labels
from app.store.labels import events_of_account as events_of_account
from app.store.labels import events_of_merchants as events_of_merchants
from app.store.labels import events_of_revision as events_of_revision
from app.store.labels import label_history as label_history
from app.store.labels import labels_of as labels_of
from app.store.labels import labels_of_account as labels_of_account
from app.store.labels import mark_folded as mark_folded
from app.store.labels import maturing_labels as maturing_labels
from app.store.labels import save_label_events as save_label_events
from app.store.labels import save_labels as save_labels
from app.store.labels import support_at as support_at
from app.store.labels import supports as supports
from app.store.labels import witnesses as witnesses
from app.store.merchants import lock_merchants as lock_merchants
from app.store.merchants import save_merchants as save_merchants
from app.store.merchants import unfold as unfold
from app.store.models import model_change as model_change
from app.store.models import model_history as model_history
from app.store.models import save_model_change as save_model_change
from app.store.reviews import assign as assign
from app.store.reviews import listed_reviews as listed_reviews
from app.store.reviews import open_of_account as open_of_account
from app.store.reviews import open_reviews as open_reviews
from app.store.reviews import release as release
from app.store.reviews import reviews_of as reviews_of
from app.store.reviews import save_reviews as save_reviews
from app.store.thresholds import count_scores as count_scores
from app.store.thresholds import listed_thresholds as listed_thresholds
from app.store.thresholds import save_thresholds as save_thresholds
from app.store.thresholds import threshold_for as threshold_for
from app.store.thresholds import thresholds_after as thresholds_after
from app.store.thresholds import thresholds_at as thresholds_at
from app.store.transactions import Filters as Filters
from app.store.transactions import any_features_digest as any_features_digest
from app.store.transactions import contents_of_merchants as contents_of_merchants
from app.store.transactions import float32_row as float32_row
from app.store.transactions import float32_rows as float32_rows
from app.store.transactions import listed as listed
from app.store.transactions import merchants_of_account as merchants_of_account
from app.store.transactions import past_of as past_of
from app.store.transactions import recent as recent
from app.store.transactions import save_scored as save_scored
from app.store.transactions import scored as scored
from app.store.webhooks import any_due as any_due
from app.store.webhooks import claim as claim
from app.store.webhooks import delete_message as delete_message
from app.store.webhooks import delete_webhook as delete_webhook
from app.store.webhooks import erase_messages as erase_messages
from app.store.webhooks import save_messages as save_messages
from app.store.webhooks import save_webhook as save_webhook
from app.store.webhooks import waiting as waiting
from app.store.webhooks import webhook as webhook
from app.store.webhooks import webhooks as webhooks
