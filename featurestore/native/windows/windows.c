/* Cuts the windows that models see out of genomes, and takes their digests. */

#include <stdint.h>
#include <string.h>

/* Windows of `width` codes. Window i begins at `low[i]` of a contig that has `length[i]` codes from
 * code + start[i] on, forward strand; what lies off the contig reads `unknown`, and so does what
 * lies from position `limit[i]` of the window on. With strand[i] < 0 it is the reverse complement. */
void meristem_windows(
    const uint8_t *code, const int64_t *start, const int64_t *length, const int64_t *low,
    const int8_t *strand, const int64_t *limit, const uint8_t *complement, uint8_t *out, int64_t n,
    int64_t width, int64_t unknown)
{
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *contig = code + start[i];
        uint8_t *window = out + i * width;
        int64_t from, to;
        if (strand[i] >= 0) {
            from = -low[i];
            to = length[i] - low[i];
        } else {
            from = low[i] + width - length[i];
            to = low[i] + width;
        }
        if (to > limit[i]) to = limit[i];
        if (to > width) to = width;
        if (to < 0) to = 0;
        if (from < 0) from = 0;
        if (from > to) from = to;
        memset(window, (int)unknown, (size_t)from);
        if (strand[i] >= 0) {
            if (to > from) memcpy(window + from, contig + low[i] + from, (size_t)(to - from));
        } else if (to > from) {
            const uint8_t *last = contig + low[i] + width - 1;
            for (int64_t p = from; p < to; p++) window[p] = complement[last[-p]];
        }
        memset(window + to, (int)unknown, (size_t)(width - to));
    }
}

/* BLAKE2b, RFC 7693. */

/* GCC 12 tuned for Zen 4 and later builds the message with 512-bit moves, which takes four times as long. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define SCALAR __attribute__((target("no-avx512f")))
#else
#define SCALAR
#endif

static const uint64_t IV[8] = {
    0x6a09e667f3bcc908u, 0xbb67ae8584caa73bu, 0x3c6ef372fe94f82bu, 0xa54ff53a5f1d36f1u,
    0x510e527fade682d1u, 0x9b05688c2b3e6c1fu, 0x1f83d9abfb41bd6bu, 0x5be0cd19137e2179u};

SCALAR static inline uint64_t turned(uint64_t x, int by) { return (x >> by) | (x << (64 - by)); }

SCALAR static inline uint64_t word(const uint8_t *p)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    uint64_t x;
    memcpy(&x, p, 8);
    return x;
#else
    uint64_t x = 0;
    for (int i = 7; i >= 0; i--) x = x << 8 | p[i];
    return x;
#endif
}

#define MIX(a, b, c, d, x, y)          \
    do {                               \
        v[a] += v[b] + (x);            \
        v[d] = turned(v[d] ^ v[a], 32); \
        v[c] += v[d];                  \
        v[b] = turned(v[b] ^ v[c], 24); \
        v[a] += v[b] + (y);            \
        v[d] = turned(v[d] ^ v[a], 16); \
        v[c] += v[d];                  \
        v[b] = turned(v[b] ^ v[c], 63); \
    } while (0)

/* The order of the words is spelt out, so that all of them stay in registers. */
#define ROUND(a, b, c, d, e, f, g, h, i, j, k, l, n, o, p, q) \
    do {                                                      \
        MIX(0, 4, 8, 12, m[a], m[b]);                         \
        MIX(1, 5, 9, 13, m[c], m[d]);                         \
        MIX(2, 6, 10, 14, m[e], m[f]);                        \
        MIX(3, 7, 11, 15, m[g], m[h]);                        \
        MIX(0, 5, 10, 15, m[i], m[j]);                        \
        MIX(1, 6, 11, 12, m[k], m[l]);                        \
        MIX(2, 7, 8, 13, m[n], m[o]);                         \
        MIX(3, 4, 9, 14, m[p], m[q]);                         \
    } while (0)

SCALAR static void compress(uint64_t state[8], const uint8_t *block, uint64_t count, int last)
{
    uint64_t v[16], m[16];
    for (int i = 0; i < 16; i++) m[i] = word(block + 8 * i);
    for (int i = 0; i < 8; i++) {
        v[i] = state[i];
        v[i + 8] = IV[i];
    }
    v[12] ^= count;
    if (last) v[14] = ~v[14];
    ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3);
    ROUND(11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4);
    ROUND(7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8);
    ROUND(9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13);
    ROUND(2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9);
    ROUND(12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11);
    ROUND(13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10);
    ROUND(6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5);
    ROUND(10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0);
    ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3);
    for (int i = 0; i < 8; i++) state[i] ^= v[i] ^ v[i + 8];
}

/* BLAKE2b of 16 bytes of each row of `width` bytes for which `wanted` is not 0; others are left. */
SCALAR void meristem_digests(
    const uint8_t *rows, const uint8_t *wanted, uint8_t *out, int64_t n, int64_t width)
{
    for (int64_t i = 0; i < n; i++) {
        if (!wanted[i]) continue;
        const uint8_t *row = rows + i * width;
        uint64_t h[8];
        memcpy(h, IV, sizeof h);
        h[0] ^= 0x01010000u ^ 16u;
        int64_t at = 0;
        for (; width - at > 128; at += 128) compress(h, row + at, (uint64_t)at + 128, 0);
        uint8_t block[128] = {0};
        memcpy(block, row + at, (size_t)(width - at));
        compress(h, block, (uint64_t)width, 1);
        for (int b = 0; b < 16; b++) out[16 * i + b] = (uint8_t)(h[b / 8] >> (8 * (b % 8)));
    }
}
