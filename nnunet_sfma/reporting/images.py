"""Pictures as data URIs, so that a report is one file."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

QUALITY = 88


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
    """A picture file, at most ``width`` pixels wide, with its size; as it is or as JPEG, whichever is smaller.

    Raises:
        OSError: if it cannot be read.
    """
    with Image.open(path) as image:
        opaque = Image.new("RGB", image.size, "white")
        opaque.paste(image, mask=image.getchannel("A") if image.mode in ("RGBA", "LA") else None)
        unchanged = image.width <= width
    opaque.thumbnail((width, 4 * width))
    jpeg = jpeg_uri(np.asarray(opaque))
    original = _uri("png", path.read_bytes())
    return (original if unchanged and len(original) < len(jpeg) else jpeg), opaque.size


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
