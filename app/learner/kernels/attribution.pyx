# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Integrated gradients of one payment; app/learner/attribution.py says of what, and why they are exact.

A unit of the first layer turns once on the way: it is on before its root or after it. So between
two roots what enters the inner layer is a line, which the next root bends by that unit's own
weights; and how long inner units were on, up to each root, is all that the gradient asks for.

Axes: K past payments, G features by kind (quantities, then codes); the others as in network.pyx.
"""

from libc.math cimport fabs
from libc.string cimport memcpy, memset

from app.learner.kernels.network cimport (
    BINS,
    COLUMNS,
    HIDDEN,
    KNOWN_VALUES,
    MEMBERS,
    NODES,
    SPLITS,
    TREE_DEPTH,
    UNITS,
    Head,
    Network,
    add_knots,
    add_rows,
    product,
    within,
)

import numpy as np

# Less than any size that is divided by, and not 0.
cdef double LEAST_SIZE = 1e-300

cdef struct Walk:
    # The log-odds where it starts and ends, and the average gradient by unit of the first layer.
    double first, last
    double[UNITS] gradient_U

# Where a value of a quantity stands: its bin, how far it is through it, by scale, and beyond.
cdef struct Stand:
    float value
    int bin
    double share, scaled, beyond

# A payment beside those that its baseline is the mean of.
cdef struct Pair:
    const float* now_F
    const float* past_KF
    int past
    const double* encoded_X


def attribute(
    Network network not None,
    const float[:, ::1] features_1F,
    const double[::1] day_1,
    const float[:, ::1] past_KF,
    const double[::1] copy_W,
):
    """A payment's baseline, log-odds, shares [F] and labels' share, as `Attribution` has them.

    The copy is the one that serves the account. Raises ValueError for a past without a row, and
    for rows or a copy of another network.
    """
    cdef int features = network.features, own = network.own, g
    cdef double[:, ::1] encoded_1X = network.encode(features_1F, day_1)
    cdef double[:, ::1] step_GU = np.zeros((features, COLUMNS))
    cdef double[:, ::1] related_2R = np.zeros((2, network.relations))
    cdef double[:, ::1] share_2G = np.zeros((2, features))
    cdef double[:, :, ::1] from_MHH = np.empty((MEMBERS, HIDDEN, HIDDEN))
    cdef double weight, move, refused, pardoned = 0.0, followed = 0.0
    cdef double[MEMBERS] wide_M
    cdef Walk by_base, by_copy, by_refusals
    cdef Pair pair
    if (
        features_1F.shape[0] != 1
        or not past_KF.shape[0]
        or past_KF.shape[1] != features
        or copy_W.shape[0] != network.copy_size
    ):
        raise ValueError("a payment is set against rows of this network, by a copy of it")
    # What the network does not read, an identity, has no share.
    shares = np.zeros(features)
    cdef double[::1] share_F = shares
    pair.now_F, pair.past_KF, pair.past = &features_1F[0, 0], &past_KF[0, 0], past_KF.shape[0]
    pair.encoded_X = &encoded_1X[0, 0]
    cdef float[::1] without_F = np.empty(features, np.single)
    weight = copy_W[network.weight_at]
    with nogil:
        read_steps(network, &pair, &step_GU[0, 0])
        relate_by_base(network, &pair, &related_2R[0, 0], &related_2R[1, 0])
        walk_by(
            network, &pair, &step_GU[0, 0], own, &related_2R[0, 0], &related_2R[1, 0],
            network.base(), network.from_MHH, pair.encoded_X + UNITS, &by_base, &share_2G[0, 0],
        )
        if network.trees:
            descend_by(network, &pair, NULL, &by_base, &share_2G[0, 0])
        if weight > 0.0:
            relate_by_copy(network, &pair, &copy_W[0], &related_2R[0, 0], &related_2R[1, 0])
            network.widen(pair.encoded_X, &related_2R[0, own], wide_M)
            walk_by(
                network, &pair, &step_GU[0, 0], network.relations, &related_2R[0, 0],
                &related_2R[1, 0], network.head_of(&copy_W[0]),
                inner_of(network, &copy_W[0], &from_MHH[0, 0, 0]), wide_M, &by_copy,
                &share_2G[1, 0],
            )
            if network.trees:
                descend_by(network, &pair, &related_2R[0, own], &by_copy, &share_2G[1, 0])
            # As `served` moves the score: what does not reach the payment shortens all alike.
            move = by_copy.last - by_base.last
            pardoned = network.pardoned(pair.encoded_X, &related_2R[0, own])
            if fabs(move) > LEAST_SIZE:
                followed = network.reached(move, pair.encoded_X, &related_2R[0, own]) + pardoned
                followed *= weight
                followed /= move
            else:
                followed = weight
            pardoned *= weight
        else:
            by_copy = by_base
        for g in range(features):
            share_2G[0, g] += followed * (share_2G[1, g] - share_2G[0, g])
        if pardoned > 0.0:
            # The walk from the payment without its refusals: all of it is theirs, but for splits of
            # trees that it comes to by another way.
            memcpy(&without_F[0], pair.now_F, features * sizeof(float))
            for g in range(network.refusals):
                without_F[network.quantity_Z[network.refused_Q[g]]] = 0.0
            pair.past_KF, pair.past = &without_F[0], 1
            memset(&step_GU[0, 0], 0, features * COLUMNS * sizeof(double))
            read_steps(network, &pair, &step_GU[0, 0])
            relate_by_base(network, &pair, &related_2R[0, 0], &related_2R[1, 0])
            walk_by(
                network, &pair, &step_GU[0, 0], own, &related_2R[0, 0], &related_2R[1, 0],
                network.base(), network.from_MHH, pair.encoded_X + UNITS, &by_refusals,
                &share_2G[1, 0],
            )
            if network.trees:
                descend_by(network, &pair, NULL, &by_refusals, &share_2G[1, 0])
            refused = by_refusals.last - by_refusals.first
            for g in range(features):
                share_2G[0, g] -= pardoned / refused * share_2G[1, g]
        for g in range(network.quantities):
            share_F[network.quantity_Z[g]] = share_2G[0, g]
        for g in range(network.codes):
            share_F[network.code_C[g]] = share_2G[0, network.quantities + g]
    return (
        by_base.first,
        by_base.last + followed * (by_copy.last - by_base.last) - pardoned,
        shares,
        followed * (by_copy.first - by_base.first),
    )


cdef void read_steps(Network network, const Pair* pair, double* step_GU) noexcept nogil:
    """What each feature gives beyond the baseline, to the units and, behind them, the log-odds.

    The rows of a feature stand at few places: their weights are summed there, each read once.
    """
    cdef double[BINS + 1] at_T
    cdef double[KNOWN_VALUES + 1] at_V
    cdef double each = -1.0 / pair.past, scaled, beyond
    cdef Stand stand
    cdef float value
    cdef int z, c, k, feature
    for z in range(network.quantities):
        feature = network.quantity_Z[z]
        memset(at_T, 0, sizeof(at_T))
        stand = stand_of(network, z, pair.now_F[feature])
        weigh(&stand, 1.0, at_T)
        scaled, beyond = stand.scaled, stand.beyond
        for k in range(pair.past):
            value = pair.past_KF[k * network.features + feature]
            # What an account never names has the same value in all of its payments.
            if value != stand.value:
                stand = stand_of(network, z, value)
            weigh(&stand, each, at_T)
            scaled += each * stand.scaled
            beyond += each * stand.beyond
        add_knots(step_GU, network.knots_ZTU + z * (BINS + 1) * COLUMNS, BINS + 1, at_T)
        add_rows(step_GU, UNITS, network.scaled_ZU, 1, &z, &scaled)
        for k in range(MEMBERS):
            step_GU[UNITS + k] += beyond
        step_GU += COLUMNS
    for c in range(network.codes):
        feature = network.code_C[c]
        memset(at_V, 0, sizeof(at_V))
        at_V[network.value_of(c, pair.now_F[feature])] = 1.0
        for k in range(pair.past):
            at_V[network.value_of(c, pair.past_KF[k * network.features + feature])] += each
        add_rows(
            step_GU, UNITS, network.values_VU + c * (KNOWN_VALUES + 1) * UNITS,
            KNOWN_VALUES + 1, network.order, at_V,
        )
        step_GU += COLUMNS


cdef Stand stand_of(Network network, int z, float value) noexcept nogil:
    cdef Stand stand
    stand.value = value
    stand.bin = network.bin_of(z, value)
    stand.share = within(network.share_of(z, stand.bin, value), 0.0, 1.0)
    stand.scaled, stand.beyond = network.scaled(z, value), network.beyond(z, value)
    return stand


cdef void weigh(const Stand* stand, double weight, double* at_T) noexcept nogil:
    """Weigh the knots on both sides of a value."""
    cdef double share = weight * stand.share
    at_T[stand.bin] += weight - share
    at_T[stand.bin + 1] += share


cdef void relate_by_base(
    Network network, const Pair* pair, double* end_R, double* step_R
) noexcept nogil:
    """What no labels say of the payment, and how much more than of what is usual."""
    cdef int o, k
    cdef double usual
    for o in range(network.own):
        usual = 0.0
        for k in range(pair.past):
            usual += own_of(network, pair, k, o)
        end_R[o] = pair.encoded_X[COLUMNS + o]
        step_R[o] = end_R[o] - usual / pair.past


cdef void relate_by_copy(
    Network network, const Pair* pair, const double* copy_W, double* end_R, double* step_R
) noexcept nogil:
    """The same of a copy's labels. What they say beyond own quantities is the same of the usual."""
    cdef int o, k
    cdef double usual
    network.relate(pair.encoded_X, copy_W, False, end_R)
    for o in range(network.own):
        usual = 0.0
        for k in range(pair.past):
            usual += network.relative(o, own_of(network, pair, k, o), copy_W)
        step_R[o] = end_R[o] - usual / pair.past


