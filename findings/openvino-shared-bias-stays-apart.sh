#!/usr/bin/env bash
# OpenVINO computes a convolution's bias and activation while it convolves, but only if no other layer has the same bias
# constant. A module that a network calls twice (a siamese network, a batch that is taken through its first layers in
# parts) is converted to convolutions that share their constants: each of them gets a pass of its own over its map for the
# bias and the activation. Rows are the same, nothing is logged, and the inference below takes 8 % longer.
#
# Helps: give each call constants of its own (a deep copy of the module). Shared *weights* do no harm.
#
# Seen with openvino 2026.4.1 on Python 3.11, Linux x86-64, CPU plugin in float32.
set -euo pipefail

OPENVINO=2026.4.1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
python=$work/venv/bin/python
"$python" -m pip install -q "openvino==$OPENVINO" "numpy==2.2.6"
cd "$work"

"$python" - <<'PYTHON'
import time

import numpy as np
import openvino as ov
from openvino import opset15 as ops


def network(*, weights: str, bias: str) -> ov.Model:
    """Two halves of a batch, each through a 1 x 1 convolution, a bias and a cut at 0 and 6."""
    rng = np.random.default_rng(0)
    weight_values = rng.standard_normal((32, 16, 1, 1)).astype(np.float32)
    bias_values = rng.standard_normal((1, 32, 1, 1)).astype(np.float32)
    weight, one_bias = ops.constant(weight_values), ops.constant(bias_values)
    batch = ops.parameter([8, 16, 112, 112], np.float32)
    halves = []
    for half in ops.split(batch, 0, 2).outputs():
        kernel = weight if weights == "shared" else ops.constant(weight_values.copy())
        added = one_bias if bias == "shared" else ops.constant(bias_values.copy())
        found = ops.convolution(half, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
        halves.append(ops.clamp(ops.add(found, added), 0.0, 6.0))
    return ov.Model([ops.concat(halves, 0)], [batch], "halves")


def layers(compiled: ov.CompiledModel) -> list[str]:
    """What the convolutions compute, and the layers that were left beside them."""
    told = []
    for layer in compiled.get_runtime_model().get_ordered_ops():
        info = layer.get_rt_info()
        kind = info["layerType"].value if "layerType" in info else ""
        if kind in ("Convolution", "Subgraph", "Eltwise"):
            names = info["originalLayersNames"].value
            told.append(f"{kind} of {'+'.join(name.split('_')[0] for name in names.split(','))}")
    return told


core = ov.Core()
settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
rows = np.random.default_rng(1).standard_normal((8, 16, 112, 112)).astype(np.float32)
found, took, outputs = {}, {}, []
for weights, bias in (("own", "own"), ("shared", "own"), ("own", "shared"), ("shared", "shared")):
    compiled = core.compile_model(network(weights=weights, bias=bias), "CPU", settings)
    found[weights, bias] = layers(compiled)
    outputs.append(compiled(rows)[0])
    times = []
    for _ in range(20):
        began = time.perf_counter()
        compiled(rows)
        times.append(time.perf_counter() - began)
    took[weights, bias] = sorted(times)[10]
    print(f"{weights:6} weights, {bias:6} bias: {1000 * took[weights, bias]:5.2f} ms  {found[weights, bias]}")
print("openvino", ov.__version__)
assert all(np.allclose(outputs[0], one, atol=1e-4) for one in outputs), "rows differ"
fused = ["Convolution of Convolution+Add+Clamp"] * 2
apart = sorted(["Convolution of Convolution", "Subgraph of Add+Clamp"] * 2)
for weights in ("own", "shared"):
    if found[weights, "own"] != fused:
        raise SystemExit("CHANGED: layers with a bias of their own are no longer one")
    if sorted(found[weights, "shared"]) != apart:
        raise SystemExit("CHANGED: layers that share a bias are computed otherwise")
PYTHON
echo "as described"
