"""The only door to OpenCV, whose wheel needs two libraries of the system.

from xenon_mx.runtime.opencv import cv2
"""

from __future__ import annotations

import os

from xenon_mx.errors import XenonError
from xenon_mx.runtime import memory

# What is wrong with a file is ours to say; OpenCV would write its own lines between.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

# A few bytes can claim any number of pixels. Chosen here: several times the largest
# radiographs (4,300 x 3,500), and half a gigabyte at most while it is decoded. OpenCV
# reads this once: who has imported cv2 before keeps its own limit, 16 times as high.
MOST_PIXELS = int(os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 26)))

try:
    import cv2
except ModuleNotFoundError as error:
    raise XenonError(
        "OpenCV is not installed: pip install 'opencv-python<4.12'"
    ) from error
except ImportError as error:
    if memory.is_lacking(error):
        raise XenonError(memory.out_of_memory_message()) from error
    raise XenonError(
        f"OpenCV cannot be loaded: {error}: apt-get install libgl1 libglib2.0-0"
    ) from error

__all__ = ["MOST_PIXELS", "cv2"]
