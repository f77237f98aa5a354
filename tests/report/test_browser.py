"""The page in a real browser: loaded, hovered, tapped, walked through by keys, printed."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from skillit_stream.report import write_report
from skillit_stream.report.command import write_methods
from skillit_stream.report.methods import group_runs
from skillit_stream.report.run_folder import read_runs
from tests.support.moving_run import moving_run
from tests.support.report_browser import Browser, chromium, missing

pytestmark = pytest.mark.skipif(
    bool(missing()), reason=f'{missing()} is not installed: apt-get install chromium chromium-driver'
)
GRAPH = [[1, 0.5, 0], [0.2, 1, 0.3], [0, 0.1, 1]]
# A figure as text, in the order in which it is drawn: both axes, labels of the areas, the title at its top.
WHOLE_FIGURE = (
    r'^step\n(?:[\d.,]+\n)+'
    r'(?:proportion|nats per token(?: \(log\))?|part of answers right|samples a second|passes)\n'
    r'(?:[a-z]+ 0\.\d\d\n)*'
    r'(?:(?:skill_it|stratified) \(mean of 2 seeds\)|mean of the skills|hundreds|tens|ones|samples a second)$'
)
# Mixtures, losses, accuracies, throughput, passes.
PLOTS = 2 + 4 + 4 + 1 + 3
LINES = '.plot[data-panel] .line'


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp('profile')) as browser:
        yield browser


@pytest.fixture(scope='module')
def runs(make_shared_run) -> list[Path]:
    """Two methods of two seeds, ten rounds of 200 steps."""
    return [
        make_shared_run(name, seed=seed, speed=speed, graph=GRAPH, figures=['exact_match'])
        for name, speed in (('skill_it', 1.5), ('stratified', 1.0))
        for seed in (1, 2)
    ]


@pytest.fixture(scope='module')
def page(runs) -> Path:
    return write_report(runs)


@pytest.fixture(scope='module')
def wide_page(make_shared_run, tmp_path_factory) -> Path:
    """Eight methods with long names, seven skills."""
    skills = ['arxiv', 'book', 'c4', 'common_crawl', 'github', 'stackexchange', 'wikipedia']
    names = [f'skill_it_with_a_graph_learned_{i}' for i in range(8)]
    runs = [make_shared_run(name, skills=skills, rounds=3) for name in names]
    return write_report(runs, tmp_path_factory.mktemp('wide'))


def line_of(run: Path, round_: int) -> dict:
    return json.loads((run / 'mixture.jsonl').read_text().splitlines()[round_ + 1])


def plot_of(browser: Browser, label: str) -> WebElement:
    (plot,) = browser.all(f'.plot[aria-label="{label}"]')
    return plot


def pixel_of(browser: Browser, plot: WebElement, step: float) -> float:
    """Where a step is by the labels of the axis, in CSS pixels from the plot's left edge."""
    labels = browser.run(
        """const left = arguments[0].getBoundingClientRect().left;
        return [...arguments[0].querySelectorAll('svg text')].map(text => {
          const r = text.getBoundingClientRect(); return [text.textContent, (r.left + r.right) / 2 - left, r.top];
        })""",
        plot,
    )
    (_, zero, bottom), *_ = [label for label in labels if label[0] == '0']
    (thousand,) = [x for text, x, top in labels if text == '1,000' and abs(top - bottom) < 2]
    return zero + step / 1000 * (thousand - zero)


def shown(browser: Browser) -> tuple[str, dict[str, float]]:
    """The box: its title, and its values by name in its order."""
    (box,) = browser.all('.box')
    rows = browser.run(
        'return [...arguments[0].querySelectorAll(".row")].map(row => row.innerText.split("\\n"))', box
    )
    values = {name.replace('\u200b', ''): float(value) for name, value in rows}
    return box.find_element('css selector', 'b').text, values


