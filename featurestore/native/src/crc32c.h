/* crc32c (Castagnoli), as fast as the processor has it: carry-less products of 64 bytes, else the crc32
 * instruction in three lanes, else tables. Values are those of google_crc32c; the loader tests that. */
#ifndef MERISTEM_CRC32C_H
#define MERISTEM_CRC32C_H

#include <stdint.h>
#include <string.h>

#if defined(__SSE4_2__) && defined(__x86_64__)
#include <immintrin.h>
#define CRC_BYTE(c, b) _mm_crc32_u8((c), (b))
#define CRC_WORD(c, w) (uint32_t) _mm_crc32_u64((c), (w))
#define HAS_CRC 1
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#define CRC_BYTE(c, b) __crc32cb((c), (b))
#define CRC_WORD(c, w) __crc32cd((c), (w))
#define HAS_CRC 1
#else
#define HAS_CRC 0
#endif

#if HAS_CRC && defined(__VPCLMULQDQ__) && defined(__AVX512F__) && defined(__AVX512DQ__)
#define HAS_FOLDING 1
#else
#define HAS_FOLDING 0
#endif

#define POLYNOMIAL 0x82f63b78u /* reflected */
#define LANE 2048              /* bytes of one of three lanes */

static uint32_t crc_table[8][256];    /* by distance from the end of a word */
static uint32_t crc_shift[2][4][256]; /* a crc moved on by LANE and by 2 · LANE zero bytes */

static uint32_t times_x8(uint32_t crc) {
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
    return crc;
}

/* Thread-safe: the dynamic loader runs it before any call. */
__attribute__((constructor)) static void fill_tables(void) {
    for (uint32_t b = 0; b < 256; b++) crc_table[0][b] = times_x8(b);
    for (int d = 1; d < 8; d++)
        for (int b = 0; b < 256; b++)
            crc_table[d][b] = crc_table[d - 1][b] >> 8 ^ crc_table[0][crc_table[d - 1][b] & 255];
    uint32_t one[32]; /* each bit moved on */
    for (int bit = 0; bit < 32; bit++) one[bit] = 1u << bit;
    for (int far = 0; far < 2; far++) {
        for (int bit = 0; bit < 32; bit++)
            for (int i = 0; i < LANE; i++) one[bit] = one[bit] >> 8 ^ crc_table[0][one[bit] & 255];
        for (int byte = 0; byte < 4; byte++)
            for (int b = 0; b < 256; b++) {
                uint32_t sum = 0;
                for (int bit = 0; bit < 8; bit++) sum ^= b >> bit & 1 ? one[8 * byte + bit] : 0;
                crc_shift[far][byte][b] = sum;
            }
    }
}

static inline uint64_t word_at(const uint8_t *p) {
    uint64_t w;
    memcpy(&w, p, 8);
    return w;
}

#if !HAS_CRC
#define CRC_BYTE(c, b) ((c) >> 8 ^ crc_table[0][((c) ^ (b)) & 255])
static inline uint32_t CRC_WORD(uint32_t crc, uint64_t w) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    w = __builtin_bswap64(w);
#endif
    uint32_t sum = 0;
    w ^= crc;
    for (int d = 0; d < 8; d++) sum ^= crc_table[7 - d][w >> 8 * d & 255];
    return sum;
}
#endif

static inline uint32_t moved(uint32_t crc, int far) {
    return crc_shift[far][0][crc & 255] ^ crc_shift[far][1][crc >> 8 & 255] ^
           crc_shift[far][2][crc >> 16 & 255] ^ crc_shift[far][3][crc >> 24];
}

#if HAS_FOLDING
static inline __m512i fold(__m512i x, __m512i by, __m512i next) {
    return _mm512_ternarylogic_epi64(
        _mm512_clmulepi64_epi128(x, by, 0x00), _mm512_clmulepi64_epi128(x, by, 0x11), next, 0x96
    );
}

static inline __m128i fold16(__m128i x, int64_t low, int64_t high, __m128i next) {
    const __m128i by = _mm_set_epi64x(high, low);
    return _mm_xor_si128(
        next, _mm_xor_si128(_mm_clmulepi64_si128(x, by, 0x00), _mm_clmulepi64_si128(x, by, 0x11))
    );
}

