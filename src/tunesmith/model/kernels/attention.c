/* Causal attention over the documents of a packed row, forward and backward, for CPUs. Built by model/compiled.py; the numbers
 * are model/segments.py's: softmax(q k' * scale) v within each document, keys later than the query unseen.
 *
 * Layout: q, o, dq (tokens, heads, dim); k, v, dk, dv (tokens, groups, dim); lse (heads, tokens): log-sum-exp of each query's
 * scores. bounds (documents + 1). dim is a multiple of 16, heads one of groups. Elements are float, or bfloat16 (bf16 != 0);
 * sums are float. A document's scores are made ROWS queries at a time and never kept: backward makes them again.
 */
#include "vectors.h"

#define ROWS (LANES == 16 ? 4 : 6) /* queries at a time: so many rows of SPAN sums stay in registers, and each load serves them all */
#if LANES == 16
#define LANE ((ivec){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
#else
#define LANE ((ivec){0, 1, 2, 3, 4, 5, 6, 7})
#endif
#define ALONE static __attribute__((noinline)) /* inlined, their addresses would push one another out of the registers */

/* n elements as floats, and floats as elements; n is a multiple of LANES. */
static inline void widen(float *to, const void *from, int64_t at, int n, int bf16) {
  for (int i = 0; i < n; i += LANES) store(to + i, get(from, at + i, bf16));
}

static inline void narrow(void *to, int64_t at, const float *from, int n, int bf16) {
  for (int i = 0; i < n; i += LANES) put(to, at + i, load(from + i), bf16);
}

/* s[r][j] = sum over d of q[r][d] * t[d][j], j < LANES * blocks; t (dim, width) is the transposed keys or values. */
ALONE void against(const float *q, const float *t, int dim, int width, int blocks, float *s) {
  int b = 0;
  for (; b + SPAN <= blocks; b += SPAN) {
    vec acc[ROWS][SPAN] = {{{0}}};
    for (int d = 0; d < dim; d++) {
      const float *row = t + (int64_t)d * width + b * LANES;
      vec x[SPAN];
      for (int c = 0; c < SPAN; c++) x[c] = load(row + c * LANES);
      for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < SPAN; c++) acc[r][c] += q[r * dim + d] * x[c];
    }
    for (int r = 0; r < ROWS; r++)
      for (int c = 0; c < SPAN; c++) store(s + (int64_t)r * width + (b + c) * LANES, acc[r][c]);
  }
  for (; b < blocks; b++) {
    vec acc[ROWS] = {{0}};
    for (int d = 0; d < dim; d++) {
      vec t0 = load(t + (int64_t)d * width + b * LANES);
      for (int r = 0; r < ROWS; r++) acc[r] += q[r * dim + d] * t0;
    }
    for (int r = 0; r < ROWS; r++) store(s + (int64_t)r * width + b * LANES, acc[r]);
  }
}

/* out[r][:] = sum over j < n of p[r][j] * x[j][:]; x (n, dim). */
ALONE void weighted(const float *p, const float *x, int n, int dim, int width, float *out) {
  int c = 0;
  for (; c + 2 * LANES <= dim; c += 2 * LANES) {
    vec acc[ROWS][2] = {{{0}}};
    for (int j = 0; j < n; j++) {
      vec x0 = load(x + (int64_t)j * dim + c), x1 = load(x + (int64_t)j * dim + c + LANES);
      for (int r = 0; r < ROWS; r++) {
        float w = p[(int64_t)r * width + j];
        acc[r][0] += w * x0;
        acc[r][1] += w * x1;
      }
    }
    for (int r = 0; r < ROWS; r++) {
      store(out + r * dim + c, acc[r][0]);
      store(out + r * dim + c + LANES, acc[r][1]);
    }
  }
  for (; c < dim; c += LANES) {
    vec acc[ROWS] = {{0}};
    for (int j = 0; j < n; j++) {
      vec x0 = load(x + (int64_t)j * dim + c);
      for (int r = 0; r < ROWS; r++) acc[r] += p[(int64_t)r * width + j] * x0;
    }
    for (int r = 0; r < ROWS; r++) store(out + r * dim + c, acc[r]);
  }
}

/* x[j][:] += sum over the ROWS rows of p[r][j] * y[r][:], two vectors of x at a time. */
ALONE void spread(const float *p, const float *y, int n, int dim, int width, float *x) {
  for (int c = 0; c < dim; c += 2 * LANES) {
    int more = c + LANES < dim; /* dim is a multiple of 16: a lone last vector only where LANES is 16 */
    vec a[ROWS], b[ROWS];
    for (int r = 0; r < ROWS; r++) {
      a[r] = load(y + r * dim + c);
      b[r] = more ? load(y + r * dim + c + LANES) : (vec){0};
    }
    for (int j = 0; j < n; j++) {
      float *at = x + (int64_t)j * dim + c;
      vec one = load(at), two = more ? load(at + LANES) : (vec){0};
      for (int r = 0; r < ROWS; r++) {
        float w = p[(int64_t)r * width + j];
        one += w * a[r];
        two += w * b[r];
      }
      store(at, one);
      if (more) store(at + LANES, two);
    }
  }
}

