// Super-blocks of 256 numbers: Q4_K, Q5_K, Q6_K and IQ4_XS of ggml-quants.c, LANES of them at a time.

struct Source {
    const float *numbers;     // the first of the blocks, which are contiguous
    const float *importance;  // of the whole row, or null
    int64_t count;            // blocks, at most LANES
    int64_t first;            // the first block's place among all
    int64_t row_blocks;       // blocks in a row
};

const int SUPER = 256;

// The importance of number i of each lane's block.
INLINE void transpose_importance(const Source &source, int numbers, Floats *transposed) {
    for (int lane = 0; lane < LANES; lane++) {
        int64_t block = (source.first + (lane < source.count ? lane : 0)) % source.row_blocks;
        const float *values = source.importance + block * numbers;
        float *column = (float *)transposed + lane;
        for (int i = 0; i < numbers; i++) column[(int64_t)i * LANES] = values[i];
    }
}

INLINE Floats sum_of_squares(const Floats *x, int n) {
    Floats sum = {};
    for (int i = 0; i < n; i++) sum += x[i] * x[i];
    return sum;
}

INLINE void importance_weights(const Floats *x, const Floats *importance, Floats variance, int n, Floats *weights) {
    for (int i = 0; i < n; i++) weights[i] = importance[i] * square_root(variance + x[i] * x[i]);
}

// Four quants, one byte each, as a word.
INLINE Words four_bytes(const Words *q) { return q[0] | q[1] << 8 | q[2] << 16 | q[3] << 24; }

// ---- Q4_K and Q5_K: eight sub-blocks of 32, each with a scale and a minimum of six bits

const int SUB = 32, SUBS = SUPER / SUB;

struct ScalesAndMins {
    Floats d, dmin;                  // of the super-block
    Words scales[SUBS], mins[SUBS];  // 0 to 63, as a rule
    Words bytes[12];                 // as they are stored
};

// Without an importance matrix: the largest scale, and the largest minimum, become 63.
INLINE void scale_by_largest(const Floats *values, Floats *d, Words *quants) {
    Floats largest = {}, zero = {};
    for (int j = 0; j < SUBS; j++) largest = values[j] > largest ? values[j] : largest;
    Floats inverse = largest > 0.0f ? 63.0f / largest : zero;
    for (int j = 0; j < SUBS; j++) quants[j] = (Words)smaller(nearest_int(inverse * values[j]) & 0xff, 63);
    *d = largest / 63.0f;
}

INLINE void scale_by_search(const Floats *values, const Floats *weights, bool limit, Floats *d, Words *quants) {
    ScaleOfScales found = search_scale_of_scales(values, weights);
    for (int j = 0; j < SUBS; j++) quants[j] = (Words)(limit ? smaller(found.quants[j], 63) : found.quants[j]);
    *d = found.scale;
}

// Byte j holds scale j, byte j + 4 minimum j; their high two bits, and byte j + 8, hold scale and minimum j + 4.
INLINE void pack_scales(ScalesAndMins &s, Words *image) {
    for (int j = 0; j < 4; j++) {
        s.bytes[j] = (s.scales[j] | (s.scales[j + 4] >> 4) << 6) & 0xffu;
        s.bytes[j + 4] = (s.mins[j] | (s.mins[j + 4] >> 4) << 6) & 0xffu;
        s.bytes[j + 8] = ((s.scales[j + 4] & 15u) | (s.mins[j + 4] & 15u) << 4) & 0xffu;
    }
    for (int word = 0; word < 3; word++) image[word] = four_bytes(s.bytes + 4 * word);
}

// The scale and the minimum of sub-block j, read back as get_scale_min_k4() does.
INLINE void unpack_scale(const ScalesAndMins &s, int j, Floats d, Floats dmin, Floats *scale, Floats *min) {
    const Words *q = s.bytes;
    Words low = j < 4 ? q[j] & 63u : (q[j + 4] & 15u) | (q[j - 4] >> 6) << 4;
    Words high = j < 4 ? q[j + 4] & 63u : (q[j + 4] >> 4) | (q[j] >> 6) << 4;
    *scale = d * as_floats((Ints)low);
    *min = dmin * as_floats((Ints)high);
}

