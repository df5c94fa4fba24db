# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The features of a transaction, each defined once: its name, and beside it what it is.

A walk in the order of time. Each row brings the states of its account and its entities (merchant,
device, address, card, …) up to its own time, writes its features from what they held strictly
before, and is added to them. Rows of one instant all read before any of them is added; labels of
entities join in as they mature. So the rows of a file, and the same in batches on stored states,
have the same features to the bit.

Attempts and spending are apart: what was refused is an attempt, and no habit. Of a row that is
UNDECIDED, `settle` adds what it was to its account, once that is decided. Entities count it in any
case: so all rows are walked for their entities first, and then for their accounts, as far as what
became of earlier ones is known.

A late row, older than its state's newest event, reads the sums as they stood before that event: a
past that is no longer kept cannot be shown. It is added to them exactly, but for what
`account_burst_z` compares with: the attempts just before a late row are those that had arrived, as
its account's newest event saw them, so that they depend on the order of arrival.

What a feature is stands before its name, where m is any attribute, c any categorical field, k any
kind of entity, and 7d any half-life.

Axes: N transactions, F features, H half-lives, D decayed sums, C categorical fields, M numeric
attributes, K kinds of entities, E label events. Times are int64 microseconds since the epoch, UTC.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.math cimport INFINITY, M_PI, NAN, asinh, cos, exp2, fmax, fmin, isfinite, isnan, log1p, sin, sqrt
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from app.learner.kernels.states cimport State, States, advance, landing, read, size_of, state_of

import numpy as np

# In days. An account is known by what it did of late, and by its habits.
RECENT_HALF_LIVES = {"5m": 5.0 / 1440.0, "1h": 1.0 / 24.0, "1d": 1.0}
HABIT_HALF_LIVES = {"1d": 1.0, "7d": 7.0, "30d": 30.0, "120d": 120.0}
ENTITY_HALF_LIVES = {"5m": 5.0 / 1440.0, "1h": 1.0 / 24.0, "1d": 1.0, "30d": 30.0, "ever": INFINITY}
# Labels also nearly one by one: the newest says whether a merchant is being abused now.
LABEL_HALF_LIVES = {"6h": 0.25, "1d": 1.0, "7d": 7.0, "30d": 30.0, "120d": 120.0}
# Shares of categories are kept hashed, so that an account's state has a fixed size.
BUCKETS = 16
# The least spread (of log-amounts, of attributes) that counts as an account's own: without it
# the fourth of four equal payments could be infinitely surprising.
LEAST_SPREAD = 0.3
CODE = "_code"
IDENTITY = "_identity"
NEVER_US = -(2**61)

cdef enum:
    MISSING = 0
    NO_ENTITY = -1

# How a transaction counts, as in `app.learner.transaction`.
cdef enum:
    SPENT, REFUSED, TRIED, ASIDE, UNDECIDED

# Sums of log-amounts, or of an attribute's values, stand together: how many, total, squares.
cdef enum:
    COUNT, TOTAL, SQUARES
    OF_VALUES

# ---- The sums of an account

cdef enum:
    ACCOUNT_H = 6
    MINUTES = 0
    HOUR
    DAY
    WEEK
    MONTH
    SEASON

# Of late: of all attempts, whatever came of them.
cdef enum:
    ATTEMPTS, ATTEMPTED_AMOUNT, REFUSALS
    OF_RECENT

# Of habits: of what was spent. `PAID_VALUES` are of log-amounts that are known.
cdef enum:
    PAYMENTS, PAID_VALUES
    PAID_AMOUNT = PAID_VALUES + OF_VALUES
    OF_HABIT

cdef enum:
    OF_HOURS = 2  # of the day, as a sum of unit vectors

# ---- The sums of an entity

cdef enum:
    ENTITY_H = 5
    ENTITY_MINUTES = 0
    # Of an hour, a day, a month: attempts, and accounts that used it for the first time.
    ENTITY_HOUR = 1
    ENTITY_DAY = ENTITY_HOUR + 2 + OF_VALUES
    ENTITY_MONTH = ENTITY_DAY + 2
    ENTITY_EVER = ENTITY_MONTH + 2 + OF_VALUES
    OF_ENTITY

cdef enum:
    USES, ACCOUNTS, AMOUNTS

# Of its matured labels, at each half-life.
cdef enum:
    LABEL_H = 5
    LABELS = 0
    FRAUDS
    OF_LABELS

cdef int64_t SECOND_US = 1_000_000
cdef int64_t HOUR_US = 3600 * SECOND_US
cdef int64_t DAY_US = 24 * HOUR_US
# A year without a transaction is as long as for ever.
cdef int64_t LONGEST_GAP_US = 365 * DAY_US
# Share of frauds among labels so old that they hardly weigh: none, and no division by nothing.
cdef double LEAST_LABELS = 1e-200
cdef double LEAST_COUNT = 1e-9

# The constants above as C has them.
cdef int64_t buckets = BUCKETS
cdef int64_t never_us = NEVER_US
cdef double least_spread = LEAST_SPREAD
ACCOUNT_DAYS = (*RECENT_HALF_LIVES.values(), *list(HABIT_HALF_LIVES.values())[1:])
cdef double[ACCOUNT_H] account_half_life_us_H = [days * DAY_US for days in ACCOUNT_DAYS]
cdef double[ENTITY_H] entity_half_life_us_H = [days * DAY_US for days in ENTITY_HALF_LIVES.values()]
cdef double[LABEL_H] label_half_life_us_H = [days * DAY_US for days in LABEL_HALF_LIVES.values()]
cdef Py_ssize_t[ENTITY_H] entity_end_H = [
    ENTITY_HOUR, ENTITY_DAY, ENTITY_MONTH, ENTITY_EVER, OF_ENTITY
]
cdef Py_ssize_t[LABEL_H] label_end_H = [(h + 1) * OF_LABELS for h in range(LABEL_H)]


