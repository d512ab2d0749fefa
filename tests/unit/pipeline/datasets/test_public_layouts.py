"""Every row of docs/data.md: a generator, its line of YAML, and the dataset version that comes of it."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts.dataset import read_info
from pipeline.config import Classifier
from pipeline.config.settings import PROJECT_ROOT
from pipeline.config.yaml_text import parse_yaml
from pipeline.storage import Storage
from tests.fakes.pictures import encode, fetch_and_clean, noise, png, storage_in
from tests.fakes.rows import dataset_folder

CAT, DOG = "cat", "dog"
Files = dict[str, bytes]


def picture(number: int, label: str) -> bytes:
    return png(noise(1000 * len(label) + number + (label == DOG) * 77_000))


def labelled(first: int, count: int) -> list[tuple[int, str]]:
    return [(number, label) for label in (CAT, DOG) for number in range(first, first + count)]


def table(header: str, rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([header.split(","), *rows])
    return text.getvalue().encode()


def class_folders(prefix: str = "", first: int = 0, count: int = 5) -> Files:
    return {f"{prefix}{label}/{n}.png": picture(n, label) for n, label in labelled(first, count)}


def split_folders(*parts: str) -> Files:
    files: Files = {}
    for place, part in enumerate(parts):
        files |= class_folders(f"{part}/", 5 * place)
    return files


def flat(prefix: str, first: int = 0, count: int = 5) -> dict[str, tuple[bytes, str]]:
    """Pictures in one folder by path, with their labels."""
    return {f"{prefix}{label[0]}{n}.png": (picture(n, label), label) for n, label in labelled(first, count)}


def with_list(name: str, header: str, pictures: dict[str, tuple[bytes, str]], *, strip: str = "") -> Files:
    rows = [[path.removeprefix(strip), label] for path, (_, label) in pictures.items()]
    return {name: table(header, rows), **{path: data for path, (data, _) in pictures.items()}}


def coco(name: str, pictures: dict[str, tuple[bytes, str]], *, strip: str) -> Files:
    images = [{"id": n, "file_name": path.removeprefix(strip)} for n, path in enumerate(pictures)]
    annotations = [
        {"id": n, "image_id": n, "category_id": 1 + (label == DOG), "bbox": [0, 0, 9, 9]}
        for n, (_, label) in enumerate(pictures.values())
    ]
    document = {
        "categories": [{"id": 0, "name": "animals"}, {"id": 1, "name": CAT}, {"id": 2, "name": DOG}],
        "images": images,
        "annotations": annotations,
    }
    return {
        name: json.dumps(document).encode(),
        **{path: data for path, (data, _) in pictures.items()},
    }


def voc() -> Files:
    files: Files = {}
    for path, (data, label) in flat("VOC2012/JPEGImages/").items():
        box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
        text = f"<annotation><object><name>{label}</name>{box}</object></annotation>"
        stem = Path(path).stem
        files |= {path: data, f"VOC2012/Annotations/{stem}.xml": text.encode()}
    return files


def with_parts(files: Files, folder: str, form: str, *, parts: tuple[str, str] = ("train", "test")) -> Files:
    """Pictures with a `train.txt` and a `test.txt`: two of each five pictures test."""
    names = [name for name in files if name.endswith(".png")]
    return files | {
        f"{folder}{part}.txt": "\n".join(
            form.format(path=name, stem=Path(name).stem, short="/".join(name.split("/")[-2:])[:-4])
            for place, name in enumerate(names)
            if (place % 5 >= 3) == (part == parts[1])
        ).encode()
        for part in parts
    }


def voc_parts() -> Files:
    files = with_parts(voc(), "VOC2012/ImageSets/Main/", "{stem}", parts=("trainval", "test"))
    return files | {"VOC2012/ImageSets/Main/cat_trainval.txt": b"c0 -1\nd0  1\n"}


def numbered_parts() -> Files:
    files = {f"CUB/images/{name}": data for name, data in class_folders().items()}
    names = "\n".join(f"{n} {name.removeprefix('CUB/images/')}" for n, name in enumerate(files, 1))
    parts = "\n".join(f"{n} {int(n % 5 in (1, 2, 3))}" for n in range(1, len(files) + 1))
    return files | {"CUB/images.txt": names.encode(), "CUB/train_test_split.txt": parts.encode()}


def one_hot(folder: str, list_name: str, file_column: str, classes: list[str], *, suffix: str) -> Files:
    pictures = flat(folder)
    rows = [
        [
            Path(path).stem + suffix,
            *("1" if (label == CAT) == (name == classes[0]) else "0" for name in classes),
        ]
        for path, (_, label) in pictures.items()
    ]
    header = ",".join([file_column, *classes])
    return {list_name: table(header, rows), **{path: data for path, (data, _) in pictures.items()}}


def json_lines(part: str, first: int) -> Files:
    pictures = flat(f"{part}/", first)
    lines = [
        json.dumps({"file_name": Path(path).name, "label": label}) for path, (_, label) in pictures.items()
    ]
    return {
        f"{part}/metadata.jsonl": "\n".join(lines).encode(),
        **{path: data for path, (data, _) in pictures.items()},
    }


def label_studio() -> Files:
    pictures = flat("images/")
    tasks = [
        {
            "id": n,
            "data": {"image": f"/data/upload/3/1a2b3c4d-{Path(path).name}"},
            "annotations": [{"result": [{"type": "choices", "value": {"choices": [label]}}]}],
        }
        for n, (path, (_, label)) in enumerate(pictures.items())
    ]
    return {
        "result.json": json.dumps(tasks).encode(),
        **{path: data for path, (data, _) in pictures.items()},
    }


def cvat() -> Files:
    pictures = flat("images/")
    images = "".join(
        f'<image id="{n}" name="{path.removeprefix("images/")}"><tag label="{label}"/></image>'
        for n, (path, (_, label)) in enumerate(pictures.items())
    )
    files = {path: data for path, (data, _) in pictures.items()}
    return files | {"annotations.xml": f"<annotations>{images}</annotations>".encode()}


def manifest() -> Files:
    pictures = flat("pictures/")
    rows = [
        {"source-ref": f"s3://bucket/{path}", "pets": 0, "pets-metadata": {"class-name": label}}
        for path, (_, label) in pictures.items()
    ]
    files = {path: data for path, (data, _) in pictures.items()}
    return files | {"output.manifest": "\n".join(map(json.dumps, rows)).encode()}


def fiftyone() -> Files:
    pictures = flat("data/")
    labels = {Path(path).stem: int(label == DOG) for path, (_, label) in pictures.items()}
    files = {path: data for path, (data, _) in pictures.items()}
    return files | {"labels.json": json.dumps({"classes": [CAT, DOG], "labels": labels}).encode()}


def write(root: Path, files: Files) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def zipped(root: Path, files: Files, encoding: str | None = None) -> Path:
    root.mkdir()
    with zipfile.ZipFile(root / "data.zip", "w") as archive:
        for name, data in files.items():
            info = ForeignInfo(name) if encoding else zipfile.ZipInfo(name)
            archive.writestr(info, data)
    return root / "data.zip"


class ForeignInfo(zipfile.ZipInfo):
    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # of zipfile
        return self.filename.encode("gbk"), self.flag_bits & ~0x800


def arrays(first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    seeds = [(n, label) for n, label in labelled(first, count)]
    pixels = [np.asarray(Image.open(io.BytesIO(picture(n, label)))) for n, label in seeds]
    return np.stack(pixels), np.array([int(label == DOG) for _, label in seeds])


def npz(root: Path, names: list[tuple[str, str, int]], *, column: bool = False) -> Path:
    root.mkdir()
    content: dict[str, np.ndarray] = {}
    for features, labels, first in names:
        content[features], numbers = arrays(first, 5)
        content[labels] = numbers[:, None] if column else numbers
    np.savez(root / "a.npz", **content)  # type: ignore[arg-type]
    return root / "a.npz"


def npy(root: Path) -> Path:
    root.mkdir()
    features, labels = arrays(0, 5)
    np.save(root / "images.npy", features)
    np.save(root / "labels.npy", labels)
    return root


def vertex(root: Path, storage: Storage, *, lines: bool) -> Path:
    rows = []
    for place, (path, (data, label)) in enumerate(flat("vertex/").items()):
        storage.write_bytes(f"gs://graft/{path}", data)
        use = "test" if place % 5 == 4 else "training"
        if lines:
            annotation = {"displayName": label}
            labels = {"aiplatform.googleapis.com/ml_use": use}
            rows.append(
                json.dumps(
                    {
                        "imageGcsUri": f"gs://graft/{path}",
                        "classificationAnnotation": annotation,
                        "dataItemResourceLabels": labels,
                    }
                )
            )
        else:
            rows.append(f"{use},gs://graft/{path},{label}")
    return write(root, {"import": "\n".join(rows).encode()}) / "import"


def list_of_files(
    root: Path, header: str, row: Callable[[str, str], list[str]], delimiter: str = ","
) -> Path:
    pictures = flat("pictures/")
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(header.split(","))
    writer.writerows(row(path, label) for path, (_, label) in pictures.items())
    data = text.getvalue().encode("utf-16" if delimiter == ";" else "utf-8")
    return (
        write(root, {"list.csv": data, **{path: each for path, (each, _) in pictures.items()}}) / "list.csv"
    )


def microscope() -> Files:
    files: Files = {}
    for n, label in labelled(0, 5):
        format = "TIFF" if n % 2 else "BMP"
        files[f"{label}/{n}.{format.lower()}"] = encode(Image.open(io.BytesIO(picture(n, label))), format)
    return files


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Pictures and test pictures of each class; None where the test set is drawn."""

    pictures: int = 5
    tests: int | None = None
    classes: tuple[str, str] = (CAT, DOG)


