"""The page and the model card: plots, tables, gallery."""
