"""Runs of nets with random weights, written in a moment: no test trains for them."""

from __future__ import annotations

import numpy as np

from xenon_mx.models import network
from xenon_mx.runs.epoch_log import EpochRecord
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.run_meta import RunMeta
from xenon_mx.runs.top_epochs import TopEpochs
from xenon_mx.runs.training_state import TrainingState
from xenon_mx.runtime import mxnet

META = {
    "format": 1,
    "data": "abc",
    "architecture": {"pooling": "global", "logits": 1},
    "study_types": ["XR_HAND"],
    "weights": [[0.5, 0.5]],
}


def write_run(folder, model, size, members=3):
    """Write a run with some members whose logits spread over several units."""
    preprocessing = {
        "size": size,
        "fit": "stretch",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    content = {**META, "config": {"model": model}, "preprocessing": preprocessing}
    run, best = Run.create(folder, RunMeta.from_json(content)), TopEpochs(5)
    for epoch in range(1, members + 1):
        mxnet.seed(epoch)
        arrays = network.state_dict(network.build(model, reference=True))
        arrays["output.weight"] = 20 * arrays["output.weight"]
        best.step(epoch, 0.1 * epoch)
        row = EpochRecord(epoch, 1, 0.1 * epoch, 0, 0, 0, 0, 0, 0)
        run.save(row, TrainingState(epoch, arrays, {}, 1, {}, False), best.ranked)
    run.close()
    return folder


def images(folder, count, size):
    """Write images in MURA's layout, one per study; return their folder."""
    import cv2
    import synthetic

    for number, pixels in enumerate(synthetic.blobs(count, size)):
        study = (
            folder / "valid" / "XR_HAND" / f"patient{number:05d}" / "study1_negative"
        )
        study.mkdir(parents=True)
        cv2.imwrite(str(study / "image1.png"), np.ascontiguousarray(pixels))
    return folder / "valid"
