from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.model_comparison import ModelComparison
from pipeline.cli import compare as module
from pipeline.config import read_classifier
from pipeline.storage import Storage
from tests.fakes.comparison import run_equal_options
from tests.fakes.ml_engine import FakeMLEngine
from tests.fakes.pictures import fetch_and_clean, folder_of

Graft = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[4]
YAML = """\
name: toys  # of the shelf
dataset:
  source: {{type: folder, uri: {folder}}}

# what is trained
model:
  epochs: 3
  # many
  head:
    units: 16

gate: {{min_accuracy: 0.5}}  # low
"""
SEEDS = f"model.seed={','.join(map(str, range(1, 20)))}"
KEPT_APART = {  # the only modules that can read a comparison: no report, card, gate or page of a version
    "pipeline/compare/choice.py",
    "pipeline/compare/comparison.py",
    "pipeline/compare/estimates.py",
    "pipeline/compare/options.py",
    "pipeline/compare/parts.py",
    "pipeline/compare/written_choice.py",
    "pipeline/cli/compare.py",
    "pipeline/report/model_comparison.py",
}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeMLEngine:
    engine = FakeMLEngine(run_equal_options)
    monkeypatch.setattr(module, "require_stack", dict)
    monkeypatch.setattr(module, "connect_engine", lambda status: engine)
    return engine


