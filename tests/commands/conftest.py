import matplotlib.figure
import pytest
from PIL import Image

LOOKED_AT = ("test_train", "test_describe")
"""Modules whose runs have real pictures."""


@pytest.fixture(scope="module", autouse=True)
def empty_pictures(request):
    """Runs save pictures of one pixel: drawing takes most of a small run's time, and is tested with the report."""
    if request.module.__name__ in LOOKED_AT:
        yield
        return

    def savefig(_, file, format=None, **__):
        if format == "svg":
            file.write('<svg viewBox="0 0 400 300"></svg>')
        else:
            Image.new("RGB", (1, 1)).save(file, format=format or "png")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matplotlib.figure.Figure, "savefig", savefig)
        yield
