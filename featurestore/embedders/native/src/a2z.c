/* a2z from bases to embedding and probability, a group of windows at a time, each by one thread.
 *
 * The convolution is looked up (see a2z/word_tables.py): a position is the sum of nine rows. A step of
 * the LSTM is one product of [input, state] with both its matrices beside each other. A window's
 * numbers depend neither on the other windows of a call nor on threads. */
#include <stdlib.h>

#include "product.h"
#include "threads.h"

enum {
    WINDOW = 600, FILTERS = 320, POOL = 13, STEPS = 44, UNITS = 320, GATES = 4 * UNITS,
    BOTH = FILTERS + UNITS, EMBEDDING = 925, PADDED = 928, PARTS = 8, WORD = 3, WORDS = 9, WORD_ROWS = 4096, TOGETHER = 5, MOST_WINDOWS = 32
};

typedef struct {
    const uint8_t *sets; /* (n, WINDOW), four bits: A, C, G, T */
    const float *table;  /* (rows, FILTERS) */
    const float *bias;   /* (FILTERS) */
    const void *ways[2]; /* packed (GATES, BOTH) */
    const float *gate_bias; /* (2, GATES), gates i f g o */
    const float *dense;  /* PARTS of columns, each packed (PADDED, 2 UNITS / PARTS), float32 */
    const float *dense_bias; /* (PADDED) */
    const float *output; /* (PADDED), then the bias */
    float *state;        /* (n, 2 UNITS) */
    float *embedding;    /* (n, EMBEDDING) */
    float *probability;  /* (n) */
    char *scratch;
    int64_t scratch_size, count, group;
    int format;
} network;

typedef struct {
    int32_t *rows; /* (STEPS · POOL, WORDS) */
    void *pooled;  /* (STEPS, group, FILTERS), factors */
    void *input;   /* (group, BOTH), factors */
    float *gates;  /* (group, GATES) */
    float *cell;   /* (group, UNITS) */
} workspace;

static void *take(char **from, int64_t bytes) {
    char *here = *from;
    *from += (bytes + 63) / 64 * 64;
    return here;
}

static int64_t lay_out(const network *g, char *memory, workspace *w) {
    char *at = memory;
    w->rows = take(&at, (int64_t)STEPS * POOL * WORDS * 4);
    w->pooled = take(&at, STEPS * g->group * FILTERS * size_of(g->format));
    w->input = take(&at, g->group * BOTH * size_of(g->format));
    w->gates = take(&at, g->group * GATES * 4);
    w->cell = take(&at, g->group * UNITS * 4);
    return at - memory;
}

static void number_words(const uint8_t *sets, int32_t *rows) {
    for (int p = 0; p < STEPS * POOL; p++, sets++, rows += WORDS) {
        for (int w = 0; w < WORDS - 1; w++) {
            const uint8_t *s = sets + WORD * w;
            rows[w] = w * WORD_ROWS + (s[0] << 8 | s[1] << 4 | s[2]);
        }
        const uint8_t *s = sets + WORD * (WORDS - 1);
        rows[WORDS - 1] = (WORDS - 1) * WORD_ROWS + (s[0] << 4 | s[1]);
    }
}

/* Convolution, bias, ReLU, maximum of each pool, for window `i` of the group. */
INLINE void pool_window(const network *g, const workspace *w, int64_t i, const int format) {
    for (int64_t f = 0; f < FILTERS; f += TOGETHER * V) {
        const float *table = g->table + f;
        const int32_t *rows = w->rows;
        for (int64_t step = 0; step < STEPS; step++) {
            vf most[TOGETHER];
            for (int place = 0; place < POOL; place++, rows += WORDS) {
                vf sum[TOGETHER];
#pragma GCC unroll 5
                for (int v = 0; v < TOGETHER; v++)
                    sum[v] = load(table + (int64_t)rows[0] * FILTERS + v * V);
#pragma GCC unroll 8
                for (int word = 1; word < WORDS; word++) {
                    const float *row = table + (int64_t)rows[word] * FILTERS;
#pragma GCC unroll 5
                    for (int v = 0; v < TOGETHER; v++) sum[v] += load(row + v * V);
                }
#pragma GCC unroll 5
                for (int v = 0; v < TOGETHER; v++) most[v] = place ? at_least(sum[v], most[v]) : sum[v];
            }
            const int64_t to = (step * g->group + i) * FILTERS + f;
#pragma GCC unroll 5
            for (int v = 0; v < TOGETHER; v++)
                emit(w->pooled, to + v * V, at_least(most[v] + load(g->bias + f + v * V), splat(0.0f)), format);
        }
    }
}

