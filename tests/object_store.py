"""A bucket of a real S3-compatible server on this machine."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import boto3
import pytest
import s3fs
from moto.server import ThreadedMotoServer


@contextmanager
def bucket_of(objects: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a bucket that holds these objects, while it lasts; the environment names its server."""
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()  # connections to an earlier test's server
    name = f"bucket-{port}"
    client = boto3.client("s3")
    client.create_bucket(Bucket=name)
    for key, body in objects.items():
        client.put_object(Bucket=name, Key=key, Body=body)
    try:
        yield f"s3://{name}"
    finally:
        server.stop()
