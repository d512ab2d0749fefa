"""The preconditions of requests to the storage API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pipeline.errors import FailedPrecondition, InvalidArgument

NO_OBJECT = 0  # the generation of an object that does not exist
METAGENERATION = 1  # of every object: metadata cannot be changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The preconditions of a request, and the generation it names.

    Args:
        generation: The only generation that is meant, if one is named.
        generation_match: The generation that must be there; 0 is no object.
        generation_not_match: The generation that must not be there.
        metageneration_match: The metageneration that must be there.
        metageneration_not_match: The metageneration that must not be there.
    """

    generation: int | None = None
    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None

    @classmethod
    def read(cls, query: Mapping[str, str], *, source: bool = False) -> Self:
        """Read the query of a request; of a copy's source, whose names begin otherwise."""
        prefix = "ifSource" if source else "if"
        return cls(
            generation=read_number(query, "sourceGeneration" if source else "generation"),
            generation_match=read_number(query, f"{prefix}GenerationMatch"),
            generation_not_match=read_number(query, f"{prefix}GenerationNotMatch"),
            metageneration_match=read_number(query, f"{prefix}MetagenerationMatch"),
            metageneration_not_match=read_number(query, f"{prefix}MetagenerationNotMatch"),
        )

    def check(self, generation: int) -> None:
        """Check the generation that is there.

        Raises:
            FailedPrecondition: if a condition does not hold; `not_modified` if it is one of the "not" kind.
        """
        metageneration = METAGENERATION if generation else NO_OBJECT
        matches = (self.generation_match, generation), (self.metageneration_match, metageneration)
        if any(expected not in (None, actual) for expected, actual in matches):
            raise FailedPrecondition(
                "At least one of the pre-conditions you specified did not hold. "
                f"The generation is {generation}.",
                not_modified=False,
            )
        if self.generation_not_match == generation or self.metageneration_not_match == metageneration:
            raise FailedPrecondition(f"The generation is {generation}, still.", not_modified=True)


def read_number(query: Mapping[str, str], name: str) -> int | None:
    """Return a number of a query; None without it."""
    try:
        return int(query[name]) if name in query else None
    except ValueError as error:
        raise InvalidArgument(f"{name} is a whole number. Received: {query[name]!r}") from error
