// The kernels once more, for builds of ggml whose compiler joined a product and a sum into one operation.
// A source of its own, so that both are compiled at the same time.
#define CONTRACTED
#include "kernels.cpp"
