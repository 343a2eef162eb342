"""Check that xenon can import the MXNet and the GluonCV of an image, for install.sh.

An MXNet with CUDA needs NVIDIA's driver, which only a running container has: that it is
missing is no error here.
"""

from __future__ import annotations

import sys

from xenon_mx.errors import XenonError
from xenon_mx.runtime import mxnet, mxnet_build
from xenon_mx.runtime.opencv import cv2  # noqa: F401 - is loaded

_DRIVER = "NVIDIA's driver"


def main() -> None:
    """Import them, or exit with the reason why not."""
    try:
        found = mxnet.model_zoo.__name__
    except XenonError as error:
        if _DRIVER not in str(error):
            sys.exit(f"error: {error}")
        found = "not imported, because there is no driver"
    build = mxnet_build.installed()
    version = mxnet_build.gluoncv_version()
    sys.stdout.write(f"{build}, gluoncv {version} ({found})\n")


if __name__ == "__main__":
    main()
