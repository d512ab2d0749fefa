"""Looking inside: what a network sees, its layers, what lies behind a prediction. No TensorFlow here."""

from pipeline.inside.network import classify, layers
from pipeline.inside.prediction import Features, features

__all__ = ["Features", "classify", "features", "layers"]
