"""All that the console says in English, in one place, to be corrected or translated."""

PRODUCT = "Quickstudy"
CONSOLE = "Console"
SKIP = "To the content"
NAVIGATION = "Pages"
QUEUE = "Queue"
# Each page that the head leads to: its address, its name, its key.
PAGES = {
    "queue": ("", "Queue", "g q"),
    "payments": ("/payments", "Payments", "g t"),
    "ask": ("/ask", "Ask next", "g n"),
    "thresholds": ("/thresholds", "Thresholds", "g h"),
    "figures": ("/figures", "Figures", "g s"),
    "models": ("/models", "Models", "g m"),
    "drift": ("/drift", "Drift", "g d"),
    "keys": ("/keys", "Keys", "g k"),
    "webhooks": ("/webhooks", "Webhooks", "g w"),
    "audit": ("/audit", "Audit", "g u"),
    "people": ("/people", "People", "g p"),
}
FIND = "Find"
FIND_HINT = "payment, account, device, …"
KEYS_HELP = "Shortcuts"
SIGNED_IN_AS = "Signed in as"
SIGN_OUT = "Sign out"

# Errors: a title, and what to do.
FOREIGN = (
    "This did not come from the console.",
    "A page may only be changed by a form of its own. Open the console and try again there; behind "
    "a proxy, let it pass on the header Host.",
)
FAILED = ("Something went wrong here.", "Try again. The service's log has the cause.")
NO_PAGE = ("There is no such page.", "Go to the queue, or find a payment or an account by its id.")
LINK_ENDED = (
    "This link is good no more.",
    "It has been used, or has ended. Whoever runs the service makes a new one: quickstudy people "
    "reset NAME.",
)
BAD_FORM = "This form cannot be taken."
BAD_ADDRESS = "This address has something wrong in it."
NOT_PRIVATE = (
    "Nobody signs in over plain HTTP from another machine.",
    "Whoever is on the way could read the password. Put a proxy before the service that offers "
    "https and sends X-Forwarded-Proto (FORWARDED_ALLOW_IPS names the proxy), or come by a tunnel: "
    "ssh -L 8000:127.0.0.1:8000 and then http://127.0.0.1:8000/console.",
)

# Signing in.
SIGN_IN = "Sign in"
SIGN_IN_LEAD = "Sign in with your own name: your decisions are kept under it."
YOUR_NAME = "Your name"
PASSWORD = "Password, or an API key"
KEY_HINT = (
    "No password yet? An administrator makes a link to choose one on the page People, or by "
    "quickstudy people add NAME. An API key begins with qs_; it needs the scope read to look, and "
    "label and decide to give verdicts."
)
SIGN_IN_WITH = "Sign in with {provider}"
OR_PASSWORD = "Or with a password:"
PROVIDER_AWAY = "{provider} cannot be asked who you are ({why}): try again later, or by a password."
NOT_AWAY = "You were too long at the provider, or came back twice: sign in again."
PROVIDER_REFUSED = "{provider} did not let you in: sign in again."
OTHER_TENANT = "For another tenant"
TENANT = "Tenant"
SESSION_HINT = "You are signed out after 12 hours, or after an hour without use."
TRY_AGAIN = "Check them and try again."
SET_UP = "Choose a password"
SET_UP_LEAD = "This link is good once. You are signed in with it."
SET_UP_FIRST = (
    "You are the first: an administrator, who may add others. This link is good once, while there "
    "is nobody yet."
)
NEW_PASSWORD = "New password"
OWN_PASSWORD = "Your password"
PRESENT_PASSWORD = "Present password"
CHANGE_PASSWORD = "Change it"
PASSWORD_LEAD = "Wherever else you are signed in, you are then signed out."
PASSWORD_CHANGED = "Your password is changed, and your other sessions have ended."
PASSWORD_OF_KEY = "This session is of an API key: it has no password. Sign in by name and password."
WRONG_PASSWORD = "The present password is wrong."
NEW_PASSWORD_HINT = "12 to 200 characters; several words are easier to keep in mind than signs."

