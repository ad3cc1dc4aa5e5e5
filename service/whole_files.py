"""Files of the data folder that others read while they are written."""

from pathlib import Path

FILE_MODE = 0o600


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that others wait for: it appears with all its content, for its owner alone."""
    fresh = path.with_suffix(".new")
    fresh.touch(mode=FILE_MODE)
    fresh.write_bytes(content)
    fresh.replace(path)
