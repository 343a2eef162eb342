"""Several processes that train one net together."""
