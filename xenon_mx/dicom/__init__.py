"""Reading of DICOM files: 8-bit gray pixels, and whose image a file is."""
