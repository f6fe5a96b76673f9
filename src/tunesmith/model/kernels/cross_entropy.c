/* Softmax, log-probability of the target and the gradient of -log p with respect to the logits, a row at a time: a row of logits is
 * read from memory once and written once. Built by model/compiled.py; the numbers are model/loss.py's.
 */
#include "vectors.h"

#define RUN 1024 /* elements added up in float before they go to a double */

/* The last elements of a row, fewer than sixteen: -inf stands for those that are not there. */
EACH vec rest(const void *p, int64_t at, int n, int bf16) {
  vec x = all(-INFINITY);
  for (int i = 0; i < n; i++) {
    uint32_t bits;
    if (bf16) bits = (uint32_t)((const uint16_t *)p)[at + i] << 16;
    else memcpy(&bits, (const float *)p + at + i, 4);
    float one;
    memcpy(&one, &bits, 4);
    x[i] = one;
  }
  return x;
}

EACH float row(void *logits, int64_t target, float scale, float *room, int64_t r, int64_t vocab, int gradient, int bf16) {
  int64_t at = r * vocab, whole = vocab / LANES * LANES;
  int left = (int)(vocab - whole);
  vec high = all(-INFINITY);
  for (int64_t c = 0; c < vocab; c += LANES) {
    vec x = (c < whole ? get(logits, at + c, bf16) : rest(logits, at + c, left, bf16)) * scale;
    high = larger(high, x);
  }
  float most = highest(high);
  float wanted;
  if (bf16) {
    uint32_t bits = (uint32_t)((const uint16_t *)logits)[at + target] << 16;
    memcpy(&wanted, &bits, 4);
  } else wanted = ((const float *)logits)[at + target];
  float *e = bf16 ? room : (float *)logits + at; /* in float the row itself holds what was made */
  double sum = 0;
  for (int64_t from = 0; from < vocab; from += RUN) {
    vec part = {0};
    int64_t to = from + RUN < vocab ? from + RUN : vocab;
    for (int64_t c = from; c < to; c += LANES) {
      if (c < whole) {
        vec y = expv(get(logits, at + c, bf16) * scale - most);
        part += y;
        if (gradient) store(e + c, y);
        continue;
      }
      vec y = expv(rest(logits, at + c, left, bf16) * scale - most);
      for (int i = 0; i < left; i++) {
        sum += y[i];
        if (gradient) e[c + i] = y[i];
      }
    }
    sum += total(part);
  }
  if (gradient) {
    float share = (float)(1 / sum);
    for (int64_t c = 0; c < whole; c += LANES) put(logits, at + c, load(e + c) * share, bf16);
    float last[LANES];
    for (int i = 0; i < left; i++) last[i] = e[whole + i] * share;
    float hit = target < whole ? (bf16 ? e[target] * share : e[target]) : last[target - whole];
    for (int i = 0; i <= left; i++) { /* the rest of the row, and the target, whose probability is less by one */
      int64_t c = i < left ? whole + i : target;
      float x = i < left ? last[i] : hit - 1.0f;
      if (bf16) ((uint16_t *)logits)[at + c] = nearest(all(x))[0];
      else ((float *)logits)[at + c] = x;
    }
  }
  return wanted * scale - most - (float)log(sum);
}

/* logp[r] = log softmax(scale * logits[r])[target[r]]; with gradient, logits[r] becomes softmax - onehot(target).
 * Returns 0, 1 when memory is short, 2 when a target is outside the vocabulary. */
int cross_entropy(void *logits, const int64_t *target, float *logp, int64_t rows, int64_t vocab, float scale, int gradient, int bf16) {
  int failed = 0;
  for (int64_t r = 0; r < rows; r++)
    if (target[r] < 0 || target[r] >= vocab) return 2;
#pragma omp parallel
  {
    float *room = bf16 ? malloc(sizeof(float) * vocab) : 0;
    if (bf16 && !room) {
#pragma omp atomic write
      failed = 1;
    }
#pragma omp for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
      if (bf16 && !room) continue;
      if (bf16) logp[r] = row(logits, target[r], scale, room, r, vocab, gradient, 1);
      else logp[r] = row(logits, target[r], scale, room, r, vocab, gradient, 0);
    }
    free(room);
  }
  return failed;
}
