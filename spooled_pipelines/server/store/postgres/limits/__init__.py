"""How much at a time: of a queue, of a limit key, of an organization's day."""
