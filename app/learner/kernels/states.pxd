# cython: language_level=3, cdivision=True
"""The decayed sums of `app.learner.states` in place.

Forward decay (Cormode, Shkapenyuk, Srivastava, Xu: "Forward Decay", ICDE 2009): with half-life h
the sum of values x_i at times t_i is worth the sum of x_i * 2**(-(t - t_i) / h) at time t. There
is one exponential for each half-life, not for each sum.

Axes: G groups (accounts or entities), H half-lives, D decayed sums. Times are int64 microseconds.
"""

from libc.math cimport exp2
from libc.stdint cimport int64_t


cdef struct States:
    # G groups of one kind, one after another. Sums of one half-life stand together, and end where
    # `end_H` says.
    char* packed_G
    Py_ssize_t groups
    Py_ssize_t sums
    Py_ssize_t half_lives
    const Py_ssize_t* end_H
    const double* half_life_us_H


cdef struct State:
    const States* kind
    int64_t* time_us
    int64_t* previous_us
    double* before_D
    double* at_D


cdef inline Py_ssize_t size_of(Py_ssize_t sums) noexcept nogil:
    """How many bytes a state of so many sums has: two times, and each sum before and at."""
    return 16 + 16 * sums


cdef inline State state_of(const States* kind, Py_ssize_t group) noexcept nogil:
    cdef State state
    cdef char* packed = kind.packed_G + group * size_of(kind.sums)
    state.kind = kind
    state.time_us = <int64_t*> packed
    state.previous_us = state.time_us + 1
    state.before_D = <double*> (packed + 16)
    state.at_D = state.before_D + kind.sums
    return state


cdef inline double weight_of(const States* kind, Py_ssize_t h, int64_t age_us) noexcept nogil:
    return exp2(-<double> age_us / kind.half_life_us_H[h])


cdef inline void advance(const State* state, int64_t now_us) noexcept nogil:
    """Value the sums at a later time, at which nothing has happened yet.

    A state that is there already, or further, stays: what asks is of the same instant, or late.
    """
    cdef const States* kind = state.kind
    cdef double* before_D = state.before_D
    cdef double* at_D = state.at_D
    cdef int64_t age_us = now_us - state.time_us[0]
    cdef Py_ssize_t h, d, first = 0
    cdef double weight
    if age_us <= 0:
        return
    for h in range(kind.half_lives):
        weight = weight_of(kind, h, age_us)
        for d in range(first, kind.end_H[h]):
            before_D[d] = (before_D[d] + at_D[d]) * weight
            at_D[d] = 0.0
        first = kind.end_H[h]
    state.previous_us[0] = state.time_us[0]
    state.time_us[0] = now_us


cdef inline void read(const State* state, int64_t now_us, double* known_D) noexcept nogil:
    """What `advance` would make of the sums before, for somebody who asks and adds nothing."""
    cdef const States* kind = state.kind
    cdef int64_t age_us = now_us - state.time_us[0]
    cdef Py_ssize_t h, d, first = 0
    cdef double weight
    for h in range(kind.half_lives):
        weight = weight_of(kind, h, age_us) if age_us > 0 else 1.0
        for d in range(first, kind.end_H[h]):
            known_D[d] = state.before_D[d]
            if age_us > 0:
                known_D[d] = (known_D[d] + state.at_D[d]) * weight
        first = kind.end_H[h]


cdef inline double* landing(const State* state, int64_t time_us, double* weight_H) noexcept nogil:
    """Where an event is added once the state was advanced to it, and its weight at each half-life.

    One that is late goes to the sums before, as old as it is.
    """
    cdef int64_t age_us = state.time_us[0] - time_us
    cdef Py_ssize_t h
    if age_us == 0:
        for h in range(state.kind.half_lives):
            weight_H[h] = 1.0
        return state.at_D
    for h in range(state.kind.half_lives):
        weight_H[h] = weight_of(state.kind, h, age_us)
    state.previous_us[0] = max(state.previous_us[0], time_us)
    return state.before_D
