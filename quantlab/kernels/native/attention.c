/* Exact softmax attention: products in bfloat16, sums and softmax in float32, and in its prologue the norms and the
 * rotation of queries and keys. No masks between tokens, no projections, no gradients.
 *
 * A unit of work is a share of the queries of one head. The head's keys and values are laid out once as the products
 * read them, with two neighbours along the summed axis side by side. Then 32 queries at a time meet 256 keys at a
 * time, and the sums so far are rescaled when a larger score appears: Dao et al. 2022 (arXiv:2205.14135), algorithm 1.
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

/* No score is lower; its distance to any other is still a number. */
static const float LOWEST = -1.7e38f;

enum { ROWS = 32, KEYS = 256, PASS = 4, MOST = 128, ALL = 0xffff }; /* PASS: times 32 queries per reading of the keys */

/* What the products are made with: 1 vectors, 2 tiles. */
int64_t attention_level(void) { return 1 + TILES; }

static inline __m256i halves(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }

/* 2^x of four vectors at once, so that none waits for itself; x <= 0. Relative error below 2e-7 where the result is a
 * normal number; NaN gives NaN. Adding 1.5 * 2^23 and taking it away again rounds to a whole number. */
static inline void exp2_of(__m512 x[4]) {
    static const float terms[] = {0.009675541892647743f, 0.05550713464617729f, 0.24022120237350464f,
                                  0.6931469440460205f, 1.0f};
    const __m512 shift = _mm512_set1_ps(12582912.0f);
    __m512 whole[4], sum[4];
    for (int v = 0; v < 4; v++)
        whole[v] = _mm512_sub_ps(_mm512_add_ps(x[v], shift), shift);
    for (int v = 0; v < 4; v++)
        x[v] = _mm512_sub_ps(x[v], whole[v]);
    for (int v = 0; v < 4; v++)
        sum[v] = _mm512_set1_ps(0.0013276429381221533f);
    for (int i = 0; i < 5; i++)
        for (int v = 0; v < 4; v++)
            sum[v] = _mm512_fmadd_ps(sum[v], x[v], _mm512_set1_ps(terms[i]));
    for (int v = 0; v < 4; v++)
        x[v] = _mm512_scalef_ps(sum[v], whole[v]);
}

/* A product that is rounded before anything is added: a compiler that fuses them makes numbers below -2^24 wrong. */
static inline __m512 scaled(__m512 x, __m512 by) { return _mm512_mul_round_ps(x, by, _MM_FROUND_CUR_DIRECTION); }

static void normalise(float *row, int64_t channels, const float *gain, const float *bias, float epsilon) {
    __m512 sum = _mm512_setzero_ps(), squares = sum;
    for (int64_t i = 0; i < channels; i += 16)
        sum = _mm512_add_ps(sum, _mm512_loadu_ps(row + i));
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / channels);
    for (int64_t i = 0; i < channels; i += 16) {
        const __m512 away = _mm512_sub_ps(_mm512_loadu_ps(row + i), mean);
        squares = _mm512_fmadd_ps(away, away, squares);
        _mm512_storeu_ps(row + i, away);
    }
    const __m512 inverse = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) / channels + epsilon));
    for (int64_t i = 0; i < channels; i += 16) {
        const __m512 unit = _mm512_mul_ps(_mm512_loadu_ps(row + i), inverse);
        _mm512_storeu_ps(row + i, _mm512_fmadd_ps(unit, _mm512_loadu_ps(gain + i), _mm512_loadu_ps(bias + i)));
    }
}

/* Quarters 0 and 1 of the channels turn together, and quarters 2 and 3. */
static inline __m512 rotated(const float *row, int64_t i, int64_t quarter, const float *cosine, const float *sine) {
    const __m512 x = _mm512_loadu_ps(row + i);
    const __m512 other = quarter == 8 ? _mm512_shuffle_f32x4(x, x, 0x4e)
                                      : _mm512_loadu_ps(row + (i / quarter % 2 ? i - quarter : i + quarter));
    return _mm512_fmadd_ps(x, _mm512_loadu_ps(cosine + i), _mm512_mul_ps(other, _mm512_loadu_ps(sine + i)));
}

