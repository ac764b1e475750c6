"""The page in a browser, as a person uses it."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from senet_convert.deploy.serve.models.model_paths import ModelPath
from senet_convert.deploy.serve.settings.settings import Settings
from tests.deploy.serve.asgi import encoded
from tests.deploy.serve.live import Live, serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
KEY = "a key that is long enough"
DESKTOP, PHONE = (1280, 800), (390, 844)

_FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars")
_GIVE = """
const [name, type, data, how] = arguments;
const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], name, { type }));
const options = { bubbles: true, cancelable: true };
const event = how === "paste" ? new ClipboardEvent("paste", { ...options, clipboardData: transfer })
  : new DragEvent("drop", { ...options, dataTransfer: transfer });
document.getElementById("drop").dispatchEvent(event);
"""

_STATE = """
const shown = (one) => one && !one.closest("[hidden]") ? one.textContent : "";
const busy = document.body.classList.contains("waiting");
return [busy, shown(document.querySelector("#bars .name")), busy ? "" : shown(document.getElementById("error"))];
"""

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver are installed")


class Page:
    """The page of a server in a browser."""

    def __init__(self, browser: Chrome, live: Live) -> None:
        self.browser = browser
        self.url = f"http://{live.address}/"

    def open(self, size: tuple[int, int] = DESKTOP, dark: bool = False) -> None:
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        self.browser.get(self.url)

    def give(self, file: Path, how: str = "drop", kind: str = "image/png") -> None:
        """Drop or paste a file."""
        self.browser.execute_script(_GIVE, file.name, kind, base64.b64encode(file.read_bytes()).decode(), how)

    def part(self, id_: str) -> Any:
        return self.browser.find_element(By.ID, id_)

    def all(self, selector: str) -> list[Any]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, what: Any) -> None:
        WebDriverWait(self.browser, 20, 0.05).until(lambda _: what())

    def answered(self, label: str) -> None:
        """Wait for an answer whose best class is `label`, with all that belongs to it."""
        self.wait(lambda: self.run(_STATE) == [False, label, ""])

    def refused(self, words: str) -> None:
        """Wait for an error that says so."""
        self.wait(lambda: words in self.run(_STATE)[2])

    def log(self) -> list[str]:
        """What stands in the console, but for answers that are refusals; then it is empty."""
        refused = "Failed to load resource: the server responded with a status of 4"
        entries = self.browser.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if refused not in entry["message"]]

    def run(self, script: str) -> Any:
        return self.browser.execute_script(script)


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in _FLAGS:
        options.add_argument(flag)
    with Chrome(options, Service(executable_path=str(DRIVER))) as driver:
        yield driver


@pytest.fixture(scope="module")
def live(bundle: Path, image_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    versions = tmp_path_factory.mktemp("versions")
    shutil.copytree(bundle, versions / "1")
    shutil.copytree(image_bundle, versions / "2")
    models = (ModelPath("digits", bundle), ModelPath("both", versions))
    with serving(Settings(models=models, provider="cpu", threads=1, max_pixels=200_000)) as server:
        yield server


@pytest.fixture
def page(browser: Chrome, live: Live) -> Iterator[Page]:
    """Opened; at the end nothing may stand in the console, and nothing may have been asked of others."""
    page = Page(browser, live)
    page.open()
    yield page
    asked = page.run("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert asked
    assert {url for url in asked if not url.startswith((page.url, f"blob:{page.url}"))} == set()
    assert page.log() == []


@pytest.fixture
def four(digits: Path) -> Path:
    return digits / "images" / "digits_val_00000001.png"


@pytest.fixture
def six(digits: Path) -> Path:
    return digits / "images" / "digits_val_00000003.png"


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(how: str, page: Page, four: Path) -> None:
    page.give(four, how)
    page.answered("four")
    assert len(page.all("#bars li")) == 5
    assert page.all("#bars .share")[0].text.startswith("99.5")
    widths = [bar.size["width"] for bar in page.all("#bars .bar")]
    assert widths == sorted(widths, reverse=True)
    assert "ms on the server" in page.part("time").text.replace("\u202f", " ")
    assert page.part("preview").is_displayed()
    assert page.part("status").get_attribute("textContent") == "four, 99.5\u202f%, says digits."
    assert page.part("another").is_displayed()
    assert page.part("assumed").text == (
        "How pictures are prepared is partly assumed for this model: mean, scale, color, resample."
    )
    page.run("window.opened = 0; document.getElementById('file').addEventListener('click', (event) => "
             "{ event.preventDefault(); window.opened += 1; })")  # fmt: skip
    page.part("another").click()
    assert page.run("return window.opened") == 1


def test_by_keyboard(page: Page, four: Path) -> None:
    page.run("window.opened = 0; document.getElementById('file').addEventListener('click', (event) => "
             "{ event.preventDefault(); window.opened += 1; })")  # fmt: skip
    focused = []
    for _ in range(3):
        page.browser.switch_to.active_element.send_keys(Keys.TAB)
        focused.append(page.browser.switch_to.active_element.get_attribute("id"))
    assert focused[:2] == ["model", "drop"]
    page.part("drop").send_keys(Keys.ENTER)
    page.part("drop").send_keys(Keys.SPACE)
    assert page.run("return window.opened") == 2
    page.part("file").send_keys(str(four))
    page.answered("four")


def test_another_model_and_another_version(page: Page, six: Path) -> None:
    page.give(six)
    page.answered("six")
    assert not page.part("version-label").is_displayed()
    Select(page.part("model")).select_by_value("both")
    page.wait(lambda: "says both" in page.part("status").get_attribute("textContent"))
    page.answered("six")
    versions = Select(page.part("version"))
    assert [option.text for option in versions.options] == ["2", "1"]
    versions.select_by_value("1")
    page.answered("six")
    asked = page.run("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert any(url.endswith("v1/classify?model=both&version=1") for url in asked)


def test_gates_stage_by_stage(page: Page, four: Path) -> None:
    page.give(four)
    page.answered("four")
    assert [heading.text for heading in page.all(".stage h3")] == [
        "Stage 1 maps of 8 × 8",
        "Stage 2 maps of 4 × 4",
        "Stage 3 maps of 2 × 2",
    ]
    strips = page.all(".block canvas")
    assert [int(strip.get_attribute("width")) for strip in strips] == [32, 64, 64, 96, 96]
    assert "conv2_1: 32 channels, from 0.44 to 0.57, mean 0.51, none closed" in strips[0].get_attribute("aria-label")
    drawn = "return [...document.querySelectorAll('.block canvas')].map((one) => one.toDataURL())"
    ordered = page.run(drawn)
    assert len(set(ordered)) == 5
    page.all("#order input")[1].click()
    assert all(before != after for before, after in zip(ordered, page.run(drawn), strict=True))
    ups = [side.text.split("\n") for side in page.all(".block:first-of-type .up")][:2]
    assert ups == [["1", "gate", "0"], [ups[1][0], "channels", "0"]]
    assert int(ups[1][0]) >= 32 / 20
    across = [side.text.split("\n") for side in page.all(".block:first-of-type .across")][:2]
    assert across == [["1", "channel", "32"], ["0", "gate", "1"]]
    page.all("#numbers summary")[0].click()
    cells = page.all("#rows tr:first-child td")
    assert [cell.text for cell in cells][:4] == ["stage 1", "conv2_1", "32", "0.511"]


def test_errors_in_words(page: Page, four: Path, tmp_path: Path) -> None:
    page.give(four)
    page.answered("four")
    (tmp_path / "notes.txt").write_text("hello")
    page.give(tmp_path / "notes.txt", kind="text/plain")
    page.refused("no picture that can be read: it is none of JPEG")
    assert not page.part("bars").is_displayed()
    assert not page.part("gates").is_displayed()
    large = tmp_path / "large.png"
    large.write_bytes(encoded(900, 900))
    page.give(large)
    page.refused("900 x 900 pixels; this server takes 200,000 at most")
    page.give(four)
    page.answered("four")
    assert not page.part("error").is_displayed()


@pytest.mark.parametrize("size", [DESKTOP, PHONE, (320, 640)])
def test_nothing_is_wider_than_the_screen(size: tuple[int, int], page: Page, four: Path) -> None:
    page.open(size)
    for at_work in (False, True):
        if at_work:
            page.give(four)
            page.answered("four")
            page.all("#numbers summary")[0].click()
        assert page.run("return document.documentElement.scrollWidth") <= size[0]


def test_dark_where_people_like_it_dark(page: Page, four: Path) -> None:
    colors = []
    for dark in (False, True):
        page.open(dark=dark)
        page.give(four)
        page.answered("four")
        colors.append(page.run("return [getComputedStyle(document.body).backgroundColor, "
                               "document.querySelector('.block canvas').toDataURL()]"))  # fmt: skip
    light, dark_ = colors
    assert light[0] == "rgb(251, 251, 250)"
    assert dark_[0] == "rgb(20, 24, 26)"
    assert light[1] != dark_[1]


def test_every_control_has_a_name(page: Page, four: Path) -> None:
    page.give(four)
    page.answered("four")
    nodes = page.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    controls = {"button", "combobox", "radio", "image", "img", "link", "textbox"}
    unnamed = [
        node["role"]["value"]
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in controls and not node.get("name", {}).get("value")
    ]
    assert unnamed == []
    headings = [node["name"]["value"] for node in nodes if node.get("role", {}).get("value") == "heading"]
    assert headings[:3] == ["What is in this picture?", "Answer", "What the gates did"]


def test_a_key_is_asked_for_where_one_is_needed(browser: Chrome, bundle: Path, four: Path) -> None:
    settings = Settings(models=(ModelPath("digits", bundle),), provider="cpu", threads=1, api_key=(KEY,))
    with serving(settings) as live:
        page = Page(browser, live)
        page.open()
        page.wait(lambda: page.part("key").is_displayed())
        page.part("key").send_keys("a wrong key, a wrong key", Keys.ENTER)
        page.wait(lambda: page.part("key-wrong").is_displayed())
        page.part("key").send_keys(KEY, Keys.ENTER)
        page.wait(lambda: not page.part("key-dialog").is_displayed())
        page.give(four)
        page.answered("four")
        assert KEY not in page.run("return JSON.stringify(localStorage) + document.cookie + location.href")
        page.open()
        page.give(four)
        page.answered("four")  # kept for the tab
        assert page.log() == []


def test_a_server_that_is_gone_is_told_in_words(browser: Chrome, bundle: Path, four: Path) -> None:
    with serving(Settings(models=(ModelPath("digits", bundle),), provider="cpu", threads=1)) as live:
        page = Page(browser, live)
        page.open()
        page.wait(lambda: page.run("return document.getElementById('model').options.length"))
    page.give(four)
    page.refused("The server cannot be reached")
    assert all("ERR_CONNECTION_REFUSED" in message for message in page.log())


def test_the_docs_begin_with_pictures_and_can_be_tried(browser: Chrome, live: Live) -> None:
    page = Page(browser, live)
    page.url += "docs"
    page.open()
    page.wait(lambda: len(page.all(".opblock")) > 40)
    assert page.all(".opblock-summary-path")[0].get_attribute("data-path") == "/v1/classify"
    metadata = page.all('[data-path="/v2/models/{model}"]')[0]
    metadata.click()
    page.wait(lambda: page.all(".try-out__btn"))
    page.all(".try-out__btn")[0].click()
    page.all(".parameters input")[0].send_keys("digits")
    page.all(".execute")[0].click()
    page.wait(lambda: page.all(".live-responses-table .microlight"))
    assert "onnxruntime_onnx" in page.all(".live-responses-table .microlight")[0].text
    asked = page.run("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert {url for url in asked if not url.startswith((f"http://{live.address}/", "data:"))} == set()
    assert page.log() == []
