"""Encodings of whole files: what their bytes say, and what charset-normalizer guesses of the rest."""

from pathlib import Path

import pytest

from usl_backend.sources.encodings import TextEncoding, encoding_of


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("cp1252", "Käse"),
        ("cp1252", "Brötchen Äpfel Nüsse"),
        ("cp1252", "été forêt garçon maïs"),
        ("cp1252", "niño piña montaña camión"),
        ("cp1252", "“fine”_…_really 5_€_off 20_°C"),
        ("cp1250", "Zażółć_gęślą_jaźń Dzień_dobry_wszystkim"),
        ("cp1251", "кот собака птица"),
        ("cp1253", "γάτα σκύλος πουλί"),
        ("cp932", "これはテストです 東京は大きい都市です"),
        ("gb18030", "这是一个测试 北京是大城市"),
        ("cp949", "고양이 개 새"),
        ("mac_roman", "été forêt garçon"),
    ],
)
def test_encoding_of__guessed(tmp_path: Path, encoding: str, words: str) -> None:
    values = [word.replace("_", " ") for word in words.split()]
    lines = [f"{row:02d}.png;{values[row % len(values)]}" for row in range(30)]
    path = tmp_path / "m.csv"
    path.write_bytes("\n".join(["path;label", *lines]).encode(encoding))
    found = encoding_of(path)
    assert found.guessed
    assert path.read_bytes().decode(found.name).splitlines()[1:] == lines


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "utf-8-sig"),
        (b"path\n1.png\n", "utf-8-sig"),
        ("Käse\n".encode(), "utf-8-sig"),
        ("\ufeffKäse\n".encode(), "utf-8-sig"),
        ("Käse\n".encode("utf-16"), "utf-16"),
        ("\ufeffKäse\n".encode("utf-16-be"), "utf-16"),
        ("Käse\n".encode("utf-32"), "utf-32"),
        # more lines that are UTF-8 than lines that are not
        ("Käse\nBrötchen\n".encode() + "Äpfel\n".encode("cp1252"), "utf-8-sig"),
    ],
)
def test_encoding_of__said_by_the_bytes(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(content)
    assert encoding_of(path) == TextEncoding(name)


def test_encoding_of__other_characters_after_megabytes_of_ascii(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(b"text\n" + b"a line of some length\n" * 200_000 + "Käse\n".encode("cp1252"))
    assert encoding_of(path) == TextEncoding("cp1252", guessed=True)