// Round (x + offset) / scale to quants with a reciprocal, which takes a third of the time of the divisions. False if a
// number lies so near to the middle of two quants, or a scale or a number is so odd, that it needs the division.
template <int N>
INLINE bool divide_fast(const Floats *x, Floats offset, Floats scale, float low, float high, Floats *quants) {
    Floats inverse = 1.0f / scale, least = all(low), most = all(high);
    Ints is_clear = (absolute(scale) > 0x1.0p-100f) & (absolute(scale) < 0x1.0p+100f);
    for (int i = 0; i < N; i++) {
        Floats value = (x[i] + offset) * inverse, limited = greater_of(lesser_of(value, most), least);
        quants[i] = limited + ROUNDING - ROUNDING;
        is_clear &= (absolute(limited - quants[i]) < 0.5f - 0x1.0p-15f) & (absolute(value) < 0x1.0p+21f);
    }
    return is_set(is_clear);
}

// The 256 quants. Where a sub-block's scale is 0, those of the search stay.
template <int MOST>
INLINE void min_quants(
    const Floats *x, const ScalesAndMins &s, const Found *found, Floats d, Floats dmin, Words *quants) {
    for (int j = 0; j < SUBS; j++) {
        Floats scale, min;
        unpack_scale(s, j, d, dmin, &scale, &min);
        Ints has_scale = scale != 0.0f;
        const Floats *sub = x + SUB * j;
        Floats rounded[SUB];
        if (!divide_fast<SUB>(sub, min, scale, 0, MOST, rounded)) {
            for (int i = 0; i < SUB; i++) {
                Floats exact = (sub[i] + min) / scale, searched = found[j].inverse * (sub[i] - found[j].offset);
                rounded[i] = nearest_within(has_scale ? exact : searched, 0, MOST);
            }
        }
        for (int i = 0; i < SUB; i++) quants[SUB * j + i] = (Words)__builtin_convertvector(rounded[i], Ints);
    }
}

// The low four bits: byte l of each 32 holds number l and number 32 + l of 64.
INLINE void pack_nibbles(const Words *quants, Words *image) {
    for (int j = 0; j < SUPER; j += 64) {
        for (int l = j; l < j + 32; l += 4) {
            *image++ = (four_bytes(quants + l) & 0x0f0f0f0fu) | (four_bytes(quants + l + 32) & 0x0f0f0f0fu) << 4;
        }
    }
}

// The fifth bits: bit b of byte l belongs to number 32 * b + l.
INLINE void pack_fifth_bits(const Words *quants, Words *image) {
    for (int l = 0; l < 32; l += 4) {
        Words bits = {};
        for (int b = 0; b < 8; b++) bits |= (four_bytes(quants + 32 * b + l) >> 4 & 0x01010101u) << b;
        *image++ = bits;
    }
}

// Put numbers and weights of two sub-blocks side by side.
INLINE void pair_up(const Floats *x, const Floats *weights, MinSearch<SUB> &search) {
    for (int i = 0; i < SUB; i++) {
        search.x[i] = pair_of(x[i], x[SUB + i]);
        search.weights[i] = pair_of(weights[i], weights[SUB + i]);
    }
}

const int TURNS = 2;  // searches that take turns

