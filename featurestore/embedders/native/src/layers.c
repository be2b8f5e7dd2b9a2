/* All layers of PlantCaduceus for one strand after another, with nothing left to do between calls.
 *
 * Numbers of channels are padded to multiples of V with zeros, in weights and in working arrays;
 * padded channels stay zero. A strand is computed alone, so its numbers depend neither on the
 * other strands of a call nor on threads. */
#include <stdlib.h>

#include "product.h"
#include "threads.h"

#define MOST_STATES 256
#define STEPS 64 /* steps whose step sizes are computed at once */
#define GROUP 4  /* strands that go through a layer one after another, while its weights are near */
#define SHORT 2048 /* longer strands go through alone: their own arrays outweigh the weights */

typedef struct {
    const float *conv; /* (width, c) */
    const float *conv_bias, *d, *dt_bias; /* (c) */
    const void *x_proj; /* packed (rank + 2 n, c) */
    const float *dt_proj; /* (blocks, rank, V) */
    const float *a2; /* (n, c): A · log2 e */
} direction;

typedef struct {
    const float *norm; /* (d) */
    const void *in_proj, *out_proj; /* packed (2 c, d) and (d, c) */
    direction ways[2]; /* forward, reverse */
} layer;

typedef struct {
    const layer *layers;
    const float *epsilons;
    const float *x;
    float *last, *residual, *kept;
    char *scratch;
    int64_t scratch_size, count, sequences, length, real, group;
    int64_t d, c, rank, states, p, width; /* padded: d, c and p = rank + 2 states */
    int format;
} network;

/* Working arrays of one worker. */
typedef struct {
    float *x, *residual;     /* (group, length, d) */
    void *normed;            /* (length, d), factors */
    float *both;             /* (length, 2 c): inner, gate */
    float *u[2];             /* (length, c), by direction */
    void *u_factors[2];      /* the same as factors; the same array in float32 */
    float *read[2];          /* (length, p): step, B, C */
    float *y;                /* (length, V) */
    void *mixed;             /* (length, c), factors */
} workspace;

static char *take(char **from, int64_t bytes) {
    char *here = *from;
    *from += (bytes + 63) / 64 * 64;
    return here;
}

static int64_t lay_out(const network *g, char *memory, workspace *w) {
    const int64_t l = g->length, wide = size_of(g->format);
    char *at = memory;
    w->x = (float *)take(&at, g->group * l * g->d * 4);
    w->residual = (float *)take(&at, g->group * l * g->d * 4);
    w->normed = take(&at, l * g->d * wide);
    w->both = (float *)take(&at, 2 * l * g->c * 4);
    w->y = (float *)take(&at, l * V * 4);
    w->mixed = take(&at, l * g->c * wide);
    for (int i = 0; i < 2; i++) {
        w->u[i] = (float *)take(&at, l * g->c * 4);
        w->u_factors[i] = g->format == FLOAT32 ? (void *)w->u[i] : take(&at, l * g->c * wide);
        w->read[i] = (float *)take(&at, l * g->p * 4);
    }
    return at - memory;
}

/* residual += x; normed = residual / root mean square · weight. */
static void add_and_norm(
    const network *g, const layer *y, float epsilon, const float *x, float *residual, void *normed
) {
    for (int64_t t = 0; t < g->length; t++, x += g->d, residual += g->d) {
        vf squares = {0};
        for (int64_t i = 0; i < g->d; i += V) {
            const vf all = load(residual + i) + load(x + i);
            store(residual + i, all);
            squares += all * all;
        }
        const float scale = 1.0f / sqrtf(sum_of(squares) / (float)g->real + epsilon);
        for (int64_t i = 0; i < g->d; i += V)
            emit(normed, t * g->d + i, load(residual + i) * scale * load(y->norm + i), g->format);
    }
}

