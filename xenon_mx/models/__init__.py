"""Nets with one logit, their weights, their forward pass and activation maps."""
