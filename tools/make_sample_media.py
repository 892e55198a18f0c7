"""Makes the sandbox's sample outputs from ffmpeg's generated test picture.

Run it once where ffmpeg with libx264 is installed; the results are package data:

    python tools/make_sample_media.py

Nothing but the test picture and a test tone goes in, so the samples are free of anyone's rights.
The script refuses a result that is over the limit or that does not decode from end to end.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

TARGET: Final = Path(__file__).resolve().parent.parent / "relay" / "sandbox" / "media"

BYTES_MAX: Final = 20_000
"""The samples travel in every wheel and image."""

PICTURE: Final = "testsrc=size=320x180:rate=12:duration=3"
TONE: Final = "sine=frequency=440:sample_rate=22050:duration=3"

VIDEO: Final = (
    *("-f", "lavfi", "-i", PICTURE, "-f", "lavfi", "-i", TONE),
    # Baseline, 4:2:0 and AAC play in every browser and chat client; faststart puts the index
    # first, so that playing starts before the download ends.
    *("-c:v", "libx264", "-profile:v", "baseline", "-pix_fmt", "yuv420p", "-preset", "veryslow"),
    *("-crf", "34", "-g", "36", "-c:a", "aac", "-b:a", "12k", "-ac", "1"),
    *("-movflags", "+faststart", "-shortest"),
)
IMAGE: Final = ("-f", "lavfi", "-i", PICTURE, "-frames:v", "1", "-pix_fmt", "pal8")

REPRODUCIBLE: Final = (
    *("-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-threads", "1"),
)
"""The same ffmpeg makes the same bytes: no dates, no encoder versions, one thread."""


def run(program: str, *arguments: str) -> None:
    """Run ``program`` quietly; its errors reach the terminal. Raises ``SystemExit`` where it is missing."""
    path = shutil.which(program)
    if path is None:
        raise SystemExit(f"{program} is not installed: apt-get install ffmpeg")
    subprocess.run((path, "-hide_banner", "-loglevel", "error", *arguments), check=True)  # noqa: S603


def make(name: str, arguments: tuple[str, ...]) -> None:
    """Make one sample and prove that it decodes and is small enough."""
    path = TARGET / name
    run("ffmpeg", "-y", *arguments, *REPRODUCIBLE, str(path))
    run("ffmpeg", "-xerror", "-i", str(path), "-f", "null", "-")
    size = path.stat().st_size
    if size > BYTES_MAX:
        raise SystemExit(f"{path} has {size} bytes; the limit is {BYTES_MAX}")
    sys.stdout.write(f"{path}: {size} bytes\n")


if __name__ == "__main__":
    TARGET.mkdir(exist_ok=True)
    make("sample.mp4", VIDEO)
    make("sample.png", IMAGE)