template <int MOST, int STEPS>
INLINE void search_plain(const Floats *x, float first, float step, Found *found) {
    MinSearch<SUB> searches[TURNS];
    Floats weights[2 * SUB];
    for (int j = 0; j < SUBS; j++) {
        const Floats *sub = x + SUB * j;
        Floats mean = square_root(sum_of_squares(sub, SUB) / (float)SUB), *own = weights + j % 2 * SUB;
        for (int i = 0; i < SUB; i++) own[i] = mean + absolute(sub[i]);
        if (j % 2) pair_up(sub - SUB, weights, searches[j / 2 % TURNS]);
        if (j % (2 * TURNS) != 2 * TURNS - 1) continue;
        search_scales_and_mins<SUB, MOST, STEPS, TURNS>(searches, first, step);
        for (int i = 0; i < TURNS; i++) read_found(searches[i], found + j + 1 - 2 * TURNS + 2 * i);
    }
}

template <int MOST>
INLINE void search_with_importance(const Floats *x, const Source &source, Found *found, Floats *sums) {
    MinSearch<SUB> searches[TURNS];
    Floats importance[SUPER], weights[2 * SUB];
    transpose_importance(source, SUPER, importance);
    Floats variance = 2.0f * sum_of_squares(x, SUPER) / (float)SUPER;
    for (int j = 0; j < SUBS; j++) {
        Floats *own = weights + j % 2 * SUB;
        importance_weights(x + SUB * j, importance + SUB * j, variance, SUB, own);
        sums[j] = Floats{};
        for (int i = 0; i < SUB; i++) sums[j] += own[i];
        if (j % 2) pair_up(x + SUB * (j - 1), weights, searches[j / 2 % TURNS]);
        if (j % (2 * TURNS) != 2 * TURNS - 1) continue;
        search_scales_and_mins<SUB, MOST, 36, TURNS>(searches, -0.9f, 0.05f);
        for (int i = 0; i < TURNS; i++) read_found(searches[i], found + j + 1 - 2 * TURNS + 2 * i);
    }
}

// Q4_K where MOST is 15, Q5_K where it is 31.
template <int MOST, int STEPS>
INLINE void quantize_with_mins(const Source &source, float first, float step, uint8_t *target) {
    const bool is_q5 = MOST == 31;
    Floats x[SUPER], scales[SUBS], mins[SUBS], sums[SUBS];
    Found found[SUBS];
    ScalesAndMins s;
    transpose(source.numbers, source.count, SUPER, SUPER, x);
    if (source.importance) {
        search_with_importance<MOST>(x, source, found, sums);
    } else {
        search_plain<MOST, STEPS>(x, first, step, found);
    }
    for (int j = 0; j < SUBS; j++) scales[j] = found[j].scale, mins[j] = found[j].min;
    if (source.importance) {
        scale_by_search(scales, sums, is_q5, &s.d, s.scales);
        scale_by_search(mins, sums, is_q5, &s.dmin, s.mins);
    } else {
        scale_by_largest(scales, &s.d, s.scales);
        scale_by_largest(mins, &s.dmin, s.mins);
    }
    Words d = to_float16(s.d), dmin = to_float16(s.dmin), quants[SUPER], image[is_q5 ? 44 : 36];
    image[0] = d | dmin << 16;
    pack_scales(s, image + 1);
    min_quants<MOST>(x, s, found, from_float16(d), from_float16(dmin), quants);
    if (is_q5) pack_fifth_bits(quants, image + 4);
    pack_nibbles(quants, image + (is_q5 ? 12 : 4));
    store_blocks<4 * (is_q5 ? 44 : 36)>(image, source.count, target);
}

INLINE void quantize_q4_k(const Source &source, uint8_t *target) {
    quantize_with_mins<15, 20>(source, -1.0f, 0.1f, target);
}

INLINE void quantize_q5_k(const Source &source, uint8_t *target) {
    quantize_with_mins<31, 15>(source, -0.5f, 0.1f, target);
}

// ---- Q6_K: sixteen sub-blocks of 16, each with a scale of eight bits

const int SUB6 = 16, SUBS6 = SUPER / SUB6;

