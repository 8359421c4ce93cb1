"""nnU-Net's predictor, which takes no damaged checkpoint and leaves out images that it cannot predict."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from nnunetv2.configuration import default_num_processes
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_sfma.errors import UserError
from nnunet_sfma.prediction.reading import read_cases
from nnunet_sfma.prediction.resized import ResizingPlans, how_resized
from nnunet_sfma.trainers.checkpoint_reader import DamagedCheckpointError, read_checkpoint
from nnunet_sfma.trainers.checkpoints import FINAL


class CheckedPredictor(nnUNetPredictor):
    """Predicts what nnU-Net's predictor predicts, and says what it cannot predict.

    Attributes:
        unusable: of each case that was left out, which file it was and why.
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
            UserError: if a checkpoint is damaged, or names something that is not trusted.
        """
        for fold in use_folds:
            path = Path(model_training_output_dir, f"fold_{fold}", checkpoint_name)
            try:
                read_checkpoint(path)
            except DamagedCheckpointError as error:
                raise UserError(f"{path} cannot be loaded ({error}): restore it, or train that fold again.") from None
        super().initialize_from_trained_model_folder(model_training_output_dir, use_folds, checkpoint_name)
        plans = self.plans_manager.plans
        resized = how_resized(self.dataset_json, plans)
        if resized:
            self.plans_manager = ResizingPlans(plans, resized)

    def _internal_get_data_iterator_from_lists_of_filenames(
        self,
        input_list_of_lists: list[list[str]],
        seg_from_prev_stage_files: list[str | None] | None,
        output_filenames_truncated: list[str] | None,
        num_processes: int,
    ) -> Iterator[dict]:
        """What nnU-Net yields of each case, without those that cannot be predicted."""
        outputs = output_filenames_truncated or [None] * len(input_list_of_lists)
        model = (self.plans_manager, self.configuration_manager, self.dataset_json)
        for item in read_cases(input_list_of_lists, outputs, *model, num_processes):
            if "unusable" in item:
                self.unusable.append(item["unusable"])
                print(f"Left out: {item['unusable']}.", flush=True)
            else:
                self.outputs.append(item["ofile"])
                yield item

    def predict_from_data_iterator(
        self,
        data_iterator: Iterator[dict],
        save_probabilities: bool = False,
        num_processes_segmentation_export: int = default_num_processes,
    ) -> list | None:
        """What nnU-Net does; without processes for the export, this one writes."""
        if num_processes_segmentation_export:
            return super().predict_from_data_iterator(
                data_iterator, save_probabilities, num_processes_segmentation_export
            )
        for item in data_iterator:
            print(f"Predicting {Path(item['ofile']).name}", flush=True)
            export_prediction_from_logits(
                self.predict_logits_from_preprocessed_data(item["data"]),
                item["data_properties"],
                self.configuration_manager,
                self.plans_manager,
                self.dataset_json,
                item["ofile"],
                save_probabilities,
            )
        return None

    def predict_logits_from_preprocessed_data(self, data: torch.Tensor) -> torch.Tensor:
        """nnU-Net's logits (K, Z, Y, X) of an image (C, Z, Y, X).

        Raises:
            UserError: if they are no numbers, of which nnU-Net would make background.
        """
        logits = super().predict_logits_from_preprocessed_data(data)
        if any(bool(of_class.isnan().any()) for of_class in logits):  # a mask of all of them may not fit into memory
            raise UserError(
                "The network's output is not a number for the case that is named last: its weights are broken, or too "
                "large for half precision (then predict with -device cpu)."
            )
        return logits
