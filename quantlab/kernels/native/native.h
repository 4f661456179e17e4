/* What the C files of this folder share: which instructions there are, scratch memory, bfloat16. No kernel is here. */
#ifndef QUANTLAB_NATIVE_H
#define QUANTLAB_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && \
    defined(__AVX512VNNI__)
#define HAS_VNNI 1
#include <immintrin.h>
#else
#define HAS_VNNI 0
#endif

#if HAS_VNNI && defined(__AMX_TILE__) && defined(__AMX_INT8__)
#define HAS_AMX 1
#else
#define HAS_AMX 0
#endif

enum dtype { FLOAT32 = 0, BFLOAT16 = 1 };

/* Memory of this thread alone, aligned to 64 bytes, kept until the thread ends: its contents are lost at the next
 * call with the same slot. NULL where there is none. Slots: 0 rows, 1 gemm, 2 and 3 attention, 4 and 5 other passes. */
#define SCRATCH_SLOTS 6
void *scratch(int slot, size_t bytes);

#if HAS_VNNI

static inline __m512 float_of_bfloat16(__m256i half) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* Nearest, ties to even; a NaN stays one. */
static inline __m256i bfloat16_of_float(__m512 x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i safe = _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(safe, 16));
}

static inline __mmask16 first(ptrdiff_t count) {
    return count >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << count) - 1u);
}

static inline __m512 load_float(const void *x, ptrdiff_t index, enum dtype dtype, __mmask16 mask) {
    if (dtype == BFLOAT16)
        return float_of_bfloat16(_mm256_maskz_loadu_epi16(mask, (const uint16_t *)x + index));
    return _mm512_maskz_loadu_ps(mask, (const float *)x + index);
}

static inline void store_float(void *x, ptrdiff_t index, enum dtype dtype, __mmask16 mask, __m512 value) {
    if (dtype == BFLOAT16)
        _mm256_mask_storeu_epi16((uint16_t *)x + index, mask, bfloat16_of_float(value));
    else
        _mm512_mask_storeu_ps((float *)x + index, mask, value);
}

#endif
#endif
