"""Measurements: `make bench` writes docs/performance.md."""
