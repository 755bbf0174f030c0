"""Choose the encoder of each field of a run, and embed the fields with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from usl_backend.distributed import connect
from usl_backend.embedding.cache import EmbeddingCache
from usl_backend.embedding.cluster import Elsewhere, WorkerPlan, embed_on_cluster
from usl_backend.embedding.fields import joined
from usl_backend.embedding.lookup import Lookup
from usl_backend.embedding.stage import embed
from usl_backend.encoders import Encoder, family_of
from usl_backend.encoders import load as load_encoder
from usl_backend.encoders.allocator import return_freed_memory
from usl_backend.encoders.engines import best_device
from usl_backend.instances import Instance

if TYPE_CHECKING:
    from usl_backend.encoders.choosing import EncoderChoice
    from usl_backend.instances import EmbeddedField, Pool
    from usl_backend.progress import Progress
    from usl_backend.settings import RunSettings
    from usl_backend.sources.media import Media

_MANY_INSTANCES: Final = 2_000
"""For fewer pictures, starting reading processes takes longer than they save."""


@dataclass
class Encoding:
    """The encoders of a run, and how its instances become rows.

    Attributes
    ----------
    encoders
        One per field.
    weights
        One per field.
    loaders
        Load the same encoders in another process.
    elsewhere
        The cluster that embeds; None to embed in this process.
    encoded
        Rows that `embed` computed because the cache did not have them.
    """

    encoders: tuple[Encoder, ...]
    weights: tuple[float, ...]
    loaders: tuple[Callable[[], Encoder], ...]
    elsewhere: Elsewhere | None = None
    encoded: int = field(default=0, init=False)

    @property
    def key(self) -> str:
        """Name of everything that a row depends on besides its content."""
        if len(self.encoders) == 1:
            return self.encoders[0].key
        return "+".join(
            f"{weight:g}x{encoder.key}" for weight, encoder in zip(self.weights, self.encoders, strict=True)
        )

    def embed(
        self,
        instances: Sequence[Instance],
        *,
        media: Media,
        cache_directory: Path,
        directory: Path,
        progress: Progress,
        workers: int,
        missing: float,
        kept: Callable[[], None] = lambda: None,
    ) -> tuple[Pool, list[str]]:
        """Embed every field of the instances and join the rows; parameters as for `stage.embed`.

        Parameters
        ----------
        cache_directory
            Holds a cache per encoder.
        """
        fields = len(self.encoders)

        def one(number: int, part: Sequence[Instance], folder: Path) -> tuple[Pool, list[str]]:
            encoder = self.encoders[number]
            cache = EmbeddingCache(cache_directory, encoder_key=encoder.key, dim=encoder.dim)
            known = len(cache)
            begun, total = number * len(instances), fields * len(instances)

            def report(step: str, done: int, parts: int, /) -> None:
                # An instance may show several parts; people count instances.
                progress(step, begun + done * len(instances) // max(1, parts), total)

            try:
                if self.elsewhere is None:
                    return embed(
                        part,
                        media=media,
                        encoder=encoder,
                        cache=cache,
                        directory=folder,
                        progress=report,
                        workers=workers,
                        processes=wants_processes(encoder, len(part)),
                        kept=kept,
                        missing=missing,
                    )
                plan = WorkerPlan(self.loaders[number], encoder.key, self.elsewhere, workers, missing)
                with connect(self.elsewhere.address) as cluster:
                    return embed_on_cluster(
                        part,
                        plan=plan,
                        cluster=cluster,
                        cache=cache,
                        directory=folder,
                        progress=report,
                        kept=kept,
                    )
            finally:
                self.encoded += len(cache) - known

        if fields == 1:
            return one(0, instances, directory)
        modalities = [encoder.modality for encoder in self.encoders]
        return joined(instances, modalities, self.weights, embed=one, directory=directory)


def wants_processes(encoder: Encoder, instances: int) -> bool:
    """Tell whether processes should read so many instances: many pictures, for an encoder that runs on a GPU."""
    return encoder.modality == "image" and instances >= _MANY_INSTANCES and best_device() != "cpu"


def load_encoding(
    settings: RunSettings,
    fields: Sequence[EmbeddedField],
    *,
    choice: EncoderChoice,
    directory: Path,
    elsewhere: Elsewhere | None = None,
) -> Encoding | Lookup:
    """Load the encoders of a run's fields, or open the vectors that it looks up.

    Parameters
    ----------
    settings
        Its `image_size` is used, and `encoder` if it looks vectors up.
    fields
        Fields to embed, at least one.
    choice
        Encoders of the fields' modalities.
    directory
        The host's directory of weights and vectors; on a cluster every node has it.
    elsewhere
        The cluster that embeds. Vectors are looked up in this process all the same.

    Raises
    ------
    EncoderError
        As `encoders.load`.
    """
    if settings.encoder is not None and family_of(settings.encoder).modality is None:
        return Lookup(settings.encoder, directory=directory)
    loaders = {
        one: partial(
            load_encoder,
            choice.encoders[one],
            image_size=settings.image_size,
            directory=directory,
            engine=choice.engine,
        )
        for one in {field.modality for field in fields}
    }
    loaded = {one: load() for one, load in loaders.items()}
    return_freed_memory()  # of the networks as they were read, before the encoders took them over
    return Encoding(
        tuple(loaded[field.modality] for field in fields),
        tuple(field.weight for field in fields),
        tuple(loaders[field.modality] for field in fields),
        elsewhere,
    )
