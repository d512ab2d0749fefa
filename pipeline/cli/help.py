"""The help of a command: its usage in the words of the documentation, and no types beside flags."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from typer.core import TyperCommand, TyperGroup, TyperOption

if TYPE_CHECKING:
    from typer._click.core import Context, Parameter
    from typer._click.formatting import HelpFormatter

_BRACES = re.compile(r"[{}]")
_LINE_BREAK = re.compile(r"(?<!\n)\n(?!\n)")  # within a paragraph
_DOTS = re.compile(r"\.{4,}")  # the name of an argument may have three of its own


class Command(TyperCommand):
    """A command whose usage is `graft run [OPTIONS] NAME`, and whose flags have no `<bool>` beside them."""

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        """Return the parts of the usage; required arguments have no braces, which mark choices elsewhere."""
        return [_DOTS.sub("...", _BRACES.sub("", piece)) for piece in super().collect_usage_pieces(ctx)]

    def get_params(self, ctx: Context) -> list[Parameter]:
        """Return the parameters."""
        return _leave_out_types(super().get_params(ctx))

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the help, each paragraph of it wrapped anew."""
        _brighten()
        self.help = _LINE_BREAK.sub(" ", self.help or "")
        super().format_help(ctx, formatter)


class Group(TyperGroup):
    """Several commands; its flags have no `<bool>` beside them."""

    def invoke(self, ctx: Context) -> object:
        """Run a command; what is wrong with its arguments is then shown in colours that can be read."""
        from typer._click.exceptions import ClickException

        try:
            return super().invoke(ctx)
        except ClickException:
            _brighten()
            raise

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the help."""
        _brighten()
        super().format_help(ctx, formatter)

    def get_params(self, ctx: Context) -> list[Parameter]:
        """Return the parameters."""
        return _leave_out_types(super().get_params(ctx))


def _leave_out_types(params: list[Parameter]) -> list[Parameter]:
    """Say of flags that they take no value."""
    for param in params:
        if isinstance(param, TyperOption) and param.is_flag:
            param.metavar = ""
    return params


def _brighten() -> None:
    """Leave out what is dim and coloured: it cannot be read on a dark terminal."""
    from typer import rich_utils

    rich_utils.STYLE_REQUIRED_LONG = "red"
    rich_utils.STYLE_HELPTEXT = ""
    rich_utils.STYLE_OPTION_DEFAULT = rich_utils.STYLE_ERRORS_SUGGESTION = ""
