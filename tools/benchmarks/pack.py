"""Packing: PNG files to 320x320 gray JPEG of quality 95 in one file."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

from benchmarks.layout import SIZE, THREADS, files
from benchmarks.timing import Result, timed


def xenon(folder: Path) -> Result:
    """Run xenon-pack, from listing the files to the finished packed folder."""
    from xenon_mx.commands import pack
    from xenon_mx.config import PackConfig

    source, out = folder / "MURA-v1.1", folder / "packed-again"
    config = PackConfig(source, out, threads=THREADS, overwrite=True)
    return timed(len(files(folder)), lambda: pack.pack(config) and None)


def im2rec(folder: Path) -> Result:
    """Run MXNet's im2rec.py, which crops to a square instead of scaling."""
    import runpy

    from xenon_mx.runtime.mxnet import mx

    listed = files(folder)
    lines = [f"{i}\t0\t{f.relative_to(folder)}\n" for i, f in enumerate(listed)]
    (folder / "im2rec.lst").write_text("".join(lines))
    script = Path(mx.__file__).parent / "tools" / "im2rec.py"
    options = f"--resize {SIZE} --center-crop --quality 95 --color 0 --num-thread"
    sys.argv = [str(script), str(folder / "im2rec.lst"), str(folder)]
    sys.argv += [*options.split(), str(THREADS)]

    def work() -> None:
        runpy.run_path(str(script), run_name="__main__")

    return timed(len(listed), work)


def _to_jpeg(file: Path) -> bytes:
    import cv2

    gray = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    square = cv2.resize(gray, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", square, [cv2.IMWRITE_JPEG_QUALITY, 95])[1])


def opencv(folder: Path) -> Result:
    """Run a process pool with OpenCV that writes all results to one file."""
    listed = files(folder)

    def work() -> None:
        with multiprocessing.Pool(THREADS) as pool, open(folder / "all", "wb") as out:
            for data in pool.imap(_to_jpeg, listed, chunksize=8):
                out.write(data)

    return timed(len(listed), work)


def limit(folder: Path) -> Result:
    """Only decode the radiographs, on two threads."""
    from xenon_mx.data import images

    contents = [file.read_bytes() for file in files(folder)]
    return timed(len(contents), lambda: decode_all(images.decode, contents))


def decode_all(decode: Callable[[bytes], Any], contents: list[bytes]) -> None:
    """Decode images on two threads, and keep none."""
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(decode, contents):
            pass
