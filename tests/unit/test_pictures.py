"""What is made of a stranger's picture, and what is refused; by the decoder itself, and in its own process."""

import asyncio
import io
import os
import random
import signal
from pathlib import Path

import pytest
from PIL import Image

from actors.picture import process
from actors.picture.clean import clean, is_more_than_a_picture
from actors.picture.kinds import BadPicture, PictureKind, PictureLimits, kind_of
from actors.picture.process import cleaned_apart
from actors.picture.wire import CleanPicture
from tests import pictures
from tests.patience import PATIENCE_S
from tests.pictures import HOSTILE, SECRET, drawn, encoded, gif, jpeg, png, telling_jpeg, telling_png, webp

LIMITS = PictureLimits()
SCARCE = PictureLimits(memory_max=96 << 20, cpu_s=5)
"""Enough to refuse anything at all: what a file claims is never taken for granted."""


def made(content: bytes, *, limits: PictureLimits = LIMITS) -> CleanPicture:
    return clean(content, kind_of(content, limits=limits), limits=limits)


def opened(picture: CleanPicture) -> Image.Image:
    image = Image.open(io.BytesIO(picture.content))
    image.load()
    return image


# -- what is made --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "media_type"),
    [(jpeg(), "image/jpeg"), (webp(), "image/jpeg"), (png(), "image/png"), (gif(), "image/png")],
    ids=["jpeg", "webp", "png", "gif"],
)
def test_every_kind_that_is_taken_becomes_the_same_picture_anew(content: bytes, media_type: str) -> None:
    picture = made(content)
    assert (picture.media_type, picture.width, picture.height) == (media_type, 40, 30)
    image = opened(picture).convert("RGB")
    for x, red, blue in ((5, 200, 20), (35, 20, 200)):
        r, _, b = image.getpixel((x, 15))  # type: ignore[misc]
        assert abs(r - red) < 60 and abs(b - blue) < 60
    assert made(content) == picture


@pytest.mark.parametrize("content", [telling_jpeg(), telling_png()], ids=["jpeg", "png"])
def test_nothing_that_was_hidden_in_a_picture_survives(content: bytes) -> None:
    assert SECRET.encode() in content
    picture = made(content)
    image = opened(picture)
    assert not image.getexif() and "icc_profile" not in image.info and "comment" not in image.info
    assert all(SECRET.encode()[at : at + 8] not in picture.content for at in range(len(SECRET) - 8))
    assert len(picture.content) < len(content)


def test_what_was_hidden_in_the_last_bits_of_a_photograph_does_not_survive_as_it_was() -> None:
    hidden = encoded(Image.frombytes("RGB", (64, 64), random.Random(1).randbytes(64 * 64 * 3)), "JPEG", quality=95)
    assert made(hidden).content != hidden


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (7, 3)), (6, (3, 0)), (8, (0, 7)), (2, (7, 0))])
def test_a_picture_is_turned_as_the_camera_was_held(orientation: int, corner: tuple[int, int]) -> None:
    image = Image.new("RGB", (8, 4))
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = opened(made(encoded(image, "PNG", exif=exif.tobytes())))
    assert turned.size == ((4, 8) if orientation in (6, 8) else (8, 4))
    assert turned.getpixel(corner) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_form_of_pixels_is_read(mode: str) -> None:
    image = Image.new("I;16", (40, 30), 40_000) if mode == "I;16" else drawn(mode=mode)
    picture = made(encoded(image, "PNG"))
    assert opened(picture).mode in ("L", "RGB", "RGBA")
    if mode == "I;16":
        assert opened(picture).getpixel((1, 1)) == 40_000 // 256
    assert opened(made(encoded(drawn(mode="CMYK"), "JPEG"))).mode == "RGB"


def test_what_was_seen_through_stays_so() -> None:
    image = drawn(mode="RGBA")
    image.putpixel((0, 0), (1, 2, 3, 0))
    assert opened(made(encoded(image, "PNG"))).getpixel((0, 0)) == (1, 2, 3, 0)
    assert made(encoded(image, "WEBP", lossless=True)).media_type == "image/png"


def test_a_drawing_that_would_be_too_large_becomes_a_photograph() -> None:
    noise = Image.frombytes("RGBA", (128, 128), random.Random(2).randbytes(128 * 128 * 4))
    limits = PictureLimits(bytes_max=45_000)
    picture = made(encoded(noise, "WEBP", quality=50), limits=limits)
    assert (picture.media_type, opened(picture).mode) == ("image/jpeg", "RGB")
    assert len(picture.content) <= limits.bytes_max


