# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The features of a transaction, each defined once: its name, and beside it what it is.

A walk in the order of time. Each row brings the states of its account and its merchant up to its
own time, writes its features from what they held strictly before, and is added to them. Rows of
one instant all read before any of them is added; labels of merchants join in as they mature. So
the rows of a file, and the same in batches on stored states, have the same features to the bit.

A late row, older than its state's newest event, reads the sums as they stood before that event: a
past that is no longer kept cannot be shown. It is added to them exactly.

What a feature is stands before its name, where m is any attribute, c any categorical field, and
7d any half-life.

Axes: N transactions, F features, H half-lives, D decayed sums, C categorical fields, M numeric
attributes, E label events. Times are int64 microseconds since the epoch, UTC.
"""

from libc.math cimport M_PI, NAN, asinh, cos, fmax, fmin, isfinite, isnan, log1p, sin, sqrt
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from app.learner.kernels.states cimport State, States, advance, landing, read, size_of, state_of

import numpy as np

HALF_LIVES_DAYS = (1, 7, 30, 120)
# Labels also nearly one by one: the newest says whether a merchant is being abused now.
LABEL_HALF_LIVES_DAYS = {"6h": 0.25} | {f"{days}d": float(days) for days in HALF_LIVES_DAYS}
# Shares of categories are kept hashed, so that an account's state has a fixed size.
BUCKETS = 16
# The least spread (of log-amounts, of attributes) that counts as an account's own: without it
# the fourth of four equal payments could be infinitely surprising.
LEAST_SPREAD = 0.3
CODE = "_code"

cdef enum:
    H = 4
    LABEL_H = 5
    LONG = H - 1
    MISSING = 0
    NO_MERCHANT = -1

# Sums of log-amounts, or of an attribute's values, stand together: how many, total, squares.
cdef enum:
    COUNT, TOTAL, SQUARES
    OF_VALUES

# A merchant has these of log-amounts at each half-life; an account has the amounts' total, too,
# and after those, at the longest half-life alone: the hour as a sum of unit vectors; of each
# attribute its values; of each field, how often it was there; of each field, its buckets.
cdef enum:
    AMOUNT = OF_VALUES
    OF_ACCOUNT
    HOUR_COS = H * OF_ACCOUNT
    HOUR_SIN
    OF_ATTRIBUTES

# Of the matured labels of a merchant, at each half-life.
cdef enum:
    LABELS
    FRAUDS
    OF_LABELS

cdef int64_t HOUR_US = 3_600_000_000
cdef int64_t DAY_US = 24 * HOUR_US
# A year without a transaction is as long as for ever.
cdef double LONGEST_GAP_HOURS = 365 * 24
# Share of frauds among labels so old that they hardly weigh: none, and no division by nothing.
cdef double LEAST_LABELS = 1e-200
cdef double LEAST_COUNT = 1e-9

# The constants above as C has them.
cdef int64_t buckets = BUCKETS
cdef double least_spread = LEAST_SPREAD
cdef double[H] half_life_us_H = [days * DAY_US for days in HALF_LIVES_DAYS]
cdef double[LABEL_H] label_half_life_us_H = [
    days * DAY_US for days in LABEL_HALF_LIVES_DAYS.values()
]


# ---- What a transaction says itself


cdef struct Layout:
    Py_ssize_t fields
    Py_ssize_t numbers
    Py_ssize_t has_merchant


cdef struct Told:
    float* features_F
    Py_ssize_t account
    Py_ssize_t merchant
    int64_t time_us
    double log_amount
    double amount
    double hour_cos
    double hour_sin
    const double* value_M  # on a scale that tames any size, NaN where missing
    const int64_t* code_C


def transaction_names(categorical, numeric):
    """Merchants are too many to be known by name."""
    names = ["log_amount", "hour_sin", "hour_cos", "weekend"]
    for name in numeric:
        names += [f"attribute_{name}", f"attribute_{name}_missing"]
    return names + [f"{name}{CODE}" for name in categorical if name != "merchant_id"]


cdef float* of_the_transaction(
    float* feature, const Told* told, const Layout* layout
) noexcept nogil:
    cdef Py_ssize_t m, c
    feature[0] = <float> told.log_amount  # log_amount
    feature[1] = <float> told.hour_sin  # hour_sin
    feature[2] = <float> told.hour_cos  # hour_cos
    feature[3] = is_weekend(told.time_us)  # weekend
    feature += 4
    for m in range(layout.numbers):
        feature[0] = <float> told.value_M[m]  # attribute_m
        feature[1] = 0.0  # attribute_m_missing
        if isnan(told.value_M[m]):
            feature[0], feature[1] = 0.0, 1.0
        feature += 2
    for c in range(layout.has_merchant, layout.fields):
        feature[0] = <float> told.code_C[c]  # c_code
        feature += 1
    return feature


cdef void tell(
    Told* told, double* value_M, const double* number_M, Py_ssize_t numbers
) noexcept nogil:
    """Work out what follows from its time, its amount and its attributes."""
    cdef double angle = 2 * M_PI * (<double> floor_mod(told.time_us, DAY_US) / DAY_US)
    cdef Py_ssize_t m
    told.log_amount = log1p(told.amount)
    told.hour_cos, told.hour_sin = cos(angle), sin(angle)
    for m in range(numbers):
        value_M[m] = asinh(number_M[m]) if isfinite(number_M[m]) else NAN
    told.value_M = value_M


cdef inline bint is_weekend(int64_t time_us) noexcept nogil:
    cdef int64_t days = (time_us - floor_mod(time_us, DAY_US)) // DAY_US
    # The epoch began on a Thursday.
    return floor_mod(days + 3, 7) >= 5


cdef inline int64_t floor_mod(int64_t dividend, int64_t divisor) noexcept nogil:
    """Never negative, as in Python."""
    cdef int64_t rest = dividend % divisor
    return rest + divisor if rest < 0 else rest


# ---- Against the past of its account


def account_names(categorical, numeric):
    names = ["account_gap", *amount_names("account")]
    for days in HALF_LIVES_DAYS:
        names += [f"account_mean_amount_{days}d", f"account_amount_ratio_{days}d"]
    names += ["account_hour_habit"]
    names += [f"account_{name}_z" for name in numeric]
    return names + [f"account_{name}_novelty" for name in categorical]


cdef float* of_the_account(
    float* feature, const Told* told, const State* account, const Layout* layout
) noexcept nogil:
    cdef const double* past_D = account.before_D
    cdef const double* buckets_B
    cdef double count, log_mean, ratio, usual
    cdef Py_ssize_t h, m, c
    feature[0] = log_gap(told.time_us - account.previous_us[0])  # account_gap
    feature += 1
    for h in range(H):
        feature = of_amounts(feature, told.log_amount, past_D + h * OF_ACCOUNT)
    for h in range(H):
        count = past_D[h * OF_ACCOUNT + COUNT]
        log_mean = log1p(past_D[h * OF_ACCOUNT + AMOUNT] / fmax(count, LEAST_COUNT))
        feature[0] = <float> log_mean  # account_mean_amount_7d
        ratio = (told.log_amount - log_mean) * count / (count + 1.0)
        feature[1] = <float> ratio  # account_amount_ratio_7d
        feature += 2
    count = past_D[LONG * OF_ACCOUNT + COUNT]
    usual = told.hour_cos * past_D[HOUR_COS] + told.hour_sin * past_D[HOUR_SIN]
    feature[0] = <float> (usual / (count + 1.0))  # account_hour_habit
    feature += 1
    past_D += OF_ATTRIBUTES
    for m in range(layout.numbers):
        feature[0] = 0.0
        if not isnan(told.value_M[m]):
            feature[0] = <float> surprise(told.value_M[m], past_D)  # account_m_z
        feature += 1
        past_D += OF_VALUES
    for c in range(layout.fields):
        buckets_B = past_D + layout.fields + c * buckets
        feature[0] = <float> novelty(told.code_C[c], past_D[c], buckets_B)  # account_c_novelty
        feature += 1
    return feature


cdef inline double novelty(int64_t code, double seen, const double* buckets_B) noexcept nogil:
    """How much of the account's past had another value of a field."""
    if code == MISSING:
        return 0.0
    # Sums of the same terms in another order may differ in the last bit.
    return fmax(seen - buckets_B[floor_mod(code, buckets)], 0.0) / (seen + 1.0)