cdef struct Layout:
    Py_ssize_t fields
    Py_ssize_t numbers
    Py_ssize_t kinds
    # Where the features of its account begin, and those of its entities.
    Py_ssize_t account_at
    Py_ssize_t entities_at
    Py_ssize_t width
    # Where the parts of an account's sums begin: by half-life, what is recent and what is habit;
    # new entities at three half-lives; hours, bursts, attributes; fields of late and ever.
    Py_ssize_t[ACCOUNT_H] recent_H
    Py_ssize_t[ACCOUNT_H] habit_H
    Py_ssize_t[3] new_3
    Py_ssize_t fields_of_late
    Py_ssize_t hours
    Py_ssize_t[2] bursts_2
    Py_ssize_t attributes
    Py_ssize_t fields_ever
    Py_ssize_t[ACCOUNT_H] end_H


cdef Layout layout_of(Py_ssize_t fields, Py_ssize_t numbers, Py_ssize_t kinds):
    cdef Layout layout
    cdef Py_ssize_t at = 0, h, n = 0
    layout.fields, layout.numbers, layout.kinds = fields, numbers, kinds
    layout.account_at = of_transaction + 2 * numbers + fields
    layout.entities_at = layout.account_at + of_account + numbers + 3 * (fields + kinds)
    layout.width = layout.entities_at + of_entity * kinds
    for h in range(ACCOUNT_H):
        if h <= DAY:
            layout.recent_H[h] = at
            at += OF_RECENT
        if h >= DAY:
            layout.habit_H[h] = at
            at += OF_HABIT
        if h == HOUR:
            layout.fields_of_late = at
            at += fields * (1 + BUCKETS)
        if h in (HOUR, DAY, SEASON):
            layout.new_3[n] = at
            at, n = at + kinds, n + 1
        if h == SEASON:
            layout.hours = at
            layout.bursts_2[0] = at + OF_HOURS
            layout.bursts_2[1] = at + OF_HOURS + OF_VALUES
            layout.attributes = at + OF_HOURS + 2 * OF_VALUES
            layout.fields_ever = layout.attributes + numbers * OF_VALUES
            at = layout.fields_ever + fields * (1 + BUCKETS)
        layout.end_H[h] = at
    return layout


# ---- What a transaction says itself


cdef struct Payment:
    float* features_F
    # Whether it is its account's first use of each of its entities, once `of_entities` has been.
    char* is_first_use_K
    Py_ssize_t account
    const int64_t* entity_K
    const int64_t* link_K
    const int64_t* entity_code_K
    int64_t time_us
    int64_t standing
    double amount  # in the reference currency, NaN where that is not known
    double log_amount
    double hour_cos
    double hour_sin
    const double* value_M  # on a scale that tames any size, NaN where missing
    const int64_t* code_C


def transaction_names(categorical, numeric):
    names = ["log_amount", "amount_missing", "hour_sin", "hour_cos", "weekend"]
    for name in numeric:
        names += [f"attribute_{name}", f"attribute_{name}_missing"]
    return names + [f"{name}{CODE}" for name in categorical]


cdef float* of_the_transaction(
    float* feature, const Payment* payment, const Layout* layout
) noexcept nogil:
    cdef Py_ssize_t m, c
    feature[0] = <float> payment.log_amount  # log_amount
    feature[1] = 0.0  # amount_missing
    if isnan(payment.log_amount):
        feature[0], feature[1] = 0.0, 1.0
    feature[2] = <float> payment.hour_sin  # hour_sin
    feature[3] = <float> payment.hour_cos  # hour_cos
    feature[4] = is_weekend(payment.time_us)  # weekend
    feature += 5
    for m in range(layout.numbers):
        feature[0] = <float> payment.value_M[m]  # attribute_m
        feature[1] = 0.0  # attribute_m_missing
        if isnan(payment.value_M[m]):
            feature[0], feature[1] = 0.0, 1.0
        feature += 2
    for c in range(layout.fields):
        feature[0] = <float> payment.code_C[c]  # c_code
        feature += 1
    return feature


cdef void derive(
    Payment* payment, double* value_M, const double* number_M, Py_ssize_t numbers
) noexcept nogil:
    """What follows from its time, its amount and its attributes."""
    cdef double angle = 2 * M_PI * (<double> floor_mod(payment.time_us, DAY_US) / DAY_US)
    cdef Py_ssize_t m
    payment.log_amount = log1p(payment.amount)
    payment.hour_cos, payment.hour_sin = cos(angle), sin(angle)
    for m in range(numbers):
        value_M[m] = asinh(number_M[m]) if isfinite(number_M[m]) else NAN
    payment.value_M = value_M


cdef inline bint is_weekend(int64_t time_us) noexcept nogil:
    cdef int64_t days = (time_us - floor_mod(time_us, DAY_US)) // DAY_US
    # The epoch began on a Thursday.
    return floor_mod(days + 3, 7) >= 5


cdef inline int64_t floor_mod(int64_t dividend, int64_t divisor) noexcept nogil:
    """Never negative, as in Python."""
    cdef int64_t rest = dividend % divisor
    return rest + divisor if rest < 0 else rest


# ---- Against the past of its account


