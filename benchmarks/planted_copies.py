"""Planted copies: how many altered copies join their originals, and which different pictures are merged."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from benchmarks.real_pictures import read_files
from pipeline.artifacts.fingerprint import ImageFingerprint
from pipeline.pixels.host import decode_picture
from pipeline.preprocess.dedup.copies import find_copies, shrink_picture
from pipeline.preprocess.dedup.fingerprint import fingerprint_pixels
from pipeline.preprocess.dedup.grouping import Grouping, Picture, group_pictures

CHOSEN = 60
SECTION = f"""### Planted copies

{CHOSEN} pictures of each set are copied and saved as JPEG of quality 90; each kind of copy is planted
on its own. Counted are the copies that are in the group of their original.

| copies | {{names}} |
|---|{{dashes}}"""

Alter = Callable[[Image.Image], Image.Image]


def crop(share: float) -> Alter:
    """Return what cuts a share off each side."""

    def cut(image: Image.Image) -> Image.Image:
        left, top = round(share * image.width), round(share * image.height)
        return image.crop((left, top, image.width - left, image.height - top))

    return cut


def turn(how: Image.Transpose) -> Alter:
    """Return what flips or turns a picture."""
    return lambda image: image.transpose(how)


def rotate(degrees: float) -> Alter:
    """Return what rotates a picture; its corners become black."""
    return lambda image: image.rotate(degrees, Image.Resampling.BICUBIC)


KINDS: Mapping[str, Alter] = {
    "mirrored": turn(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned by 90 degrees": turn(Image.Transpose.ROTATE_90),
    "turned by 180 degrees": turn(Image.Transpose.ROTATE_180),
    "turned by 270 degrees": turn(Image.Transpose.ROTATE_270),
    "gray": lambda image: image.convert("L").convert("RGB"),
    "4 % cut off each side": crop(0.04),
    "10 % cut off each side": crop(0.1),
    "20 % cut off each side": crop(0.2),
    "mirrored, and 15 % cut off each side": lambda image: crop(0.15)(KINDS["mirrored"](image)),
    "rotated by 5 degrees": rotate(5),
    "rotated by 45 degrees": rotate(45),
}


@dataclass(frozen=True)
class PictureSet:
    """Files of a set by name, with their fingerprints."""

    files: Mapping[str, bytes]
    prints: Sequence[ImageFingerprint]

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> PictureSet:
        """Examine the files."""
        prints = [replace(fingerprint_pixels(decode_picture(data)), id=id) for id, data in files.items()]
        return cls(files, prints)

    def group(self, copies: PictureSet | None = None) -> Grouping:
        """Group the pictures, with planted copies if there are any, as `clean` does."""
        files = {**self.files, **(copies.files if copies else {})}
        prints = [*self.prints, *(copies.prints if copies else ())]
        pairs = find_copies(
            prints,
            lambda id: copies is None or id in copies.files,
            lambda ids: {id: shrink_picture(files[id]) for id in ids},
        )
        return group_pictures([Picture(fingerprint=each) for each in prints], copies=pairs)


def copies_section(names: Sequence[str]) -> str:
    """Return the tables of planted copies."""
    sets = {name: PictureSet.of(read_files(name)) for name in names}
    quoted = [f"`{name}`" for name in names]
    lines = [SECTION.format(names=" | ".join(quoted), dashes="---|" * len(names))]
    for kind, alter in KINDS.items():
        counts = [str(count_joined(pictures, alter)) for pictures in sets.values()]
        lines.append(f"| {kind} | {' | '.join(counts)} |")
    lines += ["", "Pictures that are grouped although nothing was planted:", ""]
    lines += [f"* `{name}`: {describe_merges(pictures)}" for name, pictures in sets.items()]
    return "\n".join(lines)


def count_joined(pictures: PictureSet, alter: Alter) -> int:
    """Return how many of the planted copies are in the group of their original."""
    chosen = np.random.default_rng(0).choice(list(pictures.files), CHOSEN, replace=False)
    copies = {f"copy of {id}": encode(alter(decode(pictures.files[id]))) for id in chosen}
    groups = pictures.group(PictureSet.of(copies)).groups
    return sum(groups[f"copy of {id}"] == groups[id] for id in chosen)


def describe_merges(pictures: PictureSet) -> str:
    """Return the pairs that are grouped."""
    pairs = sorted(merged_pairs(pictures.group()))
    return "; ".join(f"`{one}` and `{other}`" for one, other in pairs) or "none"


def merged_pairs(grouping: Grouping) -> Iterator[tuple[str, str]]:
    """Yield each picture that is in the group of another, with that one."""
    yield from ((group, id) for id, group in grouping.groups.items() if id != group)


def decode(data: bytes) -> Image.Image:
    """Return the picture of a file."""
    return Image.fromarray(decode_picture(data))


def encode(image: Image.Image) -> bytes:
    """Return a picture as a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
