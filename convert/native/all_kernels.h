// All kernels for one instruction set.

#include "lanes.h"
#include "pairs.h"
#include "searches.h"
#include "super_blocks.h"
#include "small_blocks.h"

// Pack all blocks, LANES at a time. `kernel` takes a Source and the place of the first block.
template <typename Kernel>
INLINE void for_groups(const Task &task, int numbers, int bytes, Kernel kernel) {
    int64_t row_blocks = task.columns / numbers, blocks = task.rows * row_blocks;
    for (int64_t first = 0; first < blocks; first += LANES) {
        int64_t count = blocks - first < LANES ? blocks - first : LANES;
        Source source = {task.numbers + first * numbers, task.importance, count, first, row_blocks};
        kernel(source, task.target + first * bytes);
    }
}

// Pack all blocks of a type whose blocks are taken one by one.
template <typename Kernel>
INLINE void for_blocks(const Task &task, int bytes, Kernel kernel) {
    int64_t blocks = task.rows * (task.columns / SMALL);
    for (int64_t block = 0; block < blocks; block++) {
        const float *x = task.numbers + block * SMALL;
        uint8_t *target = task.target + block * bytes;
        if (!kernel(x, target)) task.ggml(task.kind, x, target, 0, 1, SMALL, 0);
    }
}

static __attribute__((noinline)) void all_q4_0(const Task &task) { for_blocks(task, 18, quantize_q4_0); }
static __attribute__((noinline)) void all_q8_0(const Task &task) { for_blocks(task, 34, quantize_q8_0); }
static __attribute__((noinline)) void all_q4_k(const Task &task) { for_groups(task, SUPER, 144, quantize_q4_k); }
static __attribute__((noinline)) void all_q5_k(const Task &task) { for_groups(task, SUPER, 176, quantize_q5_k); }
static __attribute__((noinline)) void all_q6_k(const Task &task) { for_groups(task, SUPER, 210, quantize_q6_k); }
static __attribute__((noinline)) void all_iq4_xs(const Task &task) { for_groups(task, SUPER, 136, quantize_iq4_xs); }

static __attribute__((noinline)) void all_q4_0_weighted(const Task &task) {
    mean_squares(task.numbers, task.rows, task.columns, task.means);
    const float *means = task.means;
    for_groups(task, SMALL, 18, [=](const Source &source, uint8_t *target) __attribute__((always_inline)) {
        quantize_q4_0_blocks(source, means, target);
    });
}

static void quantize(const Task &task) {
    switch (task.kind) {
        case Q4_0: return task.importance ? all_q4_0_weighted(task) : all_q4_0(task);
        case Q8_0: return all_q8_0(task);
        case Q4_K: return all_q4_k(task);
        case Q5_K: return all_q5_k(task);
        case Q6_K: return all_q6_k(task);
        case IQ4_XS: return all_iq4_xs(task);
    }
}

static void widen_float16(const uint16_t *halves, float *numbers, int64_t count) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        Floats v = widen(halves + i);
        memcpy(numbers + i, &v, sizeof v);
    }
    for (; i < count; i++) numbers[i] = from_float16(Words{} + halves[i])[0];
}
