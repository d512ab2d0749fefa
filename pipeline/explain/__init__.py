"""Explanations: what a network sees, its layers, the explanation of a prediction. No TensorFlow here."""

from pipeline.explain.explanation import Explanation, explain, explain_file
from pipeline.explain.network import classify, layers

__all__ = ["Explanation", "classify", "explain", "explain_file", "layers"]
