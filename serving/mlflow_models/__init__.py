"""Segmenters as MLflow models."""
