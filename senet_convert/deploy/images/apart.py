"""Pictures decoded in a process of their own, whose time, memory and pixels are bounded.

For what cannot be measured before it is decoded: AVIF and JPEG 2000, whose parsers take the whole file, and headers so
large that reading them would cost too much. Starting the process takes some tenths of a second.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np

from ...errors import ConvertError
from .images import WALL, Image, TooManyPixelsError, decode

SECONDS = 4  # of CPU time, whatever the picture; the start takes some tenths
_SECONDS_PER_BYTE = 0.5e-6  # besides; JPEG 2000 needs 0.2e-6
_PATIENCE = 64  # a header may cost so many times what it may cost beside others
_BYTES = 24  # a pixel, in memory at once: YUV of 16 bits, the decoder's own, R G B
_BASE = 256 << 20  # bytes, whatever the picture
_MOST_SECONDS = 15
_SLOWEST = 4  # seconds of waiting for one of CPU time, on a busy machine
_NAME = "the picture"
_BROKEN, _LARGE, _MEMORY = 1, 2, 3  # exit codes
_SHAPE = struct.Struct("<III")


class TooCostlyError(ConvertError):
    """Decoding took more than it may."""


def decode_apart(data: bytes, channels: int, max_pixels: int) -> Image:
    """As `images.decode`. Raises TooCostlyError, ConvertError."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OPENBLAS_NUM_THREADS": "1",  # each would reserve memory
        WALL: str(max_pixels),
    }
    seconds = math.ceil(min(_MOST_SECONDS, SECONDS + len(data) * _SECONDS_PER_BYTE))
    slow = f"{_NAME} takes longer than {seconds} s to decode"
    command = [sys.executable, "-m", __name__, str(channels), str(max_pixels), str(seconds)]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter
            command, input=data, capture_output=True, env=environment, timeout=seconds * _SLOWEST, check=False
        )
    except subprocess.TimeoutExpired:
        raise TooCostlyError(slow) from None
    if done.returncode == 0:
        shape = _SHAPE.unpack_from(done.stdout)
        return np.frombuffer(done.stdout, np.uint8, offset=_SHAPE.size).reshape(shape)
    if done.returncode == _BROKEN:
        raise ConvertError(done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2])
    if done.returncode == _LARGE:
        raise TooCostlyError(f"{_NAME} has more than {max_pixels:,} pixels")
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise TooCostlyError(slow)
    raise TooCostlyError(f"{_NAME} takes more memory to decode than one of {max_pixels:,} pixels does, or is broken")


def _limit(max_pixels: int, seconds: int) -> None:
    """From here on; what the interpreter and its libraries have reserved by now is theirs."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + _BASE + _BYTES * max_pixels
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> int:
    """The process: a picture at stdin, its shape and pixels at stdout; or what is wrong with it at stderr."""
    channels, max_pixels, seconds = map(int, sys.argv[1:])
    data = sys.stdin.buffer.read()
    _limit(max_pixels, seconds)
    try:
        picture = decode(data, _NAME, channels, _PATIENCE)
    except TooManyPixelsError:
        return _LARGE
    except ConvertError as fault:
        sys.stderr.write(f"\n{fault}\n")
        return _BROKEN
    except MemoryError:
        return _MEMORY
    sys.stdout.buffer.write(_SHAPE.pack(*picture.shape) + picture.tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