cdef void add_to_account(
    const State* account, const Told* told, const Layout* layout
) noexcept nogil:
    cdef double[H] weight_H
    cdef double* sums_D = landing(account, told.time_us, weight_H)
    cdef double weight = weight_H[LONG]
    cdef Py_ssize_t h, m, c
    for h in range(H):
        add_value(sums_D + h * OF_ACCOUNT, told.log_amount, weight_H[h])
        sums_D[h * OF_ACCOUNT + AMOUNT] += told.amount * weight_H[h]
    sums_D[HOUR_COS] += told.hour_cos * weight
    sums_D[HOUR_SIN] += told.hour_sin * weight
    sums_D += OF_ATTRIBUTES
    for m in range(layout.numbers):
        if not isnan(told.value_M[m]):
            add_value(sums_D, told.value_M[m], weight)
        sums_D += OF_VALUES
    for c in range(layout.fields):
        if told.code_C[c] != MISSING:
            sums_D[c] += weight
            sums_D[layout.fields + c * buckets + floor_mod(told.code_C[c], buckets)] += weight


# ---- Against the past of its merchant, and the labels of it that have matured


def merchant_names():
    names = ["merchant_gap", *amount_names("merchant")]
    for half_life in LABEL_HALF_LIVES_DAYS:
        names += [f"merchant_fraud_share_{half_life}", f"merchant_frauds_{half_life}"]
    return names


