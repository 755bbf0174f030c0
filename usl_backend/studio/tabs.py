"""The Data Manager tab that shows the chosen tasks in order; predictions and project settings are `queue.py`'s."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from usl_backend.errors import StudioNotFoundError

if TYPE_CHECKING:
    from usl_backend.studio.client import StudioClient

DEFAULT_TITLE = "Default"
_TITLE = "USL picks {run_id}"
_VERSIONS = "filter:tasks:predictions_model_versions"
_OUR_TITLE = re.compile(r"USL picks (?:[0-9]+|[a-z][a-z0-9_]*)-[0-9]+", re.ASCII)


def title(run_id: str) -> str:
    """Title of the tab of a run, such as `USL picks 12-7`."""
    return _TITLE.format(run_id=run_id)


def views(client: StudioClient, project_id: int) -> list[dict[str, Any]]:
    """List a project's tabs as Label Studio has them (`id`, `data`)."""
    return list(client.http.json("GET", "/api/dm/views/", params={"project": project_id}))


def create_default(client: StudioClient, project_id: int) -> int:
    """Create the tab that Label Studio shows by itself while a project has none.

    Without it the first stored tab would be the only one, and all other tasks out of sight.

    Returns
    -------
    int
        Id of the tab.
    """
    data = {"title": DEFAULT_TITLE, "type": "list", "target": "tasks"}
    return int(client.http.json("POST", "/api/dm/views/", body={"project": project_id, "data": data})["id"])


def create_picks(
    client: StudioClient, project_id: int, *, run_id: str, model_version: str, below: float
) -> int:
    """Create the tab of a run: its picks, lowest Studio score (rank 0) first.

    Parameters
    ----------
    client, project_id
        Where.
    run_id, model_version
        What the tab is called and which predictions it follows.
    below
        Studio score that only picks stay below; the reserve and carried-over pre-annotations lie above.

    Returns
    -------
    int
        Id of the tab.
    """
    data = {
        "title": title(run_id),
        "type": "list",
        "target": "tasks",
        "hiddenColumns": _hidden_columns(client, project_id),
    } | _follows(model_version, below)
    return int(client.http.json("POST", "/api/dm/views/", body={"project": project_id, "data": data})["id"])


def _follows(model_version: str, below: float) -> dict[str, Any]:
    """The part of a tab that makes it a list of picks."""
    return {
        "ordering": ["tasks:predictions_score"],
        "filters": {
            "conjunction": "and",
            "items": [
                {
                    "filter": _VERSIONS,
                    "operator": "contains",
                    "type": "List",
                    "value": model_version,
                },
                {
                    "filter": "filter:tasks:predictions_score",
                    "operator": "less",
                    "type": "Number",
                    "value": below,
                },
            ],
        },
    }


def _hidden_columns(client: StudioClient, project_id: int) -> dict[str, list[str]]:
    """Label Studio's default columns, with the score shown: it is what the tab is about."""
    columns = client.http.json("GET", "/api/dm/columns/", params={"project": project_id})["columns"]
    return {
        place: [
            f"tasks:{column['id']}"
            for column in columns
            if not column.get("visibility_defaults", {}).get(place, True)
            and not (place == "explore" and column["id"] == "predictions_score")
            and not column.get("parent")
        ]
        for place in ("explore", "labeling")
    }


def is_of_a_run(view: dict[str, Any]) -> bool:
    """Whether a tab was made for some run: title and model version say so."""
    data = view.get("data") or {}
    versions = [str(item.get("value")) for item in _filters(data)]
    return bool(_OUR_TITLE.fullmatch(str(data.get("title")))) and any(v.startswith("usl-") for v in versions)


def version_of(view: dict[str, Any]) -> str:
    """The model version whose tasks a tab shows; "" where it names none."""
    filters = _filters(view.get("data") or {})
    named = (item["value"] for item in filters if item.get("filter") == _VERSIONS and "value" in item)
    return str(next(named, ""))


def is_unchanged(view: dict[str, Any], *, run_id: str, model_version: str) -> bool:
    """Whether a run's tab still has the title, the order and the filters it was made with."""
    data = view.get("data") or {}
    expected = {item["filter"] for item in _follows(model_version, 0.0)["filters"]["items"]}
    items = _filters(data)
    return (
        data.get("title") == title(run_id)
        and data.get("ordering") == ["tasks:predictions_score"]
        and {item.get("filter") for item in items} == expected
        and any(item.get("value") == model_version for item in items)
    )


def is_plain_default(view: dict[str, Any]) -> bool:
    """Whether a tab is a Default tab without filters and order."""
    data = view.get("data") or {}
    return data.get("title") == DEFAULT_TITLE and not _filters(data) and not data.get("ordering")


def delete(client: StudioClient, view_id: int) -> None:
    """Delete a tab; harmless when it is gone."""
    try:
        client.http.request("DELETE", f"/api/dm/views/{view_id}/").close()
    except StudioNotFoundError:
        return


def _filters(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Filter conditions of a tab."""
    return list((data.get("filters") or {}).get("items") or [])
