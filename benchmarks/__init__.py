"""Benchmarks: ratios measured in one run, beside the floor of the hardware."""
