"""The suite that every network of this package passes: subclass ``NetworkContract`` and give it ``build``."""

import copy
import re
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tests.forked_workers import fork_workers


class NetworkContract:
    """What nnU-Net and a reader may expect of a network.

    A subclass is named ``Test...``, lies at the top level of its module (new processes import it from there) and
    overrides ``build``. ``sizes`` hold at least one non-square image; sides that the network has to pad are welcome.
    """

    sizes = [(32, 32), (32, 48), (17, 45)]
    size = (32, 48)
    channels = [(1, 1), (1, 2), (3, 4)]
    cancelled: frozenset[str] = frozenset()  # parameters whose gradient cancels exactly, by their names

    def build(self, input_channels: int, num_classes: int) -> nn.Module:
        """Make a small instance; it draws its weights from the global random state."""
        raise NotImplementedError

    def image(self, batch: int = 2, channels: int = 1, size: tuple[int, int] | None = None) -> torch.Tensor:
        return torch.randn(batch, channels, *(size or self.size))

    # shapes

    def test_output_has_the_size_of_the_image(self):
        net = self.build(1, 2).eval()
        for size in self.sizes:
            assert net(self.image(2, 1, size)).shape == (2, 2, *size)

    def test_channels_in_and_classes_out(self):
        for input_channels, num_classes in self.channels:
            net = self.build(input_channels, num_classes).eval()
            assert net(self.image(1, input_channels)).shape == (1, num_classes, *self.size)

    def test_wrong_number_of_channels_is_refused(self):
        with pytest.raises(ValueError) as error:
            self.build(3, 2)(self.image(2, 7))
        numbers = re.findall(r"\d+", str(error.value))
        assert "3" in numbers and "7" in numbers

    def test_a_batch_is_its_images_one_by_one(self):
        net, x = self.build(1, 2).eval(), self.image(3)
        torch.testing.assert_close(net(x), torch.cat([net(image[None]) for image in x]), rtol=1e-4, atol=1e-5)

    def test_seg_layers_are_what_depends_on_the_classes(self):
        # nnU-Net leaves exactly the parameters with this name out when it loads weights of another label set.
        few, many = (self.build(1, classes).state_dict() for classes in (2, 5))
        assert few.keys() == many.keys()
        heads = {name for name in few if ".seg_layers." in name}
        assert heads and heads == {name for name in few if few[name].shape != many[name].shape}

    # gradients

    def test_every_parameter_gets_a_gradient(self):
        # In float64, so that a gradient which cancels is smaller by ten orders of magnitude and not by two. That of a
        # single scalar may come near zero by chance.
        net = self.build(1, 2).double().train()
        logits = net(self.image().double())
        (logits * torch.randn_like(logits)).mean().backward()
        missing = [name for name, p in net.named_parameters() if p.grad is None]
        assert not missing
        largest = {name: p.grad.abs().max().item() for name, p in net.named_parameters()}
        typical = torch.tensor(list(largest.values()), dtype=torch.float64).median().item()
        assert 0 < typical < float("inf")
        outside = {name: g / typical for name, g in largest.items() if not 1e-7 < g / typical < 1e5}
        assert outside.keys() == self.cancelled
        assert all(g < 1e-10 for g in outside.values())

    # half precision

    def _train_step_under_autocast(self, device: str, dtype: torch.dtype) -> None:
        net, x = self.build(1, 2).to(device).train(), self.image().to(device)
        target = torch.randint(2, (2, *self.size), device=device)
        with torch.autocast(device, dtype=dtype):
            logits = net(x)
            loss = nn.functional.cross_entropy(logits, target)
        loss.backward()
        assert logits.isfinite().all() and loss.isfinite()
        assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        with torch.autocast(device, dtype=dtype), torch.no_grad():
            assert net.eval()(x).isfinite().all()

    @pytest.mark.usefixtures("without_onednn")
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_autocast_on_cpu_is_finite(self, dtype):
        self._train_step_under_autocast("cpu", dtype)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="float16 autocast on CUDA needs a CUDA device")
    def test_float16_autocast_on_cuda_is_finite(self):
        self._train_step_under_autocast("cuda", torch.float16)

    # several GPUs

    def test_synchronised_batch_norm_computes_the_same(self):
        # nnU-Net converts the network so; a normalisation that also activates, like timm's, would lose the activation
        net, x = self.build(1, 2), self.image()
        with torch.no_grad():
            net.train()(x)  # moves the running statistics away from where they start
        converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(net))
        assert converted.state_dict().keys() == net.state_dict().keys()
        torch.testing.assert_close(converted.eval()(x), net.eval()(x), rtol=1e-5, atol=1e-6)

    # building and saving

    def test_buffers_do_not_depend_on_the_random_state(self):
        buffers = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            buffers.append(dict(self.build(1, 2).named_buffers()))
        assert buffers[0].keys() == buffers[1].keys()
        for name, buffer in buffers[0].items():
            assert torch.equal(buffer, buffers[1][name]), name

    def test_prediction_changes_nothing(self):
        net, x = self.build(1, 2).eval(), self.image()
        before = copy.deepcopy(net.state_dict())
        first = net(x)
        torch.manual_seed(1)
        assert torch.equal(net(x), first)
        for name, value in net.state_dict().items():
            assert torch.equal(value, before[name]), name

    def test_weights_reloaded_in_a_new_process_give_the_same_output(self, tmp_path, monkeypatch):
        fork_workers(monkeypatch)
        net, x = self.build(1, 2), self.image()
        with torch.no_grad():
            net.train()(x)  # moves the running statistics away from where they start
            expected = net.eval()(x)
        saved = {"weights": net.state_dict(), "x": x, "expected": expected, "threads": torch.get_num_threads()}
        torch.save(saved, tmp_path / "saved.pt")
        torch.multiprocessing.spawn(_reload_and_compare, (type(self), tmp_path / "saved.pt"), nprocs=1)
        assert (tmp_path / "equal").read_text() == "True"

    # torch.compile, torch.export, DistributedDataParallel

    def _compare_with_compiled(self, backend: str) -> None:
        torch.compiler.reset()
        net, x = self.build(1, 2).train(), self.image()
        compiled = torch.compile(copy.deepcopy(net), fullgraph=True, backend=backend)
        weights = torch.randn(2, 2, *self.size)
        outputs = [model(x) for model in (net, compiled)]
        torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-3, atol=1e-4)
        for output in outputs:
            (output * weights).mean().backward()
        gradients = [torch.cat([p.grad.flatten() for p in model.parameters()]) for model in (net, compiled)]
        assert (gradients[0] - gradients[1]).norm() < 1e-3 * gradients[0].norm()

    def test_compiles_to_one_graph(self):
        self._compare_with_compiled("aot_eager")

    @pytest.mark.release
    def test_compiles_with_inductor(self):
        self._compare_with_compiled("inductor")

    def test_exports(self):
        net, x = self.build(1, 2).eval(), self.image()
        exported = torch.export.export(net, (x,)).module()
        torch.testing.assert_close(exported(x), net(x), rtol=1e-4, atol=1e-5)

    def test_two_processes_train_one_network(self, tmp_path, monkeypatch):
        fork_workers(monkeypatch)
        torch.multiprocessing.spawn(_train_in_two_processes, (type(self), tmp_path), nprocs=2)
        first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
        assert not torch.equal(first["x"], second["x"])
        assert first["after"].keys() == second["after"].keys()
        unequal = [name for name, value in first["after"].items() if not torch.equal(value, second["after"][name])]
        assert not unequal
        unmoved = [name for name, value in first["after"].items() if torch.equal(value, first["before"][name])]
        assert not unmoved


def _reload_and_compare(rank: int, contract: type[NetworkContract], path: Path) -> None:
    torch.manual_seed(12345)  # anything that a network draws for itself and does not save comes out differently
    saved = torch.load(path)
    torch.set_num_threads(saved["threads"])
    net = contract().build(1, 2).eval()
    net.load_state_dict(saved["weights"])
    with torch.no_grad():
        equal = torch.equal(net(saved["x"]), saved["expected"])
    (path.parent / "equal").write_text(str(equal))


def _train_in_two_processes(rank: int, contract: type[NetworkContract], folder: Path) -> None:
    torch.manual_seed(100 + rank)
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    suite = contract()
    net, x = suite.build(1, 2).train(), suite.image()
    parallel = DistributedDataParallel(net, find_unused_parameters=False)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for _ in range(2):  # an unused parameter is reported at the second step
        logits = parallel(x)
        (logits * torch.randn_like(logits)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    after = {name: p.detach() for name, p in net.named_parameters()}
    torch.save({"x": x, "before": before, "after": after}, folder / f"rank{rank}.pt")
    distributed.destroy_process_group()
