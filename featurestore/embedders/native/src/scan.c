/* The selective scan and its gradient, for training: vectors over channels, states in registers.
 *
 * Shapes, row-major: u, delta, y (s, l, c); a2 (n, c) is A · log2 e transposed; b, c (s, l, n);
 * d (c). See scan.py for the formulas. */
#include <stdlib.h>

#include "threads.h"
#include "vector.h"

#define MOST_STATES 256
#define STEPS 8 /* states of so many steps are kept at once while going back: they stay in L1 */

typedef struct {
    const float *u, *delta, *a2, *b, *c, *d, *grad;
    float *y, *du, *ddelta, *da, *db, *dc, *dd, *scratch;
    int64_t length, channels, blocks, scratch_size;
    int states;
} scan_job;

static int lanes_of(const scan_job *j, int64_t at) {
    return j->channels - at < V ? (int)(j->channels - at) : V;
}

INLINE void scan_block(const scan_job *j, int64_t sequence, int64_t at, const int n) {
    const int lanes = lanes_of(j, at);
    vf h[MOST_STATES], a2[MOST_STATES];
    for (int i = 0; i < n; i++) {
        h[i] = splat(0.0f);
        a2[i] = load_some(j->a2 + i * j->channels + at, lanes);
    }
    const vf d = load_some(j->d + at, lanes);
    for (int64_t t = 0; t < j->length; t++) {
        const int64_t row = sequence * j->length + t, place = row * j->channels + at;
        const float *b = j->b + row * n, *c = j->c + row * n;
        const vf u = load_some(j->u + place, lanes), delta = load_some(j->delta + place, lanes);
        const vf driven = delta * u;
        vf y = d * u;
#pragma GCC unroll 16
        for (int i = 0; i < n; i++) {
            h[i] = exp2_of(delta * a2[i]) * h[i] + driven * b[i];
            y += h[i] * c[i];
        }
        store_some(j->y + place, y, lanes);
    }
}

static void scan_item(void *job, int64_t item, int worker) {
    const scan_job *j = job;
    (void)worker;
    const int64_t sequence = item / j->blocks, at = item % j->blocks * V;
    if (j->states == 16)
        scan_block(j, sequence, at, 16);
    else
        scan_block(j, sequence, at, j->states);
}

void meristem_scan(
    const float *u, const float *delta, const float *a2, const float *b, const float *c,
    const float *d, float *y, int64_t sequences, int64_t length, int64_t channels, int64_t states,
    int64_t threads
) {
    scan_job j = {.u = u, .delta = delta, .a2 = a2, .b = b, .c = c, .d = d, .y = y,
                  .length = length, .channels = channels, .blocks = (channels + V - 1) / V,
                  .states = (int)states};
    run_items(scan_item, &j, sequences * j.blocks, (int)threads);
}

/* States in front of every stretch of STEPS steps, to before (stretch, n, padded channels). */
INLINE void states_before(const scan_job *j, int64_t sequence, float *before, const int n) {
    const int64_t padded = j->blocks * V;
    for (int64_t at = 0; at < j->channels; at += V) {
        const int lanes = lanes_of(j, at);
        vf h[MOST_STATES], a2[MOST_STATES];
        for (int i = 0; i < n; i++) {
            h[i] = splat(0.0f);
            a2[i] = load_some(j->a2 + i * j->channels + at, lanes);
        }
        for (int64_t t = 0; t < j->length; t++) {
            if (t % STEPS == 0)
                for (int i = 0; i < n; i++) store(before + (t / STEPS * n + i) * padded + at, h[i]);
            const int64_t row = sequence * j->length + t, place = row * j->channels + at;
            const float *b = j->b + row * n;
            const vf u = load_some(j->u + place, lanes), delta = load_some(j->delta + place, lanes);
            const vf driven = delta * u;
#pragma GCC unroll 16
            for (int i = 0; i < n; i++) h[i] = exp2_of(delta * a2[i]) * h[i] + driven * b[i];
        }
    }
}

/* What going back over one stretch keeps: states and decays per step, sums over channels by lane. */
typedef struct {
    vf *state, *decay, *db, *dc; /* (STEPS, n); state has one row more, the one in front */
    float *before, *back, *da;   /* (stretch, n, padded), (n, padded), (n, padded) */
} stretch_memory;

INLINE void stretch_forward(
    const scan_job *j, const stretch_memory *m, int64_t row0, int steps, int64_t at, const int n
) {
    const int lanes = lanes_of(j, at);
    vf a2[MOST_STATES];
    for (int i = 0; i < n; i++) a2[i] = load_some(j->a2 + i * j->channels + at, lanes);
    for (int k = 0; k < steps; k++) {
        const int64_t place = (row0 + k) * j->channels + at;
        const float *b = j->b + (row0 + k) * n;
        const vf u = load_some(j->u + place, lanes), delta = load_some(j->delta + place, lanes);
        const vf driven = delta * u;
        const vf *earlier = m->state + k * n;
        vf *state = m->state + (k + 1) * n, *decay = m->decay + k * n;
#pragma GCC unroll 16
        for (int i = 0; i < n; i++) {
            decay[i] = exp2_of(delta * a2[i]);
            state[i] = decay[i] * earlier[i] + driven * b[i];
        }
    }
}

