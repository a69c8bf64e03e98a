"""What runs stages: fingerprints, resume, MLflow runs, progress, several processes. Knows no stage."""
