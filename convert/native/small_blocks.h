// Blocks of 32 numbers: Q4_0 and Q8_0 of ggml-quants.c. Without sums there is no order to keep, so the numbers of one
// block are packed side by side, in plain loops that the compiler makes vectors of.

const int SMALL = 32;

INLINE uint16_t float16_of(float value) { return (uint16_t)to_float16(all(value))[0]; }

// The largest magnitude, as an integer of the same order.
INLINE int largest_magnitude(const float *x) {
    int bits[SMALL], largest = 0;
    memcpy(bits, x, sizeof bits);
    for (int i = 0; i < SMALL; i++) bits[i] &= 0x7fffffff;
    for (int i = 0; i < SMALL; i++) largest = bits[i] > largest ? bits[i] : largest;
    return largest;
}

INLINE float float_of(int bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// Where the reciprocal of a scale overflows, ggml turns infinity into an integer, which C leaves to the machine.
INLINE bool is_left_to_ggml(float scale) { return scale != 0.0f && __builtin_fabsf(scale) < 0x1.0p-127f; }

// roundf(): halves away from zero. The magnitudes are less than 128, so that truncating is exact.
INLINE bool quantize_q8_0(const float *x, uint8_t *block) {
    float scale = float_of(largest_magnitude(x)) / 127.0f;
    if (is_left_to_ggml(scale)) return false;
    float inverse = scale ? 1.0f / scale : 0.0f;
    uint16_t half = float16_of(scale);
    memcpy(block, &half, 2);
    for (int i = 0; i < SMALL; i++) {
        float value = x[i] * inverse;
        int whole = (int)value;
        float rest = value - (float)whole;
        block[2 + i] = (uint8_t)(whole + (rest >= 0.5f) - (rest <= -0.5f));
    }
    return true;
}

// The first number of this magnitude; 0, not -0, if it is 0.
INLINE float first_of_magnitude(const float *x, int magnitude) {
    int bits[SMALL], place = SMALL - 1;
    if (!magnitude) return 0.0f;
    memcpy(bits, x, sizeof bits);
    for (int i = 0; i < SMALL; i++) bits[i] = (bits[i] & 0x7fffffff) == magnitude ? i : SMALL - 1;
    for (int i = 0; i < SMALL; i++) place = bits[i] < place ? bits[i] : place;
    return x[place];
}

INLINE bool quantize_q4_0(const float *x, uint8_t *block) {
    float scale = first_of_magnitude(x, largest_magnitude(x)) / -8.0f;
    if (is_left_to_ggml(scale)) return false;
    float inverse = scale ? 1.0f / scale : 0.0f;
    uint16_t half = float16_of(scale);
    int quants[SMALL];
    memcpy(block, &half, 2);
    for (int i = 0; i < SMALL; i++) {
        float value = x[i] * inverse;  // a statement of its own, as in ggml: that decides about contraction
        int quant = (int)(value + 8.5f);
        quants[i] = quant < 15 ? quant : 15;
    }
    for (int i = 0; i < SMALL / 2; i++) block[2 + i] = (uint8_t)(quants[i] | quants[i + SMALL / 2] << 4);
    return true;
}

// The mean square of each row, LANES rows at a time, each added in the order of its columns.
INLINE void mean_squares(const float *rows, int64_t count, int64_t columns, float *means) {
    for (int64_t first = 0; first < count; first += LANES) {
        int64_t left = count - first;
        Floats x[SMALL], sum = {};
        for (int64_t at = 0; at < columns; at += SMALL) {
            transpose(rows + first * columns + at, left, columns, SMALL, x);
            for (int i = 0; i < SMALL; i++) sum += x[i] * x[i];
        }
        sum /= (float)columns;
        for (int64_t lane = 0; lane < LANES && lane < left; lane++) means[first + lane] = sum[lane];
    }
}

// Q4_0 with an importance matrix, LANES blocks; `means` are those of the rows of all blocks.
INLINE void quantize_q4_0_blocks(const Source &source, const float *means, uint8_t *target) {
    Floats x[SMALL], importance[SMALL], weights[SMALL], variance;
    Words quants[SMALL], image[5];
    transpose(source.numbers, source.count, SMALL, SMALL, x);
    transpose_importance(source, SMALL, importance);
    for (int lane = 0; lane < LANES; lane++) {
        variance[lane] = means[(source.first + (lane < source.count ? lane : 0)) / source.row_blocks];
    }
    importance_weights(x, importance, variance, SMALL, weights);
    Scale found = search_scale<SMALL, 8>(x, weights);
    for (int i = 0; i < SMALL; i++) {
        Ints quant = __builtin_convertvector(nearest_within(found.inverse * x[i], -8, 7), Ints) + 8;
        quants[i] = only(~found.is_zero, (Words)quant);
    }
    Words half = to_float16(found.scale), packed[4];
    for (int i = 0; i < 4; i++) packed[i] = four_bytes(quants + 4 * i) | four_bytes(quants + 16 + 4 * i) << 4;
    image[0] = half | packed[0] << 16;
    for (int i = 0; i < 3; i++) image[i + 1] = packed[i] >> 16 | packed[i + 1] << 16;
    image[4] = packed[3] >> 16;
    store_blocks<18>(image, source.count, target);
}