INLINE void stretch_back(
    const scan_job *j, const stretch_memory *m, int64_t row0, int steps, int64_t at, const int n
) {
    const int lanes = lanes_of(j, at);
    const int64_t padded = j->blocks * V;
    const vf d = load_some(j->d + at, lanes);
    vf a2[MOST_STATES], back[MOST_STATES], da[MOST_STATES];
    for (int i = 0; i < n; i++) {
        a2[i] = load_some(j->a2 + i * j->channels + at, lanes);
        back[i] = load(m->back + i * padded + at);
        da[i] = load(m->da + i * padded + at);
    }
    for (int k = steps - 1; k >= 0; k--) {
        const int64_t place = (row0 + k) * j->channels + at;
        const float *b = j->b + (row0 + k) * n, *c = j->c + (row0 + k) * n;
        const vf u = load_some(j->u + place, lanes), delta = load_some(j->delta + place, lanes);
        const vf grad = load_some(j->grad + place, lanes), driven = delta * u;
        const vf *earlier = m->state + k * n, *state = earlier + n, *decay = m->decay + k * n;
        vf *db = m->db + k * n, *dc = m->dc + k * n;
        vf through = splat(0.0f), exponents = splat(0.0f);
#pragma GCC unroll 16
        for (int i = 0; i < n; i++) {
            const vf all = back[i] + grad * c[i];
            dc[i] += grad * state[i];
            db[i] += driven * all;
            through += all * b[i];
            back[i] = all * decay[i];
            const vf exponent = back[i] * earlier[i];
            exponents += exponent * a2[i];
            da[i] += exponent * delta;
        }
        store_some(j->du + place, through * delta + grad * d, lanes);
        store_some(j->ddelta + place, through * u + exponents * (1.0f / LOG2E), lanes);
    }
    for (int i = 0; i < n; i++) {
        store(m->back + i * padded + at, back[i]);
        store(m->da + i * padded + at, da[i]);
    }
}

INLINE void gradient_of_sequence(const scan_job *j, int64_t sequence, float *scratch, const int n) {
    const int64_t padded = j->blocks * V, stretches = (j->length + STEPS - 1) / STEPS;
    stretch_memory m;
    m.state = (vf *)scratch;
    m.decay = m.state + (STEPS + 1) * n;
    m.db = m.decay + STEPS * n;
    m.dc = m.db + STEPS * n;
    m.back = (float *)(m.dc + STEPS * n);
    m.da = m.back + n * padded;
    m.before = m.da + n * padded;
    memset(m.back, 0, (size_t)(2 * n * padded) * sizeof(float));
    states_before(j, sequence, m.before, n);
    for (int64_t stretch = stretches - 1; stretch >= 0; stretch--) {
        const int64_t start = stretch * STEPS, row0 = sequence * j->length + start;
        const int steps = j->length - start < STEPS ? (int)(j->length - start) : STEPS;
        memset(m.db, 0, (size_t)(2 * STEPS * n) * sizeof(vf));
        for (int64_t at = 0; at < j->channels; at += V) {
            for (int i = 0; i < n; i++)
                m.state[i] = load(m.before + (stretch * n + i) * padded + at);
            stretch_forward(j, &m, row0, steps, at, n);
            stretch_back(j, &m, row0, steps, at, n);
        }
        for (int k = 0; k < steps * n; k++) {
            j->db[row0 * n + k] = sum_of(m.db[k]);
            j->dc[row0 * n + k] = sum_of(m.dc[k]);
        }
    }
    for (int i = 0; i < n; i++)
        memcpy(j->da + (sequence * n + i) * j->channels, m.da + i * padded,
               (size_t)j->channels * sizeof(float));
}

static void gradient_item(void *job, int64_t sequence, int worker) {
    const scan_job *j = job;
    float *scratch = j->scratch + worker * j->scratch_size;
    if (j->states == 16)
        gradient_of_sequence(j, sequence, scratch, 16);
    else
        gradient_of_sequence(j, sequence, scratch, j->states);
}

/* Gradients given grad (s, l, c) by y; da (s, n, c) stays apart by sequence, so that its sum does not
 * depend on threads. Returns 0, or 1 where memory is short. */
int meristem_scan_gradient(
    const float *grad, const float *u, const float *delta, const float *a2, const float *b,
    const float *c, const float *d, float *du, float *ddelta, float *da, float *db, float *dc,
    int64_t sequences, int64_t length, int64_t channels, int64_t states, int64_t threads
) {
    scan_job j = {.u = u, .delta = delta, .a2 = a2, .b = b, .c = c, .d = d, .grad = grad, .du = du,
                  .ddelta = ddelta, .da = da, .db = db, .dc = dc, .length = length,
                  .channels = channels, .blocks = (channels + V - 1) / V, .states = (int)states};
    const int64_t stretches = (length + STEPS - 1) / STEPS;
    j.scratch_size = (4 * STEPS + 1) * states * V + (stretches + 2) * states * j.blocks * V;
    if (threads > sequences) threads = sequences;
    if (threads < 1) return 0;
    void *memory = NULL;
    if (posix_memalign(&memory, 64, (size_t)(threads * j.scratch_size) * sizeof(float))) return 1;
    j.scratch = memory;
    run_items(gradient_item, &j, sequences, (int)threads);
    free(memory);
    return 0;
}
