"""What drives stores and servers to their limits, and judges what came of it."""