def test_the_page_loads_alone_and_without_complaint(browser, page):
    browser.open(page)
    assert {url for url in browser.requests() if not url.startswith('data:')} == {page.as_uri()}
    assert browser.complaints() == []
    assert len(browser.all('svg[role=img]')) == PLOTS + 1
    assert browser.all('.box') == []


def test_the_page_cannot_load_anything_either(browser, page):
    browser.open(page)
    browser.run(
        'const image = new Image(); image.src = "https://example.invalid/x.png"; document.body.append(image)'
    )
    assert (
        'violates the following Content Security Policy directive: "img-src data:"' in browser.complaints()[0]
    )


def test_hovering_over_a_mixture_shows_its_round_and_marks_the_step_everywhere(browser, page, runs):
    browser.open(page)
    plot = plot_of(browser, 'mixture over training: skill_it (mean of 2 seeds)')
    browser.point(plot, pixel_of(browser, plot, 900))  # inside round 4, which ends at step 1,000
    title, values = shown(browser)
    assert title == 'round 4 · step 1,000'
    assert list(values) == ['ones', 'tens', 'hundreds']  # as they lie on each other
    for skill, value in values.items():
        assert value == pytest.approx(line_of(runs[0], 4)['proportions'][skill], abs=1e-3)
    assert sum(round(1000 * value) for value in values.values()) == 1000
    assert len(browser.all(LINES)) == PLOTS
    for other in browser.all('.plot[data-panel]'):
        line, span = (other.find_element('css selector', mark) for mark in ('.line', '.span'))
        assert line.is_displayed()
        left, from_, to = browser.run(
            """const x = arguments[0].getBoundingClientRect().left, span = arguments[2].getBoundingClientRect();
            return [(arguments[1].getBoundingClientRect().left + arguments[1].getBoundingClientRect().right) / 2 - x,
              span.left - x, span.right - x]""",
            other,
            line,
            span,
        )
        assert left == pytest.approx(pixel_of(browser, other, 1000), abs=1)
        is_mixture = (other.get_attribute('aria-label') or '').startswith('mixture')
        assert span.is_displayed() == is_mixture
        if is_mixture:
            assert (from_, to) == pytest.approx(
                (pixel_of(browser, other, 800), pixel_of(browser, other, 1000)), abs=1
            )


def test_hovering_over_a_loss_or_an_accuracy_shows_it_by_method(browser, page, runs):
    browser.open(page)
    for figure, order in (('loss', ['stratified', 'skill_it']), ('exact match', ['skill_it', 'stratified'])):
        plot = plot_of(browser, f'{figure} over training: tens')
        browser.point(plot, pixel_of(browser, plot, 1230))  # nearest to the evaluation at step 1,200
        title, values = shown(browser)
        assert title == 'round 5 · step 1,200'
        assert list(values) == order  # the higher line above
        key = 'losses' if figure == 'loss' else 'exact_match'
        for name, seeds in (('skill_it', runs[:2]), ('stratified', runs[2:])):
            mean = np.mean([line_of(run, 5)[key]['tens'] for run in seeds])
            assert values[name] == pytest.approx(mean, abs=6e-5 if figure == 'loss' else 6e-4)
    browser.point(plot, -5)
    assert browser.all('.box') == []
    assert not any(line.is_displayed() for line in browser.all(LINES))


def test_the_arrow_keys_walk_over_the_steps(browser, page, runs):
    browser.open(page)
    body = browser.all('body')[0]
    body.send_keys(Keys.TAB)
    plot = browser.driver.switch_to.active_element
    assert (plot.get_attribute('role'), plot.get_attribute('aria-valuemax')) == ('slider', '2000')
    assert shown(browser)[0] == 'round 0 · step 200'
    plot.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert shown(browser)[0] == 'round 2 · step 600'
    ones = line_of(runs[0], 2)['proportions']['ones']
    text = plot.get_attribute('aria-valuetext') or ''
    assert text.startswith(f'round 2 · step 600; ones {ones:.3f}; tens ')
    plot.send_keys(Keys.TAB, Keys.TAB)
    plot = browser.driver.switch_to.active_element
    assert plot.get_attribute('aria-label') == 'loss over training: mean of the skills'
    assert shown(browser)[0] == 'round 2 · step 600'  # the step goes with the reader
    for key, title in (
        (Keys.END, 'round 9 · step 2,000'),
        (Keys.ARROW_RIGHT, 'round 9 · step 2,000'),
        (Keys.HOME, 'before training · step 0'),
    ):
        plot.send_keys(key)
        assert shown(browser)[0] == title
    plot.send_keys(Keys.ESCAPE)
    assert browser.all('.box') == []