def account_names(categorical, numeric, kinds):
    names = ["account_gap"]
    for span in RECENT_HALF_LIVES:
        names += [f"account_{what}_{span}" for what in ("attempts", "attempted", "refused")]
    names += ["account_burst_z_5m", "account_burst_z_1h"]
    for span in HABIT_HALF_LIVES:
        names += [
            f"account_count_{span}",
            f"account_log_amount_mean_{span}",
            f"account_log_amount_spread_{span}",
            f"account_amount_z_{span}",
            f"account_mean_amount_{span}",
            f"account_amount_ratio_{span}",
        ]
    names += ["account_hour_habit"]
    names += [f"account_{name}_z" for name in numeric]
    for name in categorical:
        names += [f"account_{name}_{what}" for what in ("novelty", "novelty_1h", "distinct_1h")]
    for kind in kinds:
        names += [f"account_new_{kind}_{span}" for span in ("1h", "1d", "120d")]
    return names


cdef float* of_the_account(
    float* feature, const Payment* payment, const State* account, const Layout* layout
) noexcept nogil:
    cdef const double* past_D = account.before_D
    cdef const double* sums
    cdef const double* of_late
    cdef double log_mean, usual
    cdef Py_ssize_t h, m, c, k
    feature[0] = log_gap(payment.time_us - account.previous_us[0])  # account_gap
    feature += 1
    for h in range(DAY + 1):
        sums = past_D + layout.recent_H[h]
        feature[0] = <float> log1p(sums[ATTEMPTS])  # account_attempts_7d
        feature[1] = <float> log1p(fmax(sums[ATTEMPTED_AMOUNT], 0.0))  # account_attempted_7d
        feature[2] = <float> log1p(sums[REFUSALS])  # account_refused_7d
        feature += OF_RECENT
    for h in range(2):
        sums = past_D + layout.bursts_2[h]
        # account_burst_z_5m, account_burst_z_1h: attempts of late, against those of other times.
        feature[0] = <float> surprise(log1p(past_D[layout.recent_H[h] + ATTEMPTS]), sums)
        feature += 1
    for h in range(DAY, ACCOUNT_H):
        sums = past_D + layout.habit_H[h]
        feature[0] = <float> log1p(sums[PAYMENTS])  # account_count_7d
        feature[1] = <float> mean(sums + PAID_VALUES)  # account_log_amount_mean_7d
        feature[2] = <float> spread(sums + PAID_VALUES)  # account_log_amount_spread_7d
        feature[3] = 0.0  # account_amount_z_7d
        usual = fmax(sums[PAID_AMOUNT], 0.0) / fmax(sums[PAID_VALUES + COUNT], LEAST_COUNT)
        log_mean = log1p(usual)
        feature[4] = <float> log_mean  # account_mean_amount_7d
        feature[5] = 0.0  # account_amount_ratio_7d
        if not isnan(payment.log_amount):
            feature[3] = <float> surprise(payment.log_amount, sums + PAID_VALUES)
            feature[5] = <float> trusted(payment.log_amount - log_mean, sums[PAID_VALUES + COUNT])
        feature += 6
    sums = past_D + layout.hours
    usual = payment.hour_cos * sums[0] + payment.hour_sin * sums[1]
    # account_hour_habit
    feature[0] = <float> (usual / (past_D[layout.habit_H[SEASON] + PAYMENTS] + 1.0))
    feature += 1
    sums = past_D + layout.attributes
    for m in range(layout.numbers):
        feature[0] = 0.0
        if not isnan(payment.value_M[m]):
            feature[0] = <float> surprise(payment.value_M[m], sums)  # account_m_z
        feature += 1
        sums += OF_VALUES
    sums, of_late = past_D + layout.fields_ever, past_D + layout.fields_of_late
    for c in range(layout.fields):
        feature[0] = <float> novelty(payment.code_C[c], sums)  # account_c_novelty
        feature[1] = <float> novelty(payment.code_C[c], of_late)  # account_c_novelty_1h
        # account_c_distinct_1h
        feature[2] = <float> log1p(trusted(distinct(of_late), of_late[0]))
        feature += 3
        sums, of_late = sums + 1 + buckets, of_late + 1 + buckets
    for k in range(layout.kinds):
        for h in range(3):
            feature[0] = <float> log1p(past_D[layout.new_3[h] + k])  # account_new_k_7d
            feature += 1
    return feature


cdef inline double novelty(int64_t code, const double* field) noexcept nogil:
    """How much of the account's past had another value of a field: how often it was there, and
    how often in each bucket."""
    if code == MISSING:
        return 0.0
    # Sums of the same terms in another order may differ in the last bit.
    return fmax(field[0] - field[1 + floor_mod(code, buckets)], 0.0) / (field[0] + 1.0)


cdef inline double distinct(const double* field) noexcept nogil:
    """The effective number of values (Hill, 1973, of order 2), 0 of a field that was not there."""
    cdef double squares = 0.0
    cdef Py_ssize_t b
    for b in range(1, 1 + buckets):
        squares += field[b] * field[b]
    return field[0] * field[0] / squares if squares > LEAST_LABELS else 0.0


cdef void add_to_account(
    const State* account, const Payment* payment, const Layout* layout
) noexcept nogil:
    """Add what it was, once that is known. What is ASIDE adds nothing."""
    cdef double[2] burst_2
    cdef Py_ssize_t h
    for h in range(2):
        burst_2[h] = log1p(account.before_D[layout.recent_H[h] + ATTEMPTS])
    count(account, payment, layout, burst_2, 1.0)


