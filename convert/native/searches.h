// The searches for scales of ggml-quants.c, one block in each lane. Where ggml returns early or takes a branch, both
// ways are computed and a mask chooses. Sums run over i in ggml's order, with ggml's order of operations in each term.

// The result of a search for a scale and a minimum. The last two give the quants it found:
// nearest_int(inverse * (x[i] - offset)).
struct ScaleAndMin {
    Pair scale, min;
    Pair inverse, offset;
};

struct Range {
    Pair low, high;
};

INLINE Range range_of(const Pair *x, int n) {
    Range r = {x[0], x[0]};
    for (int i = 1; i < n; i++) {
        r.low = choose(x[i] < r.low, x[i], r.low);
        r.high = choose(x[i] > r.high, x[i], r.high);
    }
    return r;
}

INLINE Pair min_error(const Pair *x, const Pair *weights, const Pair *quants, int n, Pair scale, Pair min) {
    Pair error = {};
    for (int i = 0; i < n; i++) {
        Pair difference = scale * quants[i] + min - x[i];
        error = error + weights[i] * (difference * difference);
    }
    return error;
}

// make_qkx2_quants() and make_qkx3_quants() without mad: the same but for constants.
template <int N, int MOST, int STEPS>
INLINE ScaleAndMin search_scale_and_min(const Pair *x, const Pair *weights, float first, float step) {
    Pair quants[N], zero = {};
    Range range = range_of(x, N);
    Pair sum_w = weights[0], sum_x = sum_w * x[0];
    for (int i = 1; i < N; i++) {
        sum_w = sum_w + weights[i];
        sum_x = sum_x + weights[i] * x[i];
    }
    Pair min = choose(range.low > 0.0f, zero, range.low), max = range.high;
    PairMask is_flat = max == min;
    Pair inverse = (float)MOST / (max - min), offset = min, flat_min = -min;
    Pair scale = 1.0f / inverse;
    for (int i = 0; i < N; i++) quants[i] = nearest_within(inverse * (x[i] - min), 0, MOST);
    Pair least_error = min_error(x, weights, quants, N, scale, min);
    for (int s = 0; s <= STEPS; s++) {
        Pair tried = (first + step * s + MOST) / (max - min);
        Pair sum_l = {}, sum_l2 = {}, sum_xl = {};
        for (int i = 0; i < N; i++) {
            Pair l = nearest_within(tried * (x[i] - min), 0, MOST);
            quants[i] = l;
            sum_l = sum_l + weights[i] * l;
            sum_l2 = sum_l2 + weights[i] * l * l;
            sum_xl = sum_xl + weights[i] * l * x[i];
        }
        Pair determinant = sum_w * sum_l2 - sum_l * sum_l;
        Pair new_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
        Pair new_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
        PairMask is_above = new_min > 0.0f;
        new_min = choose(is_above, zero, new_min);
        new_scale = choose(is_above, sum_xl / sum_l2, new_scale);
        Pair error = min_error(x, weights, quants, N, new_scale, new_min);
        PairMask is_better = (determinant > 0.0f) & (error < least_error);
        least_error = choose(is_better, error, least_error);
        scale = choose(is_better, new_scale, scale);
        inverse = choose(is_better, tried, inverse);
        offset = choose(is_better, min, offset);
        min = choose(is_better, new_min, min);
    }
    return {
        choose(is_flat, zero, scale), choose(is_flat, flat_min, -min), choose(is_flat, zero, inverse),
        choose(is_flat, zero, offset)};
}

// The number of the largest magnitude, the first of equal ones; 0 if all are 0.
INLINE Floats first_largest(const Floats *x, int n) {
    Floats largest = {}, magnitude = {};
    for (int i = 0; i < n; i++) {
        Ints is_larger = absolute(x[i]) > magnitude;
        magnitude = is_larger ? absolute(x[i]) : magnitude;
        largest = is_larger ? x[i] : largest;
    }
    return largest;
}

const float NEGLIGIBLE = 1e-15f;  // GROUP_MAX_EPS

// The result of a search for a scale. The quants are nearest_int(inverse * x[i]), or all least where `is_zero`.
struct Scale {
    Floats scale, inverse;
    Ints is_zero;
};

struct Sums {
    Floats lx, l2;
};

template <int N, int MOST>
INLINE Sums sums_of_quants(const Floats *x, const Floats *weights, Floats inverse) {
    Sums sums = {};
    for (int i = 0; i < N; i++) {
        Floats l = nearest_within(inverse * x[i], -MOST, MOST - 1);
        sums.lx += weights[i] * x[i] * l;
        sums.l2 += weights[i] * l * l;
    }
    return sums;
}

