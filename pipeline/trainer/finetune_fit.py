"""One run of `keras.Model.fit` that goes on after its last epoch when it is killed and started again."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import keras
import numpy as np

from pipeline.artifacts.training import HeadParameters, History
from pipeline.trainer.finetune_checkpoint import Checkpoint, CheckpointStore
from pipeline.trainer.finetune_model import FinetuneModel, Inputs
from pipeline.trainer.head import (
    balance_classes,
    best_epoch,
    check_loss,
    judge_head,
    log_epoch,
    note_epoch,
)
from pipeline.types import Int64Labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Examples: TypeAlias = "tuple[Inputs, Int64Labels]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What a model is trained on, and how.

    Args:
        inputs: Feature maps or pixels of all pictures of a pack, altered copies last.
        labels: Class index of each.
        rows: Which of them train.
        judges: Which of them judge each epoch; None for none.
        chooses: Whether the epoch of the least validation loss is kept.
        parameters: Epochs, rate, batches, seed, patience and class weights.
        num_classes: Width of the output.
        place: Which of the job's trainings it is, and how many there are.
    """

    inputs: Inputs
    labels: Int64Labels
    rows: NDArray[np.intp]
    judges: NDArray[np.intp] | None
    chooses: bool
    parameters: HeadParameters
    num_classes: int
    place: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What a run of `fit` did.

    Args:
        history: Loss and accuracy of each epoch.
        resumed_after: Epochs that were done before, by this job or an earlier one.
    """

    history: History
    resumed_after: int


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """The batches of all epochs in one row: pictures of all classes mixed, in an order of its own each epoch.

    The order depends on the seed and the epoch alone, so that a resumed run goes on with the same one. Keras
    fetches ahead, even beyond the end of an epoch, so no state may tell which epoch it is.

    Args:
        fit: What trains.
        done: How many epochs an earlier job has done.
    """

    def __init__(self, fit: Fit, done: int) -> None:
        super().__init__()
        self._fit, self._done = fit, done
        self.each_epoch = -(-len(fit.rows) // fit.parameters.batch_size)

    def __len__(self) -> int:
        """Return the number of batches of all epochs."""
        return self.each_epoch * (self._fit.parameters.epochs - self._done)

    def __getitem__(self, number: int) -> Examples:
        """Return a batch."""
        epoch, place = divmod(number, self.each_epoch)
        order = np.random.default_rng([self._fit.parameters.seed, 2, self._done + epoch])
        size = self._fit.parameters.batch_size
        rows = order.permutation(self._fit.rows)[place * size : (place + 1) * size]
        return self._fit.inputs[rows], self._fit.labels[rows]


class EpochEnd(keras.callbacks.Callback):  # type: ignore[misc]
    """Judges each epoch, keeps the best weights, writes the checkpoint and a line to the log, and may stop.

    Args:
        model: What is trained.
        fit: How.
        state: What earlier epochs have left.
        store: Where the checkpoint is kept.
    """

    def __init__(self, model: FinetuneModel, fit: Fit, state: Checkpoint, store: CheckpointStore) -> None:
        super().__init__()
        self._trained, self._fit = model, fit
        self.state, self._store = state, store

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Restore the state of an earlier job; what `fit` does before this moves the random numbers on."""
        if self.state.epochs:
            _assign(changing_variables(self._trained.keras), self.state.now)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Note, judge, keep, log, and stop where patience is at an end."""
        state, fit = self.state, self._fit
        logs = logs or {}
        check_loss(logs["loss"], epoch, fit.parameters, key="model.finetune.learning_rate")
        note_epoch(state.history, "", logs["loss"], logs["accuracy"])
        if fit.judges is not None:
            features = self._trained.pool(fit.inputs[fit.judges])
            loss, accuracy = judge_head(self._trained.head(), features, fit.labels[fit.judges])
            note_epoch(state.history, "val_", loss, accuracy)
        is_best = not fit.chooses or best_epoch(state.history) == epoch + 1
        if is_best:
            state.best = [variable.numpy() for variable in self._trained.keras.trainable_variables]
        behind = epoch + 1 - best_epoch(state.history)
        patience = fit.parameters.patience if fit.chooses else 0
        state.has_ended = epoch + 1 == fit.parameters.epochs or bool(patience and behind >= patience)
        state.now = [variable.numpy() for variable in changing_variables(self._trained.keras)]
        self._store.write(state)
        log_epoch(state.history, fit.parameters.epochs, fit.place)
        self.model.stop_training = state.has_ended


def fit_model(model: FinetuneModel, fit: Fit, store: CheckpointStore) -> Fitted:
    """Train a model, which has the weights of the epoch that is kept afterwards.

    Raises:
        TrainingDiverged: when the loss is no longer a number.
    """
    compile_model(model.keras, fit.parameters.learning_rate)
    state = store.find() or Checkpoint()
    done = state.epochs
    if done:
        logger.info("Going on after epoch %d of %d, which was done before.", done, fit.parameters.epochs)
        _assign(changing_variables(model.keras), state.now)
    if not state.has_ended:
        batches = Batches(fit, done)
        weights = (
            balance_classes(fit.labels[fit.rows], fit.num_classes)
            if fit.parameters.class_weights == "balanced"
            else None
        )
        model.keras.fit(
            batches,
            epochs=fit.parameters.epochs,
            initial_epoch=done,
            steps_per_epoch=batches.each_epoch,
            shuffle=False,  # the batches come mixed, and in an order that a resumed run knows
            class_weight=None if weights is None else dict(enumerate(map(float, weights))),
            callbacks=[EpochEnd(model, fit, state, store)],
            verbose=0,
        )
    _assign(model.keras.trainable_variables, state.best)
    return Fitted(history=state.history, resumed_after=done)


def compile_model(model: keras.Model, learning_rate: float) -> None:
    """Prepare a model for `fit`, its optimiser's state included."""
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # compiling takes longer than so few steps save
    )
    model.optimizer.build(model.trainable_variables)


def changing_variables(model: keras.Model) -> list[keras.Variable]:
    """Return every variable that training changes: weights, the optimiser's, and states of random numbers."""
    seeds = [variable for variable in model.non_trainable_variables if "seed" in variable.path]
    return [*model.trainable_variables, *model.optimizer.variables, *seeds]


def _assign(variables: list[keras.Variable], values: list[NDArray[np.generic]]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
