import numpy as np
import pytest
import torch

from usl_backend import encoders
from usl_backend.encoders.images import ImageEncoder, ImageNetwork, fold_batch_norm, halve_until_it_fits
from usl_backend.errors import EncoderError


class Growing(torch.nn.Module):
    """Whose memory ends above so many pictures at a time."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.seen = limit, []

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(pictures))
        if len(pictures) > self.limit:
            raise torch.OutOfMemoryError("no memory left")
        return pictures.mean(dim=(2, 3))


def encoder(module: torch.nn.Module) -> ImageEncoder:
    network = ImageNetwork(module, "small", "0" * 64, 3, 32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return ImageEncoder(network, threads=1, device="cpu")


def test_encode__halves_the_pass_when_memory_runs_out_and_remembers_it() -> None:
    module = Growing(5)
    small = encoder(module)
    batch = np.random.default_rng(0).integers(1, 256, (20, 32, 32, 3), dtype=np.uint8)
    rows = small.encode(batch)
    wanted = batch.astype(np.float64).mean(axis=(1, 2))
    np.testing.assert_allclose(rows, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-6)
    assert list(dict.fromkeys(module.seen)) == [16, 8, 4]
    module.seen.clear()
    small.encode(batch)
    assert set(module.seen) == {4}


def test_encode__says_so_when_not_even_one_fits() -> None:
    with pytest.raises(EncoderError, match="not enough memory for a single forward pass"):
        encoder(Growing(0)).encode(np.zeros((1, 32, 32, 3), np.uint8))


def test_halved_until_it_fits__other_failures_pass() -> None:
    def work(size: int) -> None:
        raise RuntimeError(f"mat1 and mat2 do not fit at {size}")

    with pytest.raises(RuntimeError, match="at 8"):
        halve_until_it_fits(8, lambda _: None, work)


def test_fold_batch_norm__same_rows_without_batch_norm() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()).eval()
    module[1].running_mean.normal_()
    module[1].running_var.uniform_(0.5, 2.0)
    folded = fold_batch_norm(module)
    inputs = torch.randn(2, 3, 8, 8)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in folded.modules())
    assert isinstance(module[1], torch.nn.BatchNorm2d)
    torch.testing.assert_close(folded(inputs), module(inputs), atol=1e-5, rtol=1e-5)


def test_fold_batch_norm__network_that_cannot_be_traced_stays_as_it_is() -> None:
    class Branching(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(3)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.norm(inputs) if inputs.sum() > 0 else inputs

    module = Branching().eval()
    assert fold_batch_norm(module) is module


def test_backbone__is_the_default_encoder_with_its_normalisation_inside() -> None:
    batch = np.random.default_rng(2).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    module = encoders.backbone("efficientnet-lite0", image_size=64)
    features = module(torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255.0)
    rows = torch.nn.functional.normalize(features).detach().numpy()
    wanted = encoders.load("efficientnet-lite0", image_size=64).encode(batch)
    np.testing.assert_allclose(rows, wanted, atol=1e-5)
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in module.modules())
    features.sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