// make_qx_quants() with rmse_type 1.
template <int N, int MOST>
INLINE Scale search_scale(const Floats *x, const Floats *weights) {
    Floats largest = first_largest(x, N), zero = {};
    Ints is_zero = absolute(largest) < NEGLIGIBLE;
    Floats inverse = -(float)MOST / largest;
    Sums sums = sums_of_quants<N, MOST>(x, weights, inverse);
    Floats scale = sums.l2 != 0.0f ? sums.lx / sums.l2 : zero;
    Floats best = scale * sums.lx;
    for (int s = -9; s <= 9; s++) {
        if (s == 0) continue;
        Floats tried = -(MOST + 0.1f * s) / largest;
        sums = sums_of_quants<N, MOST>(x, weights, tried);
        Ints is_better = (sums.l2 > 0.0f) & (sums.lx * sums.lx > best * sums.l2);
        Floats new_scale = sums.lx / sums.l2;
        inverse = is_better ? tried : inverse;
        scale = is_better ? new_scale : scale;
        best = is_better ? new_scale * sums.lx : best;
    }
    return {is_zero ? zero : scale, inverse, is_zero};
}

struct ScaleOfScales {
    Floats scale;
    Ints quants[8];
};

INLINE Floats scales_error(const Floats *x, const Floats *weights, const Floats *quants, Floats scale) {
    Floats error = {};
    for (int i = 0; i < 8; i++) {
        Floats difference = x[i] - scale * quants[i];
        error += weights[i] * difference * difference;
    }
    return error;
}

// The second half of make_qp_quants(): change one quant after the other while the error shrinks. ggml stops after a
// round without a change; another round would change nothing either, so no lane has to stop.
INLINE Floats refine_scales(const Floats *x, const Floats *weights, int most, Ints *quants, Sums sums) {
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 8; i++) {
            Floats l = as_floats(quants[i]);
            Floats lx = sums.lx - weights[i] * x[i] * l;
            Floats l2 = sums.l2 - weights[i] * l * l;
            Ints is_tried = (lx > 0.0f) & (l2 > 0.0f);
            Ints tried = smaller(nearest_int(x[i] * l2 / lx), most);
            Floats t = as_floats(tried);
            lx += weights[i] * x[i] * t;
            l2 += weights[i] * t * t;
            Ints is_better =
                is_tried & (tried != quants[i]) & (lx * lx * sums.l2 > sums.lx * sums.lx * l2);
            quants[i] = is_better ? tried & 0xff : quants[i];
            sums.lx = is_better ? lx : sums.lx;
            sums.l2 = is_better ? l2 : sums.l2;
        }
    }
    return sums.l2 > 0.0f ? sums.lx / sums.l2 : Floats{};
}

// make_qp_quants() of the 8 scales, or minima, of a super-block. ggml keeps quants in bytes, so they wrap.
INLINE ScaleOfScales search_scale_of_scales(const Floats *x, const Floats *weights) {
    const int most = 63;
    Floats largest = {}, quants[8];
    for (int i = 0; i < 8; i++) largest = largest > x[i] ? largest : x[i];
    Ints is_zero = largest < NEGLIGIBLE;
    Floats inverse = (float)most / largest;
    for (int i = 0; i < 8; i++) quants[i] = as_floats(nearest_int(inverse * x[i]) & 0xff);
    Floats least_error = scales_error(x, weights, quants, 1.0f / inverse);
    for (int s = -4; s <= 4; s++) {
        if (s == 0) continue;
        Floats tried = (0.1f * s + most) / largest;
        for (int i = 0; i < 8; i++) quants[i] = as_floats(smaller(nearest_int(tried * x[i]), most));
        Floats error = scales_error(x, weights, quants, 1.0f / tried);
        Ints is_better = error < least_error;
        least_error = is_better ? error : least_error;
        inverse = is_better ? tried : inverse;
    }
    ScaleOfScales found = {};
    Sums sums = {};
    for (int i = 0; i < 8; i++) {
        Ints l = smaller(nearest_int(inverse * x[i]), most);
        found.quants[i] = l & 0xff;
        sums.lx += weights[i] * x[i] * as_floats(l);
        sums.l2 += weights[i] * as_floats(l) * as_floats(l);
    }
    found.scale = refine_scales(x, weights, most, found.quants, sums);
    found.scale = is_zero ? Floats{} : found.scale;
    for (int i = 0; i < 8; i++) found.quants[i] &= ~is_zero;
    return found;
}
