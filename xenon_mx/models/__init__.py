"""Nets with one logit: weights, forward pass and class activation maps."""
