"""Write resnet50v15_forward.npz with torchvision's ResNet50 and IRN's classifier; see README.md for when and how.

    python tests/golden/make_resnet50v15.py IRN OUTPUT.npz      # IRN: a checkout of github.com/jiwoon-ahn/irn

Needs torch and torchvision, which nothing else in this repository does.
"""

import importlib
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
import torchvision

SIZE = (61, 75)
# replace_stride_with_dilation of torchvision
DILATED = {8: (False, True, True), 16: (False, False, True), 32: (False, False, False)}


def tensor(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weight rule of README.md."""
    generator = np.random.default_rng(zlib.crc32(key.encode()))
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith(("running_mean", ".bias")):
        value = generator.standard_normal(shape) * 0.1
    elif key.endswith("running_var") or len(shape) == 1:
        value = generator.uniform(0.5, 1.5, shape)
    else:
        gain = 0.25 if key.endswith("conv3.weight") else 1.0
        value = generator.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:])) * gain
    return value.astype(np.float32)


def image() -> torch.Tensor:
    generator = np.random.default_rng(zlib.crc32(b"input_%dx%d" % SIZE))
    return torch.from_numpy(generator.standard_normal((2, 3, *SIZE)).astype(np.float32))


def statistics(name: str, value: torch.Tensor) -> dict[str, np.ndarray]:
    """As in the other *_forward.npz."""
    value = value.numpy()
    return {
        f"{name}_mean_c": value.mean((0, 2, 3), dtype=np.float64),
        f"{name}_std_c": value.std((0, 2, 3), dtype=np.float64),
        f"{name}_max_c": value.max((0, 2, 3)),
        f"{name}_slice0": value[0, :8],
        f"{name}_slice1": value[1, -4:],
    }


def torchvision_arrays() -> dict[str, np.ndarray]:
    arrays = {}
    for stride, dilated in DILATED.items():
        network = torchvision.models.resnet50(weights=None, replace_stride_with_dilation=dilated).eval()
        state = {key: torch.from_numpy(tensor(key, tuple(v.shape))) for key, v in network.state_dict().items()}
        network.load_state_dict(state, strict=True)
        x = network.maxpool(network.relu(network.bn1(network.conv1(image()))))
        for layer in ("layer1", "layer2", "layer3", "layer4"):
            x = getattr(network, layer)(x)
            if layer == "layer4" or (stride == 8 and layer != "layer1"):
                arrays |= statistics(f"{layer}_os{stride}", x)
    arrays["keys"] = np.array(list(state))
    arrays["shapes"] = np.array(["x".join(map(str, value.shape)) for value in state.values()])
    arrays["key_sums"] = np.array([value.double().sum() for value in state.values()])
    return arrays


def irn_arrays(folder: Path) -> dict[str, np.ndarray]:
    sys.path.insert(0, str(folder))
    resnet = importlib.import_module("net.resnet50")
    resnet.resnet50.__defaults__ = (False,)  # "pretrained" would download
    module = importlib.import_module("net.resnet50_cam")
    resnet50 = resnet.resnet50
    module.resnet50.resnet50 = lambda pretrained, **options: resnet50(False, **options)
    network, cam = module.Net(), module.CAM()
    state = {}
    for key, value in network.state_dict().items():
        if key.startswith("resnet50."):
            state[key] = torch.from_numpy(tensor(key.removeprefix("resnet50."), tuple(value.shape)))
        elif key == "classifier.weight":
            state[key] = torch.from_numpy(tensor("fc8.weight", tuple(value.shape)))
    for model in (network, cam):
        model.load_state_dict(state, strict=True)  # the other keys name the same tensors once more
        torch.nn.Module.eval(model)
    full = network.state_dict()
    return {
        "irn_keys": np.array(list(full)),
        "irn_shapes": np.array(["x".join(map(str, value.shape)) for value in full.values()]),
        "irn_logits": network(image()).numpy(),
        "irn_cam": cam(torch.stack([image()[0], image()[0].flip(-1)])).numpy(),
    }


if __name__ == "__main__":
    checkout, output = Path(sys.argv[1]), sys.argv[2]
    with torch.inference_mode():
        np.savez_compressed(output, **torchvision_arrays(), **irn_arrays(checkout))
