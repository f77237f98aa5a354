"""The page of a fork in a real browser: alone, on a desktop, on a phone, on paper."""

from pathlib import Path

import pytest

from skillit_stream.report.fork_page import write_fork_page
from tests.support.fork_folders import write_fork
from tests.support.report_browser import Browser, chromium, missing

pytestmark = pytest.mark.skipif(
    bool(missing()), reason=f'{missing()} is not installed: apt-get install chromium chromium-driver'
)


@pytest.fixture(scope='module')
def browser(tmp_path_factory: pytest.TempPathFactory):
    with chromium(tmp_path_factory.mktemp('profile')) as browser:
        yield browser


@pytest.fixture(scope='module')
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fork_page(write_fork(tmp_path_factory.mktemp('fork')))


def test_it_loads_alone_and_without_complaint(browser: Browser, page: Path):
    browser.open(page)
    assert {url for url in browser.requests() if not url.startswith('data:')} == {page.as_uri()}
    assert browser.complaints() == []
    assert browser.all('.verdict')[0].text.startswith('take it: ')
    assert [one.text for one in browser.all('h2')] == [
        *('Take it over', 'Mixture', 'Gain', 'Effect of each skill', 'Cost'),
    ]


def test_every_figure_has_words_and_every_table_headers(browser: Browser, page: Path):
    browser.open(page)
    labels = [figure.get_attribute('aria-label') or '' for figure in browser.all('svg[role=img]')]
    assert 'books: from 0.5000 to 0.2500' in labels[0]
    assert 'predicted by the law: 0.1300, from 0.0870 to 0.1730' in labels[1]
    assert labels[2] == 'skills graph: effects'
    for table in browser.all('table'):
        rows = table.find_elements('css selector', 'tbody tr')
        assert len(rows) == len(table.find_elements('css selector', 'tbody th[scope=row]'))
        columns = len(table.find_elements('css selector', 'thead th[scope=col]'))
        assert {len(row.find_elements('css selector', 'th, td')) for row in rows} == {columns}


@pytest.mark.parametrize('width', [380, 320])
def test_a_phone_scrolls_tables_and_commands_alone(browser: Browser, page: Path, width: int):
    browser.open(page, width=width, height=740, phone=True)
    assert browser.run('return document.documentElement.scrollWidth') == width
    assert browser.all('.verdict')[0].rect['y'] < 250
    for figure in browser.all('.plot svg'):
        assert figure.rect['x'] + figure.rect['width'] <= width
    letters = browser.run(
        """return Math.min(...[...document.querySelectorAll('.plot svg text')].map(text =>
          parseFloat(getComputedStyle(text).fontSize) * Math.hypot(text.getScreenCTM().a, text.getScreenCTM().b)))"""
    )
    assert letters >= 7  # CSS pixels


def test_no_letters_of_a_figure_lie_over_others(browser: Browser, page: Path):
    browser.open(page)
    for plot in browser.all('.plot'):
        boxes = browser.run(
            """return [...arguments[0].querySelectorAll('svg text')].map(text => {
              const r = text.getBoundingClientRect(); return [r.left, r.right, r.top, r.bottom];
            })""",
            plot,
        )
        for at, (left, right, top, bottom) in enumerate(boxes):
            for other in boxes[at + 1 :]:
                apart = other[0] >= right or other[1] <= left or other[2] >= bottom - 1 or other[3] <= top + 1
                assert apart


def test_it_can_be_read_in_the_dark_and_on_paper(browser: Browser, page: Path):
    browser.open(page)
    for scheme in ('light', 'dark'):
        browser.command(
            'Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': scheme}]
        )
        ink, paper = browser.run(
            """const text = document.querySelector('.plot svg text');
            return [getComputedStyle(text).fill, getComputedStyle(document.body).backgroundColor]"""
        )
        assert ink != paper
    browser.command('Emulation.setEmulatedMedia', features=[])
    whole = ' '.join(' '.join(browser.print()).split())
    for words in ('take it:', 'skillit apply', 'within noise', '240 steps in all'):
        assert words in whole
