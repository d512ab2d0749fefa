"""Write a dataset version: its manifest, what it is as a whole, and cards for people and machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from pipeline.artifacts.dataset import DatasetInfo, SplitSettings, read_info, write_info
from pipeline.artifacts.manifest import ManifestRow, format_manifest
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.preprocess.cards.attribution import UNKNOWN, escape_markdown, render_attribution
from pipeline.preprocess.cards.croissant import build_croissant
from pipeline.preprocess.cards.page import render_page
from pipeline.preprocess.split import TEST, TRAIN


def describe_version(
    rows: Sequence[ManifestRow],
    classes: Sequence[str],
    warnings: Sequence[str],
    *,
    version: str,
    classifier: Classifier,
    run_id: str,
    requests: int,
    method: str,
) -> DatasetInfo:
    """Return a version as a whole; `method` is how it was split."""
    kept = [row for row in rows if row.split is not None]
    sides = Counter((row.label, row.split) for row in kept)
    reasons = Counter(row.reason for row in rows if row.reason is not None)
    return DatasetInfo(
        dataset=classifier.name,
        version=version,
        classes=list(classes),
        pictures={label: sides[label, TRAIN] + sides[label, TEST] for label in classes},
        train={label: sides[label, TRAIN] for label in classes},
        test={label: sides[label, TEST] for label in classes},
        rejected=dict(sorted(reasons.items())),
        source=classifier.dataset.describe_sources(),
        split=SplitSettings(**{**classifier.dataset.split.model_dump(mode="json"), "method": method}),
        run_id=run_id,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        warnings=list(warnings),
        found=len(rows),
        licenses=dict(sorted(Counter(row.provenance.license or UNKNOWN for row in kept).items())),
        mix=dict(sorted(Counter(row.provenance.origin for row in kept).items())),
        requests=requests,
        bits=classifier.dataset.bits,
    )


def write_version(
    workspace: Workspace, info: DatasetInfo, rows: Sequence[ManifestRow], *, decisions: bytes | None = None
) -> DatasetInfo:
    """Write the version unless it is there.

    `dataset.json` comes last: a folder without it was left by a killed run and is written again.

    Returns:
        The version as it is stored; that of the run which made it, if it was there.
    """
    storage, dataset = workspace.storage, workspace.dataset(info.dataset)
    folder = dataset.version(info.version)
    if storage.exists(folder.info):
        return read_info(folder)
    manifest = format_manifest(rows)
    storage.write_bytes(folder.manifest, manifest)
    storage.write_json(folder.croissant, build_croissant(info, rows, manifest, folder))
    storage.write_bytes(folder.attribution, render_attribution(info, rows).encode())
    storage.write_bytes(folder.page, render_page(workspace, info, rows).encode())
    storage.write_bytes(folder.card, render_card(info, rows).encode())
    if decisions is not None:
        storage.write_bytes(folder.decisions, decisions)
    write_info(info, folder)
    return info


def render_card(info: DatasetInfo, rows: Sequence[ManifestRow]) -> str:
    """Return the dataset card as Markdown."""
    decided = Counter(row.decision for row in rows if row.decision is not None)
    lines = [
        f"# {info.dataset}, version {info.version}",
        "",
        f"Made {info.created_at} by run `{info.run_id}` from a `{info.source['type']}` source"
        + (f", {info.source['uri']}." if "uri" in info.source else "."),
        f"Split: {info.split.method}, test fraction {info.split.test_fraction}, seed {info.split.seed}.",
        "",
        "| class | label | pictures | training | test |",
        "|---|---|---|---|---|",
        *(
            f"| {index} | {escape_markdown(label)} | {info.pictures[label]} | {info.train[label]} "
            f"| {info.test[label]} |"
            for index, label in enumerate(info.classes)
        ),
        "",
        "Kept out: " + (", ".join(f"{n} {reason}" for reason, n in info.rejected.items()) or "none") + ".",
        "",
        "Licences: " + ", ".join(f"{escape_markdown(name)} ({n})" for name, n in info.licenses.items()) + ".",
        "",
        *(f"Decided: {n} {escape_markdown(decision)}.\n" for decision, n in sorted(decided.items())),
        *(f"* Data gate: {escape_markdown(reason)}." for reason in info.expect.reasons),
        *(f"* Note: {escape_markdown(warning)}." for warning in info.warnings),
        "",
        "With contact sheets: `card.html`. Who made the pictures: `ATTRIBUTION.md`. For machines: "
        "`croissant.json` (Croissant 1.0), `manifest.jsonl`.",
    ]
    return "\n".join(lines).rstrip() + "\n"
