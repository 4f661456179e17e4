/* Products of unsigned 8-bit activations with weights as they lie in the file: one code a byte, or two.
 *
 * out[m, n] = bias[n] + row_scale[m] * sum_g weight_scale[n, g] * sum_{k in g} (a[m, k] - row_zero[m]) w[n, k]
 *
 * The inner sum is exact: int32. The sum over groups is float32, in the order of the groups, so that neither blocks nor
 * threads change a bit. Activations come as tiles of 16 rows and 64 columns (rows.c lays them out). The weights of a
 * few columns at a time are unpacked into the order that the dot products read, in memory of the thread.
 */
#include "native.h"

#include <string.h>

/* Mirrored by `quantlab.kernels.native_linear.Product`. */
struct product {
    const uint8_t *tiles;       /* [rows / 16, depth / 64, 16, 64], both rounded up */
    const float *row_scale;     /* [rows] */
    const int32_t *row_zero;    /* [rows], or NULL where it is 128 everywhere */
    const uint8_t *weight;      /* [columns, depth] codes, or [columns, (depth + 1) / 2] with the even one low */
    const float *weight_scale;  /* [columns, groups] */
    const uint8_t *weight_zero; /* [columns, groups], or NULL for signed codes */
    const float *bias;          /* [columns] or NULL */
    void *out;                  /* [rows, columns] */
    int64_t rows, columns, depth, groups; /* groups > 1: each a multiple of 64 long */
    int64_t packed;             /* 1: two codes a byte */
    int64_t dtype;              /* of out */
};

#if HAS_VNNI

enum { TILE = 16, STEP = 64, PANEL = 2 * TILE, BLOCK = 2 * TILE, TILE_BYTES = TILE * STEP };
enum { PACKED_BYTES = HAS_AMX ? 1 << 20 : 1 << 19 }; /* of unpacked weights at a time: they stay in the second cache */

/* 16 rows of 16 32-bit numbers, turned. */
static inline void transpose(__m512i r[16]) {
    __m512i t[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        t[8 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[4 + i], 0x88);
        r[4 + i] = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0x88);
        r[8 + i] = _mm512_shuffle_i32x4(t[i], t[4 + i], 0xdd);
        r[12 + i] = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0xdd);
    }
}

/* 64 weights of one column from `k` on, as signed bytes less their zero point; zeros beyond the end. */
static inline __m512i weights(const struct product *p, int64_t column, int64_t k, int64_t group) {
    const int64_t left = p->depth - k;
    const __mmask64 inside = left >= STEP ? ~(__mmask64)0 : ((__mmask64)1 << left) - 1;
    __m512i codes;
    if (p->packed) {
        const int64_t bytes = (p->depth + 1) / 2, there = bytes - k / 2;
        const __mmask32 mask = there >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << there) - 1;
        const __m256i pairs = _mm256_maskz_loadu_epi8(mask, p->weight + column * bytes + k / 2);
        const __m512i wide = _mm512_cvtepu8_epi16(pairs);
        codes = _mm512_and_si512(_mm512_or_si512(wide, _mm512_slli_epi16(wide, 4)), _mm512_set1_epi8(15));
    } else {
        codes = _mm512_maskz_loadu_epi8(inside, p->weight + column * p->depth + k);
    }
    if (p->weight_zero) {
        const __m512i zero = _mm512_set1_epi8((char)p->weight_zero[column * p->groups + group]);
        return _mm512_maskz_sub_epi8(inside, codes, zero);
    }
    if (!p->packed)
        return codes;
    const __m512i eight = _mm512_set1_epi8(8);
    return _mm512_maskz_sub_epi8(inside, _mm512_xor_si512(codes, eight), eight);
}

/* What is kept of a panel of 32 columns beside the weights, per group. */
struct group {
    int32_t start[PANEL]; /* -128 times the sum of the weights: what the sums start from */
    int32_t sum[PANEL];   /* that sum */
    float scale[PANEL];
};

struct shape {
    int64_t steps, group_steps, panel_bytes;
};

