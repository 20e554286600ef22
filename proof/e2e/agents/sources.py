"""Synthetic media of the Python participant: a tone and a moving pattern."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
from livekit import rtc

RATE = 48_000
FRAME_SECONDS = 0.02
PATTERN_FRAMES = 30


class Source:
    """Something that is sent: `start` when its track exists, `stop` when it is taken back."""

    def __init__(self) -> None:
        self.track: rtc.LocalAudioTrack | rtc.LocalVideoTrack
        self._task: asyncio.Task[None] | None = None

    def start(self, track: rtc.LocalAudioTrack | rtc.LocalVideoTrack) -> None:
        """Begins to feed the track."""
        self.track = track
        self._task = asyncio.create_task(self._feed())

    async def stop(self) -> None:
        """Ends the feeding."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _feed(self) -> None:
        raise NotImplementedError


class Microphone(Source):
    """A steady tone, so that silence is always somebody's fault."""

    def __init__(self, hertz: float) -> None:
        super().__init__()
        self.source = rtc.AudioSource(RATE, 1, queue_size_ms=200)
        self.hertz = hertz

    async def _feed(self) -> None:
        samples = int(RATE * FRAME_SECONDS)
        position = 0
        while True:
            phase = (position + np.arange(samples)) * (2 * np.pi * self.hertz / RATE)
            tone = (np.sin(phase) * 9_000).astype(np.int16)
            await self.source.capture_frame(rtc.AudioFrame(tone.tobytes(), RATE, 1, samples))
            position += samples


class Camera(Source):
    """A bright bar that moves over a gradient; the U plane carries the sender's hue."""

    def __init__(self, width: int, height: int, fps: int, hue: int, is_screen: bool) -> None:
        super().__init__()
        self.source = rtc.VideoSource(width, height, is_screencast=is_screen)
        self.width, self.height, self.fps = width, height, fps
        gradient = np.tile(np.linspace(40, 160, width, dtype=np.uint8), (height, 1))
        u = np.full((height // 2) * (width // 2), hue, np.uint8).tobytes()
        v = np.full((height // 2) * (width // 2), 128, np.uint8).tobytes()
        self._pictures: list[bytes] = []
        for step in range(PATTERN_FRAMES):
            luma = gradient.copy()
            left = step * width // PATTERN_FRAMES
            luma[:, left : left + width // 12] = 230
            self._pictures.append(luma.tobytes() + u + v)

    async def _feed(self) -> None:
        clock = asyncio.get_running_loop()
        due = clock.time()
        number = 0
        while True:
            picture = self._pictures[number % PATTERN_FRAMES]
            frame = rtc.VideoFrame(self.width, self.height, rtc.VideoBufferType.I420, picture)
            self.source.capture_frame(frame)
            number += 1
            due += 1 / self.fps
            await asyncio.sleep(max(0.0, due - clock.time()))
