from __future__ import annotations

import asyncio
import io

import pytest

from pipeline.engine.serving.wire import Frame, read_frame, read_frame_blocking

FRAMES = [Frame({"id": 1}), Frame({"id": 2, "kind": "é"}, b"\x00\xff" * 70_000)]
BYTES = b"".join(frame.to_bytes() for frame in FRAMES)


def test_frames_come_out_as_they_went_in_on_both_sides():
    file = io.BytesIO(BYTES)
    assert [read_frame_blocking(file) for _ in range(3)] == [*FRAMES, None]

    async def read():
        stream = asyncio.StreamReader()
        stream.feed_data(BYTES)
        stream.feed_eof()
        found = [await read_frame(stream) for _ in FRAMES]
        with pytest.raises(asyncio.IncompleteReadError):
            await read_frame(stream)
        return found

    assert asyncio.run(read()) == FRAMES


@pytest.mark.parametrize("size", [0, 3, 8, 10, len(BYTES) // 2])
def test_a_frame_cut_off_is_the_end(size):
    file = io.BytesIO(FRAMES[1].to_bytes()[:size])
    assert read_frame_blocking(file) is None