cdef double own_of(Network network, const Pair* pair, int k, int o) noexcept nogil:
    cdef int z = network.own_O[o]
    return network.scaled(z, pair.past_KF[k * network.features + network.quantity_Z[z]])


cdef const double* inner_of(
    Network network, const double* copy_W, double* from_MHH
) noexcept nogil:
    """The inner layer of a copy by input, written where it is the copy's own."""
    cdef const double* weight_MHH = network.head_of(copy_W).weight_MHH
    cdef int m, g, h
    if weight_MHH == NULL:
        return network.from_MHH
    for m in range(MEMBERS):
        for g in range(HIDDEN):
            for h in range(HIDDEN):
                from_MHH[(m * HIDDEN + h) * HIDDEN + g] = weight_MHH[(m * HIDDEN + g) * HIDDEN + h]
    return from_MHH


cdef void walk_by(
    Network network, const Pair* pair, const double* step_GU, int relations, const double* end_R,
    const double* step_R, Head head, const double* from_MHH, const double* wide_M, Walk* walk,
    double* share_G,
) noexcept nogil:
    """Walk one network from what is usual to the payment, and share out what it gains.

    `wide_M` is added to the members' log-odds where the walk ends.
    """
    cdef double[COLUMNS] step_U
    cdef double[COLUMNS] end_U
    cdef double[UNITS] units_U
    cdef double[MEMBERS] first_M
    cdef int g, u, m, o
    memset(step_U, 0, sizeof(step_U))
    for g in range(network.features):
        for u in range(COLUMNS):
            step_U[u] += step_GU[g * COLUMNS + u]
    memcpy(end_U, pair.encoded_X, UNITS * sizeof(double))
    memcpy(end_U + UNITS, wide_M, MEMBERS * sizeof(double))
    add_rows(end_U, UNITS, network.relation_RU, relations, network.order, end_R)
    add_rows(step_U, UNITS, network.relation_RU, network.own, network.order, step_R)

    for u in range(UNITS):
        units_U[u] = max(end_U[u], 0.0)
    walk.last = network.logit(units_U, head, end_U + UNITS)
    for u in range(UNITS):
        units_U[u] = max(end_U[u] - step_U[u], 0.0)
    for m in range(MEMBERS):
        first_M[m] = end_U[UNITS + m] - step_U[UNITS + m]
    walk.first = network.logit(units_U, head, first_M)
    for m in range(MEMBERS):
        u = m * HIDDEN
        walk_member(
            end_U + u, step_U + u, head.bias_MH + u, head.out_weight_MH + u,
            from_MHH + u * HIDDEN, network.order, walk.gradient_U + u,
        )

    for g in range(network.features):
        share_G[g] = product(UNITS, step_GU + g * COLUMNS, walk.gradient_U)
        for m in range(MEMBERS):
            share_G[g] += step_GU[g * COLUMNS + UNITS + m] / MEMBERS
    for o in range(network.own):
        share_G[network.own_O[o]] += step_R[o] * product(
            UNITS, network.relation_RU + o * UNITS, walk.gradient_U
        )


