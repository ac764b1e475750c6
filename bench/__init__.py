"""Benchmarks, run by hand on a quiet machine: what is compared runs side by side, and ratios are what counts."""