Make = Callable[[Path, Storage], Path]


def tree(make: Callable[[], Files]) -> Make:
    return lambda root, storage: write(root, make())


def archive(make: Callable[[], Files], encoding: str | None = None) -> Make:
    return lambda root, storage: zipped(root, make(), encoding)


LAYOUTS: dict[str, tuple[Make, Expected]] = {
    "class folders": (tree(class_folders), Expected()),
    "a folder that is split": (tree(lambda: split_folders("train", "test")), Expected(pictures=10, tests=5)),
    "TensorFlow Datasets": (
        tree(lambda: split_folders("root/train", "root/validation", "root/test")),
        Expected(pictures=15, tests=5),
    ),
    "Roboflow's folder": (
        tree(lambda: split_folders("train", "valid", "test") | {"README.roboflow.txt": b"x"}),
        Expected(pictures=15, tests=5),
    ),
    "Roboflow's COCO": (
        tree(
            lambda: (
                coco("train/_annotations.coco.json", flat("train/"), strip="train/")
                | coco("test/_annotations.coco.json", flat("test/", 5), strip="test/")
            )
        ),
        Expected(pictures=10, tests=5),
    ),
    "Roboflow's multi-class": (
        tree(lambda: one_hot("train/", "train/_classes.csv", "filename", [CAT, DOG], suffix=".png")),
        Expected(),
    ),
    "COCO": (
        tree(lambda: coco("annotations/instances_train.json", flat("images/"), strip="images/")),
        Expected(),
    ),
    "COCO with small": (
        tree(lambda: coco("annotations/instances_train.json", flat("images/"), strip="images/")),
        Expected(),
    ),
    "Pascal VOC": (tree(voc), Expected()),
    "Pascal VOC with its split": (tree(voc_parts), Expected(tests=2)),
    "Food-101": (
        archive(lambda: with_parts(class_folders("food/images/"), "food/meta/", "{short}")),
        Expected(tests=2),
    ),
    "CUB-200": (tree(numbered_parts), Expected(tests=2)),
    "lists of paths": (
        tree(lambda: with_parts(class_folders(), "", "{path} 3")),
        Expected(tests=2),
    ),
    "folders that are split, in other spelling": (
        tree(
            lambda: {
                name.replace("train/cat", "train/Cat"): data
                for name, data in split_folders("train", "test").items()
            }
        ),
        Expected(pictures=10, tests=5, classes=("Cat", "dog")),
    ),
    "Hugging Face's image folder, CSV": (
        tree(lambda: with_list("metadata.csv", "file_name,label", flat(""))),
        Expected(),
    ),
    "Hugging Face's image folder, JSON": (
        tree(lambda: json_lines("train", 0) | json_lines("test", 5)),
        Expected(pictures=10, tests=5),
    ),
    "Kaggle, names without": (
        tree(
            lambda: {
                name.replace("id-", ""): data.replace(b".png", b"") if name.endswith("csv") else data
                for name, data in with_list("labels.csv", "id,breed", flat("train/"), strip="train/").items()
            }
        ),
        Expected(),
    ),
    "Kaggle, a column": (
        tree(lambda: one_hot("images/", "train.csv", "image_id", ["Healthy", "Rust"], suffix="")),
        Expected(classes=("Healthy", "Rust")),
    ),
    "Kaggle, a list beside folders": (
        tree(
            lambda: (
                with_list("train.csv", "id,label", flat("train_images/"), strip="train_images/")
                | {name: data for name, (data, _) in flat("test_images/", 5).items()}
            )
        ),
        Expected(),
    ),
    "Kaggle, a list beside pieces": (
        tree(lambda: with_list("metadata.csv", "image_id,label", flat("part1/") | flat("part2/", 5))),
        Expected(pictures=10),
    ),
    "a list whose paths": (
        archive(lambda: with_list("labels.csv", "file,label", flat("train/") | flat("test/", 5))),
        Expected(pictures=10, tests=5),
    ),
    "Kaggle, class in the file": (
        tree(lambda: {f"train/{label}.{n}.png": picture(n, label) for n, label in labelled(0, 5)}),
        Expected(),
    ),
    "fastai, class in the file": (
        tree(lambda: {f"images/{label}_a_{n}.png": picture(n, label) for n, label in labelled(0, 5)}),
        Expected(classes=("cat_a", "dog_a")),
    ),
    "fastai, list": (
        tree(lambda: with_list("labels.csv", "name,label", flat("train/3/"))),
        Expected(),
    ),
    "Vertex AI's import file, CSV": (
        lambda root, storage: vertex(root, storage, lines=False),
        Expected(tests=1),
    ),
    "Vertex AI's import file, JSON": (
        lambda root, storage: vertex(root, storage, lines=True),
        Expected(tests=1),
    ),
    "Label Studio's CSV": (
        lambda root, storage: list_of_files(
            root, "image,id,choice,annotator", lambda path, label: [path, "1", label, "7"]
        ),
        Expected(),
    ),
    "Label Studio's JSON": (tree(label_studio), Expected()),
    "CVAT for images": (tree(cvat), Expected()),
    "SageMaker Ground Truth": (tree(manifest), Expected()),
    "FiftyOne's classification": (tree(fiftyone), Expected()),
    "Teachable Machine": (
        archive(
            lambda: (
                {"manifest.json": b"{}"}
                | {f"{label}-!-{n}.png": picture(n, label) for n, label in labelled(0, 5)}
            )
        ),
        Expected(),
    ),
    "a spreadsheet": (
        lambda root, storage: list_of_files(root, "Nr,Foto,Art", lambda path, label: ["1", path, label], ";"),
        Expected(),
    ),
    "arrays as Keras": (
        lambda root, storage: npz(root, [("x_train", "y_train", 0), ("x_test", "y_test", 5)]),
        Expected(pictures=10, tests=5),
    ),
    "arrays as MedMNIST": (
        lambda root, storage: npz(
            root,
            [(f"{part}_images", f"{part}_labels", 5 * n) for n, part in enumerate(("train", "val", "test"))],
            column=True,
        ),
        Expected(pictures=15, tests=5),
    ),
    "a folder of single arrays": (lambda root, storage: npy(root), Expected()),
    "a zip from a Mac": (
        archive(
            lambda: (
                class_folders("animals/")
                | {"__MACOSX/animals/cat/._0.png": b"\0\5\x16\7", "animals/.DS_Store": b"Bud1"}
            )
        ),
        Expected(),
    ),
    "a zip from a Chinese": (
        archive(
            lambda: {
                name.replace(CAT, "猫").replace(DOG, "狗"): data for name, data in class_folders().items()
            },
            "gbk",
        ),
        Expected(classes=("狗", "猫")),
    ),
    "pictures of a microscope": (tree(microscope), Expected()),
}
ROWS = re.findall(
    r"^\| ([^|]+) \| [^|]+ \| `(source: [^|]+)` \|$",
    (PROJECT_ROOT / "docs/data.md").read_text(encoding="utf-8"),
    flags=re.MULTILINE,
)


def find_layout(title: str) -> tuple[Make, Expected]:
    [name] = [
        name
        for name in LAYOUTS
        if title.startswith(name)
        and not any(title.startswith(other) and len(other) > len(name) for other in LAYOUTS)
    ]
    return LAYOUTS[name]


def test_the_table_has_every_layout() -> None:
    assert len(ROWS) == len(LAYOUTS) >= 20


@pytest.mark.parametrize(("title", "yaml"), ROWS, ids=[title for title, _ in ROWS])
def test_a_public_layout_becomes_a_dataset_version(tmp_path: Path, title: str, yaml: str) -> None:
    storage = storage_in(tmp_path)
    make, expected = find_layout(title)
    uri = make(tmp_path / "data", storage)
    value = parse_yaml(f"name: toys\ndataset:\n  {yaml.replace('DATA', str(uri))}\n")
    assert isinstance(value, dict)
    result = fetch_and_clean(Classifier.from_dict(value), storage)[1]
    assert result.classes == dict.fromkeys(sorted(expected.classes), expected.pictures)
    assert result.rejected == {}
    info = read_info(dataset_folder(storage).version(result.version))
    if expected.tests is not None:
        assert info.test == dict.fromkeys(info.classes, expected.tests)
