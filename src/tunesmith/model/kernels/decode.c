/* Tokens through all layers of a Llama-like model in fp32: a step of decoding (a token for each row), or prompts (a row for each token).
 * Built by model/compiled.py, called by model/decode_compiled.py; the numbers are its own: norm, queries keys values, turn, attention
 * over prefix and cache, feed-forward, head.
 *
 * A matrix (out, in) lies in panels of 64 outputs: (out / 64, in, 64), the last filled up with 0. Rows are computed up to six at a
 * time, so a panel is read from memory once; while it is used the next one is fetched, and so are the next row's keys and values.
 */
#include "vectors.h"
#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_num_threads() 1
#endif

#define PANEL 64
#define PARTS (PANEL / LANES)
#define LINE 16 /* floats of a cache line */
#define MOST 6

/* The sums of four vectors, in lanes 0 to 3: a tree that adds two vectors at a time, so one dot product costs two additions. */
static inline vec totals(vec a, vec b, vec c, vec d) {
#if LANES == 16
  const ivec low = {0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27}, high = low + 4;
  vec ab = __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high); /* a a | b b, four lanes each */
  vec cd = __builtin_shuffle(c, d, low) + __builtin_shuffle(c, d, high);
  /* lanes: 0-3 and 8-11 belong to the first, 4-7 and 12-15 to the second */
  const ivec front = {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23}, back = front + 8;
  vec four = __builtin_shuffle(ab, cd, front) + __builtin_shuffle(ab, cd, back); /* four lanes each of a, b, c, d */
  four = four + __builtin_shuffle(four, (ivec){2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13});
  four = four + __builtin_shuffle(four, (ivec){1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14});
  return __builtin_shuffle(four, (ivec){0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12});
#else
  const ivec low = {0, 1, 2, 3, 8, 9, 10, 11}, high = low + 4;
  vec ab = __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high); /* a a a a b b b b */
  vec cd = __builtin_shuffle(c, d, low) + __builtin_shuffle(c, d, high);
  const ivec even = {0, 1, 8, 9, 4, 5, 12, 13}, odd = even + 2;
  vec four = __builtin_shuffle(ab, cd, even) + __builtin_shuffle(ab, cd, odd); /* a a c c b b d d */
  four = four + __builtin_shuffle(four, (ivec){1, 0, 3, 2, 5, 4, 7, 6});
  return __builtin_shuffle(four, (ivec){0, 4, 2, 6, 0, 4, 2, 6});
#endif
}

static inline vec silu(vec x) {
  ivec below = x < (vec){0};
  vec away = (vec)(((ivec)x & below) | ((ivec)(-x) & ~below)); /* -|x| */
  vec e = expv(away);
  vec one = e * 0.0f + 1.0f;
  vec top = (vec)(((ivec)e & below) | ((ivec)one & ~below));
  return x * top / (e + 1.0f);
}

/* acc[r][c] = sum over k of x[r][k] * w[k][LANES c ..]; a panel's 64 outputs of R rows, SPAN vectors at a time, as many as the registers
 * hold the sums of. A line of `next` is fetched with each k. */
#define TILE(R)                                                                                                          \
  static inline void tile##R(const float *x, int stride, const float *w, int in, const float *next, vec acc[MOST][PARTS]) { \
    for (int part = 0; part < PARTS; part += SPAN) {                                                                   \
      vec a[R][SPAN];                                                                                                  \
      for (int r = 0; r < R; r++)                                                                                      \
        for (int c = 0; c < SPAN; c++) a[r][c] = (vec){0};                                                             \
      for (int k = 0; k < in; k++) {                                                                                   \
        const float *at = w + (int64_t)k * PANEL + part * LANES;                                                       \
        if (!part) __builtin_prefetch(next + (int64_t)k * LINE, 0, 2);                                                 \
        vec v[SPAN];                                                                                                   \
        for (int c = 0; c < SPAN; c++) v[c] = load(at + c * LANES);                                                    \
        for (int r = 0; r < R; r++)                                                                                    \
          for (int c = 0; c < SPAN; c++) a[r][c] += x[(int64_t)r * stride + k] * v[c];                                 \
      }                                                                                                                \
      for (int r = 0; r < R; r++)                                                                                      \
        for (int c = 0; c < SPAN; c++) acc[r][part + c] = a[r][c];                                                     \
    }                                                                                                                  \
  }
TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)