cdef void count(
    const State* account,
    const Payment* payment,
    const Layout* layout,
    const double* burst_2,
    double times,
) noexcept nogil:
    """Add it so many times, after bursts of attempts before it; what is ASIDE adds nothing."""
    cdef double[ACCOUNT_H] weight_H
    cdef double* sums_D = landing(account, payment.time_us, weight_H)
    cdef double* sums
    cdef double weight
    cdef bint has_amount = not isnan(payment.log_amount)
    cdef Py_ssize_t h, m
    if payment.standing == ASIDE:
        return
    for h in range(ACCOUNT_H):
        weight_H[h] *= times
    for h in range(DAY + 1):
        sums = sums_D + layout.recent_H[h]
        sums[ATTEMPTS] += weight_H[h]
        if has_amount and payment.standing != TRIED:
            sums[ATTEMPTED_AMOUNT] += payment.amount * weight_H[h]
        if payment.standing == REFUSED:
            sums[REFUSALS] += weight_H[h]
    add_fields(sums_D + layout.fields_of_late, payment, weight_H[HOUR], layout)
    if payment.standing != SPENT:
        return
    for h in range(DAY, ACCOUNT_H):
        sums = sums_D + layout.habit_H[h]
        sums[PAYMENTS] += weight_H[h]
        if has_amount:
            add_value(sums + PAID_VALUES, payment.log_amount, weight_H[h])
            sums[PAID_AMOUNT] += payment.amount * weight_H[h]
    weight = weight_H[SEASON]
    sums_D[layout.hours] += payment.hour_cos * weight
    sums_D[layout.hours + 1] += payment.hour_sin * weight
    for h in range(2):
        add_value(sums_D + layout.bursts_2[h], burst_2[h], weight)
    sums = sums_D + layout.attributes
    for m in range(layout.numbers):
        if not isnan(payment.value_M[m]):
            add_value(sums, payment.value_M[m], weight)
        sums += OF_VALUES
    add_fields(sums_D + layout.fields_ever, payment, weight, layout)


cdef inline void add_fields(
    double* field, const Payment* payment, double weight, const Layout* layout
) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(layout.fields):
        if payment.code_C[c] != MISSING:
            field[0] += weight
            field[1 + floor_mod(payment.code_C[c], buckets)] += weight
        field += 1 + buckets


# ---- Against the past of an entity, the labels of it that have matured, and whose it is


def entity_names(kind):
    names = [f"{kind}{IDENTITY}"]
    names += [f"{kind}_missing", f"{kind}_gap", f"{kind}_used", f"{kind}_since"]
    names += [f"{kind}_count_{span}" for span in ENTITY_HALF_LIVES if span != "ever"]
    names += [f"{kind}_accounts_{span}" for span in ENTITY_HALF_LIVES if span != "5m"]
    for span in ("1h", "30d"):
        names += [f"{kind}_log_amount_mean_{span}", f"{kind}_amount_z_{span}"]
    for span in LABEL_HALF_LIVES:
        names += [f"{kind}_fraud_share_{span}", f"{kind}_frauds_{span}"]
    return names


cdef float* of_the_entity(
    float* feature,
    const Payment* payment,
    const State* entity,
    const State* confirmed,
    int64_t first_use_us,
    int64_t code,
) noexcept nogil:
    cdef const double* past_D = entity.before_D
    cdef double[LABEL_H * OF_LABELS] known_D
    cdef double labels, frauds
    cdef Py_ssize_t h
    feature[0] = <float> code  # k_identity
    feature += 1
    feature[0] = 0.0  # k_missing
    feature[1] = log_gap(payment.time_us - entity.previous_us[0])  # k_gap
    feature[2] = 0.0  # k_used: whether this account has used it before
    feature[3] = 0.0  # k_since: the logarithm of the hours since it first did
    if never_us < first_use_us < payment.time_us:
        feature[2] = 1.0
        feature[3] = <float> log1p(<double> (payment.time_us - first_use_us) / HOUR_US)
    feature[4] = <float> log1p(past_D[USES])  # k_count_5m
    feature[5] = <float> log1p(past_D[ENTITY_HOUR + USES])  # k_count_1h
    feature[6] = <float> log1p(past_D[ENTITY_DAY + USES])  # k_count_1d
    feature[7] = <float> log1p(past_D[ENTITY_MONTH + USES])  # k_count_30d
    feature[8] = <float> log1p(past_D[ENTITY_HOUR + ACCOUNTS])  # k_accounts_1h: first uses
    feature[9] = <float> log1p(past_D[ENTITY_DAY + ACCOUNTS])  # k_accounts_1d
    feature[10] = <float> log1p(past_D[ENTITY_MONTH + ACCOUNTS])  # k_accounts_30d
    feature[11] = <float> log1p(past_D[ENTITY_EVER])  # k_accounts_ever
    feature = of_its_amounts(feature + 12, payment, past_D + ENTITY_HOUR + AMOUNTS)
    feature = of_its_amounts(feature, payment, past_D + ENTITY_MONTH + AMOUNTS)
    read(confirmed, payment.time_us, known_D)
    for h in range(LABEL_H):
        labels, frauds = known_D[h * OF_LABELS + LABELS], known_D[h * OF_LABELS + FRAUDS]
        feature[0] = <float> (frauds / fmax(labels, LEAST_LABELS))  # k_fraud_share_7d
        feature[1] = <float> log1p(frauds)  # k_frauds_7d
        feature += 2
    return feature


cdef inline float* of_its_amounts(
    float* feature, const Payment* payment, const double* sums
) noexcept nogil:
    feature[0] = <float> mean(sums)  # k_log_amount_mean_1h, …
    feature[1] = 0.0  # k_amount_z_1h, …
    if not isnan(payment.log_amount):
        feature[1] = <float> surprise(payment.log_amount, sums)
    return feature + 2


cdef float* of_no_entity(float* feature) noexcept nogil:
    """The same, neutral."""
    memset(feature, 0, of_entity * sizeof(float))
    feature[1] = 1.0  # k_missing
    return feature + of_entity


