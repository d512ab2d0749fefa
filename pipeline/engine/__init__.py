"""ML Engine v1, carried on: jobs, models, versions, predictions. TensorFlow runs in model workers alone."""
