"""The article's training as written: the frozen network stays inside `model.fit`, pictures are decoded first.

A few batches are timed and scaled to 20 epochs, because the whole takes many minutes. Prints one JSON object with CPU
seconds: `fixed` (imports, building, exporting; process CPU less the timed batches) and `compute` (scaled).

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


def main(backbone: str, pictures: Path, output: Path) -> None:
    """Run the recipe and print its CPU seconds."""
    import keras
    import numpy as np
    from PIL import Image

    size = {"inception_v3": 299, "efficientnet_lite0": 224}[backbone]
    paths = sorted(pictures.glob("*/*.jpg"))
    classes = sorted({path.parent.name for path in paths})
    features = np.stack([np.asarray(Image.open(p).convert("RGB").resize((size, size))) for p in paths]) / 255.0
    labels = np.eye(len(classes))[[classes.index(path.parent.name) for path in paths]]
    base = build_base(keras, backbone, size)
    base.trainable = False
    x = base.output if base.output.shape.rank == 2 else keras.layers.GlobalAveragePooling2D()(base.output)
    x = keras.layers.Dense(1024, activation="relu")(x)
    model = keras.Model(base.input, keras.layers.Dense(len(classes), activation="softmax")(x))
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    batch = features[:BATCH_SIZE], labels[:BATCH_SIZE]
    started = time.process_time()
    model.fit(*batch, batch_size=BATCH_SIZE, epochs=1, verbose=0)
    first = time.process_time() - started
    started = time.process_time()
    model.fit(*batch, batch_size=BATCH_SIZE, epochs=TIMED_BATCHES, verbose=0)
    timed = time.process_time() - started
    per_batch = timed / TIMED_BATCHES
    model.export(str(output), verbose=False)
    steps = EPOCHS * len(paths) / BATCH_SIZE
    compute = max(first - per_batch, 0.0) + per_batch * steps
    fixed = time.process_time() - first - timed
    sys.stdout.write(json.dumps({"fixed": fixed, "compute": compute, "pictures": len(paths)}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
