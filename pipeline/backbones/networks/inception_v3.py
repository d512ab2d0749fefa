"""InceptionV3 as Keras's application lays it out; convolutions are numbered in the order they are made."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from pipeline.backbones.networks.layers import Layers

V = TypeVar("V")


class _Builder(Generic[V]):
    def __init__(self, layers: Layers[V]) -> None:
        self.layers = layers
        self._numbers = count()

    def conv(
        self,
        value: V,
        filters: int,
        rows: int,
        columns: int,
        *,
        strides: int = 1,
        padding: Literal["same", "valid"] = "same",
    ) -> V:
        name = f"conv{next(self._numbers):02d}"
        return self.layers.conv(
            value, name, filters, (rows, columns), strides=strides, padding=padding, activation="relu"
        )

    def chain(self, value: V, *steps: tuple[int, int, int]) -> V:
        for filters, rows, columns in steps:
            value = self.conv(value, filters, rows, columns)
        return value

    def pooled(self, value: V, filters: int) -> V:
        return self.conv(self.layers.average_pool(value), filters, 1, 1)


def inception_v3(layers: Layers[V], pixels: V) -> V:
    """Lay out the network from scaled pixels to 2048 pooled features."""
    net = _Builder(layers)
    value = _stem(net, pixels)
    for pool_filters in (32, 64, 64):
        value = _grid_35(net, value, pool_filters)
    value = _shrink_to_17(net, value)
    for filters in (128, 160, 160, 192):
        value = _grid_17(net, value, filters)
    value = _shrink_to_8(net, value)
    for _ in range(2):
        value = _grid_8(net, value)
    return layers.global_average(value)


def _stem(net: _Builder[V], pixels: V) -> V:
    value = net.conv(pixels, 32, 3, 3, strides=2, padding="valid")
    value = net.conv(value, 32, 3, 3, padding="valid")
    value = net.layers.max_pool(net.conv(value, 64, 3, 3))
    value = net.conv(value, 80, 1, 1, padding="valid")
    return net.layers.max_pool(net.conv(value, 192, 3, 3, padding="valid"))


def _grid_35(net: _Builder[V], value: V, pool_filters: int) -> V:
    ones = net.conv(value, 64, 1, 1)
    fives = net.chain(value, (48, 1, 1), (64, 5, 5))
    threes = net.chain(value, (64, 1, 1), (96, 3, 3), (96, 3, 3))
    return net.layers.concat([ones, fives, threes, net.pooled(value, pool_filters)])


def _shrink_to_17(net: _Builder[V], value: V) -> V:
    threes = net.conv(value, 384, 3, 3, strides=2, padding="valid")
    double = net.chain(value, (64, 1, 1), (96, 3, 3))
    double = net.conv(double, 96, 3, 3, strides=2, padding="valid")
    return net.layers.concat([threes, double, net.layers.max_pool(value)])


def _grid_17(net: _Builder[V], value: V, filters: int) -> V:
    ones = net.conv(value, 192, 1, 1)
    sevens = net.chain(value, (filters, 1, 1), (filters, 1, 7), (192, 7, 1))
    double = net.chain(value, (filters, 1, 1), (filters, 7, 1), (filters, 1, 7), (filters, 7, 1), (192, 1, 7))
    return net.layers.concat([ones, sevens, double, net.pooled(value, 192)])


def _shrink_to_8(net: _Builder[V], value: V) -> V:
    threes = net.conv(net.conv(value, 192, 1, 1), 320, 3, 3, strides=2, padding="valid")
    sevens = net.chain(value, (192, 1, 1), (192, 1, 7), (192, 7, 1))
    sevens = net.conv(sevens, 192, 3, 3, strides=2, padding="valid")
    return net.layers.concat([threes, sevens, net.layers.max_pool(value)])


def _grid_8(net: _Builder[V], value: V) -> V:
    ones = net.conv(value, 320, 1, 1)
    threes = net.conv(value, 384, 1, 1)
    threes = net.layers.concat([net.conv(threes, 384, 1, 3), net.conv(threes, 384, 3, 1)])
    double = net.chain(value, (448, 1, 1), (384, 3, 3))
    double = net.layers.concat([net.conv(double, 384, 1, 3), net.conv(double, 384, 3, 1)])
    return net.layers.concat([ones, threes, double, net.pooled(value, 192)])
