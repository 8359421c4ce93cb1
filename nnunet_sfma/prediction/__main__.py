"""``python -m nnunet_sfma.prediction``: what ``nnUNetv2_predict`` does, with :class:`BatchedPredictor`."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from nnunetv2.utilities.file_path_utilities import get_output_folder

from nnunet_sfma.errors import UserError
from nnunet_sfma.nnunet_folders import dataset_name, make_writable_folder, nnunet_folder
from nnunet_sfma.prediction.batched_predictor import BatchedPredictor
from nnunet_sfma.sentences import first_line
from nnunet_sfma.threads import wanted_threads
from nnunet_sfma.trainers.checkpoint_reader import UNREADABLE
from nnunet_sfma.trainers.checkpoints import FINAL


def main(argv: Sequence[str] | None = None) -> None:
    """Predict a folder of images.

    Args:
        argv: options that are spelled as those of ``nnUNetv2_predict`` and mean the same.

    Raises:
        UserError: if the model, a fold, the images or the device are not there, or the model cannot be loaded.
    """
    args = _parser().parse_args(argv)
    if not 0 <= args.part_id < args.num_parts:
        raise UserError(f"-part_id {args.part_id}: with -num_parts {args.num_parts} it is 0 to {args.num_parts - 1}.")
    without_processes = args.npp == args.nps == 0
    if args.num_parts > 1 and 0 in (args.npp, args.nps):
        raise UserError(f"-num_parts {args.num_parts}: give -npp and -nps of at least 1.")
    if not args.i.is_dir():
        raise UserError(f"There is no folder {args.i}: give the folder of the images with -i.")
    predictor = BatchedPredictor(device=_device(args.device), allow_tqdm=not args.disable_progress_bar)
    _load(predictor, args)
    make_writable_folder(args.o)
    how = {"save_probabilities": args.save_probabilities, "overwrite": not args.continue_prediction}
    if without_processes:
        predictor.predict_from_files_sequential(str(args.i), str(args.o), **how)
        return
    processes = {"num_processes_preprocessing": args.npp, "num_processes_segmentation_export": args.nps}
    part = {"num_parts": args.num_parts, "part_id": args.part_id}
    predictor.predict_from_files(str(args.i), str(args.o), **how, **processes, **part)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m nnunet_sfma.prediction", description="nnUNetv2_predict, with 2D patches in batches."
    )
    parser.add_argument("-i", type=Path, required=True, help="folder of images: CASE_0000.ext ...")
    parser.add_argument("-o", type=Path, required=True, help="folder for the predictions")
    parser.add_argument("-d", required=True, help="id or name of the model's data set")
    parser.add_argument("-p", default="nnUNetPlans", help="plans of the model (nnUNetPlans)")
    parser.add_argument("-tr", default="nnUNetTrainer", help="trainer of the model (nnUNetTrainer)")
    parser.add_argument("-c", required=True, help="configuration of the model")
    parser.add_argument("-f", nargs="+", type=_fold, default=range(5), help="folds to average, or all (0 1 2 3 4)")
    parser.add_argument("-chk", default=FINAL, help=f"checkpoint of each fold ({FINAL})")
    parser.add_argument("--save_probabilities", action="store_true", help="write the probabilities, too")
    parser.add_argument("--continue_prediction", action="store_true", help="leave out cases that have a prediction")
    for option, what in (("npp", "preprocess"), ("nps", "write")):
        default = os.environ.get(f"nnUNet_{option}") or 3
        parser.add_argument(f"-{option}", type=int, default=default, help=f"processes that {what}; with both 0 none")
    parser.add_argument("-num_parts", type=int, default=1, help="of how many parts one is to be predicted (1)")
    parser.add_argument("-part_id", type=int, default=0, help="of the part, from 0")
    parser.add_argument("-device", choices=["cuda", "cpu", "mps"], default="cuda")
    parser.add_argument("--disable_progress_bar", action="store_true")
    return parser


def _fold(text: str) -> int | str:
    return text if text == "all" else int(text)


def _device(name: str) -> torch.device:
    """The device, with as many threads of PyTorch as nnU-Net gives it, or as OMP_NUM_THREADS says on a CPU."""
    if not {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available, "cpu": lambda: True}[name]():
        raise UserError(f"There is no device '{name}' that torch can use: give another one with -device.")
    if name == "cpu":
        torch.set_num_threads(wanted_threads() or os.cpu_count())
    elif name == "cuda":
        torch.set_num_threads(1)
        torch.set_num_interop_threads(1)
    return torch.device(name)


def _load(predictor: BatchedPredictor, args: argparse.Namespace) -> None:
    nnunet_folder("nnUNet_results")
    model = Path(get_output_folder(dataset_name(args.d), args.tr, args.p, args.c))
    if not (model / "plans.json").is_file():
        raise UserError(f"There is no model in {model}: train it, or check -d, -tr, -p and -c.")
    for fold in args.f:
        if not (model / f"fold_{fold}" / args.chk).is_file():
            raise UserError(f"{model} has no {args.chk} of fold {fold}: train it to its end, or check -f and -chk.")
    try:
        predictor.initialize_from_trained_model_folder(str(model), tuple(args.f), args.chk)
    except (*UNREADABLE, KeyError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"The model in {model} cannot be loaded ({reason}): train these folds again.") from error


if __name__ == "__main__":
    main()