/* Rows `at` and on, up to six of them: their sums with a panel w. A quarter of `next`, a panel too, is fetched; returns how many rows. */
static inline int tile(int at, int rows, const float *x, const float *w, int in, const float *next, vec acc[MOST][PARTS]) {
  int some = rows - at < MOST ? rows - at : MOST, quarter = at / MOST % (PANEL / LINE);
  x += (int64_t)at * in;
  next += (int64_t)quarter * in * LINE;
  switch (some) {
    case 1: tile1(x, in, w, in, next, acc); break;
    case 2: tile2(x, in, w, in, next, acc); break;
    case 3: tile3(x, in, w, in, next, acc); break;
    case 4: tile4(x, in, w, in, next, acc); break;
    case 5: tile5(x, in, w, in, next, acc); break;
    default: tile6(x, in, w, in, next, acc);
  }
  return some;
}

typedef struct {
  const float *norm, *qkv, *bias, *norm_q, *norm_k, *out, *norm_after, *gate, *up, *down;
} layer;

typedef struct {
  int32_t rows, layers, hidden, heads, groups, dim, inner, columns, prefix, cache_rows;
  float eps, scale;
} facts;

/* Where a token stands: its row of the cache, that row's first column, the token's own. */
typedef struct {
  int32_t row, start, column;
} place;

static void normed(const float *x, const float *gain, int n, float eps, float *to) {
  float sum = 0;
  int i = 0;
  vec squares = {0};
  for (; i + LANES <= n; i += LANES) squares += load(x + i) * load(x + i);
  for (; i < n; i++) sum += x[i] * x[i];
  float share = 1.0f / sqrtf((sum + total(squares)) / n + eps);
  for (i = 0; i + LANES <= n; i += LANES) store(to + i, load(x + i) * share * load(gain + i));
  for (; i < n; i++) to[i] = x[i] * share * gain[i];
}

/* Writes one panel's outputs of all rows: to (rows, width) = or += x w (+ bias). `then`: the panel that is wanted after the last. */
static void panel(int p, int rows, const float *x, int in, const float *w, int width, const float *bias, int add, const float *then,
                  float *to) {
  vec acc[MOST][PARTS];
  float spare[PANEL];
  int first = p * PANEL, have = width - first < PANEL ? width - first : PANEL;
  const float *mine = w + (int64_t)p * in * PANEL, *next = first + PANEL < width ? mine + (int64_t)in * PANEL : then;
  for (int at = 0; at < rows; at += MOST) {
    int some = tile(at, rows, x, mine, in, next, acc);
    for (int r = 0; r < some; r++) {
      float *row = to + (int64_t)(at + r) * width + first;
      if (have == PANEL && !bias) {
        for (int c = 0; c < PARTS; c++) {
          if (add) acc[r][c] += load(row + c * LANES);
          store(row + c * LANES, acc[r][c]);
        }
        continue;
      }
      for (int c = 0; c < PARTS; c++) store(spare + c * LANES, acc[r][c]);
      for (int j = 0; j < have; j++) row[j] = (add ? row[j] : 0) + spare[j] + (bias ? bias[first + j] : 0);
    }
  }
}

static void gated(int p, int rows, const float *x, int in, const float *gate, const float *up, int width, const float *then, float *to) {
  vec g[MOST][PARTS], u[MOST][PARTS];
  float spare[PANEL];
  int first = p * PANEL, have = width - first < PANEL ? width - first : PANEL, more = first + PANEL < width, some;
  int64_t size = (int64_t)in * PANEL;
  gate += p * size;
  up += p * size;
  for (int at = 0; at < rows; at += some) {
    tile(at, rows, x, gate, in, more ? gate + size : then, g);
    some = tile(at, rows, x, up, in, more ? up + size : then, u);
    for (int r = 0; r < some; r++) {
      for (int c = 0; c < PARTS; c++) store(spare + c * LANES, silu(g[r][c]) * u[r][c]);
      memcpy(to + (int64_t)(at + r) * width + first, spare, have * sizeof(float));
    }
  }
}

static void turned(float *x, const float *cosines, const float *sines, int dim) {
  float old[1024];
  memcpy(old, x, dim * sizeof(float));
  int half = dim / 2;
  for (int d = 0; d < half; d++) {
    x[d] = old[d] * cosines[d] + old[d + half] * sines[d];
    x[d + half] = old[d + half] * cosines[d + half] + old[d] * sines[d + half];
  }
}

