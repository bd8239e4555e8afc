"""What the core costs: `python -m benchmarks.hostile` and `python -m benchmarks.throughput`."""
