"""Metrics with intervals, prediction tables, and published results."""