/* to[j] = q . x[j] for j < n; x (n, dim). Meanwhile as much of `next` and of `after` is fetched, where they are given. */
static inline void against(const float *q, const float *x, int n, int dim, const float *next, const float *after, float *to) {
  int j = 0;
  for (; j + 4 <= n; j += 4) {
    const float *at = x + (int64_t)j * dim;
    for (int d = 0; next && d < 4 * dim; d += LINE) __builtin_prefetch(next + (int64_t)j * dim + d, 0, 2);
    for (int d = 0; after && d < 4 * dim; d += LINE) __builtin_prefetch(after + (int64_t)j * dim + d, 0, 2);
    vec four = totals(product(q, at, dim), product(q, at + dim, dim), product(q, at + 2 * dim, dim), product(q, at + 3 * dim, dim));
    memcpy(to + j, &four, 4 * sizeof(float));
  }
  for (; j < n; j++) to[j] = total(product(q, x + (int64_t)j * dim, dim));
}

/* to[:] += sum over j of p[j] x[j][:]. */
static inline void weighted(const float *p, const float *x, int n, int dim, float *to) {
  for (int d = 0; d < dim; d += LANES) {
    vec a = {0}, b = {0}, c = {0}, e = {0};
    int j = 0;
    for (; j + 4 <= n; j += 4) {
      const float *at = x + (int64_t)j * dim + d;
      a += p[j] * load(at);
      b += p[j + 1] * load(at + dim);
      c += p[j + 2] * load(at + 2 * dim);
      e += p[j + 3] * load(at + 3 * dim);
    }
    for (; j < n; j++) a += p[j] * load(x + (int64_t)j * dim + d);
    store(to + d, load(to + d) + ((a + b) + (c + e)));
  }
}

/* A row's queries, keys and values of one key head: normed, turned, keys and values into the cache. */
static void placed(float *qkv, const layer *l, facts f, const float *turns, float *keys, float *values, int group) {
  int each = f.heads / f.groups;
  float *k = qkv + (f.heads + group) * f.dim, *v = k + f.groups * f.dim;
  if (l->norm_k) normed(k, l->norm_k, f.dim, f.eps, k);
  turned(k, turns, turns + f.dim, f.dim);
  memcpy(keys, k, f.dim * sizeof(float));
  memcpy(values, v, f.dim * sizeof(float));
  for (int e = 0; e < each; e++) {
    float *q = qkv + (group * each + e) * f.dim;
    if (l->norm_q) normed(q, l->norm_q, f.dim, f.eps, q);
    turned(q, turns, turns + f.dim, f.dim);
    for (int d = 0; d < f.dim; d++) q[d] *= f.scale;
  }
}

/* A row's queries of one key head against prefix and `own` columns of its cache row; out is its place in the attended row. The keys
 * next_k and values next_v of another row are fetched. */
static void attend(const float *qkv, facts f, const float *keys, const float *values, const float *far_k, const float *far_v, int own,
                   int group, const float *next_k, const float *next_v, float *scores, float *out) {
  int each = f.heads / f.groups, n = f.prefix + own;
  for (int e = 0; e < each; e++) {
    const float *q = qkv + (group * each + e) * f.dim;
    float *to = out + (group * each + e) * f.dim;
    against(q, far_k, f.prefix, f.dim, 0, 0, scores);
    against(q, keys, own, f.dim, e ? 0 : next_k, e == each - 1 ? next_v : 0, scores + f.prefix);
    int filled = (n + LANES - 1) / LANES * LANES;
    for (int j = n; j < filled; j++) scores[j] = -INFINITY;
    vec high = load(scores);
    for (int j = LANES; j < filled; j += LANES) high = larger(high, load(scores + j));
    float most = highest(high);
    vec sum = {0};
    for (int j = 0; j < filled; j += LANES) {
      vec p = expv(load(scores + j) - most);
      store(scores + j, p);
      if (j + LANES <= n) sum += p;
    }
    float all = total(sum);
    for (int j = n / LANES * LANES; j < n; j++) all += scores[j];
    memset(to, 0, f.dim * sizeof(float));
    weighted(scores, far_v, f.prefix, f.dim, to);
    weighted(scores + f.prefix, values, own, f.dim, to);
    for (int d = 0; d < f.dim; d++) to[d] /= all;
  }
}

/* x (rows, hidden) goes in as embeddings and comes out as the hidden states before the last norm. turns (rows, 2, dim): cosine and
 * signed sine. cache (layers, cache_rows, 2 groups, columns, dim); prefix (layers, 2, groups, prefix, dim); places (rows,). A token
 * reads its row of the cache from its start up to its own column, which it writes first. Returns 0, or 1 when memory is short. */
