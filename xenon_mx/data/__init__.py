"""Radiographs on disk: MURA's layout, image files, records, the packed folder."""
