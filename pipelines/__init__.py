"""The stages from tagged photos to an exported segmenter, their runner, MLflow tracking and the command line."""

import os

# MLflow's telemetry thread calls home, and draws from Python's global random generator while networks are initialised:
# two runs of one seed then differ. Set before anything here imports MLflow; a user's own setting stays.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # it prints the address with its password
