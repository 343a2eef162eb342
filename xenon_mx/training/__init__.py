"""The training loop, its loss, optimizer, schedule and first weights."""
