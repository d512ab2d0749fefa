"""Architectures, each written once, and what runs them: folded TensorFlow operations or Keras layers."""
