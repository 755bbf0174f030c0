import base64
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from usl_backend.errors import MediaError
from usl_backend.media import Location
from usl_backend.studio.media_locations import locate

STUDIO = "http://studio.example:8080"
TOKEN = {"Authorization": "Token secret"}


def find(
    source: object, *, url: str = STUDIO, root: Path | None = None, public: tuple[str, ...] = ()
) -> Location:
    return locate(
        7,
        source,  # type: ignore[arg-type]
        url=url,
        public=public,
        authorization=lambda: TOKEN["Authorization"],
        documents_root=root,
    )


@pytest.mark.parametrize(
    ("source", "url", "address"),
    [
        ("/data/upload/3/ab-cat.png", STUDIO, f"{STUDIO}/data/upload/3/ab-cat.png"),
        ("/data/upload/3/a cat ü.png", STUDIO, f"{STUDIO}/data/upload/3/a%20cat%20%C3%BC.png"),
        ("/data/upload/3/a%20cat.png", STUDIO, f"{STUDIO}/data/upload/3/a%20cat.png"),
        ("/data/upload/3/x.png", "https://host/ls", "https://host/ls/data/upload/3/x.png"),
        ("/ls/data/upload/3/x.png", "https://host/ls", "https://host/ls/data/upload/3/x.png"),
        (f"{STUDIO}/data/upload/3/x.png", STUDIO, f"{STUDIO}/data/upload/3/x.png"),
        ("/data/local-files/?d=a/b.png", STUDIO, f"{STUDIO}/data/local-files/?d=a/b.png"),
        ("/tasks/7/resolve/?fileuri=abc", STUDIO, f"{STUDIO}/tasks/7/resolve/?fileuri=abc"),
    ],
)
def test_locate__label_studio_itself_gets_the_token(source: str, url: str, address: str) -> None:
    found = find(source, url=url)
    assert (found.url, found.path, dict(found.headers), found.trusted) == (address, None, TOKEN, True)


PUBLIC = ("http://localhost:8080", "https://host/ls", "/behind")


@pytest.mark.parametrize("url", [STUDIO, "http://inside/studio"])
@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("http://localhost:8080/data/local-files/?d=a%20b/c.png", "/data/local-files/?d=a%20b/c.png"),
        ("HTTP://LocalHost:8080/data/upload/1/x y.png", "/data/upload/1/x%20y.png"),
        ("https://host:443/ls/data/upload/1/x.png", "/data/upload/1/x.png"),
        ("https://host/ls/storage-data/uploaded/?filepath=x.png", "/storage-data/uploaded/?filepath=x.png"),
        ("https://host/ls/tasks/7/resolve/?fileuri=abc", "/tasks/7/resolve/?fileuri=abc"),
        ("/ls/data/upload/1/x.png", "/data/upload/1/x.png"),
        ("/behind/data/upload/1/x.png", "/data/upload/1/x.png"),
        ("/data/upload/1/x.png", "/data/upload/1/x.png"),
    ],
)
def test_locate__another_name_of_label_studio_leads_to_its_own_address(
    source: str, path: str, url: str
) -> None:
    found = find(source, url=url, public=PUBLIC)
    assert (found.url, dict(found.headers), found.trusted) == (url + path, TOKEN, True)


@pytest.mark.parametrize(
    "source",
    [
        "http://localhost:8080/api/projects/3/export",
        "http://localhost:8080/static/x.png",
        "http://localhost:8080/data/../api/x",
        "http://localhost:8081/data/upload/1/x.png",
        "https://localhost:8080/data/upload/1/x.png",
        "https://host/data/upload/1/x.png",
        "https://host/lsd/data/upload/1/x.png",
        "http://host/ls/data/upload/1/x.png",
        "https://host@evil.example/ls/data/upload/1/x.png",
        "https://host/ls@evil.example/x.png",
    ],
)
def test_locate__token_is_sent_for_media_of_that_name_only(source: str) -> None:
    found = find(source, public=PUBLIC)
    assert "Authorization" not in found.headers
    assert found.url is not None
    assert found.url == source or found.url.startswith(f"{STUDIO}/data/")


