"""Models of images that their conversion resized: prediction resizes in the same way, and back.

The conversion writes ``resized`` into dataset.json, which nnU-Net copies to the models; older conversions wrote it into
the provenance of the raw data set alone.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_sfma.errors import UserError
from nnunet_sfma.json_files import check_content, read_json
from nnunet_sfma.picture_size import RESIZE_IMAGE, resize_linearly, resize_mask, slice_by_slice
from nnunet_sfma.prediction.reading import UnusableImageError

SIDE = {"type": "integer", "minimum": 1, "maximum": 8192}
RESIZED = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "array", "items": SIDE, "minItems": 2, "maxItems": 2},
        "slices_along": {"enum": ["x"]},
        "image": {"enum": list(RESIZE_IMAGE)},
        "spacing": {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}, "minItems": 3, "maxItems": 3},
    },
}
PROVENANCE = {
    "type": "object",
    "properties": {
        "options": {"type": "object", "properties": {"size": SIDE, "axis": {"enum": ["x"]}}},
    },
}


@dataclass(frozen=True)
class Resized:
    """How the images of a data set were resized.

    Attributes:
        size: rows and columns.
        slices_along: the axis of the volumes that slices were cut along; None for pictures and whole volumes.
        image: how pictures and slices were resized, a key of :data:`nnunet_sfma.picture_size.RESIZE_IMAGE`.
        spacing: (z, y, x) that resized volumes were given; None for pictures.
    """

    size: tuple[int, int]
    slices_along: str | None = None
    image: str = "box"
    spacing: tuple[float, float, float] | None = None


def how_resized(dataset_json: dict, plans: dict) -> Resized | None:
    """Return how the images that a model was trained on were resized; None if they were not, as far as is known.

    Args:
        dataset_json, plans: of the model.

    Raises:
        UserError: if what dataset.json says of it is damaged.
    """
    entry = dataset_json["resized"] if "resized" in dataset_json else _from_provenance(plans)
    if entry is None:
        return None
    check_content(entry, RESIZED, source=f"dataset.json of the model of {plans['dataset_name']}", within="resized")
    spacing = tuple(entry["spacing"]) if "spacing" in entry else None
    return Resized(tuple(entry["size"]), entry.get("slices_along"), entry.get("image", "box"), spacing)


def _from_provenance(plans: dict) -> dict | None:
    """What the raw data set says, if it is of the size that the model was planned for: it may have been made anew."""
    path = Path(os.environ.get("nnUNet_raw", ""), plans["dataset_name"], "provenance.json")
    if not os.environ.get("nnUNet_raw") or not path.is_file():
        return None
    try:
        options = read_json(path, PROVENANCE).get("options", {})
    except UserError:  # of another program
        return None
    if "size" not in options or "resampling" not in options:
        return None
    if list(plans.get("original_median_shape_after_transp", ()))[1:] != [options["size"]] * 2:
        return None
    along = {"slices_along": options["axis"]} if "axis" in options else {}
    return {"size": [options["size"]] * 2, **along}


class ResizingPlans(PlansManager):
    """Plans of a model of resized images: what reads and writes them, for nnU-Net's predictor, resizes."""

    def __init__(self, plans: dict, resized: Resized):
        super().__init__(plans)
        self.resized = resized

    @property
    def image_reader_writer_class(self) -> partial:
        """Makes the reader of the plans, with the resizing around it."""
        kind = SliceIO if self.resized.slices_along else WholeImageIO
        return partial(kind, super().image_reader_writer_class, self.resized)


class WholeImageIO(BaseReaderWriter):
    """Reads pictures and volumes at the size of the model, and writes their masks at their own size, on their own grid.

    A volume is resized slice by slice along Z, and has the spacing that the conversion gives to all: it was the slices'
    size in voxels that the model learned from, not their size in mm.
    """

    def __init__(self, reader: type[BaseReaderWriter], resized: Resized):
        self.reader, self.resized = reader(), resized

    def read_images(self, image_fnames: Sequence[str]) -> tuple[np.ndarray, dict]:
        """nnU-Net's image (C, Z, H, W) of the model's size; Z is 1 for a picture."""
        image, properties = self.reader.read_images(image_fnames)
        properties = {**properties, "size_of_slices": image.shape[2:]}
        if self.resized.spacing:
            properties["spacing"] = list(self.resized.spacing)
        if image.shape[2:] != self.resized.size:
            image = np.stack([self._resized(channel) for channel in image]).astype(np.float32)
        return image, properties

    def _resized(self, channel: np.ndarray) -> np.ndarray:
        linear = self.resized.image == "linear"
        return slice_by_slice(
            RESIZE_IMAGE[self.resized.image], channel if linear else _as_bytes(channel), self.resized.size
        )

    def read_seg(self, seg_fname: str) -> tuple[np.ndarray, dict]:
        """A label map as it is."""
        return self.reader.read_seg(seg_fname)

    def write_seg(self, seg: np.ndarray, output_fname: str, properties: dict) -> None:
        """Write a label map (Z, H, W), and resize the probabilities that nnU-Net wrote beside it."""
        size = properties["size_of_slices"]
        if size != self.resized.size:
            ending = next(each for each in self.reader.supported_file_endings if output_fname.endswith(each))
            _resize_probabilities(Path(f"{output_fname.removesuffix(ending)}.npz"), seg.shape[1:], size)
            seg = slice_by_slice(resize_mask, seg, size)
        self.reader.write_seg(seg, output_fname, properties)


class SliceIO(BaseReaderWriter):
    """Reads slices of the model's size alone: how a volume is cut is not for prediction to decide."""

    def __init__(self, reader: type[BaseReaderWriter], resized: Resized):
        self.reader, self.resized = reader(), resized

    def read_images(self, image_fnames: Sequence[str]) -> tuple[np.ndarray, dict]:
        """nnU-Net's image (C, 1, H, W).

        Raises:
            UnusableImageError: if it is of another size.
        """
        image, properties = self.reader.read_images(image_fnames)
        if image.shape[1:] != (1, *self.resized.size):
            found, (rows, columns) = " x ".join(map(str, image.shape[:0:-1])), self.resized.size
            raise UnusableImageError(
                f"{image_fnames[0]} has {found} voxels, and the model was trained on slices along "
                f"{self.resized.slices_along.upper()} of {columns} x {rows} (cut it with nnunet-sfma convert "
                "--paper-slices, and put the predictions back with nnunet-sfma stack)"
            )
        return image, properties

    def read_seg(self, seg_fname: str) -> tuple[np.ndarray, dict]:
        """A label map as it is."""
        return self.reader.read_seg(seg_fname)

    def write_seg(self, seg: np.ndarray, output_fname: str, properties: dict) -> None:
        """Write a label map."""
        self.reader.write_seg(seg, output_fname, properties)


def _as_bytes(channel: np.ndarray) -> np.ndarray:
    """A channel of a picture of 8 bits, which nnU-Net reads as floats, as the conversion has it; others as they are."""
    narrow = channel.astype(np.uint8)
    return narrow if (narrow == channel).all() else channel


def _resize_probabilities(path: Path, from_size: Sequence[int], size: Sequence[int]) -> None:
    if not path.is_file():
        return
    probabilities = np.load(path)["probabilities"]
    if probabilities.shape[2:] == tuple(from_size):
        resized = np.stack([slice_by_slice(resize_linearly, of_class, size) for of_class in probabilities])
        np.savez_compressed(path, probabilities=resized)
