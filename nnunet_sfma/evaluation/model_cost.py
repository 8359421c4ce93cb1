"""What the evaluated network costs; it is counted with the evaluation, from the plans, and only shown by the report."""

from collections.abc import Mapping, Sequence

from nnunet_sfma.errors import UserError


def count_cost(
    architecture: dict, channels: int, patch_size: Sequence[int], class_labels: Mapping[str, Sequence[int]]
) -> dict | None:
    """Count the parameters and multiply-adds of a plan's network for one patch.

    Args:
        architecture: block of nnU-Net's plans.
        channels: number of the images' channels.
        patch_size: (y, x) or (z, y, x).
        class_labels: the foreground classes or regions, each with its labels.

    Returns:
        ``input``: (channels, *patch_size); ``parameters``, ``conv_macs``, ``matmul_macs`` and
        ``accelerated_conv_macs`` as :class:`nnunet_sfma.networks.cost.Cost` has them. None for a network that cannot
        be built here.
    """
    import torch

    from nnunet_sfma.networks.cost import measure_cost
    from nnunet_sfma.trainers.complete_plans import build_network, fit_to_patch

    shape = (channels, *patch_size)
    try:
        with torch.device("meta"):
            network = build_network(fit_to_patch(architecture, patch_size), channels, _outputs(class_labels))
        cost = measure_cost(network, shape)
    except (UserError, Exception):  # networks raise what they like, and an evaluation is one without a cost too
        return None
    return {
        "input": list(shape),
        "parameters": cost.parameters,
        "conv_macs": cost.conv_macs,
        "matmul_macs": cost.matmul_macs,
        "accelerated_conv_macs": cost.accelerated_conv_macs,
    }


def _outputs(class_labels: Mapping[str, Sequence[int]]) -> int:
    """Channels of the network's output, as nnU-Net counts them: regions, or labels with the background."""
    labels = class_labels.values()
    return len(labels) if any(len(several) > 1 for several in labels) else len(labels) + 1
