"""CSV, JSON lines and Parquet as people write them, and as they should not."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from usl_backend.errors import InputError
from usl_backend.instances import TextFile
from usl_backend.media import Location, MediaReader
from usl_backend.sources import Entry, Listing, read_manifest
from usl_backend.sources.entries import field_of
from usl_backend.sources.table_listing import TableListing
from usl_backend.sources.target import Target


def csv_file(folder: Path, text: str, name: str = "m.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def listing(path: Path, **keys: Any) -> Listing:
    found = read_manifest(Target(str(path), **keys))
    assert isinstance(found, TableListing)
    return found


def as_kind(folder: Path, kind: str, rows: list[dict[str, Any]]) -> Path:
    """The same rows in each format."""
    path = folder / f"m.{kind}"
    if kind == "csv":
        lines = [",".join(rows[0]), *(",".join(str(value or "") for value in row.values()) for row in rows)]
        path.write_text("\n".join(lines), encoding="utf-8")
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_table__columns_are_told_by_their_names(tmp_path: Path, kind: str) -> None:
    rows = [
        {"id": "a", "path": "x/1.png", "label": "cat"},
        {"id": "b", "path": "https://host.test/2.jpg", "label": None},
    ]
    found = listing(as_kind(tmp_path, kind, rows))
    assert (found.modality, found.data_key, found.roots) == ("image", "path", (tmp_path,))
    assert list(found) == [
        Entry(0, "a", "image", str(tmp_path / "x/1.png"), label="cat"),
        Entry(1, "b", "image", "https://host.test/2.jpg"),
    ]
    assert list(found) == list(found)  # it can be read again


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_table__missing_and_repeated_ids_and_empty_values_are_named(tmp_path: Path, kind: str) -> None:
    rows = [
        {"id": i, "text": t}
        for i, t in [("a", "one"), (None, "two"), ("a", "three"), ("d", None), ("e", " ")]
    ]
    found = {entry.row: entry.fault for entry in listing(as_kind(tmp_path, kind, rows))}
    assert found == {
        0: None,
        1: 'its "id" is empty',
        2: 'its "id" is "a", as that of row 0',
        3: '"text" is empty',
        4: '"text" is empty',
    }


def test_table__without_an_id_column_rows_are_the_ids(tmp_path: Path) -> None:
    assert [entry.key for entry in listing(csv_file(tmp_path, "text\none\ntwo\n"))] == ["0", "1"]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_table__named_column_that_is_not_there(tmp_path: Path, kind: str) -> None:
    path = as_kind(tmp_path, kind, [{"id": "a", "path": "1.png"}])
    with pytest.raises(
        InputError, match=r'm\.\w+ has no column "paht" \(--data-key\); did you mean "path"\?'
    ):
        listing(path, data_key="paht")
    with pytest.raises(InputError, match=r'has no column "name" \(--id-key\)'):
        listing(path, id_key="name")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_table__without_a_column_that_fits(tmp_path: Path, kind: str) -> None:
    path = as_kind(tmp_path, kind, [{"weight": 1, "colour": "red"}])
    with pytest.raises(InputError, match=r"\(columns: weight, colour\); choose one: --data-key COLUMN"):
        listing(path)


def test_table__several_columns_that_may_be_meant(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "path,text\n1.png,hello\n")
    with pytest.raises(InputError, match=r"\(path, text\); choose one: --data-key path"):
        listing(path)
    assert listing(path, data_key="text").modality == "text"
    assert listing(path, data_key="path").modality == "image"


def test_table__column_is_told_by_its_values(tmp_path: Path) -> None:
    assert listing(csv_file(tmp_path, "what,size\na/1.png,3\nb/2.JPEG,4\n")).data_key == "what"


def test_table__text_of_a_megabyte_is_one_value(tmp_path: Path) -> None:
    text = "word " * 250_000
    assert [entry.source for entry in listing(csv_file(tmp_path, f'text\n"{text}"\nshort\n'))] == [
        text,
        "short",
    ]


def test_table__semicolons_tabs_and_a_byte_order_mark(tmp_path: Path) -> None:
    first = listing(csv_file(tmp_path, "\ufeffid;text\na;one, two\n"))
    second = listing(csv_file(tmp_path, "id\ttext\na\tone; two\n", "m.tsv"))
    assert [(entry.key, entry.source) for entry in first] == [("a", "one, two")]
    assert [(entry.key, entry.source) for entry in second] == [("a", "one; two")]


def test_table__rows_of_another_length_are_named_and_nothing_is_lost(tmp_path: Path) -> None:
    found = list(listing(csv_file(tmp_path, "id,text\na,one\nb\n\nc,two,more\nd,four\n")))
    assert [entry.fault for entry in found] == [
        None, "the row has 1 fields, the header 2", "the row has 3 fields, the header 2", None,
    ]  # fmt: skip


def test_table__lines_that_are_no_json_are_named(tmp_path: Path) -> None:
    path = csv_file(tmp_path, '{"text": "one"}\n{"text": \n[1]\n{"text": 5}\n{"other": 1}\n', "m.jsonl")
    faults = [entry.fault for entry in listing(path)]
    assert faults[0] is None
    assert str(faults[1]).startswith("the line is not JSON: Expecting value")
    assert faults[2:] == [
        "the line is a JSON list, no object",
        '"text" is a int, not a text or address',
        '"text" is empty',
    ]


def test_table__one_line_that_is_not_utf8_among_others(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes("text\nfine\nnaïve\n".encode() + b"na\xefve\n" + "Zoë\n".encode())
    found = listing(path)
    assert [entry.fault for entry in found] == [None, None, '"text" is not UTF-8', None]
    assert found.guessed_encoding == ""


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "cp1252", "cp1251"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_table__encodings_of_spreadsheets(tmp_path: Path, kind: str, encoding: str) -> None:
    texts = ["Быстрая лиса", "Это хорошо"] if encoding == "cp1251" else ["Grüße aus Köln", "C'est ça, l'été"]
    lines = {
        "csv": ["id;text", *(f"{row};{text}" for row, text in enumerate(texts))],
        "jsonl": [
            json.dumps({"id": row, "text": text}, ensure_ascii=False) for row, text in enumerate(texts)
        ],
    }[kind]
    path = tmp_path / f"m.{kind}"
    path.write_bytes("\r\n".join(lines).encode(encoding))
    found = listing(path)
    assert [(entry.key, entry.source) for entry in found] == list(zip("01", texts, strict=True))
    assert found.guessed_encoding == ("" if encoding in ("utf-16", "utf-8-sig") else encoding)


def test_table__label_that_is_no_utf8_is_one_that_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes("path,label\n1.png,Käse\n2.png,Grün\n3.png,Äpfel\n".encode() + b"4.png,K\xe4se\n")
    assert [entry.label for entry in listing(path)] == ["Käse", "Grün", "Äpfel", "K\\udce4se"]


def test_table__file_names_of_another_encoding_are_found_as_they_lie_on_disk(tmp_path: Path) -> None:
    raw = b"t\xe9l\xe9.png"
    for name in (raw, "été.png".encode()):
        (tmp_path / os.fsdecode(name)).touch()
    path = tmp_path / "m.csv"
    path.write_bytes(b"path\n" + raw + b"\n" + "été.png".encode("cp1252") + b"\ngar\xe7on.png\n")
    assert [Path(entry.source).name for entry in listing(path)] == [os.fsdecode(raw), "été.png", "garçon.png"]


@pytest.mark.parametrize(
    "content",
    [
        "path,label,,\r\n1.png,cat,,\r\n2.png,dog,,\r\n",
        "path,label,,\n1.png,cat\n2.png,dog,,\n",  # trailing fields cut off
        "path,label\n1.png,cat,,\n2.png,dog,,\n",
        ",path,label\n0,1.png,cat\n1,2.png,dog\n",  # the index that pandas writes
        "path,,label,\n1.png,x,cat,note\n2.png,,dog,\n",
    ],
)
def test_table__columns_without_a_name_are_ignored(tmp_path: Path, content: str) -> None:
    found = [(entry.source, entry.label, entry.fault) for entry in listing(csv_file(tmp_path, content))]
    assert found == [(str(tmp_path / "1.png"), "cat", None), (str(tmp_path / "2.png"), "dog", None)]


@pytest.mark.parametrize(
    "content",
    [
        "sep=;\r\nid;text\r\na;one, two, three\r\n",
        '"sep=;"\nid;text\na;one, two, three\n',
        "SEP=|\nid|text\na|one, two, three\n",
        "sep=\t\nid\ttext\na\tone, two, three\n",
        'sep=,\nid,text\na,"one, two, three"\n',
        "\ufeffsep=;\nid;text\na;one, two, three\n",
    ],
)
def test_table__first_line_that_names_the_delimiter(tmp_path: Path, content: str) -> None:
    found = listing(csv_file(tmp_path, content))
    assert [(entry.row, entry.key, entry.source) for entry in found] == [(0, "a", "one, two, three")]


def test_table__first_line_that_names_the_delimiter_in_utf16(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes("sep=;\r\nid;text\r\na;Grüße, Köln\r\n".encode("utf-16"))
    assert [(entry.key, entry.source) for entry in listing(path)] == [("a", "Grüße, Köln")]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_table__whole_numbers_that_a_gap_made_floats(tmp_path: Path, kind: str) -> None:
    rows = [{"id": float(i), "path": f"{i}.png", "label": i % 3 + 0.0 if i % 2 else None} for i in range(6)]
    path = as_kind(tmp_path, kind, rows)
    if kind == "csv":  # `as_kind` writes 0.0 as nothing
        path.write_text(
            "id,path,label\n"
            + "".join(f"{r['id']},{r['path']},{'' if r['label'] is None else r['label']}\n" for r in rows)
        )
    found = [(entry.key, entry.label) for entry in listing(path)]
    assert found == [("0", None), ("1", "1"), ("2", None), ("3", "0"), ("4", None), ("5", "2")]


def test_table__versions_and_fractions_stay_as_they_are_written(tmp_path: Path) -> None:
    found = listing(csv_file(tmp_path, "path,label\n1.png,1.0\n2.png,1.5\n3.png,2.0\n"))
    assert [entry.label for entry in found] == ["1.0", "1.5", "2.0"]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_table__labels_that_are_nan_are_no_class(tmp_path: Path, kind: str) -> None:
    rows = [{"path": f"{i}.png", "label": float(i) if i < 3 else float("nan")} for i in range(12)]
    labels = [entry.label for entry in listing(as_kind(tmp_path, kind, rows))]
    assert labels == ["0", "1", "2", *[None] * 9]


def test_table__pictures_inside(tmp_path: Path) -> None:
    struct = [
        {"bytes": b"\x89PNG one", "path": "deep/été 1.png"},
        {"bytes": None, "path": "2.png"},
        {"bytes": b"", "path": None},
        None,
        {"bytes": b"\xff\xd8 five", "path": None},
    ]
    path = tmp_path / "a b.parquet"
    pq.write_table(pa.table({"image": struct, "label": range(5)}), path, row_group_size=2)
    found = listing(path)
    address = f"parquet:{tmp_path}/a%20b.parquet/image"
    assert (found.modality, found.data_key) == ("image", "image")
    assert [(entry.source, entry.fault) for entry in found] == [
        (f"{address}/0/%C3%A9t%C3%A9%201.png", None),
        (str(tmp_path / "2.png"), None),
        ("", '"image" is empty'),
        ("", '"image" is empty'),
        (f"{address}/4/row-4", None),
    ]
    with MediaReader(local_roots=found.roots, object_stores=True) as reader:
        assert reader.read(Location(url=f"{address}/4/row-4")) == b"\xff\xd8 five"


@pytest.mark.parametrize("name", ["image", "scan"])
def test_table__pictures_inside_as_plain_bytes(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({name: [b"\x89PNG\r\n\x1a\n", None], "size": [1, 2]}), path)
    found = listing(path)
    assert (found.modality, found.data_key) == ("image", name)
    assert [entry.source for entry in found] == [f"parquet:{path}/{name}/0/row-0", ""]


def test_table__texts_and_paths_stored_as_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"text": [b"one", "zwölf".encode()], "label": [b"a", b"b"]}), path)
    assert [(entry.source, entry.label) for entry in listing(path)] == [("one", "a"), ("zwölf", "b")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; its first row must name the columns"),
        ("path\n", "has columns but no rows"),
        ("path,path\n1,2\n", 'has two columns called "path"; rename one'),
    ],
)
def test_table__that_is_none(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(listing(csv_file(tmp_path, content)))


def test_table__that_is_no_parquet(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"m\.parquet is not a Parquet file"):
        read_manifest(csv_file(tmp_path, "id,text\n", "m.parquet"))


def test_table__paths_start_at_its_folder_and_may_climb_only_into_other_roots(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path, "path\nsub/../1.png\n../2.png\n/abs/3.png\nfile:///abs/4%20.png\ns3://b/5.png\n"
    )
    found = listing(path, roots=(str(tmp_path.parent),))
    assert [entry.source for entry in found] == [
        str(tmp_path / "1.png"), str(tmp_path.parent / "2.png"), "/abs/3.png", "/abs/4 .png", "s3://b/5.png",
    ]  # fmt: skip
    assert found.roots == (tmp_path, tmp_path.parent)


def test_table__label_column_can_be_left_out(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "path,label\n1.png,cat\n")
    assert [entry.label for entry in listing(path)] == ["cat"]
    assert [entry.label for entry in listing(path, label_key="none")] == [None]


def test_table__millions_of_rows_are_not_held(tmp_path: Path) -> None:
    import tracemalloc

    path = csv_file(tmp_path, "text\n" + "a sentence of some length\n" * 200_000)
    found = listing(path)
    tracemalloc.start()
    assert sum(1 for _ in found) == 200_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize(
    ("data_key", "modality", "file", "source"),
    [
        ("doc", "image", None, "{}/a.pdf"),
        ("image:doc", "image", None, "{}/a.pdf"),
        ("text:doc", "image", TextFile("doc"), "{}/a.pdf"),
        ("text:mixed", "text", None, "a.pdf"),
        ("image:mixed", "image", None, "{}/a.pdf"),
        ("text:title", "text", None, "A b.pdf and more"),
    ],
)
def test_table__what_a_column_holds_may_be_said(
    tmp_path: Path, data_key: str, modality: str, file: TextFile | None, source: str
) -> None:
    rows = "doc,mixed,title\na.pdf,a.pdf,A b.pdf and more\nhttps://a.test/b.PDF?x=1,b.png,c\n"
    listing = TableListing(csv_file(tmp_path, rows), data_key=data_key)
    first = next(iter(listing))
    assert (listing.modality, listing.text_file) == (modality, file)
    assert first.source == source.format(tmp_path)
    assert field_of(listing).modality == ("text" if file else modality)
    with pytest.raises(InputError, match=r'no column "text:nothing"'):
        TableListing(csv_file(tmp_path, rows), data_key="text:nothing")
