# cython: language_level=3
"""The network's declarations, for the kernels that walk or adapt it."""

cimport cython

cdef extern from "vectors.h" nogil:
    # Of the table of knots: units, and the log-odds that are added without their consent.
    enum:
        COLUMNS
    double within(double, double, double)
    int edges_below(const float*, int, float)
    void add_rows(double*, int, const double*, int, const int*, const double*)
    void add_between(double*, const float*, int, const int*, const double*)
    void add_knots(double*, const float*, int, const double*)
    double product(int, const double*, const double*)

# Those of app/learner/differentiable/network.py, known where loops are compiled; the module checks that they agree.
cdef enum:
    MEMBERS = 4
    HIDDEN = 32
    UNITS = 128
    BINS = 40
    KNOWN_VALUES = 32
    HALF_LIVES = 5
    ALIKE_HALF_LIVES = 2
    OF_CLASS = 10
    OF_BOTH = 3
    LIKEST = 8
    # Places for labels in a copy.
    LABELS = 32
    TREE_DEPTH = 4
    SPLITS = 15
    NODES = 31

cdef struct Head:
    # NULL where the inner layer is the base's: [M, H, H] by output, as checkpoints have it.
    const double* weight_MHH
    const double* bias_MH
    const double* out_weight_MH
    const double* out_bias_M

cdef class Network:
    cdef readonly int features, quantities, codes, own, compared, inputs, relations
    cdef readonly int encoded_size, copy_size
    cdef readonly object population_1F
    # Where parts of an encoded row begin, behind the transaction's own.
    cdef int compared_at, day_at, base_at, familiar_at, refused_at, quantity_at
    # Where a copy's parts begin; those of the context begin at 0.
    cdef int codes_at, labels_at, head_at, weight_at
    # Whether labels are read as they were before they were read payment by payment.
    cdef bint is_past
    cdef bint has_own_inner
    # What of a copy's move down a row gets of which its labels say nothing, how much it counts
    # what the account has used before, and how far refusals are not held against that.
    cdef double reach, habit, pardon
    cdef list _arrays
    cdef const int* quantity_Z
    cdef const int* code_C
    cdef const int* own_O
    cdef const int* compared_E
    # How many kinds of entities there are, and of each where its identity stands, and whether it
    # was used before.
    cdef int entities
    cdef const int* used_G2
    # How many counts of refusals there are, and where they stand among the quantities.
    cdef int refusals
    cdef const int* refused_Q
    cdef const int* order
    cdef const double* beyond_Z
    cdef const double* mean_Z
    cdef const double* per_spread_Z
    cdef const float* edges_ZT
    cdef const double* known_CV
    cdef const float* knots_ZTU
    cdef const double* values_VU
    cdef const double* scaled_ZU
    cdef const double* bias_U
    cdef const double* relation_RU
    # What labels say, straight to the members' log-odds.
    cdef const double* wide_relation_IM
    # The base's inner layer by input: what one unit of the first layer gives to all of the next.
    cdef const double* from_MHH
    cdef const double* inner_MHH
    cdef const double* inner_bias_MH
    cdef const double* out_weight_MH
    cdef const double* out_bias_M
    # How many trees stand beside the network, the column that each of their splits reads, the edge
    # from which on a row turns right, and what their places stand for.
    cdef readonly int trees
    cdef const int* column_JS
    cdef const double* edge_JS
    cdef const double* value_JV

    cdef size_t _kept(self, values, dtype=*) except? 0
    @cython.final
    cdef Head base(self) noexcept nogil
    @cython.final
    cdef Head head_of(self, const double* copy_W) noexcept nogil
    @cython.final
    cdef int bin_of(self, int z, float value) noexcept nogil
    @cython.final
    cdef double share_of(self, int z, int bin, float value) noexcept nogil
    @cython.final
    cdef double beyond(self, int z, double value) noexcept nogil
    @cython.final
    cdef int value_of(self, int c, double code) noexcept nogil
    @cython.final
    cdef double scaled(self, int z, double value) noexcept nogil
    @cython.final
    cdef double familiar(self, const float* features_F) noexcept nogil
    @cython.final
    cdef double refused(self, double* encoded_X, const float* features_F) noexcept nogil
    @cython.final
    cdef void add_quantity(
        self, double* sum_U, int z, float value, double times
    ) noexcept nogil
    @cython.final
    cdef void encode_row(
        self, const float* features_F, double day, double* encoded_X, int* place_Z, double* share_Z
    ) noexcept nogil
    @cython.final
    cdef double relative(self, int o, double own, const double* copy_W) noexcept nogil
    @cython.final
    cdef void relate(
        self, const double* encoded_X, const double* copy_W, bint earlier, double* related_R
    ) noexcept nogil
    @cython.final
    cdef void read_labels(
        self, const double* encoded_X, const double* copy_W, bint earlier, double* input_I
    ) noexcept nogil
    @cython.final
    cdef void widen(
        self, const double* encoded_X, const double* input_I, double* wide_M
    ) noexcept nogil
    @cython.final
    cdef void first_units(
        self, const double* static_U, int relations, const double* related_R, double* units_U
    ) noexcept nogil
    @cython.final
    cdef void add_inner(self, const double* units_U, Head head, double* summed_U) noexcept nogil
    @cython.final
    cdef double logit(self, const double* units_U, Head head, const double* wide_M) noexcept nogil
    @cython.final
    cdef double logit_of(
        self, const double* summed_U, Head head, const double* wide_M
    ) noexcept nogil
    @cython.final
    cdef int child(
        self, int tree, int split, const double* quantity_Z, const double* input_I
    ) noexcept nogil
    @cython.final
    cdef double answered(
        self, double logit, const double* encoded_X, const double* input_I
    ) noexcept nogil
    @cython.final
    cdef double unlike_frauds(self, const double* input_I) noexcept nogil
    @cython.final
    cdef double pardoned(self, const double* encoded_X, const double* input_I) noexcept nogil
    @cython.final
    cdef double reached(
        self, double move, const double* encoded_X, const double* input_I
    ) noexcept nogil
    @cython.final
    cdef double served(
        self, const double* encoded_X, const double* copy_W, double* related_R
    ) noexcept nogil

cdef double bounded(double move) noexcept nogil
