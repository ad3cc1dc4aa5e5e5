"""A clean picture from a stranger's: decoded, and its pixels alone written anew, so that nothing else can be in it.

Pure, but for the memory it takes: it runs in a process that may take only so much. Names, places, cameras, colour
profiles, comments, thumbnails, further frames and bytes behind the end: nothing of them is in what is written.
"""

import io
import re
import warnings
import zipfile
from typing import Final

from PIL import Image

from actors.picture.kinds import BadPicture, PictureKind, PictureLimits
from actors.picture.wire import JPEG, PNG, CleanPicture

QUALITIES: Final = (90, 75, 50, 25)
"""Of a JPEG, one after the other until it is small enough; noise of 25 million pixels fits at 25."""
DEFLATE_LEVEL: Final = 4
"""Of a PNG: at 25 million pixels half the time of level 6, and a twentieth larger."""
_ORIENTATION: Final = 0x0112
_TURNED: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What has to be done to a picture that says it was taken so (EXIF, orientation)."""
_FOREIGN: Final = re.compile(
    rb"%PDF-[0-9]|<(?:html|svg|script|\?php)[\s>]|<!doctype html"
    rb"|Rar!\x1a\x07|7z\xbc\xaf\x27\x1c|\x7fELF[\x01\x02]\x01\x01",
    re.IGNORECASE,
)
"""What other programs look for anywhere in a file. By chance one stands in ten megabytes of picture once in a hundred
thousand times."""


def clean(content: bytes, kind: PictureKind, *, limits: PictureLimits) -> CleanPicture:
    """Decodes one picture of a known kind and writes it anew: photographs as JPEG, drawings as PNG.

    The same bytes always become the same picture. Raises `BadPicture`, and `MemoryError` beyond what the process may
    hold.
    """
    if is_more_than_a_picture(content):
        raise BadPicture("picture_polyglot")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of is refused, or left out
        fresh = _fresh(content, kind, limits)
    return _written(fresh, photograph=kind in (PictureKind.JPEG, PictureKind.WEBP), limits=limits)


def is_more_than_a_picture(content: bytes) -> bool:
    """Says whether another program would find a file of its own in this one, whatever else it is.

    What cameras put behind a picture (a film, a second exposure) is none of that: it is only left out.
    """
    return _FOREIGN.search(content) is not None or zipfile.is_zipfile(io.BytesIO(content))


def _fresh(content: bytes, kind: PictureKind, limits: PictureLimits) -> Image.Image:
    try:
        with Image.open(io.BytesIO(content), formats=(kind.value,)) as image:
            _check_size(image.size, limits)  # what the header claims, before a pixel is decoded
            image.load()
            turned = _TURNED.get(_orientation(image))
            plain = _plain(image)
    except (BadPicture, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise BadPicture("picture_pixels", pixels_max=limits.pixels_max) from None
    except Exception:  # a decoder fed by a stranger may raise anything at all
        raise BadPicture("picture_broken") from None
    fresh = Image.new(plain.mode, plain.size)
    fresh.paste(plain)
    plain.close()
    return fresh.transpose(turned) if turned is not None else fresh


def _check_size(size: tuple[int, int], limits: PictureLimits) -> None:
    width, height = size
    if not width or not height:
        raise BadPicture("picture_broken")
    if width * height > limits.pixels_max:
        raise BadPicture("picture_pixels", pixels_max=limits.pixels_max)
    if max(width, height) > limits.side_max:
        raise BadPicture("picture_pixels", side_max=limits.side_max)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception:  # broken notes about a picture are no broken picture
        return 1


def _plain(image: Image.Image) -> Image.Image:
    """Returns the pixels in one of four plain forms: grey or coloured, seen through or not."""
    if image.mode.startswith("I"):  # 16 bits of grey: the upper eight are what anybody sees
        return image.convert("I").point(lambda value: value / 256).convert("L")
    see_through = "A" in image.getbands() or "transparency" in image.info
    if image.mode in ("L", "1") and not see_through:
        return image.convert("L")
    return image.convert("RGBA" if see_through else "RGB")


def _written(fresh: Image.Image, *, photograph: bool, limits: PictureLimits) -> CleanPicture:
    if fresh.mode == "RGBA" or not photograph:
        content = _encoded(fresh, "PNG", compress_level=DEFLATE_LEVEL)
        if len(content) <= limits.bytes_max:
            return CleanPicture(content=content, media_type=PNG, width=fresh.width, height=fresh.height)
    opaque = _on_white(fresh) if fresh.mode == "RGBA" else fresh
    for quality in QUALITIES:
        content = _encoded(opaque, "JPEG", quality=quality)
        if len(content) <= limits.bytes_max:
            return CleanPicture(content=content, media_type=JPEG, width=fresh.width, height=fresh.height)
    raise BadPicture("picture_too_hard")


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image, mask=image.getchannel("A"))
    return white


def _encoded(image: Image.Image, form: str, **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, format=form, **options)
    return out.getvalue()