/* The causal convolution and its mirror image, then SiLU: u of both directions. */
INLINE void convolve(
    const network *g, const layer *y, const workspace *w, const int width
) {
    const int64_t row = 2 * g->c, c = g->c;
    for (int64_t t = 0; t < g->length; t++) {
        const int64_t before = t < width - 1 ? t : width - 1;
        const int64_t left = g->length - 1 - t, after = left < width - 1 ? left : width - 1;
        for (int64_t i = 0; i < c; i += V) {
            const float *here = w->both + t * row + i;
            for (int way = 0; way < 2; way++) {
                const float *weight = y->ways[way].conv + i;
                const int64_t reach = way ? after : before, step = way ? row : -row;
                vf sum = load(y->ways[way].conv_bias + i);
                if (reach == width - 1)
#pragma GCC unroll 4
                    for (int k = width - 1; k >= 0; k--)
                        sum += load(weight + (width - 1 - k) * c) * load(here + k * step);
                else
                    for (int64_t k = reach; k >= 0; k--)
                        sum += load(weight + (width - 1 - k) * c) * load(here + k * step);
                sum = silu(sum);
                store(w->u[way] + t * c + i, sum);
                if (g->format != FLOAT32) emit(w->u_factors[way], t * c + i, sum, g->format);
            }
        }
    }
}

/* Step sizes of some rows and one block of channels. */
INLINE void step_sizes(
    const network *g, const direction *way, const float *read, int64_t rows, int64_t at, float *delta
) {
    const float *weights = way->dt_proj + at * g->rank;
    rows_by_panel(read, g->p, weights, g->rank, delta, V, rows, 1, FLOAT32);
    const vf bias = load(way->dt_bias + at);
    for (int64_t k = 0; k < rows; k++) store(delta + k * V, softplus(load(delta + k * V) + bias));
}

/* The scan of one direction and one block of channels; adds to y (length, V) where `backwards`. */
INLINE void scan(
    const network *g, const direction *way, const float *u, const float *read, float *y, int64_t at,
    const int backwards, const int n
) {
    vf h[MOST_STATES], a2[MOST_STATES];
    float delta[STEPS * V] __attribute__((aligned(64)));
    for (int i = 0; i < n; i++) {
        h[i] = (vf){0};
        a2[i] = load(way->a2 + i * g->c + at);
    }
    const vf d = load(way->d + at);
    for (int64_t done = 0; done < g->length; done += STEPS) {
        const int64_t rows = g->length - done < STEPS ? g->length - done : STEPS;
        const int64_t first = backwards ? g->length - done - rows : done;
        step_sizes(g, way, read + first * g->p, rows, at, delta);
        for (int64_t k = 0; k < rows; k++) {
            const int64_t in = backwards ? rows - 1 - k : k, t = first + in;
            const float *b = read + t * g->p + g->rank, *c = b + n;
            __builtin_prefetch(u + (backwards ? t - 8 : t + 8) * g->c + at);
            const vf step = load(delta + in * V), value = load(u + t * g->c + at);
            const vf driven = step * value;
            vf out = d * value;
#pragma GCC unroll 16
            for (int i = 0; i < n; i++) {
                h[i] = exp2_of(step * a2[i]) * h[i] + driven * b[i];
                out += h[i] * c[i];
            }
            store(y + t * V, backwards ? load(y + t * V) + out : out);
        }
    }
}

INLINE void scan_both(const network *g, const layer *y, const workspace *w, const int n) {
    for (int64_t at = 0; at < g->c; at += V) {
        scan(g, &y->ways[0], w->u[0], w->read[0], w->y, at, 0, n);
        scan(g, &y->ways[1], w->u[1], w->read[1], w->y, at, 1, n);
        for (int64_t t = 0; t < g->length; t++) {
            const vf gate = load(w->both + t * 2 * g->c + g->c + at);
            emit(w->mixed, t * g->c + at, load(w->y + t * V) * silu(gate), g->format);
        }
    }
}

static void run_layer(const network *g, int64_t number, const workspace *w, float *x, float *residual) {
    const layer *y = g->layers + number;
    const int64_t l = g->length, d = g->d, c = g->c;
    add_and_norm(g, y, g->epsilons[number], x, residual, w->normed);
    product(w->normed, d, l, d, y->in_proj, 2 * c, w->both, 2 * c, g->format);
    if (g->width == 4)
        convolve(g, y, w, 4);
    else
        convolve(g, y, w, (int)g->width);
    for (int i = 0; i < 2; i++)
        product(w->u_factors[i], c, l, c, y->ways[i].x_proj, g->p, w->read[i], g->p, g->format);
    if (g->states == 16)
        scan_both(g, y, w, 16);
    else
        scan_both(g, y, w, (int)g->states);
    product(w->mixed, c, l, c, y->out_proj, d, x, d, g->format);
}

