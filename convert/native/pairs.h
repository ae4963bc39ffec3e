// Two vectors as one value. A sum waits for the addition before; two sums side by side keep the processor busy.

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

INLINE Pair nearest_within(Pair v, float low, float high) {
    return {nearest_within(v.a, low, high), nearest_within(v.b, low, high)};
}
