"""Seeded DICOM radiographs of every kind, with what they show.

As `image_kinds`: each crosses at random what a radiograph can vary, and has one
speciality at most. What it shows is computed here from PS3.3, C.11, in floating point.
"""

from __future__ import annotations

import io
import random
import re
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, NamedTuple

import imagecodecs
import numpy as np
import pydicom
from pydicom import uid
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from support import dicom_files
from support import image_files as files
from support.image_kinds import Sample, damaged, film

Elements = Dict[str, Any]

_PLAIN = {
    uid.ImplicitVRLittleEndian: "uncompressed",
    uid.ExplicitVRLittleEndian: "uncompressed",
    uid.ExplicitVRBigEndian: "uncompressed",
}
_JPEG, _LOSSLESS = uid.JPEGBaseline8Bit, uid.JPEGLosslessSV1
_JPEG_LS, _JPEG_2000, _RLE = uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.RLELossless
_COMPRESSED = {
    _RLE: "RLE",
    _JPEG: "JPEG",
    _LOSSLESS: "JPEG Lossless",
    _JPEG_LS: "JPEG-LS",
    _JPEG_2000: "JPEG 2000",
}


class Film(NamedTuple):
    """Stored values, their bits, and the elements that say what they mean."""

    stored: np.ndarray
    bits: int
    elements: Elements


