"""Render pages of an untrusted PDF, or read their text, by PDFium; scripts, forms and links are left alone."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from usl_backend.errors import MediaError
from usl_backend.media.limits import MediaLimits, short_reason

if TYPE_CHECKING:
    from PIL import Image

PAGES: Final = 8
"""Pages that stand for a PDF, from the first on."""
SIDE: Final = 1_024
"""Longer side of a rendered page in pixels: small print is just legible."""
_PASSWORD: Final = 4
"""PDFium's error for a document that opens with a password only."""
_HEADER_WITHIN: Final = 1_024

_lock = threading.Lock()
"""PDFium must not be called from two threads at once, not even for different documents."""


def is_pdf(data: bytes) -> bool:
    """Return True if a file begins like a PDF; some have a few bytes before the header."""
    head = data[:_HEADER_WITHIN]
    return head.startswith(b"%PDF-") or (b"%PDF-" in head and not head.lstrip().startswith(b"<"))


class Pdf:
    """The pages that stand for a PDF: the first `PAGES`.

    Parameters
    ----------
    data
        The file's bytes.
    limits
        `seconds` for rendering the pages.

    Raises
    ------
    MediaError
        Not a PDF, damaged, encrypted, without pages, or pypdfium2 is not installed.
    """

    def __init__(self, data: bytes, *, limits: MediaLimits) -> None:
        self._data, self._limits = data, limits
        with self._opened() as document:
            self._count = min(PAGES, len(document))

    def __len__(self) -> int:
        return self._count

    def pictures(self, places: Sequence[int]) -> dict[int, Image.Image | MediaError]:
        """Render some of the pages on white, their longer side `SIDE` pixels.

        Parameters
        ----------
        places
            Of the pages, 0 being the first.

        Returns
        -------
        dict
            Place -> picture, or why the page cannot be rendered.

        Raises
        ------
        MediaError
            The PDF is damaged, or rendering takes too long.
        """
        found: dict[int, Image.Image | MediaError] = {}
        with self._opened() as document:
            deadline = time.monotonic() + self._limits.seconds
            for place in places:
                try:
                    found[place] = _rendered(document, place, deadline)
                except ValueError as error:  # one damaged page; the others may be fine
                    found[place] = MediaError(f"page {place + 1} is damaged: {short_reason(error)}")
        return found

    def text(self) -> str:
        """Return the text of the pages, a line each as laid out; "" if they hold none, as scans do.

        Raises
        ------
        MediaError
            The PDF is damaged, or reading takes too long.
        """
        parts: list[str] = []
        with self._opened() as document:
            deadline = time.monotonic() + self._limits.seconds
            for place in range(self._count):
                if time.monotonic() > deadline:
                    raise MediaError("reading the text of the PDF takes too long")
                page = document[place]
                try:
                    parts.append(page.get_textpage().get_text_bounded())
                finally:
                    page.close()
        return "\n".join(parts)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """Open the PDF, alone in this process; turn the library's errors in the block into `MediaError`."""
        try:
            import pypdfium2
        except ImportError as error:
            raise MediaError(f'PDFs need pypdfium2 ({error}): pip install "usl-backend[pdf]"') from error
        with _lock:
            document = None
            try:
                document = pypdfium2.PdfDocument(self._data)
                yield document
            except MediaError:
                raise
            except pypdfium2.PdfiumError as error:
                if getattr(error, "err_code", None) == _PASSWORD or "password" in str(error).lower():
                    raise MediaError("the PDF is encrypted with a password; save it without one") from error
                raise MediaError(f"the PDF is damaged or has no pages: {short_reason(error)}") from error
            except Exception as error:  # the library raises all kinds of exceptions on damaged bytes
                raise MediaError(f"the PDF is damaged: {short_reason(error)}") from error
            finally:
                if document is not None:
                    document.close()


def _rendered(document: Any, place: int, deadline: float) -> Image.Image:
    """Render a page step by step, so that one without end can be left."""
    import pypdfium2
    from pypdfium2 import raw

    page = document[place]
    try:
        width, height = page.get_size()
        if not (width > 0 and height > 0):
            raise ValueError("the page has no size")
        scale = SIDE / max(width, height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        bitmap = pypdfium2.PdfBitmap.new_native(*size, raw.FPDFBitmap_BGRx)
        bitmap.fill_rect((255, 255, 255, 255), 0, 0, *size)
        pause = raw.IFSDK_PAUSE(version=1)
        late = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(raw.IFSDK_PAUSE))(
            lambda _: int(time.monotonic() > deadline)
        )
        pause.NeedToPauseNow = late
        state = raw.FPDF_RenderPageBitmap_Start(bitmap, page, 0, 0, *size, 0, raw.FPDF_ANNOT, pause)
        raw.FPDF_RenderPage_Close(page)
        if state == raw.FPDF_RENDER_TOBECONTINUED:
            raise MediaError("rendering the PDF takes too long")
        if state != raw.FPDF_RENDER_DONE:
            raise ValueError("it cannot be rendered")
        picture: Image.Image = bitmap.to_pil().convert("RGB")
        return picture
    finally:
        page.close()
