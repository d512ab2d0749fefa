"""Write a dataset version: its manifest, what it is as a whole, and a card for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from pipeline.config import Classifier
from pipeline.datasets.manifest import (
    DatasetInfo,
    ManifestRow,
    read_dataset_info,
    read_latest_version,
    version_uri,
    write_manifest,
)
from pipeline.preprocess.split import TEST, TRAIN
from pipeline.storage import Storage


def write_version(
    rows: Sequence[ManifestRow],
    classes: Sequence[str],
    warnings: Sequence[str],
    *,
    version: str,
    classifier: Classifier,
    storage: Storage,
    workspace: str,
    run_id: str,
) -> DatasetInfo:
    """Write the version unless it is there, then let `latest.json` name it.

    `dataset.json` comes last: a folder without it was left by a killed run and is written again.

    Returns:
        What the version is; that of the run which made it, if it was there.
    """
    folder = version_uri(workspace, classifier.name, version)
    if storage.exists(f"{folder}/dataset.json"):
        info = read_dataset_info(storage, workspace, classifier.name, version)
    else:
        info = _describe(rows, classes, warnings, version=version, classifier=classifier, run_id=run_id)
        write_manifest(rows, f"{folder}/manifest.jsonl", storage)
        storage.write_bytes(f"{folder}/README.md", render_card(info, rows).encode())
        storage.write_json(f"{folder}/dataset.json", info.to_dict())
    if read_latest_version(storage, workspace, classifier.name) != version:
        storage.write_json(f"{workspace}/datasets/{classifier.name}/latest.json", {"version": version})
    return info


def _describe(
    rows: Sequence[ManifestRow],
    classes: Sequence[str],
    warnings: Sequence[str],
    *,
    version: str,
    classifier: Classifier,
    run_id: str,
) -> DatasetInfo:
    sides = Counter((row.label, row.split) for row in rows)
    reasons = Counter(row.reason for row in rows if row.reason is not None)
    return DatasetInfo(
        dataset=classifier.name,
        version=version,
        classes=list(classes),
        pictures={label: sides[label, TRAIN] + sides[label, TEST] for label in classes},
        train={label: sides[label, TRAIN] for label in classes},
        test={label: sides[label, TEST] for label in classes},
        rejected=dict(sorted(reasons.items())),
        source=classifier.dataset.source.model_dump(mode="json", exclude_none=True),
        split=classifier.dataset.split.model_dump(mode="json"),
        run_id=run_id,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        warnings=list(warnings),
    )


def render_card(info: DatasetInfo, rows: Sequence[ManifestRow]) -> str:
    """Return the dataset card as Markdown."""
    licences = Counter(row.license or "not stated" for row in rows if row.split is not None)
    lines = [
        f"# {info.dataset}, version {info.version}",
        "",
        f"Made {info.created_at} by run `{info.run_id}` from a `{info.source['type']}` source"
        + (f", {info.source['uri']}." if "uri" in info.source else "."),
        f"Split: {info.split['method']}, test fraction {info.split['test_fraction']}, "
        f"seed {info.split['seed']}.",
        "",
        "| class | label | pictures | training | test |",
        "|---|---|---|---|---|",
        *(
            f"| {index} | {label} | {info.pictures[label]} | {info.train[label]} | {info.test[label]} |"
            for index, label in enumerate(info.classes)
        ),
        "",
        "Kept out: " + (", ".join(f"{n} {reason}" for reason, n in info.rejected.items()) or "none") + ".",
        "",
        "Licences: " + ", ".join(f"{name} ({n})" for name, n in sorted(licences.items())) + ".",
        "",
        *(f"* Note: {warning}." for warning in info.warnings),
    ]
    return "\n".join(lines).rstrip() + "\n"
