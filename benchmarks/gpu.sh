#!/bin/sh
# What a GPU makes of exported models, of the HTTP service and of training, as one Markdown table.
#
#   benchmarks/gpu/prepare.sh FOLDER      # with internet and an installed checkout: models, photos and wheels, in parts below 60 MB
#   benchmarks/gpu.sh FOLDER              # with an NVIDIA GPU and without internet; ten minutes at most
#
# FOLDER is carried to the machine with the GPU beside this checkout. Wheels in it are installed into FOLDER/venv by PYTHON
# (default python3, 3.11 or later); without wheels PYTHON is used as it is. More arguments go to benchmarks/gpu/measure.py
# (--help lists them). Without a GPU everything runs on the processor, and the table says so.
set -eu
folder=$(cd "${1:?usage: benchmarks/gpu.sh FOLDER [options]}" && pwd)
shift
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
if [ -e "$folder/wheels.tar.part-aa" ]; then
    if [ ! -x "$folder/venv/bin/python" ]; then
        cat "$folder"/wheels.tar.part-* | tar -x -C "$folder"
        "$python" -m venv "$folder/venv"
        # shellcheck disable=SC2046  # one word for each package
        "$folder/venv/bin/python" -m pip install --quiet --no-index --find-links "$folder/wheels" $(cat "$folder/wheels/packages.txt")
    fi
    python=$folder/venv/bin/python
fi
# The checkout's packages by the names they are installed under, and the CUDA libraries that came as wheels.
names=$folder/names
mkdir -p "$names"
ln -sfn "$root/tfwsss" "$names/tfwsss"
ln -sfn "$root/serving/onnx" "$names/tfwsss_onnx"
ln -sfn "$root/serving/onnx/densecrf" "$names/tfwsss_densecrf"
libraries=$("$python" -c 'import glob, sysconfig; print(":".join(glob.glob(sysconfig.get_path("purelib") + "/nvidia/*/lib")))')
export PYTHONPATH="$names${PYTHONPATH:+:$PYTHONPATH}" LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$python" "$root/benchmarks/gpu/measure.py" "$folder" "$@"