# People.
PEOPLE = "People"
ROLE = "Role"
ROLES = {
    "auditor": "Auditor: looks",
    "analyst": "Analyst: labels and decides",
    "lead": "Lead: also thresholds and models",
    "admin": "Administrator: also people, keys and erasure",
}
PERSON_NAME = "Name"
EMAIL = "E-mail address, or nothing"
STATE = "State"
STATES = {"invited": "invited", "active": "active", "removed": "removed"}
ADDED = "Since"
ADD_PERSON = "Add a person"
ADD = "Add"
CHANGE = "Change"
RESET = "New link"
LET_IN = "Let in again"
REMOVE = "Remove"
REALLY_REMOVE = "Remove at once"
INVITED = "Send this link to"
INVITED_NOTE = "It is good once, for a day, and shown only now."
NO_PEOPLE = "Nobody yet: sessions are of API keys."

# The queue.
TABS = {
    "open": "Open",
    "mine": "Mine",
    "declined": "Declined",
    "sampled": "Sampled",
    "cleared": "Cleared",
    "resolved": "Resolved",
    "snoozed": "Snoozed",
}
TAB_NOTES = {
    "open": "Held up for a review, and without a label.",
    "mine": "What you have taken and not given back.",
    "declined": "Declined outright; the likeliest mistake first.",
    "sampled": "Approved, and drawn by chance to see what is missed.",
    "cleared": "Held up once; the account's labels of today would approve them.",
    "resolved": "Held up once, and with a label by now.",
    "snoozed": "Left out of all other lists until a time, when it is back by itself.",
}
OLDEST = "oldest"
ORDERS = {"risk": "By risk", "age": "Oldest first"}
LIST = "Reviews"
NOTHING_HERE = {
    "open": "Nothing waits for a review.",
    "mine": "You have taken nothing. Take next brings what is most urgent.",
    "declined": "No declined payment waits for a second look.",
    "sampled": "No approval has been drawn yet: QUICKSTUDY_SAMPLED_APPROVALS sets how many are.",
    "cleared": "No review has been cleared by labels.",
    "resolved": "No review has a label yet.",
    "snoozed": "Nothing is snoozed.",
}
NOTHING_HINT = (
    "How many reviews open depends on the thresholds: POST /v1/thresholds takes a budget of "
    "reviews a day and chooses them."
)
MORE = "More"
FIRST_PAGE = "From the beginning"
RISK_NOW = "risk now"
RISK_THEN = "risk then"
WAITS = "waits"
TAKE = "Take"
TAKE_NEXT = "Take next"
MORE_WAYS = "Snooze, hand over"
SNOOZE = "Snooze"
SNOOZE_FOR = "For"
SNOOZES = {1: "an hour", 4: "4 hours", 24: "a day", 72: "3 days", 168: "a week"}
NO_SNOOZE = "A review is snoozed for one of the times on its page."
WAKE = "Wake"
ASLEEP = "is snoozed until"
HAND_OVER = "Hand over"
HAND_OVER_TO = "To"
NO_COLLEAGUE = "There is nobody of this name who may decide."
GIVE_BACK = "Give back"
HELD_BY_OTHER = (
    "has this review. Your verdict would count all the same, so its keys are off: use the buttons "
    "if you mean it."
)
NOTICES = {
    "changed": "Nothing was stored: the label is not the one that the page showed. This is how it "
    "is now.",
    "taken": "Nothing was changed: somebody else has this review, or it has a label by now.",
    "gone": "There is no such review.",
    "empty": "Nothing waits here that nobody has.",
}
NOT_IN_LIST = "is not in this list:"
OPEN_IT = "open it"

# A verdict, and what it did.
FRAUD = "Fraud"
LEGITIMATE = "Legitimate"
LABELS = {"fraud": "Fraud", "legitimate": "Legitimate"}
SKIP_REVIEW = "Skip"
NOTE = "Note"
NOTE_HINT = "Esc leaves it"
VERDICT = "Verdict"
NO_VERDICT = "A verdict is fraud or legitimate: press one of the two buttons."
UNDO = "Undo"
YOU_LABELLED = "you labelled"
REVISION = "revision"
DONE_CLEARED = "reviews cleared"
DONE_RAISED = "payments raised"
MAY_NOT_DECIDE = "You may look only: a verdict needs the scopes label and decide."
WHAT_IF = "What each verdict would do"
WHAT_IF_NONE = "Nothing else would change."
IF = "If"
ITS_OWN = "this payment"
WOULD_CLEAR = "would be cleared"
WOULD_RAISE = "would be held up"
OF_RECENT = "Of the account's newest payments and its open reviews."
WEIGHT = "the account's copy would count"
BASE = "The labels would not support the account's own copy: the base would decide."

