"""Explanations: what a network sees, its layers, what lies behind a prediction. No TensorFlow here."""

from pipeline.explain.network import classify, layers
from pipeline.explain.prediction import Features, features

__all__ = ["Features", "classify", "features", "layers"]
