"""Helpers shared by tests: builders, stubs and queries about processes."""
