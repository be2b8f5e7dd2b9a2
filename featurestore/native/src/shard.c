/* Shards: rows with their crc32c written from where they lie, and gathered from a map of the file. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "crc32c.h"

enum {
    PIECE = 1 << 20,  /* bytes whose crc is computed, then written: they stay in the cache */
    NEAR = 1 << 13,   /* bytes whose crc is computed, then copied: they stay in the innermost cache */
    WINDOW = 1 << 25, /* bytes that are asked of the disk before they are copied */
    SAMPLES = 4,      /* rows of a window that are looked at: are they in memory? */
    MOST_PARTS = 1024 /* of one vectored write (IOV_MAX of Linux) */
};

uint32_t meristem_crc32c(const uint8_t *data, int64_t size, int64_t before) {
    return crc32c((uint32_t)before, data, size);
}

static void little(uint8_t *to, uint32_t x) {
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(x >> 8 * i);
}

/* 0, or errno. */
static int write_parts(int file, struct iovec *parts, int count) {
    while (count) {
        ssize_t done = writev(file, parts, count);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return errno;
        for (; count && (size_t)done >= parts->iov_len; parts++, count--) done -= parts->iov_len;
        if (count) {
            parts->iov_base = (uint8_t *)parts->iov_base + done;
            parts->iov_len -= (size_t)done;
        }
    }
    return 0;
}

/* Writes rows (n, size), each followed by its crc, which is kept in crcs (n, 4) too. 0, or errno. */
int64_t meristem_write_rows(const uint8_t *rows, uint8_t *crcs, int64_t n, int64_t size, int64_t file) {
    struct iovec parts[MOST_PARTS];
    int count = 0, failed = 0;
    int64_t pending = 0;
    for (int64_t row = 0; row < n && !failed; row++) {
        uint32_t crc = 0;
        for (int64_t at = 0; at < size && !failed;) {
            const int64_t room = PIECE - pending, left = size - at;
            /* A row that fits a piece is not cut. */
            const int64_t length = left <= room || size <= PIECE ? left : room;
            crc = crc32c(crc, rows + row * size + at, length);
            parts[count++] = (struct iovec){(void *)(rows + row * size + at), (size_t)length};
            pending += length, at += length;
            if (at < size) failed = write_parts(file, parts, count), count = 0, pending = 0;
        }
        little(crcs + 4 * row, crc);
        parts[count++] = (struct iovec){crcs + 4 * row, 4};
        if (pending + size > PIECE || count > MOST_PARTS - 2) {
            if (!failed) failed = write_parts(file, parts, count);
            count = 0, pending = 0;
        }
    }
    return failed ? failed : write_parts(file, parts, count);
}

/* Claims the room of a file, where the file system can: writing is faster, a full disk is found first.
 * 0, or errno. */
int64_t meristem_reserve(int64_t file, int64_t size) {
#ifdef __linux__
    if (fallocate(file, 0, 0, size) && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) return errno;
#else
    (void)file, (void)size;
#endif
    return 0;
}

typedef struct {
    const int64_t *maps;  /* address of each shard, 0 where none is wanted */
    const int64_t *sound; /* address of a byte for each inner chunk: its crc was right; 0: do not check */
    const int64_t *rows;
    int64_t n, row_bytes, inner, shard_rows;
    int64_t told; /* whether the system tells what is in memory */
} selection;

typedef struct {
    const uint8_t *chunk, *row;
    uint8_t *sound;
} place;

static inline place place_of(const selection *s, int64_t i) {
    const int64_t shard = s->rows[i] / s->shard_rows, local = s->rows[i] % s->shard_rows;
    const int64_t chunk = local / s->inner;
    const uint8_t *start = (const uint8_t *)s->maps[shard] + chunk * (s->inner * s->row_bytes + 4);
    uint8_t *sound = s->sound ? (uint8_t *)s->sound[shard] + chunk : NULL;
    return (place){start, start + local % s->inner * s->row_bytes, sound};
}

