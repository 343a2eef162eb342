"""The run folder: what training writes, and how a run is resumed."""
