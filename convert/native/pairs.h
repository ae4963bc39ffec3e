// Two vectors as one value. A sum waits for the addition before; two sums side by side keep the processor busy.

#if defined(__clang__)  // it splits vectors wider than the machine's, and contracts only what one expression says

typedef float Pair __attribute__((vector_size(8 * LANES)));
typedef int32_t PairMask __attribute__((vector_size(8 * LANES)));

INLINE Pair pair_of(Floats a, Floats b) {
    Floats both[2] = {a, b};
    Pair pair;
    memcpy(&pair, both, sizeof pair);
    return pair;
}

INLINE Floats half_of(Pair pair, int which) {
    Floats both[2];
    memcpy(both, &pair, sizeof both);
    return both[which];
}

INLINE Pair choose(PairMask mask, Pair p, Pair q) { return mask ? p : q; }

#else

struct Pair {
    Floats a, b;
};

struct PairMask {
    Ints a, b;
};

INLINE Pair operator+(Pair p, Pair q) { return {p.a + q.a, p.b + q.b}; }
INLINE Pair operator-(Pair p, Pair q) { return {p.a - q.a, p.b - q.b}; }
INLINE Pair operator*(Pair p, Pair q) { return {p.a * q.a, p.b * q.b}; }
INLINE Pair operator/(Pair p, Pair q) { return {p.a / q.a, p.b / q.b}; }
INLINE Pair operator/(float value, Pair q) { return {value / q.a, value / q.b}; }
INLINE Pair operator-(Pair p) { return {-p.a, -p.b}; }
INLINE PairMask operator<(Pair p, Pair q) { return {p.a < q.a, p.b < q.b}; }
INLINE PairMask operator>(Pair p, Pair q) { return {p.a > q.a, p.b > q.b}; }
INLINE PairMask operator>(Pair p, float value) { return {p.a > value, p.b > value}; }
INLINE PairMask operator==(Pair p, Pair q) { return {p.a == q.a, p.b == q.b}; }
INLINE PairMask operator&(PairMask p, PairMask q) { return {p.a & q.a, p.b & q.b}; }
INLINE Pair choose(PairMask mask, Pair p, Pair q) { return {mask.a ? p.a : q.a, mask.b ? p.b : q.b}; }

INLINE Pair pair_of(Floats a, Floats b) { return {a, b}; }
INLINE Floats half_of(Pair pair, int which) { return which ? pair.b : pair.a; }

#endif

// Whether the mask is set in any lane.
INLINE bool is_any(PairMask mask) {
#if defined(__clang__)
    Ints halves[2];
    memcpy(halves, &mask, sizeof halves);
    return !is_set(~(halves[0] | halves[1]));
#else
    return !is_set(~(mask.a | mask.b));
#endif
}

template <int MAY_BE>
INLINE Pair nearest_within(Pair v, float low, float high) {
    return pair_of(
        nearest_within<MAY_BE>(half_of(v, 0), low, high), nearest_within<MAY_BE>(half_of(v, 1), low, high));
}