/* Unpack the panel of 32 columns from `column` on: [steps][2][16][64] bytes, four weights of a column side by side. */
static void unpack(const struct product *p, struct shape shape, int64_t column, int8_t *panel, struct group *groups) {
    for (int half = 0; half < 2; half++) {
        const int64_t begin = column + half * TILE;
        __m512i sum = _mm512_setzero_si512();
        for (int64_t step = 0; step < shape.steps; step++) {
            const int64_t group = step / shape.group_steps;
            __m512i rows[TILE];
#pragma GCC unroll 16
            for (int i = 0; i < TILE; i++)
                rows[i] = begin + i < p->columns ? weights(p, begin + i, step * STEP, group) : _mm512_setzero_si512();
            transpose(rows);
            int8_t *tile = panel + (2 * step + half) * TILE_BYTES;
#pragma GCC unroll 16
            for (int i = 0; i < TILE; i++) {
                _mm512_store_si512(tile + i * STEP, rows[i]);
                sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), rows[i]);
            }
            if ((step + 1) % shape.group_steps == 0) {
                struct group *g = groups + group;
                _mm512_storeu_si512(g->sum + half * TILE, sum);
                _mm512_storeu_si512(g->start + half * TILE,
                                    _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sum, 7)));
                for (int i = 0; i < TILE; i++)
                    g->scale[half * TILE + i] =
                        begin + i < p->columns ? p->weight_scale[(begin + i) * p->groups + group] : 0.0f;
                sum = _mm512_setzero_si512();
            }
        }
    }
}

/* Exact sums of a block and a group that are still to be scaled and added up. */
struct pending {
    const struct group *group;
    int64_t row, column;
    int rows;                       /* 0: there are none */
    int is_first, is_last;          /* group of the block */
    const int32_t *sums;            /* [32][32] */
    float *total;                   /* [32][32], of the groups so far */
};

#define INLINE static inline __attribute__((always_inline))

/* 32 neighbours of a row of the product, of which `left` exist; 32 of bfloat16 are a line of the cache. */
INLINE void store_line(const struct product *p, int64_t index, int64_t left, __m512 one, __m512 two) {
    const enum dtype dtype = (enum dtype)p->dtype;
#ifdef __AVX512BF16__
    if (dtype == BFLOAT16 && left >= PANEL) {
        _mm512_storeu_si512((uint16_t *)p->out + index, (__m512i)_mm512_cvtne2ps_pbh(two, one));
        return;
    }
#endif
    store_float(p->out, index, dtype, first(left), one);
    if (left > TILE)
        store_float(p->out, index + TILE, dtype, first(left - TILE), two);
}

INLINE __m512 bias_of(const struct product *p, int64_t column) {
    const int64_t left = p->columns - column;
    return p->bias && left > 0 ? _mm512_maskz_loadu_ps(first(left), p->bias + column) : _mm512_setzero_ps();
}

/* Sums times scales, added to those of the groups before; the last ones become the product. What a zero point of the row
 * adds to 128 is taken off here. The flags are constants to the compiler. */
INLINE void fold_rows(const struct product *p, const struct pending *done, int from, int to, int zeros, int is_first,
                      int is_last) {
    const int64_t n = done->column, left = p->columns - n;
    const int32_t *sums = done->sums;
    float *total = done->total;
    __m512 scale[2], bias[2], value[2];
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        scale[half] = _mm512_loadu_ps(done->group->scale + half * TILE);
        bias[half] = is_last ? bias_of(p, n + half * TILE) : _mm512_setzero_ps();
    }
    for (int i = from; i < to; i++) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            const int at = i * PANEL + half * TILE;
            __m512i sum = _mm512_load_si512(sums + at);
            if (zeros) {
                const __m512i above = _mm512_set1_epi32(p->row_zero[done->row + i] - 128);
                const __m512i weights = _mm512_loadu_si512(done->group->sum + half * TILE);
                sum = _mm512_sub_epi32(sum, _mm512_mullo_epi32(above, weights));
            }
            const __m512 before = is_first ? _mm512_setzero_ps() : _mm512_load_ps(total + at);
            value[half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale[half], before);
            if (is_last)
                value[half] = _mm512_fmadd_ps(value[half], _mm512_set1_ps(p->row_scale[done->row + i]), bias[half]);
            else
                _mm512_store_ps(total + at, value[half]);
        }
        if (is_last)
            store_line(p, (done->row + i) * p->columns + n, left, value[0], value[1]);
    }
}

