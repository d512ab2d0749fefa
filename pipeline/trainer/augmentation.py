"""Fixed augmentations: each picture is altered K times, always in the same way.

The altered picture depends on the augmentation's number, the seed and the picture alone, so its features are
cached like any others: the network sees it once, not in each epoch anew.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.types import BytesIds, UInt8Image, UInt8Images

RECIPE = "flip, crop 0.8 to 1, brightness 0.75 to 1.25; 1"  # change its number when the pixels change
_SMALLEST_CROP = 0.8
_BRIGHTNESS = (0.75, 1.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """One way to alter every picture.

    Args:
        number: From 1.
        seed: Of all augmentations.
    """

    number: int
    seed: int

    @property
    def digest(self) -> str:
        """Names the cache of the altered pictures' features."""
        return hashlib.sha256(f"{RECIPE} {self.seed} {self.number}".encode()).hexdigest()[:16]

    def __call__(self, pixels: UInt8Images, ids: BytesIds) -> UInt8Images:
        """Return the pictures altered.

        Shapes:
            pixels: (num_images, height, width, 3).  ids: (num_images,).  returns: as pixels.
        """
        return np.stack([self._alter(picture, bytes(id)) for picture, id in zip(pixels, ids, strict=True)])

    def _alter(self, picture: UInt8Image, id: bytes) -> UInt8Image:
        key = hashlib.sha256(f"{self.seed} {self.number} ".encode() + id).digest()
        random = np.random.default_rng(list(key))
        if random.random() < 0.5:
            picture = picture[:, ::-1]
        height, width = picture.shape[:2]
        side = random.uniform(_SMALLEST_CROP, 1)
        top, left = random.uniform(0, 1 - side, 2) * (height, width)
        box = (left, top, left + side * width, top + side * height)
        image = Image.fromarray(np.ascontiguousarray(picture))
        resized = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
        bright = np.asarray(resized, np.float32) * np.float32(random.uniform(*_BRIGHTNESS))
        altered: UInt8Image = np.clip(bright.round(), 0, 255).astype(np.uint8)
        return altered


def make_augmentations(number: int, seed: int) -> list[Augmentation]:
    """Return that many augmentations; none of them leaves the pictures as they are."""
    return [Augmentation(number=index, seed=seed) for index in range(1, number + 1)]