/* One query or key as the products take it: normed, rotated, rounded to bfloat16. */
static void prepare(const struct attention *a, const void *from, int64_t index, int64_t token, const float *gain,
                    const float *bias, float epsilon, half *to) {
    const int64_t channels = a->channels;
    float row[MOST];
    if (!gain && !a->cosine && a->dtype == BFLOAT16) {
        memcpy(to, (const half *)from + index, channels * sizeof(half));
        return;
    }
    for (int64_t i = 0; i < channels; i += 16)
        _mm512_storeu_ps(row + i, load_float(from, index + i, a->dtype, ALL));
    if (gain)
        normalise(row, channels, gain, bias, epsilon);
    for (int64_t i = 0; i < channels; i += 16) {
        const int64_t at = token * channels;
        __m512 x = a->cosine ? rotated(row, i, channels / 4, a->cosine + at, a->sine + at) : _mm512_loadu_ps(row + i);
        _mm256_storeu_si256((void *)(to + i), halves(x));
    }
}

/* 16 channels of two rows of values as pairs; zeros for a row that starts below 0. */
static void interleave(const struct attention *a, int64_t even, int64_t odd, int64_t channel, half *to) {
    const __m512 low = load_float(a->value, even + channel, a->dtype, even < 0 ? 0 : ALL);
    const __m512 high = load_float(a->value, odd + channel, a->dtype, odd < 0 ? 0 : ALL);
    const __m512i above = _mm512_slli_epi32(_mm512_cvtepu16_epi32(halves(high)), 16);
    _mm512_storeu_si512(to, _mm512_or_si512(_mm512_cvtepu16_epi32(halves(low)), above));
}

/* Keys as [keys / 16][channels / 2][16 keys][2], values as [channels / 16][keys / 2][16 channels][2]; zeros behind the
 * last. The rows of a head lie far apart in memory, so those of the next turn are asked for ahead. */
static void pack(const struct attention *a, int64_t batch, int64_t head, int64_t padded, half *keys, half *values) {
    half rows[16 * MOST];
    const int64_t channels = a->channels, size = a->dtype == BFLOAT16 ? 2 : 4;
    const int64_t key = batch * a->key_stride[0] + head * a->key_stride[2],
                  value = batch * a->value_stride[0] + head * a->value_stride[2];
    const __m512i column = _mm512_mullo_epi32(
        _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi32((int)channels / 2));
    for (int64_t start = 0; start < padded; start += 16) {
        for (int64_t t = start + 16; t < start + 32 && t < a->keys; t++)
            for (int64_t byte = 0; byte < channels * size; byte += 64) {
                _mm_prefetch((const char *)a->key + (key + t * a->key_stride[1]) * size + byte, _MM_HINT_T0);
                _mm_prefetch((const char *)a->value + (value + t * a->value_stride[1]) * size + byte, _MM_HINT_T0);
            }
        memset(rows, 0, 16 * channels * sizeof(half));
        for (int64_t t = start; t < start + 16 && t < a->keys; t++)
            prepare(a, a->key, key + t * a->key_stride[1], t, a->key_gain, a->key_bias, a->key_epsilon,
                    rows + (t - start) * channels);
        for (int64_t pair = 0; pair < channels / 2; pair++)
            _mm512_storeu_si512(keys + start * channels + pair * 32,
                                _mm512_i32gather_epi32(column, (const int *)rows + pair, 4));
        for (int64_t t = start; t < start + 16; t += 2)
            for (int64_t i = 0; i < channels; i += 16)
                interleave(a, t < a->keys ? value + t * a->value_stride[1] : -1,
                           t + 1 < a->keys ? value + (t + 1) * a->value_stride[1] : -1, i,
                           values + i * padded + t * 16);
    }
}

/* to[32][columns] (+)= left[32][depth] right, where `right` is groups of 16 columns, each [depth / 2][16][2] and
 * `group` apart; done in steps, so that tiles can work while vectors soften. Depth and columns: multiples of 32. */
struct product {
    float *to;
    const half *left, *right;
    int64_t to_stride, left_stride, group, depth, columns, i, j;
    int add;
};

static inline int64_t steps(const struct product *p) {
    return (TILES ? p->depth / 32 : 1) * ((p->columns - p->j) / 32);
}

