"""`python -m ops.freeze`: writes down what every event looks like, once; what is frozen is never written again."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from schemas.codec import decode, encode
from schemas.frozen import ALL_TYPES, LIMIT_TYPES, current_version, sample_of, schema_of
from schemas.limit_codec import decode_limit, encode_limit

FOLDER = Path(__file__).parents[1] / "schemas" / "events"
NEW_VERSION = "give {type} a new version (docs/evolving-events.md), or take the change back"

Types = Mapping[str, type[msgspec.Struct]]


def main() -> int:
    """Freezes what is new, and says what differs from what is frozen; returns 1 when anything does."""
    for path, text in sorted(to_freeze(ALL_TYPES).items()):
        if not (FOLDER / path).exists():
            (FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
            (FOLDER / path).write_bytes(text)
            print(f"froze {path}")
    found = list(differences(ALL_TYPES))
    print(*found, sep="\n", file=sys.stderr) if found else None
    return 1 if found else 0


def to_freeze(types: Types) -> Mapping[str, bytes]:
    """Returns the files of every type's current version, by path: schema, sample, and what older samples become."""
    files: dict[str, bytes] = {}
    for type, event in types.items():
        version = current_version(type)
        files[f"{type}.v{version}.json"] = schema_of(event)
        files[_sample_path(type, version)] = sample_of(event)
        for older in range(1, version):
            if (FOLDER / _sample_path(type, older)).exists():
                files[_read_path(type, older, version)] = read_today(type, older)
    return files


def read_today(type: str, version: int) -> bytes:
    """Reads the sample of a version and writes it as the event is written today; raises `UnknownEvent`."""
    body = (FOLDER / _sample_path(type, version)).read_bytes()
    if type in LIMIT_TYPES:
        return encode_limit(decode_limit(type=type, schema_version=version, body=body)).body
    return encode(decode(type=type, schema_version=version, body=body)).body


def differences(types: Types) -> Iterator[str]:
    """Yields a sentence for each way in which today's events are not what is frozen, with what to do about it."""
    for path, text in to_freeze(types).items():
        type, frozen = path.removeprefix("samples/").partition(".")[0], FOLDER / path
        if not frozen.exists():
            yield f"{path} is not frozen yet: run python -m ops.freeze and commit what it writes"
        elif frozen.read_bytes() != text:
            yield f"{path} differs from today's event: " + NEW_VERSION.format(type=type)
    for type in types:
        for version in range(1, current_version(type)):
            for path in (f"{type}.v{version}.json", _sample_path(type, version)):
                if not (FOLDER / path).exists():
                    yield f"{path} is gone: logs may hold that version, take the file back from the history"
    for file in sorted(FOLDER.glob("*.json")):
        type, _, number = file.stem.partition(".v")
        if type not in types or int(number) > current_version(type):
            yield f"{file.name} is frozen, and no event of today is read by it: what was once written stays readable"


def _sample_path(type: str, version: int) -> str:
    return f"samples/{type}.v{version}.json"


def _read_path(type: str, version: int, current: int) -> str:
    return f"samples/{type}.v{version}.as_v{current}.json"


if __name__ == "__main__":
    sys.exit(main())