def dicoms(rng: random.Random, number: int) -> Iterator[Sample]:
    """Yield DICOM radiographs; every other one has a speciality."""
    specials = list(_SPECIALS)
    for index in range(number):
        special = specials[index // 2 % len(specials)] if index % 2 else ""
        syntax = rng.choice([*_PLAIN, *_PLAIN, *_COMPRESSED])
        made = _film(rng, syntax)
        if special:
            yield _SPECIALS[special](rng, made)
            continue
        data = _written(made, syntax)
        name = _PLAIN.get(syntax) or _COMPRESSED[syntax]
        kind = f"{name}, {made.bits} bits"
        yield Sample("DICOM", kind, data, shown(made))


def _film(rng: random.Random, syntax: str) -> Film:
    """Return a film with all that may differ without being special."""
    bits = 8 if syntax == _JPEG else rng.choice([8, 10, 12, 12, 14, 16])
    is_signed = syntax in (*_PLAIN, _RLE) and rng.random() < 0.3
    values = files.samples(film(rng), bits)[..., 0].astype(np.int64)
    if is_signed:
        values -= 1 << (bits - 1)
    dtype = f"{'i' if is_signed else 'u'}{1 if bits == 8 else 2}"
    elements: Elements = {
        "PhotometricInterpretation": rng.choice(["MONOCHROME1", "MONOCHROME2"])
    }
    if rng.random() < 0.2 and syntax != _JPEG:  # which changes the values
        padding = int(values[0, 0])
        elements["PixelPaddingValue"] = padding
    limits = float(values.min()), float(values.max())
    what = rng.choice(["nothing", "rescale", "rescale", "modality table"])
    if what == "rescale":
        slope = rng.choice([0.5, 1, 1, 2, 2.7])
        intercept = rng.choice([-1024, 0, 0, 100])
        elements.update(RescaleSlope=slope, RescaleIntercept=intercept)
        limits = limits[0] * slope + intercept, limits[1] * slope + intercept
    elif what == "modality table" and bits <= 12 and not is_signed:
        entries = _entries(rng, 1 << bits, 12)
        elements["ModalityLUTSequence"] = [dicom_files.table(0, entries, 12)]
        limits = 0.0, 4095.0
    elements.update(_voi(rng, limits))
    return Film(values.astype(dtype), bits, elements)


def _entries(rng: random.Random, count: int, bits: int) -> list[int]:
    """Return a rising table of entries that use all of their bits."""
    curve = np.linspace(0, 1, count) ** rng.choice([0.7, 1, 1.4])
    return [int(value) for value in np.rint(curve * ((1 << bits) - 1))]


def _voi(rng: random.Random, limits: tuple[float, float]) -> Elements:
    """Return a window, a table of values of interest, or nothing."""
    low, high = limits
    what = rng.choice(["window", "window", "table", "nothing"])
    if what == "window":
        # DS holds 16 characters.
        center = round(low + rng.uniform(0.35, 0.65) * (high - low), 2)
        width = round(max(2.0, rng.uniform(0.4, 1.6) * (high - low)), 2)
        function = rng.choice([None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
        return {
            "WindowCenter": center,
            "WindowWidth": width,
            "VOILUTFunction": function,
        }
    # An element of explicit VR holds fewer than 32,768 entries.
    if what == "table" and low >= 0 and high < 65536 and high - low < 30_000:
        bits = rng.choice([8, 10, 12, 16])
        count = int(high - low) + 1
        entries = _entries(rng, count, bits)
        return {"VOILUTSequence": [dicom_files.table(int(low), entries, bits)]}
    return {}


def _written(made: Film, syntax: str, **changes: Any) -> bytes:
    stream = _encode(made, syntax) if syntax in _COMPRESSED and syntax != _RLE else None
    elements = {**made.elements, **changes}
    return dicom_files.written(made.stored, made.bits, syntax, stream, **elements)


def _encode(made: Film, syntax: str) -> bytes:
    pixels, bits = np.ascontiguousarray(made.stored), made.bits
    if syntax == _JPEG:
        return bytes(imagecodecs.jpeg8_encode(pixels, level=100))
    if syntax == _LOSSLESS:
        return dicom_files.jpeg_lossless(pixels, bits)
    if syntax == _JPEG_LS:
        return bytes(imagecodecs.jpegls_encode(pixels))
    return bytes(
        imagecodecs.jpeg2k_encode(
            pixels, codecformat="j2k", reversible=True, bitspersample=bits
        )
    )


# --- what a film shows ---


def shown(made: Film) -> np.ndarray:
    """Return the gray of a film by PS3.3, C.11: (H, W) float from 0 to 255."""
    elements, values = made.elements, made.stored.astype(float)
    is_signed = made.stored.dtype.kind == "i"
    low = -float(1 << (made.bits - 1)) if is_signed else 0.0
    limits = np.array([low, low + (1 << made.bits) - 1])
    if "ModalityLUTSequence" in elements:
        values = np.array(elements["ModalityLUTSequence"][0].LUTData)[made.stored]
        limits = np.array([0.0, 4095.0])
    elif "RescaleSlope" in elements:
        slope, intercept = elements["RescaleSlope"], elements["RescaleIntercept"]
        values, limits = values * slope + intercept, limits * slope + intercept
    gray = 255 * np.clip(_intensity(values, limits, elements), 0, 1)
    if elements["PhotometricInterpretation"] == "MONOCHROME1":
        gray = 255 - gray
    if "PixelPaddingValue" in elements:
        gray[made.stored == elements["PixelPaddingValue"]] = 0
    return gray


def _intensity(
    values: np.ndarray, limits: np.ndarray, elements: Elements
) -> np.ndarray:
    """Apply the window or the table, or else the whole range: 0 black, 1 white."""
    if "VOILUTSequence" in elements:
        item = elements["VOILUTSequence"][0]
        _, first, bits = item.LUTDescriptor
        entries = np.array(item.LUTData)
        index = np.rint(values - first).clip(0, len(entries) - 1).astype(int)
        return entries[index] / ((1 << bits) - 1)
    if "WindowCenter" not in elements:
        return (values - limits[0]) / (limits[1] - limits[0])
    center, width = elements["WindowCenter"], elements["WindowWidth"]
    function = elements["VOILUTFunction"] or "LINEAR"
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - center) / width))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    return (values - center) / width + 0.5


