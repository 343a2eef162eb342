"""Which DICOM data sets are plain radiographs, by what their headers say.

Owns the rules of acceptance that need no pixels: modality, presentation intent, frames,
photometric interpretation and the shape of a pixel; and what other files are called. A
fact that a header tells in two places is compared. Must not know files, pixels or gray
values.
"""

from __future__ import annotations

from itertools import islice

from xenon_mx.dicom.headers import Header, quoted
from xenon_mx.errors import XenonError

# Plain projection radiographs, by the defined terms of Modality (0008,0060) in PS3.3,
# C.7.3.1.1.1: computed radiography, digital radiography, and scanned film.
# Excluded: MG (mammography), XA and RF (fluoroscopy), XC (photographs), OT (other).
MODALITIES = ("CR", "DX", "RG")

# The other defined terms there, retired ones included.
_OTHER_MODALITIES = frozenset(
    "ANN AR AS ASMT AU BDUS BI BMD CD CF CFM CP CS CT CTPROTOCOL DD DF DG DM DMS "
    "DOC DS EC ECG EEG EMG EOG EPS ES FA FID FS GM HC HD IO IOL IVOCT IVUS KER KO "
    "LEN LP LS M3D MA MG MR MS NM OAM OCT OP OPM OPR OPT OPTBSV OPTENF OPV OSS OT "
    "PA PLAN POS PR PT PX REG RESP RF RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD "
    "RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR SRF ST STAIN TEXTUREMAP TG US "
    "VA VF XA XAPROTOCOL XC".split()
)
# What files without an image are called, by their modality, and by the start of their
# SOP class (PS3.6, A): some writers give them the films' modality.
_WORDS = {
    "AU": "audio",
    "DOC": "document",
    "ECG": "electrocardiogram",
    "KO": "key objects",
    "PR": "presentation state",
    "REG": "registration",
    "RTPLAN": "treatment plan",
    "RTSTRUCT": "structure set",
    "SEG": "segmentation",
    "SR": "structured report",
}
_WITHOUT_IMAGE = {
    "1.2.840.10008.1.3.10": "DICOMDIR",
    "1.2.840.10008.5.1.4.1.1.9.": "DICOM waveform",
    "1.2.840.10008.5.1.4.1.1.11.": "DICOM PR (presentation state)",
    "1.2.840.10008.5.1.4.1.1.66": "DICOM raw data",
    "1.2.840.10008.5.1.4.1.1.88.59": "DICOM KO (key objects)",
    "1.2.840.10008.5.1.4.1.1.88.": "DICOM SR (structured report)",
    "1.2.840.10008.5.1.4.1.1.104.": "DICOM DOC (document)",
}

# SOP classes "... - For Processing" and the same images' "... - For Presentation"
# (PS3.6, A): of digital X-ray, mammography, intra-oral X-ray, breast projection,
# optical coherence tomography and security (DICOS).
_X_RAY = "1.2.840.10008.5.1.4.1.1."
_FOR_PROCESSING = frozenset(
    _X_RAY + root for root in ("1.1.1", "1.2.1", "1.3.1", "13.1.5", "14.2", "501.2.2")
)
_FOR_PRESENTATION = frozenset(
    _X_RAY + root for root in ("1.1", "1.2", "1.3", "13.1.4", "14.1", "501.2.1")
)

# The shape of a pixel (PS3.3, C.7.6.3.1.1, and 10.7.1.3): vertical and horizontal.
_SPACINGS = (
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "PixelAspectRatio",
)
# Relative difference of the sides. Chosen here: real spacings are rounded, each by
# itself (0.143 and 0.144 mm differ by 0.7 %), and 1 % is 3 px of the 320 that the nets
# see, much less than what the projection enlarges one part of a limb over another.
_TOLERANCE = 0.01


