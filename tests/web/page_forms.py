"""What a browser sends when a button of ours is pressed."""

import re

from flask.testing import FlaskClient


def form_of(client: FlaskClient, page: str) -> dict[str, str]:
    """The hidden fields of a page's form."""
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]+)"', client.get(page).text))
