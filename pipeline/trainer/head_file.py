"""Finds the function that builds a custom head in the text of its file, without running it."""

from __future__ import annotations

import ast

from pipeline.errors import ConfigError

BUILDER = "build_head"


def find_builder(data: bytes, *, origin: str) -> str:
    """Return the name of the function that builds a head: `build_head`, or the only function there is.

    Args:
        data: The text of a Python file.
        origin: What it is called in messages.

    Raises:
        ConfigError: if it is no Python, has no such function, or one that does not take two arguments.
    """
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise ConfigError(f"{origin}, line {line}: {getattr(error, 'msg', error)}", module=origin) from error
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    name = BUILDER if BUILDER in functions else next(iter(functions), "")
    if not name or (name != BUILDER and len(functions) > 1):
        listed = ", ".join(functions) or "none"
        raise ConfigError(
            f"{origin} must define `{BUILDER}(feature_width, num_classes)`, which returns a Keras model, or "
            f"that one function alone. Functions found: {listed}",
            module=origin,
        )
    arguments = functions[name].args
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    if not (required <= 2 <= len(positional) or (arguments.vararg and required <= 2)):
        raise ConfigError(
            f"{origin}: `{name}` must take two arguments, the width of the features and the number of "
            f"classes. Received: {name}({ast.unparse(arguments)})",
            module=origin,
        )
    return name
