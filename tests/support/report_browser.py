"""Chromium, driven from a test."""

import base64
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unicodedata import normalize

from pypdf import PdfReader
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webelement import WebElement

PROGRAMS = ('chromium', 'chromedriver')
FLAGS = (
    '--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking '
    '--disable-component-update --disable-sync --hide-scrollbars'
)


def missing() -> str:
    """Which program is not installed; empty where both are."""
    return ', '.join(program for program in PROGRAMS if shutil.which(program) is None)


class Browser:
    """A page in Chromium: what it loads, what it says, how it looks on a screen or on paper."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, page: Path, *, width: int = 1280, height: int = 900, phone: bool = False) -> None:
        """Load a page on a screen of this size in CSS pixels; a phone has fingers and no mouse."""
        self.command('Emulation.setTouchEmulationEnabled', enabled=phone)
        self.command(
            'Emulation.setDeviceMetricsOverride',
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        self.driver.get('about:blank')
        for of_an_earlier_page in (self.requests, self.complaints):
            of_an_earlier_page()
        self.driver.get(page.as_uri())

    def command(self, name: str, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def requests(self) -> list[str]:
        """Addresses asked for since the last call."""
        entries = [json.loads(entry['message'])['message'] for entry in self.driver.get_log('performance')]
        return [
            entry['params']['request']['url']
            for entry in entries
            if entry['method'] == 'Network.requestWillBeSent'
        ]

    def complaints(self) -> list[str]:
        """Lines of the console since the last call: errors of scripts, what the page's policy refused."""
        return [entry['message'] for entry in self.driver.get_log('browser')]

    def all(self, selector: str) -> list[WebElement]:
        """Elements in the order of the page."""
        return self.driver.find_elements('css selector', selector)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def point(self, plot: WebElement, x: float, *, kind: str = 'mouse') -> None:
        """Move the mouse to (or tap on) the middle of a plot's height at `x` CSS pixels from its left edge."""
        self.run('arguments[0].scrollIntoView({block: "center"})', plot)
        left, top, height = self.run(
            'const r = arguments[0].getBoundingClientRect(); return [r.left, r.top, r.height]', plot
        )
        place = {'x': left + x, 'y': top + height / 2}
        if kind == 'mouse':
            self.command('Input.dispatchMouseEvent', type='mouseMoved', **place)
        else:
            self.command('Input.dispatchTouchEvent', type='touchStart', touchPoints=[place])
            self.command('Input.dispatchTouchEvent', type='touchEnd', touchPoints=[])

    def print(self) -> list[str]:
        """The text of each A4 page of the PDF."""
        pdf = self.command('Page.printToPDF', paperWidth=8.27, paperHeight=11.69, printBackground=False)
        pages = PdfReader(io.BytesIO(base64.b64decode(pdf['data']))).pages
        return [normalize('NFKC', page.extract_text()) for page in pages]  # no ligatures


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own, which ends with the block."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which('chromium') or ''
    for flag in (*FLAGS.split(), f'--user-data-dir={profile}'):
        options.add_argument(flag)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which('chromedriver')))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
