import pytest

from usl_backend.jobs.redaction import redacted, secrets_in_environment, secrets_of
from usl_backend.settings import HostSettings


def test_secrets_of__configured_ones_longest_first():
    host = HostSettings(label_studio_api_key="abcdef", basic_auth_pass="abcdefgh")
    assert secrets_of(host) == ("abcdefgh", "abcdef")
    assert secrets_of(HostSettings()) == ()


def test_secrets_in_environment__also_where_the_rest_cannot_be_used(monkeypatch):
    monkeypatch.setenv("USL_PORT", "none")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", " abcdef ")
    monkeypatch.setenv("USL_API_TOKEN", "abcdefgh")
    assert secrets_in_environment() == ("abcdefgh", "abcdef")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("token abcdef refused", "token *** refused"),
        ("GET /x?X-Amz-Signature=12ab&y=1", "GET /x?X-Amz-Signature=***&y=1"),
        ("https://h/?a=1&token=q.r", "https://h/?a=1&token=***"),
        ("{'Authorization': 'Token 99'}", "{'Authorization': 'Token ***'}"),
        ("Authorization: Bearer x.y.z end", "Authorization: Bearer *** end"),
        ("budget=10&keyboard=1", "budget=10&keyboard=1"),
    ],
)
def test_redacted__removes_what_lets_in_and_nothing_else(text, expected):
    assert redacted(text, ["abcdef"]) == expected
