"""The TFLite runtime: a converted backbone and the head in NumPy. Written by jobs, run by model workers."""
