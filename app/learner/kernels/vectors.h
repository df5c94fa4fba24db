/* Sums of rows of tables, where nearly all of a score's arithmetic is, and what leads to them.

   Every sum is by column, in the order of the rows, so that compilers may use vectors of any width
   and the bits stay the same. Nothing here may be contracted to fused operations (the build says
   -ffp-contract=off): then the bits do not depend on the processor either. */

#ifndef QUICKSTUDY_VECTORS_H
#define QUICKSTUDY_VECTORS_H

#include <stddef.h>

/* The binary runs on every processor of its kind, and uses wider vectors where there are some. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GLIBC__) && \
    defined(__GNUC__) && !defined(__clang__)
#define BY_VECTOR_WIDTH __attribute__((target_clones("avx2", "default")))
#else
#define BY_VECTOR_WIDTH
#endif

/* A value, or the nearest of two bounds where it is not between them. */
static inline double within(double value, double least, double most)
{
    value = value > least ? value : least;
    return value < most ? value : most;
}

/* How many of a row of edges are at or below a value: without a jump, for nobody can guess it. */
static inline int edges_below(const float *edge, int edges, float value)
{
    const float *first = edge;
#pragma GCC unroll 8
    while (edges > 1) {
        const int half = edges / 2;
        first += half & -(first[half - 1] <= value);
        edges -= half;
    }
    return (int)(first - edge) + (*first <= value);
}

/* sum[c] += weight[i] * table[row[i], c], over all i, in doubles. */
BY_VECTOR_WIDTH static inline void add_rows(
    double *restrict sum, int columns, const double *restrict table,
    int rows, const int *restrict row, const double *restrict weight)
{
    int i = 0;
    for (; i + 4 <= rows; i += 4) {
        const double *restrict a = table + (ptrdiff_t)row[i] * columns;
        const double *restrict b = table + (ptrdiff_t)row[i + 1] * columns;
        const double *restrict c = table + (ptrdiff_t)row[i + 2] * columns;
        const double *restrict d = table + (ptrdiff_t)row[i + 3] * columns;
        const double on_a = weight[i], on_b = weight[i + 1];
        const double on_c = weight[i + 2], on_d = weight[i + 3];
        for (int k = 0; k < columns; k++)
            sum[k] = (((sum[k] + on_a * a[k]) + on_b * b[k]) + on_c * c[k]) + on_d * d[k];
    }
    for (; i < rows; i++) {
        const double *restrict a = table + (ptrdiff_t)row[i] * columns;
        const double on_a = weight[i];
        for (int k = 0; k < columns; k++)
            sum[k] += on_a * a[k];
    }
}

/* The columns of the table of knots: units, and log-odds by member. */
#define COLUMNS 132

/* sum[c] += (1 - share[i]) * table[knot[i], c] + share[i] * table[knot[i] + 1, c], over all i. */
BY_VECTOR_WIDTH static inline void add_between(
    double *restrict sum, const float *restrict table,
    int knots, const int *restrict knot, const double *restrict share)
{
    for (int i = 0; i < knots; i++) {
        const float *restrict first = table + (ptrdiff_t)knot[i] * COLUMNS;
        const float *restrict last = first + COLUMNS;
        const double on_last = share[i], on_first = 1.0 - on_last;
        for (int k = 0; k < COLUMNS; k++)
            sum[k] += on_first * (double)first[k] + on_last * (double)last[k];
    }
}

/* sum[c] += weight[i] * table[i, c], over all i whose weight is not 0. */
BY_VECTOR_WIDTH static inline void add_knots(
    double *restrict sum, const float *restrict table,
    int knots, const double *restrict weight)
{
    int i = 0;
    while (i < knots) {
        /* Four at a time, so that the sums are read and written once for them. */
        int few = 0;
        const float *restrict row[4];
        double on[4];
        for (; i < knots && few < 4; i++)
            if (weight[i] != 0.0) {
                row[few] = table + (ptrdiff_t)i * COLUMNS;
                on[few++] = weight[i];
            }
        if (few == 4) {
            const float *restrict a = row[0], *restrict b = row[1];
            const float *restrict c = row[2], *restrict d = row[3];
            for (int k = 0; k < COLUMNS; k++)
                sum[k] = (((sum[k] + on[0] * (double)a[k]) + on[1] * (double)b[k])
                    + on[2] * (double)c[k]) + on[3] * (double)d[k];
        } else
            for (int r = 0; r < few; r++)
                for (int k = 0; k < COLUMNS; k++)
                    sum[k] += on[r] * (double)row[r][k];
    }
}

/* The product of two vectors whose length is a multiple of 8, in eight sums. */
BY_VECTOR_WIDTH static inline double product(
    int length, const double *restrict a, const double *restrict b)
{
    double sum[8] = {0.0};
    for (int k = 0; k < length; k += 8)
        for (int lane = 0; lane < 8; lane++)
            sum[lane] += a[k + lane] * b[k + lane];
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

#endif
