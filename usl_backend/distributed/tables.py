"""A table of instances through a Ray Data pipeline; what is done with each part is the caller's."""

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
    """Send parts of a table through workers that each live as long as the pipeline.

    Ray Data keeps as many workers busy as the cluster has room for, starts dead ones again, and gives what they
    had not finished to others; a part whose result is lost with a node is computed anew.

    Parameters
    ----------
    cluster
        Connected.
    parts
        Parts of the table, each of which is one call.
    worker
        Made once per worker with `arguments`, then called with a part as `Columns`; gives `Columns`. Every call
        must depend on its part alone, as it may be repeated. A worker has all CPUs of the smallest node.
    *arguments
        Pickled; shown by Ray's own tools, so no secrets.

    Yields
    ------
    Columns
        What `worker` gave, in any order.
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
            # A part is a block, and a block a call.
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
