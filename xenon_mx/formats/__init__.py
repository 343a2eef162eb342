"""Decoding of PNG, JPEG, BMP and TIFF files to 8-bit gray pixels."""
