"""Which DICOM files are accepted as plain radiographs, and why others are not."""

from __future__ import annotations

import io

import pydicom
import pytest
from pydicom import uid
from pydicom._uid_dict import UID_dictionary
from support.dicom_files import noise, refusal, unchecked, written

from xenon_mx.data import images

# "... - For Processing" in pydicom's copy of PS3.6, A, and "... - For Presentation".
CLASSES = {entry[0]: value for value, entry in UID_dictionary.items()}
RAW = sorted(uid for name, uid in CLASSES.items() if name.endswith("For Processing"))
SHOWN = [
    CLASSES[uid.UID(raw).name.replace("Processing", "Presentation")] for raw in RAW
]


@pytest.mark.parametrize("raw", RAW)
def test_every_class_for_processing_is_rejected_as_raw(raw):
    for intent in (None, "", "FOR PROCESSING"):
        data = written(noise(8), SOPClassUID=raw, PresentationIntentType=intent)
        assert "raw image of a detector" in refusal(data)
        assert "export the one for presentation" in refusal(data)


@pytest.mark.parametrize(("raw", "shown"), list(zip(RAW, SHOWN)))
def test_a_class_that_contradicts_the_intent_is_rejected(raw, shown):
    for value, intent in ((raw, "FOR PRESENTATION"), (shown, "FOR PROCESSING")):
        data = written(noise(8), SOPClassUID=value, PresentationIntentType=intent)
        assert f"PresentationIntentType {intent}" in refusal(data)
        assert f"SOP class {value}" in refusal(data)
    for intent in (None, "FOR PRESENTATION"):
        data = written(noise(8), SOPClassUID=shown, PresentationIntentType=intent)
        assert images.decode(data).shape == (6, 9)


def test_the_class_of_the_meta_header_counts_as_well():
    dataset = pydicom.dcmread(io.BytesIO(written(noise(8), SOPClassUID=SHOWN[0])))
    dataset.file_meta.MediaStorageSOPClassUID = RAW[0]
    assert f"{RAW[0]}, which is for processing" in refusal(unchecked(dataset))
    del dataset.SOPClassUID
    assert "export the one for presentation" in refusal(unchecked(dataset))