cdef float* of_the_merchant(
    float* feature, const Told* told, const State* merchant, const State* confirmed
) noexcept nogil:
    cdef double[LABEL_H * OF_LABELS] known_D
    cdef double labels, frauds
    cdef Py_ssize_t h
    feature[0] = log_gap(told.time_us - merchant.previous_us[0])  # merchant_gap
    feature += 1
    for h in range(H):
        feature = of_amounts(feature, told.log_amount, merchant.before_D + h * OF_VALUES)
    read(confirmed, told.time_us, known_D)
    for h in range(LABEL_H):
        labels, frauds = known_D[h * OF_LABELS + LABELS], known_D[h * OF_LABELS + FRAUDS]
        feature[0] = <float> (frauds / fmax(labels, LEAST_LABELS))  # merchant_fraud_share_7d
        feature[1] = <float> log1p(frauds)  # merchant_frauds_7d
        feature += 2
    return feature


cdef float* of_no_merchant(float* feature) noexcept nogil:
    """The same, neutral."""
    cdef Py_ssize_t size = 1 + H * OF_AMOUNTS + LABEL_H * 2
    memset(feature, 0, size * sizeof(float))
    return feature + size


cdef void add_to_merchant(const State* merchant, const Told* told) noexcept nogil:
    cdef double[H] weight_H
    cdef double* sums_D = landing(merchant, told.time_us, weight_H)
    cdef Py_ssize_t h
    for h in range(H):
        add_value(sums_D + h * OF_VALUES, told.log_amount, weight_H[h])


cdef void add_to_labels(const State* confirmed, int64_t time_us, double is_fraud) noexcept nogil:
    cdef double[LABEL_H] weight_H
    cdef double* sums_D = landing(confirmed, time_us, weight_H)
    cdef Py_ssize_t h
    for h in range(LABEL_H):
        sums_D[h * OF_LABELS + LABELS] += weight_H[h]
        sums_D[h * OF_LABELS + FRAUDS] += is_fraud * weight_H[h]


# ---- A value against the sums of earlier ones


def amount_names(who):
    names = []
    for days in HALF_LIVES_DAYS:
        names += [
            f"{who}_count_{days}d",
            f"{who}_log_amount_mean_{days}d",
            f"{who}_log_amount_spread_{days}d",
            f"{who}_amount_z_{days}d",
        ]
    return names


cdef enum:
    OF_AMOUNTS = 4


cdef inline float* of_amounts(float* feature, double log_amount, const double* sums) noexcept nogil:
    feature[0] = <float> log1p(sums[COUNT])  # account_count_7d, merchant_count_7d
    feature[1] = <float> mean(sums)  # account_log_amount_mean_7d, …
    feature[2] = <float> spread(sums)  # account_log_amount_spread_7d, …
    feature[3] = <float> surprise(log_amount, sums)  # account_amount_z_7d, …
    return feature + OF_AMOUNTS


