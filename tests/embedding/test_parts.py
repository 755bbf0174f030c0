import hashlib

from usl_backend.embedding.outcome import Outcome
from usl_backend.embedding.parts import Assembled, Settled, digest_of, parts_of
from usl_backend.embedding.reading import Content
from usl_backend.instances import Instance


def h(number: int) -> str:
    return f"{number:064x}"


def picture(source: str, number: int = 1) -> Instance:
    return Instance(number, "image", source)


def test_parts_of__each_distinct_source_once_per_instance() -> None:
    several = Instance(1, "image", "a", ("b", "a"), (("words",),))
    assert parts_of([several, Instance(2, "image", "a")]) == [
        Instance(1, "image", "a"),
        Instance(1, "image", "b"),
        Instance(2, "image", "a"),
    ]


def test_digest_of__names_contents_in_their_order() -> None:
    assert digest_of(h(1)) == h(1)
    assert digest_of((h(1), h(2))) == hashlib.sha256(bytes.fromhex(h(1) + h(2))).hexdigest()
    assert digest_of((h(1), h(2))) != digest_of((h(2), h(1)))


def test_assemble__broken_parts_are_left_out_alone() -> None:
    instances = [
        Instance(1, "image", "a", ("b", "a", "c")),
        Instance(2, "image", "c", ("cut", "b")),
        Instance(3, "image", "gone", ("b",)),
        Instance(4, "image", "cut"),
        Instance(5, "image", "a"),
    ]
    settled = Settled(instances)
    hashes = {"a": h(1), "b": h(2), "c": h(3), "cut": h(4)}
    for part in parts_of(instances):
        if part.source == "gone" or (part.id, part.source) == (2, "b"):
            settled.add(Outcome(part, skipped="answered 404"))
        else:
            # Of equal contents only the first is decoded, and told what is wrong.
            reason = "truncated" if (part.id, part.source) == (2, "cut") else ""
            settled.add(Outcome(part, (Content(hashes[part.source], reason=reason),)))
    assert settled.assemble() == Assembled(
        contents={1: (h(1), h(2), h(1), h(3)), 2: h(3), 3: h(2), 5: h(1)},
        skipped={4: "truncated"},
        incomplete={
            2: "2 of 3 images left out, the first is number 2: truncated",
            3: "1 of 2 images left out, the first is number 1: answered 404",
        },
    )


def test_assemble__without_any_readable_part_the_first_reason_is_told() -> None:
    texts = Instance(7, "text", "", (" ",))
    settled = Settled([texts])
    for part in parts_of([texts]):
        settled.add(Outcome(part, skipped=f"no text in {part.source!r}"))
    assert settled.assemble().skipped == {7: "no text in '' (the first of 2 texts)"}


def test_assemble__one_file_may_hold_several_pictures() -> None:
    instances = [picture("film"), picture("cut film", 2)]
    settled = Settled(instances)
    settled.add(Outcome(instances[0], (Content(h(1)), Content(h(2)))))
    settled.add(Outcome(instances[1], (Content(h(1)), Content(h(3), reason="damaged"), Content(h(2)))))
    made = settled.assemble()
    assert made.contents == {1: (h(1), h(2)), 2: (h(1), h(2))}
    assert made.incomplete == {2: "1 of 3 images left out, the first is number 2: damaged"}


def test_outcome__is_what_was_added_without_values() -> None:
    film, other, gone = picture("film"), picture("film", 2), picture("gone")
    settled = Settled(())
    settled.add(Outcome(film, (Content(h(1), "pixels"), Content(h(2), reason="damaged"))))
    settled.add(Outcome(other, (Content(h(2)),)))
    settled.add(Outcome(gone, skipped="answered 404"))
    assert settled.outcome(film) == Outcome(film, (Content(h(1)), Content(h(2), reason="damaged")))
    assert settled.outcome(other) == Outcome(other, (Content(h(2), reason="damaged"),))
    assert settled.outcome(gone) == Outcome(gone, skipped="answered 404")
