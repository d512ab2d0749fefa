"""A figure that cross-validation estimates, and the values of the parameters that it is of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from pipeline.artifacts.record import Record

Setting: TypeAlias = bool | int | float | str | None  # a value of a parameter


def show_setting(value: Setting) -> str:
    """Return a value for people: a number with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate(Record):
    """A figure and its standard error."""

    value: float
    error: float

    @property
    def line(self) -> str:
        """The figure with its standard error."""
        return f"{self.value:.4f} ± {self.error:.4f}"
