/* Exact softmax attention: products in bfloat16, sums and softmax in float32, and in its prologue the norms and the
 * rotation of queries and keys. No masks between tokens, no projections, no gradients.
 *
 * A unit of work is a share of the queries of one head. The head's keys and values are laid out once as the products
 * read them. Then 32 queries at a time meet 64 keys at a time, and the sums so far are rescaled when a much larger
 * score appears: Dao et al. 2022 (arXiv:2205.14135), algorithm 1. Queries are columns everywhere: a vector holds 16 of
 * them, so that no sum or maximum runs across its lanes, and a round fits the first cache.
 */
#include "native.h"

/* Mirrored by `quantlab.kernels.native_attention.Call`. Strides count elements; the channels of a head lie together. */
struct attention {
    const void *query, *key, *value; /* [batch, tokens, heads, channels] by strides */
    void *out;                       /* [batch, queries, heads, channels], contiguous */
    int64_t query_stride[3], key_stride[3], value_stride[3]; /* of batch, token, head */
    int64_t batch, heads, queries, keys, channels;
    int64_t dtype;                        /* of query, key, value and out */
    int64_t shares;                       /* units in each head */
    const float *query_gain, *query_bias; /* [channels], of a LayerNorm; NULL without one */
    const float *key_gain, *key_bias;     /* likewise */
    const float *cosine, *sine;           /* [tokens, channels], signed as in models/rotary.py; NULL: no rotation */
    float query_epsilon, key_epsilon;
};

enum { NO_MEMORY = -2, NO_INSTRUCTIONS = -3 };

#if HAS_VNNI && defined(__AVX512BF16__)

#include <math.h>
#include <string.h>

#if HAS_AMX && defined(__AMX_BF16__)
#define TILES 1
static const struct {
    uint8_t palette, row, unused[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} SHAPES = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
#else
#define TILES 0
#endif

typedef uint16_t half; /* the bits of a bfloat16 */

/* Below every reference; its distance to any is still a number. */
static const float LOWEST = -1.7e38f;

/* Beyond this the rounding of a product alone could be an exponent that overflows. */
static const float FUSED = 1e8f;

enum { ROWS = 32, KEYS = 64, MARGIN = 16, MOST = 128, ALL = 0xffff };

/* What the products are made with: 1 vectors, 2 tiles. */
int64_t attention_level(void) { return 1 + TILES; }

static inline __m256i halves(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }

/* 2^x of four vectors at once, so that none waits for itself. Its relative error is below 4e-6, a five hundredth of
 * what rounding to bfloat16 may cost, where the result is a normal number; 0 for -infinity, NaN for NaN. */
static inline void exp2_of(__m512 x[4]) {
    static const float terms[] = {0.0135341669f, 0.0520114601f, 0.241442755f, 0.693003833f, 1.00000262f};
    __m512 part[4], sum[4];
    for (int v = 0; v < 4; v++)
        part[v] = _mm512_reduce_ps(x[v], _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); /* x less its floor */
    for (int v = 0; v < 4; v++)
        sum[v] = _mm512_set1_ps(terms[0]);
    for (int i = 1; i < 5; i++)
        for (int v = 0; v < 4; v++)
            sum[v] = _mm512_fmadd_ps(sum[v], part[v], _mm512_set1_ps(terms[i]));
    for (int v = 0; v < 4; v++)
        x[v] = _mm512_scalef_ps(sum[v], x[v]);
}

/* One query or key as the products take it: normed, rotated, rounded to bfloat16. */
static inline __attribute__((always_inline)) void prepare_row(const struct attention *a, const void *from,
                                                              int64_t index, int64_t token, const float *gain,
                                                              const float *bias, float epsilon, half *to,
                                                              const int channels) {
    const int vectors = channels / 16;
    __m512 x[MOST / 16], sum = _mm512_setzero_ps(), squares = sum;
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
        sum = _mm512_add_ps(sum, x[v] = load_float(from, index + 16 * v, a->dtype, ALL));
    if (gain) {
        const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / channels);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
            x[v] = _mm512_sub_ps(x[v], mean);
            squares = _mm512_fmadd_ps(x[v], x[v], squares);
        }
        const __m512 inverse = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) / channels + epsilon));
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            x[v] = _mm512_fmadd_ps(_mm512_mul_ps(x[v], inverse), _mm512_loadu_ps(gain + 16 * v),
                                   _mm512_loadu_ps(bias + 16 * v));
    }
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) {
        __m512 turned = x[v];
        if (a->cosine) { /* quarters 0 and 1 of the channels turn together, and quarters 2 and 3 */
            const __m512 other = channels == 32 ? _mm512_shuffle_f32x4(x[v], x[v], 0x4e) : x[v ^ channels / 64];
            turned = _mm512_fmadd_ps(x[v], _mm512_loadu_ps(a->cosine + token * channels + 16 * v),
                                     _mm512_mul_ps(other, _mm512_loadu_ps(a->sine + token * channels + 16 * v)));
        }
        _mm256_storeu_si256((void *)(to + 16 * v), halves(turned));
    }
}