typedef struct {
  int tokens, heads, groups, dim, bf16;
  float scale;
} facts;

/* Copies one head of a document's keys (or values): x (n, dim) as it lies and t (dim, width) transposed, filled up with 0. */
static void take(const void *from, int64_t start, int n, int group, facts f, int width, float *x, float *t) {
  memset(t, 0, sizeof(float) * (size_t)f.dim * width);
  for (int j = 0; j < n; j++) widen(x + (int64_t)j * f.dim, from, ((start + j) * f.groups + group) * f.dim, f.dim, f.bf16);
  int j = 0;
  for (; j + 4 <= n; j += 4)
    for (int d = 0; d < f.dim; d += 4) turn(x + (int64_t)j * f.dim + d, f.dim, t + (int64_t)d * width + j, width);
  for (; j < n; j++)
    for (int d = 0; d < f.dim; d++) t[(int64_t)d * width + j] = x[(int64_t)j * f.dim + d];
}

static int rows_of(const void *from, int64_t start, int i, int n, int head, facts f, float *to) {
  int rows = n - i < ROWS ? n - i : ROWS;
  for (int r = 0; r < ROWS; r++) {
    if (r < rows) widen(to + r * f.dim, from, ((start + i + r) * f.heads + head) * f.dim, f.dim, f.bf16);
    else memset(to + r * f.dim, 0, sizeof(float) * f.dim);
  }
  return rows;
}

/* x where the key of a lane of vector b is one that query i sees, else `value`. */
static inline vec seen(vec x, int i, int b, float value) {
  ivec lane = (ivec){0} + (i - b * LANES);
  ivec later = LANE > lane;
  return (vec)(((ivec)all(value) & later) | ((ivec)x & ~later));
}

static void forward_one(const void *q, const void *k, const void *v, void *o, float *lse, int64_t start, int n, int group, facts f,
                        float *room, int width) {
  float *kx = room, *kt = kx + (int64_t)width * f.dim, *vx = kt + (int64_t)width * f.dim, *p = vx + (int64_t)width * f.dim;
  float *rows_q = p + (int64_t)ROWS * width, *rows_o = rows_q + ROWS * f.dim;
  int each = f.heads / f.groups;
  take(k, start, n, group, f, width, kx, kt);
  for (int j = 0; j < n; j++) widen(vx + (int64_t)j * f.dim, v, ((start + j) * f.groups + group) * f.dim, f.dim, f.bf16);
  for (int e = 0; e < each; e++) {
    int head = group * each + e;
    for (int i = 0; i < n; i += ROWS) {
      int rows = rows_of(q, start, i, n, head, f, rows_q);
      int last = i + rows, blocks = (last + LANES - 1) / LANES;
      for (int d = 0; d < ROWS * f.dim; d++) rows_q[d] *= f.scale;
      against(rows_q, kt, f.dim, width, blocks, p);
      float part[ROWS];
      for (int r = 0; r < ROWS; r++) {
        int at = r < rows ? i + r : i;
        float *s = p + (int64_t)r * width;
        int whole = (at + 1) / LANES; /* vectors of keys that are all seen */
        vec high = all(-INFINITY), sum = {0};
        for (int b = 0; b < whole; b++) high = larger(high, load(s + b * LANES));
        for (int b = whole; b < blocks; b++) high = larger(high, seen(load(s + b * LANES), at, b, -INFINITY));
        float most = highest(high);
        for (int b = 0; b < blocks; b++) {
          vec e = expv(load(s + b * LANES) - most);
          if (b >= whole) e = seen(e, at, b, 0);
          store(s + b * LANES, e);
          sum += e;
        }
        part[r] = total(sum);
        if (r < rows) lse[(int64_t)head * f.tokens + start + at] = most + logf(part[r]);
      }
      weighted(p, vx, last, f.dim, width, rows_o);
      for (int r = 0; r < rows; r++) {
        float share = 1.0f / part[r];
        for (int d = 0; d < f.dim; d++) rows_o[r * f.dim + d] *= share;
        narrow(o, ((start + i + r) * f.heads + head) * f.dim, rows_o + r * f.dim, f.dim, f.bf16);
      }
    }
  }
}

