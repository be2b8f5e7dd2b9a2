/* Vectors of floats as gcc and clang know them, as wide as the processor's, and functions of them.
 * Compiled without fast-math: NaN and infinity pass through. */
#ifndef MERISTEM_VECTOR_H
#define MERISTEM_VECTOR_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>
#define V 16
#elif defined(__AVX__)
#include <immintrin.h>
#define V 8
#else
#define V 4
#endif

#define LOG2E 1.44269504088896340736f
#define INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(4 * V)));
typedef int32_t vi __attribute__((vector_size(4 * V)));
typedef float vf_anywhere __attribute__((vector_size(4 * V), aligned(4), may_alias));

INLINE vf load(const float *p) { return *(const vf_anywhere *)p; }
INLINE void store(float *p, vf x) { *(vf_anywhere *)p = x; }
INLINE vf splat(float x) { return x - (vf){0}; }

/* The first `lanes` values, zero in the others. */
INLINE vf load_some(const float *p, int lanes) {
    if (lanes == V) return load(p);
    float all[V] = {0};
    memcpy(all, p, (size_t)lanes * sizeof(float));
    return load(all);
}

INLINE void store_some(float *p, vf x, int lanes) {
    if (lanes == V) {
        store(p, x);
        return;
    }
    float all[V];
    store(all, x);
    memcpy(p, all, (size_t)lanes * sizeof(float));
}

/* Sum of the lanes, always in the same order. */
INLINE float sum_of(vf x) {
    float all[V], total = 0;
    store(all, x);
    for (int i = 0; i < V; i++) total += all[i];
    return total;
}

/* max(x, low); NaN stays NaN. */
INLINE vf at_least(vf x, vf low) {
#if V == 16
    return (vf)_mm512_max_ps((__m512)low, (__m512)x);
#elif V == 8
    return (vf)_mm256_max_ps((__m256)low, (__m256)x);
#else
    const vi below = x < low;
    return (vf)((below & (vi)low) | (~below & (vi)x));
#endif
}

/* 2^x to 1.6e-7 of its value (2 ulp); 1 exactly at 0. Outside AVX-512, x is held to ±126. */
INLINE vf exp2_of(vf x) {
#if V == 16
    const vf f = (vf)_mm512_reduce_ps((__m512)x, 0); /* x − nearest integer; 0 for infinity */
    const vf whole = x - f;
#else
    x = at_least(x, splat(-126.0f));
    x = -at_least(-x, splat(-126.0f));
    const vf moved = x + 12582912.0f; /* 1.5 · 2^23: the integer ends in the lowest bits */
    const vf f = x - (moved - 12582912.0f);
#endif
    vf p = f * 0x1.5bba1ap-10f + 0x1.3cea88p-7f;
    p = p * f + 0x1.c6b752p-5f;
    p = p * f + 0x1.ebf9bcp-3f;
    p = p * f + 0x1.62e42ap-1f;
    p = p * f + 1.0f;
#if V == 16
    return (vf)_mm512_scalef_ps((__m512)p, (__m512)whole);
#else
    return (vf)((vi)p + ((vi)moved << 23));
#endif
}

INLINE vf silu(vf x) { return x / (1.0f + exp2_of(x * -LOG2E)); }

/* log(1 + e^x) = max(x, 0) + log1p(z), z = e^-|x|; log1p to 1.7e-7 of its value. */
INLINE vf softplus(vf x) {
    const vf size = (vf)((vi)x & 0x7fffffff);
    const vf z = exp2_of(size * -LOG2E);
    vf p = z * 0.005232701367f - 0.029505279647f;
    p = p * z + 0.078226041223f;
    p = p * z - 0.136632555428f;
    p = p * z + 0.191060124738f;
    p = p * z - 0.248429839862f;
    p = p * z + 0.333190970722f;
    p = p * z - 0.499994931558f;
    p = p * z + 0.999999969881f;
    return at_least(x, splat(0.0f)) + p * z;
}

#endif
