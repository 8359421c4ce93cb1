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
        network = self.place(network, device)
        configuration = {"patch_size": [self.side, self.side], "architecture": {}}
        plans = PlansManager({"configurations": {"2d": configuration}})
        labels = {"background": 0, **{f"class {i}": i for i in range(1, CLASSES)}}
        with redirect_stdout(sys.stderr):  # nnU-Net remarks on what was left to it
            predictor = PREDICTORS[self.predictor](device=device, allow_tqdm=False)
            predictor.manual_initialization(
                network,
                plans,
                plans.get_configuration("2d"),
                parameters=[network.state_dict()],
                dataset_json={"labels": labels},
                trainer_name="nnUNetTrainer",
                inference_allowed_mirroring_axes=(0, 1),
            )
        volume = torch.randn(channels, self.batch, self.side, self.side)

        def step() -> None:
            predictor.predict_logits_from_preprocessed_data(volume)

        return step