INLINE void search_q6(const Floats *x, const Source &source, Scale *found) {
    Floats importance[SUPER];
    if (source.importance) transpose_importance(source, SUPER, importance);
    for (int j = 0; j < SUBS6; j++) {
        const Floats *sub = x + SUB6 * j;
        Floats weights[SUB6];
        for (int i = 0; i < SUB6; i++) weights[i] = source.importance ? importance[SUB6 * j + i] : sub[i] * sub[i];
        found[j] = search_scale<SUB6, 32>(sub, weights);
    }
}

// The 256 quants, 0 to 63. Where a sub-block's scale is 0, those of the search stay.
INLINE void q6_quants(const Floats *x, const Scale *found, Floats d, const Ints *scales, Words *quants) {
    for (int j = 0; j < SUBS6; j++) {
        Floats scale = d * as_floats(scales[j]);
        Ints has_scale = scale != 0.0f;
        Ints is_kept = has_scale | ~found[j].is_zero;
        const Floats *sub = x + SUB6 * j;
        Floats rounded[SUB6];
        if (!divide_fast<SUB6>(sub, Floats{}, scale, -32, 31, rounded)) {
            for (int i = 0; i < SUB6; i++) {
                rounded[i] = nearest_within(has_scale ? sub[i] / scale : found[j].inverse * sub[i], -32, 31);
            }
        }
        for (int i = 0; i < SUB6; i++) {
            quants[SUB6 * j + i] = only(is_kept, (Words)(__builtin_convertvector(rounded[i], Ints) + 32));
        }
    }
}

INLINE void pack_q6(const Words *quants, Words *low, Words *high) {
    for (int half = 0; half < 2; half++, quants += 128) {
        for (int l = 0; l < 32; l += 4) {
            Words q1 = four_bytes(quants + l), q2 = four_bytes(quants + l + 32);
            Words q3 = four_bytes(quants + l + 64), q4 = four_bytes(quants + l + 96);
            low[16 * half + l / 4] = (q1 & 0x0f0f0f0fu) | (q3 & 0x0f0f0f0fu) << 4;
            low[16 * half + 8 + l / 4] = (q2 & 0x0f0f0f0fu) | (q4 & 0x0f0f0f0fu) << 4;
            high[8 * half + l / 4] = (q1 >> 4 & 0x03030303u) | (q2 >> 4 & 0x03030303u) << 2 |
                                     (q3 >> 4 & 0x03030303u) << 4 | (q4 >> 4 & 0x03030303u) << 6;
        }
    }
}

INLINE void quantize_q6_k(const Source &source, uint8_t *target) {
    Floats x[SUPER], scales[SUBS6];
    Scale found[SUBS6];
    transpose(source.numbers, source.count, SUPER, SUPER, x);
    search_q6(x, source, found);
    for (int j = 0; j < SUBS6; j++) scales[j] = found[j].scale;
    Floats largest = first_largest(scales, SUBS6);
    Ints is_kept = ~(absolute(largest) < NEGLIGIBLE);
    Floats inverse = -128.0f / largest;
    Words d = to_float16(1.0f / inverse), quants[SUPER], image[53], bytes[SUBS6];
    Ints rounded[SUBS6];
    for (int j = 0; j < SUBS6; j++) {
        rounded[j] = smaller(nearest_int(inverse * scales[j]), 127) << 24 >> 24;  // kept in an int8
        bytes[j] = (Words)rounded[j] & 0xffu;
    }
    q6_quants(x, found, from_float16(d), rounded, quants);
    pack_q6(quants, image, image + 32);
    for (int j = 0; j < SUBS6; j += 4) image[48 + j / 4] = four_bytes(bytes + j);
    image[52] = d;
    for (int word = 0; word < 53; word++) image[word] = only(is_kept, image[word]);
    store_blocks<210>(image, source.count, target);
}

// ---- IQ4_XS: eight sub-blocks of 32, each with a scale of six bits; quants are places in a table

const int VALUES = 16;
const float TABLE[VALUES] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

INLINE float middle(int k) { return (TABLE[k] + TABLE[k + 1]) * 0.5f; }

