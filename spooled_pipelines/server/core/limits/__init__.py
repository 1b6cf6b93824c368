"""How much at a time: of a queue, of an organization's day, of the bytes in flight."""
