"""A job's program: trains a small network, alone or with workers, by MultiWorkerMirroredStrategy.

Each step takes the whole of the data, split among the replicas: so the number of replicas changes nothing
but the order in which gradients are added.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

NUM_ROWS, NUM_STEPS, RATE = 256, 200, 0.2

config = json.loads(os.environ["TF_CONFIG"])
is_alone = "worker" not in config["cluster"]
strategy = tf.distribute.get_strategy() if is_alone else tf.distribute.MultiWorkerMirroredStrategy()
generator = np.random.default_rng(1)
features = generator.normal(size=(NUM_ROWS, 8)).astype(np.float32)
labels = (np.sin(features[:, :1] * features[:, 1:2]) + features[:, 2:3]).astype(np.float32)
first, second = (generator.normal(size=size).astype(np.float32) / 3 for size in ((8, 16), (16, 1)))


def read_rows(context: tf.distribute.InputContext) -> tf.data.Dataset:
    rows = tf.data.Dataset.from_tensor_slices((features, labels))
    rows = rows.shard(context.num_input_pipelines, context.input_pipeline_id)
    return rows.batch(context.get_per_replica_batch_size(NUM_ROWS)).repeat(NUM_STEPS)


with strategy.scope():
    aggregation = tf.VariableAggregation.MEAN
    weights = [tf.Variable(value, aggregation=aggregation) for value in (first, second)]


def step(rows: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    with tf.GradientTape() as tape:
        predicted = tf.tanh(rows @ weights[0]) @ weights[1]
        loss = tf.reduce_sum((predicted - targets) ** 2) / NUM_ROWS
    gradients = tape.gradient(loss, weights)
    gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.assign_sub(RATE * gradient)
    return loss


@tf.function
def train_step(batch: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(step, args=batch), axis=None)


losses = [float(train_step(batch)) for batch in strategy.distribute_datasets_from_function(read_rows)]
sys.stdout.write(f"{config['task']['type']} {config['task']['index']}: {strategy.num_replicas_in_sync} ")
sys.stdout.write(f"replicas, loss {losses[0]:.6f} -> {losses[-1]:.6f}\n")
if config["task"]["type"] in ("chief", "master"):
    Path(sys.argv[1]).write_text(json.dumps({"losses": losses, "config": config}))