def test_taps_move_the_box_from_panel_to_panel_and_away(browser, page):
    browser.open(page, width=360, height=740, phone=True)
    for label in ('loss over training: tens', 'exact match over training: ones', 'loss over training: ones'):
        plot = plot_of(browser, label)
        browser.point(plot, pixel_of(browser, plot, 600), kind='finger')
        assert shown(browser)[0] == 'round 2 · step 600'
        left, right, sheet, panel = browser.run(
            """const box = document.querySelector('.box').getBoundingClientRect();
            const plot = arguments[0].getBoundingClientRect();
            return [box.left, box.right, [box.top, box.bottom], [plot.top, plot.bottom]]""",
            plot,
        )
        assert (left, right) == (8, 352)  # as wide as the screen, at its edge, beside the panel
        assert sheet[1] < panel[0] or sheet[0] > panel[1]
    heading = browser.all('h2')[1]
    browser.point(heading, 5, kind='finger')
    assert browser.all('.box') == []


def test_a_phone_shows_one_column_and_only_tables_scroll(browser, wide_page):
    browser.open(wide_page, width=360, height=740, phone=True)
    assert browser.run('return document.documentElement.scrollWidth') == 360
    assert browser.run('return window.innerWidth') == 360
    lefts = {round(figure.rect['x']) for figure in browser.all('.panels figure')}
    assert lefts == {16}
    inner, outer = browser.run(
        'const s = document.querySelector(".scroll"); return [s.scrollWidth, s.clientWidth]'
    )
    assert inner > outer
    row = browser.all('tbody tr')[0]
    assert row.find_elements('css selector', 'th, td')[1].rect['x'] < 200  # names leave room for a number
    letters = browser.run(
        """return Math.min(...[...document.querySelectorAll('.plot svg text')].map(text =>
          parseFloat(getComputedStyle(text).fontSize) * Math.hypot(text.getScreenCTM().a, text.getScreenCTM().b)))"""
    )
    assert letters >= 8.5  # CSS pixels


def test_a_phone_shows_the_baseline_first_and_every_dot_of_the_steps_to_it(browser, runs, tmp_path):
    page = write_report(runs, tmp_path / 'out', baseline='stratified')
    browser.open(page, width=390, height=844, phone=True)
    assert browser.run('return document.documentElement.scrollWidth') == 390
    dots = browser.run(
        """return [...document.querySelectorAll('svg [id*="seed"] use')].map(dot => {
          const r = dot.getBoundingClientRect(), plot = dot.closest('.plot').getBoundingClientRect();
          const parent = dot.closest('figure').getBoundingClientRect();
          return [r.left, r.right, r.width, Math.max(plot.left, parent.left), Math.min(plot.right, parent.right)];
        })"""
    )
    assert len(dots) == 4  # two methods of two seeds
    for left, right, width, first, last in dots:
        assert width > 3
        assert max(0, first) <= left < right <= min(390, last)
    heading, baseline = browser.all('thead th')[:2]
    assert (heading.text, baseline.text) == ('eval skill', 'stratified (2 seeds)')
    cells = browser.run(
        """return [...document.querySelector('table').rows].map(row => {
          const r = row.cells[1].getBoundingClientRect(); return [r.left, r.right];
        })"""
    )
    label = browser.run('return document.querySelector("tbody th").getBoundingClientRect().right')
    assert len(cells) == 5
    for left, right in cells:
        assert label <= left < right <= 390