cdef void add_to_entity(
    const State* entity, const Payment* payment, bint is_first_use
) noexcept nogil:
    cdef double[ENTITY_H] weight_H
    cdef double* sums_D = landing(entity, payment.time_us, weight_H)
    cdef bint has_amount = not isnan(payment.log_amount)
    if is_first_use:
        sums_D[ENTITY_HOUR + ACCOUNTS] += weight_H[1]
        sums_D[ENTITY_DAY + ACCOUNTS] += weight_H[2]
        sums_D[ENTITY_MONTH + ACCOUNTS] += weight_H[3]
        sums_D[ENTITY_EVER] += weight_H[4]
    if payment.standing == ASIDE:
        return
    sums_D[USES] += weight_H[0]
    sums_D[ENTITY_HOUR + USES] += weight_H[1]
    sums_D[ENTITY_DAY + USES] += weight_H[2]
    sums_D[ENTITY_MONTH + USES] += weight_H[3]
    if has_amount:
        add_value(sums_D + ENTITY_HOUR + AMOUNTS, payment.log_amount, weight_H[1])
        add_value(sums_D + ENTITY_MONTH + AMOUNTS, payment.log_amount, weight_H[3])


cdef void add_to_labels(const State* confirmed, int64_t time_us, double is_fraud) noexcept nogil:
    cdef double[LABEL_H] weight_H
    cdef double* sums_D = landing(confirmed, time_us, weight_H)
    cdef Py_ssize_t h
    for h in range(LABEL_H):
        sums_D[h * OF_LABELS + LABELS] += weight_H[h]
        sums_D[h * OF_LABELS + FRAUDS] += is_fraud * weight_H[h]


def decayed_sums(
    const double[::1] value_P,
    const int64_t[::1] time_us_P,
    const int64_t[::1] first_P,
    double half_life_us,
):
    """Of P events in the order of time, group by group, the decayed sum up to each of them: [P].

    As of that event's time, it among them. `first_P` is where each event's group begins.
    """
    sums = np.empty(value_P.shape[0])
    cdef double[::1] sum_P = sums
    cdef double before = 0.0
    cdef Py_ssize_t p
    with nogil:
        for p in range(value_P.shape[0]):
            if p > first_P[p]:
                before *= exp2(<double> (time_us_P[p - 1] - time_us_P[p]) / half_life_us)
            else:
                before = 0.0
            before += value_P[p]
            sum_P[p] = before
    return sums


# Features of a transaction itself and of its account, but for those of each field, attribute and
# kind of entity; and features of an entity.
cdef Py_ssize_t of_transaction = len(transaction_names((), ()))
cdef Py_ssize_t of_account = len(account_names((), (), ()))
cdef Py_ssize_t of_entity = len(entity_names("entity"))


# ---- A value against the sums of earlier ones


cdef inline double mean(const double* sums) noexcept nogil:
    return sums[TOTAL] / fmax(sums[COUNT], LEAST_COUNT)


cdef inline double spread(const double* sums) noexcept nogil:
    cdef double squares = sums[SQUARES] * sums[COUNT] - sums[TOTAL] ** 2
    return sqrt(fmax(squares, 0.0)) / fmax(sums[COUNT], LEAST_COUNT)


cdef inline double trusted(double value, double count) noexcept nogil:
    """A comparison with one's own past, drawn to 0 where that past is short."""
    return value * count / (count + 1.0)


cdef inline double surprise(double value, const double* sums) noexcept nogil:
    """A z-score against one's own past."""
    cdef double z = (value - mean(sums)) / sqrt(spread(sums) ** 2 + least_spread**2)
    return trusted(z, sums[COUNT])


cdef inline void add_value(double* sums, double value, double weight) noexcept nogil:
    sums[COUNT] += weight
    sums[TOTAL] += value * weight
    sums[SQUARES] += value * value * weight


cdef inline float log_gap(int64_t age_us) noexcept nogil:
    """The logarithm of the seconds since the last event, if there was any."""
    return <float> log1p(<double> min(max(age_us, 0), LONGEST_GAP_US) / SECOND_US)


# ---- The walk


cdef struct Memory:
    States entities
    States confirmed
    int64_t* first_use_us_L


def sums_of(Py_ssize_t fields, Py_ssize_t numbers, Py_ssize_t kinds):
    """How many sums the state of an account has, that of an entity, and of its matured labels."""
    return layout_of(fields, numbers, kinds).end_H[ACCOUNT_H - 1], OF_ENTITY, LABEL_H * OF_LABELS