@pytest.fixture
def toys(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a classifier of 48 pictures that has a dataset version."""
    path = tmp_path / "yaml" / "toys.yaml"
    path.parent.mkdir()
    path.write_text(YAML.format(folder=folder_of(tmp_path / "toys", {"ant": 24, "cat": 24})))
    monkeypatch.setenv("GRAFT_CLASSIFIERS", str(path.parent))
    fetch_and_clean(read_classifier(path), Storage.from_environment())
    return path


@pytest.mark.usefixtures("toys", "engine")
class TestTwentyEqualOptions:
    """The best of equal options is the best by chance: its figures are too good to be a test's."""

    @pytest.fixture
    def documents(self, graft: Graft, home: Path, toys: Path) -> dict[str, str]:
        """Everything that a comparison writes and prints, by name."""
        command = ("compare", "toys", "--backbone", "efficientnet_lite0", "--head", "dense", "--param", SEEDS)
        printed, as_json = graft(*command, "--write"), graft(*command, "--json")
        assert (printed.code, as_json.code) == (0, 0)
        (page,) = home.rglob("comparison.html")
        return {
            "text": printed.stdout,
            "section": as_json.document["yaml"],
            "json": as_json.stdout,
            "page": page.read_text(),
            "yaml": toys.read_text(),
        }

    def test_the_winners_figure_is_nowhere_its_test_accuracy(
        self, documents: dict[str, str], graft: Graft
    ) -> None:
        storage = Storage.from_environment()
        stored = ModelComparison.read(storage, "gs://graft/classifiers/toys/comparison.json")
        assert len(stored.options) == 20
        winner = stored.options[0].cross_validated
        assert winner.accuracy.value > 0.7  # the selection effect is there: each is right with 0.7
        for name, text in documents.items():
            said = re.sub(r"not the accuracy on test pictures, which only a run measures", "", text)
            assert not re.search(r"\btest(ed)?[ _-]?(accuracy|pictures?)\b", said, re.IGNORECASE), name
        for name in ("text", "page"):
            assert re.search(r"CV accuracy|accuracy, cross-validated", documents[name])
            assert "not the accuracy on test pictures, which only a run measures" in " ".join(
                documents[name].split()
            )

    def test_in_json_every_figure_is_under_cross_validated(
        self, documents: dict[str, str], graft: Graft
    ) -> None:
        document = graft(
            "compare",
            "toys",
            "--backbone",
            "efficientnet_lite0",
            "--head",
            "dense",
            "--param",
            SEEDS,
            "--json",
        ).document
        places = list(keys_with(document, ("accuracy", "log_loss", "ece")))
        assert len(places) == 3 * 20
        assert all(re.fullmatch(r"options\.\d+\.cross_validated\.\w+", place) for place in places)

    def test_the_yaml_has_no_figure(self, documents: dict[str, str]) -> None:
        assert not re.search(r"\d\.\d{2}", documents["yaml"] + documents["section"])

    def test_the_optimism_of_the_choice_is_told(self, documents: dict[str, str]) -> None:
        (told,) = re.findall(r"too good by about (\d\.\d+)", " ".join(documents["text"].split()))
        assert float(told) > 0

    def test_only_the_comparison_itself_reads_it(self) -> None:
        readers = set()
        for path in [*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
            modules = {
                node.module
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.ImportFrom)
            }
            if "pipeline.artifacts.model_comparison" in modules:
                readers.add(path.relative_to(ROOT).as_posix())
        assert readers == KEPT_APART


def keys_with(value: Any, names: tuple[str, ...], path: str = "") -> Iterator[str]:
    """Yield the dotted places of keys of these names."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        place = f"{path}.{key}".lstrip(".")
        if key in names:
            yield place
        yield from keys_with(inner, names, place)


@pytest.mark.usefixtures("toys")
class TestCommand:
    def test_one_job_a_backbone_reads_training_pictures_only(
        self, graft: Graft, engine: FakeMLEngine
    ) -> None:
        names = ("--backbone", "efficientnet_lite0", "--head", "dense", "--head", "logistic")
        done = graft("compare", "toys", *names)
        assert done.code == 0, done.stderr
        (job,) = engine.jobs.values()
        assert job["labels"] == {"classifier": "toys", "step": "compare"}
        assert job["trainingInput"]["pythonModule"] == "pipeline.trainer.comparison"
        assert not list(Storage.from_environment().list_uris("gs://graft/tests/"))
        table = done.stdout.splitlines()
        assert table[0].split() == ["option", "CV", "accuracy", "log", "loss", "ECE", "CPU", "ms"]
        assert {line[2:].split("   ")[0] for line in table[1:3]} == {
            "efficientnet_lite0 dense",
            "efficientnet_lite0 logistic",
        }
        assert "the present model is efficientnet_lite0 dense" in done.stdout

    def test_the_same_comparison_again_runs_no_job_unless_its_folder_was_swept(
        self, graft: Graft, engine: FakeMLEngine, home: Path
    ) -> None:
        command = ("compare", "toys", "--backbone", "efficientnet_lite0", "--json")
        first, second = graft(*command).document, graft(*command).document
        assert len(engine.jobs) == 1
        assert first["options"] == second["options"]
        (record,) = home.rglob("jobs/*/comparison.json")
        record.unlink()
        assert graft(*command).code == 0
        assert len(engine.jobs) == 2

    def test_the_choice_is_printed_and_written_without_touching_other_lines(
        self,
        graft: Graft,
        engine: FakeMLEngine,
        toys: Path,
        home: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        engine.run_job = lambda job: run_equal_options(job, seed=4)
        command = ("compare", "toys", "--backbone", "efficientnet_lite0", "--param", "epochs=7,9")
        before = toys.read_text()
        document = graft(*command, "--json").document
        assert toys.read_text() == before
        assert not document["chosen"].endswith("dense"), "this seed is one whose choice is another model"
        with monkeypatch.context() as terminal:
            terminal.setenv("COLUMNS", "20")
            terminal.setattr("sys.stdout.isatty", lambda: True)
            assert document["yaml"].rstrip() in graft(*command).stdout  # to be pasted, so it is not wrapped
        written = graft(*command, "--write")
        assert "graft run toys" in written.stdout
        after = toys.read_text()
        assert document["yaml"] in after
        (page,), (section,) = (
            [path.read_text() for path in home.rglob(f"comparison.{kind}")] for kind in ("html", "yaml")
        )
        assert section == document["yaml"]
        assert f"<pre>{escape(section)}</pre>" in page
        for line in ("name: toys  # of the shelf", "# what is trained", "gate: {min_accuracy: 0.5}  # low"):
            assert line in after.splitlines()
        assert read_classifier(toys).model.head.units == 16

    def test_a_model_that_was_changed_meanwhile_is_not_overwritten(
        self, graft: Graft, engine: FakeMLEngine, toys: Path
    ) -> None:
        def change_and_run(job: Mapping[str, Any]) -> dict[str, Any]:
            toys.write_text(toys.read_text().replace("epochs: 3", "epochs: 4"))
            return run_equal_options(job, seed=4)

        engine.run_job = change_and_run
        done = graft(
            "compare", "toys", "--backbone", "efficientnet_lite0", "--param", "epochs=7,9", "--write"
        )
        assert done.code == 1
        assert "its `model` is not the one that was compared" in " ".join(done.stderr.split())
        assert "±" in done.stdout, "the table is printed all the same"
        assert read_classifier(toys).model.epochs == 4

    def test_a_failed_job_is_told_with_its_reason(self, graft: Graft, engine: FakeMLEngine) -> None:
        engine.run_job = lambda job: {"state": "FAILED", "errorMessage": "EmptyDataset: too few"}
        done = graft("compare", "toys", "--backbone", "efficientnet_lite0")
        assert done.code == 1
        assert "EmptyDataset: too few" in done.stderr

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--backbone", "resnet"), "There is no backbone 'resnet'"),
            (("--head", "svm"), "--head is one of dense, logistic"),
            (("--param", "epochs"), "--param is KEY=A,B"),
            (("--param", "epochs=[1]"), "--param is KEY=A,B"),
            (("--param", "epochs="), "--param is KEY=A,B"),
            (("--param", "epochs=0,5"), "model.epochs"),
        ],
    )
    def test_a_wrong_command_line_is_named_before_any_job(
        self, graft: Graft, engine: FakeMLEngine, arguments: tuple[str, ...], message: str
    ) -> None:
        done = graft("compare", "toys", *arguments)
        assert done.code == 2
        assert message in done.stderr
        assert engine.jobs == {}


def test_a_classifier_without_a_dataset_version_is_told_how_to_get_one(
    graft: Graft, engine: FakeMLEngine, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiles.yaml").write_text("name: tiles\ndataset: {source: {type: sample}}\n")
    monkeypatch.setenv("GRAFT_CLASSIFIERS", str(tmp_path))
    done = graft("compare", "tiles")
    assert done.code == 1
    assert "graft run tiles" in done.stderr
