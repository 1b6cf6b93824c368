"""Jobs: what they are, what can happen to them, and what each change counts."""
