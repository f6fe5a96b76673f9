/* Products with the weights of linear layers, for CPUs: y_l = x W_l' of layers that share an input, and the gradient of that input,
 * dx = sum over l of dy_l W_l; each W_l may have a low-rank update s_l B_l A_l, added while it is packed. A library packs x anew for
 * every layer, and the sum goes over dx once a layer; here both happen once. Built by model/compiled.py; used by model/products.py.
 *
 * HIGH rows by two vectors of sums stay in registers while they run through the depth, which lies packed for that (Goto & van de Geijn
 * 2008, doi 10.1145/1356052.1356053). A row's sums are made in one order, whatever rows lie beside it and however many threads there are.
 */
#include "vectors.h"
#include <omp.h>

#define HIGH 6
#define WIDE (2 * LANES)
#define BLOCK 96         /* rows a thread packs and multiplies at a time, at most: a multiple of HIGH */
#define DEEP 1408        /* at most so much of the depth at once: what is packed of BLOCK rows lies in a second-level cache */
#define ROOM (1 << 19)   /* floats of packed weights */
#define MOST 16          /* layers */
#define PIECE 64         /* elements of a row of weights that are made and turned at a time */

typedef struct {
  const float *w, *a, *b; /* (outputs, inputs), (rank, inputs), (outputs, rank) */
  float *y;               /* (rows, outputs): read in the backward pass */
  int64_t outputs, rank, at; /* at: where its outputs begin among those of all layers */
  float scale;
} layer;

static inline int64_t filled(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* HIGH x WIDE of out = (or +=) left (deep, HIGH)' right (deep, WIDE) */
static __attribute__((noinline)) void tile(const float *left, const float *right, int64_t deep, float *out, int64_t row, int add) {
  vec one[HIGH], two[HIGH];
#pragma GCC unroll 6
  for (int r = 0; r < HIGH; r++) one[r] = add ? load(out + r * row) : (vec){0}, two[r] = add ? load(out + r * row + LANES) : (vec){0};
  for (int64_t p = 0; p < deep; p++, left += HIGH, right += WIDE) {
    vec x = load(right), z = load(right + LANES);
#pragma GCC unroll 6
    for (int r = 0; r < HIGH; r++) {
      one[r] += left[r] * x;
      two[r] += left[r] * z;
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < HIGH; r++) {
    store(out + r * row, one[r]);
    store(out + r * row + LANES, two[r]);
  }
}

/* to[r][0 .. num] = elements from .. from + num of row o + r of a layer's weight with its update, r < rows (1 or 4). */
EACH void weights(const layer *l, int64_t inputs, int64_t o, int rows, int64_t from, int64_t num, float *to, int64_t to_row) {
  const float *w = l->w + o * inputs + from, *a = l->a + from, *b = l->b + o * l->rank;
  int64_t p = 0;
  for (; p + WIDE <= num; p += WIDE) {
    vec one[4], two[4];
    for (int r = 0; r < rows; r++) one[r] = load(w + r * inputs + p), two[r] = load(w + r * inputs + p + LANES);
    for (int64_t k = 0; k < l->rank; k++) {
      vec x = load(a + k * inputs + p), z = load(a + k * inputs + p + LANES);
      for (int r = 0; r < rows; r++) {
        float times = l->scale * b[r * l->rank + k];
        one[r] += times * x;
        two[r] += times * z;
      }
    }
    for (int r = 0; r < rows; r++) store(to + r * to_row + p, one[r]), store(to + r * to_row + p + LANES, two[r]);
  }
  for (; p < num; p++)
    for (int r = 0; r < rows; r++) {
      float sum = w[r * inputs + p];
      for (int64_t k = 0; k < l->rank; k++) sum += l->scale * b[r * l->rank + k] * a[k * inputs + p];
      to[r * to_row + p] = sum;
    }
}

static void all_weights(const layer *l, int64_t inputs, int64_t o, int64_t rows, int64_t from, int64_t num, float *to, int64_t to_row) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) weights(l, inputs, o + r, 4, from, num, to + r * to_row, to_row);
  for (; r < rows; r++) weights(l, inputs, o + r, 1, from, num, to + r * to_row, to_row);
}