#if TILES
static inline void step(struct product *p) {
    float *const to = p->to + p->j, *const below = to + 16 * p->to_stride;
    const half *left = p->left + p->i, *right = p->right + p->j / 16 * p->group + p->i * 16;
    const int64_t stride = p->to_stride * 4;
    if (p->i == 0 && p->add) {
        _tile_loadd(0, to, stride);
        _tile_loadd(1, to + 16, stride);
        _tile_loadd(2, below, stride);
        _tile_loadd(3, below + 16, stride);
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
        _tile_stored(0, to, stride);
        _tile_stored(1, to + 16, stride);
        _tile_stored(2, below, stride);
        _tile_stored(3, below + 16, stride);
        p->i = 0;
        p->j += 32;
    }
}
#else
/* 32 columns over the whole depth: the sums stay in registers. */
static inline void step(struct product *p) {
    const half *right = p->right + p->j / 16 * p->group;
    for (int64_t row = 0; row < ROWS; row += 8) {
        float *to = p->to + row * p->to_stride + p->j;
        const half *left = p->left + row * p->left_stride;
        __m512 sums[8][2];
        for (int r = 0; r < 8; r++)
            for (int g = 0; g < 2; g++)
                sums[r][g] = p->add ? _mm512_loadu_ps(to + r * p->to_stride + 16 * g) : _mm512_setzero_ps();
        for (int64_t i = 0; i < p->depth; i += 2) {
            const __m512bh one = (__m512bh)_mm512_loadu_si512(right + i * 16),
                           two = (__m512bh)_mm512_loadu_si512(right + p->group + i * 16);
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
                _mm512_storeu_ps(to + r * p->to_stride + 16 * g, sums[r][g]);
    }
    p->j += 32;
}
#endif

static void run(struct product *p) {
    while (p->j < p->columns)
        step(p);
}

struct rows { /* 32 queries and what they carry from one round to the next */
    half query[ROWS * MOST];
    float sum[ROWS * MOST], largest[ROWS], total[ROWS];
};

struct work {
    struct rows rows[PASS];
    float scores[2][ROWS * KEYS];
    half weights[2][ROWS * KEYS];
};

/* A NaN is never the largest, but makes NaN of its weight all the same. */
static inline float largest_of(const float *scores, int64_t width, float before) {
    __m512 one = _mm512_set1_ps(LOWEST), two = one;
    for (int64_t j = 0; j < width; j += 32) {
        one = _mm512_max_ps(one, _mm512_loadu_ps(scores + j));
        two = _mm512_max_ps(two, _mm512_loadu_ps(scores + j + 16));
    }
    const float found = _mm512_reduce_max_ps(_mm512_max_ps(one, two));
    return found > before ? found : before;
}

/* The weights 2^(factor * (score - largest)) of one query; returns their sum. */
static inline float weigh(const float *scores, half *weights, int64_t width, float factor, float largest) {
    const __m512 scale = _mm512_set1_ps(factor), shift = _mm512_set1_ps(largest), zero = _mm512_setzero_ps();
    __m512 x[4], sums[4] = {zero, zero, zero, zero};
    for (int64_t j = 0; j < width; j += 64) {
        for (int v = 0; v < 4; v++)
            x[v] = scaled(_mm512_sub_ps(_mm512_loadu_ps(scores + j + 16 * v), shift), scale);
        exp2_of(x);
        for (int v = 0; v < 4; v++)
            sums[v] = _mm512_add_ps(sums[v], x[v]);
        _mm512_storeu_si512(weights + j, (__m512i)_mm512_cvtne2ps_pbh(x[1], x[0]));
        _mm512_storeu_si512(weights + j + 32, (__m512i)_mm512_cvtne2ps_pbh(x[3], x[2]));
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])));
}

/* What the rows carry is rescaled from their former largest scores to `now`. */
static void rescale(struct rows *rows, const float now[ROWS], const float added[ROWS], float factor, int64_t channels) {
    float shrink[4 * 16];
    __m512 x[4];
    for (int v = 0; v < 4; v++)
        x[v] = v > 1 ? _mm512_setzero_ps()
                     : scaled(_mm512_sub_ps(_mm512_loadu_ps(rows->largest + 16 * v), _mm512_loadu_ps(now + 16 * v)),
                              _mm512_set1_ps(factor));
    exp2_of(x);
    for (int v = 0; v < 4; v++)
        _mm512_storeu_ps(shrink + 16 * v, x[v]);
    for (int r = 0; r < ROWS; r++) {
        rows->largest[r] = now[r];
        rows->total[r] = rows->total[r] * shrink[r] + added[r];
        for (int64_t i = 0; i < channels && shrink[r] != 1.0f; i += 16) {
            float *sum = rows->sum + r * channels + i;
            _mm512_storeu_ps(sum, _mm512_mul_ps(_mm512_loadu_ps(sum), _mm512_set1_ps(shrink[r])));
        }
    }
}

