// Blocks of 32 numbers: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and IQ4_NL of ggml-quants.c, LANES of them at a time.

const int SMALL = 32;

typedef uint8_t Bytes __attribute__((vector_size(LANES)));

// ---- without sums there is no order to keep: the scales of all blocks in one vector, the quants of one in a few

// The first number of the largest magnitude in a block that is not all zero.
INLINE float first_peak(const float *x) {
    float peak = 0.0f;
    for (int i = 0; i < SMALL; i++) peak = __builtin_fabsf(x[i]) > __builtin_fabsf(peak) ? x[i] : peak;
    return peak;
}

INLINE float first_zero(const float *x) {
    for (int i = 0; i < SMALL; i++) {
        if (x[i] == 0.0f) return x[i];
    }
    return 0.0f;
}

// The least and the largest number of each block. A zero may have either sign.
INLINE void range_of_blocks(const Source &source, Floats *low, Floats *high) {
    Floats lows[LANES], highs[LANES], columns[LANES];
    for (int64_t block = 0; block < source.count; block++) {
        const float *x = source.numbers + block * SMALL;
        lows[block] = highs[block] = load(FLOAT32, x, 0);
        for (int i = LANES; i < SMALL; i += LANES) {
            lows[block] = lesser_of(lows[block], load(FLOAT32, x, i));
            highs[block] = greater_of(highs[block], load(FLOAT32, x, i));
        }
    }
    transpose((const float *)lows, source.count, LANES, LANES, columns);
    *low = columns[0];
    for (int i = 1; i < LANES; i++) *low = lesser_of(*low, columns[i]);
    transpose((const float *)highs, source.count, LANES, LANES, columns);
    *high = columns[0];
    for (int i = 1; i < LANES; i++) *high = greater_of(*high, columns[i]);
}

// Where the reciprocal of a scale overflows, ggml turns infinity into an integer, which C leaves to the machine.
INLINE bool has_reciprocals(Floats scale) { return is_set((scale == 0.0f) | (absolute(scale) >= 0x1.0p-127f)); }

INLINE Floats reciprocal(Floats scale) { return scale != 0.0f ? 1.0f / scale : Floats{}; }

// The kernels below return false if blocks are left to ggml.

INLINE bool quantize_q8_0(const Source &source, uint8_t *target) {
    Floats low, high;
    range_of_blocks(source, &low, &high);
    Floats scale = greater_of(absolute(low), absolute(high)) / 127.0f, inverse = reciprocal(scale);
    if (!has_reciprocals(scale)) return false;
    Words half = to_float16(scale);
    for (int64_t block = 0; block < source.count; block++, target += 34) {
        uint16_t stored = (uint16_t)half[block];
        memcpy(target, &stored, 2);
        for (int i = 0; i < SMALL; i += LANES) {
            Floats value = load(FLOAT32, source.numbers, block * SMALL + i) * inverse[block];
            // roundf(): truncating after adding the largest number below a half, with the sign
            Floats below_half = (Floats)(((Words)value & 0x80000000u) | (Words)all(0x1.fffffep-2f));
            Bytes bytes = __builtin_convertvector(__builtin_convertvector(value + below_half, Ints), Bytes);
            memcpy(target + 2 + i, &bytes, sizeof bytes);
        }
    }
    return true;
}

// Store 32 quants: their low four bits, and before them, if there are any, the fifth ones.
template <bool HAS_FIFTH>
INLINE void store_small_quants(const uint8_t *quants, uint8_t *low) {
    for (int i = 0; i < SMALL / 2; i++) low[i] = (uint8_t)((quants[i] & 15) | (quants[i + SMALL / 2] & 15) << 4);
    if (!HAS_FIFTH) return;
    for (int i = 0; i < 4; i++) {
        uint64_t eight;
        memcpy(&eight, quants + 8 * i, 8);
        // bit 8 * j, times 2^(56 - 7 * j), comes to 56 + j
        low[i - 4] = (uint8_t)(((eight >> 4 & 0x0101010101010101u) * 0x0102040810204080u) >> 56);
    }
}

