"""The recommendation: the one-standard-error rule on paired differences, less what choosing gains.

Breiman, Friedman, Olshen and Stone (Classification and Regression Trees, 1984, section 3.4.3) take the
simplest model whose error is within one standard error of the least one. Here the cheapest to serve is taken,
and the standard error is that of the difference to the best model on the same pictures. The least of many
equal log losses is small by chance, so that this optimism is taken off the difference first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.artifacts.model_comparison import ComparedOption

SAME_COST = 1.1  # CPU times that differ by less are equal: they are measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A recommended option, and why in one sentence."""

    option: ComparedOption
    sentence: str


def choose(options: Sequence[ComparedOption], optimism: float) -> Choice:
    """Choose the cheapest option that the pictures do not tell from the best one.

    Of equally cheap ones the present model is kept; without it, the least log loss decides.

    Args:
        options: What was compared.
        optimism: By how much the least log loss is too small, being the least.
    """
    best = min(options, key=lambda option: option.cross_validated.log_loss.value)
    close = [option for option in options if option is best or _is_close(option, optimism)]
    limit = SAME_COST * min(option.cpu_ms for option in close)
    cheap = [option for option in close if option.cpu_ms <= limit]
    chosen = min(cheap, key=lambda option: (not option.is_present, option.cross_validated.log_loss.value))
    verb = f"Keep {chosen.name}, the present model" if chosen.is_present else f"Take {chosen.name}"
    if len(options) == 1:
        reason = "there is no other option"
    elif chosen is best:
        reason = _explain_best(len(options), num_close=len(close))
    else:
        reason = _explain_cheaper(chosen, best, len(options), optimism)
    return Choice(option=chosen, sentence=f"{verb}: {reason}.")


def _is_close(option: ComparedOption, optimism: float) -> bool:
    behind = option.cross_validated.behind
    return behind.value - optimism <= behind.error


def _explain_best(num_options: int, *, num_close: int) -> str:
    others = "no other option is" if num_close == 1 else "no cheaper option is"
    return f"it has the least log loss of {num_options} options, and {others} within one standard error"


def _explain_cheaper(chosen: ComparedOption, best: ComparedOption, num_options: int, optimism: float) -> str:
    behind = chosen.cross_validated.behind
    text = f"its log loss is {behind.value:.4f} above the least of {num_options} options, that of {best.name}"
    text += f", and that is within one standard error ({behind.error:.4f})"
    if behind.value > behind.error:
        text += f" and the gain of choosing the least ({optimism:.4f})"
    if chosen.cpu_ms * SAME_COST < best.cpu_ms:
        return f"{text}, at {chosen.cpu_ms / best.cpu_ms:.0%} of the CPU time per picture"
    return f"{text}, so the training pictures do not tell the two apart"
