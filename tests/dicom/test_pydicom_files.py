"""Every DICOM file that pydicom ships, as a radiograph: right, or refused with reason.

Those that pydicom downloads on demand are left out.
"""

from __future__ import annotations

import io
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pydicom
import pytest
from support.dicom_files import PYDICOM_3, unchecked

from xenon_mx.data import images
from xenon_mx.dicom import reader
from xenon_mx.errors import XenonError

DATA = Path(pydicom.__file__).parent / "data"
FILES = sorted(
    str(file.relative_to(DATA))
    for file in DATA.rglob("*")
    if file.is_file() and reader.is_dicom(file.read_bytes())
)
NOT_GRAY = "its PhotometricInterpretation is {PhotometricInterpretation} and its"
FRAMES = "it has {NumberOfFrames} frames"
NO_PIXELS = "it has no pixel data"
DIRECTORY = "a DICOMDIR"
# What is refused, and why: the first pattern counts, and all others must be read. A
# reason that changes has to be looked at.
REFUSED = {
    "charset_files/chrJapMulti*.dcm": NO_PIXELS,
    "charset_files/chrKoreanMulti.dcm": NO_PIXELS,
    "charset_files/chrSQEncoding*.dcm": NOT_GRAY,
    "palettes/*": NOT_GRAY,
    # Twelve bits at most in 16 that are signed, and without a window.
    "test_files/CT_small.dcm": "by the range of its 16 bits without a window",
    "test_files/JPEG2000.dcm": "by the range of its 16 bits without a window",
    # Its 12 bits hold 0 to 264.
    "test_files/JPGExtended.dcm": "by the range of its 12 bits without a window",
    # PixelRepresentation 1 over an unsigned stream; pydicom trusts the stream.
    "test_files/J2K_pixelrep_mismatch.dcm": "declares signed pixels, but its compress",
    # A 12-bit JPEG whose SOS is wrong: "JPGExtended" is its mended copy.
    "test_files/JPEG-lossy.dcm": "its pixels cannot be decoded",
    # The delimiter is written over the width of the image.
    "test_files/JPEG2000-embedded-sequence-delimiter.dcm": "256 x 1024 pixels, but its",
    "test_files/MR_truncated.dcm": "its pixel data are cut short: 8130 of 8192 bytes",
    "test_files/*_2frame.dcm": FRAMES,
    "test_files/examples_ybr_color.dcm": FRAMES,
    "test_files/rtdose*_1frame.dcm": "its BitsStored is {BitsStored}",
    "test_files/rtdose*.dcm": FRAMES,
    "test_files/liver*_1frame.dcm": "its BitsStored is {BitsStored}",
    "test_files/SC_rgb_jpeg.dcm": "its modality is OT",  # pydicom cannot write it
    "test_files/badVR.dcm": "its NumberOfFrames is '1A'; expected a number",
    "test_files/image_dfl.dcm": "the whole DICOM file is deflated",
    # Slices whose bright part is cut off to 16 x 16 pixels: all are above the window.
    "test_files/dicomdirtests/77654033/CT2/171[369]6": "WindowCenter 30 and WindowWid",
    "test_files/dicomdirtests/98892001/CT2N/*": "PixelSpacing is 0.545455\\0.596847",
    "test_files/dicomdirtests/DICOMDIR*": DIRECTORY,
    "test_files/dicomdirtests/TINY_ALPHA/DICOMDIR": DIRECTORY,
    "test_files/dicomdirtests/TINY_ALPHA/PT000000/*": NOT_GRAY,
    **dict.fromkeys(
        (
            f"test_files/{name}.dcm"
            for name in (
                "ExplVR_BigEnd ExplVR_LitEndNoMeta GDCMJ2K_TextGBR SC_* UN_sequence "
                "empty_charset_LEI examples_jpeg2k examples_palette examples_rgb_color "
                "meta_missing_tsyntax *priv_SQ no_meta_group_length reportsi* rtplan* "
                "rtstruct test-SR waveform_ecg"
            ).split()
        ),
        NOT_GRAY,
    ),
}


def rendered(dataset: pydicom.Dataset) -> np.ndarray:
    """Return pydicom's own rendering, scaled to (H, W) float64 from 0 to 255."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    stored = dataset.pixel_array
    low, high = 0, 2**dataset.BitsStored - 1
    if dataset.PixelRepresentation:
        low, high = -(2 ** (dataset.BitsStored - 1)), 2 ** (dataset.BitsStored - 1) - 1
    slope = float(dataset.get("RescaleSlope", 1))
    intercept = float(dataset.get("RescaleIntercept", 0))
    low, high = low * slope + intercept, high * slope + intercept
    if "VOILUTSequence" in dataset:
        low, high = 0, 2 ** dataset.VOILUTSequence[0].LUTDescriptor[2] - 1
    values = apply_voi_lut(apply_modality_lut(stored, dataset), dataset)
    gray = 255 * (values - low) / (high - low)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        gray = 255 - gray
    if "PixelPaddingValue" in dataset:
        gray[stored == dataset.PixelPaddingValue] = 0
    return gray


def as_radiograph(name: str) -> bytes:
    """Return a file with the modality CR, as it is otherwise."""
    dataset = pydicom.dcmread(DATA / name, force=True)
    dataset.Modality = "CR"
    try:
        return unchecked(dataset)
    except (AttributeError, TypeError):  # a value that pydicom reads and cannot write
        return (DATA / name).read_bytes()


@pytest.mark.skipif(not PYDICOM_3, reason="pydicom 2 ships other files")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_pydicom_is_right_or_refused_with_reason(name):
    data = as_radiograph(name)
    dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    reason = next((r for pattern, r in REFUSED.items() if fnmatch(name, pattern)), None)
    if reason is None:
        actual = images.decode(data, "scan").astype(int)
        assert np.abs(actual - rendered(dataset)).max() <= 2
        return
    keywords = ("PhotometricInterpretation", "NumberOfFrames", "BitsStored")
    told = {key: dataset.get(key) or "not given" for key in keywords if key in reason}
    with pytest.raises(XenonError) as caught:
        images.decode(data, "scan")
    assert reason.format(**told) in str(caught.value)


def test_enough_of_the_files_of_pydicom_are_read():
    """So that the table of refusals is no way to pass."""
    read = [f for f in FILES if not any(fnmatch(f, pattern) for pattern in REFUSED)]
    assert len(read) >= 40
    assert {Path(file).parts[0] for file in read} == {"charset_files", "test_files"}
