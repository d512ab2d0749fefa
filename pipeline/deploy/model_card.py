"""The model card: front matter as the Hugging Face hub reads it, and a page for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import yaml

from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.folders import DatasetVersionFolder, JobDirectory
from pipeline.artifacts.manifest import Manifest
from pipeline.artifacts.model_record import DatasetReference, Lineage
from pipeline.artifacts.training import CrossValidation, TrainingRecord
from pipeline.config import Classifier
from pipeline.config.model import ModelConfig
from pipeline.errors import ObjectNotFound
from pipeline.evaluate.report import evaluation_report
from pipeline.preprocess.cards.attribution import escape_markdown

TAGS = ("image-classification", "transfer-learning", "tensorflow", "saved-model", "graft")


def count_licences(dataset: DatasetVersionFolder) -> dict[str, int]:
    """Return how many of a dataset version's pictures are under which licence, the most frequent first."""
    rows = Manifest(dataset).rows(("license", "split"))
    kept = (row.provenance.license or "not stated" for row in rows if row.split is not None)
    return dict(Counter(kept).most_common())


def read_cross_validation(job: JobDirectory) -> CrossValidation | None:
    """Return what a training job found by retraining; None where it left no record, or none of that."""
    try:
        return TrainingRecord.read(job).cross_validation
    except ObjectNotFound:
        return None


LOADING = """## How to load it

```python
import tensorflow as tf

model = tf.saved_model.load("path/to/this/directory")
answer = model.signatures["keyed"](key=tf.constant(["a"]), inputs=tf.constant([open("a.jpg", "rb").read()]))
print(answer["label"].numpy(), answer["score"].numpy())
```
"""


def model_card(
    classifier: Classifier,
    lineage: Lineage,
    evaluation: Evaluation,
    *,
    weights_license: str,
    licences: Mapping[str, int],
    cross_validation: CrossValidation | None = None,
) -> str:
    """Return the Markdown card of a version.

    Args:
        classifier: The classifier as the run had it.
        lineage: What the version is made of.
        evaluation: How it did.
        weights_license: Licence of the backbone's weights.
        licences: Training and test pictures by licence.
        cross_validation: How retrained heads do.
    """
    return f"""{front_matter(classifier, evaluation, lineage.dataset, weights_license)}
# {classifier.name}

{classifier.description or "An image classifier."}

## Intended use

Telling {", ".join(map(escape_markdown, lineage.dataset.classes))} apart
in single pictures like those it was trained on. It knows no other class: any picture gets one of these
labels{_rejection(classifier)}. It has not been judged for decisions about people.

## Limits

* The figures below hold for pictures like the test pictures; [report.html](report.html) has them by
  class, source and size, the worst mistakes, and the labels that are in doubt.
* Probabilities are those of the softmax{_calibration(classifier)}; the report's reliability diagram shows how
  far to trust them.

{_provenance(classifier, lineage, weights_license)}

{_table("class", lineage.dataset.classes)}

{_table("licence", licences)}

## How it did

{evaluation_report(evaluation, lineage.gate)}
{_retraining(cross_validation)}
{LOADING}"""


def _table(kind: str, counts: Mapping[str, int]) -> str:
    rows = "\n".join(f"| {escape_markdown(name)} | {count} |" for name, count in counts.items())
    return f"| {kind} | pictures |\n| --- | --- |\n{rows}"


def front_matter(
    classifier: Classifier, evaluation: Evaluation, dataset: DatasetReference, weights_license: str
) -> str:
    """Return the YAML block with which a card on the Hugging Face hub begins."""
    metrics = evaluation.candidate
    values = {"accuracy": metrics.accuracy, "f1": metrics.scores.get("macro_f1")}
    about = {
        "license": weights_license.lower(),
        "library_name": "tensorflow",
        "pipeline_tag": "image-classification",
        "tags": list(TAGS),
        "base_model": classifier.model.backbone_name,
        "datasets": [dataset.dataset],
        "metrics": [name for name, value in values.items() if value is not None],
        "model-index": [
            {
                "name": classifier.name,
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": {
                            "type": "imagefolder",
                            "name": dataset.dataset,
                            "revision": dataset.version,
                            "split": "test",
                        },
                        "metrics": [
                            {"type": name, "value": round(value, 6)}
                            for name, value in values.items()
                            if value is not None
                        ],
                    }
                ],
            }
        ],
    }
    return f"---\n{yaml.safe_dump(about, sort_keys=False, allow_unicode=True)}---\n"


def _provenance(classifier: Classifier, lineage: Lineage, weights_license: str) -> str:
    model, dataset, training = classifier.model, lineage.dataset, lineage.training
    state = _describe_finetuning(model)
    return f"""## What it is made of

* Run: `{lineage.run_id}`, training job `{training.job}`
* Backbone: {model.backbone_name}, weights `{training.weights_uri}` ({weights_license}), {state}
* Head: {_describe_head(model)}, seed {model.seed}
* Code: `{training.package_uri}`
* Dataset version: `{dataset.version}` (`{dataset.uri}`: each picture's source and licence)"""


def _describe_head(model: ModelConfig) -> str:
    if model.head.kind == "logistic":
        return "logistic regression on normalised features"
    head = f"`{model.head.module}`" if model.head.module else f"{model.head.units} units"
    return f"{head}, {model.epochs} epochs"


def _calibration(classifier: Classifier) -> str:
    is_calibrated = classifier.model.calibration == "temperature" and not classifier.model.head.module
    return ", calibrated by one temperature on training pictures" if is_calibrated else ""


def _retraining(cross_validation: CrossValidation | None) -> str:
    return f"\nCross-validation: {cross_validation.line}.\n" if cross_validation else ""


def _rejection(classifier: Classifier) -> str:
    below, unlike = classifier.serving.reject_below, classifier.serving.reject_unlike
    thresholds = ", ".join(
        f"{value:g} for {escape_markdown(label)}" for label, value in classifier.serving.thresholds.items()
    )
    reasons = [f"below a probability of {below:g}"] if below else []
    reasons += [f"below a probability of {thresholds}"] if thresholds else []
    reasons += [f"above a novelty of {unlike:g}"] if unlike else []
    return f", or none {' or '.join(reasons)}" if reasons else ""


def _describe_finetuning(model: ModelConfig) -> str:
    if model.finetune is None or model.finetune.blocks == 0:
        return "frozen"
    return f"fine-tuned (`blocks: {model.finetune.blocks}`)"
