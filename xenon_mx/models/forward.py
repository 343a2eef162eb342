"""Images through nets: the forward pass that validation, prediction and maps share.

Owns how pixels reach the devices and how their work overlaps. Knows no files.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Iterable, Iterator, Sequence

import numpy as np

from xenon_mx.models import cam, network
from xenon_mx.runtime.mxnet import gluon, mx

# Chosen here, by measuring DenseNet169 at 320 px: the maps of two images stay near the
# core that works on them, those of more do not.
_AT_ONCE = 2
# Batches that MXNet may have before the first of them is waited for: when one net has
# ended its share of a batch, its core goes on with the next.
_AHEAD = 2


def logits(
    nets: Sequence[Any],
    batches: Iterable[np.ndarray],
    ctxs: Sequence[Any],
    reference: bool = False,
) -> np.ndarray:
    """Run images through nets.

    Args:
        nets: M nets, each on every one of `ctxs`.
        batches: (n, S, S) uint8 each, N images altogether.
        ctxs: Devices that share every batch.
        reference: Wait for each batch before the next one is begun.

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
) -> Iterator[cam.CamBatch]:
    """Run images through nets, and give the maps that their logits are the means of.

    Args:
        nets: As for `logits`, all `models.Net`.
        batches: As for `logits`.
        ctxs: As for `logits`.
        reference: As for `logits`.

    Yields:
        The images in order, some at a time: all of them need no memory together.
    """
    doors = [network.cam_block(net, reference) for net in nets]
    for pixels, outputs in _run(doors, batches, ctxs, reference):
        heads = _gather([[logit for logit, _ in parts] for parts in outputs])
        members = _gather([[each for _, each in parts] for parts in outputs])
        mean = cam.average_cams([each[:, 0] for each in members])
        yield cam.CamBatch(pixels, np.concatenate(heads, axis=1), mean)


def _run(
    nets: Sequence[Any],
    batches: Iterable[np.ndarray],
    ctxs: Sequence[Any],
    reference: bool,
) -> Iterator[tuple[np.ndarray, list[list[Any]]]]:
    """Yield pixels and, for each net, what it gives on each device.

    Some of the passes after it may be under way already.
    """
    if len(nets) > 1 and ctxs[0].device_type == "cpu" and not reference:
        batches = _split_batches(batches, _AT_ONCE * len(ctxs))
    running: deque[tuple[np.ndarray, list[list[Any]]]] = deque()
    for pixels in batches:
        parts = [network.normalise(part) for part in split_to_devices(pixels, ctxs)]
        running.append((pixels, [[net(part) for part in parts] for net in nets]))
        if reference or len(running) > _AHEAD:
            yield running.popleft()
    yield from running


def _split_batches(batches: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    for pixels in batches:
        for start in range(0, len(pixels), size):
            yield pixels[start : start + size]


def _gather(outputs: list[list[Any]]) -> list[np.ndarray]:
    """Wait for the parts of each net, and join them: (n, ...) each."""
    return [np.concatenate([part.asnumpy() for part in net]) for net in outputs]


def split_to_devices(array: np.ndarray, ctxs: Sequence[Any]) -> list[Any]:
    """Cut an array along its first axis into a part for each device, and send them.

    Fewer rows than devices leave the last devices idle.
    """
    sent = mx.nd.array(array, dtype=array.dtype)
    used = list(ctxs[: len(array)])
    return gluon.utils.split_and_load(sent, used, even_split=False)