cdef class Walk:
    """A walk over N transactions in the order of time (`order_N`): what is read and written of each.

    `of_entities` comes first, for all of them; then `of_accounts`, of some at a time. Raises
    ValueError where columns, labels and states do not belong together.
    """

    cdef readonly object features_NF
    cdef readonly object order_N
    cdef Py_ssize_t count
    cdef Layout layout
    cdef Payment* payment_N
    # Of the transactions, as C reads them.
    cdef const int64_t[::1] account_N
    cdef const int64_t[:, ::1] entity_NK
    cdef const int64_t[:, ::1] link_NK
    cdef const int64_t[:, ::1] entity_code_NK
    cdef const int64_t[::1] time_us_N
    cdef const int64_t[::1] standing_N
    cdef const double[::1] amount_N
    cdef const int64_t[:, ::1] code_NC
    cdef const double[:, ::1] number_NM
    cdef double[:, ::1] value_NM
    cdef char[:, ::1] is_first_use_NK

    def __cinit__(self, columns):
        self.account_N = np.ascontiguousarray(columns.account_N)
        self.entity_NK = np.ascontiguousarray(columns.entity_NK)
        self.link_NK = np.ascontiguousarray(columns.link_NK)
        self.entity_code_NK = np.ascontiguousarray(columns.entity_code_NK)
        self.time_us_N = np.ascontiguousarray(columns.time_us_N)
        self.standing_N = np.ascontiguousarray(columns.standing_N)
        self.amount_N = np.ascontiguousarray(columns.amount_N)
        self.code_NC = np.ascontiguousarray(columns.categorical_NC)
        self.number_NM = np.ascontiguousarray(columns.numeric_NM)
        self.order_N = np.argsort(columns.time_us_N, kind="stable")
        self.count = rows = len(self.order_N)
        kinds = self.entity_NK.shape[1]
        check(
            rows == self.account_N.shape[0] == self.entity_NK.shape[0] == self.link_NK.shape[0]
            == self.amount_N.shape[0] == self.standing_N.shape[0] == self.code_NC.shape[0]
            == self.number_NM.shape[0] == self.entity_code_NK.shape[0]
        )
        check(kinds == self.link_NK.shape[1] == self.entity_code_NK.shape[1])
        self.layout = layout_of(self.code_NC.shape[1], self.number_NM.shape[1], kinds)
        self.value_NM = np.empty((rows, self.number_NM.shape[1]))
        self.is_first_use_NK = np.zeros((rows, kinds), np.byte)
        self.features_NF = np.empty((rows, self.layout.width), np.single)
        self.payment_N = <Payment*> malloc(max(self.count, 1) * sizeof(Payment))
        if self.payment_N == NULL:
            raise MemoryError
        self._read()

    def __dealloc__(self):
        free(self.payment_N)

    cdef void _read(self):
        cdef float[:, ::1] features_NF = self.features_NF
        cdef Payment* payment
        cdef Py_ssize_t n
        for n in range(self.count):
            payment = &self.payment_N[n]
            payment.features_F = &features_NF[n, 0]
            payment.is_first_use_K = &self.is_first_use_NK[n, 0]
            payment.account, payment.time_us = self.account_N[n], self.time_us_N[n]
            payment.entity_K, payment.link_K = &self.entity_NK[n, 0], &self.link_NK[n, 0]
            payment.entity_code_K = &self.entity_code_NK[n, 0]
            payment.standing, payment.amount = self.standing_N[n], self.amount_N[n]
            payment.code_C = &self.code_NC[n, 0]
            derive(
                payment, &self.value_NM[n, 0], &self.number_NM[n, 0], self.number_NM.shape[1]
            )

    def of_entities(
        self,
        unsigned char[::1] entities,
        unsigned char[::1] confirmed,
        int64_t[::1] first_use_us_L,
        labels,
    ):
        """Write the features of all rows but those of their accounts.

        Brings the packed states and the times of first uses forward, in place.
        """
        order_E = np.argsort(labels.time_us_E, kind="stable")
        check(len(order_E) == len(labels.entity_E) == len(labels.is_fraud_E))
        cdef const int64_t[::1] entity_E = labels.entity_E[order_E]
        cdef const int64_t[::1] time_us_E = labels.time_us_E[order_E]
        cdef const double[::1] is_fraud_E = labels.is_fraud_E[order_E]
        cdef const int64_t[::1] order_N = self.order_N
        cdef Memory memory = Memory(
            states_of(entities, entity_end_H, ENTITY_H, entity_half_life_us_H),
            states_of(confirmed, label_end_H, LABEL_H, label_half_life_us_H),
            &first_use_us_L[0],
        )
        each_entity = np.ravel(self.entity_NK)
        check_positions(each_entity, NO_ENTITY, memory.entities.groups)
        check_positions(each_entity, NO_ENTITY, memory.confirmed.groups)
        check_positions(np.ravel(self.link_NK), NO_ENTITY, first_use_us_L.shape[0])
        check_positions(entity_E, 0, memory.confirmed.groups)
        if not np.array_equal(np.less(self.entity_NK, 0), np.less(self.link_NK, 0)):
            raise ValueError(
                "an entity and its link with the account are there together, or neither"
            )
        with nogil:
            by_entity(
                self.payment_N, order_N, entity_E, time_us_E, is_fraud_E, &memory, &self.layout
            )

    def of_accounts(self, const int64_t[::1] row_R, unsigned char[::1] accounts):
        """Write the features of their accounts of R rows, which are in the order of time.

        Brings the packed states forward, in place. What an UNDECIDED row adds to its account is
        left to `settle`.
        """
        cdef States states = self._accounts(accounts)
        check_positions(row_R, 0, self.count)
        with nogil:
            by_account(self.payment_N, row_R, &states, &self.layout)

    def settle(
        self,
        const int64_t[::1] row_R,
        const int64_t[::1] standing_R,
        unsigned char[::1] accounts,
    ):
        """Add those of R rows that are UNDECIDED to the states of their accounts, as they stand.

        `of_accounts` has brought the states to their times.
        """
        cdef States states = self._accounts(accounts)
        cdef Payment* payment
        cdef State account
        cdef Py_ssize_t r
        check_positions(row_R, 0, self.count)
        check(row_R.shape[0] == standing_R.shape[0])
        with nogil:
            for r in range(row_R.shape[0]):
                payment = &self.payment_N[row_R[r]]
                if payment.standing == UNDECIDED:
                    payment.standing = standing_R[r]
                    account = state_of(&states, payment.account)
                    add_to_account(&account, payment, &self.layout)

    def recount(
        self, unsigned char[::1] accounts, const double[:, ::1] attempts_N2, double times
    ):
        """Add rows that the packed states of their accounts have already, so many times more.

        `attempts_N2` are the logarithms of the attempts before each, at 5 minutes and an hour.
        """
        cdef States states = self._accounts(accounts)
        cdef const int64_t[::1] order_N = self.order_N
        cdef Payment* payment
        cdef State account
        cdef Py_ssize_t place, n
        check(self.count == attempts_N2.shape[0] and attempts_N2.shape[1] == 2)
        with nogil:
            for place in range(self.count):
                n = order_N[place]
                payment = &self.payment_N[n]
                account = state_of(&states, payment.account)
                count(&account, payment, &self.layout, &attempts_N2[n, 0], times)
                if times < 0:
                    forget_nothing(account.before_D, &self.layout)
                    forget_nothing(account.at_D, &self.layout)

    cdef States _accounts(self, unsigned char[::1] accounts):
        cdef States states = states_of(
            accounts, &self.layout.end_H[0], ACCOUNT_H, account_half_life_us_H
        )
        check_positions(self.account_N, 0, states.groups)
        return states


