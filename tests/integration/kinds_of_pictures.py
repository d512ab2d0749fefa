"""One picture of each kind that the two executions of our pixels must agree on."""

from __future__ import annotations

import numpy as np
from PIL import Image
from skimage import data as photographs

from tests.fakes.pictures import encode
from tests.integration.trainer_pack import tiny_pictures


def pictures() -> list[bytes]:
    cat = Image.fromarray(photographs.chelsea())
    clear = cat.convert("RGBA")
    clear.putalpha(Image.fromarray(np.tile(np.arange(cat.width) % 256, (cat.height, 1)).astype(np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        encode(cat, "JPEG", exif=exif),
        encode(cat.convert("CMYK"), "JPEG"),
        encode(clear, "PNG"),
        encode(clear, "WEBP"),
        encode(cat.convert("P"), "GIF"),
        encode(cat.resize((700, 500)), "JPEG"),
        *(encode(Image.fromarray(picture), "PNG") for picture in tiny_pictures(4)[0]),
    ]
