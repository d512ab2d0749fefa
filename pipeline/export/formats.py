"""The formats of an export, and how its reader loads each."""

from __future__ import annotations

from enum import StrEnum
from string import Template

from pipeline.pixels.spec import PixelSpec


class ExportFormat(StrEnum):
    """What a program outside of Graft loads."""

    TFLITE = "tflite"
    ONNX = "onnx"
    KERAS = "keras"
    SAVEDMODEL = "savedmodel"


DESCRIPTIONS = {
    ExportFormat.TFLITE: "one file for phones and small servers",
    ExportFormat.ONNX: "one file for ONNX Runtime and what else reads ONNX",
    ExportFormat.KERAS: "one file to train on, or to convert",
    ExportFormat.SAVEDMODEL: "the model that serves, for TensorFlow",
}
PIXELS = '''
def pixels(file):
    """Return what the model is fed: the whole picture, upright, on white, as uint8 levels."""
    image = ImageOps.exif_transpose(Image.open(file))
    if image.mode.startswith("I"):  # gray of 16 bits: the highest eight of those that are used
        levels = np.asarray(image).astype(np.uint32) >> $shift
        image = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    image = image.convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    for size in (($width, image.height), ($width, $height)):
        image = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image)[None]
'''
LOADERS = {
    ExportFormat.TFLITE: """import json
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter  # or tensorflow.lite.Interpreter
from PIL import Image, ImageOps

"""
    + PIXELS
    + """

model = Interpreter("model.tflite")
model.allocate_tensors()
model.set_tensor(model.get_input_details()[0]["index"], pixels(sys.argv[1]))
model.invoke()
[probabilities] = model.get_tensor(model.get_output_details()[0]["index"])
labels = json.load(open("labels.json"))
print(labels[probabilities.argmax()], *probabilities)
""",
    ExportFormat.ONNX: """import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

"""
    + PIXELS
    + """

model = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
[[probabilities]] = model.run(["probabilities"], {"pixels": pixels(sys.argv[1])})
labels = json.load(open("labels.json"))
print(labels[probabilities.argmax()], *probabilities)
""",
    ExportFormat.KERAS: """import json
import sys

import keras
import numpy as np
from PIL import Image, ImageOps

"""
    + PIXELS
    + """

model = keras.saving.load_model("model.keras", compile=False)
[probabilities] = model.predict(pixels(sys.argv[1]), verbose=0)
labels = json.load(open("labels.json"))
print(labels[probabilities.argmax()], *probabilities)
""",
    ExportFormat.SAVEDMODEL: """import json
import sys

import tensorflow as tf

model = tf.saved_model.load("model")
picture = open(sys.argv[1], "rb").read()  # JPEG, PNG, GIF or WebP, of any size
answer = model.signatures["serving_default"](inputs=tf.constant([picture]))
[probabilities] = answer["outputs"].numpy()
labels = json.load(open("labels.json"))
print(labels[probabilities.argmax()], *probabilities)
""",
}
ABOUT = Template("""# $model $version

A picture classifier with the classes in `labels.json`, exported by Graft as $format.

    python predict.py photo.jpg

prints the class and the probability of each class. `pixels.json` says what the network is fed:
the whole picture, resized to $height x $width without keeping its shape, as uint8 levels. Scaling
to the network's own range is part of the model.

`MODEL_CARD.md` has what it was trained on and how good it is. The answers were compared with those
of the version as it is served: the largest difference of a probability was $difference.
$thresholds""")


def loader(format: ExportFormat, spec: PixelSpec) -> str:
    """Return a program that loads the export and predicts a picture."""
    return Template(LOADERS[format]).substitute(width=spec.width, height=spec.height, shift=spec.bits - 8)
