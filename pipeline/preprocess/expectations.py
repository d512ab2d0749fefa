"""The data gate: a pure decision on what a dataset version may not do unnoticed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.artifacts.dataset import DataOutcome, DatasetInfo, DataVerdict
from pipeline.config import ExpectConfig
from pipeline.preprocess.label_churn import LabelChurn
from pipeline.preprocess.reasons import NOT_QUARANTINE
from pipeline.preprocess.small_classes import list_counts

FEW = 3  # classes with a reason of their own; more of them share one


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the data gate looks at.

    Args:
        pictures: Kept pictures by class.
        found: Pictures that the sources named.
        rejected: Pictures that were not kept, by reason.
        mix: Kept pictures by where they came from.
    """

    pictures: Mapping[str, int]
    found: int
    rejected: Mapping[str, int]
    mix: Mapping[str, int]

    @classmethod
    def of(cls, info: DatasetInfo) -> Snapshot:
        """Return the snapshot of a version."""
        return cls(pictures=info.pictures, found=info.found, rejected=info.rejected, mix=info.mix)


def check_expectations(
    new: Snapshot, old: Snapshot | None, expect: ExpectConfig, *, churn: LabelChurn | None = None
) -> DataVerdict:
    """Hold a dataset version against what is expected of it.

    Args:
        new: The version.
        old: The version before it, None for the first.
        expect: The rules, and what each does when it is broken.
        churn: Labels that changed since the version before.

    Returns:
        Every rule that is broken, and what the strictest of them asks for.
    """
    broken = [
        *_check_counts(new, expect),
        *_check_quarantine(new, expect),
        *(_check_changes(new, old, expect) if old is not None else ()),
        *(_check_labels(churn, expect) if churn is not None else ()),
    ]
    order = list(DataOutcome)
    outcome = max(
        (DataOutcome(getattr(expect, rule)) for rule, _ in broken), key=order.index, default=order[0]
    )
    reasons = tuple(f"{rule} ({getattr(expect, rule)}): {text}" for rule, text in broken)
    return DataVerdict(outcome=outcome, reasons=reasons)


def _check_counts(new: Snapshot, expect: ExpectConfig) -> Iterator[tuple[str, str]]:
    few = {label: count for label, count in new.pictures.items() if count < expect.min_pictures}
    if len(few) > FEW:
        yield (
            "few_pictures",
            f"{len(few)} classes have fewer than {expect.min_pictures} pictures: {list_counts(few)}",
        )
        return
    for label, count in few.items():
        yield "few_pictures", f"{label} has {count} pictures, fewer than {expect.min_pictures}"


def _check_quarantine(new: Snapshot, expect: ExpectConfig) -> Iterator[tuple[str, str]]:
    bad = sum(count for reason, count in new.rejected.items() if reason not in NOT_QUARANTINE)
    if new.found and _is_over(bad / new.found, expect.max_quarantine):
        share, limit = bad / new.found, expect.max_quarantine
        yield "quarantine", f"{bad} of {new.found} pictures ({share:.0%}) were quarantined, over {limit:.0%}"


def _check_changes(new: Snapshot, old: Snapshot, expect: ExpectConfig) -> Iterator[tuple[str, str]]:
    for label, before in old.pictures.items():
        now = new.pictures.get(label, 0)
        if before and not now:
            yield "class_loss", f"{label} vanished; it had {before} pictures"
        elif before and _is_over(1 - now / before, expect.max_class_loss):
            lost, limit = 1 - now / before, expect.max_class_loss
            yield (
                "class_loss",
                f"{label} shrank from {before} to {now} pictures ({lost:.0%}, over {limit:.0%})",
            )
    moved = _distance(new.mix, old.mix)
    if _is_over(moved, expect.max_source_mix):
        grown = max(new.mix, key=lambda name: new.mix[name] - old.mix.get(name, 0))
        limit = expect.max_source_mix
        text = f"{moved:.0%} of the pictures come from other sources than before, over {limit:.0%}"
        yield "source_mix", f"{text}; most from {grown}"


def _check_labels(churn: LabelChurn, expect: ExpectConfig) -> Iterator[tuple[str, str]]:
    if _is_over(churn.share, expect.max_label_churn):
        changed, limit = sum(churn.changed.values()), expect.max_label_churn
        yield (
            "label_churn",
            f"{changed} of {churn.compared} known pictures ({churn.share:.0%}, over {limit:.0%}) changed "
            f"their label: {churn.text}",
        )


def _distance(new: Mapping[str, int], old: Mapping[str, int]) -> float:
    """Return the share of pictures that would have to change their source to make one mix the other."""
    if not new or not old:
        return 0.0
    shares = [{name: count / sum(mix.values()) for name, count in mix.items()} for mix in (new, old)]
    return sum(abs(shares[0].get(name, 0) - shares[1].get(name, 0)) for name in {*new, *old}) / 2


def _is_over(share: float, limit: float) -> bool:
    return share > limit + 1e-9  # 1 - 70 / 100 is a little more than 0.3
