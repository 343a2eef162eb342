"""Import of OpenCV, with its limits set and errors that state a remedy.

    from xenon_mx.runtime.opencv import cv2

Owns the import of `cv2`, whose wheel needs two system libraries; must not know images.
"""

from __future__ import annotations

import os

from xenon_mx.errors import XenonError
from xenon_mx.runtime import memory

# Problems of a file are reported as XenonError; OpenCV would log them as well.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

# A few bytes can declare any number of pixels. Chosen here: several times the largest
# radiographs (4,300 x 3,500), and at most half a gigabyte during decoding. OpenCV reads
# this once: if cv2 was imported before, OpenCV's own limit, 16 times as high, remains.
MOST_PIXELS = int(os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 26)))

try:
    import cv2
except ModuleNotFoundError as error:
    raise XenonError(
        "OpenCV is not installed: pip install 'opencv-python<4.10'"
    ) from error
except ImportError as error:
    if memory.is_out_of_memory(error):
        raise XenonError(memory.out_of_memory_message()) from error
    raise XenonError(
        f"OpenCV cannot be loaded: {error}: apt-get install libgl1 libglib2.0-0"
    ) from error

__all__ = ["MOST_PIXELS", "cv2"]
