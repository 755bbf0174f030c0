"""Create, recognize and delete the Data Manager tabs that list a run's picks in order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from usl_backend.errors import StudioNotFoundError
from usl_backend.instances import RUN_ID

if TYPE_CHECKING:
    from usl_backend.studio.client import StudioClient

DEFAULT_TITLE = "Default"
_TITLE = "USL picks {run_id}"
_VERSIONS = "filter:tasks:predictions_model_versions"
_OUR_TITLE = re.compile(_TITLE.format(run_id=RUN_ID.pattern), re.ASCII)


def title(run_id: str) -> str:
    """Return the title of a run's tab, such as `USL picks 12-7`."""
    return _TITLE.format(run_id=run_id)


def views(client: StudioClient, project_id: int) -> list[dict[str, Any]]:
    """List a project's tabs as Label Studio stores them (`id`, `data`)."""
    return list(client.http.json("GET", "/api/dm/views/", params={"project": project_id}))


def create_default(client: StudioClient, project_id: int) -> int | None:
    """Create the Default tab, which Label Studio shows without storing it while a project has none; return its id.

    Without it the first stored tab would be the only one and hide all other tasks. None if somebody else created one
    at the same time.
    """
    data = {"title": DEFAULT_TITLE, "type": "list", "target": "tasks"}
    made = int(client.http.json("POST", "/api/dm/views/", body={"project": project_id, "data": data})["id"])
    if min(int(view["id"]) for view in views(client, project_id) if is_plain_default(view)) < made:
        delete(client, made)
        return None
    return made


def create_picks(
    client: StudioClient, project_id: int, *, run_id: str, model_version: str, below: float
) -> int:
    """Create the tab of a run's picks, lowest Studio score (rank 0) first; return its id.

    Parameters
    ----------
    run_id
        Part of the title.
    model_version
        Only tasks with predictions of this version are shown.
    below
        Upper limit of the Studio score: those of picks lie below it, those of the reserve and of carried-over
        pre-annotations above.
    """
    data = {
        "title": title(run_id),
        "type": "list",
        "target": "tasks",
        "hiddenColumns": _hidden_columns(client, project_id),
    } | _order_and_filters(model_version, below)
    return int(client.http.json("POST", "/api/dm/views/", body={"project": project_id, "data": data})["id"])


def _order_and_filters(model_version: str, below: float) -> dict[str, Any]:
    """Return the part of a tab's data that makes it a list of picks."""
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
    """Return the columns that Label Studio hides by default, except the score, which this tab shows."""
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
    """Return True if title and model version show that a run created this tab."""
    data = view.get("data") or {}
    versions = [str(item.get("value")) for item in _filters(data)]
    return bool(_OUR_TITLE.fullmatch(str(data.get("title")))) and any(v.startswith("usl-") for v in versions)


def version_of(view: dict[str, Any]) -> str:
    """Return the model version that a tab filters by, or ""."""
    filters = _filters(view.get("data") or {})
    named = (item["value"] for item in filters if item.get("filter") == _VERSIONS and "value" in item)
    return str(next(named, ""))


def is_unchanged(view: dict[str, Any], *, run_id: str, model_version: str) -> bool:
    """Return True if a run's tab still has the title, order and filters that it was created with."""
    data = view.get("data") or {}
    expected = {item["filter"] for item in _order_and_filters(model_version, 0.0)["filters"]["items"]}
    items = _filters(data)
    return (
        data.get("title") == title(run_id)
        and data.get("ordering") == ["tasks:predictions_score"]
        and {item.get("filter") for item in items} == expected
        and any(item.get("value") == model_version for item in items)
    )


def is_plain_default(view: dict[str, Any]) -> bool:
    """Return True for a Default tab without filters and order."""
    data = view.get("data") or {}
    return data.get("title") == DEFAULT_TITLE and not _filters(data) and not data.get("ordering")


def delete(client: StudioClient, view_id: int) -> None:
    """Delete a tab; harmless if it does not exist."""
    try:
        client.http.request("DELETE", f"/api/dm/views/{view_id}/").close()
    except StudioNotFoundError:
        return


def _filters(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the filter conditions of a tab."""
    return list((data.get("filters") or {}).get("items") or [])
