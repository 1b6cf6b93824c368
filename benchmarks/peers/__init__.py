"""The others' programs, one file each: run by `benchmarks.against` in an environment of their own.

Nothing here imports this package's product: where the others are installed, it is not.
"""
