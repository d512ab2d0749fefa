"""Fits a line through noisy points and exports it as a SavedModel: the smallest trainer there is."""

import argparse
import tempfile
from pathlib import Path

import tensorflow as tf

from pipeline.storage import Storage


class Line(tf.Module):
    """y = slope * x + offset, answering with the key that it was asked with."""

    def __init__(self, coefficients):
        super().__init__()
        self.coefficients = tf.Variable(coefficients)

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.float32, "key"), tf.TensorSpec([None], tf.float32, "x")]
    )
    def serve(self, key, x):
        """Return the key and y."""
        return {"key": key, "y": self.coefficients[0, 0] * x + self.coefficients[1, 0]}


def main():
    """Train and export."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--job-dir", required=True)
    parser.add_argument("--points", type=int, default=100)
    options = parser.parse_args()
    x = tf.random.stateless_uniform([options.points], seed=[1, 2], maxval=10.0)
    y = 2 * x + 1 + tf.random.stateless_normal([options.points], seed=[3, 4], stddev=0.01)
    line = Line(tf.linalg.lstsq(tf.stack([x, tf.ones_like(x)], axis=1), y[:, None]))
    print("slope and offset:", line.coefficients.numpy().ravel(), flush=True)
    with tempfile.TemporaryDirectory() as directory:
        tf.saved_model.save(line, directory, signatures=line.serve)
        Storage.from_environment().upload_tree(Path(directory), f"{options.job_dir}/model")


if __name__ == "__main__":
    main()
