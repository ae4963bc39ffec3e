// A vector of LANES floats, one block in each lane, and the operations on it. Included once for each instruction set.
//
// An operation on a vector is the same IEEE operation in every lane as ggml's scalar code does on one block, so that
// sums that are added in ggml's order are equal to ggml's, bit for bit.

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));  // also masks: -1 or 0 in each lane
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

INLINE Floats all(float value) { return value - Floats{}; }  // value - 0, not 0 + value, which would lose a -0
INLINE Floats absolute(Floats v) { return (Floats)((Words)v & 0x7fffffffu); }
INLINE Floats as_floats(Ints v) { return __builtin_convertvector(v, Floats); }

// Whether the mask is set in all lanes.
INLINE bool is_set(Ints mask) {
#if LANES == 16
    return _mm512_movepi32_mask((__m512i)mask) == 0xffff;
#elif LANES == 8
    return _mm256_movemask_ps((__m256)mask) == 0xff;
#else
    return (mask[0] & mask[1] & mask[2] & mask[3]) != 0;
#endif
}

// `value` where the mask is set, else zero bits.
INLINE Words only(Ints mask, Words value) { return (Words)mask & value; }

INLINE Floats square_root(Floats v) {
    for (int lane = 0; lane < LANES; lane++) v[lane] = __builtin_sqrtf(v[lane]);
    return v;
}

// The lesser and the greater of two numbers that are not NaN. GCC makes two operations of a condition.
#if LANES == 16
INLINE Floats lesser_of(Floats a, Floats b) { return _mm512_min_ps(a, b); }
INLINE Floats greater_of(Floats a, Floats b) { return _mm512_max_ps(a, b); }
#elif LANES == 8
INLINE Floats lesser_of(Floats a, Floats b) { return _mm256_min_ps(a, b); }
INLINE Floats greater_of(Floats a, Floats b) { return _mm256_max_ps(a, b); }
#elif defined(__SSE__)
INLINE Floats lesser_of(Floats a, Floats b) { return _mm_min_ps(a, b); }
INLINE Floats greater_of(Floats a, Floats b) { return _mm_max_ps(a, b); }
#else
INLINE Floats lesser_of(Floats a, Floats b) { return a < b ? a : b; }
INLINE Floats greater_of(Floats a, Floats b) { return a > b ? a : b; }
#endif

// ggml's nearest_int() adds 1.5 * 2^23, which rounds to an integer, and takes the bits of the mantissa: beyond 2^22 the
// result is meaningless, but it decides bytes all the same.
const float ROUNDING = 12582912.0f;

// ROUNDING + nearest_int(v) as floats, which are exact.
INLINE Floats shifted_nearest(Floats v) {
    Words bits = (Words)(v + ROUNDING);
#if LANES == 16
    __m512i mantissa = _mm512_set1_epi32(0x007fffff), exponent = _mm512_set1_epi32(0x4b000000);
    return (Floats)_mm512_ternarylogic_epi32((__m512i)bits, mantissa, exponent, 0xea);  // (a & b) | c
#else
    return (Floats)((bits & 0x007fffffu) | 0x4b000000u);
#endif
}

// What may be true of numbers that are rounded to quants. Where it is not, less is to be done.
enum {
    BELOW = 1, ABOVE = 2, BEYOND = 4,  // the least quant; the largest one; 2^21, or NaN
    ANY = 7,
    NEAR = 8,  // for nearest_by_table()
};

// MAX(low, MIN(high, nearest_int(v))) as floats.
template <int MAY_BE = ANY>
INLINE Floats nearest_within(Floats v, float low, float high) {
    Floats n = MAY_BE & BEYOND ? shifted_nearest(v) : v + ROUNDING;
    if (MAY_BE & ABOVE) n = lesser_of(n, all(ROUNDING + high));
    if (MAY_BE & BELOW) n = greater_of(n, all(ROUNDING + low));
    return n - ROUNDING;
}

#if LANES == 16
// The same for numbers from -15.5 to 16.5 and limits of 0 and 15, by a table of what its low five bits stand for.
INLINE Floats nearest_by_table(Floats v) {
    const __m512 not_negative = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512 others = _mm512_setr_ps(15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);  // 16, and -15 to -1
    return _mm512_permutex2var_ps(not_negative, (__m512i)(v + ROUNDING), others);
}
#else
INLINE Floats nearest_by_table(Floats v) { return nearest_within<BELOW | ABOVE>(v, 0, 15); }
#endif

