import base64
import hashlib
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tfwsss.errors import DataError
from tfwsss.report.page import ReportData, build_report
from tfwsss.report.table import ScoreRow, ScoreTable

CLASSES = ("cat", "dog", "horse")
TABLE = ScoreTable((ScoreRow("CAM", "train", 3, 0.5, {"background": 0.7, "cat": 0.3}), ScoreRow("walk", "train", 3, 0.625, {"background": 0.8})))
HOSTILE = "\"'><script>alert(1)</script>&<img src=x onerror=alert(1)>"
VOID = {"meta", "img", "rect"}


class Page(HTMLParser):
    """Checks nesting while parsing, and collects elements and text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def data(**changes):
    values = dict(title="run", created="2026-01-02 03:04", classes=CLASSES, config_yaml="a: 1\n", table=TABLE)
    return ReportData(**{**values, **changes})


def build(tmp_path, report):
    path = tmp_path / "report" / "index.html"
    build_report(path, report)
    assert [file.name for file in path.parent.iterdir()] == ["index.html"]  # no temporary file is left
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    check_self_contained(html, page)
    return html, page


def check_self_contained(html, page):
    allowed = {"html", "head", "meta", "title", "style", "body", "main", "header", "section", "h1", "h2", "small", "p", "dl", "div", "dt", "dd", "ul", "li"}
    allowed |= {"span", "table", "thead", "tbody", "tr", "th", "td", "svg", "rect", "figure", "img", "details", "summary", "pre"}
    assert {tag for tag, _ in page.elements} <= allowed
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on") and name not in ("href", "srcset", "style", "action")
            if name == "src":
                assert re.fullmatch(r"data:image/(jpeg|png|svg\+xml);base64,[A-Za-z0-9+/]+=*", value)
    for attributes in page.all("img"):
        assert attributes["alt"].strip()
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL).group(1)
    assert "@import" not in style and "url(" not in style
    policy = next(item["content"] for item in page.all("meta") if item.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def pictures(page, mime):
    return [base64.b64decode(item["src"].partition(",")[2]) for item in page.all("img") if item["src"].startswith(f"data:{mime}")]


def test_everything_is_on_the_page(tmp_path, make_row):
    rows = [make_row("farm/dog 1"), make_row("farm/dog 2", seed=1)]
    history = [{"epoch": 1, "learning_rate": 0.1, "loss": 0.5}]
    report = data(training_rows=rows, validation_rows=[make_row("v")], histories={"classifier": history}, curves={"CAM": [(0.1, 0.2)]}, facts=[("seed", "7")])
    html, page = build(tmp_path, report)
    text = " ".join(page.text)
    for expected in ("run", "2026-01-02 03:04", "farm/dog 1", "farm/dog 2", "horse", "a: 1", "62.5", "seed", "7", "Configuration", TABLE.headline()):
        assert expected in text
    assert "http" not in re.sub(r"data:[^\"]+|http-equiv", "", html)
    for heading in ("photo", "CAM", "affinity label", "walk", "final label", "prediction", "mask"):
        assert text.split().count(heading) >= 2 or " " in heading and text.count(heading) == 2
    assert len(pictures(page, "image/jpeg")) == 3 * 7
    assert len(pictures(page, "image/svg+xml")) == 3  # threshold curve, one loss curve, classes
    assert all(header.get("scope") in ("row", "col") for header in page.all("th"))
    alts = [item["alt"] for item in page.all("img")]
    assert "CAM of farm/dog 1 (cat, horse)" in alts


def test_pictures_are_in_the_order_of_the_headings(tmp_path, make_row):
    photo = np.zeros((32, 32, 3), np.uint8)
    photo[..., 2] = 200
    row = make_row(photo=photo, walk=np.full((32, 32), 3), cam=None, affinity_label=None, pseudo_label=None, prediction=None, mask=None)
    _, page = build(tmp_path, data(training_rows=[row]))
    first, second = (np.asarray(Image.open(io.BytesIO(content)))[16, 16].astype(int) for content in pictures(page, "image/jpeg"))
    np.testing.assert_allclose(first, (0, 0, 200), atol=6)
    assert second[0] > second[2] + 50 and second[1] > second[2] + 50  # VOC colour 3 is olive


def test_hostile_names_are_text(tmp_path, make_row):
    report = data(
        title=HOSTILE,
        created=HOSTILE,
        classes=(HOSTILE, "dog", "horse"),
        config_yaml=f"name: {HOSTILE}</pre>",
        table=ScoreTable((ScoreRow(HOSTILE, HOSTILE, 1, 0.5, {HOSTILE: 0.5}),)),
        histories={HOSTILE: [{"epoch": 1, "loss": 0.1, HOSTILE: 0.2}]},
        curves={HOSTILE: [(0.1, 0.2)]},
        training_rows=[make_row(HOSTILE)],
        facts=[(HOSTILE, HOSTILE)],
    )
    html, page = build(tmp_path, report)
    assert "<script" not in html and "onerror=alert(1)>" not in html
    assert "".join(page.text).count(HOSTILE) >= 9
    for content in pictures(page, "image/svg+xml"):
        assert b"<script" not in content


def test_missing_panels_and_missing_columns(tmp_path, make_row):
    rows = [make_row("a", cam=None, mask=None), make_row("b", mask=None)]
    _, page = build(tmp_path, data(training_rows=rows))
    headings = [item for item in page.all("th") if item["scope"] == "col"]
    assert len(headings) == 6 + 4 + len(TABLE.classes)  # no mask column: no row has one
    assert len(pictures(page, "image/jpeg")) == 2 * 6 - 1
    assert "none" in page.text


def test_empty_run(tmp_path):
    _, page = build(tmp_path, data(table=ScoreTable(), classes=(), config_yaml=""))
    assert page.all("table") == [] and page.all("img") == []
    assert "Nothing was scored: the data set has no masks." in page.text


def test_image_without_tags_and_one_pixel_photo(tmp_path, make_row):
    row = make_row("tiny", photo=np.zeros((1, 1, 3), np.uint8), tags=(), cam=(np.zeros(0, int), np.zeros((0, 3, 3))))
    _, page = build(tmp_path, data(training_rows=[row]))
    assert "photo of tiny (no tags)" in [item["alt"] for item in page.all("img")]


def test_page_of_24_photos_of_noise_stays_below_6_mb(tmp_path, make_row):
    rows = [make_row(str(index), 375, 500, seed=index) for index in range(12)]
    build_report(tmp_path / "index.html", data(training_rows=rows, validation_rows=rows))
    assert (tmp_path / "index.html").stat().st_size < 6_000_000


def test_wrong_array_names_image_and_step_and_writes_nothing(tmp_path, make_row):
    path = tmp_path / "index.html"
    path.write_text("before")
    with pytest.raises(DataError, match=r"image 'img', walk: label map: expected .* found float64"):
        build_report(path, data(training_rows=[make_row(walk=np.zeros((3, 3)))]))
    with pytest.raises(DataError, match=r"image 'img', tags: expected 0..2, found \[3\]"):
        build_report(path, data(training_rows=[make_row(tags=(3,))]))
    assert path.read_text() == "before" and len(list(tmp_path.iterdir())) == 1


def test_doubtful_labels_have_a_section_with_what_speaks_against_them(tmp_path, make_row):
    rows = [make_row("worst", note=f"confidence 3 %: {HOSTILE}"), make_row("next", seed=1)]
    _, page = build(tmp_path, data(training_rows=[make_row("sure")], doubtful_rows=rows))
    text = " ".join("".join(page.text).split())
    assert "Doubtful labels" in text and f"confidence 3 %: {HOSTILE}" in text
    assert text.index("sure") < text.index("worst") < text.index("next")
    assert sum(item.get("class") == "note" for item in page.all("span")) == 1  # a row without a note has none
