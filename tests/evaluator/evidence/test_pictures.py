"""docs/verdicts.md: its pictures can be drawn again and say what the page says."""

import importlib.util
from pathlib import Path
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.fixture
def drawing(tmp_path):
    """docs/pictures/draw.py, drawing elsewhere."""
    spec = importlib.util.spec_from_file_location("draw", DOCS / "pictures" / "draw.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.HERE = tmp_path
    return module


def words(path):
    """All words of a picture, in order."""
    return [text for text in ElementTree.parse(path).getroot().itertext() if text.strip()][2:]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["looks", "evidence"])
def test_a_picture_is_what_its_script_draws(drawing, tmp_path, name):
    """The words and figures in the committed picture are those of a new drawing, title and style aside."""
    getattr(drawing, f"draw_{name}")()
    assert words(tmp_path / f"{name}.svg") == words(DOCS / "pictures" / f"{name}.svg")


def test_the_page_quotes_the_pictures():
    """Shares of wrong promotions and the day of the promotion."""
    page = " ".join((DOCS / "verdicts.md").read_text().split())
    for label in words(DOCS / "pictures" / "looks.svg"):
        if ": " in label:
            assert label.split(": ")[1] in page, label
    day = next(w for w in words(DOCS / "pictures" / "evidence.svg") if w.startswith("PROMOTE"))
    assert day.split(" on ")[1] in page
