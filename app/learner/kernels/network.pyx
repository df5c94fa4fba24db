# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The network's pass over rows, each by a copy of its own: what app/learner/differentiable/network.py defines.

A row is summed by itself, in an order that nothing else has a say in: its log-odds are the same to
the bit whoever shares its batch.

Axes: N rows, F features, Z quantities (features that are no codes), O of them the transaction's
own, R relations to labels (O, then label counts), C codes, V known values, T bins, M members,
H hidden units of a member, U = M * H; E of an encoded row (units, log-odds by member, own, day,
base's log-odds), W of a copy (`Learner.kept`, flattened), B copies.
"""

cimport cython
from libc.math cimport exp2, log1p
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

import numpy as np

from app.learner import network as definition
from app.learner.adaptation import LARGEST_MOVE as LARGEST_MOVE_
from app.learner.network import CLIP as CLIP_
from app.learner.network import LABEL_HALF_LIVES_DAYS
from app.learner.network import LEAST_WIDTH as LEAST_WIDTH_

NO_CODE = -2.0
cdef double CLIP = CLIP_
cdef double LARGEST_MOVE = LARGEST_MOVE_
cdef double LEAST_WIDTH = LEAST_WIDTH_
cdef double[HALF_LIVES] half_lives
for place, days in enumerate(LABEL_HALF_LIVES_DAYS):
    half_lives[place] = days
assert (MEMBERS, HIDDEN, BINS) == (definition.MEMBERS, definition.HIDDEN, definition.BINS)
assert (UNITS, COLUMNS) == (MEMBERS * HIDDEN, MEMBERS * (HIDDEN + 1))
assert (KNOWN_VALUES, COUNTS) == (definition.KNOWN_VALUES, definition.COUNTS)


cdef double bounded(double move) noexcept nogil:
    return within(move, -LARGEST_MOVE, LARGEST_MOVE)


cdef double decay(double age, int half_life) noexcept nogil:
    return exp2(-max(age, 0.0) / half_lives[half_life])


def knots_of(network):
    """What each quantity gives to units and log-odds at each edge: [Z, T + 1, U + M]."""
    rises = np.concatenate([network["rises_ZTU"], network["wide_rises_ZTM"]], axis=-1)
    return np.pad(rises.cumsum(1), ((0, 0), (1, 0), (0, 0)))


cdef class Network:
    """A learner's network, its weights side by side as the loops below read them.

    Made of the features' kinds, the algorithm, and arrays by their names in a checkpoint.
    """

    def __init__(self, kinds, algorithm, weights):
        columns = definition.Columns.of(kinds)
        network = {
            name.removeprefix("network."): np.asarray(array, np.double)
            for name, array in weights.items()
            if name.startswith("network.")
        }
        spread_Z, inner_MHH = network["encoder.spread_Z"], network["inner_weight_MHH"]
        self._arrays = []
        self.features = len(kinds)
        self.quantities, self.codes, self.own = map(len, columns)
        self.relations = self.own + COUNTS
        self.encoded_size = COLUMNS + self.own + 2
        self.has_own_inner = algorithm != "anil"
        self.newest_at = 2 * self.own
        self.counts_at = self.newest_at + 1
        self.head_at = self.counts_at + COUNTS
        self.weight_at = self.head_at + UNITS + MEMBERS
        if self.has_own_inner:
            self.weight_at += UNITS * (HIDDEN + 1)
        self.copy_size = self.weight_at + 1

        # A payment as usual as any: the population's means, and the codes of no value at all, not
        # even of the places that a short vocabulary leaves empty.
        self.population_1F = np.full((1, self.features), NO_CODE, np.single)
        self.population_1F[0, columns.quantities] = network["encoder.mean_Z"]
        self.quantity_Z = <const int*> self._kept(columns.quantities, np.intc)
        self.code_C = <const int*> self._kept(columns.codes, np.intc)
        self.own_O = <const int*> self._kept(columns.own, np.intc)
        self.order = <const int*> self._kept(np.arange(max(self.quantities, UNITS)), np.intc)
        beyond_Z = np.zeros(self.quantities)
        # What was always the same in training has no spread to count by.
        range_Z = np.ptp(network["encoder.edges_ZT"], axis=1)
        surprising = [z for z in definition.surprising(kinds) if range_Z[z] > LEAST_WIDTH]
        beyond_Z[surprising] = definition.BEYOND / spread_Z[surprising]
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
        self.from_MHH = <const double*> self._kept(inner_MHH.swapaxes(1, 2))
        self.inner_MHH = <const double*> self._kept(inner_MHH)
        self.inner_bias_MH = <const double*> self._kept(network["inner_bias_MH"])
        self.out_weight_MH = <const double*> self._kept(network["out_weight_MH"])
        self.out_bias_M = <const double*> self._kept(network["out_bias_M"])

    cdef size_t _kept(self, values, dtype=np.double) except? 0:
        """Where the values stand, for as long as this object does."""
        array = np.array(values, dtype, order="C")
        self._arrays.append(array)
        return array.ctypes.data

    def encode(self, const float[:, ::1] features_NF, const double[::1] day_N):
        """What rows are whatever the labels, and what the base gives them: [N, E].

        Raises ValueError for rows of another width, or not as many days.
        """
        cdef Py_ssize_t n, rows = features_NF.shape[0]
        if features_NF.shape[1] != self.features or day_N.shape[0] != rows:
            raise ValueError("these are not rows of this network")
        encoded = np.empty((rows, self.encoded_size))
        cdef double[:, ::1] encoded_NE = encoded
        cdef int* place_Z = <int*> malloc(self.quantities * sizeof(int))
        cdef double* share_Z = <double*> malloc(self.quantities * sizeof(double))
        try:
            if place_Z == NULL or share_Z == NULL:
                raise MemoryError
            with nogil:
                for n in range(rows):
                    self.encode_row(
                        &features_NF[n, 0], day_N[n], &encoded_NE[n, 0], place_Z, share_Z
                    )
        finally:
            free(place_Z)
            free(share_Z)
        return encoded

    def logits(
        self,
        const double[:, ::1] encoded_NE,
        const double[:, ::1] copies_BW,
        const Py_ssize_t[::1] copy_N,
    ):
        """The log-odds that are served: row n's by the copy at `copy_N[n]`: [N].

        Raises ValueError for rows or copies of another network, and IndexError for no copy.
        """
        cdef Py_ssize_t n, rows = encoded_NE.shape[0]
        if (encoded_NE.shape[1], copies_BW.shape[1]) != (self.encoded_size, self.copy_size):
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
                    logit_N[n] = self.served(&encoded_NE[n, 0], &copies_BW[copy_N[n], 0], related_R)
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
        return within((value - self.mean_Z[z]) * self.per_spread_Z[z], -CLIP, CLIP)

    @cython.final
    cdef void encode_row(
        self, const float* features_F, double day, double* encoded_E, int* place_Z, double* share_Z
    ) noexcept nogil:
        cdef int z, c, bin, place
        cdef float value
        cdef double one = 1.0, beyond = 0.0
        cdef double* own_O = encoded_E + COLUMNS
        cdef double[UNITS] units_U
        memcpy(encoded_E, self.bias_U, UNITS * sizeof(double))
        for z in range(self.quantities):
            value = features_F[self.quantity_Z[z]]
            bin = self.bin_of(z, value)
            place_Z[z] = z * (BINS + 1) + bin
            share_Z[z] = self.share_of(z, bin, value)
            if share_Z[z] > 1.0:
                beyond += self.beyond(z, value)
        for z in range(MEMBERS):
            encoded_E[UNITS + z] = beyond
        for z in range(self.quantities):
            share_Z[z] = within(share_Z[z], 0.0, 1.0)
        add_between(encoded_E, self.knots_ZTU, self.quantities, place_Z, share_Z)
        for c in range(self.codes):
            place = c * (KNOWN_VALUES + 1) + self.value_of(c, features_F[self.code_C[c]])
            add_rows(encoded_E, UNITS, self.values_VU, 1, &place, &one)
        # The shares are done with.
        for z in range(self.quantities):
            share_Z[z] = self.scaled(z, features_F[self.quantity_Z[z]])
        add_rows(encoded_E, UNITS, self.scaled_ZU, self.quantities, self.order, share_Z)
        for z in range(self.own):
            own_O[z] = share_Z[self.own_O[z]]
        own_O[self.own] = day
        self.first_units(encoded_E, self.own, own_O, units_U)
        own_O[self.own + 1] = self.logit(units_U, self.base(), encoded_E + UNITS)

    @cython.final
    cdef double relative(self, int o, double own, const double* copy_W) noexcept nogil:
        """An own quantity, relative to what the labels of a copy say is usual."""
        return within((own - copy_W[o]) / copy_W[self.own + o], -CLIP, CLIP)

    @cython.final
    cdef void relate(
        self, const double* own_O, double day, const double* copy_W, double* related_R
    ) noexcept nogil:
        """What the labels of a copy say of a row."""
        cdef int o, label, life
        cdef double factor
        cdef double* log_J = related_R + self.own
        cdef const double* count_J = copy_W + self.counts_at
        for o in range(self.own):
            related_R[o] = self.relative(o, own_O[o], copy_W)
        for life in range(HALF_LIVES):
            factor = decay(day - copy_W[self.newest_at], life)
            for label in range(2):
                log_J[2 * life + label] = log1p(count_J[2 * life + label] * factor)

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
        self, const double* encoded_E, const double* copy_W, double* related_R
    ) noexcept nogil:
        """The base's log-odds, moved towards the copy's as far as it is followed."""
        cdef double[UNITS] units_U
        cdef const double* own_O = encoded_E + COLUMNS
        cdef double base = own_O[self.own + 1], weight = copy_W[self.weight_at]
        if weight == 0.0:
            return base
        self.relate(own_O, own_O[self.own], copy_W, related_R)
        self.first_units(encoded_E, self.relations, related_R, units_U)
        return base + weight * bounded(
            self.logit(units_U, self.head_of(copy_W), encoded_E + UNITS) - base
        )
