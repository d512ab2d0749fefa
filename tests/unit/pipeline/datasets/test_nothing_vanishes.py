"""Every file of a source is a row, with a reason if it is refused, or is counted among what was left out."""

from __future__ import annotations

import re
import tempfile
import zipfile
from pathlib import Path

from hypothesis import given, settings, strategies as st

from pipeline.artifacts.dataset import read_info
from pipeline.artifacts.fetch_index import FetchIndex
from pipeline.datasets.fetch import fetch_pictures
from pipeline.datasets.sources.list_names import is_list
from pipeline.errors import DatasetError, PipelineError
from pipeline.preprocess.clean import build_dataset_version
from tests.fakes.pictures import classifier_of, noise, png, storage_in
from tests.fakes.rows import dataset_folder, index_rows, workspace_of

FOLDERS = st.sampled_from(["train", "test", "valid", "cat", "dog", "images", "__MACOSX", ".git", "Känguru"])
BASES = st.sampled_from([*(f"{n}.png" for n in range(8)), "cat.1.png", "Thumbs.db", "._0.png", "notes.txt"])
PATHS = st.tuples(st.lists(FOLDERS, max_size=3), BASES).map(lambda parts: "/".join([*parts[0], parts[1]]))
LABELS = st.sampled_from(["cat", "dog", "owl", ""])
ROWS = st.lists(st.tuples(PATHS, LABELS), max_size=12)
LISTS = st.one_of(
    st.none(),
    st.tuples(st.sampled_from(["labels.csv", "metadata.csv", "images/metadata.csv", "train.csv"]), ROWS),
)
SECTIONS = st.sampled_from([{}, {"classes": ["cat", "dog"]}, {"label_pattern": r"^([a-z]+)\."}])


def files_of(paths: list[str], listed: tuple[str, list[tuple[str, str]]] | None) -> dict[str, bytes]:
    files = {path: b"text" if path.endswith(("db", "txt")) else png(noise(n)) for n, path in enumerate(paths)}
    if listed is not None:
        rows = "".join(f"{path},{label}\n" for path, label in listed[1])
        files[listed[0]] = f"file,label\n{rows}".encode()
    return files


def write_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def write_zip(root: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(root, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return root


def count_left_out(statements: list[str]) -> int:
    """Return how many files the statements account for."""
    total = 0
    for statement in statements:
        if statement.startswith("files left out: "):
            counts = statement.removeprefix("files left out: ").partition(" (")[0]
            total += sum(int(number) for number in re.findall(r"(?:^|, )(\d+) ", counts))
        if statement.startswith("classes left out"):
            total += sum(int(number) for number in re.findall(r"\((\d+)\)", statement))
    return total


@given(
    st.lists(PATHS, unique=True, min_size=4, max_size=25),
    LISTS,
    SECTIONS,
    st.sampled_from(["folder", "archive"]),
)
@settings(max_examples=60, deadline=None)
def test_every_file_is_a_row_or_is_counted(
    paths: list[str],
    listed: tuple[str, list[tuple[str, str]]] | None,
    section: dict[str, object],
    kind: str,
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        storage = storage_in(Path(directory))
        files = files_of(paths, listed)
        write = write_folder if kind == "folder" else write_zip
        classifier = classifier_of(
            {"type": kind, "uri": str(write(Path(directory) / "data", files)), **section}
        )
        try:
            index = fetch_pictures(workspace_of(storage), classifier).index
        except DatasetError:
            return
        rows = index_rows(storage, index)
        statements = list(FetchIndex(storage, [index]).head().statements)
        of_lists = sum(is_list(name) for name in files) - sum(is_list(row.source_url) for row in rows)
        by_name = count_left_out(statements)
        names = [row.source_url for row in rows]
        assert len(set(names)) == len(names)
        assert len(rows) + by_name in (len(files) - of_lists, len(files)), (files.keys(), names, statements)
        try:
            version = build_dataset_version(
                workspace_of(storage), classifier, fetched=[index], run_id="r"
            ).version
        except PipelineError:
            return
        info = read_info(dataset_folder(storage).version(version))
        assert sum(info.pictures.values()) + sum(info.rejected.values()) == info.found == len(rows)