// Q4_0 where HALF is 8, Q5_0 where it is 16: the number of the largest magnitude becomes -HALF.
template <int HALF>
INLINE bool quantize_around_zero(const Source &source, uint8_t *target) {
    Floats low, high, zero = {};
    range_of_blocks(source, &low, &high);
    Floats peak = high > -low ? high : low;
    Ints is_zero = peak == 0.0f, is_tie = (high == -low) & ~is_zero;
    peak = is_zero ? zero : peak;
    for (int64_t block = 0; block < source.count && !is_set(~is_tie); block++) {
        if (is_tie[block]) peak[block] = first_peak(source.numbers + block * SMALL);
    }
    Floats scale = peak / -(float)HALF, inverse = reciprocal(scale);
    if (!has_reciprocals(scale)) return false;
    Words half = to_float16(scale);
    for (int64_t block = 0; block < source.count; block++, target += HALF == 16 ? 22 : 18) {
        uint16_t stored = (uint16_t)half[block];
        uint8_t quants[SMALL];
        memcpy(target, &stored, 2);
        for (int i = 0; i < SMALL; i += LANES) {
            Floats value = load(FLOAT32, source.numbers, block * SMALL + i) * inverse[block];
            Ints quant = __builtin_convertvector(value + (HALF + 0.5f), Ints);
            Bytes bytes = __builtin_convertvector(smaller(quant, 2 * HALF - 1), Bytes);
            memcpy(quants + i, &bytes, sizeof bytes);
        }
        store_small_quants<HALF == 16>(quants, target + (HALF == 16 ? 6 : 2));
    }
    return true;
}

// Q4_1 where MOST is 15, Q5_1 where it is 31: the least number becomes 0.
template <int MOST>
INLINE bool quantize_from_least(const Source &source, uint8_t *target) {
    Floats low, high, zero = {};
    range_of_blocks(source, &low, &high);
    Floats scale = high == low ? zero : (high - low) / (float)MOST, inverse = reciprocal(scale);
    if (!has_reciprocals(scale)) return false;
    for (int64_t block = 0; block < source.count && !is_set(low != 0.0f); block++) {
        if (low[block] == 0.0f) low[block] = first_zero(source.numbers + block * SMALL);
    }
    Words halves = to_float16(scale) | to_float16(low) << 16;
    for (int64_t block = 0; block < source.count; block++, target += MOST == 31 ? 24 : 20) {
        uint32_t stored = halves[block];
        uint8_t quants[SMALL];
        memcpy(target, &stored, 4);
        for (int i = 0; i < SMALL; i += LANES) {
            Floats value = (load(FLOAT32, source.numbers, block * SMALL + i) - low[block]) * inverse[block];
            Ints quant = __builtin_convertvector(value + 0.5f, Ints);
            Bytes bytes = __builtin_convertvector(MOST == 31 ? quant : smaller(quant, MOST), Bytes);
            memcpy(quants + i, &bytes, sizeof bytes);
        }
        store_small_quants<MOST == 31>(quants, target + (MOST == 31 ? 8 : 4));
    }
    return true;
}

// ---- with an importance matrix, or in IQ4_NL, there are sums: one block in each lane

// Four low bits of each quant, four words.
INLINE void pack_small_quants(const Words *quants, Words *packed) {
    for (int i = 0; i < 4; i++) {
        packed[i] = (four_bytes(quants + 4 * i) & 0x0f0f0f0fu) | (four_bytes(quants + 16 + 4 * i) & 0x0f0f0f0fu) << 4;
    }
}

// The fifth bits of 32 quants.
INLINE Words small_fifth_bits(const Words *quants) {
    Words bits = {};
    for (int i = 0; i < SMALL; i++) bits |= (quants[i] >> 4 & 1u) << i;
    return bits;
}