/* Reads 64 bytes, and copies them where a copy is wanted. */
static inline __attribute__((always_inline)) __m512i pass(const uint8_t *p, uint8_t *to) {
    const __m512i x = _mm512_loadu_si512(p);
    if (to) _mm512_storeu_si512(to, x);
    return x;
}

/* n is a multiple of 64, at least 256. Constants: x^(D + 31) and x^(D - 33) modulo the polynomial,
 * reflected, for D bits between what is folded and what it is folded into. */
static inline __attribute__((always_inline)) uint32_t
crc_folded(uint32_t crc, const uint8_t *p, int64_t n, uint8_t *to) {
    const __m512i by256 = _mm512_broadcast_i64x2(_mm_set_epi64x(0xb9e02b86, 0xdcb17aa4));
    const __m512i by64 = _mm512_broadcast_i64x2(_mm_set_epi64x(0x9e4addf8, 0x740eef02));
    __m512i a = pass(p, to), b = pass(p + 64, to ? to + 64 : to);
    __m512i c = pass(p + 128, to ? to + 128 : to), d = pass(p + 192, to ? to + 192 : to);
    a = _mm512_xor_si512(a, _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)crc)));
    int64_t at = 256;
    for (; n - at >= 256; at += 256) {
        a = fold(a, by256, pass(p + at, to ? to + at : to));
        b = fold(b, by256, pass(p + at + 64, to ? to + at + 64 : to));
        c = fold(c, by256, pass(p + at + 128, to ? to + at + 128 : to));
        d = fold(d, by256, pass(p + at + 192, to ? to + at + 192 : to));
    }
    a = fold(fold(fold(a, by64, b), by64, c), by64, d);
    for (; at < n; at += 64) a = fold(a, by64, pass(p + at, to ? to + at : to));
    __m128i last = _mm512_extracti64x2_epi64(a, 3);
    last = fold16(_mm512_extracti64x2_epi64(a, 0), 0x1c291d04, 0xddc0152b, last);
    last = fold16(_mm512_extracti64x2_epi64(a, 1), 0x3da6d0cb, 0xba4fc28e, last);
    last = fold16(_mm512_extracti64x2_epi64(a, 2), 0xf20c0dfe, 0x493c7d27, last);
    crc = CRC_WORD(0, (uint64_t)_mm_extract_epi64(last, 0));
    return CRC_WORD(crc, (uint64_t)_mm_extract_epi64(last, 1));
}
#endif

/* Goes on from the crc of what stands before; 0 at the start. */
static uint32_t crc32c(uint32_t crc, const uint8_t *p, int64_t n) {
    crc = ~crc;
#if HAS_FOLDING
    if (n >= 256) {
        crc = crc_folded(crc, p, n & ~(int64_t)63, NULL);
        p += n & ~(int64_t)63;
        n &= 63;
    }
#elif HAS_CRC
    for (; n >= 3 * LANE; p += 3 * LANE, n -= 3 * LANE) {
        uint32_t second = 0, third = 0;
        for (int i = 0; i < LANE; i += 8) {
            crc = CRC_WORD(crc, word_at(p + i));
            second = CRC_WORD(second, word_at(p + LANE + i));
            third = CRC_WORD(third, word_at(p + 2 * LANE + i));
        }
        crc = moved(crc, 1) ^ moved(second, 0) ^ third;
    }
#endif
    for (; n >= 8; p += 8, n -= 8) crc = CRC_WORD(crc, word_at(p));
    for (; n > 0; p++, n--) crc = CRC_BYTE(crc, *p);
    return ~crc;
}

#define NEAR 8192 /* bytes that are copied, then read again for their crc: they stay in the innermost cache */

/* Copies, and gives the crc of what was copied, in one pass over memory. */
static uint32_t copy_with_crc32c(uint8_t *to, const uint8_t *from, int64_t size) {
    uint32_t crc = 0;
    int64_t at = 0;
#if HAS_FOLDING
    if (size >= 256) {
        at = size & ~(int64_t)63;
        crc = ~crc_folded(~crc, from, at, to);
    }
#endif
    for (int64_t length; at < size; at += length) {
        length = size - at < NEAR ? size - at : NEAR;
        memcpy(to + at, from + at, (size_t)length);
        crc = crc32c(crc, to + at, length);
    }
    return crc;
}

#endif