static void copy_rows(float *to, int64_t ldt, const float *from, int64_t ldf, int64_t rows, int64_t n) {
    for (int64_t t = 0; t < rows; t++) memcpy(to + t * ldt, from + t * ldf, (size_t)n * 4);
}

/* One group of strands through all layers. */
static void run_group(void *job, int64_t item, int worker) {
    const network *g = job;
    const int64_t l = g->length, block = l * g->d, given = l * g->real;
    const int64_t first = item * g->group;
    const int64_t some = g->sequences - first < g->group ? g->sequences - first : g->group;
    workspace w;
    lay_out(g, g->scratch + worker * g->scratch_size, &w);
    memset(w.x, 0, (size_t)(some * block) * 4);
    memset(w.residual, 0, (size_t)(some * block) * 4);
    for (int64_t i = 0; i < some; i++)
        copy_rows(w.x + i * block, g->d, g->x + (first + i) * given, g->real, l, g->real);
    for (int64_t number = 0; number < g->count; number++)
        for (int64_t i = 0; i < some; i++) {
            float *x = w.x + i * block, *residual = w.residual + i * block;
            run_layer(g, number, &w, x, residual);
            if (g->kept)
                copy_rows(g->kept + (number * g->sequences + first + i) * given, g->real, x, g->d, l,
                          g->real);
        }
    for (int64_t i = 0; i < some; i++) {
        copy_rows(g->last + (first + i) * given, g->real, w.x + i * block, g->d, l, g->real);
        copy_rows(g->residual + (first + i) * given, g->real, w.residual + i * block, g->d, l,
                  g->real);
    }
}

int64_t meristem_lanes(void) { return V; }

int64_t meristem_has_bfloat16(void) { return HAS_BFLOAT16; }

/* Packs weights (n, k), n a multiple of V, for products of one format; `to` has n · k values. */
void meristem_pack(const float *weights, void *to, int64_t n, int64_t k, int64_t format) {
    int64_t column = 0, at = 0;
    for (int panel = 0; panel < panels_of(n); panel++) {
        const int64_t columns = width_of(n, panel) * V, together = format == BFLOAT16 ? 2 : 1;
        for (int64_t i = 0; i < k; i += together)
            for (int64_t j = 0; j < columns; j++)
                for (int64_t m = 0; m < together; m++, at++) {
                    const float value = weights[(column + j) * k + i + m];
                    if (format == FLOAT32) {
                        ((float *)to)[at] = value;
                        continue;
                    }
                    const float near = rounded(splat(value))[0];
                    uint32_t bits;
                    memcpy(&bits, &near, 4);
                    if (format == ROUNDED)
                        ((float *)to)[at] = near;
                    else
                        ((uint16_t *)to)[at] = (uint16_t)(bits >> 16);
                }
        column += columns;
    }
}

/* All layers on x (s, l, real). `sizes`: layers, sequences, length, real d, padded d, padded c, rank,
 * states, padded p, width, format, threads. `kept` (layers, s, l, real) may be NULL. Returns 0, or
 * 1 where memory is short. */
int meristem_layers(
    const layer *layers, const float *epsilons, const float *x, float *last, float *residual,
    float *kept, const int64_t *sizes
) {
    network g = {.layers = layers, .epsilons = epsilons, .x = x, .last = last, .residual = residual,
                 .kept = kept, .count = sizes[0], .sequences = sizes[1], .length = sizes[2],
                 .real = sizes[3], .d = sizes[4], .c = sizes[5], .rank = sizes[6],
                 .states = sizes[7], .p = sizes[8], .width = sizes[9], .format = (int)sizes[10]};
    int64_t threads = sizes[11] < g.sequences ? sizes[11] : g.sequences;
    if (threads < 1) return 0;
    const int64_t most = g.length > SHORT ? 1 : GROUP;
    const int64_t turns = (g.sequences + threads * most - 1) / (threads * most);
    g.group = (g.sequences + threads * turns - 1) / (threads * turns);
    workspace w;
    g.scratch_size = lay_out(&g, NULL, &w);
    void *memory = NULL;
    if (posix_memalign(&memory, 64, (size_t)(threads * g.scratch_size))) return 1;
    g.scratch = memory;
    run_items(run_group, &g, (g.sequences + g.group - 1) / g.group, (int)threads);
    free(memory);
    return 0;
}
