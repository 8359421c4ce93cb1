"""The prediction of a whole volume, slice by slice, as work for the benchmarks."""

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass

import torch
from networks import CLASSES
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn
from work import Step, Work

from nnunet_sfma.prediction.batched_predictor import BatchedPredictor

PREDICTORS = {"nnunet": nnUNetPredictor, "batched": BatchedPredictor}


@dataclass(frozen=True)
class Volume(Work):
    """Sliding-window prediction with mirroring of ``batch`` slices, each one patch; nnU-Net chooses the precision.

    Attributes:
        predictor: a key of ``PREDICTORS``.
    """

    predictor: str = "batched"

    def step(self, network: nn.Module, device: torch.device, channels: int = 1, compiled: bool = False) -> Step:
        predictor = initialised(self.predictor, self.place(network, device), self.side, device)
        volume = torch.randn(channels, self.batch, self.side, self.side)

        def step() -> None:
            predictor.predict_logits_from_preprocessed_data(volume)

        return step


def initialised(
    name: str, network: nn.Module, side: int, device: torch.device, mirroring: bool = True
) -> nnUNetPredictor:
    """A predictor of patches of ``side`` x ``side`` pixels.

    Args:
        name: a key of ``PREDICTORS``.
        network: to predict with, of ``CLASSES`` classes.
        side: of a patch.
        device: to predict on.
        mirroring: along both axes.
    """
    configurations = {"2d": {"patch_size": [side, side], "architecture": {}}}
    plans = PlansManager({"label_manager": "LabelManager", "configurations": configurations})
    labels = {"background": 0, **{f"class {i}": i for i in range(1, CLASSES)}}
    with redirect_stdout(sys.stderr):  # nnU-Net remarks on what was left to it
        predictor = PREDICTORS[name](use_mirroring=mirroring, device=device, allow_tqdm=False)
        predictor.manual_initialization(
            network,
            plans,
            plans.get_configuration("2d"),
            parameters=[network.state_dict()],
            dataset_json={"labels": labels},
            trainer_name="nnUNetTrainer",
            inference_allowed_mirroring_axes=(0, 1),
        )
    return predictor
