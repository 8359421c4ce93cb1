import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread_one_seed():
    """The tensors are tiny: a second thread costs more than it brings."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def without_onednn():
    """On some processors PyTorch 2.14's oneDNN never returns from a long depthwise strip of few channels in float16."""
    with torch.backends.mkldnn.flags(enabled=False):
        yield
