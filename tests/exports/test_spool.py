import gc
import json
import weakref

import pytest

from usl_backend.exports.spool import AnnotationSpool


def test_annotation_spool__gives_back_what_it_took_in_any_order() -> None:
    spool = AnnotationSpool()
    taken = {task: [{"id": task, "result": ["ünï 空" * task]}] for task in (7, 3, 900)}
    taken[4711] = [{"id": 1, "result": ["half of an emoji \ud83d"]}]
    for task, annotations in taken.items():
        spool.add(task, annotations)
        assert json.loads(spool[7]) == taken[7]  # reading between writing
    assert {task: json.loads(spool[task]) for task in (900, 3, 7, 4711)} == taken
    assert (len(spool), list(spool)) == (4, [7, 3, 900, 4711])
    assert spool.get(4) is None
    with pytest.raises(KeyError):
        spool[4]


def test_annotation_spool__closes_its_file_when_it_goes() -> None:
    spool = AnnotationSpool()
    file = spool._file
    gone = weakref.ref(spool)
    del spool
    gc.collect()
    assert gone() is None
    assert file.closed
