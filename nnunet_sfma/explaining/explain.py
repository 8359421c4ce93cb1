"""``nnunet-sfma explain``: what a trained network attends to in one slice of a case, as figures for the report."""

from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from scipy.ndimage import distance_transform_edt
from torch import nn

from nnunet_sfma.errors import UserError
from nnunet_sfma.explaining import (
    danie_figures,
    danie_maps,
    encoder_decoder_figures,
    grad_cam,
    sfmanet_figures,
    sfmanet_maps,
)
from nnunet_sfma.explaining.case import find_case, read_case
from nnunet_sfma.explaining.collecting import collect
from nnunet_sfma.explaining.drawing import Scene, draw
from nnunet_sfma.explaining.explain_folder import Entry, replace_case
from nnunet_sfma.explaining.panels import FigureOfPanels
from nnunet_sfma.explaining.patch import Patch, choose_slice, cut_patch, segment
from nnunet_sfma.explaining.target_class import TargetClass, find_class
from nnunet_sfma.explaining.trained_model import load_predictor, network_of
from nnunet_sfma.networks import DANIE, SFMANet
from nnunet_sfma.nnunet_files import channel_names
from nnunet_sfma.nnunet_folders import dataset_name, make_writable_folder, nnunet_folder


def explain(
    dataset: int | str,
    trainer: str,
    plans: str,
    configuration: str,
    fold: int | str,
    case: str,
    slice_index: int | None = None,
    class_name: str | None = None,
    output: Path | None = None,
    checkpoint: str = "checkpoint_final.pth",
    device: str = "cpu",
) -> list[Path]:
    """Draw the maps of a fold's network for one slice of a case, for SFMANet and DANIE by unit, and Grad-CAM.

    The network runs once on one patch of nnU-Net's size, in float32 and without mirroring. Figures of a case that was
    explained before are replaced, those of other cases stay.

    Args:
        dataset: id or name.
        trainer: as nnU-Net names it.
        plans: as above.
        configuration: as above.
        fold: a number or "all".
        case: of imagesTr or imagesTs of the raw data set.
        slice_index: in the image file, along the plans' slice axis; None chooses, see
            :func:`nnunet_sfma.explaining.patch.choose_slice`.
        class_name: as in dataset.json; None takes the first.
        output: folder of the figures; None is ``evaluation/explain`` in the model's folder.
        checkpoint: file name inside the fold's folder.
        device: "cpu" or "cuda".

    Returns:
        What was written: pictures and ``explain.json``.

    Raises:
        UserError: if model, checkpoint, case, slice or class is not there, the network is unknown, there is nothing to
            draw, or the folder cannot be written; no file is written then.
    """
    name = dataset_name(dataset)
    model = nnunet_folder("nnUNet_results") / name / f"{trainer}__{plans}__{configuration}"
    predictor = load_predictor(model, fold, checkpoint, device)
    network = network_of(predictor)
    _refuse_unknown(network)
    target = find_class(predictor.label_manager, class_name)
    volume = read_case(find_case(nnunet_folder("nnUNet_raw") / name, case, predictor.dataset_json), predictor)
    index, mask = choose_slice(volume, target, slice_index, predictor)
    patch = cut_patch(volume, index, mask, predictor)
    folder = output or model / "evaluation" / "explain"
    make_writable_folder(folder)  # before the minutes that Grad-CAM may take

    figures, prediction = _figures(network, patch, target, predictor)
    if not figures:
        raise UserError(
            f"There is nothing to draw of {case}, as {type(network).__name__} has only Grad-CAM; see above."
        )
    number = volume.first_slice + index
    scene = Scene(
        _grey(patch.image[0].cpu().numpy(), predictor),
        None if patch.label is None else target.mask(patch.label),
        prediction,
        patch.inside,
        volume.pixel_aspect,
        f"slice {number}",
    )
    where = f" Class {target.name}, fold {fold}.{' Outside the dotted frame is padding.' if scene.is_padded else ''}"
    pictures = {
        Entry(case, number, figure.title, figure.caption + where, type(network).__name__): draw(figure, scene)
        for figure in figures
    }
    return replace_case(folder, case, pictures)


def _refuse_unknown(network: nn.Module) -> None:
    name = type(network).__name__
    if isinstance(network, (SFMANet, DANIE)):
        return
    if not encoder_decoder_figures.has_stages(network):
        raise UserError(f"{name} has no units that this command knows: explain SFMANet, DANIE or nnU-Net's own U-Net.")
    if not grad_cam.is_installed():
        raise UserError(f"{name} has no maps of its own, only Grad-CAM. {grad_cam.INSTALL}")


def _figures(
    network: nn.Module, patch: Patch, target: TargetClass, predictor: nnUNetPredictor
) -> tuple[list[FigureOfPanels], np.ndarray]:
    """The figures, and where the network sees the class in the patch."""
    collected = sfmanet_maps.COLLECTED if isinstance(network, SFMANet) else danie_maps.COLLECTED
    with torch.no_grad():
        with collect(network, collected) as calls:
            logits = network(patch.image)[0]
        prediction = np.zeros(logits.shape[1:], bool)  # what a network sees in its padding is no prediction
        prediction[patch.inside] = target.mask(segment(logits, predictor))[patch.inside]
        question = _question(patch, target, prediction)
        figures = []
        if isinstance(network, SFMANet):
            figures = sfmanet_figures.attention_figures(network, calls, _innermost(question.mask, patch.inside))
        elif isinstance(network, DANIE):
            figures = danie_figures.attention_figures(network, calls)
    return [*figures, *_grad_cam_figures(network, question, target)], prediction


def _question(patch: Patch, target: TargetClass, prediction: np.ndarray) -> grad_cam.Question:
    """About the predicted pixels of the class; where there are none, about the labelled ones."""
    if prediction.any() or patch.label is None:
        return grad_cam.Question(patch.image, target.channel, prediction, "predicted")
    return grad_cam.Question(patch.image, target.channel, target.mask(patch.label), "labelled")


def _grad_cam_figures(network: nn.Module, question: grad_cam.Question, target: TargetClass) -> list[FigureOfPanels]:
    if not grad_cam.is_installed():
        print(grad_cam.INSTALL)
        return []
    if not question.mask.any():
        print(f"The slice has no '{target.name}', neither predicted nor labelled: Grad-CAM has nothing to explain.")
        return []
    if isinstance(network, DANIE):
        return [danie_figures.grad_cam_figure(network, question)]
    figure = sfmanet_figures.grad_cam_figure(network, question) if isinstance(network, SFMANet) else None
    return [figure or encoder_decoder_figures.grad_cam_figure(network, question)]


def _innermost(mask: np.ndarray, inside: tuple[slice, slice]) -> tuple[int, int]:
    """The pixel of a mask farthest from its border; the middle of the slice if the mask is empty."""
    if not mask.any():
        rows, columns = inside
        return (rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2
    y, x = np.unravel_index(distance_transform_edt(mask).argmax(), mask.shape)
    return int(y), int(x)


def _grey(image: np.ndarray, predictor: nnUNetPredictor) -> np.ndarray:
    """The slice to look at: the first channel, or the mean of a picture's colours."""
    return image.mean(0) if set(channel_names(predictor.dataset_json)) == {"R", "G", "B"} else image[0]
