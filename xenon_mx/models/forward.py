"""The forward pass of images through nets, for prediction and class activation maps.

Owns how pixels are split over devices and how passes overlap; must not know files.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Iterable, Iterator, Sequence

import numpy as np

from xenon_mx.models import cam_average, cam_block, network
from xenon_mx.runtime.mxnet import gluon, mx

# Chosen here, by measuring DenseNet169 at 320 px: the feature maps of two images fit
# into the core's cache, those of more do not.
_IMAGES_PER_PASS = 2
# Batches queued in MXNet before the first one is awaited: when one net has finished
# its share of a batch, its core continues with the next.
_MAX_QUEUED = 2


def logits(
    nets: Sequence[Any],
    batches: Iterable[np.ndarray],
    ctxs: Sequence[Any],
    reference: bool = False,
) -> np.ndarray:
    """Compute the logits of images.

    Args:
        nets: M nets, each initialized on every one of `ctxs`.
        batches: (n, S, S) uint8 each, N images altogether.
        ctxs: Devices that share every batch.
        reference: Wait for each batch before starting the next.

    Returns:
        (N, M) float32 logits.
    """
    results = [np.zeros((0, len(nets)), np.float32)]
    for _, outputs in _run(nets, batches, ctxs, reference):
        results.append(np.concatenate(_gather(outputs), axis=1))
    return np.concatenate(results)


def cams(
    nets: Sequence[Any],
    batches: Iterable[np.ndarray],
    ctxs: Sequence[Any],
    reference: bool = False,
) -> Iterator[cam_average.CamBatch]:
    """Compute the logits and the averaged class activation maps of images.

    Args:
        nets: As for `logits`, all of them `network.Net`.
        batches: As for `logits`.
        ctxs: As for `logits`.
        reference: As for `logits`.

    Yields:
        The images in order, a few at a time, so that they need not fit into memory
        together.
    """
    blocks = [cam_block.build(net, reference) for net in nets]
    for pixels, outputs in _run(blocks, batches, ctxs, reference):
        member_logits = _gather([[logit for logit, _ in parts] for parts in outputs])
        member_maps = _gather([[maps for _, maps in parts] for parts in outputs])
        mean = cam_average.average_cams([maps[:, 0] for maps in member_maps])
        yield cam_average.CamBatch(pixels, np.concatenate(member_logits, axis=1), mean)


def _run(
    nets: Sequence[Any],
    batches: Iterable[np.ndarray],
    ctxs: Sequence[Any],
    reference: bool,
) -> Iterator[tuple[np.ndarray, list[list[Any]]]]:
    """Yield pixels and, for each net, its output on each device.

    Later passes may be running already.
    """
    if len(nets) > 1 and ctxs[0].device_type == "cpu" and not reference:
        batches = _split_batches(batches, _IMAGES_PER_PASS * len(ctxs))
    queue: deque[tuple[np.ndarray, list[list[Any]]]] = deque()
    for pixels in batches:
        parts = [network.normalise(part) for part in split_to_devices(pixels, ctxs)]
        queue.append((pixels, [[net(part) for part in parts] for net in nets]))
        if reference or len(queue) > _MAX_QUEUED:
            yield queue.popleft()
    yield from queue


def _split_batches(batches: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    for pixels in batches:
        for start in range(0, len(pixels), size):
            yield pixels[start : start + size]


def _gather(outputs: list[list[Any]]) -> list[np.ndarray]:
    """Wait for each net's parts and concatenate them: (n, ...) per net."""
    return [np.concatenate([part.asnumpy() for part in net]) for net in outputs]


def split_to_devices(array: np.ndarray, ctxs: Sequence[Any]) -> list[Any]:
    """Split an array along its first axis and copy one part to each device.

    With fewer rows than devices, the last devices get none.
    """
    whole = mx.nd.array(array, dtype=array.dtype)
    used = list(ctxs[: len(array)])
    return gluon.utils.split_and_load(whole, used, even_split=False)
