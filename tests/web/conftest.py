import sys

import pytest
from pydantic import SecretStr

from usl_backend.jobs import Jobs
from usl_backend.runs import RunStore
from usl_backend.settings import HostSettings
from usl_backend.web import create_app


@pytest.fixture
def host(tmp_path):
    return HostSettings(label_studio_api_key="tok-secret-123", model_dir=tmp_path / "data")


@pytest.fixture
def guarded(host):
    """The same host with credentials."""
    return host.model_copy(
        update={
            "basic_auth_user": "usl",
            "basic_auth_pass": SecretStr("pass wörd"),
            "api_token": SecretStr("bearer-token-of-scripts"),
            "webhook_secret": SecretStr("secret-of-the-webhook"),
        }
    )


@pytest.fixture
def store(host):
    store = RunStore(host.model_dir)
    yield store
    store.close()


@pytest.fixture
def jobs(store, host):
    jobs = Jobs(store, host, command=(sys.executable, "-c", "raise SystemExit(1)"), interval=0.02)
    yield jobs
    jobs.stop()


@pytest.fixture
def client(host, jobs):
    return create_app(host, jobs).test_client()


@pytest.fixture
def guarded_client(guarded, jobs):
    return create_app(guarded, jobs).test_client()
