/* One pass over each row of a layer's input: factors, fast Hadamard transforms, scale, codes. It multiplies nothing.
 *
 * A row stays in the first cache from its first reading to its codes. Arithmetic is float32 for bfloat16 rows too, with
 * nothing rounded in between.
 */
#include "native.h"

#include <math.h>

/* Mirrored by `quantlab.kernels.native_rows.Rows`. */
struct rows {
    const void *x;             /* [rows, depth] */
    uint8_t *tiles;            /* [rows / 16, depth / 64, 16, 64], both rounded up: what gemm.c reads */
    float *scale;              /* [rows] */
    int32_t *zero;             /* [rows]; NULL where codes are symmetric, and then 128 is added to each */
    const float *factors;      /* [passes, depth]: what a pass multiplies with before it mixes */
    const int64_t *mixed;      /* [passes]: how many neighbours it mixes, a power of two from 1 */
    const float *base;         /* [order, order]: what blocks of mixed neighbours are mixed with then; NULL for nothing */
    int64_t rows, depth, passes, order;
    int64_t dtype;             /* of x */
    int64_t gelu;              /* 1: the exact GELU of x takes its place */
    int64_t fixed;             /* 1: scale and zero are given by fixed_scale and fixed_zero */
    float fixed_scale, fixed_zero;
    float low, high;           /* codes, before 128 is added */
    float clip;                /* share of the range that a scale covers */
};

#if HAS_VNNI

enum { LANES = 16, TILE = 16, STEP = 64, MOST = 128 };
static const float TINY = 1.17549435e-38f, LARGEST = 3.40282347e+38f;

/* The sum with what it was turned into, or, where `minus` says so, the difference: products with 1 and -1 are exact. */
static inline __m512 butterfly(__m512 x, __m512 turned, __mmask16 minus) {
    const __m512 sign = _mm512_mask_mov_ps(_mm512_set1_ps(1.0f), minus, _mm512_set1_ps(-1.0f));
    return _mm512_fmadd_ps(x, sign, turned);
}

/* The four stages inside a vector: pairs at distance 1, 2, 4 and 8. */
static inline __m512 mix_lanes(__m512 x, int64_t width) {
    if (width >= 2)
        x = butterfly(x, _mm512_permute_ps(x, 0xb1), 0xaaaa);
    if (width >= 4)
        x = butterfly(x, _mm512_permute_ps(x, 0x4e), 0xcccc);
    if (width >= 8)
        x = butterfly(x, _mm512_shuffle_f32x4(x, x, 0xb1), 0xf0f0);
    if (width >= 16)
        x = butterfly(x, _mm512_shuffle_f32x4(x, x, 0x4e), 0xff00);
    return x;
}

/* Vectors that belong together: `count` (2, 4, 8 or 16) of them. */
static inline __attribute__((always_inline)) void mix_vectors(__m512 *v, int count) {
#pragma GCC unroll 4
    for (int half = 1; half < count; half *= 2)
#pragma GCC unroll 16
        for (int i = 0; i < count; i++)
            if (!(i & half)) {
                const __m512 a = v[i], b = v[i + half];
                v[i] = _mm512_add_ps(a, b);
                v[i + half] = _mm512_sub_ps(a, b);
            }
}

static inline __attribute__((always_inline)) void mix_strided(float *x, int64_t stride, int count) {
    __m512 v[16];
#pragma GCC unroll 16
    for (int i = 0; i < count; i++)
        v[i] = _mm512_loadu_ps(x + i * stride);
    mix_vectors(v, count);
#pragma GCC unroll 16
    for (int i = 0; i < count; i++)
        _mm512_storeu_ps(x + i * stride, v[i]);
}

/* Blocks of `width` neighbours times Sylvester's matrix of that order, of which the first `done` are mixed already. */
static void mix(float *x, int64_t depth, int64_t done, int64_t width) {
    while (done < width) {
        const int64_t left = width / done, now = left < 16 ? left : 16;
        for (int64_t base = 0; base < depth; base += done * now)
            for (int64_t i = 0; i < done; i += LANES)
                switch (now) {
                case 2: mix_strided(x + base + i, done, 2); break;
                case 4: mix_strided(x + base + i, done, 4); break;
                case 8: mix_strided(x + base + i, done, 8); break;
                default: mix_strided(x + base + i, done, 16);
                }
        done *= now;
    }
}

/* In each `order` neighbouring blocks of `width`: block i becomes the sum of all, each times base[i, r]. */
static void mix_blocks(float *x, int64_t depth, int64_t width, const float *base, int64_t order) {
    __m512 v[MOST];
    for (int64_t begin = 0; begin < depth; begin += width * order)
        for (int64_t k = begin; k < begin + width; k += LANES) {
            for (int64_t r = 0; r < order; r++)
                v[r] = _mm512_load_ps(x + k + r * width);
            for (int64_t i = 0; i < order; i++) {
                __m512 sum = _mm512_setzero_ps();
                for (int64_t r = 0; r < order; r++)
                    sum = _mm512_fmadd_ps(_mm512_set1_ps(base[i * order + r]), v[r], sum);
                _mm512_store_ps(x + k + i * width, sum);
            }
        }
}