// Store blocks of a float16 and `WORDS` words.
template <int WORDS>
INLINE void store_after_half(Words half, const Words *words, int64_t count, uint8_t *target) {
    Words image[WORDS + 1];
    image[0] = half | words[0] << 16;
    for (int i = 1; i < WORDS; i++) image[i] = words[i - 1] >> 16 | words[i] << 16;
    image[WORDS] = words[WORDS - 1] >> 16;
    store_blocks<4 * WORDS + 2>(image, count, target);
}

// The numbers of LANES blocks, and their weights; `means` are those of the rows of all blocks.
INLINE void weigh_blocks(const Source &source, const float *means, Floats *x, Floats *weights) {
    Floats importance[SMALL], variance;
    transpose(source.numbers, source.count, SMALL, SMALL, x);
    transpose_importance(source, SMALL, importance);
    for (int lane = 0; lane < LANES; lane++) {
        variance[lane] = means[(source.first + (lane < source.count ? lane : 0)) / source.row_blocks];
    }
    importance_weights(x, importance, variance, SMALL, weights);
}

// Q4_0 where HALF is 8, Q5_0 where it is 16.
template <int HALF>
INLINE void quantize_by_scale(const Source &source, const float *means, uint8_t *target) {
    Floats x[SMALL], weights[SMALL];
    Words quants[SMALL], words[5];
    weigh_blocks(source, means, x, weights);
    Scale found = search_scale<SMALL, HALF>(x, weights);
    for (int i = 0; i < SMALL; i++) {
        Ints quant = __builtin_convertvector(nearest_within(found.inverse * x[i], -HALF, HALF - 1), Ints) + HALF;
        quants[i] = only(~found.is_zero, (Words)quant);
    }
    Words half = to_float16(found.scale);
    pack_small_quants(quants, words + 1);
    words[0] = small_fifth_bits(quants);
    if (HALF == 16) return store_after_half<5>(half, words, source.count, target);
    store_after_half<4>(half, words + 1, source.count, target);
}

// Q4_1 where MOST is 15, Q5_1 where it is 31. Takes 2 * LANES blocks.
template <int MOST>
INLINE void quantize_by_min(const Source &both, const float *means, uint8_t *target) {
    const bool is_q5 = MOST == 31;
    const int bytes = is_q5 ? 24 : 20;
    Floats x[2 * SMALL], weights[2 * SMALL];
    Found found[2];
    Source halves[2] = {both, both};
    halves[0].count = both.count < LANES ? both.count : LANES;
    if (both.count > LANES) {
        halves[1].numbers += LANES * SMALL, halves[1].first += LANES, halves[1].count -= LANES;
    }
    for (int half = 0; half < 2; half++) {
        weigh_blocks(halves[half], means, x + half * SMALL, weights + half * SMALL);
    }
    MinSearch<SMALL> search;
    pair_up(x, weights, search);
    search_scales_and_mins<SMALL, MOST, 36, 1>(&search, -0.9f, 0.05f);
    read_found(search, found);
    for (int half = 0; half < (both.count > LANES ? 2 : 1); half++) {
        Words quants[SMALL], image[bytes / 4];
        for (int i = 0; i < SMALL; i++) {
            Floats value = found[half].inverse * (x[half * SMALL + i] - found[half].offset);
            quants[i] = (Words)__builtin_convertvector(nearest_within(value, 0, MOST), Ints);
        }
        image[0] = to_float16(found[half].scale) | to_float16(-found[half].min) << 16;
        if (is_q5) image[1] = small_fifth_bits(quants);
        pack_small_quants(quants, image + (is_q5 ? 2 : 1));
        store_blocks<bytes>(image, halves[half].count, target + half * LANES * bytes);
    }
}

INLINE void quantize_iq4_nl(const Source &source, uint8_t *target) {
    Floats x[SMALL], scale;
    Words quants[SMALL], words[4];
    transpose(source.numbers, source.count, SMALL, SMALL, x);
    search_iq4<SMALL>(x, source, &scale);
    iq4_quants(x, scale, quants);
    pack_small_quants(quants, words);
    store_after_half<4>(to_float16(scale), words, source.count, target);
}
