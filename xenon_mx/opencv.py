"""The only door to OpenCV, whose wheel needs two libraries of the system.

from xenon_mx.opencv import cv2
"""

from __future__ import annotations

import os

from xenon_mx.errors import XenonError

# What is wrong with a file is ours to say; OpenCV would write its own lines between.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

try:
    import cv2
except ModuleNotFoundError as error:
    raise XenonError(
        "OpenCV is not installed: pip install 'opencv-python<4.12'"
    ) from error
except ImportError as error:
    raise XenonError(
        f"OpenCV cannot be loaded: {error}: apt-get install libgl1 libglib2.0-0"
    ) from error

__all__ = ["cv2"]
