"""The training job: pooled features once per picture, a new head on them, a SavedModel.

It runs on ML Engine as its own package. Nothing here imports TensorFlow until the job does.
"""
