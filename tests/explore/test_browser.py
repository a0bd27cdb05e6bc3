"""The page in a browser: Debian's Chromium, without a screen, where it is installed."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("selenium", reason="the browser is driven by selenium: pip install .[test]")

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"),
    *("disable-background-networking", "disable-component-update", "disable-sync"),
    "window-size=1280,1000",
)


class Browser:
    """A browser, and the page in it."""

    def __init__(self, driver, port, downloads):
        self.driver, self.downloads = driver, downloads
        self.address = f"http://127.0.0.1:{port}/"

    def __getitem__(self, name):
        return self.driver.find_element(By.ID, name)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def until(self, condition):
        return WebDriverWait(self.driver, 120, 0.05).until(lambda _: condition())

    def says(self, words):
        self.until(lambda: words in self["status"].text)

    def open(self):
        self.driver.get(self.address)
        self.says("Choose a picture.")

    def takes_a_bundled_picture(self):
        self.all("#demo button")[0].click()
        self.until(self["go"].is_enabled)

    def resize(self, width):
        """Lays the page out for so many pixels: a window cannot be as narrow as a phone."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def script(self, text):
        return self.driver.execute_script(f"return {text}")


@pytest.fixture(scope="module")
def browser(served, tmp_path_factory):
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("the page is not tried in a browser: apt-get install chromium chromium-driver")
    downloads = tmp_path_factory.mktemp("downloads")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{flag}")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=Service(driver)) as opened:
        yield Browser(opened, served[1], downloads)


def test_a_photograph_is_inverted_stopped_and_saved(browser, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    whole, damaged = tmp_path / "whole.png", tmp_path / "damaged.png"
    whole.write_bytes(content.getvalue())
    damaged.write_bytes(content.getvalue()[:2000])
    browser.open()
    assert not browser["go"].is_enabled()
    browser["file"].send_keys(str(damaged))
    browser.says("damaged.png: damaged or truncated")
    browser["file"].send_keys(str(whole))
    browser.says("Press Invert.")
    browser.script("document.getElementById('steps').value = 1000")
    browser["go"].click()
    browser.until(lambda: browser.all(".restart img"))
    assert browser["go"].text == "Stop"
    browser.until(lambda: int(browser["step"].text.split()[0]) > 1)
    browser["go"].click()
    browser.says("Stopped")
    assert browser["go"].text == "Invert" and browser.all("#curve polyline")
    assert 0 < float(browser["loss"].text) < 1
    browser.all("#downloads a")[0].click()
    saved = browser.downloads / "reconstruction-0.png"
    browser.until(saved.exists)
    with Image.open(saved) as picture:
        assert picture.size == (100, 100)


def test_wide_and_narrow_pages_fit_and_are_whole(browser):
    browser.open()
    browser.takes_a_bundled_picture()
    for width, beside in ((1280, True), (360, False)):
        browser.resize(width)
        assert browser.script("document.documentElement.scrollWidth") <= width
        controls, result = browser["controls"].rect, browser["result"].rect
        assert (result["x"] >= controls["x"] + controls["width"]) == beside
    browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    nameless = "[...document.images].filter((image) => !image.alt).length"
    assert browser.script(nameless) == 0
    loaded = "performance.getEntriesByType('resource').map((entry) => entry.name)"
    assert all(name.startswith((browser.address, "data:")) for name in browser.script(loaded))


def test_ten_tabs_are_inverted_at_once(browser, served):
    tabs = [browser.driver.current_window_handle]
    for number in range(10):
        if number:
            browser.driver.switch_to.new_window("tab")
            tabs.append(browser.driver.current_window_handle)
        browser.open()
        browser.takes_a_bundled_picture()
        browser.script("document.getElementById('steps').value = 1000")
    for tab in tabs:
        browser.driver.switch_to.window(tab)
        browser["go"].click()
    for tab in tabs:
        browser.driver.switch_to.window(tab)
        browser.until(lambda: browser.all(".restart img"))
    assert served[0].queue.counts() == {"running": 10, "waiting": 0}
    for tab in tabs[1:]:
        browser.driver.switch_to.window(tab)
        browser.driver.close()
    browser.driver.switch_to.window(tabs[0])
    browser["go"].click()
    browser.says("Stopped")
    browser.until(lambda: served[0].queue.counts() == {"running": 0, "waiting": 0})


def test_the_browser_has_no_complaint(browser):
    expected = "the server responded with a status of 400"  # the damaged file's
    log = browser.driver.get_log("browser")
    assert [line["message"] for line in log if expected not in line["message"]] == []