/* Calls `function` with what distinguishes this pending group as three constants behind its other arguments. */
#define FOR_KIND(function, p, done, ...)                                                  \
    switch (((p)->row_zero ? 4 : 0) + ((done)->is_first ? 2 : 0) + ((done)->is_last ? 1 : 0)) { \
    case 0: function(p, done, __VA_ARGS__, 0, 0, 0); break;                               \
    case 1: function(p, done, __VA_ARGS__, 0, 0, 1); break;                               \
    case 2: function(p, done, __VA_ARGS__, 0, 1, 0); break;                               \
    case 3: function(p, done, __VA_ARGS__, 0, 1, 1); break;                               \
    case 4: function(p, done, __VA_ARGS__, 1, 0, 0); break;                               \
    case 5: function(p, done, __VA_ARGS__, 1, 0, 1); break;                               \
    case 6: function(p, done, __VA_ARGS__, 1, 1, 0); break;                               \
    default: function(p, done, __VA_ARGS__, 1, 1, 1);                                     \
    }

static void fold(const struct product *p, const struct pending *done) { FOR_KIND(fold_rows, p, done, 0, done->rows) }

/* sums[32][32] = start + 32 (or fewer) rows of tiles times a panel, over `steps` steps. Meanwhile the vector units fold
 * what the last call left: the tiles have units of their own. */
#if HAS_AMX
/* The weights are read past the first cache, which the rows fill. */
INLINE void tiles_of(const struct product *p, const struct pending *last, const uint8_t *upper, const uint8_t *lower,
                     const int8_t *panel, int64_t steps, const int32_t *start, int32_t *sums, int zeros, int is_first,
                     int is_last) {
    const int share = (int)((BLOCK + steps - 1) / steps);
    int folded = 0;
    _tile_loadd(0, start, 0);
    _tile_loadd(1, start + TILE, 0);
    _tile_loadd(2, start, 0);
    _tile_loadd(3, start + TILE, 0);
    for (int64_t step = 0; step < steps; step++) {
        _tile_stream_loadd(6, panel + 2 * step * TILE_BYTES, STEP);
        _tile_loadd(4, upper + step * TILE_BYTES, STEP);
        _tile_dpbusd(0, 4, 6);
        _tile_stream_loadd(7, panel + (2 * step + 1) * TILE_BYTES, STEP);
        _tile_dpbusd(1, 4, 7);
        if (lower) {
            _tile_loadd(5, lower + step * TILE_BYTES, STEP);
            _tile_dpbusd(2, 5, 6);
            _tile_dpbusd(3, 5, 7);
        }
        const int end = folded + share < last->rows ? folded + share : last->rows;
        fold_rows(p, last, folded, end, zeros, is_first, is_last);
        folded = end;
    }
    _tile_stored(0, sums, PANEL * 4);
    _tile_stored(1, sums + TILE, PANEL * 4);
    _tile_stored(2, sums + TILE * PANEL, PANEL * 4);
    _tile_stored(3, sums + TILE * PANEL + TILE, PANEL * 4);
}

static inline void sums_of(const struct product *p, const struct pending *last, const uint8_t *upper,
                           const uint8_t *lower, const int8_t *panel, int64_t steps, const int32_t *start,
                           int32_t *sums) {
    FOR_KIND(tiles_of, p, last, upper, lower, panel, steps, start, sums)
}
#else
enum { ROWS = 8 };

static inline void eight_rows(const uint8_t *tile, const int8_t *panel, int64_t steps, const int32_t *start,
                              int32_t *sums) {
    __m512i left[ROWS], right[ROWS];
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++) {
        left[i] = _mm512_loadu_si512(start);
        right[i] = _mm512_loadu_si512(start + TILE);
    }
    for (int64_t step = 0; step < steps; step++) {
        for (int k = 0; k < TILE; k++) {
            const __m512i b = _mm512_load_si512(panel + 2 * step * TILE_BYTES + k * STEP);
            const __m512i c = _mm512_load_si512(panel + (2 * step + 1) * TILE_BYTES + k * STEP);
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++) {
                int32_t four;
                memcpy(&four, tile + step * TILE_BYTES + i * STEP + 4 * k, sizeof four);
                const __m512i a = _mm512_set1_epi32(four);
                left[i] = _mm512_dpbusd_epi32(left[i], a, b);
                right[i] = _mm512_dpbusd_epi32(right[i], a, c);
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++) {
        _mm512_store_si512(sums + i * PANEL, left[i]);
        _mm512_store_si512(sums + i * PANEL + TILE, right[i]);
    }
}

