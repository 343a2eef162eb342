"""Bone radiographs to study-level predictions, by the recipe of the MURA paper."""

__version__ = "0.1.0"