def test_locate__beside_label_studio_on_its_host_no_token_is_sent() -> None:
    for source in ("https://host/data/upload/1/x.png", "https://host/lsd/data/upload/1/x.png"):
        assert find(source, url="https://host/ls") == Location(url=source, trusted=True)


def test_locate__local_files_of_an_unknown_name_say_what_to_set() -> None:
    with pytest.raises(
        MediaError, match=r"local file of http://localhost:8080/ls, which is not LABEL_STUDIO_URL"
    ):
        find("http://localhost:8080/ls/data/local-files/?d=a.png")
    with pytest.raises(MediaError, match=r"set LABEL_STUDIO_HOST=http://localhost:8080/ls$"):
        find("http://localhost:8080/ls/data/local-files/?d=a.png")


@pytest.mark.parametrize(
    "source",
    [
        "/api/current-user/token",
        "/data/../api/current-user/token",
        "/data/%2e%2e/api/current-user/token",
        "/database/x.png",
        f"{STUDIO}/api/projects/3/export",
        f"{STUDIO}/static/samples/x.png",
        "/tasks/7/annotations/?x=/resolve/",
    ],
)
def test_locate__label_studio_gets_no_token_for_anything_but_media(source: str) -> None:
    found = find(source)
    assert found.url is not None
    assert found.url.startswith(STUDIO)
    assert (dict(found.headers), found.trusted) == ({}, True)


@pytest.mark.parametrize(
    "source",
    [
        "https://elsewhere.example/x.png",
        "http://studio.example/x.png",
        "http://studio.example:8081/x.png",
        "https://studio.example:8080/x.png",
        "http://studio.example:8080@evil.example/x.png",
        "data:image/png;base64,AAAA",
    ],
)
def test_locate__any_other_origin_gets_no_token(source: str) -> None:
    found = find(source)
    assert (found.url, found.path, dict(found.headers), found.trusted) == (source, None, {}, False)


@pytest.mark.parametrize(
    "source", ["s3://bucket/a b/c.png", "gs://bucket/ü.png", "azure-blob://box/x?y=1&z=2#f"]
)
def test_locate__storages_go_through_label_studio(source: str) -> None:
    found = find(source)
    parts = urlsplit(str(found.url))
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{STUDIO}/tasks/7/presign/"
    # Label Studio decodes it as base64 before it tries anything else.
    assert base64.urlsafe_b64decode(parse_qs(parts.query)["fileuri"][0]).decode() == source
    assert (dict(found.headers), found.trusted) == (TOKEN, True)


def test_locate__local_files_from_disk_where_they_are(tmp_path: Path) -> None:
    root = tmp_path / "documents"
    (root / "sub dir").mkdir(parents=True)
    picture = root / "sub dir" / "a.png"
    picture.write_bytes(b"png")
    assert find("/data/local-files/?d=sub%20dir/a.png", root=root) == Location(path=picture)
    assert find("/data/local-files/?d=/sub%20dir/a.png", root=root) == Location(path=picture)
    for name in (STUDIO, "http://localhost:8080/ls"):
        found = find(
            f"{name}/data/local-files/?d=sub%20dir/a.png", root=root, public=("http://localhost:8080/ls",)
        )
        assert found == Location(path=picture)
    # Not on this disk: Label Studio may have it.
    elsewhere = find("/data/local-files/?d=sub%20dir/b.png", root=root)
    assert elsewhere.path is None
    assert elsewhere.url == f"{STUDIO}/data/local-files/?d=sub%20dir/b.png"


@pytest.mark.parametrize(
    "wanted", ["../secret.txt", "sub/../../secret.txt", "%2e%2e/secret.txt", "link/secret.txt"]
)
def test_locate__nothing_outside_the_local_files(tmp_path: Path, wanted: str) -> None:
    root = tmp_path / "documents"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret")
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(MediaError, match="outside"):
        find(f"/data/local-files/?d={wanted}", root=root)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "   ",
        None,
        7,
        ["a.png"],
        "cat.png",
        "file:///etc/passwd",
        "ftp://host/x.png",
        "../x",
        "C:\\x.png",
        "//[",
        "//elsewhere.example/x.png",
    ],
)
def test_locate__what_leads_nowhere_is_refused(source: object) -> None:
    with pytest.raises(MediaError):
        find(source)
