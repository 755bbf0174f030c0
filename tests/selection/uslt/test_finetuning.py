import io

import numpy as np
import pytest
import torch
from checkpoint_memory import Memory
from torch import nn
from torch.nn import functional
from uslt_oracles import global_loss, local_loss

from usl_backend.errors import CancelledError
from usl_backend.selection import USLT
from usl_backend.selection.rows.preparation import fit_projection
from usl_backend.selection.uslt.finetuning import PictureTrainer, PictureViews, ProjectedFeatures

SIZE = 8
SHORT = {"mode": "finetune", "epochs": 3, "batch": 32, "micro_batch": 16, "heads": 2, "neighbors": 5}


class Tiny(nn.Module):
    """A backbone of 200 weights, with batch norm and dropout as real ones have."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Sequential(
                nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
                nn.Flatten(), nn.Dropout(0.1),
            )  # fmt: skip

    def forward(self, pictures):
        return self.body(pictures)


class Shaken:
    """Views by noise: any augmentation will do here, the real one is tested beside the pipeline."""

    def weak(self, pictures, *, seed):
        return pictures.float() / 255

    def strong(self, pictures, *, seed):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(pictures.shape, generator=generator)
        return (pictures.float() / 255 + 0.1 * noise).clamp(0, 1)


def pool(n=90, seed=0):
    """Pictures of three colours, and what the untrained backbone makes of them."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(n) % 3
    base = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])[kinds][:, None, None, :]
    pictures = (base + rng.normal(size=(n, SIZE, SIZE, 3)) * 30).clip(0, 255).astype(np.uint8)
    backbone = Tiny().eval()
    with torch.inference_mode():
        rows = functional.normalize(backbone(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255))
    return pictures, rows.numpy(), kinds


def test_picture_views__are_made_of_the_rows_own_pictures():
    pictures, _, _ = pool(20)
    places, rows = np.array([3, 19, 7, 7, 0]), torch.tensor([4, 0, 2, 1, 3])
    views = PictureViews(pictures, places, Shaken(), torch.device("cpu"))
    expected = torch.from_numpy(pictures[[0, 3, 7, 19, 7]]).permute(0, 3, 1, 2) / 255
    assert torch.equal(views.weak(rows, torch.Generator()), expected)
    assert torch.equal(views.plain(slice(1, 3)), expected[[3, 2]])


@pytest.mark.parametrize("view", ["weak", "strong"])
def test_picture_views__are_made_on_the_device_of_bytes(view):
    seen = []

    class Watching:
        def weak(self, pictures, *, seed):
            seen.append(pictures)
            return pictures.float()

        strong = weak

    # This device stands for a GPU: its tensors are anywhere but in the processor's memory.
    views = PictureViews(pool(20)[0], np.arange(20), Watching(), torch.device("meta"))
    made = getattr(views, view)(torch.tensor([2, 0, 2]), torch.Generator())
    assert seen[0].device.type == made.device.type == "meta"
    assert seen[0].dtype == torch.uint8
    assert made.shape == (3, 3, SIZE, SIZE)


def test_picture_trainer__trains_the_backbone_and_the_picks_meet_every_kind():
    pictures, rows, kinds = pool()
    backbone = Tiny()
    before = [value.clone() for value in backbone.parameters()]
    trainer = PictureTrainer(pictures, backbone, Shaken(), device="cpu")
    selection = USLT(**SHORT, trainer=trainer).select(rows, 3, rng=0)
    assert sorted(kinds[selection.indices]) == [0, 1, 2]
    assert all((a != b).any() for a, b in zip(before, backbone.parameters(), strict=True))
    told = selection.diagnostics["training"]
    assert told["trained"]
    assert len(told["local_loss"]) == 3


