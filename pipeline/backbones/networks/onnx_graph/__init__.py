"""The graph of an ONNX file as TensorFlow operations: a table of operations, and what runs them."""
