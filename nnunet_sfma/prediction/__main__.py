"""``python -m nnunet_sfma.prediction``: what ``nnUNetv2_predict`` does, with :class:`BatchedPredictor`."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from nnunetv2.utilities.file_path_utilities import get_output_folder

from nnunet_sfma.devices import refuse_missing_device
from nnunet_sfma.errors import UserError
from nnunet_sfma.file_names import refuse_unreadable_names
from nnunet_sfma.nnunet_folders import dataset_name, make_writable_folder, nnunet_folder
from nnunet_sfma.prediction.batched_predictor import BatchedPredictor
from nnunet_sfma.sentences import first_few, first_line
from nnunet_sfma.standard_argparse import argparse
from nnunet_sfma.threads import wanted_threads
from nnunet_sfma.trainers.checkpoint_reader import UNREADABLE
from nnunet_sfma.trainers.checkpoints import FINAL
from nnunet_sfma.whole_files import remove_cut_off

MAKE_ROOM = "make room, or choose another place with -o, then give the same command with --continue_prediction"
MOST_TO_NAME = 5


def main(argv: Sequence[str] | None = None) -> None:
    """Predict a folder of images.

    Args:
        argv: options that are spelled as those of ``nnUNetv2_predict`` and mean the same.

    Raises:
        UserError: if the model, a fold, the images or the device are not there, the model cannot be loaded, a
            prediction cannot be written, or a case cannot be predicted; the others are predicted by then.
    """
    args = _parser().parse_args(argv)
    if not 0 <= args.part_id < args.num_parts:
        raise UserError(f"-part_id {args.part_id}: with -num_parts {args.num_parts} it is 0 to {args.num_parts - 1}.")
    if args.num_parts > 1 and 0 in (args.npp, args.nps):
        raise UserError(f"-num_parts {args.num_parts}: give -npp and -nps of at least 1.")
    if not args.i.is_dir():
        raise UserError(f"There is no folder {args.i}: give the folder of the images with -i.")
    predictor = BatchedPredictor(device=_device(args.device), allow_tqdm=not args.disable_progress_bar)
    _load(predictor, args)
    _refuse_no_images(args.i, predictor.dataset_json["file_ending"])
    make_writable_folder(args.o)
    if args.continue_prediction and args.num_parts == 1:  # another part may be writing just now
        ending, reader = predictor.dataset_json["file_ending"], predictor.plans_manager.image_reader_writer_class
        remove_cut_off(sorted(args.o.glob(f"*{ending}")), reader, 1)
    try:
        predictor.predict_from_files(
            str(args.i),
            str(args.o),
            args.save_probabilities,
            not args.continue_prediction,
            args.npp,
            args.nps,
            num_parts=args.num_parts,
            part_id=args.part_id,
        )
    except OSError as error:  # images are read with errors of their own
        raise UserError(f"Could not write to {args.o} ({error.strerror or error}): {MAKE_ROOM}.") from error
    finally:  # an error in one export ends the others in the middle of a file
        not_written = _not_written(predictor)
    if not_written:
        raise UserError(f"Could not write {first_few([path.name for path in not_written])} to {args.o}: {MAKE_ROOM}.")
    if predictor.unusable:
        unusable = "; ".join(predictor.unusable[:MOST_TO_NAME])
        more = "; ..." if len(predictor.unusable) > MOST_TO_NAME else ""
        raise UserError(f"Not predicted: {unusable}{more}: repair these, or move the cases away.")


def _refuse_no_images(folder: Path, ending: str) -> None:
    refuse_unreadable_names(folder, (path.name for path in folder.iterdir() if path.name.endswith(ending)))
    if not any(folder.glob(f"*_[0-9][0-9][0-9][0-9]{ending}")):
        raise UserError(f"There are no images (*_0000{ending}) in {folder}: check -i, or convert them to {ending}.")


def _not_written(predictor: BatchedPredictor) -> list[Path]:
    """Predictions that are not there or cut off, which are removed: ITK does not notice that a disk is full."""
    paths = [Path(f"{output}{predictor.dataset_json['file_ending']}") for output in predictor.outputs]
    there = [path for path in paths if path.is_file()]
    cut_off = remove_cut_off(there, predictor.plans_manager.image_reader_writer_class, 1)
    return [path for path in paths if path not in there or path in cut_off]


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
        default = os.environ.get(f"nnUNet_{option}") or "3"
        parser.add_argument(
            f"-{option}", type=_number, default=default, help=f"processes that {what}; 0: none of their own"
        )
    parser.add_argument("-num_parts", type=int, default=1, help="of how many parts one is to be predicted (1)")
    parser.add_argument("-part_id", type=int, default=0, help="of the part, from 0")
    parser.add_argument("-device", choices=["cuda", "cpu", "mps"], default="cuda")
    parser.add_argument("--disable_progress_bar", action="store_true")
    return parser


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is no number of processes")
    return int(text)


def _fold(text: str) -> int | str:
    return text if text == "all" else int(text)


def _device(name: str) -> torch.device:
    """The device, with as many threads of PyTorch as nnU-Net gives it, or as OMP_NUM_THREADS says on a CPU."""
    refuse_missing_device(name)
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
    except (*UNREADABLE, AttributeError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"The model in {model} cannot be loaded ({reason}): train these folds again.") from error


if __name__ == "__main__":
    main()
