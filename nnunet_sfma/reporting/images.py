"""Pictures as data URIs, so that a report is one file."""

import base64
import io
import stat
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

QUALITY = 88
MOST_PIXELS = 50_000_000
MOST_BYTES = 100_000_000


def jpeg_uri(pixels: np.ndarray) -> str:
    """An RGB array (H, W, 3), 0 to 255, as JPEG without blurred colours."""
    stream = io.BytesIO()
    _image(pixels).save(stream, "JPEG", quality=QUALITY, subsampling=0)
    return _uri("jpeg", stream.getvalue())


def png_uri(pixels: np.ndarray) -> str:
    """An RGB array (H, W, 3), 0 to 255, as PNG."""
    stream = io.BytesIO()
    _image(pixels).save(stream, "PNG", optimize=True)
    return _uri("png", stream.getvalue())


def shrunk_uri(path: Path, width: int) -> tuple[str, tuple[int, int]]:
    """A PNG file, at most ``width`` pixels wide, with its size; as it is or as JPEG, whichever is smaller.

    Raises:
        OSError: if it cannot be read, is a link, or is so large that it is no figure.
    """
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_BYTES:
        raise OSError(f"{path} is no picture")
    try:
        return _shrunk_uri(path, width)
    except (ValueError, SyntaxError, struct.error, zlib.error) as error:  # what Pillow raises for damaged PNGs
        raise OSError(f"{path} is damaged") from error


def _shrunk_uri(path: Path, width: int) -> tuple[str, tuple[int, int]]:
    with _open(path) as image:
        opaque = Image.new("RGB", image.size, "white")
        opaque.paste(image, mask=image.getchannel("A") if image.mode in ("RGBA", "LA") else None)
        unchanged = image.width <= width
    opaque.thumbnail((width, 4 * width))
    jpeg = jpeg_uri(np.asarray(opaque))
    original = _uri("png", path.read_bytes())
    return (original if unchanged and len(original) < len(jpeg) else jpeg), opaque.size


def _open(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is looked at below
            image = Image.open(path, formats=["PNG"])
    except Image.DecompressionBombError as error:
        raise OSError(str(error)) from error
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise OSError(f"{path} has {image.width} x {image.height} pixels")
    return image


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
