"""The page at `/` in a real headless Chromium: what a person sees after dropping a photo, and what the browser blocks."""

import shutil

import httpx
import numpy as np
import pytest
from PIL import Image

from tfwsss_onnx import Segmenter, overlay

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
    "--force-color-profile=srgb",
)
# The canvas' pixels as [r, g, b, a, ...] with its size.
PIXELS = """
const canvas = document.getElementById("canvas");
return [canvas.width, canvas.height, Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)];
"""
# The last file has been answered, with a mask or an error.
DONE = """
const message = document.getElementById("message");
return message.className === "bad" || (message.hidden && !document.getElementById("result").hidden);
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("chromium and chromedriver are not installed (Debian: apt-get install chromium chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture
def page(browser, server):
    browser.get(server.url + "/")
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []  # nothing failed, nothing was blocked


@pytest.fixture(scope="module")
def segmenter(exported):
    return Segmenter(exported("local"), device="cpu", threads=1)


def find(page, selector: str):
    return page.find_elements("css selector", selector)


def drop(page, path) -> None:
    """Give the page a photo and wait for its mask."""
    from selenium.webdriver.support.ui import WebDriverWait

    find(page, "#file")[0].send_keys(str(path))
    WebDriverWait(page, 30, 0.05).until(lambda page: page.execute_script(DONE))


def canvas(page) -> np.ndarray:
    width, height, values = page.execute_script(PIXELS)
    return np.array(values, np.uint8).reshape(height, width, 4)[:, :, :3]


@pytest.fixture
def file(photo, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(photo(120, 160)).save(path)
    return path


def test_overlay_mask_and_photo(page, segmenter, photo, file):
    image = photo(120, 160)
    mask = segmenter(image)
    drop(page, file)
    opacity = round(2.55 * 55) / 255
    np.testing.assert_allclose(canvas(page).astype(int), overlay(image, mask, segmenter.palette, opacity), atol=2)
    find(page, '[data-view="mask"]')[0].click()
    np.testing.assert_array_equal(canvas(page), segmenter.palette[mask])
    find(page, '[data-view="photo"]')[0].click()
    np.testing.assert_array_equal(canvas(page), image)
    assert find(page, "#save")[0].get_attribute("download") == "photo.mask.png"
    find(page, '[data-view="overlay"]')[0].click()
    page.execute_script("const slider = document.getElementById('opacity'); slider.value = 100; slider.dispatchEvent(new Event('input'));")
    np.testing.assert_array_equal(canvas(page), np.where((mask > 0)[:, :, None], segmenter.palette[mask], image))


def test_legend_and_timings(page, segmenter, photo, file):
    mask = segmenter(photo(120, 160))
    drop(page, file)
    shown = {row.find_element("css selector", "span").text: row.find_element("css selector", ".figure").text for row in find(page, "#legend li")}
    assert shown == {segmenter.labels[label]: f"{(mask == label).mean():.1%}".replace("%", " %") for label in np.unique(mask)}
    colors = [row.find_element("css selector", "svg.swatch rect").get_attribute("fill") for row in find(page, "#legend li")]
    assert set(colors) == {"#" + segmenter.palette[label].tobytes().hex() for label in np.unique(mask)}
    times = {row.find_elements("css selector", "td")[0].text: row.find_elements("css selector", "td")[1].text for row in find(page, "#timings tr")}
    assert list(times) == ["Reading the file", "Waiting for its turn", "Network", "Writing the mask", "Sending and the rest", "Whole request"]
    assert all(float(time[: -len(" ms")]) >= 0 for time in times.values())
    assert find(page, "#size")[0].text == "160 × 120 pixels"


def test_a_class_of_the_legend_stands_out(page, segmenter, photo, file):
    mask = segmenter(photo(120, 160))
    drop(page, file)
    find(page, '[data-view="mask"]')[0].click()
    row = find(page, "#legend li")[0]
    label = segmenter.labels.index(row.find_element("css selector", "span").text)
    page.execute_script("arguments[0].focus()", row)
    shown = canvas(page)
    np.testing.assert_array_equal(shown[mask == label], np.broadcast_to(segmenter.palette[label], ((mask == label).sum(), 3)))
    alpha = np.array(page.execute_script(PIXELS)[2]).reshape(*mask.shape, 4)[:, :, 3]
    assert (alpha[mask == label] == 255).all() and (alpha[mask != label] < 60).all()


def test_photos_that_are_turned_and_formats_that_the_browser_lacks(page, segmenter, photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo(40, 60)).save(tmp_path / "turned.png", exif=exif)
    drop(page, tmp_path / "turned.png")
    find(page, '[data-view="photo"]')[0].click()
    np.testing.assert_array_equal(canvas(page), np.rot90(photo(40, 60), -1))
    Image.fromarray(photo(50, 70)).save(tmp_path / "photo.tiff")
    drop(page, tmp_path / "photo.tiff")
    np.testing.assert_array_equal(canvas(page), photo(50, 70))


def test_a_file_that_is_no_photo_says_why(browser, server, tmp_path, file):
    browser.get(server.url + "/")
    (tmp_path / "text.png").write_text("hello")
    drop(browser, tmp_path / "text.png")
    assert "not an image" in find(browser, "#message")[0].text
    drop(browser, file)
    assert not find(browser, "#message")[0].is_displayed() and find(browser, "#legend li")
    browser.get_log("browser")  # the 400 answer stands there


def test_scripts_of_others_do_not_run(browser, serve, exported, tmp_path):
    import onnx

    model = onnx.load(exported("local"))
    for entry in model.metadata_props:
        if entry.key == "labels":
            entry.value = '["background", "<img src=x onerror=document.title=1>", "\\"><script>document.title=2</script>", "&amp;"]'
    onnx.save(model, tmp_path / "evil.onnx")
    server = serve(tmp_path / "evil.onnx")
    browser.get(server.url + "/")
    assert browser.title == "segmenter: segmentation"
    assert '<img src=x onerror=document.title=1>, "><script>' in find(browser, "#known")[0].text
    browser.execute_script("const script = document.createElement('script'); script.textContent = 'document.title = 3'; document.body.append(script);")
    assert browser.title == "segmenter: segmentation"
    browser.get_log("browser")  # what was blocked stands there


def test_the_page_needs_nothing_from_elsewhere(server):
    answer = httpx.get(server.url + "/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "") and "https://" not in answer.text