static inline void sums_of(const struct product *p, const struct pending *last, const uint8_t *upper,
                           const uint8_t *lower, const int8_t *panel, int64_t steps, const int32_t *start,
                           int32_t *sums) {
    fold(p, last);
    for (int half = 0; half < 2; half++)
        eight_rows(upper + half * ROWS * STEP, panel, steps, start, sums + half * ROWS * PANEL);
    for (int half = 0; lower && half < 2; half++)
        eight_rows(lower + half * ROWS * STEP, panel, steps, start, sums + (TILE + half * ROWS) * PANEL);
}
#endif

/* Rows times the `count` panels that are unpacked, the first of which begins at `column`. */
static void multiply(const struct product *p, struct shape shape, int64_t row, int64_t end, int64_t column,
                     int64_t count, const int8_t *panels, const struct group *groups) {
    _Alignas(64) int32_t sums[2][BLOCK * PANEL];
    _Alignas(64) float total[BLOCK * PANEL];
    const int64_t tile_row = shape.steps * TILE_BYTES;
    struct pending last = {.group = groups, .rows = 0, .total = total};
    int turn = 0;
    for (int64_t m = row; m < end; m += BLOCK)
        for (int64_t i = 0; i < count; i++)
            for (int64_t g = 0; g < p->groups; g++, turn ^= 1) {
                const struct group *group = groups + i * p->groups + g;
                const int64_t skipped = g * shape.group_steps * TILE_BYTES;
                const uint8_t *upper = p->tiles + m / TILE * tile_row + skipped;
                sums_of(p, &last, upper, end - m > TILE ? upper + tile_row : NULL,
                        panels + i * shape.panel_bytes + 2 * skipped, shape.group_steps, group->start, sums[turn]);
                last = (struct pending){.group = group, .row = m, .column = column + i * PANEL, .sums = sums[turn],
                                        .rows = (int)(end - m < BLOCK ? end - m : BLOCK), .is_first = g == 0,
                                        .is_last = g == p->groups - 1, .total = total};
            }
    fold(p, &last);
}

#if HAS_AMX
static void configure(void) {
    struct { uint8_t palette, start, unused[14]; uint16_t bytes[16]; uint8_t rows[16]; } tiles = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        tiles.bytes[i] = STEP;
        tiles.rows[i] = TILE;
    }
    _tile_loadconfig(&tiles);
}
#endif

/* Rows and columns of the product from a multiple of 16 each to the end given. 0, or -2 where memory is lacking. */
int64_t product(const struct product *p, int64_t row, int64_t row_end, int64_t column, int64_t column_end) {
    struct shape shape = {.steps = (p->depth + STEP - 1) / STEP};
    shape.group_steps = shape.steps / p->groups;
    shape.panel_bytes = 2 * shape.steps * TILE_BYTES;
    int64_t panels = PACKED_BYTES / shape.panel_bytes;
    panels = panels < 1 ? 1 : panels;
    const size_t group_bytes = sizeof(struct group) * (size_t)p->groups;
    int8_t *unpacked = scratch(1, (size_t)panels * ((size_t)shape.panel_bytes + group_bytes));
    if (unpacked == NULL)
        return -2;
    struct group *groups = (struct group *)(unpacked + panels * shape.panel_bytes);
#if HAS_AMX
    configure();
#endif
    for (int64_t begin = column; begin < column_end; begin += panels * PANEL) {
        const int64_t left = (column_end - begin + PANEL - 1) / PANEL, count = left < panels ? left : panels;
        for (int64_t i = 0; i < count; i++)
            unpack(p, shape, begin + i * PANEL, unpacked + i * shape.panel_bytes, groups + i * p->groups);
        multiply(p, shape, row, row_end, begin, count, unpacked, groups);
    }
#if HAS_AMX
    _tile_release();
#endif
    return 0;
}

#endif
