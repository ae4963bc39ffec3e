// Quantization of rows of float32, float16 or bfloat16 to ggml blocks, many at a time, byte for byte as ggml-quants.c of
// llama.cpp does it with float32.
//
// The kernels are compiled once for each instruction set. Whether a multiplication and an addition may be contracted is
// a flag of the compiler (-ffp-contract), as it is for ggml. Clang, whose default lets it contract within an expression,
// makes the same choices as in ggml where the expressions are the same.

#include <stdint.h>
#include <string.h>
#if defined(__GNUC__) && !defined(__clang__)
#if defined(CONTRACTED)
#pragma GCC optimize("fp-contract=fast")  // its default; to GCC -ffp-contract=on means off
#endif
#pragma GCC diagnostic ignored "-Wpsabi"                // every function with vectors is inlined
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // in immintrin.h itself
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

// ggml_quantize_chunk()
typedef size_t (*Ggml)(int kind, const float *, void *, int64_t, int64_t, int64_t, const float *);

enum Kind {  // enum ggml_type
    Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q4_K = 12, Q5_K = 13, Q6_K = 14, IQ4_NL = 20, IQ4_XS = 23
};

enum Form { FLOAT32, FLOAT16, BFLOAT16 };  // of the numbers that are packed

struct Task {
    int kind, form;
    const void *numbers;  // rows * columns
    uint8_t *target;
    int64_t rows, columns;
    const float *importance;  // columns, or null
    float *means;             // rows, for the blocks of 32 with importance
    Ggml ggml;
};

namespace baseline {
#define LANES 4
#include "all_kernels.h"
#undef LANES
}  // namespace baseline

#if defined(__x86_64__) && defined(__GNUC__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,prefer-vector-width=128")  // of the loops; vectors of lanes are wider
#endif
namespace avx2 {
#define LANES 8
#include "all_kernels.h"
#undef LANES
}  // namespace avx2
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("fma,avx512f,avx512bw,avx512dq,avx512vl"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#endif
namespace avx512 {
#define LANES 16
#include "all_kernels.h"
#undef LANES
}  // namespace avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif

extern "C" {

// How many blocks the instruction set of this machine takes at a time: 16, 8 or 4.
int mistral_lanes(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return 16;
    if (__builtin_cpu_supports("avx2")) return 8;
#endif
    return 4;
}

// Pack rows. `lanes` is at most mistral_lanes(). Returns 0 at a number that float16 does not reach, or NaN.
int mistral_quantize(
    int lanes, int kind, int form, const void *numbers, uint8_t *target, int64_t rows, int64_t columns,
    const float *importance, float *means, Ggml ggml) {
    Task task = {kind, form, numbers, target, rows, columns, importance, means, ggml};
#if defined(__x86_64__) && defined(__GNUC__)
    if (lanes == 16) return avx512::quantize(task);
    if (lanes == 8) return avx2::quantize(task);
#endif
    return baseline::quantize(task);
}

// Widen float16 or bfloat16, also NaN and infinite ones, to float32.
void mistral_widen(int lanes, int form, const uint16_t *halves, float *numbers, int64_t count) {
#if defined(__x86_64__) && defined(__GNUC__)
    if (lanes == 16) return avx512::widen(form, halves, numbers, count);
    if (lanes == 8) return avx2::widen(form, halves, numbers, count);
#endif
    baseline::widen(form, halves, numbers, count);
}

// Widen bytes by a table of 256 floats.
void mistral_widen_bytes(const float *table, const uint8_t *codes, float *numbers, int64_t count) {
    for (int64_t i = 0; i < count; i++) numbers[i] = table[codes[i]];
}
}
