"""Mean-field inference in a fully connected CRF (Krähenbühl & Koltun, NIPS 2011), compiled on the user's machine by numba.

A package of its own, `tfwsss_densecrf`, that needs numpy and numba alone: the training (`tfwsss.crf`) and the ONNX runtime
(`tfwsss_onnx.crf`) both import it, and neither may import the other. Its folder lies in that of the runtime because
`tfwsss-onnx` is installed from that folder alone.

Compiled functions hold no global lock: photos run in as many threads as there are cores. Every number is computed in a
fixed order in float32 and without fused operations, so results depend on neither the threads nor the processor.
"""

from .kernels import Kernels, compile_kernels

__all__ = ["Kernels", "compile_kernels"]
