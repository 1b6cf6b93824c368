"""The blocking side, made from `aio` beside it (`runtime` is written by hand)."""
