"""Results, dead letters and the verdict of a batch."""
