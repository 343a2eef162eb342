"""Metrics with intervals, prediction tables, and what others have reached."""