static void prepare(const struct attention *a, const void *from, int64_t index, int64_t token, const float *gain,
                    const float *bias, float epsilon, half *to) {
    switch (a->channels) { /* so that rows stay in registers */
    case 32: prepare_row(a, from, index, token, gain, bias, epsilon, to, 32); break;
    case 64: prepare_row(a, from, index, token, gain, bias, epsilon, to, 64); break;
    case 96: prepare_row(a, from, index, token, gain, bias, epsilon, to, 96); break;
    default: prepare_row(a, from, index, token, gain, bias, epsilon, to, 128);
    }
}

/* Rows become columns: 16 vectors of 16. */
static inline void transpose(__m512i v[16]) {
    __m512i w[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 2) {
        w[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        w[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 4)
        for (int h = 0; h < 2; h++) {
            v[i + 2 * h] = _mm512_unpacklo_epi64(w[i + h], w[i + 2 + h]);
            v[i + 2 * h + 1] = _mm512_unpackhi_epi64(w[i + h], w[i + 2 + h]);
        }
#pragma GCC unroll 16
    for (int i = 0; i < 4; i++)
        for (int h = 0; h < 2; h++) {
            w[8 * h + i] = _mm512_shuffle_i32x4(v[8 * h + i], v[8 * h + 4 + i], 0x88);
            w[8 * h + 4 + i] = _mm512_shuffle_i32x4(v[8 * h + i], v[8 * h + 4 + i], 0xdd);
        }
#pragma GCC unroll 16
    for (int i = 0; i < 8; i++) {
        v[i] = _mm512_shuffle_i32x4(w[i], w[8 + i], 0x88);
        v[8 + i] = _mm512_shuffle_i32x4(w[i], w[8 + i], 0xdd);
    }
}

/* Two values of 16 channels each as pairs; zeros for one behind the last. */
static inline __m512i pairs(const struct attention *a, int64_t value, int64_t token, int64_t channel) {
    __m256i two[2];
    for (int i = 0; i < 2; i++)
        two[i] = halves(load_float(a->value, value + (token + i) * a->value_stride[1] + channel, a->dtype,
                                   token + i < a->keys ? ALL : 0));
    return _mm512_or_si512(_mm512_cvtepu16_epi32(two[0]), _mm512_slli_epi32(_mm512_cvtepu16_epi32(two[1]), 16));
}

/* Keys as [keys][channels], values as [keys / 32][channels][32 keys]; zeros behind the last. The rows of a head lie
 * far apart in memory, so those of the next turn are asked for ahead. */
static void pack(const struct attention *a, int64_t batch, int64_t head, int64_t padded, half *keys, half *values) {
    const int64_t channels = a->channels, size = a->dtype == BFLOAT16 ? 2 : 4;
    const int64_t key = batch * a->key_stride[0] + head * a->key_stride[2],
                  value = batch * a->value_stride[0] + head * a->value_stride[2];
    memset(keys + a->keys * channels, 0, (padded - a->keys) * channels * sizeof(half));
    for (int64_t start = 0; start < padded; start += 32) {
        for (int64_t t = start + 32; t < start + 64 && t < a->keys; t++)
            for (int64_t byte = 0; byte < channels * size; byte += 64) {
                _mm_prefetch((const char *)a->key + (key + t * a->key_stride[1]) * size + byte, _MM_HINT_T0);
                _mm_prefetch((const char *)a->value + (value + t * a->value_stride[1]) * size + byte, _MM_HINT_T0);
            }
        for (int64_t t = start; t < start + 32 && t < a->keys; t++)
            prepare(a, a->key, key + t * a->key_stride[1], t, a->key_gain, a->key_bias, a->key_epsilon,
                    keys + t * channels);
        for (int64_t channel = 0; channel < channels; channel += 16) {
            __m512i v[16];
            for (int i = 0; i < 16; i++)
                v[i] = pairs(a, value, start + 2 * i, channel);
            transpose(v);
            for (int i = 0; i < 16; i++)
                _mm512_storeu_si512(values + start * channels + (channel + i) * 32, v[i]);
        }
    }
}

/* to[rows][32] (+)= left[rows][depth] right, where `right` is two groups of 16 columns, each [depth / 2][16][2], and
 * 32 of `left` along the depth are `far` from the next; done in steps, so that tiles can work while vectors soften.
 * Rows and depth: multiples of 32. */
struct product {
    float *to;
    const half *left, *right;
    int64_t left_stride, far, group, rows, depth, i, j;
    int add;
};

static inline int64_t steps(const struct product *p) { return (TILES ? p->depth / 32 : 1) * ((p->rows - p->j) / 32); }

#if TILES
static inline __attribute__((always_inline)) void step(struct product *p) {
    float *const to = p->to + p->j * 32, *const below = to + 16 * 32;
    const half *left = p->left + p->j * p->left_stride + p->i / 32 * p->far, *right = p->right + p->i * 16;
    if (p->i == 0 && p->add) {
        _tile_loadd(0, to, 128);
        _tile_loadd(1, to + 16, 128);
        _tile_loadd(2, below, 128);
        _tile_loadd(3, below + 16, 128);
    } else if (p->i == 0) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    _tile_loadd(4, left, p->left_stride * 2);
    _tile_loadd(6, right, 64);
    _tile_loadd(7, right + p->group, 64);
    _tile_loadd(5, left + 16 * p->left_stride, p->left_stride * 2);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    p->i += 32;
    if (p->i == p->depth) {
        _tile_stored(0, to, 128);
        _tile_stored(1, to + 16, 128);
        _tile_stored(2, below, 128);
        _tile_stored(3, below + 16, 128);
        p->i = 0;
        p->j += 32;
    }
}
#else
/* 32 rows over the whole depth: the sums stay in registers. */
static inline __attribute__((always_inline)) void step(struct product *p) {
    for (const int64_t last = p->j + 32; p->j < last; p->j += 8) {
        float *to = p->to + p->j * 32;
        const half *left = p->left + p->j * p->left_stride, *right = p->right;
        __m512 sums[8][2];
        for (int r = 0; r < 8; r++)
            for (int g = 0; g < 2; g++)
                sums[r][g] = p->add ? _mm512_loadu_ps(to + r * 32 + 16 * g) : _mm512_setzero_ps();
        for (int64_t far = 0; far < p->depth; far += 32, left += p->far)
            for (int64_t i = 0; i < 32; i += 2, right += 32) {
                const __m512bh one = (__m512bh)_mm512_loadu_si512(right),
                               two = (__m512bh)_mm512_loadu_si512(right + p->group);
                for (int r = 0; r < 8; r++) {
                    int pair;
                    memcpy(&pair, left + r * p->left_stride + i, sizeof pair);
                    const __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
                    sums[r][0] = _mm512_dpbf16_ps(sums[r][0], x, one);
                    sums[r][1] = _mm512_dpbf16_ps(sums[r][1], x, two);
                }
            }
        for (int r = 0; r < 8; r++)
            for (int g = 0; g < 2; g++)
                _mm512_storeu_ps(to + r * 32 + 16 * g, sums[r][g]);
    }
}
#endif

static void run(struct product *p) {
    while (p->j < p->rows)
        step(p);
}

struct rows { /* 32 queries, in two groups of 16, and what they carry from one round to the next */
    half query[ROWS * MOST];                              /* as `right` of a product */
    float sum[MOST * ROWS], reference[ROWS], total[ROWS]; /* sum: [channels][queries] */
};

struct work {
    struct rows rows;
    float scores[2][KEYS * ROWS];
    half weights[2][KEYS * ROWS];
};

/* Weights are 2^(scale * (score - reference)), where the reference is the largest score when it was set. A larger one
 * takes its place only where it weighs more than 2^MARGIN: a number has the same precision at any size. Then what the
 * rows carry is rescaled, the weights of the past round included. A NaN is never the largest, but makes NaN of its
 * weight all the same. */
static void refer(struct rows *rows, int g, const float *scores, int64_t width, __m512 scale, int64_t channels,
                  struct product *past) {
    __m512 top[4], x[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int v = 0; v < 4; v++)
        top[v] = _mm512_loadu_ps(scores + v * ROWS);
    for (int64_t k = 4; k < width; k += 4)
        for (int v = 0; v < 4; v++)
            top[v] = _mm512_max_ps(top[v], _mm512_loadu_ps(scores + (k + v) * ROWS));
    const __m512 highest = _mm512_max_ps(_mm512_max_ps(top[0], top[1]), _mm512_max_ps(top[2], top[3])),
                 before = _mm512_loadu_ps(rows->reference + 16 * g),
                 above = _mm512_mul_ps(_mm512_sub_ps(highest, before), scale);
    const __mmask16 higher = _mm512_cmp_ps_mask(above, _mm512_set1_ps(MARGIN), _CMP_GT_OQ);
    if (!higher)
        return;
    run(past);
    const __m512 now = _mm512_mask_mov_ps(before, higher, highest);
    x[3] = _mm512_mul_ps(_mm512_sub_ps(before, now), scale);
    exp2_of(x);
    _mm512_storeu_ps(rows->reference + 16 * g, now);
    _mm512_storeu_ps(rows->total + 16 * g, _mm512_mul_ps(_mm512_loadu_ps(rows->total + 16 * g), x[3]));
    for (int64_t i = 0; i < channels; i++) {
        float *sum = rows->sum + i * ROWS + 16 * g;
        _mm512_storeu_ps(sum, _mm512_mul_ps(_mm512_loadu_ps(sum), x[3]));
    }
}

/* Two rounded to bfloat16, ties up, side by side; a NaN may become a number, but its row's total stays NaN. */
static inline __m512i beside(__m512 low, __m512 high) {
    const __m512i up = _mm512_set1_epi32(0x8000);
    const __m512i even = _mm512_add_epi32(_mm512_castps_si512(low), up),
                  odd = _mm512_add_epi32(_mm512_castps_si512(high), up);
    return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(even, 16), odd);
}

/* Scores to weights; a share of the two products is computed behind each four keys. */
static void soften(const float *scores, half *weights, int64_t width, __m512 scale, struct rows *rows,
                   struct product *next, struct product *past) {
    const int64_t all = steps(next) + steps(past), turns = width / 2;
    int64_t done = 0, turn = 0;
    for (int g = 0; g < 2; g++) {
        const __m512 reference = _mm512_loadu_ps(rows->reference + 16 * g), zero = _mm512_setzero_ps(),
                     shift = _mm512_mul_ps(reference, scale);
        const int fused = !_mm512_cmp_ps_mask(_mm512_abs_ps(shift), _mm512_set1_ps(FUSED), _CMP_GE_OQ);
        __m512 sums[4] = {zero, zero, zero, zero};
        for (int64_t k = 0; k < width; k += 4) {
            __m512 x[4];
            for (int v = 0; v < 4; v++)
                x[v] = _mm512_loadu_ps(scores + (k + v) * ROWS + 16 * g);
            for (int v = 0; v < 4; v++)
                x[v] = fused ? _mm512_fmsub_ps(x[v], scale, shift)
                             : _mm512_mul_ps(_mm512_sub_ps(x[v], reference), scale);
            exp2_of(x);
            for (int v = 0; v < 4; v++)
                sums[v] = _mm512_add_ps(sums[v], x[v]);
            _mm512_storeu_si512(weights + g * 16 * KEYS + k * 16, beside(x[0], x[1]));
            _mm512_storeu_si512(weights + g * 16 * KEYS + k * 16 + 32, beside(x[2], x[3]));
            for (turn++; done * turns < all * turn; done++)
                step(next->j < next->rows ? next : past);
        }
        const __m512 sum = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
        _mm512_storeu_ps(rows->total + 16 * g, _mm512_add_ps(_mm512_loadu_ps(rows->total + 16 * g), sum));
    }
}

/* Of the keys of a round that begins at `key`. */
static inline int64_t width(int64_t padded, int64_t key) { return padded - key < KEYS ? padded - key : KEYS; }

/* A round is 32 queries against KEYS keys. While its scores are softened, those of the next round are computed and the
 * weights of the past one applied. */
static void attend(const struct attention *a, struct work *w, const half *keys, const half *values, int64_t padded) {
    const int64_t channels = a->channels, rounds = (padded + KEYS - 1) / KEYS;
    const __m512 scale = _mm512_set1_ps(1.44269504088896f / sqrtf((float)channels));
    struct product next = {0}, past = {0};
    for (int64_t t = -1; t <= rounds; t++) {
        const int64_t before = (t - 1) * KEYS, now = t * KEYS, after = (t + 1) * KEYS;
        if (t + 1 < rounds)
            next = (struct product){w->scores[(t + 1) & 1], keys + after * channels, w->rows.query, channels, 32,
                                    16 * channels, width(padded, after), channels, 0, 0, 0};
        if (t >= 1)
            past = (struct product){w->rows.sum, values + before * channels, w->weights[(t - 1) & 1], 32, 32 * channels,
                                    16 * KEYS, channels, width(padded, before), 0, 0, 1};
        if (t >= 0 && t < rounds) {
            float *scores = w->scores[t & 1];
            for (int64_t i = (a->keys - now) * ROWS; i < width(padded, now) * ROWS; i++)
                scores[i] = -INFINITY; /* behind the last key nothing has weight */
            for (int g = 0; g < 2; g++)
                refer(&w->rows, g, scores + 16 * g, width(padded, now), scale, channels, &past);
            soften(scores, w->weights[t & 1], width(padded, now), scale, &w->rows, &next, &past);
        } else {
            run(&next);
            run(&past);
        }
    }
}

static void begin_rows(const struct attention *a, int64_t batch, int64_t head, int64_t start, struct rows *rows) {
    const int64_t from = batch * a->query_stride[0] + head * a->query_stride[2], channels = a->channels;
    half query[ROWS * MOST];
    memset(query, 0, ROWS * channels * sizeof(half));
    memset(rows->sum, 0, ROWS * channels * sizeof(float));
    for (int64_t r = 0; r < ROWS; r++) {
        rows->reference[r] = LOWEST;
        rows->total[r] = 0.0f;
        if (start + r < a->queries)
            prepare(a, a->query, from + (start + r) * a->query_stride[1], start + r, a->query_gain, a->query_bias,
                    a->query_epsilon, query + r * channels);
    }
    for (int64_t g = 0; g < ROWS; g += 16)
        for (int64_t i = 0; i < channels; i += 32) {
            __m512i v[16];
            for (int r = 0; r < 16; r++)
                v[r] = _mm512_loadu_si512(query + (g + r) * channels + i);
            transpose(v);
            for (int r = 0; r < 16; r++)
                _mm512_storeu_si512(rows->query + g * channels + i * 16 + r * 32, v[r]);
        }
}

static void end_rows(const struct attention *a, int64_t batch, int64_t head, int64_t start, const struct rows *rows) {
    for (int64_t g = 0; g < ROWS; g += 16)
        for (int64_t i = 0; i < a->channels; i += 16) {
            const __m512 inverse = _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_loadu_ps(rows->total + g));
            __m512i v[16];
            for (int c = 0; c < 16; c++)
                v[c] = _mm512_castps_si512(_mm512_mul_ps(_mm512_loadu_ps(rows->sum + (i + c) * ROWS + g), inverse));
            transpose(v);
            for (int64_t r = 0; r < 16 && start + g + r < a->queries; r++) {
                const int64_t to = ((batch * a->queries + start + g + r) * a->heads + head) * a->channels;
                store_float(a->out, to + i, a->dtype, ALL, _mm512_castsi512_ps(v[r]));
            }
        }
}

