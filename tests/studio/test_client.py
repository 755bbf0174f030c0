from typing import Any

import pytest

from usl_backend.errors import InputError
from usl_backend.settings import HostSettings
from usl_backend.studio.client import StudioClient

INSIDE, OUTSIDE = "http://label-studio:8080", "http://localhost:8080"


def client_of(url: str | None = None, **settings: Any) -> StudioClient:
    values = {"label_studio_url": INSIDE, "label_studio_api_key": "0" * 40, **settings}
    return StudioClient.from_settings(HostSettings.load(values, environ={}), url=url)


def test_from_settings__links_are_for_browsers_and_requests_for_the_backend() -> None:
    with client_of() as client:
        assert (client.url, client.browser_url) == (INSIDE, INSIDE)
    with client_of(label_studio_host=OUTSIDE + "/") as client:
        assert (client.url, client.browser_url) == (INSIDE, OUTSIDE)


def test_from_settings__a_project_may_be_named_by_either_address() -> None:
    for url in (INSIDE, OUTSIDE, OUTSIDE + "/"):
        with client_of(url, label_studio_host=OUTSIDE) as client:
            assert client.url == INSIDE
    with pytest.raises(InputError, match=f"the project is at {OUTSIDE}, but LABEL_STUDIO_URL is {INSIDE}"):
        client_of(OUTSIDE)
    with pytest.raises(InputError, match="the project is at , but"):
        client_of("")
