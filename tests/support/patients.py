"""A small data set of patients with several studies, told by a manifest."""

from __future__ import annotations

from pathlib import Path

import cv2
import synthetic

from xenon_mx.commands import pack
from xenon_mx.config import PackConfig
from xenon_mx.data.packed_folder import PackedFolder

HEADER = "image,study,patient,study_type,label,split,scanner"


def write_manifest(folder: Path, patients: int = 20) -> Path:
    """Write images and a manifest; the last four patients are not to train on.

    Every patient has one to three studies of one or two images; those with an odd
    number have an abnormal one.
    """
    (folder / "images").mkdir(parents=True)
    pixels, _ = synthetic.labelled(6 * patients, 40)
    splits = ["train"] * (patients - 4) + ["valid", "calibration"] * 2
    rows = []
    for patient, split in enumerate(splits):
        for study in range(1 + patient % 3):
            label = int(patient % 2 == 1 and study == 0)
            kind = ("XR_HAND", "XR_WRIST")[(patient // 2 + study) % 2]
            for _ in range(1 + (patient + study) % 2):
                name = f"images/{len(rows)}.png"
                cv2.imwrite(str(folder / name), pixels[len(rows)])
                row = (name, f"S{patient}.{study}", f"P{patient}", kind, label, split)
                rows.append(",".join(map(str, (*row, "AB"[patient % 4 // 2]))))
    manifest = folder / "studies.csv"
    manifest.write_text("\n".join([HEADER, *rows]) + "\n")
    return manifest


def pack_manifest(folder: Path, **options) -> PackedFolder:
    """Pack such a data set within a folder, at 32 px and without loss."""
    manifest = write_manifest(folder)
    settings = {"size": 32, "encoding": "png", **options}
    return pack.pack(PackConfig(manifest, folder / "packed", **settings))