int decode(const layer *layers, facts f, float *x, const float *turns, float *cache, const float *prefix, const place *places) {
  int wide = (f.heads + 2 * f.groups) * f.dim, attended = f.heads * f.dim, items = f.rows * f.groups;
  size_t head = (size_t)f.columns * f.dim, row = 2 * f.groups * head, far = (size_t)f.prefix * f.dim;
  size_t room = (size_t)f.rows * (f.hidden + wide + attended + f.inner);
  float *work = aligned_alloc(64, (room * sizeof(float) + 63) / 64 * 64);
  if (!work) return 1;
  float *flat = work, *qkv = flat + (size_t)f.rows * f.hidden, *mixed = qkv + (size_t)f.rows * wide;
  float *middle = mixed + (size_t)f.rows * attended;
  int failed = 0;
#pragma omp parallel
  {
    float *scores = aligned_alloc(64, ((size_t)(f.prefix + f.columns + LANES) * sizeof(float) + 63) / 64 * 64);
    int threads = omp_get_num_threads();
    if (!scores) {
#pragma omp atomic write
      failed = 1;
    }
    for (int number = 0; number < f.layers; number++) {
      const layer *l = layers + number;
      const float *later = number + 1 < f.layers ? l[1].qkv : l->qkv;
      float *held = cache + (size_t)number * f.cache_rows * row;
#pragma omp for schedule(static)
      for (int r = 0; r < f.rows; r++) normed(x + (size_t)r * f.hidden, l->norm, f.hidden, f.eps, flat + (size_t)r * f.hidden);
#pragma omp for schedule(static)
      for (int p = 0; p < (wide + PANEL - 1) / PANEL; p++) panel(p, f.rows, flat, f.hidden, l->qkv, wide, l->bias, 0, l->out, qkv);
#pragma omp for schedule(static, 1)
      for (int item = 0; item < items; item++) {
        int r = item / f.groups, group = item % f.groups;
        float *keys = held + places[r].row * row + group * head + (size_t)places[r].column * f.dim;
        placed(qkv + (size_t)r * wide, l, f, turns + (size_t)r * 2 * f.dim, keys, keys + f.groups * head, group);
      }
#pragma omp for schedule(static, 1)
      for (int item = 0; item < items; item++) {
        int r = item / f.groups, group = item % f.groups, after = item + threads;
        place own = places[r], next = after < items ? places[after / f.groups] : own;
        const float *keys = held + own.row * row + group * head + (size_t)own.start * f.dim;
        const float *next_k = held + next.row * row + after % f.groups * head + (size_t)next.start * f.dim;
        const float *far_k = prefix + (size_t)(2 * number * f.groups + group) * far;
        int fetches = next.row != own.row; /* a prompt's tokens read the same row: it is near */
        if (scores)
          attend(qkv + (size_t)r * wide, f, keys, keys + f.groups * head, far_k, far_k + f.groups * far, own.column - own.start + 1, group,
                 fetches ? next_k : 0, fetches ? next_k + f.groups * head : 0, scores, mixed + (size_t)r * attended);
      }
#pragma omp for schedule(static)
      for (int p = 0; p < (f.hidden + PANEL - 1) / PANEL; p++) panel(p, f.rows, mixed, attended, l->out, f.hidden, 0, 1, l->gate, x);
#pragma omp for schedule(static)
      for (int r = 0; r < f.rows; r++) normed(x + (size_t)r * f.hidden, l->norm_after, f.hidden, f.eps, flat + (size_t)r * f.hidden);
#pragma omp for schedule(static)
      for (int p = 0; p < (f.inner + PANEL - 1) / PANEL; p++) gated(p, f.rows, flat, f.hidden, l->gate, l->up, f.inner, l->down, middle);
#pragma omp for schedule(static)
      for (int p = 0; p < (f.hidden + PANEL - 1) / PANEL; p++) panel(p, f.rows, middle, f.inner, l->down, f.hidden, 0, 1, later, x);
    }
    free(scores);
  }
  free(work);
  return failed;
}

/* logits (rows, width) of hidden states x (rows, hidden), which are normed in their place. */
void head(const float *norm, const float *w, int32_t rows, int32_t hidden, int32_t width, float eps, float *x, float *logits) {
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (int r = 0; r < rows; r++) normed(x + (size_t)r * hidden, norm, hidden, eps, x + (size_t)r * hidden);
#pragma omp for schedule(static)
    for (int p = 0; p < (width + PANEL - 1) / PANEL; p++) panel(p, rows, x, hidden, w, width, 0, 0, w, logits);
  }
}
