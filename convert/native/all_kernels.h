// All kernels for one instruction set.

#include "lanes.h"
#include "pairs.h"
#include "searches.h"
#include "super_blocks.h"
#include "small_blocks.h"

const uint32_t MAX_FLOAT16_BITS = 0x477fe000;  // of 65504.0f

// Put `count` numbers, a multiple of LANES, from number `first` on into `room`. False if one is too large for float16, in
// which blocks keep their scales, or NaN.
template <int FORM>
INLINE bool take_form(const void *numbers, int64_t first, int64_t count, float *room) {
    Words most = {};
    for (int64_t i = 0; i < count; i += LANES) {
        Floats v = load(FORM, numbers, first + i);
        memcpy(room + i, &v, sizeof v);
        Words bits = (Words)v & 0x7fffffffu;
        most = bits > most ? bits : most;
    }
    return is_set((Ints)(most <= MAX_FLOAT16_BITS));
}

INLINE bool take(const Task &task, int64_t first, int64_t count, float *room) {
    if (task.form == BFLOAT16) return take_form<BFLOAT16>(task.numbers, first, count, room);
    if (task.form == FLOAT16) return take_form<FLOAT16>(task.numbers, first, count, room);
    return take_form<FLOAT32>(task.numbers, first, count, room);
}

// Pack all blocks of `NUMBERS` numbers, `GROUP` at a time. `kernel` takes a Source and the place of the first block.
template <int NUMBERS, int BYTES, int GROUP = LANES, typename Kernel>
INLINE bool for_groups(const Task &task, Kernel kernel) {
    float room[GROUP * NUMBERS] __attribute__((aligned(64)));
    int64_t row_blocks = task.columns / NUMBERS, blocks = task.rows * row_blocks;
    for (int64_t first = 0; first < blocks; first += GROUP) {
        int64_t count = blocks - first < GROUP ? blocks - first : GROUP;
        if (!take(task, first * NUMBERS, count * NUMBERS, room)) return false;
        Source source = {room, task.importance, count, first, row_blocks};
        kernel(source, task.target + first * BYTES);
    }
    return true;
}

// Pack blocks of 32 with a kernel that may leave some to ggml.
template <int BYTES, typename Kernel>
INLINE bool for_plain(const Task &task, Kernel kernel) {
    return for_groups<SMALL, BYTES>(task, [&](const Source &source, uint8_t *target) __attribute__((always_inline)) {
        if (!kernel(source, target)) task.ggml(task.kind, source.numbers, target, 0, 1, source.count * SMALL, 0);
    });
}

// The mean square of each row, LANES rows at a time, each added in the order of its columns.
INLINE void mean_squares(const Task &task) {
    float room[LANES * SMALL] __attribute__((aligned(64)));
    for (int64_t first = 0; first < task.rows; first += LANES) {
        int64_t left = task.rows - first < LANES ? task.rows - first : LANES;
        Floats x[SMALL], sum = {};
        for (int64_t at = 0; at < task.columns; at += SMALL) {
            for (int64_t lane = 0; lane < left; lane++) {
                take(task, (first + lane) * task.columns + at, SMALL, room + lane * SMALL);
            }
            transpose(room, left, SMALL, SMALL, x);
            for (int i = 0; i < SMALL; i++) sum += x[i] * x[i];
        }
        sum /= (float)task.columns;
        for (int64_t lane = 0; lane < left; lane++) task.means[first + lane] = sum[lane];
    }
}

// Pack blocks of 32 whose weights depend on the mean square of the row. `kernel` takes those means as well.
template <int BYTES, int GROUP = LANES, typename Kernel>
INLINE bool for_weighted(const Task &task, Kernel kernel) {
    mean_squares(task);
    const float *means = task.means;
    return for_groups<SMALL, BYTES, GROUP>(
        task, [=](const Source &source, uint8_t *target)
                  __attribute__((always_inline)) { kernel(source, means, target); });
}

#define KERNEL static __attribute__((noinline)) bool
KERNEL all_q4_0(const Task &task) { return for_plain<18>(task, quantize_around_zero<8>); }
KERNEL all_q4_1(const Task &task) { return for_plain<20>(task, quantize_from_least<15>); }
KERNEL all_q5_0(const Task &task) { return for_plain<22>(task, quantize_around_zero<16>); }
KERNEL all_q5_1(const Task &task) { return for_plain<24>(task, quantize_from_least<31>); }
KERNEL all_q8_0(const Task &task) { return for_plain<34>(task, quantize_q8_0); }
KERNEL all_q4_k(const Task &task) { return for_groups<SUPER, 144>(task, quantize_q4_k); }
KERNEL all_q5_k(const Task &task) { return for_groups<SUPER, 176>(task, quantize_q5_k); }
KERNEL all_q6_k(const Task &task) { return for_groups<SUPER, 210>(task, quantize_q6_k); }
KERNEL all_iq4_nl(const Task &task) { return for_groups<SMALL, 18>(task, quantize_iq4_nl); }
KERNEL all_iq4_xs(const Task &task) { return for_groups<SUPER, 136>(task, quantize_iq4_xs); }
KERNEL weighted_q4_0(const Task &task) { return for_weighted<18>(task, quantize_by_scale<8>); }
KERNEL weighted_q5_0(const Task &task) { return for_weighted<22>(task, quantize_by_scale<16>); }
KERNEL weighted_q4_1(const Task &task) { return for_weighted<20, 2 * LANES>(task, quantize_by_min<15>); }
KERNEL weighted_q5_1(const Task &task) { return for_weighted<24, 2 * LANES>(task, quantize_by_min<31>); }
#undef KERNEL

static bool quantize(const Task &task) {
    switch (task.kind) {
        case Q4_0: return task.importance ? weighted_q4_0(task) : all_q4_0(task);
        case Q4_1: return task.importance ? weighted_q4_1(task) : all_q4_1(task);
        case Q5_0: return task.importance ? weighted_q5_0(task) : all_q5_0(task);
        case Q5_1: return task.importance ? weighted_q5_1(task) : all_q5_1(task);
        case Q8_0: return all_q8_0(task);
        case Q4_K: return all_q4_k(task);
        case Q5_K: return all_q5_k(task);
        case Q6_K: return all_q6_k(task);
        case IQ4_NL: return all_iq4_nl(task);
        case IQ4_XS: return all_iq4_xs(task);
    }
    return false;
}

template <int FORM>
INLINE void widen_form(const uint16_t *halves, float *numbers, int64_t count) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        Floats v = load(FORM, halves, i);
        memcpy(numbers + i, &v, sizeof v);
    }
    for (; i < count; i++) {
        uint16_t one[LANES] = {halves[i]};
        numbers[i] = load(FORM, one, 0)[0];
    }
}

static void widen(int form, const uint16_t *halves, float *numbers, int64_t count) {
    if (form == BFLOAT16) return widen_form<BFLOAT16>(halves, numbers, count);
    widen_form<FLOAT16>(halves, numbers, count);
}
