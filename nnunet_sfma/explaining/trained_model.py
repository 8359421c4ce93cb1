"""A fold of a trained model, loaded by nnU-Net's predictor."""

import io
from contextlib import redirect_stdout
from pathlib import Path

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import nn

from nnunet_sfma.devices import refuse_missing_device
from nnunet_sfma.errors import UserError
from nnunet_sfma.networks.accelerate import restore_plain
from nnunet_sfma.prediction.checked_predictor import CheckedPredictor
from nnunet_sfma.sentences import first_line
from nnunet_sfma.trainers.checkpoint_reader import UNREADABLE


def load_predictor(model: Path, fold: int | str, checkpoint: str, device: str) -> nnUNetPredictor:
    """nnU-Net's predictor with the network of one fold, on ``device`` and in evaluation mode, all its layers called.

    Args:
        model: ``nnUNet_results/DatasetXXX_Name/Trainer__Plans__Configuration``.
        fold: a number or "all".
        checkpoint: file name inside the fold's folder.
        device: "cpu" or "cuda".

    Raises:
        UserError: if there is no such model, checkpoint or device, the model's files are damaged, or the network is not
            2D.
    """
    if not (model / "plans.json").is_file():
        raise UserError(f"There is no trained model {model}: train it first, or check -d, -tr, -p and -c.")
    path = model / f"fold_{fold}" / checkpoint
    if not path.is_file():
        raise UserError(f"{path} does not exist: train that fold to its end, or choose what it has with -f and -chk.")
    refuse_missing_device(device)
    try:
        with redirect_stdout(io.StringIO()):  # nnU-Net tells where it looked for the trainer
            predictor = CheckedPredictor(device=torch.device(device), allow_tqdm=False)
            predictor.initialize_from_trained_model_folder(str(model), (fold,), checkpoint)
    except (*UNREADABLE, AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be loaded ({first_line(error)}): train that fold again, or choose another."
        ) from error
    if len(predictor.configuration_manager.patch_size) != 2:
        raise UserError(f"{model} is a 3D model, and only networks of 2D slices are explained: choose -c 2d.")
    restore_plain(network_of(predictor)).to(predictor.device).eval()
    return predictor


def network_of(predictor: nnUNetPredictor) -> nn.Module:
    """The predictor's network, without the wrapper that ``nnUNet_compile`` puts around it."""
    return getattr(predictor.network, "_orig_mod", predictor.network)
