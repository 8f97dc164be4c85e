"""What compiled kernels share: how they are compiled, and the bytes of a text column."""
