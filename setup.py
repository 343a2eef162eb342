"""Install xenon: `pip install '.[cpu]'`, or `'.[gpu]'` beside an NVIDIA GPU.

Beside an MXNet that is there already, `pip install .`; and `'.[zoo]'` if there is no
GluonCV.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# Where the nets come from; 0.7 has the same.
ZOO = ["gluoncv==0.10.5.post0"]

MXNET = [
    *ZOO,
    # MXNet imports distutils, which Python 3.12 no longer has; setuptools provides it.
    "setuptools<80; python_version>='3.12'",
]

# What the CUDA wheel of MXNet needs and does not contain, except for NVIDIA's driver.
CUDA = [
    "nvidia-cuda-runtime-cu11==11.8.89",
    "nvidia-cuda-nvrtc-cu11==11.8.89",
    "nvidia-cublas-cu11==11.11.3.6",
    "nvidia-cufft-cu11==10.9.0.58",
    "nvidia-curand-cu11==10.3.0.86",
    "nvidia-cusparse-cu11==11.7.5.86",
    "nvidia-cusolver-cu11==11.4.1.48",
    "nvidia-nccl-cu11==2.21.5",
    "nvidia-nvtx-cu11==11.8.86",
    "nvidia-cudnn-cu11==8.9.6.50",
]

# Decoders under licences as permissive as xenon's own, for all but 12-bit JPEG. The
# last versions for Python 3.8 and 3.9 are named, so that pip builds no newer sources.
DICOM = [
    "pydicom>=2.4,<3; python_version<'3.10'",
    "pydicom>=2.4; python_version>='3.10'",
    "pylibjpeg>=2.0,<2.1; python_version<'3.10'",
    "pylibjpeg>=2.0; python_version>='3.10'",
    "pylibjpeg-openjpeg>=2.0",
    "python-gdcm>=3.0.10,<3.0.26; python_version<'3.10'",
    "python-gdcm>=3.0.10; python_version>='3.10'",
    "pillow>=8",
]

# 1.18 is the first version with an option to keep float32's precision on a GPU.
ONNX_RUNTIME = ["onnxruntime>=1.18"]
# 2024.4 is the last version for Python 3.8.
OPENVINO = ["openvino>=2024.4"]
# 1.17 is past CVE-2024-5187, -27318 and -27319; 1.21, for which Python 3.8 and 3.9 are
# too old, past CVE-2026-27489, -28500, -34446 and -34447. All are about reading and
# downloading models; xenon only writes them with onnx.
EXPORT = [
    *ONNX_RUNTIME,
    "onnx>=1.17; python_version<'3.10'",
    "onnx>=1.21; python_version>='3.10'",
]

TORCH = ["torch>=1.13"]

# 3.5 and 3.0 are the oldest versions that have all that xenon-report uses.
REPORT = ["matplotlib>=3.5", "jinja2>=3.0"]

setup(
    name="xenon-mx",
    version=re.search(
        r'__version__ = "(.+)"', (HERE / "xenon_mx" / "__init__.py").read_text()
    ).group(1),
    description="From bone radiographs to study-level predictions, on Apache MXNet",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The xenon developers",
    # The repository has no address of its own yet.
    url="https://arxiv.org/abs/1712.06957",
    project_urls={
        "Paper": "https://arxiv.org/abs/1712.06957",
        "Data set": "https://stanfordmlgroup.github.io/competitions/mura/",
    },
    license="Apache-2.0",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(8, 13)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
        "Typing :: Typed",
    ],
    keywords="radiography mura densenet mxnet gluon",
    packages=find_packages(include=["xenon_mx", "xenon_mx.*"]),
    package_data={"xenon_mx": ["py.typed"], "xenon_mx.reporting": ["templates/*"]},
    # 3.13 has no wheel of NumPy 1, which MXNet needs.
    python_requires=">=3.8,<3.13",
    # Tested: the lowest versions together on Python 3.8, the newest on 3.8 to 3.12.
    install_requires=[
        "click>=8.0",
        "huggingface_hub>=0.23",
        "isal>=1.6",
        "numpy>=1.18.5,<2",
        # 4.10 and 4.11 write out of bounds on crafted files (CVE-2025-53644), and 4.12
        # needs NumPy 2.
        "opencv-python>=4.2.0.34,<4.10",
        "pandas>=1.0.5",
        "requests>=2.20",
        "safetensors>=0.3.1",
        "scikit-learn>=0.22.2",
        "scipy>=1.4",
        "simplejpeg>=1.7.3",
        "tensorboardX>=2.6",
        "tqdm>=4.40",
    ],
    extras_require={
        "cpu": ["mxnet==1.9.1", *MXNET],
        "gpu": ["mxnet-cu112==1.9.1", *MXNET, *CUDA],
        "zoo": ZOO,
        "torch": TORCH,
        "dicom": DICOM,
        "onnx": ONNX_RUNTIME,
        "openvino": OPENVINO,
        "export": EXPORT,
        "report": REPORT,
        # pylibjpeg-libjpeg is under the GPL: for the tests only.
        "test": [
            *("pytest>=7", "pytest-xdist>=3", "pylibjpeg-libjpeg>=2.0"),
            *("markdown-it-py>=2", "huggingface-hub>=0.20"),
            *("tifffile", "imagecodecs"),
            *DICOM,
            *EXPORT,
            *OPENVINO,
            *REPORT,
        ],
        # Asked for together, so that pip finds a torchvision for the torch that it
        # installs. 1.0.16 is the first timm that loads a folder of this disk.
        "torch-test": [*TORCH, "torchvision>=0.14", "timm>=1.0.16"],
        "repl": ["jupyterlab>=4", "jupyter_server>=2.13"],
        "lint": ["ruff==0.17.6", "mypy==2.4.1"],
    },
    entry_points={
        "console_scripts": [
            "xenon = xenon_mx.main:xenon",
            "xenon-pack = xenon_mx.main:pack",
            "xenon-train = xenon_mx.main:train",
            "xenon-predict = xenon_mx.main:predict",
            "xenon-decide = xenon_mx.main:decide",
            "xenon-export = xenon_mx.main:export",
            "xenon-report = xenon_mx.main:report",
            "xenon-launch = xenon_mx.main:launch",
            "xenon-doctor = xenon_mx.main:doctor",
        ]
    },
)