INLINE Ints nearest_int(Floats v) { return ((Ints)(v + ROUNDING) & 0x007fffff) - 0x00400000; }

INLINE Ints smaller(Ints v, int limit) { return v < limit ? v : limit - Ints{}; }

// The bits of float16, rounded to even: ggml_compute_fp32_to_fp16().
INLINE Words to_float16(Floats v) {
    Words bits = (Words)v, doubled = bits + bits;
    Floats base = (absolute(v) * 0x1.0p+112f) * 0x1.0p-110f;
    Words bias = doubled & 0xff000000u;
    bias = bias < 0x71000000u ? 0x71000000u - Words{} : bias;
    base = (Floats)((bias >> 1) + 0x07800000u) + base;
    Words rounded = (Words)base;
    Words number = ((rounded >> 13) & 0x7c00u) + (rounded & 0x0fffu);
    Words is_nan = (Words)(doubled > 0xff000000u);
    return ((bits & 0x80000000u) >> 16) | (is_nan & 0x7e00u) | (~is_nan & number);
}

// The float32 of the bits of a float16.
INLINE Floats from_float16(Words half) {
    Words sign = (half & 0x8000u) << 16, rest = half & 0x7fffu;
    Words is_infinite = (Words)(rest >= 0x7c00u);  // or NaN: the largest exponent becomes the largest one
    Floats normal = (Floats)((rest << 13) + 0x38000000u + (is_infinite & 0x38000000u));
    Floats small = as_floats((Ints)rest) * 0x1.0p-24f;
    return (Floats)((Words)(rest < 0x0400u ? small : normal) | sign);
}

// LANES numbers in any form, from number `at` on.
INLINE Floats load(int form, const void *numbers, int64_t at) {
    Floats v;
    if (form == FLOAT32) {
        memcpy(&v, (const float *)numbers + at, sizeof v);
        return v;
    }
    Halves halves;
    memcpy(&halves, (const uint16_t *)numbers + at, sizeof halves);
    Words bits = __builtin_convertvector(halves, Words);
    return form == BFLOAT16 ? (Floats)(bits << 16) : from_float16(bits);
}

// Put number i of each of LANES blocks, `stride` numbers apart, into transposed[i]. Lanes past `count` get the last
// block. `numbers` divides by 16.
INLINE void transpose(const float *source, int64_t count, int64_t stride, int numbers, Floats *transposed) {
#if LANES == 16
    const __m512i places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (int at = 0; at < numbers; at += LANES) {
        Floats *rows = transposed + at;
        for (int lane = 0; lane < LANES; lane++) {
            memcpy(rows + lane, source + (lane < count ? lane : count - 1) * stride + at, sizeof *rows);
        }
        for (int bit = 1; bit < LANES; bit *= 2) {  // exchange this bit of the row's and the column's number
            __mmask16 has_bit = _mm512_test_epi32_mask(places, _mm512_set1_epi32(bit));
            __m512i upper = _mm512_add_epi32(places, _mm512_set1_epi32(bit));
            __m512i lower = _mm512_mask_add_epi32(places, has_bit, places, _mm512_set1_epi32(LANES - bit));
            upper = _mm512_mask_add_epi32(upper, has_bit, places, _mm512_set1_epi32(LANES));
            for (int row = 0; row < LANES; row++) {
                if (row & bit) continue;
                Floats a = rows[row], b = rows[row + bit];
                rows[row] = _mm512_permutex2var_ps(a, lower, b);
                rows[row + bit] = _mm512_permutex2var_ps(a, upper, b);
            }
        }
    }
    return;
#endif
    for (int lane = 0; lane < LANES; lane++) {
        const float *block = source + (lane < count ? lane : count - 1) * stride;
        float *column = (float *)transposed + lane;
        for (int i = 0; i < numbers; i++) column[(int64_t)i * LANES] = block[i];
    }
}

// Write the blocks of the first `count` lanes, whose 32-bit words are image[word].
template <int BYTES>
INLINE void store_blocks(const Words *image, int64_t count, uint8_t *target) {
    const uint32_t *words = (const uint32_t *)image;
    for (int lane = 0; lane < LANES && lane < count; lane++) {
        uint8_t *block = target + lane * BYTES;
        for (int word = 0; word < BYTES / 4; word++) memcpy(block + 4 * word, words + word * LANES + lane, 4);
        if (BYTES % 4) memcpy(block + BYTES / 4 * 4, words + BYTES / 4 * LANES + lane, BYTES % 4);
    }
}
