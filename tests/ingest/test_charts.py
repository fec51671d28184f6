"""Charts, read as the XML that they are."""

from __future__ import annotations

import math
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from ingest import charts
from ingest.charts import Series, bars, lines, nice_ceiling, seconds

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>alert(1)</script>\"'&"


def parsed(figure: str) -> Element:
    return ElementTree.fromstring(figure)


def texts(root: Element, tag: str) -> list[str]:
    return [element.text or "" for element in root.iter(tag)]


def test_bars_stand_on_each_other() -> None:
    series = [Series("SUCCESS", [3, 0, 10]), Series("FAILURE", [1, 2, 0])]
    root = parsed(bars("Outcomes", "By the hour.", ["10:00", "11:00", "12:00"], series, key="o"))
    rects = list(root.iter(f"{SVG}rect"))
    assert [rect.findtext(f"{SVG}title") for rect in rects] == [
        "10:00: 3 SUCCESS", "12:00: 10 SUCCESS", "10:00: 1 FAILURE", "11:00: 2 FAILURE",
    ]  # fmt: skip
    first, tallest, above, _ = rects
    assert float(above.get("y", 0)) + float(above.get("height", 0)) == pytest.approx(
        float(first.get("y", 0)), abs=0.2
    )
    # 10 of 10.
    assert float(tallest.get("height", 0)) == pytest.approx(charts._INNER)
    assert above.get("class") == "series-FAILURE"


def test_a_chart_tells_everything_in_words_too() -> None:
    series = [Series("SUCCESS", [3, 5]), Series("FAILURE", [0, 1])]
    root = parsed(bars("Outcomes", "By the hour.", ["10:00", "11:00"], series, key="o"))
    svg = next(root.iter(f"{SVG}svg"))
    named = [root.find(f".//*[@id='{key}']") for key in svg.get("aria-labelledby", "").split()]
    assert [element.text for element in named if element is not None] == [
        "Outcomes",
        "By the hour.",
    ]
    assert texts(root, "td") == ["3", "0", "5", "1"]
    assert texts(root, "th") == ["UTC", "SUCCESS", "FAILURE", "10:00", "11:00"]
    # The style sheet has the colours: the policy of the site forbids styles in the page.
    assert not [element for element in root.iter() if "style" in element.attrib]


def test_lines_have_gaps() -> None:
    values = [0.1, 0.2, None, 4, None]
    root = parsed(lines("Latency", "x", list("abcde"), [Series("median", values)], key="l"))
    (line,) = root.iter(f"{SVG}polyline")
    assert len(line.get("points", "").split()) == 2
    assert len(list(root.iter(f"{SVG}circle"))) == 3
    assert texts(root, "td") == ["100 ms", "200 ms", "-", "4.0 s", "-"]


@pytest.mark.parametrize("draw", [bars, lines])
@pytest.mark.parametrize("values", [[], [0, 0], [None, None]])
def test_nothing_happened(draw: object, values: list[float | None]) -> None:
    labels = ["10:00", "11:00"][: len(values)]
    figure = draw("Nothing", "x", labels, [Series("files", values)], key="n")  # type: ignore[operator]
    assert not list(parsed(figure).iter(f"{SVG}rect"))
    assert "nan" not in figure and "inf" not in figure


def test_few_among_many_are_seen() -> None:
    series = [Series("SUCCESS", [1_000_000]), Series("FAILURE", [1])]
    root = parsed(bars("x", "x", ["a"], series, key="x"))
    assert all(float(rect.get("height", 0)) >= 1 for rect in root.iter(f"{SVG}rect"))


def test_hostile_names_are_text() -> None:
    figure = bars(HOSTILE, HOSTILE, [HOSTILE], [Series("files", [1])], key="h")
    assert "<script" not in figure
    assert HOSTILE in texts(parsed(figure), f"{SVG}desc")


@pytest.mark.parametrize(
    ("value", "top"),
    [(0, 1), (1, 1), (1.1, 2), (3, 5), (7, 10), (10, 10), (101, 200), (0.03, 0.05), (math.inf, 1)],
)
def test_the_top_of_an_axis(value: float, top: float) -> None:
    assert nice_ceiling(value) == pytest.approx(top)


def test_durations() -> None:
    told = [seconds(value) for value in (0, 0.25, 1, 119, 120, 7200, 200_000)]
    assert told == ["0 ms", "250 ms", "1.0 s", "119.0 s", "2.0 min", "2.0 h", "2.3 d"]