# A payment.
PAYMENT = "Payment"
ACCOUNT = "Account"
PAID_AT = "paid"
SCORED_THEN = "scored"
OUTCOMES = {"approve": "approved", "review": "held up", "decline": "declined"}
WHY = "Why"
WHY_NOTE = (
    "From what is usual for this account to this score: shares in log-odds, to the right what "
    "raises the risk. They add up."
)
USUAL = "usual"
OTHER_REASONS = "all others"
THIS_PAYMENT = "this payment"
REASON = "Reason"
SHARE = "Share"
CHART = "Chart"
REVIEW_FROM = "review from here"
DECLINE_FROM = "decline from here"
PAST_NOTE = "Usual is the mean of the account's payments before it, of which there are"
PAST_NONE = "The account had paid nothing before: usual is what payments of all accounts have."
FACTS = "Posted"
# Fields of a payment that people call something else.
FIELDS = {"merchant_category": "category"}
YES = "yes"
NO = "no"
ENTITIES = {
    "merchant": "merchant",
    "device": "device",
    "ip": "IP address",
    "card": "card",
    "email": "email",
}
RECENT = "The account's newest payments"
AS_TABLE = "As a table"
STRIP_HELP = "oldest left, riskiest at the top"
NO_LABEL = "no label"
WHEN = "When"
AMOUNT = "Amount"
MERCHANT = "Merchant"
RISK = "Risk"
OUTCOME = "Outcome"
LABEL = "Label"
LABEL_HISTORY = "Label history"
NEVER_LABELLED = "Nobody has labelled it."
REMOVED = "label removed"
BY = "by"
SOURCE = "source"
CORRECTED = "Features no longer hold a label since forgotten."
MODEL = "model"
PROBABILITY = "probability"
COPY_USED = {
    "adapted": "the account's own copy, of labels",
    "base": "the base: the account's labels do not support its copy; labels",
    "insufficient_labels": "the base: the account had no labels",
}
IN_QUEUE = "In the queue"

# Replay.
REPLAY = "Replay"
REPLAY_LEAD = "Computes the score again, from the checkpoint, the labels and the features of then."
REPLAY_MATCHES = "The same again."
REPLAY_DIFFERS = "Not the same:"
ANSWERED = "Answered"
COMPUTED_AGAIN = "Computed again"
COPY_DIGEST = "digest of the copy"
COPY = "Copy"
COPIED = "Copied."

# An account, an entity, finding.
TIMELINE = "Its payments"
PAYMENTS = "Payments"
USES = "What it uses"
USERS = "Accounts that have used it"
ALSO_USED_BY = "accounts"
FIRST_USED = "first used"
CHANGES = "Labels, newest first"
LOG = "What was done"
ACTION = "What"
NO_ACTION = "There is no such action in the audit log: choose one of the list."
ACTOR = "By whom, or which key"
SUBJECT = "On"
NO_LINKS = "Its payments have named no device, card, address or merchant."
NO_CHANGES = "It has no label, and never had one."
NO_LOG = "Nothing was done about it by hand."
NO_PAYMENTS = "No payments."
KNOWN_LABELS = "Labels of its payments that have matured"
FRAUDS = "of them fraud"
NOT_FOUND = "Nothing has this id:"
NOT_FOUND_HINT = "Ids are found whole: a payment's, an account's, a device's, a card's, …"
SEVERAL = "Several things have this id:"

# Searching for payments.
SEARCH = "Find payments"
BY_WHAT_ELSE = "Look for payments by merchant, amount, time or label"
ENTITY_KIND = "Kind"
ENTITY_ID = "Merchant, device, …"
AMOUNT_FROM = "Amount from"
AMOUNT_TO = "Amount to"
PAID_FROM = "Paid from (UTC)"
PAID_BEFORE = "Before (UTC)"
LEVEL = "Level"
LEVELS = {"low": "low", "medium": "medium", "high": "high", "critical": "critical"}
LABEL_CHOICES = {"fraud": "Fraud", "legitimate": "Legitimate", "none": "none"}
FOUND = "Found"
SO_FAR = "so far"
NONE_FOUND = "No payment matches."
NONE_SO_FAR = "None so far: there are more payments to look at."
LOOK_FURTHER = "Look further back"
FOUND_AS_CSV = "All as CSV, 10,000 at most"
MORE_THAN_FILE = "There may be more than this file has: narrow the search by a time."
SEARCHES = "Your searches"
SEARCH_NAME = "Save this search as"
SAVE_SEARCH = "Save"
FORGET_SEARCH = "Remove"

