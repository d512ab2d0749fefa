"""The article's training as written: the frozen network stays inside `model.fit`.

A few batches are timed and scaled to 20 epochs, because the whole takes many minutes. Prints one JSON object
with CPU seconds: `timed`, of the batches that were run, and `compute`, scaled to the whole training.

    python benchmarks/article_recipe.py BACKBONE FOLDER_OF_CLASSES OUTPUT
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

TIMED_BATCHES = 4
EPOCHS = 20
BATCH_SIZE = 32
TRAINING_SHARE = 0.8


def main(backbone: str, pictures: Path, output: Path) -> None:
    """Run the recipe and print its CPU seconds."""
    import keras
    import numpy as np
    from PIL import Image

    from pipeline.backbones.networks.keras_model import build_keras_model

    base = build_keras_model(backbone, None)
    size = base.input.shape[1]
    paths = sorted(pictures.glob("*/*.jpg"))
    classes = sorted({path.parent.name for path in paths})
    features = (
        np.stack([np.asarray(Image.open(p).convert("RGB").resize((size, size))) for p in paths]) / 255.0
    )
    labels = np.eye(len(classes))[[classes.index(path.parent.name) for path in paths]]
    base.trainable = False
    x = keras.layers.Dense(1024, activation="relu")(base.output)
    model = keras.Model(base.input, keras.layers.Dense(len(classes), activation="softmax")(x))
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    batch = features[:BATCH_SIZE], labels[:BATCH_SIZE]
    model.fit(*batch, batch_size=BATCH_SIZE, epochs=1, verbose=0)  # tracing, which the whole job pays too
    started = time.process_time()
    model.fit(*batch, batch_size=BATCH_SIZE, epochs=TIMED_BATCHES, verbose=0)
    timed = time.process_time() - started
    per_batch = timed / TIMED_BATCHES
    model.export(str(output), verbose=False)
    steps = EPOCHS * TRAINING_SHARE * len(paths) / BATCH_SIZE
    sys.stdout.write(json.dumps({"compute": per_batch * steps, "timed": per_batch + timed}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
