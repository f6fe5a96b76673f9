/* Sixteen floats at a time, in the compiler's own vectors: AVX-512, AVX2, NEON or whatever the processor has. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef float vec __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(64), aligned(4), may_alias));
#define LANES 16

static inline vec load(const float *p) { return *(const vec *)p; }
static inline void store(float *p, vec x) { *(vec *)p = x; }

static inline float total(vec x) {
  vec y = x + __builtin_shuffle(x, (ivec){8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7});
  y = y + __builtin_shuffle(y, (ivec){4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3});
  y = y + __builtin_shuffle(y, (ivec){2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1});
  return y[0] + y[1];
}

/* e^x for x <= 0, relative error below 2e-7 (Cephes' polynomial); what is below -87 counts as -87. */
static inline vec expv(vec x) {
  const vec low = {-87, -87, -87, -87, -87, -87, -87, -87, -87, -87, -87, -87, -87, -87, -87, -87};
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
