"""The training loop of USL-T: epochs, re-seeding, checkpoints.

Embeddings and pictures are trained on by the same loop, which sees them through `Views`.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Protocol

import torch

from usl_backend.errors import SelectionError
from usl_backend.selection.uslt.losses import GlobalLoss, LocalLoss

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from usl_backend.selection.base import Checkpoint
    from usl_backend.selection.uslt.heads import ClusterModel
    from usl_backend.selection.uslt.presets import USLTParameters

logger = logging.getLogger(__name__)

COUNT_MOMENTUM = 0.9
"""Of the running sizes that re-seeding looks at."""
EPOCH_STEPS, SMALLEST_BATCH = 10, 256
"""Steps per epoch, and rows per step at least, where no batch is asked for: a large pool is not trained longer, only
on more rows at a time, because training beyond what a small pool needs empties clusters."""
FORMAT = 1
"""Of a checkpoint: another one is not gone on from."""


class Views(Protocol):
    """Makes the batches of a pool."""

    def strong(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Make strongly augmented views of these rows, as the model takes them."""
        ...

    def weak(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Make weakly augmented ones."""
        ...


@dataclass
class History:
    """Losses and events of a training.

    Attributes
    ----------
    local_loss, global_loss
        Per epoch, the mean over its batches of the sum over heads, before weighting; lower = better.
    reseeded
        Clusters that started anew, over all heads.
    resumed_from
        Epochs done by an earlier attempt.
    """

    local_loss: list[float] = field(default_factory=list)
    global_loss: list[float] = field(default_factory=list)
    reseeded: int = 0
    resumed_from: int = 0


class Training:
    """One training of a model.

    Parameters
    ----------
    model
        Trained in place.
    views
        Views of the pool that is trained on.
    near : (n, k + 1) int64
        Rows that may stand for each row in the local loss: its neighbors and itself.
    parameters
        Weights, rates and counts.
    generator
        On the CPU: order of the rows, neighbors, and augmentation.
    checkpoint
        Holds the state between epochs; None keeps none.
    report
        Called as `report(steps done, steps)`; may raise to stop. The state after the last whole epoch is then in
        the checkpoint.
    mixed
        Compute in bfloat16 on a GPU that has it.
    """

    def __init__(
        self,
        model: ClusterModel,
        views: Views,
        near: Tensor,
        *,
        parameters: USLTParameters,
        generator: torch.Generator,
        checkpoint: Checkpoint | None = None,
        report: Callable[[int, int], None] | None = None,
        mixed: bool = True,
    ) -> None:
        self.model, self.views, self.near, self.p = model, views, near, parameters
        self.generator, self.checkpoint, self.report = generator, checkpoint, report
        self.device = next(model.parameters()).device
        learned = [one for one in model.parameters() if one.requires_grad]
        self.optimizer = torch.optim.Adam(
            learned, lr=parameters.learning_rate, weight_decay=parameters.weight_decay
        )
        layer: Any = model.heads[0]
        clusters = len(layer.weight)
        self.local = [
            LocalLoss(
                parameters.adjustment,
                parameters.temperature,
                torch.full((clusters,), 1.0 / clusters, device=self.device),
            )
            for _ in model.heads
        ]
        self.local_weight = parameters.local_weight_for(clusters)
        self.whole = GlobalLoss(parameters.threshold, parameters.balance, parameters.mean_outside_mask)
        self.sizes = torch.ones(len(self.local), clusters, device=self.device)
        self.history = History()
        self.origin = self._origin()
        # Halves on a GPU that has bfloat16, whose range needs no scaling of the loss.
        self.mixed = mixed and self.device.type == "cuda" and torch.cuda.is_bf16_supported()

    def run(self) -> History:
        """Train to the last epoch, from the last one that the checkpoint holds.

        Raises SelectionError where the losses are no longer numbers.
        """
        steps = self.steps
        begin = self._resume()
        for epoch in range(begin, self.p.epochs):
            with self._layers_seeded():
                self._epoch(epoch, steps)
            if self.checkpoint is not None:
                self.checkpoint.write(self._state(epoch + 1))
            if self.report is not None:
                self.report((epoch + 1) * steps, self.p.epochs * steps)
        return self.history

    @property
    def steps(self) -> int:
        """Steps of the optimiser per epoch."""
        batch = self.p.batch or max(SMALLEST_BATCH, len(self.near) // EPOCH_STEPS)
        return max(1, round(len(self.near) / batch))

    @contextmanager
    def _layers_seeded(self) -> Iterator[None]:
        """Let an encoder's own dropout draw the same at every repeat; it knows no generator but torch's."""
        if self.p.mode != "finetune":
            yield
            return
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(torch.randint(2**62, (1,), generator=self.generator)))
            yield

    def _epoch(self, epoch: int, steps: int) -> None:
        """Go once through the pool in a fresh order."""
        self.model.train()
        n, wide = self.near.shape
        order = torch.randperm(n, generator=self.generator)
        local_total = global_total = 0.0
        # Equal parts: a last batch of a handful of rows would make large steps from little.
        for number, rows in enumerate(torch.tensor_split(order, steps)):
            self.optimizer.zero_grad(set_to_none=True)
            size = self.p.micro_batch if self.p.mode == "finetune" else len(rows)
            for part in torch.tensor_split(rows, max(1, -(-len(rows) // size))):
                which = torch.randint(wide, (len(part),), generator=self.generator)
                local, whole, restart = self._losses(part, self.near[part, which], epoch)
                share = len(part) / len(rows)
                loss = self.local_weight * local + self.p.global_weight * whole
                (loss * share).backward()  # type: ignore[no-untyped-call]
                local_total += float(local.detach()) * share
                global_total += float(whole.detach()) * share
            self.optimizer.step()
            restart()
            if self.report is not None and number + 1 < steps:
                self.report(epoch * steps + number + 1, self.p.epochs * steps)
        self.history.local_loss.append(round(local_total / steps, 6))
        self.history.global_loss.append(round(global_total / steps, 6))
        total = local_total + global_total
        if not torch.isfinite(torch.tensor(total)):
            raise SelectionError(
                f"training broke off in epoch {epoch + 1}: the losses are no longer numbers at learning_rate "
                f"{self.p.learning_rate:g}; choose a tenth of it"
            )

    def _losses(
        self, rows: Tensor, neighbors: Tensor, epoch: int
    ) -> tuple[Tensor, Tensor, Callable[[], None]]:
        """Compute both losses of a part, summed over heads; the function returned re-seeds once the step is made."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.mixed):
            _, anchor = self.model(self.views.strong(rows, self.generator))
            with torch.no_grad():
                _, beside = self.model(self.views.strong(neighbors, self.generator))
                features, weak = self.model(self.views.weak(rows, self.generator))
        anchor, beside, weak = anchor.float(), beside.float(), weak.float()
        local = torch.zeros((), device=self.device)
        whole = torch.zeros((), device=self.device)
        for head, loss in enumerate(self.local):
            local = local + loss(anchor[head], beside[head])
            each, counts = self.whole(weak[head], anchor[head])
            whole = whole + each
            seen = counts.sum()
            if seen:
                share = counts * (len(counts) / seen)
                self.sizes[head] = COUNT_MOMENTUM * self.sizes[head] + (1.0 - COUNT_MOMENTUM) * share

        def restart() -> None:
            if self.p.reseed_floor > 0.0 and epoch >= self.p.reseed_after:
                for head in range(len(self.local)):
                    self._reseed(head, features.float(), weak[head].argmax(dim=1))

        return local, whole, restart

    def _reseed(self, head: int, features: Tensor, clusters: Tensor) -> None:
        """Start rare clusters anew at rows of the largest one, while that one is above the ceiling."""
        sizes = self.sizes[head]
        layer: Any = self.model.heads[head]
        for rare in (sizes < self.p.reseed_floor).nonzero().flatten().tolist():
            largest = int(sizes.argmax())
            members = (clusters == largest).nonzero().flatten()
            if sizes[largest] <= self.p.reseed_ceiling or not len(members):
                return
            chosen = members[int(torch.randint(len(members), (1,), generator=self.generator))]
            with torch.no_grad():
                direction = torch.nn.functional.normalize(features[chosen], dim=0)
                layer.weight[rare] = direction * layer.weight[largest].norm()
                if getattr(layer, "bias", None) is not None:
                    layer.bias[rare] = layer.bias[largest]
            sizes[rare] = sizes[largest] = sizes[largest] / 2
            self.history.reseeded += 1

    # -- checkpoints ---------------------------------------------------------------------------------------

    def _origin(self) -> str:
        """Digest everything that the course of this training depends on."""
        digest = hashlib.sha256(repr((FORMAT, sorted(self.p.values().items()))).encode())
        digest.update(self.generator.get_state().numpy().tobytes())
        digest.update(self.near.numpy().tobytes())
        for name, value in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _state(self, epoch: int) -> bytes:
        """Serialize everything that the next epoch depends on."""
        content = io.BytesIO()
        held = {
            "origin": self.origin,
            "epoch": epoch,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": [loss.ema for loss in self.local],
            "sizes": self.sizes,
            "generator": self.generator.get_state(),
            "history": asdict(self.history),
        }
        torch.save(held, content)
        return content.getvalue()

    def _resume(self) -> int:
        """Load the checkpoint where it is of this very training; return the epochs it holds."""
        content = None if self.checkpoint is None else self.checkpoint.read()
        if content is None:
            return 0
        try:
            held = torch.load(io.BytesIO(content), map_location=self.device, weights_only=True)
            origin = held["origin"]
        except (UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError) as error:
            logger.warning("the checkpoint is damaged (%s); training begins anew", type(error).__name__)
            return 0
        if origin != self.origin:
            logger.info("the checkpoint belongs to another training; this one begins anew")
            return 0
        self.model.load_state_dict(held["model"])
        self.optimizer.load_state_dict(held["optimizer"])
        for loss, ema in zip(self.local, held["ema"], strict=True):
            loss.ema = ema
        self.sizes = held["sizes"]
        self.generator.set_state(held["generator"].cpu())
        self.history = History(**held["history"])
        self.history.resumed_from = int(held["epoch"])
        return self.history.resumed_from