// The table's value nearest to each number, the upper one of two as near: best_index_int8(). NaN is above all.
INLINE Floats nearest_value(Floats v) {
    Floats value = all(TABLE[0]);
    for (int k = 0; k < VALUES - 1; k++) value = v < middle(k) ? value : all(TABLE[k + 1]);
    return value;
}

INLINE Words nearest_place(Floats v) {
    Ints place = VALUES - 1 - Ints{};
    for (int k = 0; k < VALUES - 1; k++) place += v < middle(k);
    return (Words)place;
}

INLINE Sums sums_of_values(const Floats *x, const Floats *weights, Floats inverse) {
    Sums sums = {};
    for (int i = 0; i < SUB; i++) {
        Floats q = nearest_value(inverse * x[i]);
        sums.lx += weights[i] * q * x[i];
        sums.l2 += weights[i] * q * q;
    }
    return sums;
}

INLINE Floats search_value_scale(const Floats *x, const Floats *weights) {
    const int tries = 7;
    Floats largest = first_largest(x, SUB), zero = {};
    Ints is_zero = absolute(largest) < NEGLIGIBLE;
    Sums sums = sums_of_values(x, weights, 1.0f / (-largest / TABLE[0]));
    Floats d = sums.l2 > 0.0f ? sums.lx / sums.l2 : zero;
    Floats best = d * sums.lx;
    for (int s = -tries; s <= tries; s++) {
        sums = sums_of_values(x, weights, (s + TABLE[0]) / largest);
        Ints is_better = (sums.l2 > 0.0f) & (sums.lx * sums.lx > best * sums.l2);
        Floats tried = sums.lx / sums.l2;
        d = is_better ? tried : d;
        best = is_better ? tried * sums.lx : best;
    }
    return is_zero ? zero : d;
}

// The scales of the sub-blocks of N numbers.
template <int N>
INLINE void search_iq4(const Floats *x, const Source &source, Floats *scales) {
    Floats importance[N], weights[SUB];
    if (source.importance) transpose_importance(source, N, importance);
    Floats variance = sum_of_squares(x, N) * (2.0f / N);
    for (int j = 0; j < N / SUB; j++) {
        const Floats *sub = x + SUB * j;
        if (source.importance) {
            importance_weights(sub, importance + SUB * j, variance, SUB, weights);
        } else {
            for (int i = 0; i < SUB; i++) weights[i] = sub[i] * sub[i];
        }
        scales[j] = search_value_scale(sub, weights);
    }
}

INLINE void iq4_quants(const Floats *x, Floats scale, Words *quants) {
    Floats inverse = scale != 0.0f ? 1.0f / scale : Floats{};
    for (int i = 0; i < SUB; i++) quants[i] = nearest_place(inverse * x[i]);
}

INLINE void quantize_iq4_xs(const Source &source, uint8_t *target) {
    Floats x[SUPER], scales[SUBS];
    Words image[34], quants[SUB], high = {}, low = {};
    transpose(source.numbers, source.count, SUPER, SUPER, x);
    search_iq4<SUPER>(x, source, scales);
    Floats d = -first_largest(scales, SUBS) / 32.0f;
    Floats inverse = d != 0.0f ? 1.0f / d : Floats{};
    for (int j = 0; j < SUBS; j++) {
        Floats l = nearest_within(inverse * scales[j], -32, 31);
        Words six_bits = (Words)(__builtin_convertvector(l, Ints) + 32);
        low |= (six_bits & 15u) << 4 * j;
        high |= (six_bits >> 4) << 2 * j;
        iq4_quants(x + SUB * j, d * l, quants);
        Words *bytes = image + 2 + 4 * j;
        for (int i = 0; i < 16; i += 4) *bytes++ = four_bytes(quants + i) | four_bytes(quants + i + 16) << 4;
    }
    image[0] = to_float16(d) | high << 16;
    image[1] = low;
    store_blocks<136>(image, source.count, target);
}