# Notes, and what an account has learned.
NOTES = "Notes"
ADD_NOTE = "Write it down"
NOTED = "It is written down."
NO_NOTES = "Nobody has written anything down."
NO_NOTE = "A note has some text."
CHOOSE = "Choose"
CHOSEN_IF = "What if those chosen were"
NOTHING_CHOSEN = "Choose up to 60 payments first."
WHAT_IF_CHOSEN = "What these labels would do"
RISK_WITHOUT = "Risk now"
RISK_WITH = "Risk with them"
LABEL_ALL = "Label all"
LABELS_STORED = "labels are another now, by revision"
ASK_NEXT = "Worth knowing next"
ASK_NEXT_NOTE = "A label of these would move the account most: expected change in log-odds."
SHIFT = "moves by"
NOTHING_TO_ASK = "No payment without a label would move it."
WHAT_CHANGED = "What it changed"
NO_DIFFERENCE = "No label that its copy reads."
COPY_OF = "The copy"
LABELS_READ = "labels read"
COUNTS = "it counts"
GO_BACK = "Go back to revision"
GO_BACK_NOTE = "As a new revision: what was since stays in the history. It would do this:"
LABELS_CHANGE = "labels would change"
# Thresholds.
NOTHING = "none"
THRESHOLDS = "Thresholds"
IN_FORCE = "In force"
SOURCES = {"tenant": "your own", "model": "the model's own"}
PLANNED = "Planned"
FROM = "from"
SCORES_OF = "Scores of the last 28 days"
SCORES_NOTE = (
    "From unlikely fraud at the left to likely at the right. Heights grow with the logarithm of "
    "the count, so that the few frauds are seen."
)
COUNTED = "Counted"
SAMPLED_NOTE = "in a sample of one in"
NO_SCORES = "Nothing has been scored in the last 28 days: there is nothing to try thresholds on."
ALL_SCORES = "all payments"
LABELLED_FRAUD = "labelled fraud"
REVIEW_THRESHOLD = "Review from"
DECLINE_THRESHOLD = "Decline from"
IN_PERCENT = "percent probability of fraud"
TRY = "Show the effect"
EFFECT = "What they would have done"
EFFECT_NOTE = (
    "By the scores of the last 28 days and the labels that they have by now. Labels are not a "
    "sample of all payments: somebody chose to look at them."
)
THESE = "These"
EFFECTS = {
    "reviews_per_day": "Reviews a day",
    "declines_per_day": "Declines a day",
    "precision": "Of what is held up, fraud",
    "recall": "Of all frauds, held up",
    "legitimate_share": "Of honest payments, held up",
}
SET_NOW = "Set these"
WHY_FIELD = "Why"
FROM_FIELD = "From (UTC; empty: now)"
THRESHOLD_NOTICES = {
    "look": "This is what they would do. Nothing is set yet.",
    "set": "Set. Scores from then on are decided by these; earlier decisions stay.",
    "reset": "The model's own thresholds decide again.",
}
MAY_NOT_SET = "You may look only: thresholds are set by who has the scope manage."
BUDGET = "Or by a budget"
BUDGET_NOTE = "The threshold of review is chosen so that so many reviews a day come."
REVIEWS_PER_DAY = "Reviews a day"
FLOOR = "Never below"
TRY_BUDGET = "Try the budget"
BUDGET_WOULD = "It would review from"
SET_BUDGET = "Set this budget"
RESET_THRESHOLDS = "Back to the model's own"
THRESHOLD_HISTORY = "History"
NEVER_SET = "Nobody has set any: the model's own decide."
EFFECTIVE = "From"
CHOSEN_FOR = "Chosen for"
A_DAY = "reviews a day"
PROBABILITY_FROM = "Probability from"
FRAUD_COUNT = "Frauds"
LEGITIMATES = "Legitimate"

