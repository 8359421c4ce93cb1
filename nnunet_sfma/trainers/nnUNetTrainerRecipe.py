"""The trainer that does what a plan's ``training`` block says; trainers of single networks derive from it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from batchgenerators.utilities.file_and_folder_operations import join
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.collate_outputs import collate_outputs
from nnunetv2.utilities.file_path_utilities import get_output_folder
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from nnunet_sfma.devices import is_out_of_memory, refuse_missing_device
from nnunet_sfma.errors import UserError
from nnunet_sfma.fold_cases import preprocessed_cases, refuse_unusable_folds
from nnunet_sfma.made_for import refuse_data_of_other_plans
from nnunet_sfma.networks.accelerate import accelerate, checkpoint_activations
from nnunet_sfma.nnunet_folders import make_writable_folder, nnunet_folder
from nnunet_sfma.preprocessed_age import REFERENCES, preprocess_again
from nnunet_sfma.raw_agreement import compare_with_raw
from nnunet_sfma.sentences import first_line
from nnunet_sfma.split_record import refuse_test_cases
from nnunet_sfma.threads import wanted_threads
from nnunet_sfma.trainers.changed_plans import (
    Changes,
    changes_between,
    describe,
    label_changes,
    refuse_what_cannot_continue,
)
from nnunet_sfma.trainers.checkpoints import (
    LATEST,
    find_whole,
    remove_leftovers,
    reopen_training,
    replace_checkpoint,
    replace_training,
)
from nnunet_sfma.trainers.complete_plans import (
    build_network,
    check_checkpointing,
    check_network,
    complete_plans,
    read_recipe,
    refuse_network_of_another_trainer,
)
from nnunet_sfma.trainers.epoch_length import count_slices
from nnunet_sfma.trainers.finite_images import refuse_not_finite
from nnunet_sfma.trainers.fold_lock import alone
from nnunet_sfma.trainers.known_labels import holds_negative, refuse_unknown_labels
from nnunet_sfma.trainers.online_dice import dice_per_class, hard_counts
from nnunet_sfma.trainers.pretrained import check_pretrained, on_first_rank, start_from_pretrained
from nnunet_sfma.trainers.recipe import Recipe
from nnunet_sfma.trainers.seeding import seed_everything, seed_workers
from nnunet_sfma.trainers.synchronised_norm import synchronise_in_one_graph
from nnunet_sfma.trainers.trained_on import describe_cases, kept_cases, refuse_another_split
from nnunet_sfma.trainers.training_log import TrainingLog
from nnunet_sfma.trainers.typed_training import remember_command
from nnunet_sfma.trainers.unfinished_epoch import UnfinishedEpoch


class nnUNetTrainerRecipe(nnUNetTrainer):
    """nnU-Net's trainer with optimiser, schedule, loss weights, length and precision taken from the plan.

    It supports what nnU-Net's own trainer supports in 2D: region-based labels, the ignore label, several input
    channels, DDP, ``--c``, ``--val``, ``--npz``, ``-pretrained_weights`` and fold ``all``. It has no deep supervision.

    Beyond nnU-Net's it logs the training Dice, stops at a loss that is not finite, seeds if the recipe says so, takes
    as many threads on a CPU as ``OMP_NUM_THREADS`` says, and removes an earlier validation's summary when it starts.

    No interruption costs more than a few minutes. ``checkpoint_latest.pth`` is written after every epoch and, in long
    epochs, within them; ``--c`` continues in the middle of an epoch, whose logged loss, training Dice and duration are
    of all its parts. Each checkpoint is written beside the old one and renamed, and until the training ends
    ``checkpoint_previous.pth`` is the one before the latest: ``--c`` falls back to it, or else to the best, if the
    latest is damaged. With several GPUs the first one alone writes. What it measured before an interruption then
    stands for the others as well, in the loss and the training Dice of that epoch.

    Each checkpoint keeps under ``trained_on`` the fold's training and validation cases, the checksum of its split, and
    which changes of the plans the training went on with. ``--c`` and ``--val`` compare with them. Only one process at a
    time trains or validates a fold.

    Attributes:
        default_preset: the preset that completes nnU-Net's own plans. The networks of all presets that name the same
            trainer as this one can be trained.
        seconds_between_checkpoints: after which the latest checkpoint is written within an epoch.

    Raises:
        UserError: if the plans do not fit, see :func:`nnunet_sfma.trainers.complete_plans.complete_plans`.
    """

    default_preset: str
    seconds_between_checkpoints = 180.0

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int | str,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008  the signature is nnU-Net's
    ):
        refuse_missing_device(device.type)
        model_folder = self._model_folder(plans, configuration)
        plans = complete_plans(plans, configuration, self.default_preset, model_folder)
        self.recipe = read_recipe(plans, configuration)
        network = check_network(plans, configuration)
        refuse_network_of_another_trainer(plans, configuration, type(self).__name__)
        check_pretrained(network, self.recipe.pretrained)
        check_checkpointing(network, self.recipe)
        refuse_data_of_other_plans(plans, configuration, nnunet_folder("nnUNet_preprocessed") / plans["dataset_name"])
        make_writable_folder(model_folder)
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.device.type == "cpu" and (threads := wanted_threads()):
            torch.set_num_threads(threads)
        self.initial_lr = self.recipe.initial_lr
        self.weight_decay = self.recipe.weight_decay
        self.num_epochs = self.recipe.num_epochs
        self.oversample_foreground_percent = self.recipe.foreground_share
        self.enable_deep_supervision = False
        self.save_every = 1
        self.autocast_dtype = self.recipe.autocast_dtype(self.device)
        if self.autocast_dtype != torch.float16:
            self.grad_scaler = None
        self.logger.local_logger = TrainingLog()
        self.weights_were_loaded = False
        self.continues = False
        self.latest_is_whole = False
        self.latest_written = time.monotonic()
        self.earlier_part = UnfinishedEpoch()
        self.epoch_outputs: list[dict] = []
        self.cases: dict = {}
        self.history: list[dict] = []
        self.changes: Changes = {}
        self.knew_its_cases = False

    @classmethod
    def _model_folder(cls, plans: dict, configuration: str) -> Path:
        nnunet_folder("nnUNet_results")
        return Path(get_output_folder(plans["dataset_name"], cls.__name__, plans["plans_name"], configuration))

    @staticmethod
    def build_network_architecture(
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build the network that the plan names; it has one output whatever ``enable_deep_supervision`` says.

        It is called for prediction as well, where an image with other channels than the plan's, or with values that are
        not finite, ends in a UserError. The units are the fast ones unless the plan says otherwise. What the paper
        draws at random, the plan's seed decides.
        """
        configuration = configuration_manager.configuration
        network = build_network(configuration["architecture"], num_input_channels, num_output_channels)
        recipe = Recipe.from_plan(configuration["training"])
        if recipe.seed is not None and hasattr(network, "draw_permutations"):
            network.draw_permutations(recipe.seed)
        if recipe.accelerate:
            accelerate(network)
        network.register_forward_pre_hook(partial(_refuse_other_channels, num_input_channels))
        network.register_forward_pre_hook(refuse_not_finite)
        return network

    def initialize(self) -> None:
        """Build network, optimiser and loss, and notice whether anybody loads weights into the network.

        With a seed the weights start from it.
        """
        if self.recipe.seed is not None:
            seed_everything(self.recipe.seed, self.local_rank)
        super().initialize()
        if self.recipe.activation_checkpointing:
            checkpoint_activations(_bare(self.network))
        if self.is_ddp and isinstance(self.network.module, OptimizedModule):
            synchronise_in_one_graph(self.network)
        _bare(self.network).register_load_state_dict_post_hook(self._note_loaded_weights)

    def _do_i_compile(self) -> bool:
        """nnU-Net's choice; a compiler decides by itself what is kept, so not with activation checkpointing."""
        return not self.recipe.activation_checkpointing and super()._do_i_compile()

    def _note_loaded_weights(self, network: nn.Module, incompatible_keys) -> None:
        self.weights_were_loaded = True

    def run_training(self) -> None:
        """Train the fold.

        Raises:
            UserError: if another process trains or validates it.
        """
        with self._alone():
            super().run_training()

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate the fold. A summary of an earlier validation is removed: this one may not come to its end.

        Raises:
            UserError: if another process trains or validates it, or its plans now have another patch size than it was
                trained with, and so than a prediction with it has.
        """
        if "patch_size" in self.changes:
            raise UserError(
                f"{self.output_folder} cannot be validated with these plans ({describe(self.changes)}): restore them, "
                f"or raise training.num_epochs and continue the fold with --c."
            )
        with self._alone(), self._unwrapped():
            self._remove_summary()
            super().perform_actual_validation(save_probabilities)

    def _remove_summary(self) -> None:
        if self.local_rank == 0:
            Path(self.output_folder, "validation", "summary.json").unlink(missing_ok=True)

    @contextmanager
    def _unwrapped(self) -> Iterator[None]:
        """Let each rank predict by itself: the wrapper of several GPUs hands buffers to all before a forward pass.

        A rank without cases has none, and the others would wait for it.
        """
        network = self.network
        self.network = network.module if isinstance(network, DistributedDataParallel) else network
        try:
            yield
        finally:
            self.network = network

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the fold; the first rank does for all."""
        with ExitStack() as stack:
            on_first_rank(lambda: stack.enter_context(alone(Path(self.output_folder))))
            yield

    def on_train_start(self) -> None:
        """Prepare the training; a fresh one starts from the recipe's pretrained weights.

        Fresh means that nobody loaded weights: neither a checkpoint for ``--c`` nor ``-pretrained_weights``. A summary
        of an earlier validation is removed, because it is not of the weights that this training will end with.

        Raises:
            UserError: if the pretrained weights cannot be had or do not fit.
        """
        if not self.was_initialized:
            self.initialize()
        if self.recipe.pretrained != "none" and not self.weights_were_loaded:
            path = start_from_pretrained(_bare(self.network), self.recipe.pretrained)
            self.weights_were_loaded = True
            self.print_to_log_file(f"Starting from the pretrained weights {path}")
        self._refuse_changes_without_epochs()
        super().on_train_start()
        self.changes = {}
        if self.local_rank == 0 and not self.disable_checkpointing:
            self._prepare_folder(Path(self.output_folder))

    def _refuse_changes_without_epochs(self) -> None:
        """Of a finished fold the checkpoint would be written anew, with plans by which nothing was trained.

        Those of earlier versions may hold older plans than they were trained with, and are written anew for that.
        """
        changed = self.changes.keys() - {"training.num_epochs"}
        if self.knew_its_cases and changed and self.current_epoch >= self.num_epochs:
            raise UserError(
                f"{self.output_folder} has {self.current_epoch} of {self.num_epochs} epochs, so nothing would be "
                f"trained with the changed plans ({describe(self.changes)}): restore them, or raise "
                f"training.num_epochs as well."
            )

    def _prepare_folder(self, folder: Path) -> None:
        self._remove_summary()
        if not self.continues:
            replace_training(folder)
            remember_command(folder)
        elif self.current_epoch < self.num_epochs:
            reopen_training(folder)

    def on_train_end(self) -> None:
        """End the training; of the checkpoints stay the final and the best, as nnU-Net leaves them."""
        super().on_train_end()
        if self.local_rank == 0 and not self.disable_checkpointing:
            remove_leftovers(Path(self.output_folder))

    def do_split(self) -> tuple[list[str], list[str]]:
        """nnU-Net's training and validation cases of the fold.

        Raises:
            UserError: if test cases of ``nnunet-sfma splits`` are among them, or the split has no such fold or one
                that cannot be trained.
        """
        folder = Path(self.preprocessed_dataset_folder_base)
        if self.fold != "all":
            refuse_unusable_folds(folder, preprocessed_cases(Path(self.preprocessed_dataset_folder)), [self.fold])
        train, val = super().do_split()
        refuse_test_cases({*train, *val}, folder, self.fold)
        return train, val

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Nothing to switch: there is one output."""

    def configure_optimizers(self):
        """Optimiser and schedule of the recipe."""
        optimizer = self.recipe.build_optimizer(_bare(self.network))
        return optimizer, self.recipe.build_schedule(optimizer, lambda: self.logger.get_value("train_dice", step=None))

    def _build_loss(self) -> nn.Module:
        """nnU-Net's Dice + cross-entropy (BCE for regions), weighted by the recipe."""
        loss = super()._build_loss()
        loss.weight_dice, loss.weight_ce = self.recipe.dice_weight, self.recipe.ce_weight
        return loss

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):  # noqa: N802  the name is nnU-Net's
        """nnU-Net's choice, unless the recipe has no augmentation or no mirroring at test time."""
        rotation, dummy_2d, initial_patch_size, mirror_axes = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        if self.recipe.augmentation == "none":
            initial_patch_size, mirror_axes = self.configuration_manager.patch_size, None
        if not self.recipe.test_time_mirroring:
            self.inference_allowed_mirroring_axes = None
        return rotation, dummy_2d, initial_patch_size, mirror_axes

    def get_training_transforms(
        self,
        patch_size: Sequence[int],
        rotation_for_DA,  # noqa: N803  the name is nnU-Net's
        deep_supervision_scales: list | None,
        mirror_axes: tuple[int, ...] | None,
        do_dummy_2d_data_aug: bool,
        **label_options,
    ):
        """nnU-Net's augmentation, or without augmentation what it does to validation samples."""
        if self.recipe.augmentation == "none":
            label_options.pop("use_mask_for_norm", None)
            return self.get_validation_transforms(deep_supervision_scales, **label_options)
        return super().get_training_transforms(
            patch_size, rotation_for_DA, deep_supervision_scales, mirror_axes, do_dummy_2d_data_aug, **label_options
        )

    def get_tr_and_val_datasets(self):
        """nnU-Net's datasets, checked; knowing them, the epochs get their length and the checkpoints their cases.

        Raises:
            UserError: if a label lies on another grid than its image or holds values that dataset.json does not know.
        """
        training, validation = super().get_tr_and_val_datasets()
        self._check_data(training, validation)
        self.cases = describe_cases(training.identifiers, validation.identifiers)
        batch_size, lesion_only = self.configuration_manager.batch_size, self.recipe.slices == "lesion"
        self.num_iterations_per_epoch = self.recipe.iterations(
            self.recipe.iterations_per_epoch, count_slices(training, lesion_only), batch_size
        )
        self.num_val_iterations_per_epoch = self.recipe.iterations(
            self.recipe.val_iterations_per_epoch, count_slices(validation, lesion_only), batch_size
        )
        self.print_to_log_file(
            f"An epoch has {self.num_iterations_per_epoch} training and {self.num_val_iterations_per_epoch} validation "
            f"iterations of batch size {batch_size}."
        )
        return training, validation

    def _check_data(self, training: nnUNetBaseDataset, validation: nnUNetBaseDataset) -> None:
        folder, plans = Path(self.preprocessed_dataset_folder_base), self.plans_manager
        mending = preprocess_again(folder, plans.plans_name, self.configuration_name)
        refuse_unknown_labels([training, validation], self.label_manager, self._has_negative_label, mending)
        if self.local_rank == 0:
            cases = {*training.identifiers, *validation.identifiers}
            for sentence in compare_with_raw(plans, self.configuration_name, folder, cases):
                self.print_to_log_file(f"Warning: {sentence}")

    def _has_negative_label(self, case: str) -> bool:
        label = Path(self.preprocessed_dataset_folder_base, REFERENCES, f"{case}{self.dataset_json['file_ending']}")
        return holds_negative(label, self.plans_manager.image_reader_writer_class)

    def get_dataloaders(self):
        """nnU-Net's data loaders; with a seed they draw from it, but other samples in each part of a training."""
        if self.recipe.seed is None:
            return super().get_dataloaders()
        place = (self.recipe.seed, self.local_rank, self.current_epoch, len(self.earlier_part.outputs))
        seed_everything(*place)
        training, validation = super().get_dataloaders()
        seed_workers(training, *place, 0)
        seed_workers(validation, *place, 1)
        return training, validation

    def on_epoch_start(self):
        """Start an epoch or the rest of one, which lasts as long as all its parts."""
        super().on_epoch_start()
        self.logger.get_value("epoch_start_timestamps", step=None)[-1] -= self.earlier_part.seconds

    def on_train_epoch_start(self):
        """Start the training part of an epoch, or the rest of it; the schedule reads the training Dice logged so far.

        nnU-Net reads the number of iterations right after.
        """
        super().on_train_epoch_start()
        self.epoch_outputs = list(self.earlier_part.outputs)
        self.num_iterations_per_epoch -= len(self.earlier_part.outputs)
        if self.earlier_part.outputs:
            self.print_to_log_file(f"Continuing after iteration {len(self.earlier_part.outputs)} of this epoch.")

    def train_step(self, batch: dict) -> dict:
        """One optimiser step, and a checkpoint if the latest is old.

        Args:
            batch: ``data`` (B, C, H, W), ``target`` (B, 1, H, W) or, with regions, (B, R, H, W), ``keys`` (case names).

        Returns:
            ``loss`` and the counts ``tp_hard``, ``fp_hard``, ``fn_hard`` per class.

        Raises:
            UserError: if the loss or the gradient is not finite, the memory does not suffice, or the checkpoint cannot
                be written.
        """
        data = batch["data"].to(self.device, non_blocking=True)
        target = batch["target"].to(self.device, non_blocking=True)
        self.optimizer.zero_grad(set_to_none=True)
        with self._told_what_memory_lacks():
            with self._autocast():
                output = self.network(data)
                loss = self.loss(output, target)
            loss_value = loss.detach().cpu().numpy()
            self._refuse_not_finite("loss", loss_value, batch["keys"])
            self._backward_and_step(loss, batch["keys"])
        self.epoch_outputs.append({"loss": loss_value, **hard_counts(output.detach(), target, self.label_manager)})
        if time.monotonic() - self.latest_written > self.seconds_between_checkpoints:
            self._save_within_epoch()
        return self.epoch_outputs[-1]

    def validation_step(self, batch: dict) -> dict:
        """nnU-Net's.

        Raises:
            UserError: if the memory does not suffice.
        """
        with self._told_what_memory_lacks():
            return super().validation_step(batch)

    @contextmanager
    def _told_what_memory_lacks(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"The memory does not suffice for batch size {self.configuration_manager.batch_size} and patch "
                f"{self.configuration_manager.patch_size} ({first_line(error)}): make a plan with nnunet-sfma plan "
                f"--set batch_size=N and a smaller N."
            ) from error

    def _autocast(self):
        if self.autocast_dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast_dtype)

    def _refuse_not_finite(self, what: str, value: float, cases: Sequence[str]) -> None:
        if not np.isfinite(value):
            others = " and in those that the other GPUs name, whose numbers this one shares" if self.is_ddp else ""
            raise UserError(
                f"The {what} is {value} in epoch {self.current_epoch}, iteration {len(self.epoch_outputs)}, cases "
                f"{', '.join(cases)}: look for broken voxels in these{others}, or lower training.initial_lr."
            )

    def _backward_and_step(self, loss: torch.Tensor, cases: Sequence[str]) -> None:
        scaler = self.grad_scaler
        (loss if scaler is None else scaler.scale(loss)).backward()
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.gradient_clip)
        if scaler is None:
            # a scaler skips such a step by itself; without one it would ruin the weights and the next checkpoint
            self._refuse_not_finite("gradient's norm", norm.item(), cases)
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()

    def on_train_epoch_end(self, train_outputs: list[dict]):
        """Log the loss and the training Dice: of all samples of the epoch together, mean over the classes.

        Args:
            train_outputs: of the iterations that this run did; those of an earlier run come before them.
        """
        train_outputs = [*self.earlier_part.outputs, *train_outputs]
        self.num_iterations_per_epoch += len(self.earlier_part.outputs)
        self.earlier_part = UnfinishedEpoch()
        super().on_train_epoch_end(train_outputs)
        outputs = collate_outputs(train_outputs)
        counts = np.stack([np.sum(outputs[key], 0) for key in ("tp_hard", "fp_hard", "fn_hard")])
        if self.is_ddp:
            of_all_ranks = [None] * dist.get_world_size()
            dist.all_gather_object(of_all_ranks, counts)
            counts = np.sum(of_all_ranks, 0)
        dice = dice_per_class(*counts)
        mean_dice = float(np.nanmean(dice)) if np.isfinite(dice).any() else 0.0
        self.logger.log("train_dice", mean_dice, self.current_epoch)
        self.print_to_log_file("Training Dice", np.round(mean_dice, decimals=4))

    def save_checkpoint(self, filename: str) -> None:
        """Write a checkpoint; of the latest one, the one before it is kept.

        nnU-Net writes the latest checkpoint of an epoch before it looks for a new best; a run resumed from it would not
        know of that best. So the best comes first.

        Raises:
            UserError: if it cannot be written; the checkpoint that was there stays.
        """
        path = Path(filename)
        if path.name == LATEST:
            self._save_new_best()
        if self.local_rank != 0 or self.disable_checkpointing:
            super().save_checkpoint(filename)
        elif path.name == LATEST:
            self._replace_latest(self._checkpoint())
        else:
            replace_checkpoint(path, partial(torch.save, self._checkpoint()))

    def _checkpoint(self) -> dict:
        """What nnU-Net keeps after an epoch, and what the fold was trained on."""
        return {
            "network_weights": _bare(self.network).state_dict(),
            "optimizer_state": self.optimizer.state_dict(),
            "grad_scaler_state": None if self.grad_scaler is None else self.grad_scaler.state_dict(),
            "logging": self.logger.get_checkpoint(),
            "_best_ema": self._best_ema,
            "current_epoch": self.current_epoch + 1,
            "init_args": self.my_init_kwargs,
            "trainer_name": self.__class__.__name__,
            "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
            "trained_on": {**self.cases, "history": self.history},
        }

    def _save_within_epoch(self) -> None:
        """Write the latest checkpoint with what nnU-Net's has, the epoch under way and what was done of it.

        The log in it ends with the epoch before, as nnU-Net's logger expects of an epoch that it starts.
        """
        if self.local_rank != 0 or self.disable_checkpointing:
            return
        epoch = self.current_epoch
        start = self.logger.get_value("epoch_start_timestamps", step=-1)
        checkpoint = {
            **self._checkpoint(),
            "logging": {key: values[:epoch] for key, values in self.logger.get_checkpoint().items()},
            "current_epoch": epoch,
            "unfinished_epoch": {"epoch": epoch, "outputs": self.epoch_outputs, "seconds": time.time() - start},
        }
        self._replace_latest(checkpoint)

    def _replace_latest(self, checkpoint: dict) -> None:
        write = partial(torch.save, checkpoint)
        replace_checkpoint(Path(self.output_folder, LATEST), write, keep_old=self.latest_is_whole)
        self.latest_is_whole = True
        self.latest_written = time.monotonic()

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Load a checkpoint; in place of a damaged ``checkpoint_latest.pth`` the one before it, or else the best.

        A changed length, learning rate or batch size, say, is in force from here on and recorded in the checkpoints.

        Raises:
            UserError: if none of them can be read, or the file is another and cannot be read; if the split has other
                cases for this fold than it was trained on, or the plans were changed in what cannot be continued.
        """
        asked = Path(filename_or_checkpoint)
        path, checkpoint, damage = find_whole(asked)
        if damage is not None:
            self.print_to_log_file(
                f"{asked} cannot be read ({damage}): continuing instead from {path.name}, epoch "
                f"{checkpoint['current_epoch']}."
            )
        self._compare_with(checkpoint)
        if not self.was_initialized:
            self.initialize()
        present = self.my_init_kwargs, [(group["lr"], group["weight_decay"]) for group in self.optimizer.param_groups]
        super().load_checkpoint(str(path))
        if self._best_ema is not None and not np.isfinite(self._best_ema):
            self._best_ema = None  # the first epoch had no pseudo Dice: any other is better
        self.my_init_kwargs, rates = present
        for group, (rate, decay) in zip(self.optimizer.param_groups, rates, strict=True):
            group.update(lr=rate, weight_decay=decay)
        self.earlier_part = UnfinishedEpoch.of(checkpoint)
        self.latest_is_whole = path.name == LATEST
        self.continues = True

    def _compare_with(self, checkpoint: dict) -> None:
        """Refuse a checkpoint of another split, or of plans it cannot be continued with; note what else changed."""
        folder, kept, cases = Path(self.output_folder), kept_cases(checkpoint), self.do_split()
        refuse_another_split(folder, kept, *cases)
        self.cases = describe_cases(*cases)
        then, epoch = checkpoint["init_args"], checkpoint["current_epoch"]
        changes = changes_between(then["plans"], self.plans_manager.plans, self.configuration_name)
        changes |= label_changes(then["dataset_json"], self.dataset_json)
        refuse_what_cannot_continue(changes, folder)
        self.changes, self.history = changes, list(kept["history"]) if kept else []
        self.knew_its_cases = kept is not None
        if changes:
            self.print_to_log_file(
                f"Continuing after epoch {epoch} with plans that differ from those before: {describe(changes)}."
            )
            self.history.append({"epoch": epoch, "changes": changes})

    def _save_new_best(self) -> None:
        ema = self.logger.get_value("ema_fg_dice", step=-1)
        if self._best_ema is None or ema > self._best_ema:
            self._best_ema = ema
            self.print_to_log_file(f"New best moving average of the pseudo Dice: {np.round(ema, decimals=4)}")
            self.save_checkpoint(join(self.output_folder, "checkpoint_best.pth"))


def _refuse_other_channels(expected: int, network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    channels = inputs[0].shape[1]
    if channels != expected:
        raise UserError(
            f"The image has {channels} channels, the model was planned for {expected}: give every case exactly the "
            f"files _0000 to _{expected - 1:04d}."
        )


def _bare(network: nn.Module) -> nn.Module:
    """The network inside the wrappers of several GPUs and of compilation."""
    if isinstance(network, DistributedDataParallel):
        network = network.module
    return network._orig_mod if isinstance(network, OptimizedModule) else network
