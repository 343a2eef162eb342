"""Input to the REPL: draw a few studies, pack them, train on them for one epoch.

Prints the epoch and its validation loss. Runs in a kernel: see test_docker.py.
"""

from pathlib import Path

import cv2
import numpy as np

from xenon_mx.commands import pack, train
from xenon_mx.config import PackConfig, TrainConfig

rng = np.random.RandomState(0)
for patient in range(16):
    split = ("train", "valid")[patient // 8]
    label = ("negative", "positive")[patient % 2]
    study = Path("drawn", split, "XR_HAND", f"patient{patient:05d}", f"study1_{label}")
    study.mkdir(parents=True)
    bone = rng.randint(0, 128, (40, 48)).astype(np.uint8)
    if label == "positive":
        cv2.line(bone, (4, 4), (40, 30), 255, 5)
    cv2.imwrite(str(study / "image1.png"), bone)

pack.pack(PackConfig(Path("drawn"), Path("packed"), size=32))
(best,) = train.train(
    TrainConfig(
        Path("packed"),
        Path("run"),
        model="mobilenet0.25",
        no_pretrained=True,
        batch_size=4,
        epochs=1,
        ctx="cpu()",
    )
)
print(best.epoch, best.loss)  # noqa: T201 - a REPL displays standard output