def test_a_desktop_shows_three_panels_in_a_row(browser, wide_page):
    browser.open(wide_page)
    lefts = {round(figure.rect['x']) for figure in browser.all('section:nth-of-type(2) figure')}
    assert len(lefts) == 3
    assert browser.run('return document.documentElement.scrollWidth') == 1280


def test_letters_of_the_figures_can_be_read_in_the_dark(browser, page):
    browser.open(page)
    for scheme in ('light', 'dark'):
        media = [{'name': 'prefers-color-scheme', 'value': scheme}]
        browser.command('Emulation.setEmulatedMedia', features=media)
        ink, paper = browser.run(
            """const text = document.querySelector('.plot svg text');
            return [getComputedStyle(text).fill, getComputedStyle(document.body).backgroundColor]"""
        )
        light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
        assert (luminance(ink) > luminance(paper)) == (scheme == 'dark')
        assert (light + 0.05) / (dark + 0.05) > 7  # WCAG 2, level AAA
    browser.command('Emulation.setEmulatedMedia', features=[])


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour (WCAG 2) given as ``rgb(r, g, b)``."""
    rgb = np.array([int(part) for part in re.findall(r'\d+', colour)[:3]]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_print_keeps_figures_whole_and_leaves_the_box_out(browser, page):
    browser.open(page)
    plot = plot_of(browser, 'loss over training: tens')
    browser.point(plot, pixel_of(browser, plot, 1200))
    assert shown(browser)[0] == 'round 5 · step 1,200'
    pages = browser.print()
    assert 3 <= len(pages) <= 7
    assert 'round 5' not in ' '.join(pages)
    whole = [len(re.findall(WHOLE_FIGURE, text, re.MULTILINE)) for text in pages]
    assert whole == [len(re.findall('^step$', text, re.MULTILINE)) for text in pages]
    assert sum(whole) == PLOTS
    # A heading stands with what it is the heading of.
    for text in pages:
        assert not re.search(r'(Mixture over rounds|Loss over training|Skills graph)\s*$', text)


def test_wide_tables_fit_on_paper(browser, wide_page):
    browser.open(wide_page, width=687)  # A4 less the margins of the style sheet: 182 mm at 96 pixels an inch
    browser.command('Emulation.setEmulatedMedia', media='print')
    widths = browser.run(
        'return [...document.querySelectorAll("table, svg")].map(x => x.getBoundingClientRect().right)'
    )
    browser.command('Emulation.setEmulatedMedia', media='')
    assert max(widths) <= 687


def test_without_scripts_the_page_reads_as_it_did(browser, page):
    browser.command('Emulation.setScriptExecutionDisabled', value=True)
    try:
        browser.open(page)
        assert all(figure.is_displayed() for figure in browser.all('figure'))
        assert browser.all('[role=slider], .line, .box') == []
    finally:
        browser.command('Emulation.setScriptExecutionDisabled', value=False)


def test_a_watched_page_reads_itself_again_with_the_same_rounds_open(browser, tmp_path, monkeypatch):
    monkeypatch.setattr('skillit_stream.report.page.RELOAD', 1)
    methods = group_runs(read_runs([moving_run(tmp_path)]))
    page = write_methods(methods, tmp_path / 'out', reloads=True)
    browser.open(page)
    assert browser.complaints() == []
    browser.run('window.before = true; document.querySelectorAll("summary")[1].click()')
    for _ in range(100):
        if browser.run('return window.before === undefined && document.readyState === "complete"'):
            break
        time.sleep(0.1)
    assert browser.run('return [...document.querySelectorAll("details")].map(one => one.open)') == [
        False,
        True,
        False,
        False,
    ]
    # A page of runs that have ended stays.
    browser.open(write_methods(methods, tmp_path / 'out'))
    browser.run('window.before = true')
    time.sleep(2.5)
    assert browser.run('return window.before') is True
