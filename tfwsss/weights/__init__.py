"""Weights on disk: the project's own format and the published formats of other frameworks.

save_weights(model, "weights.safetensors")      arrays named `layer/variable` and how to build the model again
load_model("weights.safetensors")               builds the model from the file alone
load_weights(model, FILE)                       any supported format, recognised by content

There are more files here than in other folders: each format has its own.
"""

from tfwsss.weights.loading import load_weights
from tfwsss.weights.matching import LoadReport
from tfwsss.weights.native import load_model, save_weights
from tfwsss.weights.variables import named_variables

__all__ = ["LoadReport", "load_model", "load_weights", "named_variables", "save_weights"]