INLINE vf size_of_value(vf x) { return (vf)((vi)x & 0x7fffffff); }
INLINE vf with_sign(vf size, vf x) { return (vf)((vi)size | ((vi)x & (vi)((vi){0} - 0x7fffffff - 1))); }

/* One step of all units of a window. σ(a) · tanh(b) = sign(b) (1 − e^−2|b|) / ((1 + e^−a) (1 + e^−2|b|)). */
INLINE void recur(
    const float *z, const float *bias, float *cell, void *state, float *last, const int format
) {
    for (int64_t u = 0; u < UNITS; u += V) {
        const vf in = load(z + u) + load(bias + u);
        const vf forget = load(z + UNITS + u) + load(bias + UNITS + u);
        const vf new = load(z + 2 * UNITS + u) + load(bias + 2 * UNITS + u);
        const vf out = load(z + 3 * UNITS + u) + load(bias + 3 * UNITS + u);
        const vf t = exp2_of(size_of_value(new) * (-2 * LOG2E));
        const vf added = with_sign(1.0f - t, new) / ((1.0f + exp2_of(in * -LOG2E)) * (1.0f + t));
        const vf c = load(cell + u) / (1.0f + exp2_of(forget * -LOG2E)) + added;
        const vf e = exp2_of(size_of_value(c) * (-2 * LOG2E));
        const vf h = with_sign(1.0f - e, c) / ((1.0f + exp2_of(out * -LOG2E)) * (1.0f + e));
        store(cell + u, c);
        emit(state, u, h, format);
        if (last) store(last + u, h);
    }
}

INLINE void run_windows(const network *g, const workspace *w, int64_t first, int64_t some, const int format) {
    const int64_t wide = size_of(format), row = BOTH * wide;
    for (int64_t i = 0; i < some; i++) {
        number_words(g->sets + (first + i) * WINDOW, w->rows);
        pool_window(g, w, i, format);
    }
    for (int way = 0; way < 2; way++) {
        memset(w->input, 0, (size_t)(some * row));
        memset(w->cell, 0, (size_t)(some * UNITS) * 4);
        for (int64_t t = 0; t < STEPS; t++) {
            const int64_t step = way ? STEPS - 1 - t : t;
            for (int64_t i = 0; i < some; i++)
                memcpy((char *)w->input + i * row,
                       (char *)w->pooled + (step * g->group + i) * FILTERS * wide, FILTERS * (size_t)wide);
            product(w->input, BOTH, some, BOTH, g->ways[way], GATES, w->gates, GATES, format);
            for (int64_t i = 0; i < some; i++)
                recur(w->gates + i * GATES, g->gate_bias + way * GATES, w->cell + i * UNITS,
                      (char *)w->input + i * row + FILTERS * wide,
                      t < STEPS - 1 ? NULL : g->state + (first + i) * 2 * UNITS + way * UNITS, format);
        }
    }
}