static inline __m512i magnitude(__m512 x) {
    return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}

/* e^x for x up to 0: a power of two times a polynomial on [-ln 2 / 2, ln 2 / 2]. Nothing below 1e-28 is answered: numbers
 * that are not normal take a hundred times as long. */
static inline __m512 exponential(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-64.0f));
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 y = _mm512_set1_ps(1.0f / 720.0f);
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 120.0f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 24.0f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 6.0f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0.5f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(_mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f)), n);
}

/* x times the normal distribution function, whose error is below 1e-7: Abramowitz and Stegun, 7.1.26. */
static inline __m512 gelu(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f), size = _mm512_abs_ps(x);
    const __m512 d = _mm512_fmadd_ps(size, _mm512_set1_ps(0.3275911f * 0.70710678f), one);
    const __m512 guess = _mm512_rcp14_ps(d);
    const __m512 t = _mm512_mul_ps(guess, _mm512_fnmadd_ps(d, guess, _mm512_set1_ps(2.0f)));
    __m512 y = _mm512_set1_ps(0.5f * 1.061405429f);
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(-0.5f * 1.453152027f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(0.5f * 1.421413741f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(-0.5f * 0.284496736f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(0.5f * 0.254829592f));
    const __m512 square = _mm512_mul_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(-0.5f));
    const __m512 tail = _mm512_mul_ps(_mm512_mul_ps(y, t), exponential(square));
    const __mmask16 positive = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ);
    return _mm512_mul_ps(x, _mm512_mask_sub_ps(tail, positive, one, tail));
}

/* The values that a pass starts from, times its factors. */
static inline __m512 started(const struct rows *p, int64_t index, int64_t pass, const float *row, int64_t k,
                             __mmask16 mask) {
    __m512 x = pass == 0 ? load_float(p->x, index * p->depth + k, (enum dtype)p->dtype, mask)
                         : _mm512_maskz_loadu_ps(mask, row + k);
    if (pass == 0 && p->gelu)
        x = gelu(x);
    return p->passes ? _mm512_mul_ps(x, _mm512_maskz_loadu_ps(mask, p->factors + pass * p->depth + k)) : x;
}