/* Scores to weights; a share of the two products is computed behind each row. */
static void soften(const float *scores, half *weights, int64_t width, float factor, struct rows *rows, int64_t channels,
                   struct product *next, struct product *past) {
    float now[ROWS], added[ROWS];
    const int64_t all = steps(next) + steps(past);
    int64_t done = 0;
    now[0] = largest_of(scores, width, rows->largest[0]);
    for (int r = 0; r < ROWS; r++, scores += KEYS, weights += KEYS) {
        if (r + 1 < ROWS)
            now[r + 1] = largest_of(scores + KEYS, width, rows->largest[r + 1]);
        added[r] = weigh(scores, weights, width, factor, now[r]);
        for (; done * ROWS < all * (r + 1); done++)
            step(next->j < next->columns ? next : past);
    }
    rescale(rows, now, added, factor, channels);
}

/* A round is 32 queries against 256 keys. While its scores are softened, those of the next round are computed and the
 * weights of the past one applied. */
static void attend(const struct attention *a, struct work *w, const half *keys, const half *values, int64_t padded,
                   int64_t active) {
    const int64_t channels = a->channels, rounds = (padded + KEYS - 1) / KEYS * active;
    const float factor = 1.44269504088896f / sqrtf((float)channels);
    struct product next = {0}, past = {0};
    for (int64_t t = -1; t <= rounds; t++) {
        const int64_t key[3] = {(t - 1) / active * KEYS, t / active * KEYS, (t + 1) / active * KEYS};
        int64_t width[3];
        for (int i = 0; i < 3; i++)
            width[i] = padded - key[i] < KEYS ? padded - key[i] : KEYS;
        if (t + 1 < rounds)
            next = (struct product){w->scores[(t + 1) & 1], w->rows[(t + 1) % active].query, keys + key[2] * channels,
                                    KEYS, channels, 16 * channels, channels, width[2], 0, 0, 0};
        if (t >= 1)
            past = (struct product){w->rows[(t - 1) % active].sum, w->weights[(t - 1) & 1], values + key[0] * 16,
                                    channels, KEYS, 16 * padded, width[0], channels, 0, 0, 1};
        if (t >= 0 && t < rounds) {
            float *scores = w->scores[t & 1];
            for (int r = 0; r < ROWS; r++) /* behind the last key nothing has weight */
                for (int64_t j = a->keys - key[1]; j < width[1]; j++)
                    scores[r * KEYS + j] = LOWEST;
            soften(scores, w->weights[t & 1], width[1], factor, w->rows + t % active, channels, &next, &past);
        } else {
            run(&next);
            run(&past);
        }
    }
}

static void begin_rows(const struct attention *a, int64_t batch, int64_t head, int64_t start, struct rows *rows) {
    const int64_t from = batch * a->query_stride[0] + head * a->query_stride[2];
    memset(rows->query, 0, ROWS * a->channels * sizeof(half));
    memset(rows->sum, 0, ROWS * a->channels * sizeof(float));
    for (int64_t r = 0; r < ROWS; r++) {
        rows->largest[r] = LOWEST;
        rows->total[r] = 0.0f;
        if (start + r < a->queries)
            prepare(a, a->query, from + (start + r) * a->query_stride[1], start + r, a->query_gain, a->query_bias,
                    a->query_epsilon, rows->query + r * a->channels);
    }
}

static void end_rows(const struct attention *a, int64_t batch, int64_t head, int64_t start, const struct rows *rows) {
    for (int64_t r = 0; r < ROWS && start + r < a->queries; r++) {
        const int64_t to = ((batch * a->queries + start + r) * a->heads + head) * a->channels;
        const __m512 inverse = _mm512_set1_ps(1.0f / rows->total[r]);
        for (int64_t i = 0; i < a->channels; i += 16)
            store_float(a->out, to + i, a->dtype, ALL,
                        _mm512_mul_ps(_mm512_loadu_ps(rows->sum + r * a->channels + i), inverse));
    }
}

/* Units begin .. end - 1 of batch * heads * shares. */
int64_t attention(const struct attention *a, int64_t begin, int64_t end) {
    const int64_t padded = (a->keys + 63) & ~(int64_t)63, blocks = (a->queries + ROWS - 1) / ROWS;
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
        for (int64_t block = share * blocks / a->shares; block < last; block += PASS) {
            const int64_t active = last - block < PASS ? last - block : PASS;
            for (int64_t p = 0; p < active; p++)
                begin_rows(a, batch, head, (block + p) * ROWS, w->rows + p);
            attend(a, w, keys, values, padded, active);
            for (int64_t p = 0; p < active; p++)
                end_rows(a, batch, head, (block + p) * ROWS, w->rows + p);
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
