"""``nnUNetv2_train DATASET 2d FOLD -tr nnUNetTrainerPeer``."""

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_sfma.trainers.complete_plans import is_nnunets_unet
from nnunet_sfma.trainers.nnUNetTrainerRecipe import nnUNetTrainerRecipe


class nnUNetTrainerPeer(nnUNetTrainerRecipe):
    """Trains what SFMANet is compared with: the networks of the presets ``peer-*`` and nnU-Net's own.

    With nnU-Net's own plans it trains the network that nnU-Net planned, plain or residual encoder, by the recipe of
    SFMANet's paper and without deep supervision.
    """

    default_preset = "peer-nnunet"

    @staticmethod
    def build_network_architecture(
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build the network that the plan names; it has one output whatever ``enable_deep_supervision`` says.

        nnU-Net's own networks hold a head for each stage even so. Those that are not computed are frozen, because
        several GPUs wait for a gradient of all that is not; they stay for the sake of checkpoints.
        """
        network = nnUNetTrainerRecipe.build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
        )
        if is_nnunets_unet(network):
            network.decoder.seg_layers[:-1].requires_grad_(False)
        return network