def gather(unsigned char[::1] entities, const int64_t[::1] entity_S, unsigned char[::1] slots):
    """Add the packed states of S slots to those of their entities, in place.

    Each sum is then that of all events, and times are those of the newest ones, as if they had
    come to one state. Raises ValueError where positions and states do not belong together.
    """
    cdef States wholes = states_of(entities, entity_end_H, ENTITY_H, entity_half_life_us_H)
    cdef States parts = states_of(slots, entity_end_H, ENTITY_H, entity_half_life_us_H)
    cdef State whole, part
    cdef Py_ssize_t s, d
    check(parts.groups == entity_S.shape[0])
    check_positions(entity_S, 0, wholes.groups)
    with nogil:
        for s in range(parts.groups):
            whole, part = state_of(&wholes, entity_S[s]), state_of(&parts, s)
            advance(&whole, part.time_us[0])
            advance(&part, whole.time_us[0])
            whole.previous_us[0] = max(whole.previous_us[0], part.previous_us[0])
            for d in range(wholes.sums):
                whole.before_D[d] += part.before_D[d]
                whole.at_D[d] += part.at_D[d]


cdef void forget_nothing(double* sums_D, const Layout* layout) noexcept nogil:
    """Where nothing is left, nothing is: of large amounts taken out again, rounding stays behind,
    which a mean would magnify."""
    cdef double* sums
    cdef Py_ssize_t h
    for h in range(DAY, ACCOUNT_H):
        sums = sums_D + layout.habit_H[h]
        if sums[PAID_VALUES + COUNT] < LEAST_COUNT:
            memset(sums + PAID_VALUES, 0, (OF_HABIT - PAID_VALUES) * sizeof(double))


cdef void by_entity(
    const Payment* payment_N,
    const int64_t[::1] order_N,
    const int64_t[::1] entity_E,
    const int64_t[::1] time_us_E,
    const double[::1] is_fraud_E,
    const Memory* memory,
    const Layout* layout,
) noexcept nogil:
    """All rows and labels, each sorted by time, against what is remembered of entities."""
    cdef Py_ssize_t rows = order_N.shape[0], first = 0, after, place, e = 0
    cdef int64_t now_us
    while first < rows:
        now_us = payment_N[order_N[first]].time_us
        while e < time_us_E.shape[0] and time_us_E[e] < now_us:
            mature(memory, entity_E[e], time_us_E[e], is_fraud_E[e])
            e += 1
        # All that are of one instant: none of them was before another.
        after = first
        while after < rows and payment_N[order_N[after]].time_us == now_us:
            write_entities(&payment_N[order_N[after]], memory, layout)
            after += 1
        for place in range(first, after):
            add_to_entities(&payment_N[order_N[place]], memory, layout)
        first = after
    for e in range(e, time_us_E.shape[0]):
        mature(memory, entity_E[e], time_us_E[e], is_fraud_E[e])


cdef void write_entities(
    const Payment* payment, const Memory* memory, const Layout* layout
) noexcept nogil:
    cdef float* feature = payment.features_F + layout.entities_at
    cdef State entity, confirmed
    cdef Py_ssize_t k
    of_the_transaction(payment.features_F, payment, layout)
    for k in range(layout.kinds):
        if payment.entity_K[k] == NO_ENTITY:
            feature = of_no_entity(feature)
            continue
        entity = state_of(&memory.entities, payment.entity_K[k])
        confirmed = state_of(&memory.confirmed, payment.entity_K[k])
        advance(&entity, payment.time_us)
        feature = of_the_entity(
            feature, payment, &entity, &confirmed, memory.first_use_us_L[payment.link_K[k]],
            payment.entity_code_K[k],
        )


cdef void add_to_entities(
    const Payment* payment, const Memory* memory, const Layout* layout
) noexcept nogil:
    cdef State entity
    cdef int64_t* first_use_us
    cdef Py_ssize_t k
    for k in range(layout.kinds):
        if payment.entity_K[k] == NO_ENTITY:
            continue
        first_use_us = &memory.first_use_us_L[payment.link_K[k]]
        payment.is_first_use_K[k] = first_use_us[0] == never_us
        if payment.is_first_use_K[k] or payment.time_us < first_use_us[0]:
            first_use_us[0] = payment.time_us
        entity = state_of(&memory.entities, payment.entity_K[k])
        add_to_entity(&entity, payment, payment.is_first_use_K[k])


