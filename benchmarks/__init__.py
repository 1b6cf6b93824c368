"""What this package promises about speed and memory, measured: `python -m benchmarks`."""
