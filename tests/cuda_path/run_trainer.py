"""Runs a trainer's steps and a prediction on a fake GPU and prints who waited for it, as JSON: run by its test.

Fake tensors carry through the whole steps, gradient scaler and Adam included, and through the prediction of an image in
batches. They stop at what depends on numbers, which are made up (see :class:`Downloads`); at threads, so that patches
are cut out before the network runs; at nnU-Net's Gaussian weights of a tile, which are left out; and at moving the
network, so that it is moved as it is built.
"""

import json
import queue
import sys
from collections.abc import Callable
from functools import wraps

import torch
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from nnunet_sfma.prediction.batched_predictor import BatchedPredictor
from tests.cuda_path.downloads import Downloads
from tests.cuda_path.fake_cuda import on_fake_cuda

SHAPE = (3, 70, 50)  # of the predicted image: three slices of several tiles


class AtOnce:
    """Stands for nnU-Net's thread, which cuts out patches while the network runs: fake tensors take one thread."""

    def __init__(self, target: Callable, args: tuple, daemon: bool):
        self.start = lambda: target(*args)


class WithDownload(nn.Module):
    """The planted fault: a loss that fetches the logits."""

    def __init__(self, loss: nn.Module):
        super().__init__()
        self.loss = loss

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        output.detach().cpu()
        return self.loss(output, target)


def trainer_on(mode: FakeTensorMode, dataset: str, name: str, plans: str) -> nnUNetTrainer:
    """A trainer as ``nnUNetv2_train`` makes it, initialised, with its network on the fake GPU."""
    trainer = get_trainer_from_args(dataset, "2d", 0, name, plans, False, torch.device("cuda"))
    build = trainer.build_network_architecture

    @wraps(build)
    def build_on_gpu(*args) -> nn.Module:
        network = on_fake_cuda(build(*args), mode)
        network.to = lambda device: network  # fake parameters cannot be moved, and these are there
        return network

    trainer.build_network_architecture = build_on_gpu
    trainer.initialize()
    return trainer


def predictor_of(trainer: nnUNetTrainer) -> BatchedPredictor:
    """A predictor with the trainer's network and weights."""
    predict_from_raw_data.Thread, predict_from_raw_data.Queue = AtOnce, lambda maxsize: queue.Queue()
    predictor = BatchedPredictor(use_gaussian=False, device=trainer.device, allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )
    return predictor


def waits_of(trainer: nnUNetTrainer, mode: FakeTensorMode) -> dict[str, list[str]]:
    """Who waited for the GPU, by what was run.

    Raises:
        AssertionError: if the step leaves a parameter elsewhere, without a gradient in its format, or untrained.
    """
    waits = {}

    def run(name: str, function: Callable, argument: dict | torch.Tensor) -> object:
        with mode, Downloads() as downloads:
            result = function(argument)
        waits[name] = downloads.waits
        return result

    batches = [next(loader) for loader in trainer.get_dataloaders()]
    for batch in batches:
        batch.update({key: mode.from_tensor(batch[key]) for key in ("data", "target")})
    trainer.network.train()
    run("train_step", trainer.train_step, batches[0])
    parameters = dict(trainer.network.named_parameters())
    assert all(p.device.type == p.grad.device.type == "cuda" and p.grad.dtype == p.dtype for p in parameters.values())
    assert trainer.optimizer.state.keys() == set(parameters.values())
    trainer.network.eval()
    with torch.no_grad():
        run("validation_step", trainer.validation_step, batches[1])
    image = mode.from_tensor(torch.zeros(trainer.num_input_channels, *SHAPE))
    logits = run("prediction", predictor_of(trainer).predict_logits_from_preprocessed_data, image)
    assert logits.shape == (trainer.label_manager.num_segmentation_heads, *SHAPE)
    trainer.network.train()
    trainer.loss = WithDownload(trainer.loss)
    run("planted fault", trainer.train_step, batches[0])
    return waits


if __name__ == "__main__":
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    print(json.dumps(waits_of(trainer_on(fake, *sys.argv[1:]), fake)))