cdef void descend_by(
    Network network, const Pair* pair, const double* input_I, Walk* walk, double* share_G
) noexcept nogil:
    """Draw a walk and its shares halfway to the trees, with the inputs from labels.

    A split's step from place to place is its column's share, of the payment less the mean of the
    past. Labels say the same of both: what their splits do is no step, so what is left adds up.
    """
    cdef int g, k
    cdef double last, first = 0.0, each = 0.5 / pair.past
    for g in range(network.features):
        share_G[g] /= 2.0
    last = descend(network, pair.now_F, input_I, 0.5, share_G)
    for k in range(pair.past):
        first += descend(network, pair.past_KF + k * network.features, input_I, -each, share_G)
    walk.last = (walk.last + last) / 2.0
    walk.first = (walk.first + first / pair.past) / 2.0


cdef double descend(
    Network network, const float* features_F, const double* input_I, double weight, double* share_G
) noexcept nogil:
    """What the trees give a row; to the shares of its quantities their steps are added, weighed."""
    cdef int tree, turn, place, column, z
    cdef double total = 0.0, before, value
    cdef const double* value_V
    for tree in range(network.trees):
        value_V = network.value_JV + tree * NODES
        place, z = 0, -1
        before = 0.0
        for turn in range(TREE_DEPTH):
            column = network.column_JS[tree * SPLITS + place]
            value = 0.0
            if column < network.quantities:
                # From the last split of a quantity up to here is that one's step.
                if z >= 0:
                    share_G[z] += weight * (value_V[place] - before)
                z, before = column, value_V[place]
                value = features_F[network.quantity_Z[column]]
            elif input_I != NULL:
                value = input_I[column - network.quantities]
            place = 2 * place + 1 + (value > network.edge_JS[tree * SPLITS + place])
        if z >= 0:
            share_G[z] += weight * (value_V[place] - before)
        total += value_V[place]
    return total


