/* Shards: rows with their crc32c written from where they lie, and gathered from a map of the file. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "crc32c.h"

enum {
    PIECE = 1 << 21,  /* bytes whose crc is computed, then written: they stay in a cache */
    ASKED = 1 << 17,  /* bytes that are asked of the disk by one call: of more, Linux drops the rest */
    WINDOW = 1 << 23, /* bytes that are asked of the disk before they are copied */
    AHEAD = 8192,     /* bytes that are called into the cache before they are copied */
    TIMED = 1 << 16,  /* bytes that are copied between two looks at the clock */
    SLOW = 50000,     /* nanoseconds, and one for each byte, beyond which they were not in memory */
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

/* What is to be written next, up to an offset in the file that is a multiple of PIECE: the page cache
 * then holds the file in the largest pages there are, which is half of the speed of reading it. */
typedef struct {
    struct iovec parts[MOST_PARTS];
    int64_t offset;
    int file, count, failed;
} stream;

static int64_t room_of(const stream *s) { return PIECE - s->offset % PIECE; }

static void flush(stream *s) {
    if (!s->failed) s->failed = write_parts(s->file, s->parts, s->count);
    s->count = 0;
}

static void add(stream *s, const uint8_t *from, int64_t size) {
    while (size) {
        const int64_t room = room_of(s), length = size < room ? size : room;
        s->parts[s->count++] = (struct iovec){(void *)from, (size_t)length};
        s->offset += length, from += length, size -= length;
        if (length == room || s->count == MOST_PARTS) flush(s);
    }
}

/* Writes rows (n, size) at an offset of the file, each followed by its crc, which is kept in crcs (n, 4)
 * too. 0, or errno. */