/* The start of a pass, and its first eight stages, 256 values at a time. */
static void start_wide(const struct rows *p, int64_t index, int64_t pass, float *row) {
    for (int64_t base = 0; base < p->depth; base += 16 * LANES) {
        __m512 v[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            v[i] = mix_lanes(started(p, index, pass, row, base + i * LANES, 0xffff), LANES);
        mix_vectors(v, 16);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            _mm512_storeu_ps(row + base + i * LANES, v[i]);
    }
}

struct range {
    float low, high;   /* of the row */
    uint32_t largest;  /* bits of the largest magnitude: beyond those of LARGEST for infinities and NaN */
};

/* The row behind all passes, in `row`, and its range. Beyond `depth` it is zeros, up to whole steps. */
static struct range transformed(const struct rows *p, int64_t index, float *row) {
    const int64_t vectors = (p->depth + LANES - 1) / LANES, padded = (p->depth + STEP - 1) / STEP * STEP;
    __m512 low = _mm512_setzero_ps(), high = low;
    __m512i largest = _mm512_setzero_si512();
    for (int64_t pass = 0; pass == 0 || pass < p->passes; pass++) {
        const int64_t width = p->passes ? p->mixed[pass] : 1;
        if (width >= 16 * LANES) {
            start_wide(p, index, pass, row);
            mix(row, p->depth, 16 * LANES, width);
        } else {
            for (int64_t k = 0; k < vectors * LANES; k += LANES)
                _mm512_store_ps(row + k, mix_lanes(started(p, index, pass, row, k, first(p->depth - k)), width));
            mix(row, p->depth, LANES, width);
        }
        if (p->base && width > 1)
            mix_blocks(row, p->depth, width, p->base, p->order);
    }
    for (int64_t k = vectors * LANES; k < padded; k += LANES)
        _mm512_store_ps(row + k, _mm512_setzero_ps());
    for (int64_t k = 0; k < padded; k += LANES) {
        const __m512 x = _mm512_load_ps(row + k);
        largest = _mm512_max_epu32(largest, magnitude(x));
        if (p->zero) {
            low = _mm512_min_ps(low, x);
            high = _mm512_max_ps(high, x);
        }
    }
    return (struct range){_mm512_reduce_min_ps(low), _mm512_reduce_max_ps(high), _mm512_reduce_max_epu32(largest)};
}

/* The largest scale whose product with `code` is finite. */
static inline float highest(float code) {
    const float scale = LARGEST / code;
    return isinf(scale * code) ? nextafterf(scale, 0.0f) : scale;
}

/* Scale and zero point of a row as `quantlab.numerics.ranges.minmax_range` chooses them. */
static float choose(const struct rows *p, struct range range, float *zero) {
    if (p->fixed) {
        *zero = p->fixed_zero;
        return p->fixed_scale;
    }
    float scale;
    if (p->zero == NULL) {
        float peak;
        __builtin_memcpy(&peak, &range.largest, sizeof peak);
        scale = fminf(fmaxf(peak / p->high, TINY), highest(p->high));
        scale = peak == 0.0f ? 1.0f : scale;
        *zero = 128.0f;
    } else {
        const double low = range.low, high = range.high;
        scale = low == high ? 1.0f : fmaxf((float)((high - low) / p->high), TINY);
        *zero = (float)fmin(fmax(nearbyint(-low / scale), 0.0), p->high);
        scale = fminf(scale, nextafterf(LARGEST / fmaxf(*zero, p->high - *zero), 0.0f));
    }
    return scale * p->clip;
}

/* How the values of a row become codes. */
struct steps {
    __m512 scale, inverse, low, high;
    __m512i offset;
};

static inline struct steps steps_of(const struct rows *p, float scale, float zero) {
    const float base = p->zero ? zero : 0.0f;
    return (struct steps){.scale = _mm512_set1_ps(scale),
                          .inverse = _mm512_set1_ps(fminf(1.0f / scale, LARGEST)),
                          .low = _mm512_set1_ps(p->low - base),
                          .high = _mm512_set1_ps(p->high - base),
                          .offset = _mm512_set1_epi32((int32_t)(p->zero ? zero : 128.0f))};
}

static inline __m512 clamp(__m512 x, __m512 low, __m512 high) { return _mm512_min_ps(_mm512_max_ps(x, low), high); }

/* Nearest, ties to even, within the format. One correction makes the product with the inverse the quotient itself, so
 * that ties fall as they do in the reference; Markstein 1990. What is far beyond the format is drawn near before; where
 * the scale covers the whole row (`within`), nothing is beyond it. */
static inline __attribute__((always_inline)) __m512i code_of(__m512 x, const struct steps *s, int within) {
    const __m512 margin = _mm512_set1_ps(2.0f);
    __m512 near = _mm512_mul_ps(x, s->inverse);
    if (!within)
        near = clamp(near, _mm512_sub_ps(s->low, margin), _mm512_add_ps(s->high, margin));
    __m512 exact = _mm512_fmadd_ps(_mm512_fnmadd_ps(near, s->scale, x), s->inverse, near);
    if (!within)
        exact = clamp(exact, s->low, s->high);
    return _mm512_add_epi32(_mm512_cvtps_epi32(exact), s->offset);
}

static inline __attribute__((always_inline)) __m512i codes_of(const float *row, const struct steps *s, int within) {
    __m512i four[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        four[i] = code_of(_mm512_load_ps(row + i * LANES), s, within);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i low = _mm512_packs_epi32(four[0], four[1]), high = _mm512_packs_epi32(four[2], four[3]);
    return _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high));
}

/* Rows from `begin` (a multiple of 16) to `end`. -1 if all is well, the first row that holds a NaN or an infinity, or
 * -2 where memory is lacking. */
int64_t rows(const struct rows *p, int64_t begin, int64_t end) {
    const int64_t steps = (p->depth + STEP - 1) / STEP;
    const int64_t size = p->dtype == BFLOAT16 ? 2 : 4;
    const int within = !p->fixed && p->zero == NULL && p->clip >= 1.0f;
    float *row = scratch(0, (size_t)steps * STEP * sizeof(float));
    if (row == NULL)
        return -2;
    for (int64_t index = begin; index < end; index++) {
        const struct range range = transformed(p, index, row);
        if (range.largest > 0x7f7fffffu)
            return index;
        float zero;
        const float scale = choose(p, range, &zero);
        const struct steps how = steps_of(p, scale, zero);
        uint8_t *tile = p->tiles + index / TILE * steps * TILE * STEP + index % TILE * STEP;
        const char *next = (const char *)p->x + (index + 1 < end ? index + 1 : index) * p->depth * size;
        for (int64_t step = 0; step < steps; step++, tile += TILE * STEP) {
            for (int64_t line = 0; line < STEP * size; line += 64)
                _mm_prefetch(next + step * STEP * size + line, _MM_HINT_T1);
            const float *from = row + step * STEP;
            _mm512_storeu_si512(tile, within ? codes_of(from, &how, 1) : codes_of(from, &how, 0));
        }
        p->scale[index] = scale;
        if (p->zero)
            p->zero[index] = (int32_t)zero;
    }
    return -1;
}

#endif