/* Rows from i on that lie behind each other in one inner chunk. */
static inline int64_t run_at(const selection *s, int64_t i) {
    const int64_t inside = s->rows[i] % s->shard_rows % s->inner;
    int64_t run = 1;
    while (i + run < s->n && inside + run < s->inner && s->rows[i + run] == s->rows[i] + run) run++;
    return run;
}

static int in_memory(const uint8_t *from, int64_t size, int64_t page) {
    unsigned char held[64];
    const uintptr_t first = (uintptr_t)from & ~(uintptr_t)(page - 1);
    int64_t pages = ((uintptr_t)from + (uintptr_t)size - first + page - 1) / page;
    if (pages > (int64_t)sizeof held) pages = sizeof held;
    if (mincore((void *)first, (size_t)(pages * page), (void *)held)) return 1;
    for (int64_t i = 0; i < pages; i++)
        if (!(held[i] & 1)) return 0;
    return 1;
}

/* Asks for the rows [first, last) at once, so that their reads overlap, unless they seem to be there. */
static void ask_for(const selection *s, int64_t first, int64_t last, int64_t page) {
    int cold = 0;
    if (last > s->n) last = s->n;
    const int64_t count = last - first;
    for (int64_t k = 0; k < SAMPLES && k < count && !cold; k++) {
        const place at = place_of(s, first + k * count / SAMPLES);
        cold = s->told ? !in_memory(at.row, s->row_bytes, page) : !at.sound || !*at.sound;
    }
    for (int64_t i = first; i < last && cold;) {
        const int64_t run = run_at(s, i);
        const place at = place_of(s, i);
        const int whole = at.sound && !*at.sound; /* its crc wants all of the chunk */
        const uint8_t *from = whole ? at.chunk : at.row;
        const int64_t size = whole ? s->inner * s->row_bytes + 4 : run * s->row_bytes;
        const uintptr_t start = (uintptr_t)from & ~(uintptr_t)(page - 1);
        madvise((void *)start, (uintptr_t)from + (uintptr_t)size - start, MADV_WILLNEED);
        i += run;
    }
}

static uint32_t stored_crc(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Copies and returns the crc of what was copied, in one pass over memory. */
static uint32_t copy_with_crc(uint8_t *to, const uint8_t *from, int64_t size) {
    uint32_t crc = 0;
    for (int64_t at = 0; at < size; at += NEAR) {
        const int64_t length = size - at < NEAR ? size - at : NEAR;
        memcpy(to + at, from + at, (size_t)length);
        crc = crc32c(crc, to + at, length);
    }
    return crc;
}

/* Copies rows (n) to out (n, row_bytes). −1, or the first index into rows whose chunk fails its crc. */
int64_t meristem_gather(
    const int64_t *maps, const int64_t *sound, const int64_t *rows, uint8_t *out, int64_t n,
    int64_t row_bytes, int64_t inner, int64_t shard_rows, int64_t told
) {
    const selection s = {maps, sound, rows, n, row_bytes, inner, shard_rows, told};
    const int64_t page = sysconf(_SC_PAGESIZE), size = inner * row_bytes;
    const int64_t window = row_bytes < WINDOW ? WINDOW / row_bytes : 1;
    int64_t asked = 0;
    for (int64_t i = 0; i < n;) {
        for (; asked < n && asked < i + window; asked += window) ask_for(&s, asked, asked + window, page);
        const int64_t run = run_at(&s, i);
        const place at = place_of(&s, i);
        uint8_t *to = out + i * row_bytes;
        if (!at.sound || *at.sound) {
            memcpy(to, at.row, (size_t)(run * row_bytes));
        } else {
            uint32_t crc;
            if (inner == run) {
                crc = copy_with_crc(to, at.chunk, size);
            } else {
                crc = crc32c(0, at.chunk, size);
                memcpy(to, at.row, (size_t)(run * row_bytes));
            }
            if (crc != stored_crc(at.chunk + size)) return i;
            *at.sound = 1;
        }
        i += run;
    }
    return -1;
}
