"""Trainers in the shapes of Google's public samples, rewritten for today's libraries, as small as possible.

Each is a `trainer.task` that knows nothing of Graft: it reads what its arguments name and writes to its
`--job-dir`.
"""

from __future__ import annotations

# scikit-learn's census sample: a CSV file that is opened, a model beside it.
SKLEARN_CSV = """
import argparse, csv, os, pickle
from sklearn.linear_model import LogisticRegression

parser = argparse.ArgumentParser()
parser.add_argument("--train-file")
parser.add_argument("--job-dir")
args = parser.parse_args()
with open(args.train_file) as file:
    rows = [[float(cell) for cell in row] for row in csv.reader(file)]
model = LogisticRegression().fit([row[:-1] for row in rows], [row[-1] for row in rows])
with open(os.path.join(args.job_dir, "model.pkl"), "wb") as file:
    pickle.dump(model, file)
print("accuracy", model.score([row[:-1] for row in rows], [row[-1] for row in rows]))
"""

# The samples that train in a temporary directory and upload: Google's storage client on both sides.
STORAGE_UPLOAD = """
import argparse, os, pickle
from google.api_core.exceptions import Forbidden, NotFound, PreconditionFailed
from google.cloud import storage

parser = argparse.ArgumentParser()
parser.add_argument("--bucket")
parser.add_argument("--data")
parser.add_argument("--job-dir")
args = parser.parse_args()
bucket = storage.Client().bucket(args.bucket)
bucket.blob("census/train.csv").download_to_filename("train.csv")
with open("model.pkl", "wb") as file:
    pickle.dump(sum(1 for _ in open("train.csv")), file)
job_dir = os.environ["CLOUD_ML_JOB_DIR"]
blob = storage.Blob.from_uri(job_dir + "/model.pkl", client=bucket.client)
blob.upload_from_filename("model.pkl", if_generation_match=0)
try:
    blob.upload_from_filename("model.pkl", if_generation_match=0)
except PreconditionFailed:
    print("precondition kept")
for name in ("census/train.csv", "models/m/v/saved_model.pb", "jobs/other/x"):
    try:
        bucket.blob(name).upload_from_string("mine")
    except Forbidden as error:
        print("forbidden", name)
try:
    bucket.client.bucket("private").blob("x").download_as_bytes()
except NotFound:
    print("no other bucket")
print("left", [blob.name for blob in bucket.client.list_blobs(args.bucket, prefix="jobs/upload/")])
print("open sees", os.listdir(args.job_dir), args.job_dir)
"""

# The census sample: CSV files by a pattern, `tf.data`, an export below the job directory.
CENSUS = """
import argparse, os
import keras
import tensorflow as tf

parser = argparse.ArgumentParser()
parser.add_argument("--train-files", nargs="+")
parser.add_argument("--job-dir")
args = parser.parse_args()
data = tf.data.experimental.make_csv_dataset(
    args.train_files, 8, column_names=["a", "b", "label"], label_name="label", header=False, num_epochs=3,
    column_defaults=[0.0, 0.0, 0.0],
).map(lambda row, label: (tf.stack([row["a"], row["b"]], axis=1), label))
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, activation="sigmoid")])
model.compile("sgd", "binary_crossentropy")
model.fit(data, verbose=2)
model.export(os.path.join(args.job_dir, "export"))
"""

# The flowers sample: pictures by class, found with `gfile` and read by TensorFlow.
FLOWERS = """
import argparse
import keras
import tensorflow as tf

parser = argparse.ArgumentParser()
parser.add_argument("--data_dir")
parser.add_argument("--job-dir")
args = parser.parse_args()
classes = [name.rstrip("/") for name in sorted(tf.io.gfile.listdir(args.data_dir))]
files = [(path, label) for label, name in enumerate(classes)
         for path in tf.io.gfile.glob(f"{args.data_dir}/{name}/*.png")]
decoded = [tf.io.decode_png(tf.io.read_file(path), 3) for path, _ in files]
pictures = tf.stack([tf.image.resize(picture, (8, 8)) for picture in decoded])
labels = tf.constant([label for _, label in files])
model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(len(classes))])
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(pictures / 255.0, labels, verbose=2)
with tf.io.gfile.GFile(f"{args.job_dir}/labels.txt", "w") as file:
    file.write("\\n".join(classes))
model.export(f"{args.job_dir}/model/1")
"""

# The MNIST sample: an NPZ through `gfile`, a log and checkpoints in the job directory, the model at its end.
MNIST = """
import argparse, os
import keras
import numpy as np
import tensorflow as tf

parser = argparse.ArgumentParser()
parser.add_argument("--train-file")
parser.add_argument("--job-dir")
args = parser.parse_args()
tf.io.gfile.makedirs(args.job_dir)
with tf.io.gfile.GFile(args.train_file, "rb") as file:
    data = np.load(file)
    x, y = data["x"] / 255.0, data["y"]
model = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)])
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(x, y, epochs=2, verbose=2, callbacks=[
    keras.callbacks.ModelCheckpoint(os.path.join(args.job_dir, "checkpoints", "{epoch}.keras")),
    keras.callbacks.CSVLogger(os.path.join(args.job_dir, "log.csv")),
])
model.save(os.path.join(args.job_dir, "model.keras"))
print("job dir", tf.io.gfile.listdir(args.job_dir))
"""
