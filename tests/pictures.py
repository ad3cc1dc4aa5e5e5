"""Pictures for tests, made here: good ones, and those that want to be something else."""

import io
import random
import struct
import zipfile
import zlib
from typing import Any

from PIL import Image, PngImagePlugin

SECRET = "Taken at 52.5163 N, 13.3777 E, by Alice"
"""What must not survive."""
TURNED_RIGHT = 6
"""EXIF: the camera was held so that the picture has to be turned by 90 degrees."""


def drawn(width: int = 40, height: int = 30, *, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A picture with red on its left and blue on its right, and above a little noise that is the seed's own."""
    noise = random.Random(seed)
    image = Image.new("RGB", (width, height), (200, 20, 20))
    image.paste((20, 20, 200), (width // 2, 0, width, height))
    for _ in range(20):
        image.putpixel((noise.randrange(width), noise.randrange(height // 3)), (noise.randrange(256), 0, 0))
    return image.convert(mode)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format=form, **options)
    return out.getvalue()


def jpeg(**options: Any) -> bytes:
    return encoded(drawn(seed=options.pop("seed", 0)), "JPEG", **options)


def png(**options: Any) -> bytes:
    return encoded(drawn(), "PNG", **options)


def webp() -> bytes:
    return encoded(drawn(), "WEBP")


def gif() -> bytes:
    """Two pictures, of which the first is taken."""
    return encoded(drawn(), "GIF", save_all=True, append_images=[Image.new("RGB", (40, 30), (0, 255, 0))])


def telling_jpeg() -> bytes:
    """A JPEG that tells where it was taken, in every place that can hold a text, and after its end."""
    exif = Image.Exif()
    exif[0x010E], exif[0x013B], exif[0x0112] = SECRET, SECRET, TURNED_RIGHT
    exif.get_ifd(0x8825)[29] = SECRET  # GPS
    thumbnail = jpeg(comment=SECRET.encode())
    profile = SECRET.encode().ljust(256)
    main = jpeg(exif=exif.tobytes(), comment=SECRET.encode(), icc_profile=profile)
    return main + thumbnail + SECRET.encode()


def telling_png() -> bytes:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", SECRET)
    notes.add_itxt("XML:com.adobe.xmp", SECRET, zip=True)
    exif = Image.Exif()
    exif[0x010E] = SECRET
    return png(pnginfo=notes, exif=exif.tobytes()) + SECRET.encode()


# -- hostile -----------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes, *, claims: int | None = None) -> bytes:
    """One chunk of a PNG; it may claim another length than it has."""
    size = len(data) if claims is None else claims
    return struct.pack(">I", size) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, *, rows: bytes = b"", depth: int = 1, more: bytes = b"") -> bytes:
    """A PNG that claims to be so large, whatever it holds."""
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def bomb() -> bytes:
    """A PNG of 144 million white points, all of them there, in 18 kB."""
    return png_of(12_000, 12_000, rows=b"\xff" * (12_000 * (12_000 // 8 + 1)))


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("run.me", "something else")
    return out.getvalue()


def claimed_gif(width: int = 65_535, height: int = 65_535) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + gif()[10:]


def claimed_jpeg(side: int = 65_500) -> bytes:
    """A JPEG whose frame claims to be so large."""
    plain = jpeg()
    at = plain.index(b"\xff\xc0") + 5
    return plain[:at] + struct.pack(">HH", side, side) + plain[at + 4 :]


SVG = (
    b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><rect width="9" height="9"/></svg>'
)
HEIC = struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(400)

HOSTILE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "picture_empty"),
    "text": (b"just words, however named", "picture_kind"),
    "svg": (SVG, "picture_kind"),
    "heic": (HEIC, "picture_kind"),
    "bmp": (encoded(drawn(), "BMP"), "picture_kind"),
    "tiff": (encoded(drawn(), "TIFF"), "picture_kind"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "picture_kind"),
    "a zip": (zipped(), "picture_kind"),
    "a jpeg that is a zip as well": (jpeg() + zipped(), "picture_polyglot"),
    "a png that is a page as well": (png() + b"<html><script>alert(1)</script>", "picture_polyglot"),
    "a gif that is a document as well": (gif() + b"%PDF-1.7\n", "picture_polyglot"),
    "a jpeg with a program in its comment": (jpeg(comment=b"<?php system($_GET[0]); ?>"), "picture_polyglot"),
    "a jpeg cut short": (jpeg()[:-200], "picture_broken"),
    "a png cut short": (png()[:-60], "picture_broken"),
    "a webp cut short": (webp()[:-60], "picture_broken"),
    "a jpeg's beginning": (jpeg()[:20], "picture_broken"),
    "a png without points": (png_of(0, 0), "picture_broken"),
    "a png with a changed byte": (png()[:60] + b"\x00\x01\x02" + png()[63:], "picture_broken"),
    "a chunk that claims a gigabyte": (png_of(9, 9, more=chunk(b"tEXt", b"a", claims=1 << 30)), "picture_broken"),
    "points that fill a screen's wall": (bomb(), "picture_pixels"),
    "a header that claims ten gigapixels": (png_of(100_000, 100_000), "picture_pixels"),
    "a gif that claims four gigapixels": (claimed_gif(), "picture_pixels"),
    "a jpeg that claims four gigapixels": (claimed_jpeg(), "picture_pixels"),
    "one row, far too long": (png_of(100_000, 1, rows=bytes(12_501)), "picture_pixels"),
    "a text of sixteen megabytes, packed": (
        png_of(9, 9, rows=bytes(27), more=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 24), 9))),
        "picture_broken",
    ),
}
"""Files that are refused, with the code that says why."""