def by_pydicom(data: bytes) -> np.ndarray:
    """Return what pydicom's own functions show: (H, W) float from 0 to 255.

    Raises:
        TypeError: It has a lookup table of other than 16 bits, which they lack.
    """
    dataset = pydicom.dcmread(io.BytesIO(data))
    for table in ("ModalityLUTSequence", "VOILUTSequence"):
        if table in dataset and dataset[table][0].LUTDescriptor[2] != 16:
            raise TypeError(table)
    stored = dataset.pixel_array
    values = apply_modality_lut(stored, dataset)
    values = apply_voi_lut(values, dataset, prefer_lut=True).astype(float)
    if "VOILUTSequence" in dataset:
        low, high = 0, (1 << dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1
    else:
        low, high = _range_by_pydicom(dataset)
    gray = 255 * np.clip((values - low) / (high - low), 0, 1)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        gray = 255 - gray
    if "PixelPaddingValue" in dataset:
        gray[stored == dataset.PixelPaddingValue] = 0
    return gray


def _range_by_pydicom(dataset: Any) -> tuple[float, float]:
    """Return the lowest and highest value that apply_voi_lut scales a window to."""
    if "ModalityLUTSequence" in dataset:
        return 0, (1 << dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    bits = dataset.BitsStored
    low = -(1 << (bits - 1)) if dataset.PixelRepresentation else 0
    ends = np.array([low, low + (1 << bits) - 1], float)
    if "RescaleSlope" in dataset:
        ends = ends * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    return float(ends[0]), float(ends[1])


def by_dcmtk(data: bytes, made: Film, folder: Path) -> np.ndarray:
    """Return what dcmtk's dcm2pnm shows: (H, W) float from 0 to 255.

    Raises:
        subprocess.CalledProcessError: It does not read the file.
    """
    source, target = folder / "film.dcm", folder / "film.pgm"
    source.write_bytes(data)
    options = ["+Wi", "1"] if "WindowCenter" in made.elements else ["+Wn"]
    if "VOILUTSequence" in made.elements:
        options = ["+Wl", "1"]
    command = ["dcm2pnm", "+op", *options, str(source), str(target)]
    subprocess.run(command, check=True, capture_output=True)
    pgm = target.read_bytes()
    head = re.match(rb"P5\s+(?:#.*\s+)*(\d+)\s+(\d+)\s+(\d+)\s", pgm)
    assert head
    columns, rows = int(head[1]), int(head[2])
    pixels = np.frombuffer(pgm, np.uint8, rows * columns, head.end())
    return pixels.reshape(rows, columns).astype(float)


def usual(rng: random.Random, number: int) -> Iterator[tuple[Film, bytes]]:
    """Yield films without speciality and their files, uncompressed or RLE."""
    for _ in range(number):
        syntax = rng.choice([*_PLAIN, _RLE])
        made = _film(rng, syntax)
        yield made, _written(made, syntax)


# --- specialities ---

Special = Callable[[random.Random, Film], Sample]


def _changed(kind: str, **changes: Any) -> Special:
    """Return a maker of films with other elements, of which nothing is certain."""

    def make(rng: random.Random, made: Film) -> Sample:
        plain = made._replace(elements={"PhotometricInterpretation": "MONOCHROME2"})
        data = _written(plain, rng.choice(list(_PLAIN)), **changes)
        return Sample("DICOM", kind, data, None)

    return make


def _certain(kind: str, **changes: Any) -> Special:
    """Return a maker of films with other elements that change nothing."""

    def make(rng: random.Random, made: Film) -> Sample:
        syntax = rng.choice(list(_PLAIN))
        return Sample("DICOM", kind, _written(made, syntax, **changes), shown(made))

    return make


def _windowed(kind: str, center: float, width: float) -> Special:
    """Return a maker of films with a window only."""

    def make(rng: random.Random, made: Film) -> Sample:
        plain = {"PhotometricInterpretation": "MONOCHROME2"}
        plain.update(WindowCenter=center, WindowWidth=width)
        film_ = made._replace(elements=plain)
        data = _written(film_, rng.choice(list(_PLAIN)))
        return Sample("DICOM", kind, data, None)

    return make


def _damaged(kind: str) -> Special:
    """Return a maker of films with damaged pixels, as far as pydicom decodes them."""

    def make(rng: random.Random, _: Film) -> Sample:
        syntax = rng.choice([*_PLAIN, *_COMPRESSED])
        made = _film(rng, syntax)
        data = _written(made, syntax)
        data = damaged(data, kind, rng, len(data) - len(data) // 3)
        try:
            stored = pydicom.dcmread(io.BytesIO(data)).pixel_array
            seen = shown(made._replace(stored=stored))
        except Exception:  # of many types
            seen = None
        return Sample("DICOM", kind, data, seen)

    return make


def _stream_2000(kind: str, bits: int, signed: bool, certain: bool) -> Special:
    """Return a maker of JPEG 2000 films with 16 stored bits and another stream."""

    def make(rng: random.Random, made: Film) -> Sample:
        stored = files.samples(film(rng), bits)[..., 0].astype(np.uint16)
        window = {"WindowCenter": 2048, "WindowWidth": 4096, "VOILUTFunction": None}
        elements = {"PhotometricInterpretation": "MONOCHROME2", **window}
        pixels = stored.astype(np.int16) - (1 << (bits - 1)) if signed else stored
        stream = imagecodecs.jpeg2k_encode(
            pixels, codecformat="j2k", reversible=True, bitspersample=bits
        )
        other = Film(stored, 16, elements)
        data = dicom_files.written(stored, 16, _JPEG_2000, bytes(stream), **elements)
        return Sample("DICOM", kind, data, shown(other) if certain else None)

    return make


def _table_of_bits(kind: str, declared: int, used: int) -> Special:
    """Return a maker of films whose VOI table has entries of other bits."""

    def make(rng: random.Random, made: Film) -> Sample:
        stored = files.samples(film(rng), 12)[..., 0]
        entries = _entries(rng, 4096, used)
        plain = {"PhotometricInterpretation": "MONOCHROME2"}
        right = {"VOILUTSequence": [dicom_files.table(0, entries, used)], **plain}
        wrong = {"VOILUTSequence": [dicom_files.table(0, entries, declared)], **plain}
        data = _written(Film(stored, 12, wrong), rng.choice(list(_PLAIN)))
        return Sample("DICOM", kind, data, shown(Film(stored, 12, right)))

    return make


_FOR_PROCESSING = uid.DigitalXRayImageStorageForProcessing
_SPECIALS: dict[str, Special] = {
    "other modality": _changed("other modality", Modality="MG"),
    "no modality": _changed("no modality", Modality=None),
    "raw, by intent": _changed(
        "raw, by intent", PresentationIntentType="FOR PROCESSING"
    ),
    "raw, by class": _changed("raw, by class", SOPClassUID=_FOR_PROCESSING),
    "for presentation": _certain(
        "for presentation", PresentationIntentType="FOR PRESENTATION"
    ),
    "several frames": _changed("several frames", NumberOfFrames=2),
    "one frame": _certain("one frame", NumberOfFrames=1),
    "frames not counted (0)": _certain("frames not counted (0)", NumberOfFrames=0),
    "colours": _changed("colours", PhotometricInterpretation="RGB", SamplesPerPixel=3),
    "palette": _changed("palette", PhotometricInterpretation="PALETTE COLOR"),
    "pixels not square": _changed("pixels not square", PixelSpacing=[0.1, 0.2]),
    "detector not square": _changed(
        "pixels not square", ImagerPixelSpacing=[0.15, 0.1]
    ),
    "scan not square": _changed(
        "pixels not square", NominalScannedPixelSpacing=[0.1, 0.11]
    ),
    "aspect ratio": _changed("pixels not square", PixelAspectRatio=["2", "1"]),
    "square pixels": _certain("square pixels", PixelSpacing=[0.143, 0.143]),
    "aspect ratio of one value": _certain(
        "aspect ratio of one value", PixelAspectRatio="1"
    ),
    "rescale overflow": _changed(
        "numbers too large", RescaleSlope="1e308", RescaleIntercept="1e308"
    ),
    "rescale beyond": _changed(
        "numbers too large", RescaleSlope="1", RescaleIntercept="1e300"
    ),
    "window beyond": _windowed("numbers too large", 1e308, 4096),
    "window above the pixels": _windowed("window beyond the pixels", -90000, 100),
    "window below the pixels": _windowed("window beyond the pixels", 90000, 100),
    "no slope": _changed("slope of 0", RescaleSlope="0", RescaleIntercept="0"),
    "half a window": _changed("half a window", WindowCenter=100),
    "unknown function": _changed(
        "unknown window function",
        WindowCenter=100,
        WindowWidth=90,
        VOILUTFunction="LOG",
    ),
    "entries over their bits": _table_of_bits("entries over their bits", 8, 12),
    "entries under their bits": _table_of_bits("entries under their bits", 16, 12),
    "JPEG 2000 of fewer bits": _stream_2000(
        "JPEG 2000 of fewer bits", 12, signed=False, certain=True
    ),
    "JPEG 2000 of another sign": _stream_2000(
        "JPEG 2000 of another sign", 12, signed=True, certain=False
    ),
    "contradictory shape": _changed(
        "contradictory presentation shape",
        PresentationLUTShape="INVERSE",
    ),
    "high bit": _changed("other bits than the lowest", HighBit=3),
    "no pixels": _changed("no pixels", PixelData=None),
    "no rows": _changed("no size", Rows=0),
    "cut short": _damaged("cut short"),
    "changed bytes": _damaged("changed bytes"),
    "changed bit": _damaged("a changed bit"),
}
