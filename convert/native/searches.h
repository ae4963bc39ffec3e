// The searches for scales of ggml-quants.c, one block in each lane. Where ggml returns early or takes a branch, both
// ways are computed and a mask chooses. Sums run over i in ggml's order, with ggml's order of operations in each term.

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

// One search for a scale and a minimum, of two sub-blocks in each lane.
template <int N>
struct MinSearch {
    Pair x[N], weights[N], quants[N];
    Range range;
    Pair sum_w, sum_x;
    Pair scale, min, least_error;         // the best so far
    Pair inverse, offset;                 // which give its quants: nearest_int(inverse * (x[i] - offset))
    Pair new_scale, new_min, determinant; // of this step
    Pair tried;
};

INLINE Pair min_error(const Pair *x, const Pair *weights, const Pair *quants, int n, Pair scale, Pair min) {
    Pair error = {};
    for (int i = 0; i < n; i++) {
        Pair difference = scale * quants[i] + min - x[i];
        error = error + weights[i] * (difference * difference);
    }
    return error;
}

template <int N, int MOST>
INLINE void begin_search(MinSearch<N> &s) {
    Pair zero = {};
    s.range = range_of(s.x, N);
    s.sum_w = s.weights[0], s.sum_x = s.sum_w * s.x[0];
    for (int i = 1; i < N; i++) {
        s.sum_w = s.sum_w + s.weights[i];
        s.sum_x = s.sum_x + s.weights[i] * s.x[i];
    }
    s.range.low = choose(s.range.low > 0.0f, zero, s.range.low);
    s.min = s.offset = s.range.low;
    s.inverse = (float)MOST / (s.range.high - s.min);
    s.scale = 1.0f / s.inverse;
    for (int i = 0; i < N; i++) s.quants[i] = nearest_within<ANY>(s.inverse * (s.x[i] - s.min), 0, MOST);
    s.least_error = min_error(s.x, s.weights, s.quants, N, s.scale, s.min);
}

struct WeightedSums {
    Pair l, l2, xl;
};

template <int N, int MOST, int MAY_BE>
INLINE WeightedSums weighted_sums(const Pair *x, const Pair *weights, Pair inverse, Pair min, Pair *quants) {
    WeightedSums sums = {};
    for (int i = 0; i < N; i++) {
        Pair value = inverse * (x[i] - min), l;
        if (MAY_BE == NEAR) {
            l = pair_of(nearest_by_table(half_of(value, 0)), nearest_by_table(half_of(value, 1)));
        } else {
            l = nearest_within<MAY_BE>(value, 0, MOST);
        }
        quants[i] = l;
        sums.l = sums.l + weights[i] * l;
        sums.l2 = sums.l2 + weights[i] * l * l;
        sums.xl = sums.xl + weights[i] * l * x[i];
    }
    return sums;
}

// Whether (x - min) * (c / (max - min)), for 0 < c < 64 and any x from `low` to `max`, lies between -c * limit and c,
// with an error of three roundings.
INLINE bool is_moderate(Pair low, Pair min, Pair max, float limit) {
    bool moderate = true;
    for (int half = 0; half < 2; half++) {
        Floats range = half_of(max, half) - half_of(min, half), below = half_of(min, half) - half_of(low, half);
        moderate &= is_set((range > 0x1.0p-100f) & (range < 0x1.0p+100f) & (below < range * limit));
    }
    return moderate;
}