def test_a_broken_note_about_how_it_was_held_breaks_no_picture() -> None:
    assert made(jpeg(exif=b"Exif\0\0II*\0\xff\xff\xff\xff")).width == 40


def test_what_cameras_put_behind_a_picture_is_left_out_and_refuses_nothing() -> None:
    film = b"\0\0\0\x18ftypmp42" + bytes(1_000)
    assert made(jpeg() + film) == made(jpeg() + jpeg(seed=3)) == made(jpeg())


def test_chance_makes_no_polyglot() -> None:
    assert not is_more_than_a_picture(random.Random(3).randbytes(1 << 22))


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_with_its_code_and_little_memory(kind: str) -> None:
    content, code = HOSTILE[kind]
    assert len(content) < 200_000
    with pytest.raises(BadPicture) as refused:
        made(content)
    assert refused.value.code == code


async def test_the_worst_of_them_are_refused_in_a_process_that_may_take_next_to_nothing() -> None:
    for kind in (
        "points that fill a screen's wall",
        "a text of sixteen megabytes, packed",
        "a chunk that claims a gigabyte",
    ):
        content, code = HOSTILE[kind]
        with pytest.raises(BadPicture) as refused:
            await cleaned_apart(content, limits=SCARCE)
        assert refused.value.code == code, kind


def test_a_file_above_the_bound_is_refused_before_it_is_looked_at() -> None:
    with pytest.raises(BadPicture) as refused:
        kind_of(jpeg() + bytes(11 << 20), limits=LIMITS)
    assert (refused.value.code, refused.value.facts) == ("picture_too_large", {"bytes_max": 10 << 20})


@pytest.mark.parametrize("name", ["x.jpg", "x.svg"])
def test_no_name_makes_a_picture(name: str) -> None:
    with pytest.raises(BadPicture) as refused:
        kind_of(name.encode() + pictures.SVG, limits=LIMITS)
    assert refused.value.code == "picture_kind"


# -- in a process of its own ---------------------------------------------------------------------------------


async def test_the_process_makes_what_the_decoder_makes() -> None:
    assert await cleaned_apart(telling_jpeg(), limits=LIMITS) == made(telling_jpeg())


async def test_a_picture_that_takes_more_memory_than_it_may_is_refused() -> None:
    large = encoded(Image.new("RGB", (4_900, 5_000)), "PNG")
    with pytest.raises(BadPicture) as refused:
        await cleaned_apart(large, limits=SCARCE)
    assert refused.value.code == "picture_too_hard"


@pytest.mark.parametrize("child", ["silent", "busy"])
async def test_a_process_that_takes_too_long_is_ended(
    child: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LANG", str(tmp_path / "pid"))  # one of the few words that the process is given
    limits = PictureLimits(wall_s=1.0 if child == "silent" else PATIENCE_S, cpu_s=1)
    with pytest.raises(BadPicture) as refused:
        await cleaned_apart(jpeg(), limits=limits, child=f"tests.bad_decoders.{child}")
    assert refused.value.code == "picture_too_hard"


async def test_a_request_that_is_given_up_leaves_no_process_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = tmp_path / "pid"
    monkeypatch.setenv("LANG", str(told))
    work = asyncio.create_task(cleaned_apart(jpeg(), limits=LIMITS, child="tests.bad_decoders.silent"))
    async with asyncio.timeout(PATIENCE_S):
        while not told.exists() or not told.read_text():
            await asyncio.sleep(0.05)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), signal.SIGCONT)


@pytest.mark.parametrize("says", ["garbage", "endless_line", "too_much", "other_type", "short", "nothing"])
async def test_a_process_that_was_taken_over_is_believed_nothing(says: str) -> None:
    with pytest.raises(BadPicture) as refused:
        await cleaned_apart(jpeg(), limits=PictureLimits(wall_s=60.0), child=f"tests.bad_decoders.{says}")
    assert refused.value.code == "picture_too_hard"


def test_the_process_is_given_none_of_the_services_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", "11" * 32)
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    assert set(process._environment()) <= {*process.PASSED_ON, "PYTHONPATH"}


def test_each_kind_is_decoded_by_its_own_decoder_alone() -> None:
    with pytest.raises(BadPicture) as refused:
        clean(png(), PictureKind.JPEG, limits=LIMITS)
    assert refused.value.code == "picture_broken"
