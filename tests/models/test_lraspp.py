"""LR-ASPP: its logits against the same sum in numpy."""

import keras
import numpy as np

from tfwsss.models import build_segmenter


def run(model, x, *names):
    layers = [model.get_layer(name).output for name in names]
    return [np.asarray(value) for value in keras.Model(model.inputs, layers)(x)]


def test_logits_are_the_gated_deep_map_and_the_shallow_one():
    model = build_segmenter("mobilenetv2", 3, head="lraspp", width=0.35, output_stride=16, batch_norm="train", freeze=False, upsample=False)
    x = np.random.default_rng(0).standard_normal((2, 64, 96, 3)).astype(np.float32)
    low, deepest, features, logits = run(model, x, "block_6_expand_relu", "out_relu", "lraspp_deep_relu", "logits")
    weights = {name: [v.numpy() for v in model.get_layer(name).weights] for name in ("lraspp_gate_conv", "score_deep", "score_low")}
    gate = 1 / (1 + np.exp(-deepest.mean(axis=(1, 2)) @ weights["lraspp_gate_conv"][0][0, 0]))
    # Bilinear resizing and a pointwise convolution commute.
    deep = (features * gate[:, None, None]) @ weights["score_deep"][0][0, 0] + weights["score_deep"][1]
    shallow = low @ weights["score_low"][0][0, 0] + weights["score_low"][1]
    resized = np.asarray(keras.layers.UpSampling2D(2, interpolation="bilinear")(deep))
    assert logits.shape == (2, 8, 12, 4) and deep.shape == (2, 4, 6, 4)
    np.testing.assert_allclose(logits, resized + shallow, rtol=1e-4, atol=1e-5)


def test_it_has_a_fraction_of_deeplabs_weights():
    def head(name, prefixes):
        model = build_segmenter("mobilenetv2", 6, head=name, output_stride=16)
        return sum(int(np.prod(v.shape)) for layer in model.layers if layer.name.startswith(prefixes) for v in layer.weights)

    assert head("lraspp", ("lraspp", "score")) * 4 < head("deeplabv3plus", ("aspp", "decoder", "score"))
