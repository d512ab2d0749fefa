"""Model workers: one process per loaded version. Only `worker` and what it imports know TensorFlow."""
