"""A model of Triton's Python backend: photo files in, PNG masks out.

The bundle copies this package beside a model file and the runtime `tfwsss_onnx`; it runs inside Triton's Python, 3.9 or later.
"""
