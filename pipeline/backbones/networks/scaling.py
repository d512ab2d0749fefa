"""How levels of 0 to 255 become what a network of the user's own was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """A scaling of levels.

    Args:
        mean: Subtracted from each channel.
        std: Divides what is left.
        reverse: Whether blue comes first then.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    reverse: bool = False

    def apply(self, pixels: tf.Tensor) -> tf.Tensor:
        """Return scaled pixels.

        Shapes:
            pixels: (batch, height, width, 3) uint8.  returns: the same, float32.
        """
        levels = tf.cast(pixels, tf.float32)
        scaled = (levels - tf.constant(self.mean)) / tf.constant(self.std)
        return tf.reverse(scaled, [-1]) if self.reverse else scaled

    @classmethod
    def of_fractions(cls, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Scaling:
        """Return the scaling that a mean and a std of channels between 0 and 1 give."""
        red, green, blue = (255 * value for value in mean)
        return cls(mean=(red, green, blue), std=(255 * std[0], 255 * std[1], 255 * std[2]))


SCALINGS = {
    "levels": Scaling(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    "unit": Scaling(mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0)),
    "symmetric": Scaling(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5)),
    "imagenet": Scaling.of_fractions((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": Scaling(mean=(123.68, 116.779, 103.939), std=(1.0, 1.0, 1.0), reverse=True),
}
