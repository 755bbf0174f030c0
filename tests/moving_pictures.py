"""Videos and PDFs for tests, made on the spot."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

RED, GREEN, BLUE, GREY = (220, 20, 20), (20, 200, 20), (20, 20, 220), (128, 128, 128)
Color = tuple[int, int, int]


def near(picture: Image.Image | Exception, at: tuple[float, float] = (0.5, 0.5)) -> Color | None:
    """The named color nearest to that at a place of a picture; None without a picture."""
    if isinstance(picture, Exception):
        return None
    seen = np.asarray(picture.convert("RGB"))[int(picture.height * at[1]), int(picture.width * at[0])]
    return min((RED, GREEN, BLUE, GREY), key=lambda color: np.abs(np.subtract(color, seen.astype(int))).sum())


def video(
    colors: Sequence[Color],
    *,
    each: int = 10,
    size: tuple[int, int] = (160, 120),
    format: str = "mp4",  # noqa: A002 - as the library calls it
    codec: str = "libx264",
    gop: int = 12,
    sound: bool = False,
) -> bytes:
    """A video that shows each color for some frames, at 25 a second."""
    import av

    width, height = size
    out = io.BytesIO()
    with av.open(out, "w", format=format) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, "yuv420p", gop
        heard = container.add_stream("aac", rate=44_100) if sound else None
        for number, color in enumerate(color for color in colors for _ in range(each)):
            picture = np.full((height, width, 3), color, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if heard is not None:
            silence = av.AudioFrame.from_ndarray(
                np.zeros((2, 1024), dtype=np.float32), format="fltp", layout="stereo"
            )
            silence.sample_rate = 44_100
            container.mux(heard.encode(silence))
            container.mux(heard.encode())
    return out.getvalue()


def only_sound() -> bytes:
    """An audio file."""
    import av

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44_100)
        silence = av.AudioFrame.from_ndarray(
            np.zeros((2, 1024), dtype=np.float32), format="fltp", layout="stereo"
        )
        silence.sample_rate = 44_100
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    return out.getvalue()


def pdf(
    pages: Sequence[tuple[Color, str]], *, size: tuple[float, float] = (300.0, 400.0), password: str = ""
) -> bytes:
    """A PDF whose pages have a background and a line of text."""
    from reportlab.pdfgen import canvas

    out = io.BytesIO()
    drawn = canvas.Canvas(out, pagesize=size, encrypt=password or None)
    for color, text in pages:
        drawn.setFillColorRGB(*(part / 255 for part in color))
        drawn.rect(0, 0, *size, stroke=0, fill=1)
        drawn.setFillColorRGB(0, 0, 0)
        drawn.drawString(20, size[1] - 40, text)
        drawn.showPage()
    drawn.save()
    return out.getvalue()
