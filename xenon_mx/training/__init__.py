"""The training loop, its loss, optimizer, learning rate schedule and first weights."""