# Models.
MODELS = "Models"
MODEL_LIST = "Models there are"
MODEL_ROLE = "Role"
ACTIVE = "active: it decides"
SHADOW = "in shadow"
NO_ROLE = "no role"
REFUSED = "cannot be served"
DIGEST = "Digest"
COMPARE = "Compare with the active model"
COMPARISON = "Comparison"
COMPARED_AT = "compared"
COMPARED_NOTE = (
    "The newest payments, at most 5,000: what the active model answered, and what this one would "
    "have."
)
NO_COMPARISON = "It has not been compared with the active model."
WORKING = "It is being computed: the page shows it when it is there."
RELOAD = "Look again"
JOB_FAILED = "The last one failed:"
OF_PAYMENTS = "of"
AGREEMENT = "Same outcome"
MEAN_SHIFT = "Mean shift of log-odds"
LABELLED = "Labelled"
METRIC = "Figure"
ACTIVE_MODEL = "Active"
THIS_MODEL = "This one"
METRICS = {
    "average_precision": "Average precision",
    "precision": "Of what is held up, fraud",
    "recall": "Of all frauds, held up",
}
CHANGED_OUTCOMES = "Payments with another outcome"
OUTCOME_ACTIVE = "The active model"
OUTCOME_THIS = "This one"
NO_CHANGED_OUTCOMES = "Both give every payment the same outcome."
BETTER = {
    True: "It ranks the labelled frauds at least as high as the active model.",
    False: "It ranks the labelled frauds lower than the active model.",
    None: "There are too few labelled frauds to say which is better.",
}
TO_SHADOW = "Put in shadow"
END_SHADOW = "End its shadow"
PROMOTE = "Promote"
ACTIVATE = "Activate without a comparison"
ROLL_BACK = "Roll back to the model before"
MODEL_NOTICES = {
    "shadow": "Done: the list says what each model does now.",
    "active": "Done: the next payment is scored by the model that is active now.",
}
MAY_NOT_CHANGE = "You may look only: changes need the scope manage."
REPORT = "The report of its training"
NO_REPORT = (
    "Its folder has no report.html. quickstudy train writes one: put it beside the checkpoint."
)

# Figures.
FIGURES = "Figures"
FIGURES_LEAD = (
    "Alerts of the last 28 days with today, in UTC, and what was decided of them by the labels "
    "that they have by now."
)
TABLE = "table"
AS_CSV = "The days as CSV"
BY_DAY = "By day"
ALERTS = "alerts: held up or declined"
DECIDED_FRAUD = "decided on that day: fraud"
DAY = "Day"
HELD_UP = "Held up"
DECLINED = "Declined"
DECIDED = "Decided"
PRECISION = "Fraud among them"
WAITED = "How long they waited"
WITHIN = "Decided within"
WITHIN_HOURS = {1: "1 hour", 4: "4 hours", 24: "1 day", 72: "3 days", None: "longer"}
BY_PERSON = "By person"
WHO = "Who"
NOBODY_NAMED = "nobody named"
NOTHING_DECIDED = "Nothing has been decided yet."

# Asking next.
ASK = "Ask next"
QUESTION = "Question"
WORTH = "Its label can be expected to move the account by"
WORTH_NOTE = "In log-odds of its newest payments."
QUESTIONS_OF = "Of the"
QUESTIONED_ACCOUNTS = "accounts with the riskiest open reviews."
NO_QUESTION = "There is nothing to ask."
NO_QUESTION_NOTE = "Questions are about accounts with open reviews, and none has any."

# Drift.
DRIFT = "Drift"
DRIFT_LEAD = (
    "How far each feature's values are from those that the model was trained on, day by day: the "
    "population stability index."
)
MEASURE = "Measure the last 28 days"
MEASURED = "Measured"
NO_DRIFT = "Nothing has been measured yet."
FEATURE = "Feature"
ALL_DAYS = "All days"
HEATS = {"little": "under .1", "some": ".1 to .2", "much": ".2 or more", "unknown": "too few"}
DRIFTED = "drifted"
FRAUD_SHARE = "Share of frauds in training"
FRAUD_SHARE_NOW = "now"
MORE_FEATURES = "features that are nearer"
HEAT_MAP = "Heat map: features down, days across"

# Keys.
KEYS_PAGE = "API keys"
KEY_NAME = "Name"
SCOPES = "Scopes"
SCOPE_NOTES = {
    "score": "send payments",
    "label": "label, take reviews",
    "decide": "decide reviews as people do",
    "read": "look",
    "manage": "thresholds, models",
    "admin": "keys, webhooks, people, erasure",
}
CREATED = "Created"
LAST_USED = "Last used"
KEY_STATE = "State"
LIVE = "good"
REVOKED = "revoked"
REPLACED = "replaced, good until"
NEVER = "never"
NEW_KEY = "A new key"
CREATE = "Create"
ROTATE = "Replace"
REVOKE = "Revoke"
SHOWN_ONCE = "This is shown once, here, and stored nowhere. Copy it now:"
NO_SCOPES = "A key: choose at least one scope."
THIS_SESSION = "this session's"

