"""From the bytes of a DICOM file to gray pixels."""
