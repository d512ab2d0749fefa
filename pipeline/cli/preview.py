"""`graft dataset preview` and `graft init`: from a place with pictures to a YAML, before any run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.connection import open_workspace
from pipeline.cli.output import JsonOption, UsageError, print_json, print_note, print_text
from pipeline.cli.tables import PathText, WideOption, print_table
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.config import Classifier, Settings
    from pipeline.datasets.fetcher import FetchPolicy
    from pipeline.preprocess.preview import ClassPreview, DatasetPreview
    from pipeline.types import JsonDict

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
LabelOption = Annotated[str | None, typer.Option(metavar="LABEL", help="The class of every picture.")]
ClassesOption = Annotated[
    str | None, typer.Option(metavar="A,B", help="The labels of class 0, of class 1, ... (for NPZ files).")
]
SecondsOption = Annotated[
    float, typer.Option(min=1, metavar="SECONDS", help="Stop looking after so many seconds.")
]
SourceArgument = Annotated[
    str, typer.Argument(metavar="SOURCE", help="A folder, archive, NPZ file, list or page: path or address.")
]


def preview(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE|NAME",
            help="A folder, archive, NPZ file, list or page (path or address), or a classifier.",
        ),
    ],
    label: LabelOption = None,
    classes: ClassesOption = None,
    seconds: SecondsOption = 20.0,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what would become the classes of a source, and what is wrong with it, without a run or a YAML."""
    from pipeline.config import Settings

    classifier = _read_classifier(source, label, classes, Settings())
    result = _preview(classifier, Settings(), seconds)
    print_json(result.to_dict()) if as_json else _print_preview(result, wide=wide)


def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new classifier's name.")],
    source: SourceArgument,
    label: LabelOption = None,
    classes: ClassesOption = None,
    directory: Annotated[
        Path | None,
        typer.Option(metavar="DIRECTORY", help="Where the YAML goes; by default $GRAFT_HOME/classifiers."),
    ] = None,
    seconds: SecondsOption = 20.0,
    as_json: JsonOption = False,
) -> None:
    """Write the YAML of a new classifier from a place with pictures; shows first what they are."""
    from pipeline.config import Settings
    from pipeline.config.new_classifier import create_classifier_file

    settings = Settings()
    _check_name(name, settings)
    classifier = _make_classifier(name, source, label, classes)
    result = _preview(classifier, settings, seconds)
    if not as_json:
        _print_preview(result, wide=False)
    if len(result.classes) < 2:
        raise UsageError(f"{name} was not written: {'; '.join(result.problems)}.")
    target = (directory or settings.own_classifiers).expanduser().absolute()
    try:
        path = create_classifier_file(_write_yaml(classifier, result), target, settings)
    except ConfigError as error:
        raise UsageError(error.message) from error
    print_json({"path": str(path), **result.to_dict()}) if as_json else print_text(f"wrote {path}")
    if target not in settings.classifier_directories:
        print_note(f"Add its directory before `graft up`: export GRAFT_CLASSIFIERS={target}")
    print_note(f"next: graft run {name} (and `graft up` before it, if the stack is not running)")


def _read_classifier(source: str, label: str | None, classes: str | None, settings: Settings) -> Classifier:
    """Return the classifier of this name, else one of the source."""
    from pipeline.config import find_classifier

    if NAME.fullmatch(source) and not Path(source).exists():
        try:
            return find_classifier(source, settings)
        except ConfigError as error:
            if "classifier" not in error.details:
                raise
            raise UsageError(f"there is no {source} here, and {error}") from error
    return _make_classifier("preview", source, label, classes)


def _make_classifier(name: str, source: str, label: str | None, classes: str | None) -> Classifier:
    from pipeline.config import Classifier
    from pipeline.datasets.sources.guess import guess_section
    from pipeline.datasets.sources.presence import find_missing_sources

    storage = open_workspace().storage
    named = [each.strip() for each in (classes or "").split(",") if each.strip()]
    try:
        section = guess_section(storage, source, label=label, classes=named)
        value: JsonDict = {"name": name, "dataset": {"source": section}}
        classifier = Classifier.from_dict(value, origin=source)
    except ConfigError as error:
        raise UsageError(error.message) from error
    missing = [str(each) for each in find_missing_sources(storage, classifier, _policy(classifier))]
    if missing:
        raise UsageError("; ".join(missing).replace("`dataset.source.uri`: ", ""))
    return classifier


def _check_name(name: str, settings: Settings) -> None:
    from pipeline.config import classifier_files

    if not NAME.fullmatch(name):
        raise UsageError(f"a name begins with a letter and has letters, digits and _. Received: {name!r}")
    taken = [path for path in classifier_files(settings) if path.stem == name]
    if taken:
        raise UsageError(f"{name} is the name of {taken[0]}; choose another one.")


def _policy(classifier: Classifier) -> FetchPolicy:
    from pipeline.datasets.fetcher import FetchPolicy

    return FetchPolicy.from_environment(classifier.dataset.fetch)


def _preview(classifier: Classifier, settings: Settings, seconds: float) -> DatasetPreview:
    from pipeline.preprocess.preview import preview_dataset

    return preview_dataset(open_workspace(settings), classifier, _policy(classifier), seconds=seconds)


def _print_preview(preview: DatasetPreview, *, wide: bool) -> None:
    rows = [
        (label, each.pictures, _describe_parts(each), PathText(each.examples[0] if each.examples else ""))
        for label, each in preview.classes.items()
    ]
    if rows:
        print_table(("class", "pictures", "split", "for example"), rows, wide=wide)
    if preview.left_out:
        print_table(("left out", "pictures"), preview.left_out.items(), wide=wide)
    for reason, places in preview.unusable.items():
        print_text(f"  {reason}: {len(places)} of {preview.examined} examined, such as {places[0]}")
    for statement in preview.statements:
        print_text(f"  note: {statement}")
    for problem in preview.problems:
        print_text(f"  problem: {problem}")
    if not preview.is_complete:
        print_note("the time was over before all was seen; --seconds gives it more")


def _describe_parts(preview: ClassPreview) -> str:
    return ", ".join(f"{part} {count}" for part, count in sorted(preview.parts.items())) or "by hash"


def _write_yaml(classifier: Classifier, preview: DatasetPreview) -> str:
    from pipeline.config.new_classifier import write_yaml

    counts = ", ".join(f"{label} {each.pictures}" for label, each in preview.classes.items())
    return write_yaml(classifier.to_dict(), (f"Made by `graft init`; it saw {counts}.", *preview.problems))
