"""Distributed training: several processes that train one net together."""
