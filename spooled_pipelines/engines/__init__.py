"""Tables that are larger than one machine: Spark, Dask and Ray, each in a module of its own.

Each partition of a frame is one part of one batch, added by whichever of the engine's processes
has it, as often as the engine likes; the batch is sealed once the engine says that all are in.
"""
