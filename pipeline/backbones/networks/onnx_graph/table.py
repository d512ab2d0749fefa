"""All operations that are converted, by their names in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from pipeline.backbones.networks.onnx_graph.algebra import ALGEBRA
from pipeline.backbones.networks.onnx_graph.elementwise import ELEMENTWISE
from pipeline.backbones.networks.onnx_graph.node import Node
from pipeline.backbones.networks.onnx_graph.shaping import SHAPING
from pipeline.backbones.networks.onnx_graph.spatial import SPATIAL
from pipeline.backbones.networks.onnx_graph.values import Value

Operation: TypeAlias = Callable[[Node], Value | tuple[Value, ...]]
OPERATIONS: dict[str, Operation] = {**ALGEBRA, **ELEMENTWISE, **SHAPING, **SPATIAL}
# What knows constants by itself: their sizes may hold the batch, or they are only passed on.
OF_CONSTANTS = frozenset("Constant ConstantOfShape Dropout Expand Identity Reshape Shape Tile".split())