def check(header: Header) -> None:
    """Check that a data set is a single plain gray radiograph for presentation.

    Raises:
        XenonError: It is not, or its header contradicts itself about it.
    """
    if "DirectoryRecordSequence" in header:
        raise XenonError("a DICOMDIR, which lists images and contains none")
    modality = header.text("Modality")
    if modality not in MODALITIES:
        raise XenonError(
            f"its modality is {_given(modality)}; expected a plain radiograph "
            f"({', '.join(MODALITIES)})"
        )
    _check_intent(header)
    frames = header.integer("NumberOfFrames", absent=1)
    if frames not in (0, 1):  # 0 is a placeholder of some writers
        raise XenonError(f"it has {frames} frames; expected a single image")
    photometric = header.text("PhotometricInterpretation")
    samples = header.integer("SamplesPerPixel", absent=1)
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or samples != 1:
        raise XenonError(
            f"its PhotometricInterpretation is {_given(photometric)} and its "
            f"SamplesPerPixel {samples}; expected gray (MONOCHROME1 or MONOCHROME2)"
        )
    header.integer("SamplesPerPixel")  # without it, decoders report damage
    _check_square(header)


def other_kind(header: Header) -> str | None:
    """Return what a data set is if it is no plain radiograph, None otherwise.

    A modality that the standard does not know may be a damaged one of a radiograph.
    """
    for uid in (header.media_class, header.text("SOPClassUID")):
        for start, kind in _WITHOUT_IMAGE.items():
            is_of_class = uid.startswith(start) if start[-1] == "." else uid == start
            if is_of_class and "Rows" not in header:
                return kind
    modality = header.text("Modality")
    if modality not in _OTHER_MODALITIES:
        return None
    word = _WORDS.get(modality)
    return f"DICOM {modality} ({word})" if word else f"DICOM {modality}"


def _given(text: str) -> str:
    return quoted(text) if text else "not given"


def _check_intent(header: Header) -> None:
    """Reject the raw image of a detector, by its intent and its SOP classes."""
    intent = header.text("PresentationIntentType").upper()
    raw, presented = [], []
    if intent == "FOR PROCESSING":
        raw.append(f"PresentationIntentType {intent}")
    elif intent == "FOR PRESENTATION":
        presented.append(f"PresentationIntentType {intent}")
    for uid in (header.text("SOPClassUID"), header.media_class):
        if uid in _FOR_PROCESSING:
            raw.append(f"SOP class {uid}, which is for processing")
        elif uid in _FOR_PRESENTATION:
            presented.append(f"SOP class {uid}, which is for presentation")
    if raw and presented:
        raise XenonError(
            f"its header declares {raw[0]}, and {presented[0]}: it is ambiguous "
            f"whether it is the raw image of a detector"
        )
    if raw:
        raise XenonError(
            "the raw image of a detector (FOR PROCESSING): export the one for "
            "presentation"
        )


def _check_square(header: Header) -> None:
    """Check that pixels are square, by every element that tells their shape."""
    ratios = {}
    for keyword in _SPACINGS:
        ratio = _height_by_width(header, keyword)
        if ratio is not None:
            ratios[keyword] = ratio
    oblong = [keyword for keyword in ratios if not _is_near(ratios[keyword], 1)]
    if not oblong:
        return
    first = oblong[0]
    for keyword, ratio in ratios.items():
        if not _is_near(ratio, ratios[first]):
            raise XenonError(
                f"its {first} is {_listed(header, first)}, but its {keyword} "
                f"{_listed(header, keyword)}: it is ambiguous whether its pixels are "
                f"square"
            )
    raise XenonError(
        f"its {first} is {_listed(header, first)}; expected square pixels: resample "
        f"it to such"
    )


def _height_by_width(header: Header, keyword: str) -> float | None:
    """Return the height of a pixel divided by its width, None if an element is mute.

    Zeros are placeholders: dcmtk takes 1 for each (DiImage::checkPixelExtension). Of a
    ratio, one value n means n:1, as in dcmtk; of a spacing, viewers differ about it.
    """
    sides = list(header.numbers(keyword))
    if not any(sides):
        return None
    if keyword == "PixelAspectRatio" and len(sides) == 1:
        sides.append(1)
    if len(sides) != 2 or min(sides) <= 0:
        raise XenonError(
            f"its {keyword} is {_listed(header, keyword)}; expected two positive "
            f"numbers"
        )
    return sides[0] / sides[1]


def _is_near(one: float, other: float) -> bool:
    # The least margin is for 101:100, whose quotient is not exactly 1.01.
    return max(one, other) <= min(one, other) * (1 + _TOLERANCE + 1e-9)


def _listed(header: Header, keyword: str) -> str:
    """Return the first numbers as DICOM writes them."""
    return "\\".join(f"{side:g}" for side in islice(header.numbers(keyword), 4))
