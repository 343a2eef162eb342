"""Ensembles, in Gluon or in ONNX Runtime, and the images they predict."""
