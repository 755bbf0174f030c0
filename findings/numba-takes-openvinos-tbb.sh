#!/usr/bin/env bash
# Numba runs parallel functions by TBB where a libtbb of the right kind can be loaded, else by OpenMP or its own queue.
# PyPI's OpenVINO brings a libtbb of its own, in a folder that no search path names. Numba finds it all the same, but only
# in processes that have imported OpenVINO before: the same function of the same installation runs by TBB or not, depending
# on what came first, and numba -s, in a process of its own, tells of no TBB at all.
#
# Numba waits for TBB's threads when Python ends, and a process in which both had computed was seen that did its work and
# never ended.
#
# Helps: NUMBA_THREADING_LAYER=omp (or workqueue) where both are installed.
#
# Seen with numba 0.68.1 and openvino 2026.4.1 on Python 3.11, Linux x86-64.
set -euo pipefail

NUMBA=0.68.1
OPENVINO=2026.4.1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
python=$work/venv/bin/python
"$python" -m pip install -q "numba==$NUMBA" "openvino==$OPENVINO" "numpy==2.2.6"
cd "$work"
"$python" -m pip list 2>/dev/null | grep -iE '^(tbb|numba|openvino) ' || true

cat >layers.py <<'PYTHON'
import sys

import numba
import numpy as np


@numba.njit(parallel=True)
def total(values: np.ndarray) -> float:
    found = 0.0
    for place in numba.prange(len(values)):
        found += values[place]
    return found


def infer() -> None:
    import openvino as ov
    from openvino import opset15 as ops

    rows = ops.parameter([1, 8], np.float32)
    compiled = ov.Core().compile_model(ov.Model([ops.relu(rows)], [rows], "relu"), "CPU")
    compiled(np.zeros((1, 8), np.float32))


if sys.argv[1] == "openvino first":
    infer()
assert total(np.ones(1000)) == 1000.0
if sys.argv[1] == "numba first":
    infer()
print(numba.threading_layer())
PYTHON
first=$("$python" layers.py "openvino first")
second=$("$python" layers.py "numba first")
system=$("$python" -m numba -s 2>/dev/null | grep 'TBB Threading Layer Available' | tr -s ' ')
echo "openvino first: numba's threads are those of $first"
echo "numba first: $second"
echo "numba -s: $system"
[ "$first" = tbb ] || { echo "CHANGED: numba leaves OpenVINO's TBB alone"; exit 1; }
[ "$second" != tbb ] || { echo "CHANGED: numba finds a TBB by itself"; exit 1; }
[[ $system == *False* ]] || { echo "CHANGED: numba -s tells of a TBB"; exit 1; }
echo "as described"
