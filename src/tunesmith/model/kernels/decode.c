/* One step of decoding through all layers of a Llama-like model in fp32: a token for each row. Built by model/compiled.py, called by
 * model/decode_lean.py; the numbers are its own: norm, queries keys values, turn, attention over prefix and cache, feed-forward.
 *
 * A matrix (out, in) lies in panels of 64 outputs: (out / 64, in, 64), the last filled up with 0. Rows are computed up to six at a
 * time, so a panel is read once or from a near cache.
 */
#include "vectors.h"

#define PANEL 64
#define MOST 6

/* The sums of four vectors, in lanes 0 to 3: a tree that adds two vectors at a time, so one dot product costs two additions. */
static inline vec totals(vec a, vec b, vec c, vec d) {
  const ivec low = {0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27}, high = low + 4;
  vec ab = __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high); /* a a | b b, four lanes each */
  vec cd = __builtin_shuffle(c, d, low) + __builtin_shuffle(c, d, high);
  /* lanes: 0-3 and 8-11 belong to the first, 4-7 and 12-15 to the second */
  const ivec front = {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23}, back = front + 8;
  vec four = __builtin_shuffle(ab, cd, front) + __builtin_shuffle(ab, cd, back); /* four lanes each of a, b, c, d */
  four = four + __builtin_shuffle(four, (ivec){2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13});
  four = four + __builtin_shuffle(four, (ivec){1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14});
  return __builtin_shuffle(four, (ivec){0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12});
}

static inline vec silu(vec x) {
  ivec below = x < (vec){0};
  vec away = (vec)(((ivec)x & below) | ((ivec)(-x) & ~below)); /* -|x| */
  vec e = expv(away);
  vec one = e * 0.0f + 1.0f;
  vec top = (vec)(((ivec)e & below) | ((ivec)one & ~below));
  return x * top / (e + 1.0f);
}

/* acc[r][c] = sum over k of x[r][k] * w[k][16 c ..]; a panel's 64 outputs of R rows. */
#define TILE(R)                                                                                         \
  static inline void tile##R(const float *x, int stride, const float *w, int in, vec acc[MOST][4]) {    \
    vec a[R][4];                                                                                        \
    for (int r = 0; r < R; r++)                                                                         \
      for (int c = 0; c < 4; c++) a[r][c] = (vec){0};                                                   \
    for (int k = 0; k < in; k++) {                                                                      \
      const float *at = w + (int64_t)k * PANEL;                                                         \
      vec w0 = load(at), w1 = load(at + 16), w2 = load(at + 32), w3 = load(at + 48);                    \
      for (int r = 0; r < R; r++) {                                                                     \
        float y = x[(int64_t)r * stride + k];                                                           \
        a[r][0] += y * w0;                                                                              \
        a[r][1] += y * w1;                                                                              \
        a[r][2] += y * w2;                                                                              \
        a[r][3] += y * w3;                                                                              \
      }                                                                                                 \
    }                                                                                                   \
    for (int r = 0; r < R; r++)                                                                         \
      for (int c = 0; c < 4; c++) acc[r][c] = a[r][c];                                                  \
  }
TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)

static inline void tile(int rows, const float *x, int stride, const float *w, int in, vec acc[MOST][4]) {
  switch (rows) {
    case 1: tile1(x, stride, w, in, acc); break;
    case 2: tile2(x, stride, w, in, acc); break;
    case 3: tile3(x, stride, w, in, acc); break;
    case 4: tile4(x, stride, w, in, acc); break;
    case 5: tile5(x, stride, w, in, acc); break;
    default: tile6(x, stride, w, in, acc);
  }
}

typedef struct {
  const float *norm, *qkv, *bias, *norm_q, *norm_k, *out, *norm_after, *gate, *up, *down;
} layer;

typedef struct {
  int32_t rows, layers, hidden, heads, groups, dim, inner, columns, column, prefix, cache_rows;
  float eps, scale;
} facts;

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

/* Writes one panel's outputs of all rows: to (rows, width) = or += x w (+ bias). */
static void panel(int p, int rows, const float *x, int in, const float *w, int width, const float *bias, int add, float *to) {
  vec acc[MOST][4];
  float spare[PANEL];
  int first = p * PANEL, have = width - first < PANEL ? width - first : PANEL;
  for (int at = 0; at < rows; at += MOST) {
    int some = rows - at < MOST ? rows - at : MOST;
    tile(some, x + (int64_t)at * in, in, w + (int64_t)p * in * PANEL, in, acc);
    for (int r = 0; r < some; r++) {
      float *row = to + (int64_t)(at + r) * width + first;
      if (have == PANEL && !bias) {
        for (int c = 0; c < 4; c++) {
          if (add) acc[r][c] += load(row + c * LANES);
          store(row + c * LANES, acc[r][c]);
        }
        continue;
      }
      for (int c = 0; c < 4; c++) store(spare + c * LANES, acc[r][c]);
      for (int j = 0; j < have; j++) row[j] = (add ? row[j] : 0) + spare[j] + (bias ? bias[first + j] : 0);
    }
  }
}

static void gated(int p, int rows, const float *x, int in, const float *gate, const float *up, int width, float *to) {
  vec g[MOST][4], u[MOST][4];
  float spare[PANEL];
  int first = p * PANEL, have = width - first < PANEL ? width - first : PANEL;
  for (int at = 0; at < rows; at += MOST) {
    int some = rows - at < MOST ? rows - at : MOST;
    tile(some, x + (int64_t)at * in, in, gate + (int64_t)p * in * PANEL, in, g);
    tile(some, x + (int64_t)at * in, in, up + (int64_t)p * in * PANEL, in, u);
    for (int r = 0; r < some; r++) {
      for (int c = 0; c < 4; c++) store(spare + c * LANES, silu(g[r][c]) * u[r][c]);
      memcpy(to + (int64_t)(at + r) * width + first, spare, have * sizeof(float));
    }
  }
}

