"""What a computer can do with xenon, found out by doing it: one module per check."""
