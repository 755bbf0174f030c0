"""Map a table of instances through a Ray Data pipeline."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from usl_backend.distributed.cluster import load_ray

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.distributed.cluster import Cluster

Columns = Mapping[str, "NDArray[Any]"]
"""A part of a table: column name -> values."""


def map_table(
    cluster: Cluster, parts: Sequence[Mapping[str, Sequence[Any]]], worker: type, *arguments: Any
) -> Generator[Columns, None, None]:
    """Process the parts of a table by workers that live as long as the pipeline.

    Ray Data runs as many workers as fit the cluster, restarts dead ones, and passes their unfinished parts to others;
    a part whose result is lost with a node is computed again.

    Parameters
    ----------
    parts
        Parts of the table; the worker is called once for each.
    worker
        Class, instantiated once per worker process with `arguments`, then called with a part as `Columns` to return
        `Columns`. A call must depend on its part only, because it may be repeated. A worker gets as many CPUs as the
        smallest node has.
    *arguments
        Pickled, and visible in Ray's own tools: must not hold secrets.

    Yields
    ------
    Columns
        Results of the calls, in any order.
    """
    load_ray()
    data = importlib.import_module("ray.data")
    arrow = importlib.import_module("pyarrow")
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    results = (
        data.from_arrow([arrow.table(dict(part)) for part in parts])
        .map_batches(
            worker,
            # One part per block, one block per call.
            batch_size=None,
            batch_format="numpy",
            fn_constructor_args=arguments,
            num_cpus=min(cluster.nodes),
            compute=data.ActorPoolStrategy(min_size=1, max_size=len(cluster.nodes)),
        )
        .iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=1)
    )
    with closing(iter(results)) as batches:
        yield from batches
