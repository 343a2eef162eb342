"""What is to be the same of two runs that trained alike."""

from __future__ import annotations

import csv

from xenon_mx.runtime import files


def outcome(run):
    """Return the log of a run without its times, and the sums of its params files."""
    with open(run / "log.csv", newline="") as log:
        rows = [
            {
                k: v
                for k, v in row.items()
                if k not in ("images_per_s", "wait_share", "seconds", "finished")
            }
            for row in csv.DictReader(log)
        ]
    sums = {f.name: files.sha256(f) for f in sorted((run / "params").iterdir())}
    last = {
        f.name: files.sha256(f) for f in (run / "last").iterdir() if f.suffix != ".json"
    }
    return rows, sums, last, (run / "best.json").read_text()
