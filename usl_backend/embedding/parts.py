"""Put together what instances show: the parts of one task become one row, and a broken part costs only itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from usl_backend.embedding.outage import Miss
from usl_backend.embedding.outcome import Outcome
from usl_backend.embedding.reading import Content

if TYPE_CHECKING:
    from usl_backend.embedding.cache import Contents
    from usl_backend.instances import Instance


def parts_of(instances: Iterable[Instance]) -> list[Instance]:
    """List what the instances show: each part once per instance, as an instance with that part only."""
    return [part for instance in instances for part in instance.parts]


def digest_of(contents: Contents) -> str:
    """Return the content hash of a row, 64 hexadecimal digits, from those of the contents that it is made of."""
    if isinstance(contents, str):
        return contents
    return hashlib.sha256(b"".join(map(bytes.fromhex, contents))).hexdigest()


@dataclass
class Assembled:
    """What the rows of a pool are made of.

    Attributes
    ----------
    contents
        Instance id -> content hashes of its row.
    skipped
        Instance id -> why nothing that it shows can be embedded; disjoint from `contents`.
    incomplete
        Instance id -> what is missing from its row, and why; among `contents`.
    """

    contents: dict[int, Contents] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
    incomplete: dict[int, str] = field(default_factory=dict)


class Settled:
    """What the parts of some instances hold, as far as they are examined.

    Attributes
    ----------
    missed
        Part -> why its host failed to deliver it, for a reason that may pass.
    """

    def __init__(self, instances: Sequence[Instance]) -> None:
        self._instances = instances
        # Nearly all instances show one part, which their id names.
        self._alone = {one.id for one in instances if not one.more}
        self._contents: dict[int | tuple[int, str], Contents] = {}
        self._unread: dict[int | tuple[int, str], str] = {}
        # Content hash -> reason; of equal contents only the first is decoded.
        self._undecodable: dict[str, str] = {}
        self.missed: dict[int | tuple[int, str], Miss] = {}

    def add(self, outcome: Outcome) -> None:
        """Take in the outcome of a part, in the place of an earlier one."""
        key = self._key(outcome.instance.id, outcome.instance.source)
        hashes = tuple(one.hash for one in outcome.contents)
        if hashes:
            self._contents[key] = hashes[0] if len(hashes) == 1 else hashes
            self._undecodable.update((one.hash, one.reason) for one in outcome.contents if one.reason)
        else:
            self._unread[key] = outcome.skipped
        if outcome.missed:
            self.missed[key] = Miss(outcome.host, outcome.skipped)
        else:
            self.missed.pop(key, None)

    def outcome(self, part: Instance) -> Outcome:
        """Return what a part turned out to hold, without the values to encode."""
        key = self._key(part.id, part.source)
        hashes = self._contents.get(key, ())
        contents = (
            Content(one, reason=self._undecodable.get(one, ""))
            for one in ((hashes,) if isinstance(hashes, str) else hashes)
        )
        miss = self.missed.get(key)
        return Outcome(
            part,
            tuple(contents),
            self._unread.get(key, ""),
            missed=miss is not None,
            host=miss.host if miss is not None else "",
        )

    def assemble(self) -> Assembled:
        """Put the parts of every instance together."""
        made = Assembled()
        for instance in self._instances:
            good, bad = self._split(instance)
            if not good:
                others = f" (the first of {len(bad)} {instance.modality}s)" if len(bad) > 1 else ""
                made.skipped[instance.id] = bad[0][1] + others
                continue
            made.contents[instance.id] = good[0] if len(good) == 1 else tuple(good)
            if bad:
                place, reason = bad[0]
                made.incomplete[instance.id] = (
                    f"{len(bad)} of {len(good) + len(bad)} {instance.modality}s left out, the first is number "
                    f"{place}: {reason}"
                )
        return made

    def _split(self, instance: Instance) -> tuple[list[str], list[tuple[int, str]]]:
        """Return the usable content hashes of an instance, and place and reason of what is broken."""
        good: list[str] = []
        bad: list[tuple[int, str]] = []
        for source in instance.sources:
            key = self._key(instance.id, source)
            hashes = self._contents.get(key)
            if hashes is None:
                bad.append((len(good) + len(bad) + 1, self._unread[key]))
                continue
            for one in (hashes,) if isinstance(hashes, str) else hashes:
                if one in self._undecodable:
                    bad.append((len(good) + len(bad) + 1, self._undecodable[one]))
                else:
                    good.append(one)
        return good, bad

    def _key(self, instance_id: int, source: str) -> int | tuple[int, str]:
        """Name a part of an instance."""
        return instance_id if instance_id in self._alone else (instance_id, source)