cdef inline double mean(const double* sums) noexcept nogil:
    return sums[TOTAL] / fmax(sums[COUNT], LEAST_COUNT)


cdef inline double spread(const double* sums) noexcept nogil:
    return sqrt(fmax(sums[SQUARES] / fmax(sums[COUNT], LEAST_COUNT) - mean(sums) ** 2, 0.0))


cdef inline double surprise(double value, const double* sums) noexcept nogil:
    """A z-score against one's own past, drawn to 0 where that past is short."""
    cdef double z = (value - mean(sums)) / sqrt(spread(sums) ** 2 + least_spread**2)
    return z * sums[COUNT] / (sums[COUNT] + 1.0)


cdef inline void add_value(double* sums, double value, double weight) noexcept nogil:
    sums[COUNT] += weight
    sums[TOTAL] += value * weight
    sums[SQUARES] += value * value * weight


cdef inline float log_gap(int64_t age_us) noexcept nogil:
    """The logarithm of the hours since the last event, if there was any."""
    return <float> log1p(fmin(fmax(<double> age_us / HOUR_US, 0.0), LONGEST_GAP_HOURS))


# ---- The walk


cdef struct Memory:
    States accounts
    States merchants
    States confirmed


def sums_of(Py_ssize_t fields, Py_ssize_t numbers):
    """How many sums the state of an account has, that of a merchant, and of its matured labels."""
    account = OF_ATTRIBUTES + OF_VALUES * numbers + fields + fields * BUCKETS
    return account, H * OF_VALUES, LABEL_H * OF_LABELS


def walk(
    float[:, ::1] features_NF,
    columns,
    bint has_merchant,
    unsigned char[::1] accounts,
    unsigned char[::1] merchants,
    unsigned char[::1] confirmed,
    labels,
):
    """Write the features of N transactions, and bring the packed states forward, in place.

    Raises ValueError where columns, labels and states do not belong together.
    """
    cdef const int64_t[::1] account_N = np.ascontiguousarray(columns.account_N)
    cdef const int64_t[::1] merchant_N = np.ascontiguousarray(columns.merchant_N)
    cdef const int64_t[::1] time_us_N = np.ascontiguousarray(columns.time_us_N)
    cdef const double[::1] amount_N = np.ascontiguousarray(columns.amount_N)
    cdef const int64_t[:, ::1] code_NC = np.ascontiguousarray(columns.categorical_NC)
    cdef const double[:, ::1] number_NM = np.ascontiguousarray(columns.numeric_NM)
    cdef const int64_t[::1] order_N = np.argsort(columns.time_us_N, kind="stable")
    cdef Py_ssize_t rows = order_N.shape[0]
    check(
        rows == account_N.shape[0] == merchant_N.shape[0] == amount_N.shape[0]
        == code_NC.shape[0] == number_NM.shape[0] == features_NF.shape[0]
    )
    order_E = np.argsort(labels.time_us_E, kind="stable")
    check(len(order_E) == len(labels.merchant_E) == len(labels.is_fraud_E))
    cdef const int64_t[::1] merchant_E = labels.merchant_E[order_E]
    cdef const int64_t[::1] time_us_E = labels.time_us_E[order_E]
    cdef const double[::1] is_fraud_E = labels.is_fraud_E[order_E]

    cdef Layout layout = Layout(code_NC.shape[1], number_NM.shape[1], has_merchant)
    cdef Memory memory = memory_of(&layout, accounts, merchants, confirmed)
    check_positions(account_N, 0, memory.accounts.groups)
    check_positions(merchant_N, NO_MERCHANT, memory.merchants.groups)
    check_positions(merchant_N, NO_MERCHANT, memory.confirmed.groups)
    check_positions(merchant_E, 0, memory.confirmed.groups)

    cdef double[:, ::1] value_NM = np.empty((rows, layout.numbers))
    cdef Told* told_N = <Told*> malloc(max(rows, 1) * sizeof(Told))
    cdef Told* told
    cdef Py_ssize_t place, n
    cdef bint is_whole
    if told_N == NULL:
        raise MemoryError
    try:
        with nogil:
            for place in range(rows):
                n, told = order_N[place], &told_N[place]
                told.features_F = &features_NF[n, 0]
                told.account, told.merchant = account_N[n], merchant_N[n]
                told.time_us, told.amount = time_us_N[n], amount_N[n]
                told.code_C = &code_NC[n, 0]
                tell(told, &value_NM[n, 0], &number_NM[n, 0], layout.numbers)
            is_whole = go(
                told_N, rows, features_NF.shape[1], merchant_E, time_us_E, is_fraud_E,
                &memory, &layout,
            )
    finally:
        free(told_N)
    if not is_whole:
        raise AssertionError("there are more names than features, or fewer")


