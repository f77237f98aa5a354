"""Colours that stand beside each other differ for everyone.

Colour vision is simulated with the matrices of Machado, Oliveira and Fernandes (2009, "A Physiologically-based
Model for Simulation of Color Vision Deficiency", table 1, severity 1.0), applied to linear RGB. Distances are
CIE76: Euclidean in CIELAB, where about 2 can just be seen.
"""

from itertools import combinations, pairwise

import numpy as np
import pytest

from skillit_stream.report.drawing import AREA_COLOURS, OTHER_COLOUR, area_paint, line_look
from skillit_stream.report.views import MAX_SKILLS, MixtureView

VISIONS = {
    'full': np.eye(3),
    'protanopia': np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    'deuteranopia': np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
XYZ_OF_RGB = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
AREAS_APART, NEIGHBOURS_APART, SAME_STYLE_APART = 50, 35, 12


def lab(colour: str, vision: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of ``#rrggbb`` as seen with a vision."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = XYZ_OF_RGB @ np.clip(vision @ linear, 0, 1) / XYZ_OF_RGB.sum(axis=1)
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def apart(one: str, other: str, vision: str) -> float:
    return float(np.linalg.norm(lab(one, VISIONS[vision]) - lab(other, VISIONS[vision])))


def test_the_distance_is_that_of_cielab():
    assert lab('#ffffff', VISIONS['full']) == pytest.approx([100, 0, 0], abs=0.01)
    assert lab('#ff0000', VISIONS['full']) == pytest.approx([53.24, 80.09, 67.20], abs=0.02)
    # What red-green blindness is: red and olive green, far apart, come together.
    assert apart('#b03030', '#5a6020', 'full') > 4 * apart('#b03030', '#5a6020', 'deuteranopia')


@pytest.mark.parametrize('vision', VISIONS)
def test_areas_on_each_other_differ(vision: str):
    view = MixtureView((*(f'skill {i}' for i in range(MAX_SKILLS)), 'other'), True, ())
    paints = [area_paint(index, view) for index in range(MAX_SKILLS + 1)]
    assert paints[-1].colour == OTHER_COLOUR
    for one, other in pairwise(paints):
        assert apart(one.colour, other.colour, vision) > AREAS_APART
    # Beyond the palette's length stripes tell an area from the one of the same colour.
    assert len(set(paints)) == len(paints)
    assert [paint.hatched for paint in paints].index(True) == len(AREA_COLOURS)


@pytest.mark.parametrize('vision', VISIONS)
def test_lines_differ_in_colour_and_style(vision: str):
    looks = [line_look(index) for index in range(12)]
    for (colour, style), (other_colour, other_style) in pairwise(looks):
        assert apart(colour, other_colour, vision) > NEIGHBOURS_APART
        assert style != other_style
    for (colour, style), (other_colour, other_style) in combinations(looks, 2):
        assert style != other_style or apart(colour, other_colour, vision) > SAME_STYLE_APART
