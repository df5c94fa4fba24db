# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The network's pass over rows, each by a copy of its own: what app/learner/differentiable/network.py defines.

A row is summed by itself, in an order that nothing else has a say in: its log-odds are the same to
the bit whoever shares its batch.

Axes: N rows, F features, Z quantities (features that are no codes and no identities), O of them
the transaction's own, E codes and identities that are compared, I inputs from labels, R relations
to labels (O, then I), C codes, V known values, T bins, L half-lives, M members, H hidden units of a
member, U = M * H; G kinds of entities; Q counts of refusals; J trees, S splits and P places of each; X
of an encoded row (units, log-odds by member, own, compared, day, base's log-odds, whether it is
familiar, what refusals add to these log-odds if it is, quantities if there are trees), W of a copy
(`Learner.kept`, flattened), B copies.
"""

cimport cython
from libc.math cimport exp2, fabs, log, log1p
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import numpy as np

from app.learner import network as definition
from app.learner.adaptation import ALIKE as ALIKE_
from app.learner.adaptation import LARGEST_MOVE as LARGEST_MOVE_
from app.learner.adaptation import LEAST_REFUSED as LEAST_REFUSED_
from app.learner.adaptation import NEW_CALMED as NEW_CALMED_
from app.learner.adaptation import SUPPORT_LIMIT
from app.learner.network import CLIP as CLIP_
from app.learner.network import LABEL_HALF_LIVES_DAYS
from app.learner.network import LEAST_WIDTH as LEAST_WIDTH_
from app.learner.network import NEVER_DAYS as NEVER_DAYS_
from app.learner.transaction import MISSING as MISSING_

NO_CODE = -2.0
cdef double ALIKE = ALIKE_
cdef double CLIP = CLIP_
cdef double MISSING = MISSING_
cdef double LARGEST_MOVE = LARGEST_MOVE_
cdef double LEAST_REFUSED = LEAST_REFUSED_
cdef double LEAST_WIDTH = LEAST_WIDTH_
cdef double NEVER_DAYS = NEVER_DAYS_
cdef double NEW_CALMED = NEW_CALMED_
cdef double[HALF_LIVES] half_lives
cdef int[ALIKE_HALF_LIVES] alike_lives
for place, life in enumerate(definition.ALIKE_HALF_LIVES):
    alike_lives[place] = life
for place, days in enumerate(LABEL_HALF_LIVES_DAYS):
    half_lives[place] = days
assert (MEMBERS, HIDDEN, BINS) == (definition.MEMBERS, definition.HIDDEN, definition.BINS)
assert (UNITS, COLUMNS) == (MEMBERS * HIDDEN, MEMBERS * (HIDDEN + 1))
assert (KNOWN_VALUES, LABELS) == (definition.KNOWN_VALUES, SUPPORT_LIMIT)
assert (HALF_LIVES, ALIKE_HALF_LIVES) == (
    len(LABEL_HALF_LIVES_DAYS), len(definition.ALIKE_HALF_LIVES)
)
assert (TREE_DEPTH, SPLITS, NODES) == (
    definition.TREE_DEPTH, definition.SPLITS, definition.NODES
)
assert (OF_CLASS, OF_BOTH, LIKEST) == (
    definition.OF_CLASS, definition.OF_BOTH, definition.LIKEST
)


cdef double bounded(double move) noexcept nogil:
    return within(move, -LARGEST_MOVE, LARGEST_MOVE)


def knots_of(network):
    """What each quantity gives to units and log-odds at each edge: [Z, T + 1, U + M]."""
    rises = np.concatenate([network["rises_ZTU"], network["wide_rises_ZTM"]], axis=-1)
    return np.pad(rises.cumsum(1), ((0, 0), (1, 0), (0, 0)))


cdef class Network:
    """A learner's network, its weights side by side as the loops below read them.

    Made of the features' kinds, the algorithm, and arrays by their names in a checkpoint.
    """

    def __init__(self, kinds, algorithm, weights, is_past=False):
        columns = definition.Columns.of(kinds)
        network = {
            name.removeprefix("network."): np.asarray(array, np.double)
            for name, array in weights.items()
            if name.startswith("network.")
        }
        spread_Z, inner_MHH = network["encoder.spread_Z"], network["inner_weight_MHH"]
        self._arrays = []
        self.is_past = is_past
        self.features = len(kinds)
        self.quantities, self.codes = len(columns.quantities), len(columns.codes)
        self.own, self.compared = len(columns.own), len(columns.compared)
        self.inputs = columns.label_inputs
        self.relations = self.own + self.inputs
        self.compared_at = COLUMNS + self.own
        self.day_at = self.compared_at + self.compared
        self.base_at = self.day_at + 1
        self.familiar_at = self.base_at + 1
        self.refused_at = self.familiar_at + 1
        self.quantity_at = self.refused_at + 1
        self.trees = definition.trees_of(weights)
        self.encoded_size = self.quantity_at + (self.quantities if self.trees else 0)
        self.reach, self.habit = float(weights["gate.reach"]), float(weights["gate.habit"])
        self.pardon = float(weights["gate.pardon"])
        self.has_own_inner = algorithm != "anil"
        self.codes_at = 2 * self.own
        self.labels_at = self.codes_at + LABELS * self.compared
        self.head_at = self.labels_at + LABELS
        self.weight_at = self.head_at + UNITS + MEMBERS
        if self.has_own_inner:
            self.weight_at += UNITS * (HIDDEN + 1)
        self.copy_size = self.weight_at + 1

        # A payment as usual as any: the population's means, and the codes of no value at all, not
        # even of the places that a short vocabulary leaves empty, and identities of no entity.
        self.population_1F = np.full((1, self.features), NO_CODE, np.single)
        self.population_1F[0, columns.quantities] = network["encoder.mean_Z"]
        self.quantity_Z = <const int*> self._kept(columns.quantities, np.intc)
        self.code_C = <const int*> self._kept(columns.codes, np.intc)
        self.own_O = <const int*> self._kept(columns.own, np.intc)
        self.compared_E = <const int*> self._kept(columns.compared, np.intc)
        self.entities = len(columns.used)
        self.used_G2 = <const int*> self._kept(columns.used, np.intc)
        self.refusals = len(columns.refused)
        refused_Q = [columns.quantities.index(f) for f in columns.refused]
        self.refused_Q = <const int*> self._kept(refused_Q, np.intc)
        longest = max(self.quantities, UNITS, self.relations)
        self.order = <const int*> self._kept(np.arange(longest), np.intc)
        beyond_Z = np.zeros(self.quantities)
        # In the past for each spread, and now for each range of the values of training.
        unit_Z = spread_Z if is_past else np.ptp(network["encoder.edges_ZT"], axis=1)
        ranging = [z for z in definition.surprising(kinds) if unit_Z[z] > LEAST_WIDTH]
        beyond_Z[ranging] = definition.BEYOND / unit_Z[ranging]
        self.beyond_Z = <const double*> self._kept(beyond_Z)
        self.mean_Z = <const double*> self._kept(network["encoder.mean_Z"])
        self.per_spread_Z = <const double*> self._kept(1 / spread_Z)
        # As checkpoints have them, and features are: searching reads half as much.
        self.edges_ZT = <const float*> self._kept(network["encoder.edges_ZT"], np.single)
        self.known_CV = <const double*> self._kept(network["encoder.known_CV"])
        self.knots_ZTU = <const float*> self._kept(knots_of(network), np.single)
        self.values_VU = <const double*> self._kept(network["values_VU"])
        self.scaled_ZU = <const double*> self._kept(network["scaled_ZU"])
        self.bias_U = <const double*> self._kept(network["bias_U"])
        self.relation_RU = <const double*> self._kept(network["relation.weight"].T)
        self.wide_relation_IM = <const double*> self._kept(network["wide_relation_IM"])
        self.from_MHH = <const double*> self._kept(inner_MHH.swapaxes(1, 2))
        self.inner_MHH = <const double*> self._kept(inner_MHH)
        self.inner_bias_MH = <const double*> self._kept(network["inner_bias_MH"])
        self.out_weight_MH = <const double*> self._kept(network["out_weight_MH"])
        self.out_bias_M = <const double*> self._kept(network["out_bias_M"])
        if self.trees:
            self.column_JS = <const int*> self._kept(network["trees.column_JS"], np.intc)
            self.edge_JS = <const double*> self._kept(network["trees.edge_JS"])
            self.value_JV = <const double*> self._kept(network["trees.value_JV"])

    cdef size_t _kept(self, values, dtype=np.double) except? 0:
        """Where the values stand, for as long as this object does."""
        array = np.array(values, dtype, order="C")
        self._arrays.append(array)
        return array.ctypes.data

    def encode(self, const float[:, ::1] features_NF, const double[::1] day_N):
        """What rows are whatever the labels, and what the base gives them: [N, X].

        Raises ValueError for rows of another width, or not as many days.
        """
        cdef Py_ssize_t n, rows = features_NF.shape[0]
        if features_NF.shape[1] != self.features or day_N.shape[0] != rows:
            raise ValueError("these are not rows of this network")
        encoded = np.empty((rows, self.encoded_size))
        cdef double[:, ::1] encoded_NX = encoded
        cdef int* place_Z = <int*> malloc(self.quantities * sizeof(int))
        cdef double* share_Z = <double*> malloc(self.quantities * sizeof(double))
        try:
            if place_Z == NULL or share_Z == NULL:
                raise MemoryError
            with nogil:
                for n in range(rows):
                    self.encode_row(
                        &features_NF[n, 0], day_N[n], &encoded_NX[n, 0], place_Z, share_Z
                    )
        finally:
            free(place_Z)
            free(share_Z)
        return encoded

    def logits(
        self,
        const double[:, ::1] encoded_NX,
        const double[:, ::1] copies_BW,
        const Py_ssize_t[::1] copy_N,
    ):
        """The log-odds that are served: row n's by the copy at `copy_N[n]`: [N].

        Raises ValueError for rows or copies of another network, and IndexError for no copy.
        """
        cdef Py_ssize_t n, rows = encoded_NX.shape[0]
        if (encoded_NX.shape[1], copies_BW.shape[1]) != (self.encoded_size, self.copy_size):
            raise ValueError("these are not rows and copies of this network")
        if copy_N.shape[0] != rows:
            raise ValueError("every row has one copy")
        for n in range(rows):
            if not 0 <= copy_N[n] < copies_BW.shape[0]:
                raise IndexError(f"there is no copy {copy_N[n]}")
        logits = np.empty(rows)
        cdef double[::1] logit_N = logits
        cdef double* related_R = <double*> malloc(self.relations * sizeof(double))
        try:
            if related_R == NULL:
                raise MemoryError
            with nogil:
                for n in range(rows):
                    logit_N[n] = self.served(&encoded_NX[n, 0], &copies_BW[copy_N[n], 0], related_R)
        finally:
            free(related_R)
        return logits

    @cython.final
    cdef Head base(self) noexcept nogil:
        cdef Head head
        head.weight_MHH = NULL
        head.bias_MH = self.inner_bias_MH
        head.out_weight_MH = self.out_weight_MH
        head.out_bias_M = self.out_bias_M
        return head

    @cython.final
    cdef Head head_of(self, const double* copy_W) noexcept nogil:
        cdef Head head = self.base()
        if self.has_own_inner:
            head.weight_MHH = copy_W + self.head_at
            head.bias_MH = head.weight_MHH + UNITS * HIDDEN
        head.out_weight_MH = copy_W + self.weight_at - MEMBERS - UNITS
        head.out_bias_M = copy_W + self.weight_at - MEMBERS
        return head

    @cython.final
    cdef int bin_of(self, int z, float value) noexcept nogil:
        """How many of a quantity's inner edges are at or below the value."""
        return edges_below(self.edges_ZT + z * (BINS + 1) + 1, BINS - 1, value)

    @cython.final
    cdef double share_of(self, int z, int bin, float value) noexcept nogil:
        """How far a value is from its bin's first edge, in widths: not 0 to 1 in the outer bins."""
        cdef const float* edge = self.edges_ZT + z * (BINS + 1) + bin
        if not self.is_past:
            # Where the last edge stands twice, nothing above it was learned.
            value = min(value, edge[BINS - bin])
        return (<double> value - edge[0]) / max(<double> edge[1] - <double> edge[0], LEAST_WIDTH)

    @cython.final
    cdef double beyond(self, int z, double value) noexcept nogil:
        """Log-odds for a value beyond all that training saw."""
        return self.beyond_Z[z] * max(value - self.edges_ZT[z * (BINS + 1) + BINS], 0.0)

    @cython.final
    cdef int value_of(self, int c, double code) noexcept nogil:
        """The place of a code among its feature's known ones; behind them, if it is not known."""
        cdef const double* known_V = self.known_CV + c * KNOWN_VALUES
        cdef int v
        for v in range(KNOWN_VALUES):
            if known_V[v] == code:
                return v
        return KNOWN_VALUES

    @cython.final
    cdef double scaled(self, int z, double value) noexcept nogil:
        cdef const float* edge_T = self.edges_ZT + z * (BINS + 1)
        if not self.is_past:
            value = within(value, edge_T[0], edge_T[BINS])
        return within((value - self.mean_Z[z]) * self.per_spread_Z[z], -CLIP, CLIP)

    @cython.final
    cdef void encode_row(
        self, const float* features_F, double day, double* encoded_X, int* place_Z, double* share_Z
    ) noexcept nogil:
        cdef int z, c, bin, place
        cdef float value
        cdef double one = 1.0, beyond = 0.0
        cdef double* own_O = encoded_X + COLUMNS
        cdef double[UNITS] units_U
        memcpy(encoded_X, self.bias_U, UNITS * sizeof(double))
        for z in range(self.quantities):
            value = features_F[self.quantity_Z[z]]
            bin = self.bin_of(z, value)
            place_Z[z] = z * (BINS + 1) + bin
            share_Z[z] = self.share_of(z, bin, value)
            if value > self.edges_ZT[z * (BINS + 1) + BINS]:
                beyond += self.beyond(z, value)
        for z in range(MEMBERS):
            encoded_X[UNITS + z] = beyond
        for z in range(self.quantities):
            share_Z[z] = within(share_Z[z], 0.0, 1.0)
        add_between(encoded_X, self.knots_ZTU, self.quantities, place_Z, share_Z)
        for c in range(self.codes):
            place = c * (KNOWN_VALUES + 1) + self.value_of(c, features_F[self.code_C[c]])
            add_rows(encoded_X, UNITS, self.values_VU, 1, &place, &one)
        # The shares are done with.
        for z in range(self.quantities):
            share_Z[z] = self.scaled(z, features_F[self.quantity_Z[z]])
        add_rows(encoded_X, UNITS, self.scaled_ZU, self.quantities, self.order, share_Z)
        for z in range(self.own):
            own_O[z] = share_Z[self.own_O[z]]
        for z in range(self.compared):
            encoded_X[self.compared_at + z] = features_F[self.compared_E[z]]
        encoded_X[self.day_at] = day
        if self.trees:
            for z in range(self.quantities):
                encoded_X[self.quantity_at + z] = features_F[self.quantity_Z[z]]
        self.first_units(encoded_X, self.own, own_O, units_U)
        encoded_X[self.base_at] = self.answered(
            self.logit(units_U, self.base(), encoded_X + UNITS), encoded_X, NULL
        )
        encoded_X[self.familiar_at] = self.familiar(features_F)
        encoded_X[self.refused_at] = 0.0
        if self.pardon > 0.0 and encoded_X[self.familiar_at] > 0.0:
            encoded_X[self.refused_at] = self.refused(encoded_X, features_F)

    @cython.final
    cdef double refused(self, double* encoded_X, const float* features_F) noexcept nogil:
        """What refusals add to the base's log-odds of a row, or 0: within bounds."""
        cdef double[COLUMNS] without_U
        cdef double[UNITS] units_U
        cdef double without, added
        cdef bint are_any = False
        cdef float value
        cdef int q, z
        memcpy(without_U, encoded_X, COLUMNS * sizeof(double))
        for q in range(self.refusals):
            z = self.refused_Q[q]
            value = features_F[self.quantity_Z[z]]
            are_any = are_any or value > 0.0
            if value != 0.0:
                self.add_quantity(without_U, z, value, -1.0)
                self.add_quantity(without_U, z, 0.0, 1.0)
        if not are_any:
            return 0.0
        self.first_units(without_U, self.own, encoded_X + COLUMNS, units_U)
        without = self.logit(units_U, self.base(), without_U + UNITS)
        if self.trees:
            for q in range(self.refusals):
                encoded_X[self.quantity_at + self.refused_Q[q]] = 0.0
            without = self.answered(without, encoded_X, NULL)
            for q in range(self.refusals):
                z = self.refused_Q[q]
                encoded_X[self.quantity_at + z] = features_F[self.quantity_Z[z]]
        added = encoded_X[self.base_at] - without
        return 0.0 if added < LEAST_REFUSED else min(added, LARGEST_MOVE)

    @cython.final
    cdef void add_quantity(
        self, double* sum_U, int z, float value, double times
    ) noexcept nogil:
        """Add so many times what a quantity gives to the units and, behind them, the log-odds."""
        cdef int bin = self.bin_of(z, value), m
        cdef double share = within(self.share_of(z, bin, value), 0.0, 1.0)
        cdef double scaled = times * self.scaled(z, value)
        cdef double beyond = times * self.beyond(z, value)
        cdef double[2] weight_2
        weight_2[0], weight_2[1] = times * (1.0 - share), times * share
        add_knots(sum_U, self.knots_ZTU + (z * (BINS + 1) + bin) * COLUMNS, 2, weight_2)
        add_rows(sum_U, UNITS, self.scaled_ZU, 1, &z, &scaled)
        for m in range(MEMBERS):
            sum_U[UNITS + m] += beyond

    @cython.final
    cdef double familiar(self, const float* features_F) noexcept nogil:
        """Whether the account has used all entities of a row before, and there are any."""
        cdef int g
        cdef double familiar = 0.0
        for g in range(self.entities):
            if features_F[self.used_G2[2 * g]] == MISSING:
                continue
            if features_F[self.used_G2[2 * g + 1]] <= 0.0:
                return 0.0
            familiar = 1.0
        return familiar

    @cython.final
    cdef double relative(self, int o, double own, const double* copy_W) noexcept nogil:
        """An own quantity, relative to what the labels of a copy say is usual."""
        return within((own - copy_W[o]) / copy_W[self.own + o], -CLIP, CLIP)

    @cython.final
    cdef void relate(
        self, const double* encoded_X, const double* copy_W, bint earlier, double* related_R
    ) noexcept nogil:
        """What the labels of a copy say of a row; with `earlier`, those of earlier rows alone."""
        cdef int o
        for o in range(self.own):
            related_R[o] = self.relative(o, encoded_X[COLUMNS + o], copy_W)
        self.read_labels(encoded_X, copy_W, earlier, related_R + self.own)

    @cython.final
    cdef void read_labels(
        self, const double* encoded_X, const double* copy_W, bint earlier, double* input_I
    ) noexcept nogil:
        """The inputs from labels, in the order of `Network.label_inputs`."""
        cdef int k, life, label, e, same
        cdef int of_class = OF_CLASS + ALIKE_HALF_LIVES * self.compared
        cdef double age, share, hours, labels, last = 0.0
        cdef double[HALF_LIVES] weight_L
        cdef double[2] newest
        cdef double* class_I
        cdef double* both_3 = input_I + 2 * of_class
        cdef const double* code_E = encoded_X + self.compared_at
        cdef const double* label_E
        memset(input_I, 0, self.inputs * sizeof(double))
        newest[0] = newest[1] = NEVER_DAYS
        weight_L[0] = 1.0
        if self.is_past:
            for k in range(LABELS):
                last = max(last, fabs(copy_W[self.labels_at + k]))
        for k in range(LABELS):
            # A place left over is 0; a fraud's is below.
            if copy_W[self.labels_at + k] == 0.0:
                continue
            label = copy_W[self.labels_at + k] < 0.0
            # Both a day later, so that a labelled row is no later than itself to the bit.
            age = (encoded_X[self.day_at] + 1.0) - fabs(copy_W[self.labels_at + k])
            if self.is_past:
                # From the label to the newest one, and from there on.
                age = max(encoded_X[self.day_at] + 1.0 - last, 0.0)
                age += last - fabs(copy_W[self.labels_at + k])
            elif earlier and age <= 0.0:
                continue
            age = max(age, 0.0)
            newest[label] = min(newest[label], age)
            class_I = input_I + label * of_class
            for life in range(HALF_LIVES):
                if life:
                    weight_L[life] = exp2(-age / half_lives[life])
                class_I[life] += weight_L[life]
            label_E = copy_W + self.codes_at + k * self.compared
            same = 0
            for e in range(self.compared):
                if code_E[e] != label_E[e] or code_E[e] == MISSING:
                    continue
                same += 1
                for life in range(ALIKE_HALF_LIVES):
                    class_I[OF_CLASS + life * self.compared + e] += weight_L[alike_lives[life]]
            if same:
                share = <double> same / self.compared
                class_I[LIKEST] = max(class_I[LIKEST], share)
                class_I[HALF_LIVES + 4] += share * share * share
        labels = input_I[0] + input_I[of_class]
        if labels == 0.0:
            return
        both_3[1] = (input_I[of_class] + 0.3) / (labels + 1.0)
        both_3[2] = log((input_I[of_class] + 0.5) / (input_I[0] + 0.5))
        for label in range(2):
            class_I = input_I + label * of_class
            if class_I[0] == 0.0:
                continue
            hours = 24.0 * newest[label]
            class_I[HALF_LIVES] = 1.0
            class_I[HALF_LIVES + 1] = log1p(hours) / 10.0
            class_I[HALF_LIVES + 2] = 1.0 / (1.0 + hours)
            class_I[HALF_LIVES + 4] = log1p(class_I[HALF_LIVES + 4])
            for life in range(HALF_LIVES):
                class_I[life] = log1p(class_I[life])
            for e in range(OF_CLASS, of_class):
                class_I[e] = log1p(class_I[e])
        if input_I[0] > 0.0 and input_I[of_class] > 0.0:
            both_3[0] = input_I[of_class + HALF_LIVES + 1] - input_I[HALF_LIVES + 1]

    @cython.final
    cdef void widen(
        self, const double* encoded_X, const double* input_I, double* wide_M
    ) noexcept nogil:
        """The log-odds that are added to the members', with what labels say directly."""
        memcpy(wide_M, encoded_X + UNITS, MEMBERS * sizeof(double))
        add_rows(wide_M, MEMBERS, self.wide_relation_IM, self.inputs, self.order, input_I)

    @cython.final
    cdef void first_units(
        self, const double* static_U, int relations, const double* related_R, double* units_U
    ) noexcept nogil:
        cdef int u
        memcpy(units_U, static_U, UNITS * sizeof(double))
        add_rows(units_U, UNITS, self.relation_RU, relations, self.order, related_R)
        for u in range(UNITS):
            units_U[u] = max(units_U[u], 0.0)

    @cython.final
    cdef void add_inner(self, const double* units_U, Head head, double* summed_U) noexcept nogil:
        """What the units are with what the inner layer adds to them."""
        cdef int m, h, u, active
        cdef int[HIDDEN] row
        cdef double[HIDDEN] weight
        memcpy(summed_U, head.bias_MH, UNITS * sizeof(double))
        if head.weight_MHH != NULL:
            for u in range(UNITS):
                summed_U[u] += product(
                    HIDDEN, head.weight_MHH + u * HIDDEN, units_U + u // HIDDEN * HIDDEN
                )
        else:
            for m in range(MEMBERS):
                active = 0
                for h in range(HIDDEN):
                    row[active], weight[active] = h, units_U[m * HIDDEN + h]
                    active += weight[active] > 0.0
                add_rows(
                    summed_U + m * HIDDEN,
                    HIDDEN,
                    self.from_MHH + m * HIDDEN * HIDDEN,
                    active,
                    row,
                    weight,
                )
        for u in range(UNITS):
            summed_U[u] = max(summed_U[u], 0.0) + units_U[u]

    @cython.final
    cdef double logit(self, const double* units_U, Head head, const double* wide_M) noexcept nogil:
        """The members' mean log-odds of a row by its units."""
        cdef double[UNITS] summed_U
        self.add_inner(units_U, head, summed_U)
        return self.logit_of(summed_U, head, wide_M)

    @cython.final
    cdef double logit_of(
        self, const double* summed_U, Head head, const double* wide_M
    ) noexcept nogil:
        """The same by its units with what the inner layer adds to them."""
        cdef int m
        cdef double total = 0.0
        for m in range(MEMBERS):
            total += head.out_bias_M[m] + wide_M[m]
        total += product(UNITS, head.out_weight_MH, summed_U)
        return total / MEMBERS

    @cython.final
    cdef double served(
        self, const double* encoded_X, const double* copy_W, double* related_R
    ) noexcept nogil:
        """The base's log-odds, moved towards the copy's as far as it is followed."""
        cdef double[UNITS] units_U
        cdef double[MEMBERS] wide_M
        cdef double base = encoded_X[self.base_at], weight = copy_W[self.weight_at], logit, move
        if weight == 0.0:
            return base
        self.relate(encoded_X, copy_W, False, related_R)
        self.first_units(encoded_X, self.relations, related_R, units_U)
        self.widen(encoded_X, related_R + self.own, wide_M)
        logit = self.logit(units_U, self.head_of(copy_W), wide_M)
        move = self.answered(logit, encoded_X, related_R + self.own) - base
        return base + weight * self.reached(move, encoded_X, related_R + self.own)

    @cython.final
    cdef int child(
        self, int tree, int split, const double* quantity_Z, const double* input_I
    ) noexcept nogil:
        """Where a row goes from a split: to the right if its column is above the edge.

        An account without labels has NULL for inputs.
        """
        cdef int column = self.column_JS[tree * SPLITS + split]
        cdef double value = 0.0
        if column < self.quantities:
            value = quantity_Z[column]
        elif input_I != NULL:
            value = input_I[column - self.quantities]
        return 2 * split + 1 + (value > self.edge_JS[tree * SPLITS + split])

    @cython.final
    cdef double answered(
        self, double logit, const double* encoded_X, const double* input_I
    ) noexcept nogil:
        """The members' mean log-odds, drawn halfway to what trees say, where there are any."""
        cdef int tree, turn, place
        cdef double total = 0.0
        if not self.trees:
            return logit
        for tree in range(self.trees):
            place = 0
            for turn in range(TREE_DEPTH):
                place = self.child(tree, place, encoded_X + self.quantity_at, input_I)
            total += self.value_JV[tree * NODES + place]
        return (logit + total) / 2.0

    @cython.final
    cdef double unlike_frauds(self, const double* input_I) noexcept nogil:
        """How unlike a row is to the most alike fraud, from 0 to 1; 0 where there is none."""
        cdef const double* fraud_I = input_I + OF_CLASS + ALIKE_HALF_LIVES * self.compared
        cdef double fraud = min(fraud_I[LIKEST] / ALIKE, 1.0)
        return 1.0 - fraud * fraud if fraud_I[0] > 0.0 else 0.0

    @cython.final
    cdef double pardoned(self, const double* encoded_X, const double* input_I) noexcept nogil:
        """What refusals add to the base's log-odds that is not held against a row."""
        return self.pardon * (self.unlike_frauds(input_I) * encoded_X[self.refused_at])

    @cython.final
    cdef double reached(
        self, double move, const double* encoded_X, const double* input_I
    ) noexcept nogil:
        """What a row gets of a copy's move, within bounds, by its inputs from labels."""
        cdef const double* fraud_I = input_I + OF_CLASS + ALIKE_HALF_LIVES * self.compared
        cdef double least = 0.0 if move > 0.0 else self.reach
        cdef double fraud, legitimate, plain, by_habit
        if move > 0.0:
            plain = by_habit = 1.0
            if encoded_X[self.familiar_at] > 0.0:
                fraud = min(fraud_I[LIKEST] / ALIKE, 1.0)
                by_habit = fraud * fraud
        else:
            legitimate = min(input_I[LIKEST] / ALIKE, 1.0)
            legitimate *= legitimate
            plain = max(self.unlike_frauds(input_I), legitimate)
            by_habit = plain if encoded_X[self.familiar_at] > 0.0 else NEW_CALMED * legitimate
        plain = (1.0 - self.habit) * plain + self.habit * by_habit
        move = bounded(move) * (least + (1.0 - least) * plain)
        return bounded(move - self.pardoned(encoded_X, input_I))
