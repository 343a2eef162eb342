"""Which DICOM data sets are plain radiographs, by what their headers say.

Owns the rules of acceptance that need no pixels: modality, presentation intent, frames,
photometric interpretation and the shape of a pixel. A fact that a header tells in two
places is compared. Must not know files, pixels or gray values.
"""

from __future__ import annotations

from xenon_mx.dicom.headers import Header
from xenon_mx.errors import XenonError

# Plain projection radiographs, by the defined terms of Modality (0008,0060) in PS3.3,
# C.7.3.1.1.1: computed radiography, digital radiography, and scanned film.
# Excluded: MG (mammography), XA and RF (fluoroscopy), XC (photographs), OT (other).
MODALITIES = ("CR", "DX", "RG")

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
            f"its modality is {modality or 'not given'}; expected a plain radiograph "
            f"({', '.join(MODALITIES)})"
        )
    _check_intent(header)
    frames = header.integer("NumberOfFrames", absent=1)
    if frames != 1:
        raise XenonError(f"it has {frames} frames; expected a single image")
    photometric = header.text("PhotometricInterpretation")
    samples = header.integer("SamplesPerPixel", absent=1)
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or samples != 1:
        raise XenonError(
            f"its PhotometricInterpretation is {photometric or 'not given'} and its "
            f"SamplesPerPixel {samples}; expected gray (MONOCHROME1 or MONOCHROME2)"
        )
    ratio = list(header.numbers("PixelAspectRatio"))
    if ratio and not (len(ratio) == 2 and ratio[0] == ratio[1] > 0):
        raise XenonError(
            f"its PixelAspectRatio is {':'.join(f'{side:g}' for side in ratio)}; "
            f"expected square pixels (1:1): resample it to such"
        )


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