@pytest.mark.parametrize("options", [{}, {"preset": "paper-cifar10", "batch": 32, "epochs": 3}])
def test_picture_trainer__same_seed_same_picks_also_after_a_resume(options):
    pictures, rows, _ = pool()

    def select(checkpoint=None, progress=None):
        trainer = PictureTrainer(pictures, Tiny(), Shaken(), device="cpu")
        selector = USLT(**(SHORT | options), checkpoint=checkpoint, trainer=trainer)
        return selector.select(rows, 12, rng=0, progress=progress)

    whole = select()
    torch.manual_seed(7)
    kept = Memory()

    def stop(step, done, total):
        if step == "training" and kept.writes == 2:
            raise CancelledError("enough")

    with pytest.raises(CancelledError):
        select(checkpoint=kept, progress=stop)
    resumed = select(checkpoint=kept)
    assert resumed.diagnostics["training"]["resumed_from"] == 2
    assert np.array_equal(whole.indices, resumed.indices)
    assert whole.diagnostics["training"]["local_loss"] == resumed.diagnostics["training"]["local_loss"]


def test_picture_trainer__first_losses_are_the_formulas_of_its_own_logits():
    """One head, one part per epoch, learning rate 0: the reported losses are those of the views."""
    pictures, rows, _ = pool(30)
    seen = {"strong": [], "weak": []}

    class Watched(Shaken):
        def weak(self, batch, *, seed):
            seen["weak"].append(super().weak(batch, seed=seed))
            return seen["weak"][-1]

        def strong(self, batch, *, seed):
            seen["strong"].append(super().strong(batch, seed=seed))
            return seen["strong"][-1]

    backbone = Tiny()
    backbone.body[1] = nn.Identity()
    backbone.body[5] = nn.Identity()
    options = SHORT | {
        "epochs": 1, "batch": 64, "micro_batch": 64, "heads": 1, "learning_rate": 0.0, "weight_decay": 0.0,
        "head_kind": "normed", "head_start": "instances", "projection": 0, "balance": "reweight",
        "near_duplicates": -1.0,
    }  # fmt: skip
    kept = Memory()
    trainer = PictureTrainer(pictures, backbone, Watched(), device="cpu")
    selection = USLT(**options, checkpoint=kept, trainer=trainer).select(rows, 4, rng=0)
    held = torch.load(io.BytesIO(kept.content), weights_only=True)
    weight = functional.normalize(held["model"]["heads.0.weight"].double())

    def logits(batch):
        with torch.no_grad():
            features = functional.normalize(backbone.eval()(batch).double())
        return (40 * features @ weight.T).tolist()

    anchor, neighbor = (logits(batch) for batch in seen["strong"])
    local, _ = local_loss(anchor, neighbor, [0.25] * 4, adjustment=2.5, temperature=0.5)
    whole, _ = global_loss(
        logits(seen["weak"][0]), anchor, threshold=0.0, balance="reweight", mean_outside_mask=True
    )
    told = selection.diagnostics["training"]
    assert told["local_loss"][0] == pytest.approx(local, abs=1e-4, rel=1e-4)
    assert told["global_loss"][0] == pytest.approx(whole, abs=1e-4, rel=1e-4)


def test_projected_features__are_the_rows_that_a_selection_sees():
    pictures, rows, _ = pool(60)
    projection = fit_projection(rows, dimensions=4)
    features = ProjectedFeatures(Tiny().eval(), projection)
    with torch.inference_mode():
        found = features(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255)
    np.testing.assert_allclose(found, projection.apply(rows), atol=1e-4)


def test_picture_trainer__gradients_of_parts_add_up_to_the_batch():
    pictures, rows, _ = pool(64)
    # Without batch norm, dropout and balance the parts of a batch know nothing of each other.
    options = SHORT | {
        "epochs": 1, "batch": 64, "heads": 1, "balance": "none", "adjustment": 0.0, "reseed_floor": 0.0,
        "local_weight": 0.0,
    }  # fmt: skip

    class Plain(Shaken):
        def strong(self, pictures, *, seed):
            return pictures.float() / 255

    ends = []
    for size in (8, 64):
        backbone = Tiny()
        backbone.body[1] = nn.Identity()
        backbone.body[5] = nn.Identity()
        trainer = PictureTrainer(pictures, backbone, Plain(), device="cpu")
        USLT(**options | {"micro_batch": size}, trainer=trainer).select(rows, 6, rng=0)
        ends.append(torch.cat([value.flatten() for value in backbone.parameters()]))
    np.testing.assert_allclose(ends[0].detach(), ends[1].detach(), atol=2e-5)