/* to[p][r] = x[r][p], four by two. */
EACH void turn_two(const float *x, int64_t row, float *to, int64_t to_row) {
  four a = *(const four *)x, b = *(const four *)(x + row);
  four ab = __builtin_shuffle(a, b, (order){0, 4, 1, 5}), cd = __builtin_shuffle(a, b, (order){2, 6, 3, 7});
  memcpy(to, &ab, 8);
  memcpy(to + to_row, (float *)&ab + 2, 8);
  memcpy(to + 2 * to_row, &cd, 8);
  memcpy(to + 3 * to_row, (float *)&cd + 2, 8);
}

/* to (deep, WIDE): column c is row o + c of the weight, elements from .. from + deep; 0 beyond its last row. */
static void pack_rows(const layer *l, int64_t inputs, int64_t o, int64_t from, int64_t deep, float *to) {
  float made[WIDE * PIECE];
  int64_t num = least(WIDE, l->outputs - o);
  if (num < WIDE) memset(made, 0, sizeof made);
  for (int64_t p = 0; p < deep; p += PIECE) {
    int64_t here = least(PIECE, deep - p), q = 0;
    const float *x = made;
    int64_t row = PIECE;
    if (l->rank || num < WIDE) all_weights(l, inputs, o, num, from + p, here, made, PIECE);
    else x = l->w + o * inputs + from + p, row = inputs;
    for (; q + 4 <= here; q += 4)
      for (int c = 0; c < WIDE; c += 4) turn(x + c * row + q, row, to + (p + q) * WIDE + c, WIDE);
    for (; q < here; q++)
      for (int c = 0; c < WIDE; c++) to[(p + q) * WIDE + c] = x[c * row + q];
  }
}

/* to (deep, WIDE): elements i .. i + WIDE of rows from .. from + deep of all weights, one below the other; 0 beyond their last. */
static void pack_columns(const layer *each, int num, int64_t inputs, int64_t i, int64_t from, int64_t deep, float *to) {
  int64_t long_ = least(WIDE, inputs - i);
  if (long_ < WIDE) memset(to, 0, sizeof(float) * deep * WIDE);
  for (int m = 0; m < num; m++) {
    const layer *l = each + m;
    int64_t first = from > l->at ? from : l->at, last = least(from + deep, l->at + l->outputs);
    if (first < last) all_weights(l, inputs, first - l->at, last - first, i, long_, to + (first - from) * WIDE, WIDE);
  }
}

/* to: HIGH rows of x at a time, (deep, HIGH) each, `strip` apart; what is beyond `rows` are zeros. */
static void pack_left(const float *x, int64_t row, int64_t rows, int64_t deep, int64_t strip, float *to) {
  for (int64_t i = 0; i < rows; i += HIGH, to += strip, x += HIGH * row) {
    int64_t num = least(HIGH, rows - i), p = 0;
    if (num < HIGH) memset(to, 0, sizeof(float) * deep * HIGH);
    for (; num == HIGH && p + 4 <= deep; p += 4) {
      turn(x + p, row, to + p * HIGH, HIGH);
      turn_two(x + 4 * row + p, row, to + p * HIGH + 4, HIGH);
    }
    for (; p < deep; p++)
      for (int64_t r = 0; r < num; r++) to[p * HIGH + r] = x[r * row + p];
  }
}

typedef struct {
  const layer *of;  /* whose outputs these are; of dx: none */
  int64_t at;       /* its first column of out */
  float *out;       /* (rows, row) */
  int64_t row, num; /* columns that are there: at most WIDE */
} panel;

/* A panel of `rows` rows from `i` on, of what was packed: left ((deep, HIGH) a strip), right (deep, WIDE). */
static void multiply(const float *left, const float *right, int64_t deep, panel p, int64_t i, int64_t rows, int add) {
  float edge[HIGH * WIDE];
  for (int64_t r = 0; r < rows; r += HIGH) {
    int64_t high = least(HIGH, rows - r);
    float *out = p.out + (i + r) * p.row + p.at;
    if (high == HIGH && p.num == WIDE) {
      tile(left + r * deep, right, deep, out, p.row, add);
      continue;
    }
    for (int64_t s = 0; add && s < high; s++) memcpy(edge + s * WIDE, out + s * p.row, sizeof(float) * p.num);
    tile(left + r * deep, right, deep, edge, WIDE, add);
    for (int64_t s = 0; s < high; s++) memcpy(out + s * p.row, edge + s * WIDE, sizeof(float) * p.num);
  }
}

