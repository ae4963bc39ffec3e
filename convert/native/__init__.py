"""The fast kernels, in C++: packing blocks, and widening the numbers of a checkpoint."""
