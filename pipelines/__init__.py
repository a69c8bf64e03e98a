"""The stages from tagged photos to an exported segmenter, their runner, MLflow tracking and the command line."""