cdef void walk_member(
    const double* end_H, const double* step_H, const double* bias_H, const double* out_weight_H,
    const double* from_HH, const int* order, double* gradient_H,
) noexcept nogil:
    """The average gradient of one member's log-odds, shared by all members, along the walk."""
    # What enters the inner layer, and how it changes; for how long each inner unit was on, times
    # what it says: up to each root in turn, and in all.
    cdef double[HIDDEN] inner_H
    cdef double[HIDDEN] slope_H
    cdef double[HIDDEN] on_H
    cdef double[HIDDEN + 1][HIDDEN] on_SH
    cdef double[HIDDEN] start_H
    cdef double[HIDDEN] moving_H
    cdef double[HIDDEN] root_H
    cdef int[HIDDEN] turning
    cdef int[HIDDEN] place_H
    cdef int h, s, turns = 0
    cdef double at = 0.0, width, end, size
    for h in range(HIDDEN):
        inner_H[h], slope_H[h], on_H[h] = bias_H[h], 0.0, 0.0
        start_H[h] = end_H[h] - step_H[h]
        moving_H[h] = step_H[h] if start_H[h] > 0.0 or start_H[h] == 0.0 < step_H[h] else 0.0
        root_H[h] = -start_H[h] / step_H[h] if step_H[h] != 0.0 else 0.0
        place_H[h] = -1
        if 0.0 < root_H[h] < 1.0:
            s = turns
            while s and root_H[turning[s - 1]] > root_H[h]:
                turning[s] = turning[s - 1]
                s -= 1
            turning[s] = h
            turns += 1
        start_H[h] = max(start_H[h], 0.0)
    add_rows(inner_H, HIDDEN, from_HH, HIDDEN, order, start_H)
    add_rows(slope_H, HIDDEN, from_HH, HIDDEN, order, moving_H)

    for s in range(turns + 1):
        width = (root_H[turning[s]] if s < turns else 1.0) - at
        for h in range(HIDDEN):
            # The part of a line that lies above 0, between its two ends.
            end = inner_H[h] + width * slope_H[h]
            size = max(fabs(inner_H[h]) + fabs(end), LEAST_SIZE)
            on_H[h] += width * (0.5 + 0.5 * (inner_H[h] + end) / size)
            inner_H[h] = end
            on_SH[s][h] = out_weight_H[h] * on_H[h]
        if s < turns:
            h = turning[s]
            place_H[h] = s
            at = root_H[h]
            # One that turns on begins to move, one that turns off falls no further.
            size = fabs(step_H[h])
            add_rows(slope_H, HIDDEN, from_HH, 1, &h, &size)

    for h in range(HIDDEN):
        gradient_H[h] = 0.0
        # On at the end: it has its say of the whole way, less what is before its root.
        if step_H[h] > 0.0 if place_H[h] >= 0 else start_H[h] > 0.0 or end_H[h] > 0.0:
            gradient_H[h] = out_weight_H[h] + product(HIDDEN, from_HH + h * HIDDEN, on_SH[turns])
        if place_H[h] >= 0:
            size = root_H[h] * out_weight_H[h]
            size += product(HIDDEN, from_HH + h * HIDDEN, on_SH[place_H[h]])
            gradient_H[h] += -size if step_H[h] > 0.0 else size
        gradient_H[h] /= MEMBERS