int64_t meristem_write_rows(
    const uint8_t *rows, uint8_t *crcs, int64_t n, int64_t size, int64_t file, int64_t offset
) {
    stream s = {.file = (int)file, .offset = offset};
    for (int64_t row = 0; row < n && !s.failed; row++) {
        uint32_t crc = 0;
        for (int64_t at = 0, length; at < size; at += length) {
            const int64_t room = room_of(&s);
            length = size - at < room ? size - at : room;
            crc = crc32c(crc, rows + row * size + at, length);
            add(&s, rows + row * size + at, length);
        }
        little(crcs + 4 * row, crc);
        add(&s, crcs + 4 * row, 4);
    }
    flush(&s);
    return s.failed;
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

enum { NEVER, FIRST, ALWAYS };        /* when the crc of an inner chunk is looked at */
enum { TOUCHED = 1, VERIFIED = 2 };   /* what was done with it */

typedef struct {
    const int64_t *maps;  /* address of each shard; 0 where it is not open */
    const int64_t *seen;  /* address of a byte for each inner chunk: what was done with it */
    const int64_t *rows;
    int64_t n, row_bytes, inner, shard_rows, all, verify;
} selection;

typedef struct {
    const uint8_t *chunk, *row; /* NULL: not open, or no such row */
    uint8_t *seen;
} place;

static inline place place_of(const selection *s, int64_t i) {
    const int64_t row = s->rows[i];
    if (row < 0 || row >= s->all) return (place){NULL, NULL, NULL};
    const int64_t shard = row / s->shard_rows, local = row % s->shard_rows, chunk = local / s->inner;
    if (!s->maps[shard]) return (place){NULL, NULL, NULL};
    const uint8_t *start = (const uint8_t *)s->maps[shard] + chunk * (s->inner * s->row_bytes + 4);
    return (place){
        start, start + local % s->inner * s->row_bytes, (uint8_t *)s->seen[shard] + chunk
    };
}

/* Rows from i on that follow each other, up to `most`, in stretches of `of` rows. */
static inline int64_t run_at(const selection *s, int64_t i, int64_t most, int64_t of) {
    const int64_t left = of - s->rows[i] % of;
    int64_t run = 1;
    if (most > left) most = left;
    while (run < most && s->rows[i + run] == s->rows[i] + run) run++;
    return run;
}

/* Asks the disk for the rows [first, last) together: all, or those that were never read. */
static void ask_for(const selection *s, int64_t first, int64_t last, int64_t page, int unread) {
    const int64_t stride = s->inner * s->row_bytes + 4;
    for (int64_t i = first, run; i < last; i += run) {
        /* Rows that follow each other in the file are one read, checksums between them and all. */
        const place from = place_of(s, i);
        run = from.row ? run_at(s, i, last - i, s->shard_rows) : 1;
        const place to = place_of(s, i + run - 1);
        if (!from.row || !to.row || (unread && *from.seen && *to.seen)) continue;
        const uintptr_t start = (uintptr_t)(s->verify ? from.chunk : from.row) & ~(uintptr_t)(page - 1);
        const uintptr_t end = (uintptr_t)(s->verify ? to.chunk + stride : to.row + s->row_bytes);
        for (uintptr_t from_here = start; from_here < end; from_here += ASKED)
            madvise((void *)from_here, end - from_here < ASKED ? end - from_here : ASKED, MADV_WILLNEED);
    }
}

static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static uint32_t stored_crc(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Copies, calling what comes AHEAD, in the end of `next`, into the cache: the processor itself begins
 * anew at every row. */
static void copy_ahead(uint8_t *to, const uint8_t *from, int64_t size, const uint8_t *next) {
    enum { STEP = 4096 };
    if (size < AHEAD) {
        memcpy(to, from, (size_t)size);
        return;
    }
    for (int64_t at = 0; at < size; at += STEP) {
        const int64_t length = size - at < STEP ? size - at : STEP;
        for (int64_t k = at + AHEAD; k < at + AHEAD + length; k += 64)
            __builtin_prefetch(k < size ? from + k : next + (k - size));
        memcpy(to + at, from + at, (size_t)length);
    }
}

/* 1 if the inner chunk agrees with its crc, or need not. */
static inline int copy_run(const selection *s, place at, int64_t run, uint8_t *to, const uint8_t *next) {
    const int64_t size = s->inner * s->row_bytes;
    uint32_t crc;
    if (s->verify == NEVER || (s->verify == FIRST && *at.seen & VERIFIED)) {
        /* Rows that follow each other the processor foresees by itself. */
        if (next && next - at.row != run * s->row_bytes + 4)
            copy_ahead(to, at.row, run * s->row_bytes, next);
        else
            memcpy(to, at.row, (size_t)(run * s->row_bytes));
        *at.seen |= TOUCHED;
        return 1;
    }
    if (run == s->inner) {
        crc = copy_with_crc32c(to, at.chunk, size);
    } else {
        crc = crc32c(0, at.chunk, size);
        memcpy(to, at.row, (size_t)(run * s->row_bytes));
    }
    if (crc != stored_crc(at.chunk + size)) return 0;
    *at.seen = TOUCHED | VERIFIED;
    return 1;
}

/* How often this thread has waited for a page to be read from the disk. */
static int64_t disk_faults(void) {
    struct rusage used;
#ifdef RUSAGE_THREAD
    return getrusage(RUSAGE_THREAD, &used) ? 0 : used.ru_majflt;
#else
    return getrusage(RUSAGE_SELF, &used) ? 0 : used.ru_majflt;
#endif
}

/* Copies rows (n) of an array of `all` rows to out (n, row_bytes).
 *
 * −1; or i where the inner chunk of rows[i] fails its crc; or −2 − i where the shard of rows[i] is not
 * open, or there is no such row. Rows that this process has never read are asked of the disk together, so that its reads
 * overlap. That others are no longer in memory is seen by one taking long; asking the system of each
 * would cost more. */
int64_t meristem_gather(
    const int64_t *maps, const int64_t *seen, const int64_t *rows, uint8_t *out, int64_t n,
    int64_t row_bytes, int64_t inner, int64_t shard_rows, int64_t all, int64_t verify
) {
    const selection s = {maps, seen, rows, n, row_bytes, inner, shard_rows, all, verify};
    const int64_t page = sysconf(_SC_PAGESIZE), faults = disk_faults();
    const int64_t window = row_bytes < WINDOW ? WINDOW / row_bytes : 1;
    int64_t asked = 0, cold = 0, copied = 0, before = nanoseconds();
    place at = n ? place_of(&s, 0) : (place){NULL, NULL, NULL};
    for (int64_t i = 0, run; i < n; i += run) {
        if (!at.row) return -2 - i;
        if (asked < n && i >= asked - window / 2) { /* while one window is copied, the next is read */
            const int64_t from = asked;
            asked = n - asked > window ? asked + window : n;
            ask_for(&s, from, asked, page, !cold);
        }
        run = run_at(&s, i, n - i, inner);
        place next = at;
        if (i + run < n) {
            next = place_of(&s, i + run);
            if (next.row && row_bytes < AHEAD && rows[i + run] != rows[i] + run)
                for (int64_t k = 0; k < row_bytes && k < 1024; k += 64) __builtin_prefetch(next.row + k);
        }
        if (!copy_run(&s, at, run, out + i * row_bytes, next.row)) return i;
        at = next;
        copied += run * row_bytes;
        if (copied < TIMED && i) continue;
        const int64_t now = nanoseconds();
        if (!cold && now - before > SLOW + copied && disk_faults() > faults) {
            cold = 1;
            ask_for(&s, i + run, asked, page, 0);
        }
        before = nanoseconds(), copied = 0;
    }
    return -1;
}
