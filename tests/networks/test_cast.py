"""Networks that are cast to half precision as a whole, without autocast."""

import pytest
import torch

from nnunet_sfma.networks import DANIE, SFMANet

SIZES = {"features_per_stage": [32] * 4, "depths": [1] * 4, "blocks_per_stage": 1}
# 16 channels would do as well, but on some processors the depthwise kernels of PyTorch 2.14 never return for them
NETWORKS = {"sfmanet": lambda: SFMANet(1, 2, (32, 64)), "danie": lambda: DANIE(1, 2, (64, 64), **SIZES)}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NETWORKS)
def test_network_in_half_precision_is_close_to_full(name: str, dtype: torch.dtype):
    network, x = NETWORKS[name]().eval(), torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        expected = network(x)
        found = network.to(dtype)(x.to(dtype)).float()
    assert found.isfinite().all()
    assert (found - expected).abs().max() < 4 * torch.finfo(dtype).eps * expected.abs().max()
