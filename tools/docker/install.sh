#!/usr/bin/env bash
# Install xenon and its REPL into Debian 12, for the Dockerfile.
#
#     tools/docker/install.sh cpu|gpu|base [USER_ID]
#
# `base` is for another image of Debian or Ubuntu whose python3 has an MXNet: xenon uses
# that one, and its GluonCV if there is one, and installs neither.
#
# Debian packages are installed as root, Python packages as the container's user, who can
# install more later. apt and pip use the usual environment variables (https_proxy,
# PIP_INDEX_URL, PIP_CERT).
set -euo pipefail

stop() {
    echo "error: $1" >&2
    exit 1
}

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit
fi
device=${1:-}
user_id=${2:-1000}
[[ $device =~ ^(cpu|gpu|base)$ ]] ||
    stop "DEVICE must be cpu, gpu or base, not '$device'"
[[ $user_id =~ ^[1-9][0-9]*$ ]] ||
    stop "USER_ID must be the number of a user who is not root, not '$user_id': \
if you are root, leave it out, and give the folder of your data to user 1000"
[[ $(id -u) == 0 ]] || stop "install.sh installs Debian's packages: run it as root"

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

has() {  # PYTHON PACKAGE: whether it can be found, without the import of a GPU's library
    "$1" -c "import importlib.util as u, sys; sys.exit(u.find_spec('$2') is None)"
}
if [[ $device == base ]]; then
    command -v apt-get >/dev/null || stop "BASE is not an image of Debian or Ubuntu"
    has python3 mxnet || stop "the python3 of BASE has no MXNet: leave BASE out, or \
name an image that has one"
elif has python3 mxnet 2>/dev/null; then
    stop "this image has an MXNet: use it with DEVICE=base"
fi

# OpenCV needs libgl1 and libglib2.0-0, MXNet libgomp1 and libquadmath0.
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install --yes --no-install-recommends ca-certificates \
    libgl1 libglib2.0-0 libgomp1 libquadmath0 python3 python3-venv
rm -rf /var/lib/apt/lists/*

# Without --no-log-init, a large user ID would create a sparse file of gigabytes.
# The image may have a user of that number.
useradd --non-unique --create-home --no-log-init --shell /bin/bash --uid "$user_id" xenon
install -d -o xenon -g xenon /opt/xenon /data

as_user() {
    runuser -u xenon -- env HOME=/home/xenon "$@"
}

# pip builds in the folder that it installs from, and root owns the checkout.
copy=$(as_user mktemp -d)
for name in LICENSE README.md pyproject.toml setup.py xenon_mx; do
    cp -r "$checkout/$name" "$copy"
done
chown -R xenon: "$copy"

# As a variable, the constraints also apply to the build dependencies of xenon. They are
# for Debian 12; in another image, pip chooses versions beside those that are there.
constraints=$checkout/tools/docker/constraints.txt
venv_flags=()
extras=$device,dicom,export,report,repl
if [[ $device == base ]]; then
    constraints=
    venv_flags=(--system-site-packages)
    extras=dicom,export,report,repl
    has python3 gluoncv || extras=zoo,$extras
fi
install_python() {
    as_user env PIP_CONSTRAINT="$constraints" \
        /opt/xenon/bin/pip install --no-cache-dir --disable-pip-version-check "$@"
}

cd /  # a folder that the user may read
as_user python3 -m venv "${venv_flags[@]}" /opt/xenon
install_python pip setuptools wheel
install_python "${copy}[$extras]"
# The packages of another image need not fit one another.
[[ $device == base ]] || as_user /opt/xenon/bin/pip check
rm -rf "$copy"
install -m 755 "$checkout/tools/docker/repl.py" /opt/xenon/bin/repl
# Otherwise every new container asks whether to show JupyterLab's news.
as_user /opt/xenon/bin/jupyter labextension disable --level=sys_prefix \
    "@jupyterlab/apputils-extension:announcements"

# Check that MXNet and OpenCV find their libraries. MXNet for GPUs needs the driver, which
# is available only when the container runs.
if [[ $device == cpu ]]; then
    as_user /opt/xenon/bin/python -c \
        "from xenon_mx.runtime.mxnet import mx; from xenon_mx.runtime.opencv import cv2"
elif [[ $device == base ]]; then
    as_user /opt/xenon/bin/python "$checkout/tools/docker/check_base.py"
fi
as_user /opt/xenon/bin/xenon-train --help >/dev/null
