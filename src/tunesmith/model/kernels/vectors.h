/* LANES floats at a time in the compiler's own vectors: sixteen with AVX-512, else eight (AVX2, NEON, whatever there is), unless the
 * file that includes this says otherwise: a compiler takes vectors wider than the processor's through memory. SPAN vectors of four
 * rows fit into the registers beside their operands. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#ifndef LANES
#ifdef __AVX512F__
#define LANES 16
#else
#define LANES 8
#endif
#endif
#define SPAN (LANES / 4)

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static inline vec load(const float *p) { return *(const vec *)p; }
static inline void store(float *p, vec x) { *(vec *)p = x; }

static inline float total(vec x) {
#if LANES == 16
  vec y = x + __builtin_shuffle(x, (ivec){8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7});
  y = y + __builtin_shuffle(y, (ivec){4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3});
  y = y + __builtin_shuffle(y, (ivec){2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1});
#else
  vec y = x + __builtin_shuffle(x, (ivec){4, 5, 6, 7, 0, 1, 2, 3});
  y = y + __builtin_shuffle(y, (ivec){2, 3, 0, 1, 2, 3, 0, 1});
#endif
  return y[0] + y[1];
}

/* The larger of each two lanes; the first where they cannot be compared. */
static inline vec larger(vec x, vec y) {
  ivec above = y > x;
  return (vec)(((ivec)y & above) | ((ivec)x & ~above));
}

/* The largest lane. */
static inline float highest(vec x) {
#if LANES == 16
  x = larger(x, __builtin_shuffle(x, (ivec){8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7}));
  x = larger(x, __builtin_shuffle(x, (ivec){4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3}));
  x = larger(x, __builtin_shuffle(x, (ivec){2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1}));
#else
  x = larger(x, __builtin_shuffle(x, (ivec){4, 5, 6, 7, 0, 1, 2, 3}));
  x = larger(x, __builtin_shuffle(x, (ivec){2, 3, 0, 1, 2, 3, 0, 1}));
#endif
  return x[0] < x[1] ? x[1] : x[0];
}

/* The products of a and b, dim of each, added up in every lane. */
static inline vec product(const float *a, const float *b, int dim) {
  vec sum = load(a) * load(b);
  for (int d = LANES; d < dim; d += LANES) sum += load(a + d) * load(b + d);
  return sum;
}

/* e^x for x <= 0, relative error below 2e-7 (Cephes' polynomial); what is below -87 counts as -87. */
static inline vec expv(vec x) {
  const vec low = (vec){0} - 87.0f;
  ivec under = x < low;
  x = (vec)(((ivec)low & under) | ((ivec)x & ~under));
  vec n = x * 1.44269504f + 12582912.0f; /* adds and takes off 1.5 * 2^23: rounds to the nearest integer */
  n = n - 12582912.0f;
  vec r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  vec y = r * 1.9875691500e-4f + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * r * r + r + 1.0f;
  ivec power = (__builtin_convertvector(n, ivec) + 127) << 23;
  return y * (vec)power;
}

typedef uint32_t uvec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint16_t hvec __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
#define EACH static inline __attribute__((always_inline))

/* LANES elements from `at` on: floats, or bfloat16 (bf16 != 0) as floats. */
EACH vec get(const void *p, int64_t at, int bf16) {
  if (!bf16) return load((const float *)p + at);
  hvec low = *(const hvec *)((const uint16_t *)p + at);
  return (vec)(__builtin_convertvector(low, uvec) << 16);
}

/* The nearest bfloat16, ties to even; what is no number stays none. */
EACH hvec nearest(vec x) {
#if defined(__AVX512BF16__) && LANES == 16
  return (hvec)_mm512_cvtneps_pbh((__m512)x);
#else
  uvec bits = (uvec)x;
  uvec up = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  ivec none = (ivec)((bits & 0x7fffffff) > 0x7f800000);
  return __builtin_convertvector(((uvec)none & 0x7fc0) | (~(uvec)none & up), hvec);
#endif
}

/* 1 / x for x from 1 to 2. */
EACH vec inverse(vec x) {
#if defined(__AVX512F__) && LANES == 16
  vec near = (vec)_mm512_rcp14_ps((__m512)x);
  return near * (2.0f - x * near);
#else
  return 1.0f / x;
#endif
}

EACH void put(void *p, int64_t at, vec x, int bf16) {
  if (!bf16) store((float *)p + at, x);
  else *(hvec *)((uint16_t *)p + at) = nearest(x);
}

/* As it is when it has been stored. */
EACH vec kept(vec x, int bf16) { return bf16 ? (vec)(__builtin_convertvector(nearest(x), uvec) << 16) : x; }

EACH vec all(float x) { return (vec){0} + x; }

/* 1 / (1 + e^-x), from e^-|x|, which never overflows. */
EACH vec sigmoid(vec x) {
  ivec below = x < 0;
  vec size = (vec)((ivec)x & 0x7fffffff), e = expv(-size), share = inverse(1.0f + e);
  return (vec)((below & (ivec)(e * share)) | (~below & (ivec)share));
}

typedef float four __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t order __attribute__((vector_size(16)));

/* to[p][r] = x[r][p], four by four. */
EACH void turn(const float *x, int64_t row, float *to, int64_t to_row) {
  four a = *(const four *)x, b = *(const four *)(x + row), c = *(const four *)(x + 2 * row), d = *(const four *)(x + 3 * row);
  four ab = __builtin_shuffle(a, b, (order){0, 4, 1, 5}), cd = __builtin_shuffle(c, d, (order){0, 4, 1, 5});
  four ef = __builtin_shuffle(a, b, (order){2, 6, 3, 7}), gh = __builtin_shuffle(c, d, (order){2, 6, 3, 7});
  *(four *)to = __builtin_shuffle(ab, cd, (order){0, 1, 4, 5});
  *(four *)(to + to_row) = __builtin_shuffle(ab, cd, (order){2, 3, 6, 7});
  *(four *)(to + 2 * to_row) = __builtin_shuffle(ef, gh, (order){0, 1, 4, 5});
  *(four *)(to + 3 * to_row) = __builtin_shuffle(ef, gh, (order){2, 3, 6, 7});
}
