/* What lies between the products of a decoder layer, forward and backward, for CPUs: residual + RMSNorm, rotary embedding, gated
 * activation. Each tensor is read and written once where torch's operations go over it three to fourteen times. Built by
 * model/compiled.py; the numbers are model/parts.py's.
 *
 * Elements are float, or bfloat16 (bf16 != 0) with the arithmetic in float. Rows lie one after another; dim is a multiple of 16.
 */
#include "vectors.h"

#define BLOCK 4096 /* elements a thread takes at a time where rows do not matter */

EACH void norm_row(const void *x, const void *delta, const void *weight, void *sum, void *y, float *scale, int64_t r, int dim,
                   float eps, int bf16) {
  int64_t at = r * dim;
  vec square = {0};
  for (int c = 0; c < dim; c += LANES) {
    vec v = get(x, at + c, bf16);
    if (delta) {
      v = kept(v + get(delta, at + c, bf16), bf16);
      put(sum, at + c, v, bf16);
    }
    square += v * v;
  }
  float s = 1.0f / sqrtf(total(square) / dim + eps);
  scale[r] = s;
  const void *from = delta ? sum : x;
  for (int c = 0; c < dim; c += LANES) put(y, at + c, kept(get(from, at + c, bf16) * s, bf16) * get(weight, c, bf16), bf16);
}

/* y = x / rms(x) * weight, scale = 1 / rms; with delta, x + delta is taken (and written to sum). */
void norm(const void *x, const void *delta, const void *weight, void *sum, void *y, float *scale, int64_t rows, int dim, float eps,
          int bf16) {
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; r++) {
    if (bf16) norm_row(x, delta, weight, sum, y, scale, r, dim, eps, 1);
    else norm_row(x, delta, weight, sum, y, scale, r, dim, eps, 0);
  }
}

EACH void norm_back_row(const void *x, const void *weight, const float *scale, const void *grad, const void *more, void *dx,
                        float *dw, int64_t r, int dim, int bf16) {
  int64_t at = r * dim;
  float s = scale[r];
  vec inner = {0};
  for (int c = 0; c < dim; c += LANES) inner += get(grad, at + c, bf16) * get(weight, c, bf16) * get(x, at + c, bf16);
  vec mean = all(total(inner) * s / dim);
  for (int c = 0; c < dim; c += LANES) {
    vec hat = get(x, at + c, bf16) * s, g = get(grad, at + c, bf16);
    vec d = (g * get(weight, c, bf16) - hat * mean) * s;
    if (more) d += get(more, at + c, bf16);
    put(dx, at + c, d, bf16);
    if (dw) store(dw + c, load(dw + c) + g * hat);
  }
}

/* dx of norm, plus `more` (what reaches x by another way); dw (dim), summed over runs of `run` rows in parts (runs, dim), so that
 * the number of threads changes nothing. */
void norm_backward(const void *x, const void *weight, const float *scale, const void *grad, const void *more, void *dx, float *dw,
                   float *parts, int64_t rows, int run, int dim, int bf16) {
  int64_t runs = (rows + run - 1) / run;
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < runs; i++) {
    float *mine = dw ? parts + i * dim : 0;
    if (mine) memset(mine, 0, sizeof(float) * dim);
    int64_t last = (i + 1) * run < rows ? (i + 1) * run : rows;
    for (int64_t r = i * run; r < last; r++) {
      if (bf16) norm_back_row(x, weight, scale, grad, more, dx, mine, r, dim, 1);
      else norm_back_row(x, weight, scale, grad, more, dx, mine, r, dim, 0);
    }
  }
  for (int c = 0; dw && c < dim; c += LANES) {
    vec sum = {0};
    for (int64_t i = 0; i < runs; i++) sum += load(parts + i * dim + c);
    store(dw + c, sum);
  }
}

EACH void rotate_row(const void *x, const void *cos, const void *sin, void *out, int64_t t, int heads, int half, float sign, int bf16) {
  for (int h = 0; h < heads; h++) {
    int64_t one = (t * heads + h) * 2 * half, two = one + half;
    for (int c = 0; c < half; c += LANES) {
      vec a = get(x, one + c, bf16), b = get(x, two + c, bf16);
      vec turn = get(cos, t * half + c, bf16), lift = get(sin, t * half + c, bf16) * sign;
      put(out, one + c, a * turn - b * lift, bf16);
      put(out, two + c, b * turn + a * lift, bf16);
    }
  }
}

/* (tokens, heads, 2 * half) turned by the angles whose cos and sin (tokens, half) are given; sign -1 turns back. */
void rotate(const void *x, const void *cos, const void *sin, void *out, int64_t tokens, int heads, int half, float sign, int bf16) {
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < tokens; t++) {
    if (bf16) rotate_row(x, cos, sin, out, t, heads, half, sign, 1);
    else rotate_row(x, cos, sin, out, t, heads, half, sign, 0);
  }
}

EACH void gate_block(const void *gate, const void *up, const void *grad, void *y, void *d_gate, void *d_up, int64_t from, int64_t to,
                     int bf16) {
  for (int64_t i = from; i < to; i += LANES) {
    vec g = get(gate, i, bf16), u = get(up, i, bf16), s = sigmoid(g), silu = g * s;
    if (!grad) {
      put(y, i, kept(silu, bf16) * u, bf16);
      continue;
    }
    vec d = get(grad, i, bf16);
    put(d_up, i, d * silu, bf16);
    put(d_gate, i, d * u * (s + silu * (1.0f - s)), bf16);
  }
}

/* y = silu(gate) * up; with grad, both gradients instead. size is a multiple of 16. */
void gated(const void *gate, const void *up, const void *grad, void *y, void *d_gate, void *d_up, int64_t size, int bf16) {
#pragma omp parallel for schedule(static)
  for (int64_t from = 0; from < size; from += BLOCK) {
    int64_t to = from + BLOCK < size ? from + BLOCK : size;
    if (bf16) gate_block(gate, up, grad, y, d_gate, d_up, from, to, 1);
    else gate_block(gate, up, grad, y, d_gate, d_up, from, to, 0);
  }
}
