#!/bin/sh
# Fill FOLDER with what benchmarks/gpu.sh needs on a machine without internet.
#
#   benchmarks/gpu/prepare.sh FOLDER
#
# PYTHON (default .venv/bin/python of this checkout) exports the models and downloads wheels for Linux on x86-64 and Python
# TARGET (default 3.11). PACKAGES says which: by default ONNX Runtime for CUDA 13 and what the HTTP service needs; cuDNN comes
# with it, CUDA is the machine's own. For the rows of training add TensorFlow: PACKAGES="... tensorflow[and-cuda]==2.21.* ...".
set -eu
folder=${1:?usage: benchmarks/gpu/prepare.sh FOLDER}
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
packages=${PACKAGES:-onnxruntime-gpu>=1.27 nvidia-cudnn-cu13 numpy pillow starlette uvicorn h11 prometheus-client python-multipart}
mkdir -p "$folder/wheels"
"$python" "$root/benchmarks/gpu/models.py" "$folder"
printf '%s\n' $packages > "$folder/wheels/packages.txt"
# shellcheck disable=SC2086  # one word for each package
"$python" -m pip download --quiet --only-binary :all: --python-version "${TARGET:-3.11}" --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --dest "$folder/wheels" $packages
rm -f "$folder"/wheels.tar.part-*
tar -c -C "$folder" wheels | split -b 58000000 - "$folder/wheels.tar.part-"
rm -r "$folder/wheels"
ls -l "$folder"
