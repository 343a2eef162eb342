"""A hospital's own studies for tests: an archive's export, and a manifest of PNGs."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from support import archives
from support import image_files as files

CHARSETS = list(archives.PEOPLE)


class Export(NamedTuple):
    """An archive's export.

    Attributes:
        folder: Its folder.
        table: The table of its labels.
        secrets: What identifies its patients.
        labels: The label of each accession number and body part.
    """

    folder: Path
    table: Path
    secrets: set[str]
    labels: dict[tuple[str, str], int]


def film(label: int, number: int) -> np.ndarray:
    """Return a drawing, (H, W) of 12 bits, whose bone is brighter if it is abnormal."""
    drawn = files.drawing(40, 40) * (0.9 if label else 0.5) + number % 7 / 100
    return files.samples(drawn, 12)[..., 0]


def write_export(folder: Path, table: Path) -> Export:
    """Write an export: random names, several views, and two parts under one UID."""
    rng = random.Random(5)
    secrets: set[str] = set()
    labels: dict[tuple[str, str], int] = {}
    number = 0
    for patient in range(24):
        charset = CHARSETS[patient % len(CHARSETS)]
        person = archives.person(charset)
        person["PatientID"] += f"-{patient:03}"
        secrets |= archives.identifiers(charset) | {person["PatientID"]}
        for study in range(1 + patient % 2):  # some have two
            uid = f"1.2.826.0.1.3680043.9.{patient}.{study}"
            accession = f"ACC{patient:04}{study}"
            secrets |= {uid, accession}
            for part in ("HAND", "WRIST") if patient % 3 == 0 else ("HAND",):
                label = (patient + study + len(part)) % 2
                labels[accession, part] = label
                for _ in range(1 + number % 2):
                    number += 1
                    secrets.add(f"{uid}.1.{number}")
                    data = archives.written(
                        film(label, number),
                        12,
                        StudyInstanceUID=uid,
                        SeriesInstanceUID=f"{uid}.1",
                        SOPInstanceUID=f"{uid}.1.{number}",
                        AccessionNumber=accession,
                        BodyPartExamined=part,
                        WindowCenter=2048,
                        WindowWidth=4096,
                        **person,
                    )
                    name = f"{rng.choice('ABC')}/{rng.getrandbits(60):015x}"
                    archives.write(folder, {name: data})
    archives.write(folder, {"viewer.exe": b"MZ", "A/report.pdf": b"%PDF-1.4"})
    with open(table, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["accession", "body_part", "label", "scanner"])
        writer.writerows(
            [accession, part, label, scanner(accession)]
            for (accession, part), label in labels.items()
        )
    return Export(folder, table, secrets, labels)


def write_key(file: Path) -> Path:
    """Write a key of pseudonyms, the same in each test: splits depend on it."""
    file.write_text(f"{1712:064x}\n")
    file.chmod(0o600)
    return file


def scanner(accession: str) -> str:
    """Return the scanner of an order."""
    return "AB"[int(accession[-2]) % 2]


def write_manifest(folder: Path) -> Path:
    """Write PNGs of 30 patients, and a manifest with a column of the scanner."""
    (folder / "films").mkdir()
    table = folder / "studies.csv"
    with open(table, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["label", "image", "scanner", "study", "patient", "study_type"])
        number = 0
        for patient in range(30):
            for study in range(1 + patient % 2):
                label = (patient // 2 + study) % 2
                for _ in range(1 + number % 3):
                    number += 1
                    name = f"films/{number:03}.png"
                    pixels = film(label, number) * np.uint16(16)
                    Image.fromarray(pixels).save(folder / name)
                    study_type = ("XR_HAND", "XR_KNEE")[patient % 2]
                    named = f"S{patient}-{study}", f"P{patient}"
                    writer.writerow(
                        [label, name, "AB"[patient % 4 // 2], *named, study_type]
                    )
    return table
