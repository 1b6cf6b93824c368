"""The blocking client, made from `aio` beside it."""
