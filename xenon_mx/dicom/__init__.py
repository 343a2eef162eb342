"""Decoding of DICOM files to 8-bit gray pixels."""