/* z = silu(gate) * up, of rows of the panels of gate and, after it, up. */
static void activate(const panel *gate, float *z, int64_t i, int64_t rows) {
  const panel *up = gate + 1;
  for (int64_t r = i; r < i + rows; r++) {
    int64_t at = r * gate->row + gate->at;
    for (int64_t c = at; c < at + gate->num; c += LANES) {
      vec g = load(gate->out + c), silu = g * sigmoid(g);
      store(z + c, silu * load(up->out + c));
    }
  }
}

/* x (rows, inputs); of each of num layers W (outputs, inputs), A (rank, inputs) and B (outputs, rank), scale, y (rows, outputs).
 * backward == 0: every y = x (W + scale B A)' is written; with z, of two layers alike in width (a multiple of LANES), silu(y_0) y_1 too. Else
 * x = sum of y (W + scale B A). Returns 0, or 1 when memory is short. */
int products(int backward, float *x, int64_t rows, int64_t inputs, int num, const int64_t *outputs, const int64_t *ranks, const float *scales,
             const float *const *w, const float *const *a, const float *const *b, float *const *y, float *z) {
  layer each[MOST];
  int64_t width = 0, panels = 0;
  for (int m = 0; m < num; m++) {
    each[m] = (layer){w[m], a[m], b[m], y[m], outputs[m], ranks[m], width, scales[m]};
    width += outputs[m];
    panels += filled(outputs[m], WIDE) / WIDE;
  }
  if (backward) panels = filled(inputs, WIDE) / WIDE;
  int64_t depth = backward ? width : inputs, deepest = least(depth, DEEP), most = least(panels, ROOM / (WIDE * deepest));
  if (most < 1) most = 1;
  if (z) most += most & 1; /* gate and up are packed together */
  float *packed = aligned_alloc(64, filled(sizeof(float) * most * WIDE * deepest, 64));
  panel *all = malloc(sizeof(panel) * panels), *next = all;
  if (!packed || !all) {
    free(packed), free(all);
    return 1;
  }
  for (int64_t at = 0; backward && at < inputs; at += WIDE) *next++ = (panel){0, at, x, inputs, least(WIDE, inputs - at)};
  for (int m = 0; !backward && m < (z ? 1 : num); m++)
    for (int64_t at = 0; at < outputs[m]; at += WIDE)
      for (int k = m; k < (z ? num : m + 1); k++) *next++ = (panel){each + k, at, y[k], outputs[k], least(WIDE, outputs[k] - at)};
  int64_t threads = omp_get_max_threads(), turns = threads * ((rows + threads * BLOCK - 1) / (threads * BLOCK));
  int64_t block = filled((rows + turns - 1) / turns, HIGH); /* as many for each thread */
  int failed = 0;
#pragma omp parallel
  {
    float *left = aligned_alloc(64, filled(sizeof(float) * BLOCK * deepest, 64));
    if (!left) {
#pragma omp atomic write
      failed = 1;
    }
    for (int64_t first = 0; first < panels; first += most)
      for (int64_t from = 0; from < depth; from += deepest) {
        int64_t last = least(first + most, panels), deep = least(deepest, depth - from), right = WIDE * deep, strip = HIGH * deep;
#pragma omp for schedule(dynamic, 1)
        for (int64_t c = first; c < last; c++) {
          float *to = packed + (c - first) * right;
          if (backward) pack_columns(each, num, inputs, all[c].at, from, deep, to);
          else pack_rows(all[c].of, inputs, all[c].at, from, deep, to);
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < rows; i += block) {
          int64_t here = least(block, rows - i);
          if (!left) continue;
          if (!backward) pack_left(x + i * inputs + from, inputs, here, deep, strip, left);
          for (int m = 0; backward && m < num; m++) { /* what of this depth is this layer's */
            layer l = each[m];
            int64_t begin = from > l.at ? from : l.at, end = least(from + deep, l.at + l.outputs);
            if (begin < end) pack_left(l.y + i * l.outputs + begin - l.at, l.outputs, here, end - begin, strip, left + (begin - from) * HIGH);
          }
          for (int64_t c = first; c < last; c++) {
            multiply(left, packed + (c - first) * right, deep, all[c], i, here, from > 0);
            if (z && all[c].of == each + 1 && from + deep == depth) activate(all + c - 1, z, i, here);
          }
        }
      }
    free(left);
  }
  free(packed), free(all);
  return failed;
}