# Webhooks.
WEBHOOKS = "Webhooks"
NO_WEBHOOKS = "There is none: no events are sent anywhere."
URL = "Address"
EVENTS = "Events"
NEW_WEBHOOK = "A new webhook"
WEBHOOK_NOTE = "https, and a host with public addresses only."
DISABLED = "disabled:"
ENABLE = "Deliver again"
REMOVE_WEBHOOK = "Remove"
MESSAGES = "What has not arrived"
NO_MESSAGES = "Everything has arrived."
ATTEMPTS = "Attempts"
NEXT_ATTEMPT = "Next attempt"
GIVEN_UP = "none"
LAST_ERROR = "Last error"
EVENT = "Event"
NO_EVENTS = "A webhook: choose at least one event."

# The audit log.
AUDIT = "Audit log"
AUDIT_LEAD = "Every change, the newest first: by which key, of what, before and after."
FILTER = "Filter"
ANY = "any"
BEFORE = "Before"
AFTER = "After"
NO_ENTRIES = "Nothing matches."

# The first run.
FIRST_RUN = "Nothing has been scored yet"
FIRST_RUN_LEAD = "Look around with demonstration payments, or send one of your own."
DEMO = "Demonstration payments"
DEMO_LEAD = (
    "1,764 simulated payments of 70 accounts up to now, with labels. Those of the last week are "
    "scored, so that reviews wait. It takes some seconds, and only an empty service can do it."
)
DEMO_LOAD = "Load demonstration payments"
DEMO_ADMIN = "A key with the scope admin may load demonstration payments here."
DEMO_LOADING = "They are being loaded and scored."
DEMO_LABELS = "labels"
DEMO_REVIEWS = "wait for a review"
DEMO_DECLINES = "were declined"
DEMO_BEGIN = "To the first review"
DEMO_FAILED = "They could not be loaded. The service's log has the cause."
DEMO_NONE = "None have been loaded."
FIRST_STEPS = "To the first label of your own"
YOUR_KEY = "Have a key"
YOUR_KEY_NOTE = (
    "Make one on the page Keys, or by quickstudy keys create NAME --scopes score,label,read. It is "
    "shown once."
)
FIRST_PAYMENT = "Send a payment"
FIRST_PAYMENT_NOTE = (
    "KEY stands for your API key. The answer is its score; what is held up for a review appears "
    "here."
)
FIRST_LOOK = "Look at it"
FIRST_LOOK_NOTE = "Reload this page, or find it by its id, t-1."
FIRST_LABEL = "Say what it was"
FIRST_LABEL_NOTE = (
    "Press f for fraud or l for legitimate: the account's very next score has learned from it."
)
FIRST_HISTORY = (
    "quickstudy import FILE brings your history along: the scores know its payments, which open no "
    "reviews. quickstudy demo shows what labels change, on a server of its own; "
    "quickstudy demo --console is this console on demonstration payments."
)

# The keyboard.
KEYS_TITLE = "Shortcuts"
KEYS = {
    "j": "next review",
    "k": "previous review",
    "f": "fraud, and on to the next",
    "l": "legitimate, and on to the next",
    "s": "skip",
    "u": "undo your last verdict",
    "a": "take, or give back",
    "x": "take the next that nobody has",
    "z": "snooze, or wake",
    "h": "hand over to a colleague",
    "n": "write a note",
    "Shift+j": "on an account, choose the next payment; Shift+k the one before",
    "o": "open the account",
    "m": "open the merchant",
    "1 … 7": "the lists of the queue",
    "t": "open the payment",
    "r": "replay",
    "/": "find by id",
    "g q": "go to the queue",
    "g p": "go to the people",
    "g t": "go to the search for payments",
    "g n": "go to the next question",
    "g h": "go to the thresholds",
    "g s": "go to the figures",
    "g m": "go to the models",
    "g d": "go to the drift",
    "g k": "go to the keys",
    "g w": "go to the webhooks",
    "g u": "go to the audit log",
    "?": "this list",
    "Esc": "leave a field, close this list",
}
KEYS_NOTE = "Each is a button or a link, too. None works in a field, or with Ctrl, Alt or Meta."
KEYS_ON = "Use these keys"
CLOSE = "Close"
BUSY = "Wait: the page is changing."
OFFLINE = "The service did not answer. Nothing was lost that it had confirmed; try again."
