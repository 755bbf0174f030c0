"""Connect to a Ray cluster, and check that its nodes have the same library versions."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from usl_backend.errors import InputError, RunError

LOCAL: Final = "local"
"""Address that starts a cluster on this machine for the duration of the connection."""
LIBRARIES: Final = ("usl-backend", "numpy", "torch", "pillow")
"""Distributions whose version may change results: every node must have this machine's version."""

_CHECK_SECONDS: Final = 300.0


@dataclass(frozen=True)
class Cluster:
    """A connected cluster.

    Attributes
    ----------
    address
        As passed to `connect`.
    nodes
        Number of CPUs of each node that has any.
    """

    address: str
    nodes: tuple[int, ...]

    @property
    def cpus(self) -> int:
        """Number of CPUs of all nodes."""
        return sum(self.nodes)


@contextmanager
def connect(address: str) -> Iterator[Cluster]:
    """Connect to a Ray cluster for as long as the `with` block lasts.

    Parameters
    ----------
    address
        `local` starts a cluster on this machine; `auto` finds the cluster that this machine is a node of; `HOST:PORT`
        is the address of a head node, whose cluster this machine must be a node of too.

    Raises
    ------
    InputError
        Ray is not installed.
    RunError
        No answer, library versions differ from this machine's, or the cluster fails inside the block.
    """
    if address == LOCAL:
        stay_on_this_machine()
    ray = load_ray()
    try:
        ray.init(
            address=address,
            include_dashboard=False if address == LOCAL else None,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise RunError(
            f"no Ray cluster can be reached at ray_address {address!r} ({first:.200}); on this machine run "
            "`ray start --address=HEAD:6379` first, or leave ray_address empty"
        ) from error
    try:
        nodes = tuple(int(node["Resources"]["CPU"]) for node in _alive(ray) if node["Resources"].get("CPU"))
        _check_versions(ray)
        yield Cluster(address, nodes)
    except ray.exceptions.RayError as error:
        raise RunError(
            f"the Ray cluster at {address!r} failed ({type(error).__name__}: {_first_line(error)}); check "
            "`ray status`, then resume the run"
        ) from error
    finally:
        ray.shutdown()


def stay_on_this_machine() -> None:
    """Restrict clusters that this process starts to the loopback address; call this before Ray is loaded.

    Otherwise Ray's servers listen on every address of the machine, whatever address a node is given.
    """
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"


def load_ray() -> Any:
    """Import Ray with usage reports switched off.

    Raises
    ------
    InputError
        Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TQDM", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise InputError(
            'ray_address is set, but Ray is not installed: pip install "usl-backend[ray]"'
        ) from error


def versions() -> Mapping[str, str]:
    """Return the versions of `LIBRARIES` in this process."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "none"
    return found


def _check_versions(ray: Any) -> None:
    """Refuse a cluster with a node whose library versions differ from this machine's."""
    here = versions()
    nodes = [node for node in _alive(ray) if node["Resources"].get("CPU")]
    ask = ray.remote(num_cpus=0)(versions)
    on = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    asked = [ask.options(scheduling_strategy=on(node["NodeID"], soft=False)).remote() for node in nodes]
    for node, found in zip(nodes, ray.get(asked, timeout=_CHECK_SECONDS), strict=True):
        for library, expected in here.items():
            if found[library] != expected:
                raise RunError(
                    f"Ray node {node['NodeManagerAddress']} has {library} {found[library]}, this machine "
                    f"{expected}; install the same versions on every node, or picks would differ"
                )


def _alive(ray: Any) -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), "")[:200]
