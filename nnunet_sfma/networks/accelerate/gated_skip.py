"""The fast twin of SFMANet's skip connection."""

import torch

from nnunet_sfma.networks.accelerate.recomputation import recomputed, recomputed_if_large
from nnunet_sfma.networks.sfmanet.gated_skip import GatedSkip


class FastGatedSkip(GatedSkip):
    """Stands for :class:`GatedSkip`; of a large map nothing but the input is kept for the backward pass.

    Gives up: hooks are called again where a forward pass is done again; on a CPU the second derivative.

    Attributes:
        checkpointing: keep nothing of small maps either.
    """

    checkpointing = False

    def forward(self, x_in: torch.Tensor) -> torch.Tensor:
        run = recomputed if self.checkpointing else recomputed_if_large
        return run(self._gated, x_in)

    def _gated(self, x_in: torch.Tensor) -> torch.Tensor:
        x = self.init(x_in)
        return self._combined(x_in, x, recomputed_if_large(self.sgu, x), recomputed_if_large(self.fgu, x))
