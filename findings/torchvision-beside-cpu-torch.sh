#!/usr/bin/env bash
# torchvision from PyPI beside a CPU build of torch: pip calls the two compatible, and `import torchvision` fails with
#
#     RuntimeError: operator torchvision::nms does not exist
#
# The wheel on PyPI is built for CUDA. Its compiled part does not load beside a CPU torch, that failure is swallowed, and
# registering a fake for the operator that the compiled part would have defined is what fails. So nothing of torchvision
# can be used, not even transforms and data sets, which are pure Python.
#
# Helps: define the two schemas before anything imports torchvision. Everything but the operators works then.
#
# Seen with torch 2.13.0+cpu and torchvision 0.28.0 on Python 3.11, Linux x86-64.
# The CPU build of torch has to be found: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
set -euo pipefail

TORCH=2.13.0+cpu TORCHVISION=0.28.0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
changed() {
  echo "CHANGED: $1"
  exit 1
}

"${PYTHON:-python3}" -m venv "$work/venv"
python=$work/venv/bin/python
"$python" -m pip install -q "torch==$TORCH" "torchvision==$TORCHVISION" "numpy==2.2.6"
cd "$work"

echo "--- pip check"
"$python" -m pip check || changed "pip no longer calls them compatible"

echo "--- import torchvision"
if "$python" -c "import torchvision" >import.txt 2>&1; then
  changed "torchvision $TORCHVISION can be imported beside torch $TORCH"
fi
tail -n 1 import.txt
grep -q "operator torchvision::nms does not exist" import.txt || changed "it fails in another way"

echo "--- the same with the schemas defined before"
"$python" - <<'PYTHON' || changed "defining the schemas no longer helps"
import torch

library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import torchvision
from torchvision.transforms import v2

print("torch", torch.__version__, "torchvision", torchvision.__version__)
print("resized:", tuple(v2.Resize(4)(torch.zeros(3, 8, 8)).shape))
boxes, scores = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0])
try:
    torchvision.ops.nms(boxes, scores, 0.5)
except Exception as error:  # the operator itself is still not there
    print("nms:", type(error).__name__)
else:
    raise SystemExit("nms works")
PYTHON

echo "as described"