cdef void by_account(
    const Payment* payment_N, const int64_t[::1] row_R, const States* accounts, const Layout* layout
) noexcept nogil:
    """Rows, sorted by time, against what is remembered of their accounts."""
    cdef Py_ssize_t rows = row_R.shape[0], first = 0, after, r
    cdef int64_t now_us
    cdef const Payment* payment
    cdef State account
    while first < rows:
        now_us = payment_N[row_R[first]].time_us
        after = first
        while after < rows and payment_N[row_R[after]].time_us == now_us:
            payment = &payment_N[row_R[after]]
            account = state_of(accounts, payment.account)
            advance(&account, now_us)
            of_the_account(payment.features_F + layout.account_at, payment, &account, layout)
            after += 1
        for r in range(first, after):
            payment = &payment_N[row_R[r]]
            account = state_of(accounts, payment.account)
            add_first_uses(&account, payment, layout)
            if payment.standing != UNDECIDED:
                add_to_account(&account, payment, layout)
        first = after


cdef void add_first_uses(
    const State* account, const Payment* payment, const Layout* layout
) noexcept nogil:
    cdef double[ACCOUNT_H] weight_H
    cdef double* sums_D
    cdef Py_ssize_t k
    for k in range(layout.kinds):
        if payment.is_first_use_K[k]:
            sums_D = landing(account, payment.time_us, weight_H)
            sums_D[layout.new_3[0] + k] += weight_H[HOUR]
            sums_D[layout.new_3[1] + k] += weight_H[DAY]
            sums_D[layout.new_3[2] + k] += weight_H[SEASON]


cdef void mature(
    const Memory* memory, Py_ssize_t entity, int64_t time_us, double is_fraud
) noexcept nogil:
    """Add a label to those of its entity."""
    cdef State confirmed = state_of(&memory.confirmed, entity)
    advance(&confirmed, time_us)
    add_to_labels(&confirmed, time_us, is_fraud)


# ---- As they are stored: a mark, how many sums, the two times, a bit for each sum that is not 0
# (before, then at), and those sums


cdef enum:
    PACKED = 1
    SIZE_AT = 1
    TIMES_AT = 5
    BITS_AT = 21


def pack(unsigned char[::1] states_G, Py_ssize_t sums):
    """Each state as bytes without its zeros: most sums of most accounts are 0."""
    cdef Py_ssize_t size = size_of(sums), numbers = 2 * sums, bits = bits_of(sums), g, d, length
    cdef unsigned char[::1] room = bytearray(BITS_AT + bits + 8 * numbers)
    cdef unsigned char* row = &room[0]
    cdef const unsigned char* state
    cdef int64_t number
    cdef int32_t count = sums
    rows = []
    row[0] = PACKED
    memcpy(row + SIZE_AT, &count, 4)
    for g in range(states_G.shape[0] // size):
        state = &states_G[g * size]
        memcpy(row + TIMES_AT, state, 16)
        memset(row + BITS_AT, 0, bits)
        length = BITS_AT + bits
        for d in range(numbers):
            memcpy(&number, state + 16 + 8 * d, 8)
            if number != 0:
                row[BITS_AT + d // 8] |= 1 << d % 8
                memcpy(row + length, &number, 8)
                length += 8
        rows.append(PyBytes_FromStringAndSize(<char*> row, length))
    return rows


def unpack(list rows, Py_ssize_t sums):
    """The states that `pack` has stored, one after another; None is one without events.

    Earlier versions stored them with their zeros. Raises ValueError where a row is neither.
    """
    cdef Py_ssize_t size = size_of(sums), g
    states = bytearray(size * len(rows))
    cdef unsigned char[::1] states_G = states
    cdef unsigned char* state
    for g, row in enumerate(rows):
        state = &states_G[g * size]
        if row is None:
            memcpy(state, &never_us, 8)
            memcpy(state + 8, &never_us, 8)
        elif not unpack_row(<bytes?> row, state, sums):
            raise ValueError("a stored state belongs to another definition of the features")
    return states


cdef bint unpack_row(bytes stored, unsigned char* state, Py_ssize_t sums):
    cdef const unsigned char* row = <const unsigned char*> PyBytes_AS_STRING(stored)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(stored), at = BITS_AT + bits_of(sums), d
    cdef int32_t count
    if length == size_of(sums):
        memcpy(state, row, length)
        return True
    if length < at or row[0] != PACKED:
        return False
    memcpy(&count, row + SIZE_AT, 4)
    if count != sums:
        return False
    memcpy(state, row + TIMES_AT, 16)
    for d in range(8 * bits_of(sums)):
        if row[BITS_AT + d // 8] >> d % 8 & 1:
            if d >= 2 * sums or at + 8 > length:
                return False
            memcpy(state + 16 + 8 * d, row + at, 8)
            at += 8
    return at == length


cdef inline Py_ssize_t bits_of(Py_ssize_t sums) noexcept nogil:
    """How many bytes the bits take: in eights, so that no packed state is as long as a whole one."""
    return (2 * sums + 63) // 64 * 8


cdef States states_of(
    unsigned char[::1] packed_G,
    const Py_ssize_t* end_H,
    Py_ssize_t half_lives,
    const double* half_life_us_H,
):
    cdef Py_ssize_t sums = end_H[half_lives - 1]
    cdef Py_ssize_t groups = packed_G.shape[0] // size_of(sums)
    if packed_G.shape[0] != groups * size_of(sums):
        raise ValueError("states belong to another definition of the features")
    return States(<char*> &packed_G[0], groups, sums, half_lives, end_H, half_life_us_H)


cdef int check(bint is_so) except -1:
    if not is_so:
        raise ValueError("columns differ in length")
    return 0


cdef int check_positions(const int64_t[::1] position_N, int64_t least, Py_ssize_t groups) except -1:
    cdef Py_ssize_t n
    for n in range(position_N.shape[0]):
        if not least <= position_N[n] < groups:
            raise ValueError(f"there is no state at position {position_N[n]}")
    return 0
