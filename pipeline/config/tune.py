"""`model.tune`: what a study varies, and how it looks for the best values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from pipeline.config.problems import show, suggest
from pipeline.config.strict import Strict
from pipeline.types import JsonDict, JsonValue

WHOLE = ("epochs", "batch_size", "head.units", "early_stopping.patience", "augmentation.views")
REAL = ("learning_rate", "validation_fraction")
WORDS = ("class_weights", "calibration")
TUNABLE = (*REAL, *WHOLE, *WORDS)
OF_EPOCHS = frozenset(  # what logistic regression has no use for
    (*REAL, "epochs", "batch_size", "head.units", "early_stopping.patience")
)
OF_OUR_HEADS = frozenset(("head.units", "calibration"))  # what a head that a file builds has no use for
MAX_VALUES = 1000
Value: TypeAlias = bool | int | float | str


class RangeConfig(Strict):
    """Numbers from one to another."""

    min: float = Field(description="The smallest value.")
    max: float = Field(description="The largest value.")
    scale: Literal["linear", "log"] = Field(
        "linear",
        description="`log`: from 0.001 to 0.01 there are as many values as from 0.01 to 0.1.",
    )

    @model_validator(mode="after")
    def _the_range_is_one(self) -> RangeConfig:
        if self.min >= self.max:
            raise ValueError(f"the range is upside down: `min` {self.min:g} is not below `max` {self.max:g}")
        if self.scale == "log" and self.min <= 0:
            raise ValueError(f"`scale: log` takes only values above 0, and `min` is {self.min:g}")
        return self


def _tag_choice(value: JsonValue | RangeConfig) -> str:
    return "values" if isinstance(value, list | tuple) else "range"


Choice: TypeAlias = Annotated[
    Annotated[RangeConfig, Tag("range")]
    | Annotated[tuple[Value, ...], Tag("values"), Field(min_length=2, max_length=MAX_VALUES)],
    Discriminator(_tag_choice),
]


class TuneConfig(Strict):
    """A study: heads with other parameters are cross-validated, and the best parameters train."""

    parameters: dict[str, Choice] = Field(
        description="What is varied, by its key below `model`: a list of values, or a section with `min`, "
        "`max` and `scale`.",
    )
    trials: int = Field(30, ge=1, le=1000, description="How many combinations are tried at most.")
    parallel: int = Field(1, ge=1, le=100, description="How many are tried at the same time at most.")
    goal: Literal["loss", "accuracy"] = Field(
        "loss", description="What decides, cross-validated on the training pictures."
    )
    search: Literal["bayesian", "random", "grid"] = Field(
        "bayesian",
        description="`bayesian`: a model of the trials so far proposes the next one. `random`. `grid`: every "
        "combination of lists and whole numbers.",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Another seed makes another study.")

    @field_validator("parameters", mode="before")
    @classmethod
    def _names_are_known(cls, value: JsonValue) -> JsonValue:
        if not isinstance(value, Mapping):
            return value
        if not value:
            raise ValueError(f"name at least one of {', '.join(TUNABLE)}")
        if unknown := next((str(name) for name in value if name not in TUNABLE), None):
            raise ValueError(f"`{unknown}` cannot be tuned{_hint(unknown)}; what can: {', '.join(TUNABLE)}")
        return value

    @field_validator("parameters")
    @classmethod
    def _values_can_be_tried(cls, value: dict[str, Choice]) -> dict[str, Choice]:
        for name, choice in value.items():
            if isinstance(choice, RangeConfig):
                _check_range(name, choice)
            elif len({_number(each) for each in choice}) < len(choice):
                raise ValueError(f"`{name}` has a value twice; give each once")
        return value

    @model_validator(mode="after")
    def _a_grid_has_points(self) -> TuneConfig:
        endless = [name for name in REAL if isinstance(self.parameters.get(name), RangeConfig)]
        if self.search == "grid" and endless:
            raise ValueError(
                f"`search: grid` needs a list of values of {', '.join(f'`{name}`' for name in endless)}"
            )
        return self

    def check_model(self, model: type[BaseModel], section: Mapping[str, JsonValue]) -> None:
        """Check that the section `model` may have each value that could be tried.

        Raises:
            ValueError: naming the first parameter that it cannot have.
        """
        first = {name: _ends(choice)[0] for name, choice in self.parameters.items()}
        for name, choice in self.parameters.items():
            for value in _ends(choice):
                _check_value(model, section, {**first, name: value}, name)


def _hint(name: str) -> str:
    if (below := name.removeprefix("model.")) in TUNABLE:
        return f" (did you mean `{below}`? Names are those below `model`)"
    within = [each for each in TUNABLE if name in (each.partition(".")[0], each.rpartition(".")[2])]
    return f" (did you mean `{within[0]}`?)" if within else suggest(name, TUNABLE)


def _number(value: Value) -> Value:
    """Return a value as a number, if it is one: YAML takes `1e-3` for text."""
    try:
        return float(value)
    except ValueError:
        return value


def _check_range(name: str, choice: RangeConfig) -> None:
    if name in WORDS:
        raise ValueError(f"`{name}` has no range; give a list of its values")
    if name in WHOLE and not (choice.min.is_integer() and choice.max.is_integer()):
        raise ValueError(
            f"`{name}` is a whole number, so `min` and `max` are. Received: {choice.min:g} to {choice.max:g}"
        )


def _ends(choice: Choice) -> tuple[Value, ...]:
    return (choice.min, choice.max) if isinstance(choice, RangeConfig) else choice


def _check_value(
    model: type[BaseModel], section: Mapping[str, JsonValue], values: Mapping[str, Value], name: str
) -> None:
    try:
        model.model_validate(with_values(section, values))
    except ValidationError as error:
        problem = error.errors()[0]
        text = problem["msg"].removeprefix("Value error, ")
        raise ValueError(f"`parameters.{name}` may not be {show(values[name])}: {text}") from error


def with_values(section: Mapping[str, JsonValue], values: Mapping[str, Value]) -> JsonDict:
    """Return a section with other values, by dotted keys below it."""
    changed: JsonDict = dict(section)
    for name, value in values.items():
        outer, _, inner = name.rpartition(".")
        if outer:
            changed[outer] = {**changed.get(outer, {}), inner: value}
        else:
            changed[inner] = value
    return changed
