"""The run folder: what a training leaves, and how it is gone on with."""
