# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The adaptation of one account at a time: what app/learner/differentiable/adaptation.py defines.

Axes: K labels, S inner steps, A numbers of a head that are adapted; the others as in network.pyx.
"""

from libc.math cimport exp, fabs, log1p, sqrt
from libc.string cimport memcpy, memset

from app.learner.kernels.network cimport (
    COLUMNS,
    HIDDEN,
    LABELS,
    MEMBERS,
    UNITS,
    Head,
    Network,
    add_rows,
    bounded,
    product,
)

import numpy as np

from app.learner import network as definition
from app.learner.network import INNER_STEPS as INNER_STEPS_
from app.learner.adaptation import LEAST_WEIGHT as LEAST_WEIGHT_
from app.learner.adaptation import PARTS as PARTS_
from app.learner.network import PRIOR_LABELS as PRIOR_LABELS_

cdef double LEAST_WEIGHT = LEAST_WEIGHT_
cdef double PRIOR_LABELS = PRIOR_LABELS_
cdef int INNER_STEPS = INNER_STEPS_
cdef int PARTS = PARTS_
# In the place of the part that a copy leaves out, of the copy that sees all labels.
cdef int NO_PART = -1


cdef double sigmoid(double logit) noexcept nogil:
    cdef double odds = exp(-fabs(logit))
    return (1.0 if logit >= 0.0 else odds) / (1.0 + odds)


cdef double cross_entropy(double logit, bint is_fraud) noexcept nogil:
    return max(logit, 0.0) - logit * is_fraud + log1p(exp(-fabs(logit)))


cdef class Learner(Network):
    """The network and how it learns an account, as the learner that it is made of."""

    cdef double trust, heed, prior
    # How many numbers of a head are adapted.
    cdef int adapted
    cdef double base_size
    # [S, A], and [A] of the base.
    cdef double[:, ::1] sizes_SA
    cdef double[::1] base_A

    def __init__(self, kinds, algorithm, weights, is_past=False):
        Network.__init__(self, kinds, algorithm, weights, is_past)
        self.trust, self.heed = float(weights["gate.trust"]), float(weights["gate.heed"])
        self.prior = exp(float(weights["log_prior"]))
        arrays = {name: np.asarray(array, np.double) for name, array in weights.items()}
        layers = definition.adapted_layers(algorithm)
        base = [arrays[f"network.{definition.HEAD[layer]}"] for layer in layers]
        sizes = [
            np.broadcast_to(np.exp(arrays[f"log_step_sizes.{layer}"]), (INNER_STEPS, *one.shape))
            for layer, one in zip(layers, base, strict=True)
        ]
        self.sizes_SA = np.concatenate([one.reshape(INNER_STEPS, -1) for one in sizes], axis=1)
        self.base_A = np.concatenate([one.ravel() for one in base])
        self.adapted = len(self.base_A)
        self.base_size = float(sum(np.square(one).sum() for one in base))

    def unadapted(self):
        """What an account without labels is served with: [1, W]."""
        copy_1W = np.empty((1, self.copy_size))
        cdef double[:, ::1] copy = copy_1W
        self.begin(NULL, 0, NULL, NO_PART, &copy[0, 0])
        copy[0, self.weight_at] = 0.0
        return copy_1W

    def learn(
        self,
        const float[:, ::1] features_KF,
        const double[::1] day_K,
        const unsigned char[::1] is_fraud_K,
        double[::1] copy_W,
    ):
        """Write the copy of an account's labels, and tell of it.

        Told are its evidence, the summed cross-entropies of the labels by the base and as served,
        and its drift. Raises ValueError for labels or a copy of another size.
        """
        cdef int labels = len(day_K), k, part
        cdef double evidence = 0.0, before = 0.0, after = 0.0, base, move
        # Of one copy at a time: units that the inner layer reads, and with what it adds to them.
        cdef double[:, ::1] encoded_KX = self.encode(features_KF, day_K)
        cdef double[:, ::1] units_KU = np.empty((labels, UNITS))
        cdef double[:, ::1] summed_KU = np.empty((labels, UNITS))
        cdef double[:, ::1] wide_KM = np.empty((labels, MEMBERS))
        cdef double[::1] other_W = np.empty(self.copy_size)
        cdef double[::1] gradient_A = np.empty(self.adapted)
        # Of each label what the labels before it say.
        cdef double[:, ::1] related_KR = np.empty((labels, self.relations))
        cdef int base_at = self.base_at
        if is_fraud_K.shape[0] != labels or copy_W.shape[0] != self.copy_size or labels > LABELS:
            raise ValueError("every row has one label, and the copy is of this network")
        if not labels:
            self.begin(NULL, 0, NULL, NO_PART, &copy_W[0])
            copy_W[self.weight_at] = 0.0
            return 0.0, 0.0, 0.0, 0.0
        with nogil:
            for part in range(PARTS):
                self.make(
                    &encoded_KX[0, 0], labels, &is_fraud_K[0], part, &other_W[0],
                    &units_KU[0, 0], &summed_KU[0, 0], &wide_KM[0, 0], &gradient_A[0],
                    &related_KR[0, 0],
                )
                for k in range(labels):
                    if k % PARTS != part:
                        continue
                    base = encoded_KX[k, base_at]
                    move = self.move(
                        &other_W[0], &encoded_KX[k, 0], &related_KR[k, self.own],
                        &wide_KM[k, 0], &units_KU[k, 0], &summed_KU[k, 0],
                    )
                    evidence += cross_entropy(base, is_fraud_K[k])
                    evidence -= cross_entropy(base + bounded(move), is_fraud_K[k])
            self.make(
                &encoded_KX[0, 0], labels, &is_fraud_K[0], NO_PART, &copy_W[0],
                &units_KU[0, 0], &summed_KU[0, 0], &wide_KM[0, 0], &gradient_A[0], &related_KR[0, 0],
            )
            copy_W[self.weight_at] = self.followed(evidence)
            for k in range(labels):
                base = encoded_KX[k, base_at]
                move = self.move(
                    &copy_W[0], &encoded_KX[k, 0], &related_KR[k, self.own],
                    &wide_KM[k, 0], &units_KU[k, 0], &summed_KU[k, 0],
                )
                move = self.reached(move, &encoded_KX[k, 0], &related_KR[k, self.own])
                before += cross_entropy(base, is_fraud_K[k])
                after += cross_entropy(base + copy_W[self.weight_at] * move, is_fraud_K[k])
        return evidence, before, after, self.drift(&copy_W[0])

    cdef double followed(self, double evidence) noexcept nogil:
        """What the gate says of the evidence."""
        cdef double weight = sigmoid(self.trust + self.heed * evidence)
        return weight if weight >= LEAST_WEIGHT else 0.0

    cdef double drift(self, const double* copy_W) noexcept nogil:
        cdef int a
        cdef double moved = 0.0, move
        for a in range(self.adapted):
            move = copy_W[self.head_at + a] - self.base_A[a]
            moved += move * move
        return sqrt(moved / self.base_size)

    cdef void make(
        self, const double* encoded_KX, int labels, const unsigned char* is_fraud_K, int part,
        double* copy_W, double* units_KU, double* summed_KU, double* wide_KM, double* gradient_A,
        double* related_KR,
    ) noexcept nogil:
        """A copy of all labels but those of a part, and what it makes of all of them.

        Each is read in the light of the labels before it.
        """
        cdef int k, step, a, seen
        cdef const double* encoded_X
        cdef double* related_R
        cdef double* head_A = copy_W + self.head_at
        seen = self.begin(encoded_KX, labels, is_fraud_K, part, copy_W)
        for k in range(labels):
            encoded_X = encoded_KX + k * self.encoded_size
            related_R = related_KR + k * self.relations
            self.relate(encoded_X, copy_W, True, related_R)
            self.first_units(encoded_X, self.relations, related_R, units_KU + k * UNITS)
            self.widen(encoded_X, related_R + self.own, wide_KM + k * MEMBERS)
            if not self.has_own_inner:
                self.add_inner(units_KU + k * UNITS, self.base(), summed_KU + k * UNITS)
        if not seen:
            return
        for step in range(INNER_STEPS):
            memset(gradient_A, 0, self.adapted * sizeof(double))
            for k in range(labels):
                if k % PARTS != part:
                    self.add_gradient(
                        self.head_of(copy_W), wide_KM + k * MEMBERS,
                        is_fraud_K[k], 1.0 / (seen + self.prior),
                        units_KU + k * UNITS, summed_KU + k * UNITS, gradient_A,
                    )
            for a in range(self.adapted):
                head_A[a] -= self.sizes_SA[step, a] * gradient_A[a]

    cdef int begin(
        self, const double* encoded_KX, int labels, const unsigned char* is_fraud_K, int part,
        double* copy_W,
    ) noexcept nogil:
        """Write the context of the labels that are seen, and the base's head: how many they are."""
        cdef int k, o, seen = 0
        cdef double weight = PRIOR_LABELS, apart, day
        cdef const double* own_O
        cdef double* mean_O = copy_W
        cdef double* spread_O = copy_W + self.own
        memset(copy_W, 0, self.head_at * sizeof(double))
        for k in range(labels):
            own_O = encoded_KX + k * self.encoded_size
            memcpy(
                copy_W + self.codes_at + k * self.compared, own_O + self.compared_at,
                self.compared * sizeof(double),
            )
        for k in range(labels):
            if k % PARTS == part:
                continue
            own_O = encoded_KX + k * self.encoded_size + COLUMNS
            seen += 1
            day = own_O[self.day_at - COLUMNS] + 1.0
            copy_W[self.labels_at + k] = -day if is_fraud_K[k] else day
            if not is_fraud_K[k]:
                weight += 1.0
                for o in range(self.own):
                    mean_O[o] += own_O[o]
        for o in range(self.own):
            mean_O[o] /= weight
            spread_O[o] = PRIOR_LABELS
        for k in range(labels):
            if k % PARTS == part:
                continue
            own_O = encoded_KX + k * self.encoded_size + COLUMNS
            if not is_fraud_K[k]:
                for o in range(self.own):
                    apart = own_O[o] - mean_O[o]
                    spread_O[o] += apart * apart
        for o in range(self.own):
            spread_O[o] = sqrt(spread_O[o] / weight)
        memcpy(copy_W + self.head_at, &self.base_A[0], self.adapted * sizeof(double))
        return seen

    cdef double move(
        self, const double* copy_W, const double* encoded_X, const double* input_I,
        const double* wide_M, const double* units_U, const double* summed_U,
    ) noexcept nogil:
        """How far a copy goes from the base's log-odds on a row that it was made of, unbounded."""
        cdef Head head = self.head_of(copy_W)
        cdef double logit
        if self.has_own_inner:
            logit = self.logit(units_U, head, wide_M)
        else:
            logit = self.logit_of(summed_U, head, wide_M)
        return self.answered(logit, encoded_X, input_I) - encoded_X[self.base_at]

    cdef void add_gradient(
        self, Head head, const double* wide_M, bint is_fraud, double weight,
        const double* units_U, double* summed_U, double* gradient_A,
    ) noexcept nogil:
        """Add a row's gradient, by each number of the head that is adapted, as `Head.gradient`."""
        cdef int m, u, order = 0
        cdef double slope, inner_slope
        cdef double* out_weight_MH = gradient_A + self.adapted - MEMBERS - UNITS
        cdef double* out_bias_M = gradient_A + self.adapted - MEMBERS
        if self.has_own_inner:
            self.add_inner(units_U, head, summed_U)
        for m in range(MEMBERS):
            u = m * HIDDEN
            slope = product(HIDDEN, head.out_weight_MH + u, summed_U + u)
            slope = sigmoid(slope + head.out_bias_M[m] + wide_M[m]) - is_fraud
            slope *= weight
            out_bias_M[m] += slope
            add_rows(out_weight_MH + u, HIDDEN, summed_U + u, 1, &order, &slope)
            if not self.has_own_inner:
                continue
            for u in range(m * HIDDEN, (m + 1) * HIDDEN):
                # What the inner layer added is above 0 where its unit is on.
                if summed_U[u] > units_U[u]:
                    inner_slope = slope * head.out_weight_MH[u]
                    gradient_A[UNITS * HIDDEN + u] += inner_slope
                    add_rows(
                        gradient_A + u * HIDDEN, HIDDEN, units_U + m * HIDDEN, 1, &order,
                        &inner_slope,
                    )