/* The two layers after the LSTM, in float32. Sums go in PARTS: a chain of 640 would round more. */
static void run_heads(const network *g, const workspace *w, int64_t first, int64_t some) {
    const int64_t width = 2 * UNITS / PARTS;
    float *total = w->pooled; /* (group, PADDED); no longer needed for its own */
    for (int64_t i = 0; i < some; i++) memcpy(total + i * PADDED, g->dense_bias, PADDED * sizeof(float));
    for (int64_t part = 0; part < PARTS; part++) {
        product(g->state + first * 2 * UNITS + part * width, 2 * UNITS, some, width,
                g->dense + part * width * PADDED, PADDED, w->gates, PADDED, FLOAT32);
        for (int64_t at = 0; at < some * PADDED; at += V) store(total + at, load(total + at) + load(w->gates + at));
    }
    for (int64_t i = 0; i < some; i++) {
        vf sum = {0};
        for (int64_t u = 0; u < EMBEDDING; u += V) {
            const vf e = load(total + i * PADDED + u);
            sum += e * load(g->output + u);
            store_some(g->embedding + (first + i) * EMBEDDING + u, e,
                       EMBEDDING - u < V ? (int)(EMBEDDING - u) : V);
        }
        const vf x = splat(sum_of(sum) + g->output[PADDED]);
        g->probability[first + i] = (1.0f / (1.0f + exp2_of(x * -LOG2E)))[0];
    }
}

static void run_group(void *job, int64_t item, int worker) {
    const network *g = job;
    const int64_t first = item * g->group;
    const int64_t some = g->count - first < g->group ? g->count - first : g->group;
    workspace w;
    lay_out(g, g->scratch + worker * g->scratch_size, &w);
    if (g->format == BFLOAT16)
        run_windows(g, &w, first, some, BFLOAT16);
    else if (g->format == ROUNDED)
        run_windows(g, &w, first, some, ROUNDED);
    else
        run_windows(g, &w, first, some, FLOAT32);
    run_heads(g, &w, first, some);
}

/* State, embedding and probability of windows given as sets of bases. Returns 0, or 1 where memory is
 * short. */
int meristem_a2z(
    const uint8_t *sets, const float *table, const float *bias, const void *forward,
    const void *backward, const float *gate_bias, const float *dense, const float *dense_bias,
    const float *output, float *state, float *embedding, float *probability, int64_t n,
    int64_t format, int64_t threads
) {
    network g = {.sets = sets, .table = table, .bias = bias, .ways = {forward, backward},
                 .gate_bias = gate_bias, .dense = dense, .dense_bias = dense_bias, .output = output,
                 .state = state, .embedding = embedding, .probability = probability, .count = n,
                 .format = (int)format};
    if (n < 1) return 0;
    if (threads < 1) threads = 1;
    const int64_t turns = (n + threads * MOST_WINDOWS - 1) / (threads * MOST_WINDOWS);
    g.group = (n + threads * turns - 1) / (threads * turns);
    const int64_t groups = (n + g.group - 1) / g.group;
    if (threads > groups) threads = groups;
    workspace w;
    g.scratch_size = lay_out(&g, NULL, &w);
    void *memory = NULL;
    if (posix_memalign(&memory, 64, (size_t)(threads * g.scratch_size))) return 1;
    g.scratch = memory;
    run_items(run_group, &g, groups, (int)threads);
    free(memory);
    return 0;
}

/* Sets of one-hot windows x (n, WINDOW, 4), and which windows are exactly such a one-hot: equal parts
 * of the bases of each set, zeros where it is empty. */
void meristem_a2z_sets(const float *x, uint8_t *sets, uint8_t *exact, int64_t n) {
    static const float part[5] = {0.0f, 1.0f, 0.5f, 1.0f / 3.0f, 0.25f};
    for (int64_t i = 0; i < n; i++) {
        int same = 1;
        for (int p = 0; p < WINDOW; p++, x += 4, sets++) {
            const int a = x[0] > 0, c = x[1] > 0, g = x[2] > 0, t = x[3] > 0;
            const float size = part[a + c + g + t];
            *sets = (uint8_t)(a | c << 1 | g << 2 | t << 3);
            same &= (x[0] == (a ? size : 0.0f)) & (x[1] == (c ? size : 0.0f)) &
                    (x[2] == (g ? size : 0.0f)) & (x[3] == (t ? size : 0.0f));
        }
        exact[i] = (uint8_t)same;
    }
}
