/* Matrix products with packed weights, in float32 or with bfloat16 factors and float32 sums.
 *
 * Every value is one sum over k in rising order, whatever the number of rows, so a row does not
 * depend on its neighbours. Weights (n, k) are packed into panels of up to TILE_VECTORS · V columns:
 * panel by panel, k by k, column by column (for bfloat16 products two k at a time). */
#ifndef MERISTEM_PRODUCT_H
#define MERISTEM_PRODUCT_H

#include "vector.h"

enum {
    FLOAT32,
    ROUNDED,  /* bfloat16 values held in float32: where the processor cannot multiply bfloat16 */
    BFLOAT16, /* by the processor's own products of pairs */
};

#if V == 16 && defined(__AVX512BF16__)
#define HAS_BFLOAT16 1
#else
#define HAS_BFLOAT16 0
#endif

/* A tile of sums fills the registers: 24 of 32, or 12 of 16. */
#if V == 8 || (V == 4 && defined(__SSE__))
#define TILE_ROWS 4
#else
#define TILE_ROWS 8
#endif
#define TILE_VECTORS 3
#define ROW_BLOCK 128 /* rows that stay in L2 while all panels pass by */

INLINE int64_t size_of(const int format) { return format == BFLOAT16 ? 2 : 4; }

INLINE vf rounded(vf x) {
    const vi bits = (vi)x;
    const vf near = (vf)((bits + 0x7fff + ((bits >> 16) & 1)) & (vi)((vi){0} - 0x10000));
    const vi number = x == x;
    return (vf)((number & (vi)near) | (~number & bits));
}

/* Writes V values as factors of a product. */
INLINE void emit(void *to, int64_t index, vf x, const int format) {
#if HAS_BFLOAT16
    if (format == BFLOAT16) {
        const __m256bh narrow = _mm512_cvtneps_pbh((__m512)x);
        memcpy((uint16_t *)to + index, &narrow, sizeof narrow);
        return;
    }
#endif
    store((float *)to + index, format == ROUNDED ? rounded(x) : x);
}

INLINE void tile(
    const float *a, int64_t lda, const float *b, int64_t k, float *out, int64_t ldo,
    const int rows, const int vectors
) {
    vf sum[TILE_ROWS][TILE_VECTORS], w[TILE_VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) sum[i][v] = (vf){0};
    for (int64_t at = 0; at < k; at++, b += vectors * V) {
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) w[v] = load(b + v * V);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            const vf x = splat(a[i * lda + at]);
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++) sum[i][v] += x * w[v];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) store(out + i * ldo + v * V, sum[i][v]);
}

#if HAS_BFLOAT16
INLINE void tile_of_pairs(
    const uint16_t *a, int64_t lda, const uint16_t *b, int64_t k, float *out, int64_t ldo,
    const int rows, const int vectors
) {
    __m512 sum[TILE_ROWS][TILE_VECTORS];
    __m512i w[TILE_VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) sum[i][v] = _mm512_setzero_ps();
    for (int64_t at = 0; at < k; at += 2, b += 2 * vectors * V) {
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) w[v] = _mm512_loadu_si512(b + 2 * v * V);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            int32_t pair;
            memcpy(&pair, a + i * lda + at, sizeof pair);
            const __m512i x = _mm512_set1_epi32(pair);
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++)
                sum[i][v] = _mm512_dpbf16_ps(sum[i][v], (__m512bh)x, (__m512bh)w[v]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) _mm512_storeu_ps(out + i * ldo + v * V, sum[i][v]);
}
#endif

INLINE void any_tile(
    const void *a, int64_t lda, const void *b, int64_t k, float *out, int64_t ldo,
    const int rows, const int vectors, const int format
) {
#if HAS_BFLOAT16
    if (format == BFLOAT16) {
        tile_of_pairs(a, lda, b, k, out, ldo, rows, vectors);
        return;
    }
#endif
    (void)format;
    tile(a, lda, b, k, out, ldo, rows, vectors);
}

/* One panel of weights and any number of rows. */
INLINE void rows_by_panel(
    const void *a, int64_t lda, const void *b, int64_t k, float *out, int64_t ldo, int64_t rows,
    const int vectors, const int format
) {
    const char *from = a;
    const int64_t step = lda * size_of(format);
    int64_t i = 0;
    for (; i + TILE_ROWS <= rows; i += TILE_ROWS)
        any_tile(from + i * step, lda, b, k, out + i * ldo, ldo, TILE_ROWS, vectors, format);
    for (; i < rows; i++) any_tile(from + i * step, lda, b, k, out + i * ldo, ldo, 1, vectors, format);
}

/* Columns in vectors → panels of nearly equal width; this one's width in vectors. */
INLINE int panels_of(int64_t n) { return (int)((n / V + TILE_VECTORS - 1) / TILE_VECTORS); }

INLINE int width_of(int64_t n, int panel) {
    const int all = (int)(n / V), panels = panels_of(n);
    return all / panels + (panel < all % panels);
}

/* Each width of panel is compiled for itself, so that its sums are registers. */
INLINE void rows_by_any_panel(
    const void *a, int64_t lda, const void *b, int64_t k, float *out, int64_t ldo, int64_t rows,
    int vectors, const int format
) {
    if (vectors == 3)
        rows_by_panel(a, lda, b, k, out, ldo, rows, 3, format);
    else if (vectors == 2)
        rows_by_panel(a, lda, b, k, out, ldo, rows, 2, format);
    else
        rows_by_panel(a, lda, b, k, out, ldo, rows, 1, format);
}

/* out (rows, n) = a (rows, k) · weightsᵀ; n a multiple of V, k of 2 for BFLOAT16. */
static void product(
    const void *a, int64_t lda, int64_t rows, int64_t k, const void *packed, int64_t n, float *out,
    int64_t ldo, int format
) {
    for (int64_t at = 0; at < rows; at += ROW_BLOCK) {
        const int64_t count = rows - at < ROW_BLOCK ? rows - at : ROW_BLOCK;
        const char *from = (const char *)a + at * lda * size_of(format), *b = packed;
        float *to = out + at * ldo;
        for (int panel = 0; panel < panels_of(n); panel++) {
            const int vectors = width_of(n, panel);
            if (format == BFLOAT16)
                rows_by_any_panel(from, lda, b, k, to, ldo, count, vectors, BFLOAT16);
            else
                rows_by_any_panel(from, lda, b, k, to, ldo, count, vectors, FLOAT32);
            b += k * vectors * V * size_of(format);
            to += vectors * V;
        }
    }
}

#endif