cdef bint go(
    const Told* told_N,
    Py_ssize_t rows,
    Py_ssize_t width,
    const int64_t[::1] merchant_E,
    const int64_t[::1] time_us_E,
    const double[::1] is_fraud_E,
    const Memory* memory,
    const Layout* layout,
) noexcept nogil:
    """All rows and labels, each sorted by time. Whether every row has so many features."""
    cdef Py_ssize_t first = 0, after, n, e = 0
    while first < rows:
        while e < time_us_E.shape[0] and time_us_E[e] < told_N[first].time_us:
            mature(memory, merchant_E[e], time_us_E[e], is_fraud_E[e])
            e += 1
        # All that are of one instant: none of them was before another.
        after = first
        while after < rows and told_N[after].time_us == told_N[first].time_us:
            if write(&told_N[after], memory, layout) != width:
                return False
            after += 1
        for n in range(first, after):
            remember(&told_N[n], memory, layout)
        first = after
    for e in range(e, time_us_E.shape[0]):
        mature(memory, merchant_E[e], time_us_E[e], is_fraud_E[e])
    return True


cdef Py_ssize_t write(const Told* told, const Memory* memory, const Layout* layout) noexcept nogil:
    """Write the features of a transaction. How many they are."""
    cdef State account = state_of(&memory.accounts, told.account)
    cdef State merchant, confirmed
    cdef float* feature = told.features_F
    advance(&account, told.time_us)
    feature = of_the_transaction(feature, told, layout)
    feature = of_the_account(feature, told, &account, layout)
    if told.merchant != NO_MERCHANT:
        merchant = state_of(&memory.merchants, told.merchant)
        confirmed = state_of(&memory.confirmed, told.merchant)
        advance(&merchant, told.time_us)
        if layout.has_merchant:
            feature = of_the_merchant(feature, told, &merchant, &confirmed)
    elif layout.has_merchant:
        feature = of_no_merchant(feature)
    return feature - told.features_F


cdef void remember(const Told* told, const Memory* memory, const Layout* layout) noexcept nogil:
    """Add a transaction to the sums of its account and its merchant."""
    cdef State account = state_of(&memory.accounts, told.account)
    cdef State merchant
    add_to_account(&account, told, layout)
    if told.merchant != NO_MERCHANT:
        merchant = state_of(&memory.merchants, told.merchant)
        add_to_merchant(&merchant, told)


cdef void mature(
    const Memory* memory, Py_ssize_t merchant, int64_t time_us, double is_fraud
) noexcept nogil:
    """Add a label to those of its merchant."""
    cdef State confirmed = state_of(&memory.confirmed, merchant)
    advance(&confirmed, time_us)
    add_to_labels(&confirmed, time_us, is_fraud)


cdef Memory memory_of(
    const Layout* layout,
    unsigned char[::1] accounts,
    unsigned char[::1] merchants,
    unsigned char[::1] confirmed,
):
    of_account, of_merchant, of_labels = sums_of(layout.fields, layout.numbers)
    return Memory(
        states_of(accounts, of_account, OF_ACCOUNT, H, half_life_us_H),
        states_of(merchants, of_merchant, OF_VALUES, H, half_life_us_H),
        states_of(confirmed, of_labels, OF_LABELS, LABEL_H, label_half_life_us_H),
    )


cdef States states_of(
    unsigned char[::1] packed_G,
    Py_ssize_t sums,
    Py_ssize_t each,
    Py_ssize_t half_lives,
    const double* half_life_us_H,
):
    cdef Py_ssize_t groups = packed_G.shape[0] // size_of(sums)
    if packed_G.shape[0] != groups * size_of(sums):
        raise ValueError("states belong to another definition of the features")
    return States(<char*> &packed_G[0], groups, sums, each, half_lives, half_life_us_H)


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
