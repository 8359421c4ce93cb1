"""nnU-Net's predictor, which takes no damaged checkpoint and leaves out cases that it cannot predict."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from nnunetv2.configuration import default_num_processes
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
    export_prediction_from_logits,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.utilities.helpers import empty_cache
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_sfma.devices import is_out_of_memory
from nnunet_sfma.errors import UserError
from nnunet_sfma.nnunet_files import read_dataset_json, read_plans
from nnunet_sfma.prediction.earlier_run import remove_earlier
from nnunet_sfma.prediction.reading import read_cases
from nnunet_sfma.prediction.resized import ResizingPlans, how_resized
from nnunet_sfma.sentences import as_clause
from nnunet_sfma.trainers.changed_plans import refuse_weights_of_other_plans
from nnunet_sfma.trainers.checkpoint_reader import DamagedCheckpointError, read_checkpoint
from nnunet_sfma.trainers.checkpoints import FINAL
from nnunet_sfma.workers import few_ahead

NNUNETS_WORDS_FOR_INFINITY = "inf in predicted array"
NO_NUMBERS = (
    "The network's output is not a number: its weights are broken, or too large for half precision (then predict with "
    "-device cpu)."
)
TOO_LARGE = "Memory does not suffice for its logits: predict it on a device with more of it."


class CheckedPredictor(nnUNetPredictor):
    """Predicts what nnU-Net's predictor predicts, and says what it cannot predict.

    Attributes:
        unusable: of each case that was left out, which it was and why.
        outputs: the files of all others, without their endings.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.unusable: list[str] = []
        self.outputs: list[str] = []

    def initialize_from_trained_model_folder(
        self, model_training_output_dir: str, use_folds: Sequence[int | str], checkpoint_name: str = FINAL
    ) -> None:
        """Load the checkpoints of a model's folds; images are read at the size of those that it was trained on.

        nnU-Net compares no checksums and runs what a checkpoint names. What has been read before with both looked at is
        safe to be loaded by it.

        Raises:
            UserError: if a checkpoint is damaged, names something that is not trusted, or was trained with other plans.
        """
        model = Path(model_training_output_dir)
        plans, dataset_json = read_plans(model / "plans.json"), read_dataset_json(model / "dataset.json")
        for fold in use_folds:
            path = model / f"fold_{fold}" / checkpoint_name
            try:
                refuse_weights_of_other_plans(read_checkpoint(path), plans, dataset_json, path)
            except DamagedCheckpointError as error:
                raise UserError(f"{path} cannot be loaded ({error}): restore it, or train that fold again.") from None
        super().initialize_from_trained_model_folder(model_training_output_dir, use_folds, checkpoint_name)
        plans = self.plans_manager.plans
        resized = how_resized(self.dataset_json, plans)
        if resized:
            self.plans_manager = ResizingPlans(plans, resized)

    def _manage_input_and_output_lists(
        self,
        list_of_lists_or_source_folder: str | list[list[str]],
        output_folder_or_list_of_truncated_output_files: str | list[str] | None,
        folder_with_segs_from_prev_stage: str | None = None,
        overwrite: bool = True,
        part_id: int = 0,
        num_parts: int = 1,
        save_probabilities: bool = False,
    ) -> tuple[list[list[str]], list[str] | None, list[str | None]]:
        """What nnU-Net finds to be done; of these cases, nothing of an earlier run stays."""
        inputs, outputs, previous = super()._manage_input_and_output_lists(
            list_of_lists_or_source_folder,
            output_folder_or_list_of_truncated_output_files,
            folder_with_segs_from_prev_stage,
            overwrite,
            part_id,
            num_parts,
            save_probabilities,
        )
        if overwrite and outputs is not None:
            remove_earlier(outputs, self.dataset_json["file_ending"], save_probabilities)
        return inputs, outputs, previous

    def _internal_get_data_iterator_from_lists_of_filenames(
        self,
        input_list_of_lists: list[list[str]],
        seg_from_prev_stage_files: list[str | None] | None,
        output_filenames_truncated: list[str] | None,
        num_processes: int,
    ) -> Iterator[dict]:
        """What nnU-Net yields of each case, without those that cannot be read."""
        outputs = output_filenames_truncated or [None] * len(input_list_of_lists)
        model = (self.plans_manager, self.configuration_manager, self.dataset_json)
        for item in read_cases(input_list_of_lists, outputs, *model, num_processes):
            if "unusable" in item:
                self._leave_out(item["unusable"], is_written=output_filenames_truncated is not None)
            else:
                yield item

    def _leave_out(self, why: str, is_written: bool) -> None:
        """Go on without a case; but of results that are returned only their order tells which case they are of."""
        if not is_written:
            raise UserError(f"Not predicted: {why}.")
        self.unusable.append(why)
        print(f"Left out: {why}.", flush=True)

    def predict_from_data_iterator(
        self,
        data_iterator: Iterator[dict],
        save_probabilities: bool = False,
        num_processes_segmentation_export: int = default_num_processes,
    ) -> list:
        """What nnU-Net does, but a case that cannot be predicted is left out and does not end what is being written.

        Args:
            num_processes_segmentation_export: 0 for none but this one.

        Raises:
            UserError: if results are returned instead of written, and there is none of a case.
        """
        jobs = self._to_export(data_iterator, save_probabilities)
        exported = list(few_ahead(_export, jobs, num_processes_segmentation_export))
        compute_gaussian.cache_clear()
        empty_cache(self.device)
        return exported

    def _to_export(self, data_iterator: Iterator[dict], save_probabilities: bool) -> Iterator[tuple]:
        """Predict cases; yields the arguments of :func:`_export` for each that can be."""
        model = (self.configuration_manager, self.plans_manager, self.dataset_json)
        for item in data_iterator:
            name = Path(item["ofile"]).name if item["ofile"] else f"an image of shape {tuple(item['data'].shape)}"
            print(f"Predicting {name}", flush=True)
            try:
                logits = self._predict(item["data"])
            except UserError as error:
                self._leave_out(f"{name} ({as_clause(error)})", is_written=item["ofile"] is not None)
                continue
            if item["ofile"]:
                self.outputs.append(item["ofile"])
            # tensors would be passed to another process in shared memory, of which there may be little
            yield logits.numpy(), item["data_properties"], *model, item["ofile"], save_probabilities

    def _predict(self, data: torch.Tensor) -> torch.Tensor:
        """As :meth:`predict_logits_from_preprocessed_data`, with a sentence if memory does not suffice."""
        try:
            return self.predict_logits_from_preprocessed_data(data)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(TOO_LARGE) from error

    def predict_logits_from_preprocessed_data(self, data: torch.Tensor) -> torch.Tensor:
        """nnU-Net's logits (K, Z, Y, X) of an image (C, Z, Y, X).

        Raises:
            UserError: if they are no numbers, of which nnU-Net would make background, or too large for one.
        """
        try:
            logits = super().predict_logits_from_preprocessed_data(data)
        except RuntimeError as error:
            if NNUNETS_WORDS_FOR_INFINITY not in str(error):
                raise
            raise UserError(NO_NUMBERS) from error
        if any(bool(of_class.isnan().any()) for of_class in logits):  # a mask of all of them may not fit into memory
            raise UserError(NO_NUMBERS)
        return logits


def _export(
    logits: np.ndarray,
    properties: dict,
    configuration: ConfigurationManager,
    plans: PlansManager,
    dataset_json: dict,
    output: str | None,
    save_probabilities: bool,
) -> np.ndarray | tuple[np.ndarray, np.ndarray] | None:
    """Bring logits (K, Z, Y, X) to the image's grid; they are written as a mask, or without a file returned as one."""
    if output:
        export_prediction_from_logits(
            logits, properties, configuration, plans, dataset_json, output, save_probabilities
        )
        return None
    labels = plans.get_label_manager(dataset_json)
    return convert_predicted_logits_to_segmentation_with_correct_shape(
        logits, plans, configuration, labels, properties, save_probabilities
    )