static void backward_one(const void *q, const void *k, const void *v, const void *o, const float *lse, const void *g, void *dq,
                         void *dk, void *dv, int64_t start, int n, int group, facts f, float *room, int width) {
  int64_t all = (int64_t)width * f.dim;
  float *kx = room, *kt = kx + all, *vx = kt + all, *vt = vx + all, *dkx = vt + all, *dvx = dkx + all;
  float *p = dvx + all, *s = p + (int64_t)ROWS * width;
  float *rows_q = s + (int64_t)ROWS * width, *rows_g = rows_q + ROWS * f.dim, *rows_o = rows_g + ROWS * f.dim;
  int each = f.heads / f.groups;
  take(k, start, n, group, f, width, kx, kt);
  take(v, start, n, group, f, width, vx, vt);
  memset(dkx, 0, sizeof(float) * all);
  memset(dvx, 0, sizeof(float) * all);
  for (int e = 0; e < each; e++) {
    int head = group * each + e;
    for (int i = 0; i < n; i += ROWS) {
      int rows = rows_of(q, start, i, n, head, f, rows_q);
      rows_of(g, start, i, n, head, f, rows_g);
      rows_of(o, start, i, n, head, f, rows_o);
      int last = i + rows, blocks = (last + LANES - 1) / LANES;
      float inner[ROWS];
      for (int r = 0; r < ROWS; r++) inner[r] = total(product(rows_g + r * f.dim, rows_o + r * f.dim, f.dim));
      for (int d = 0; d < ROWS * f.dim; d++) rows_q[d] *= f.scale;
      against(rows_q, kt, f.dim, width, blocks, p);
      against(rows_g, vt, f.dim, width, blocks, s);
      for (int r = 0; r < ROWS; r++) {
        float *chances = p + (int64_t)r * width, *scores = s + (int64_t)r * width;
        if (r >= rows) {
          memset(chances, 0, sizeof(float) * blocks * LANES);
          memset(scores, 0, sizeof(float) * blocks * LANES);
          continue;
        }
        float mine = lse[(int64_t)head * f.tokens + start + i + r];
        for (int b = 0; b < blocks; b++) {
          vec e = expv(load(chances + b * LANES) - mine), d = e * (load(scores + b * LANES) - inner[r]);
          if ((b + 1) * LANES > i + r + 1) e = seen(e, i + r, b, 0), d = seen(d, i + r, b, 0);
          store(chances + b * LANES, e);
          store(scores + b * LANES, d);
        }
      }
      spread(p, rows_g, last, f.dim, width, dvx);
      spread(s, rows_q, last, f.dim, width, dkx); /* rows_q holds the scale */
      weighted(s, kx, last, f.dim, width, rows_o);
      for (int r = 0; r < rows; r++) {
        for (int d = 0; d < f.dim; d++) rows_o[r * f.dim + d] *= f.scale;
        narrow(dq, ((start + i + r) * f.heads + head) * f.dim, rows_o + r * f.dim, f.dim, f.bf16);
      }
    }
  }
  for (int j = 0; j < n; j++) {
    narrow(dk, ((start + j) * f.groups + group) * f.dim, dkx + (int64_t)j * f.dim, f.dim, f.bf16);
    narrow(dv, ((start + j) * f.groups + group) * f.dim, dvx + (int64_t)j * f.dim, f.dim, f.bf16);
  }
}

/* Everything of all documents; o and lse are written (backward == 0), or dq, dk, dv. Returns 0, or 1 when memory is short. */
int attention(int backward, const void *q, const void *k, const void *v, void *o, float *lse, const void *g, void *dq, void *dk,
              void *dv, const int64_t *bounds, int documents, int tokens, int heads, int groups, int dim, float scale, int bf16) {
  facts f = {tokens, heads, groups, dim, bf16, scale};
  int longest = 0, failed = 0;
  for (int m = 0; m < documents; m++) {
    int n = (int)(bounds[m + 1] - bounds[m]);
    longest = n > longest ? n : longest;
  }
  size_t widest = (size_t)(longest + LANES - 1) / LANES * LANES;
  size_t bytes = sizeof(float) * ((backward ? 6 : 3) * widest * dim + 2 * ROWS * widest + 3 * ROWS * (size_t)dim);
#pragma omp parallel
  {
    float *room = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!room) {
#pragma omp atomic write
      failed = 1;
    }
#pragma omp for schedule(dynamic, 1)
    for (int item = 0; item < documents * groups; item++) {
      int m = documents - 1 - item / groups, group = item % groups; /* a pass has its longest last: they begin, so no thread waits long */
      int n = (int)(bounds[m + 1] - bounds[m]);
      int width = (n + LANES - 1) / LANES * LANES;
      if (!room || !n) continue;
      if (backward) backward_one(q, k, v, o, lse, g, dq, dk, dv, bounds[m], n, group, f, room, width);
      else forward_one(q, k, v, o, lse, bounds[m], n, group, f, room, width);
    }
    free(room);
  }
  return failed;
}