/* Units begin .. end - 1 of batch * heads * shares. */
int64_t attention(const struct attention *a, int64_t begin, int64_t end) {
    const int64_t padded = (a->keys + 31) & ~(int64_t)31, blocks = (a->queries + ROWS - 1) / ROWS;
    half *keys = scratch(2, 2 * padded * a->channels * sizeof(half));
    struct work *w = scratch(3, sizeof *w);
    if (keys == NULL || w == NULL)
        return NO_MEMORY;
    half *values = keys + padded * a->channels;
#if TILES
    _tile_loadconfig(&SHAPES);
#endif
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t share = unit % a->shares, head = unit / a->shares % a->heads, batch = unit / a->shares / a->heads;
        const int64_t last = (share + 1) * blocks / a->shares;
        if (share == 0 || unit == begin)
            pack(a, batch, head, padded, keys, values);
        for (int64_t block = share * blocks / a->shares; block < last; block++) {
            begin_rows(a, batch, head, block * ROWS, &w->rows);
            attend(a, w, keys, values, padded);
            end_rows(a, batch, head, block * ROWS, &w->rows);
        }
    }
#if TILES
    _tile_release();
#endif
    return 0;
}

#else

int64_t attention_level(void) { return 0; }

int64_t attention(const struct attention *a, int64_t begin, int64_t end) {
    (void)a, (void)begin, (void)end;
    return NO_INSTRUCTIONS;
}

#endif
