/* Gradients of low-rank updates, for CPUs: of layers y_l = x (W_l + s_l B_l A_l)' of one x, every dA_l = s_l (dy_l B_l)' x and
 * dB_l = s_l dy_l' (x A_l'). As products of their own these are thin: each goes over x or dy for a few columns' work. Here a block of
 * rows of x and of every dy is read once, while all four products are made of it. Built by model/compiled.py; used by model/low_rank.py.
 *
 * Rows are shared out in runs, whose sums come together in one order: the number of threads changes nothing. Elements are float.
 */
#include "vectors.h"

#define HIGH 6   /* rows of a product made together: HIGH by two vectors of sums stay in registers */
#define BLOCK 48 /* rows read at a time: a multiple of HIGH */
#define MOST 16  /* layers */

typedef struct {
  int64_t outputs, rank, wide; /* wide: rank, filled up to whole vectors */
  int64_t at, part;            /* where its columns begin among those of all layers, and its dB in a run's sums */
  const float *dy, *a, *b;
  float *da, *db, *up; /* up: B, its rows filled up with 0 */
  float scale;
} layer;

static inline int64_t filled(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* HIGH rows of out, of one or two vectors, = (or +=) sum over p < deep of x(row, p) b[p], where x(row, p) is x[row * x_row + p * x_col]; rows
 * beyond `rows` are the last one again. */
EACH void tile(const float *x, int64_t x_row, int64_t x_col, int64_t rows, int64_t deep, const float *b, int64_t b_row, float *out,
               int64_t out_row, int add, int two) {
  vec sums[HIGH][2] = {{{0}}};
  const float *row[HIGH];
  for (int r = 0; r < HIGH; r++) row[r] = x + (r < rows ? r : rows - 1) * x_row;
  for (int64_t p = 0; p < deep; p++, b += b_row) {
    vec left = load(b), right = two ? load(b + LANES) : left;
    for (int r = 0; r < HIGH; r++) {
      sums[r][0] += row[r][p * x_col] * left;
      if (two) sums[r][1] += row[r][p * x_col] * right;
    }
  }
  for (int r = 0; r < HIGH; r++, out += out_row) {
    if (add) sums[r][0] += load(out);
    store(out, sums[r][0]);
    if (two) {
      if (add) sums[r][1] += load(out + LANES);
      store(out + LANES, sums[r][1]);
    }
  }
}

/* out (rows, columns; room for rows filled up to HIGHs) = (or +=) x (rows, deep) b (deep, columns), columns whole vectors. */
EACH void products(const float *x, int64_t x_row, int64_t x_col, int64_t rows, int64_t deep, const float *b, int64_t b_row,
                   int64_t columns, float *out, int64_t out_row, int add) {
  for (int64_t i = 0; i < rows; i += HIGH) {
    int64_t c = 0;
    for (; c + 2 * LANES <= columns; c += 2 * LANES)
      tile(x + i * x_row, x_row, x_col, rows - i, deep, b + c, b_row, out + i * out_row + c, out_row, add, 1);
    if (c < columns) tile(x + i * x_row, x_row, x_col, rows - i, deep, b + c, b_row, out + i * out_row + c, out_row, add, 0);
  }
}

/* out (rows, columns) = x (rows, deep) b (deep, columns) */
static void times(const float *x, int64_t rows, int64_t deep, const float *b, int64_t columns, float *out, int64_t out_row) {
  products(x, deep, 1, rows, deep, b, columns, columns, out, out_row, 0);
}

/* out (width, columns) = (or +=) y (rows, width)' t (rows, columns) */
static void outer(const float *y, int64_t rows, int64_t width, const float *t, int64_t t_row, int64_t columns, float *out, int add) {
  products(y, 1, width, width, rows, t, t_row, columns, out, columns, add);
}

/* Sums of rows from .. to: dA' of all layers (inputs, columns), then each layer's dB (outputs, wide). */
static void run(const float *x, int64_t inputs, const layer *each, int num, const float *down, int64_t columns, int64_t from, int64_t to,
                float *sums, float *low, float *through) {
  int64_t row = columns + LANES; /* a layer's last vectors may reach into what follows */
  for (int64_t i = from; i < to; i += BLOCK) {
    int rows = (int)(to - i < BLOCK ? to - i : BLOCK), add = i > from;
    const float *here = x + i * inputs;
    times(here, rows, inputs, down, columns, low, row);
    for (int m = 0; m < num; m++) { /* in order: the next one writes over what reaches beyond */
      layer l = each[m];
      const float *dy = l.dy + i * l.outputs;
      times(dy, rows, l.outputs, l.up, l.wide, through + l.at, row);
      outer(dy, rows, l.outputs, low + l.at, row, l.wide, sums + l.part, add);
    }
    outer(here, rows, inputs, through, row, columns, sums, add);
  }
}

/* x (rows, inputs); of each of num layers: dy (rows, outputs), A (rank, inputs), B (outputs, rank), scale, and room for dA and dB.
 * Returns 0, or 1 when memory is short. */
int low_rank(const float *x, int64_t rows, int64_t inputs, int num, const int64_t *outputs, const int64_t *ranks, const float *scales,
             const float *const *dy, const float *const *a, const float *const *b, float *const *da, float *const *db) {
  layer each[MOST];
  int64_t width = 0, ups = 0;
  for (int m = 0; m < num; m++) {
    each[m] = (layer){outputs[m], ranks[m], filled(ranks[m], LANES), width, 0, dy[m], a[m], b[m], da[m], db[m], 0, scales[m]};
    width += ranks[m];
    ups += outputs[m] * each[m].wide;
  }
  int64_t columns = filled(width, LANES), size = filled(inputs, HIGH) * columns;
  for (int m = 0; m < num; m++) {
    each[m].part = size;
    size += filled(outputs[m], HIGH) * each[m].wide;
  }
  int64_t runs = rows < 16 * 256 ? (rows + 255) / 256 : 16, length = filled((rows + runs - 1) / runs, HIGH);
  size_t downs = (size_t)inputs * columns;
  float *room = aligned_alloc(64, filled(sizeof(float) * (downs + ups + size * runs), 64)), *down = room, *sums = room + downs + ups;
  if (!room) return 1;
  int failed = 0;
  memset(room, 0, sizeof(float) * (downs + ups));
  for (int m = 0; m < num; m++) {
    each[m].up = m ? each[m - 1].up + outputs[m - 1] * each[m - 1].wide : room + downs;
    for (int64_t r = 0; r < ranks[m]; r++)
      for (int64_t p = 0; p < inputs; p++) down[p * columns + each[m].at + r] = a[m][r * inputs + p];
    for (int64_t p = 0; p < outputs[m]; p++) memcpy(each[m].up + p * each[m].wide, b[m] + p * ranks[m], sizeof(float) * ranks[m]);
  }
#pragma omp parallel
  {
    size_t block = (size_t)BLOCK * (columns + LANES);
    float *low = aligned_alloc(64, sizeof(float) * 2 * block);
    if (low) memset(low, 0, sizeof(float) * 2 * block);
    else {
#pragma omp atomic write
      failed = 1;
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < runs; i++) {
      int64_t from = i * length, to = from + length < rows ? from + length : rows;
      if (low && from < to) run(x, inputs, each, num, down, columns, from, to, sums + i * size, low, low + block);
      else memset(sums + i * size, 0, sizeof(float) * size);
    }
    free(low);
#pragma omp for schedule(static)
    for (int64_t j = 0; j < size; j += LANES) { /* the sums of all runs, into the first one's */
      vec sum = load(sums + j);
      for (int64_t i = 1; i < runs; i++) sum += load(sums + i * size + j);
      store(sums + j, sum);
    }
#pragma omp for schedule(static)
    for (int m = 0; m < num; m++) {
      layer l = each[m];
      for (int64_t p = 0; p < inputs; p++)
        for (int64_t r = 0; r < l.rank; r++) l.da[r * inputs + p] = l.scale * sums[p * columns + l.at + r];
      for (int64_t p = 0; p < l.outputs; p++)
        for (int64_t r = 0; r < l.rank; r++) l.db[p * l.rank + r] = l.scale * sums[l.part + p * l.wide + r];
    }
  }
  free(room);
  return failed;
}