// The first half of a step: quants with `levels` between the minimum and the maximum, and the best scale and minimum for
// them.
template <int N, int MOST>
INLINE void try_levels(MinSearch<N> &s, float levels) {
    Pair max = s.range.high, low = s.range.low, min = s.min, zero = {};
    s.tried = levels / (max - min);
    WeightedSums sums;
    if (LANES == 16 && MOST == 15 && is_moderate(low, min, max, 0.96f)) {
        sums = weighted_sums<N, MOST, NEAR>(s.x, s.weights, s.tried, min, s.quants);
    } else if (!is_moderate(low, min, max, 0x1.0p+15f)) {
        sums = weighted_sums<N, MOST, ANY>(s.x, s.weights, s.tried, min, s.quants);
    } else if (levels < MOST + 0.45f) {
        sums = weighted_sums<N, MOST, BELOW>(s.x, s.weights, s.tried, min, s.quants);
    } else {
        sums = weighted_sums<N, MOST, BELOW | ABOVE>(s.x, s.weights, s.tried, min, s.quants);
    }
    Pair determinant = s.sum_w * sums.l2 - sums.l * sums.l;
    s.new_scale = (s.sum_w * sums.xl - s.sum_x * sums.l) / determinant;
    s.new_min = (sums.l2 * s.sum_x - sums.l * sums.xl) / determinant;
    s.determinant = determinant;
    PairMask is_above = s.new_min > 0.0f;
    if (is_any(is_above)) {
        s.new_min = choose(is_above, zero, s.new_min);
        s.new_scale = choose(is_above, sums.xl / sums.l2, s.new_scale);
    }
}

// The second half: keep them in the lanes where they are better.
template <int N>
INLINE void keep_better(MinSearch<N> &s) {
    Pair error = min_error(s.x, s.weights, s.quants, N, s.new_scale, s.new_min);
    PairMask is_better = (s.determinant > 0.0f) & (error < s.least_error);
    s.least_error = choose(is_better, error, s.least_error);
    s.scale = choose(is_better, s.new_scale, s.scale);
    s.inverse = choose(is_better, s.tried, s.inverse);
    s.offset = choose(is_better, s.min, s.offset);
    s.min = choose(is_better, s.new_min, s.min);
}

// make_qkx2_quants() and make_qkx3_quants() without mad, which are the same but for constants. The searches take turns:
// each has to wait for its divisions, and another one computes meanwhile.
template <int N, int MOST, int STEPS, int COUNT>
INLINE void search_scales_and_mins(MinSearch<N> *searches, float first, float step) {
    for (int i = 0; i < COUNT; i++) begin_search<N, MOST>(searches[i]);
    for (int s = 0; s <= STEPS; s++) {
        float levels = first + step * s + MOST;
        for (int i = 0; i < COUNT; i++) try_levels<N, MOST>(searches[i], levels);
        for (int i = 0; i < COUNT; i++) keep_better(searches[i]);
    }
}

// What a search found for one sub-block.
struct Found {
    Floats scale, min;  // the minimum negated, as it is stored
    Floats inverse, offset;
};

template <int N>
INLINE void read_found(const MinSearch<N> &s, Found *found) {
    for (int half = 0; half < 2; half++) {
        Ints is_flat = half_of(s.range.high, half) == half_of(s.range.low, half);
        Floats zero = {}, low = half_of(s.range.low, half), min = half_of(s.min, half);
        Floats scale = half_of(s.scale, half), inverse = half_of(s.inverse, half), offset = half_of(s.offset, half);
        found[half] = {
            is_flat ? zero : scale, is_flat ? -low : -min, is_flat ? zero : inverse, is_flat ? zero : offset};
    }
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

template <int N, int MOST, int MAY_BE>
INLINE Sums sums_of_quants(const Floats *x, const Floats *weights, Floats inverse) {
    Sums sums = {};
    for (int i = 0; i < N; i++) {
        Floats l = nearest_within<MAY_BE>(inverse * x[i], -MOST, MOST - 1);
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
    bool moderate = is_set((absolute(largest) > 0x1.0p-100f) & (absolute(largest) < 0x1.0p+100f));
    Sums sums = sums_of_quants<N, MOST, ANY>(x, weights, inverse);
    Floats scale = sums.l2 != 0.0f ? sums.lx / sums.l2 : zero;
    Floats best = scale * sums.lx;
    for (int s = -9; s <= 9; s++) {
        if (s == 0) continue;
        float levels = MOST + 0.1f * s;
        Floats tried = -levels / largest;
        sums = !moderate ? sums_of_quants<N, MOST, ANY>(x, weights, tried)
               : levels < MOST + 0.45f ? sums_of_quants<N, MOST, ABOVE>(x, weights, tried)
                                       : sums_of_quants<N, MOST, BELOW | ABOVE>(x, weights, tried);
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
