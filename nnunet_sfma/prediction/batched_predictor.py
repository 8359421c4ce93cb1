"""nnU-Net's predictor, with many 2D patches and their mirrored copies in one forward pass."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import torch
from nnunetv2.utilities.helpers import empty_cache

from nnunet_sfma.devices import is_out_of_memory
from nnunet_sfma.prediction.checked_predictor import CheckedPredictor


class BatchedPredictor(CheckedPredictor):
    """Predicts what nnU-Net's predictor predicts, with 2D configurations in batches.

    nnU-Net predicts one patch of one slice after another, and each mirrored copy by itself. Here patches of several
    slices and tiles and all their mirrored copies go through the network together. Their predictions are handed to
    nnU-Net's own loop one by one, in its order, so that weighting, summation and number formats are nnU-Net's; only the
    rounding inside the network can differ.

    All numbers of images in a batch are powers of two: a last batch, which depends on the number of slices, must not
    make cuDNN look for its fastest convolutions anew for every case.

    Attributes:
        pixels_at_once: of all images in a batch at most; halved when the device's memory does not suffice.
    """

    # On the CPU, SFMANet gains up to one image of 256 x 256 or four of 112 x 112; larger batches leave the caches. On
    # CUDA, 64 images of 256 x 256 occupy the GPU with narrow networks, too, and SFMANet takes an estimated 6 GB.
    PIXELS_AT_ONCE = {"cpu": 2**16, "cuda": 2**22, "mps": 2**20}

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.pixels_at_once = self.PIXELS_AT_ONCE[self.device.type]
        self._predictions: Iterator[torch.Tensor] | None = None

    def _internal_predict_sliding_window_return_logits(
        self, data: torch.Tensor, slicers: Sequence[tuple], do_on_device: bool = True
    ) -> torch.Tensor:
        if len(self.configuration_manager.patch_size) == 2:
            data = data.to(self.device if do_on_device else "cpu")
            self._predictions = self._predict_in_batches(data, slicers)
        try:
            return super()._internal_predict_sliding_window_return_logits(data, slicers, do_on_device)
        finally:
            self._predictions = None

    def _internal_maybe_mirror_and_predict(self, x: torch.Tensor) -> torch.Tensor:
        """The prediction of a patch, (1, C, H, W) to (1, K, H, W); nnU-Net's loop asks for one patch after another."""
        return super()._internal_maybe_mirror_and_predict(x) if self._predictions is None else next(self._predictions)

    def _predict_in_batches(self, data: torch.Tensor, slicers: Sequence[tuple]) -> Iterator[torch.Tensor]:
        """Predictions (1, K, H, W) of the patches of an image (C, Z, Y, X), on its device, in the slicers' order."""
        mirrorings = self._mirrorings()
        start = 0
        while start < len(slicers):
            number = _power_of_two(min(self._images_at_once() // len(mirrorings), len(slicers) - start))
            predictions = self._predict_batch(data, slicers[start : start + number], mirrorings)
            if predictions is not None:
                yield from predictions.unsqueeze(1)
                start += number

    def _predict_batch(
        self, data: torch.Tensor, slicers: Sequence[tuple], mirrorings: Sequence[tuple[int, ...]]
    ) -> torch.Tensor | None:
        """Predictions (B, K, H, W) of B patches; None if memory did not suffice, and halves what is tried next."""
        at_once = min(self._images_at_once(), len(slicers) * len(mirrorings))
        try:
            patches = torch.stack([data[slicer] for slicer in slicers]).to(self.device)
            return self._predict_with_mirrored(patches, mirrorings).to(data.device)
        except RuntimeError as error:
            if at_once == 1 or not is_out_of_memory(error):
                raise
        # only here, with the exception, are the tensors of the failed pass gone
        empty_cache(self.device)
        self.pixels_at_once = at_once // 2 * math.prod(self.configuration_manager.patch_size)
        return None

    def _mirrorings(self) -> list[tuple[int, ...]]:
        """The axes that each copy of a batch is mirrored along, in nnU-Net's order; the first is not mirrored."""
        axes = [axis + 2 for axis in (self.allowed_mirroring_axes or ())] if self.use_mirroring else []
        return [some for number in range(len(axes) + 1) for some in combinations(axes, number)]

    def _predict_with_mirrored(self, patches: torch.Tensor, mirrorings: Sequence[tuple[int, ...]]) -> torch.Tensor:
        """The mean of the predictions of all mirrored copies, (B, C, H, W) to (B, K, H, W)."""
        copies = torch.cat([patches.flip(axes) for axes in mirrorings])
        prediction, *mirrored = self._forward(copies).split(len(patches))
        for axes, output in zip(mirrorings[1:], mirrored, strict=True):
            prediction += output.flip(axes)
        prediction /= len(mirrorings)
        return prediction

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        """The network's logits, (B, C, H, W) to (B, K, H, W)."""
        return torch.cat([self.network(some) for some in images.split(self._images_at_once())])

    def _images_at_once(self) -> int:
        return _power_of_two(self.pixels_at_once // math.prod(self.configuration_manager.patch_size))


def _power_of_two(number: int) -> int:
    """The largest one that is not larger than the number; 1 at least."""
    return 1 << max(number, 1).bit_length() - 1
