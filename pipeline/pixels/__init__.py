"""One definition of a picture's pixels, run on the host (Pillow) and in the graph (TensorFlow)."""
