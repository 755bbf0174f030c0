"""Compact JSON form of the map for the browser; coordinates are rounded to 1/65,535 of the map's width."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.report.record import MapPoints, Report
    from usl_backend.report.states import TaskStates


def packed(points: MapPoints, *, task_url: str | None) -> dict[str, Any]:
    """Pack a map into JSON-able values; 200,000 instances take 3.5 MB.

    Parameters
    ----------
    points
        All points.
    task_url
        URL template of a task, with {task} for its id; None if tasks cannot be opened.

    Returns
    -------
    dict
        "arrays" has {"type", "data"} for ids, x and y (0 to 65,535, one scale for both), cluster, density, and
        picks (positions in these arrays, in pick order); data are little-endian bytes in base64.
    """
    low = points.points.min(axis=0, initial=np.inf)
    span = float((points.points - low).max(initial=0.0)) or 1.0
    grid = np.rint((points.points - low) * (65_535.0 / span)).astype("<u2")
    numbered = np.flatnonzero(points.rank >= 0)
    picks = numbered[np.argsort(points.rank[numbered], kind="stable")]
    wide = len(points.ids) > 0 and int(points.ids.max()) >= 2**31
    arrays: dict[str, tuple[str, NDArray[Any]]] = {
        # JavaScript numbers are exact for integers up to 2^53
        "ids": ("float64", points.ids.astype("<f8")) if wide else ("int32", points.ids.astype("<i4")),
        "x": ("uint16", grid[:, 0]),
        "y": ("uint16", grid[:, 1]),
        "cluster": ("int32", points.cluster.astype("<i4")),
        "density": ("uint8", points.density),
        "picks": ("int32", picks.astype("<i4")),
    }
    return {
        "task_url": task_url,
        "arrays": {
            name: {"type": kind, "data": base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()}
            for name, (kind, values) in arrays.items()
        },
    }


def described(report: Report) -> dict[str, Any]:
    """Return what the map says about clusters, as JSON-able values.

    Returns
    -------
    dict
        "modality", and per pick in "clusters" the number of tasks that it represents, what they have in common
        ("" if unknown) and the ids of a few of them.
    """
    return {
        "modality": report.modality,
        "clusters": [
            {"size": why.size, "name": cluster.name, "members": list(cluster.members)}
            for why, cluster in zip(report.whys, report.clusters, strict=True)
        ],
    }


def packed_states(states: TaskStates, ids: NDArray[np.int64]) -> dict[str, Any]:
    """Pack labels, annotators and status for the points of a map.

    Parameters
    ----------
    states
        What is known of the tasks.
    ids : (s,) int64
        Instances in the order of the map.

    Returns
    -------
    dict
        "read_at", "note", and in "kinds" names and codes (positions in the names, -1: none) by kind.
    """
    order = ids.tolist()
    kinds: dict[str, Any] = {}
    for name, of, none, fixed in (
        ("label", states.label, "no label", False),
        ("status", states.status, "", True),
        ("annotator", states.annotator, "nobody", False),
    ):
        if of is None:
            continue
        count = len(of.names)
        kind = "int8" if count <= 2**7 else "int16" if count <= 2**15 else "int32"
        codes = np.array(
            [of.codes.get(task, of.otherwise) for task in order], dtype=np.dtype(kind).newbyteorder("<")
        )
        data = base64.b64encode(codes.tobytes()).decode()
        kinds[name] = {
            "names": list(of.names),
            "none": none,
            "fixed": fixed,
            "codes": {"type": kind, "data": data},
        }
    return {"read_at": states.read_at, "note": states.note, "kinds": kinds}