static void turned(float *x, const float *cosines, const float *sines, int dim) {
  float old[1024];
  memcpy(old, x, dim * sizeof(float));
  for (int d = 0; d < dim; d++) x[d] = old[d] * cosines[d] + old[d < dim / 2 ? d + dim / 2 : d - dim / 2] * sines[d];
}

static inline vec product(const float *a, const float *b, int dim) {
  vec sum = load(a) * load(b);
  for (int d = LANES; d < dim; d += LANES) sum += load(a + d) * load(b + d);
  return sum;
}

/* to[j] = q . x[j] for j < n; x (n, dim). */
static inline void against(const float *q, const float *x, int n, int dim, float *to) {
  int j = 0;
  for (; j + 4 <= n; j += 4) {
    const float *at = x + (int64_t)j * dim;
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

/* A row's queries of one key head against prefix and cache; qkv is its row, out its place in the attended row. */
static void attend(float *qkv, const layer *l, facts f, const float *turns, float *keys, float *values, const float *far_k,
                   const float *far_v, int start, int group, float *scores, float *out) {
  int each = f.heads / f.groups, own = f.column - start + 1, n = f.prefix + own;
  float *k = qkv + (f.heads + group) * f.dim, *v = k + f.groups * f.dim;
  if (l->norm_k) normed(k, l->norm_k, f.dim, f.eps, k);
  turned(k, turns, turns + f.dim, f.dim);
  memcpy(keys + (int64_t)f.column * f.dim, k, f.dim * sizeof(float));
  memcpy(values + (int64_t)f.column * f.dim, v, f.dim * sizeof(float));
  for (int e = 0; e < each; e++) {
    float *q = qkv + (group * each + e) * f.dim, *to = out + (group * each + e) * f.dim;
    if (l->norm_q) normed(q, l->norm_q, f.dim, f.eps, q);
    turned(q, turns, turns + f.dim, f.dim);
    for (int d = 0; d < f.dim; d++) q[d] *= f.scale;
    against(q, far_k, f.prefix, f.dim, scores);
    against(q, keys + (int64_t)start * f.dim, own, f.dim, scores + f.prefix);
    float most = scores[0];
    for (int j = 1; j < n; j++) most = scores[j] > most ? scores[j] : most;
    int filled = (n + LANES - 1) / LANES * LANES;
    for (int j = n; j < filled; j++) scores[j] = -INFINITY;
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
    weighted(scores + f.prefix, values + (int64_t)start * f.dim, own, f.dim, to);
    for (int d = 0; d < f.dim; d++) to[d] /= all;
  }
}

/* x (rows, hidden) goes in as embeddings and comes out as the hidden states before the last norm. turns (rows, 2, dim): cosine and
 * signed sine. cache (layers, cache_rows, 2 groups, columns, dim); prefix (layers, 2, groups, prefix, dim). Returns 0, or 1 when
 * memory is short. */
int decode(const layer *layers, facts f, float *x, const float *turns, float *cache, const float *prefix, const int32_t *starts) {
  int wide = (f.heads + 2 * f.groups) * f.dim, attended = f.heads * f.dim;
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
    if (!scores) {
#pragma omp atomic write
      failed = 1;
    }
    for (int number = 0; number < f.layers; number++) {
      const layer *l = layers + number;
#pragma omp for schedule(static)
      for (int r = 0; r < f.rows; r++) normed(x + (size_t)r * f.hidden, l->norm, f.hidden, f.eps, flat + (size_t)r * f.hidden);
#pragma omp for schedule(static)
      for (int p = 0; p < (wide + PANEL - 1) / PANEL; p++) panel(p, f.rows, flat, f.hidden, l->qkv, wide, l->bias, 0, qkv);
#pragma omp for schedule(static)
      for (int item = 0; item < f.rows * f.groups; item++) {
        int r = item / f.groups, group = item % f.groups;
        float *keys = cache + ((size_t)number * f.cache_rows + r) * row + group * head;
        const float *far_k = prefix + (size_t)(2 * number * f.groups + group) * far;
        if (scores)
          attend(qkv + (size_t)r * wide, l, f, turns + (size_t)r * 2 * f.dim, keys, keys + f.groups * head, far_k,
                 far_k + f.groups * far, starts[r], group, scores, mixed + (size_t)r * attended);
      }
#pragma omp for schedule(static)
      for (int p = 0; p < (f.hidden + PANEL - 1) / PANEL; p++) panel(p, f.rows, mixed, attended, l->out, f.hidden, 0, 1, x);
#pragma omp for schedule(static)
      for (int r = 0; r < f.rows; r++) normed(x + (size_t)r * f.hidden, l->norm_after, f.hidden, f.eps, flat + (size_t)r * f.hidden);
#pragma omp for schedule(static)
      for (int p = 0; p < (f.inner + PANEL - 1) / PANEL; p++) gated(p, f.rows, flat, f.hidden, l->gate, l->up, f.inner, middle);
#pragma omp for schedule(static)
      for (int p = 0; p < (f.hidden + PANEL - 1) / PANEL; p++) panel(p, f.rows, middle, f.inner, l->down, f.hidden, 0, 1, x);
    }
    free(scores);
  }
  free(work);
  return failed;
}
