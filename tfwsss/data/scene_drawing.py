"""Draws one generated scene: toy animals and cars before a textured background, with the exact label of every pixel.

The scenes are made to show what weak supervision is about. Every object is a big body and small parts that tell its
class (ears, horns, tail fin, beak or wheels, and a saddle in their colours). Bodies are drawn from one distribution of shapes and colours whatever the
class, so a classifier learns the parts and its class activation maps miss most of the body; the body is of one
texture inside and has a clear edge, so affinities can carry the activation over it.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("bull", "car", "duck", "fish", "rabbit")
COMPANIONS = ("duck", "rabbit")  # often seen together, so that their tags are hard to tell apart

OVERSAMPLING = 2  # drawn at this multiple of the size, then averaged: smooth edges

# What a pixel of an object shows; index into its colour table.
_OUTSIDE, _EDGE, _BODY, _WHITE, _PUPIL, _PART_EDGE, _PART, _PART_INNER = range(8)


@dataclass
class Figure:
    """A drawn object: its pixels in the oversampled scene.

    Attributes:
        label: k+1 for class k, 0 for things of no class.
        top, left: where its box is.
        shows: [h, w] uint8, index of the material; 0 outside.
        colour: [h, w, 3] float32, 0..255.
    """

    label: int
    top: int
    left: int
    shows: np.ndarray
    colour: np.ndarray

    @property
    def box(self) -> tuple[slice, slice]:
        height, width = self.shows.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def draw_scene(rng: np.random.Generator, height: int, width: int, classes=CLASSES, empty: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Draw one scene with at least one object, or only things of no class.

    Args:
        rng: the only source of chance.
        height, width: of the scene in pixels.
        classes: names of the classes that may occur, a part of CLASSES; labels count by position here.
        empty: leave out the objects.

    Returns:
        image [H, W, 3] uint8 and label [H, W] uint8 (0 background, k+1 class k; no ignore).
    """
    h, w = height * OVERSAMPLING, width * OVERSAMPLING
    canvas = _background(rng, h, w)
    behind = canvas.mean(axis=(0, 1))
    label = np.zeros((h, w), np.uint8)
    names = [] if empty else _choose_classes(rng, classes)
    kinds = [None] * int(rng.integers(0, 3)) + names
    if rng.random() < 0.15:
        kinds.append(None)  # a thing in the foreground
    figures: list[Figure] = []
    in_front = np.full((h, w), -1, np.int16)  # which figure is seen at each pixel
    for name in kinds:
        for _ in range(12):
            figure = _thing(rng, h, w, behind) if name is None else _toy(rng, h, w, behind, name, classes, len(names))
            trial = in_front.copy()
            trial[figure.box][figure.shows != _OUTSIDE] = len(figures)
            if all(_recognisable(other, trial[other.box] == index) for index, other in enumerate(figures)):
                figures.append(figure)
                in_front = trial
                break
    if not empty and not any(figure.label for figure in figures):  # crowded out by things: try again
        return draw_scene(rng, height, width, classes)
    for figure in figures:
        inside = figure.shows != _OUTSIDE
        canvas[figure.box][inside] = figure.colour[inside]
        label[figure.box][inside] = figure.label
    canvas += rng.normal(0, 5, (h, w, 1)).astype(np.float32)
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8)).reduce(OVERSAMPLING)
    return np.array(image), _majority(label)


def _choose_classes(rng, classes) -> list[str]:
    count = int(rng.choice([1, 2, 3], p=[0.6, 0.34, 0.06]))
    first = str(rng.choice(classes))
    names = [first] + [str(name) for name in rng.choice(classes, count - 1)]
    if first in COMPANIONS and rng.random() < 0.25:
        other = COMPANIONS[1 - COMPANIONS.index(first)]
        if other in classes:
            names = [first, other] + names[2:]
    return names


def _recognisable(figure: Figure, seen: np.ndarray) -> bool:
    """Whether enough is seen of the object, and of the part that tells its class; `seen` [h, w] bool is its box."""
    if figure.label == 0:
        return True
    return seen[figure.shows != _OUTSIDE].mean() > 0.65 and seen[figure.shows >= _PART_EDGE].mean() > 0.8


def _majority(label: np.ndarray) -> np.ndarray:
    """Most frequent of each 2x2 block; the upper left of two equally frequent."""
    a, b, c, d = label[::2, ::2], label[::2, 1::2], label[1::2, ::2], label[1::2, 1::2]
    alone = (a != b) & (a != c) & (a != d)
    return np.where(alone & ((b == c) | (b == d)), b, np.where(alone & (c == d), c, a))


# ------------------------------------------------------------------------------------------------ backgrounds


def _noise(rng, h: int, w: int, cell: float) -> np.ndarray:
    """Smooth noise [h, w] float32 in about -1..1, `cell` pixels from bump to bump."""
    grid = rng.random((max(2, round(h / cell) + 1), max(2, round(w / cell) + 1)), np.float32) * 2 - 1
    return np.asarray(Image.fromarray(grid).resize((w, h), Image.Resampling.BICUBIC))


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    return np.asarray(colorsys.hsv_to_rgb(hue % 1.0, saturation, value), np.float32) * 255


def _background(rng, h: int, w: int) -> np.ndarray:
    """[h, w, 3] float32: meadow, sand, water, planks, tiles or sky, in a colour of its kind."""
    unit = max(h, w) / 256
    y, x = np.mgrid[0:h, 0:w].astype(np.float32) / unit
    kind = rng.integers(6)
    coarse = _noise(rng, h, w, 60 * unit)
    if kind == 0:  # meadow: blades
        base, tone = _rgb(rng.uniform(0.2, 0.4), 0.5, 0.6), 0.12 * coarse + 0.2 * _blades(rng, h, w, unit)
    elif kind == 1:  # sand: fine grain
        base = _rgb(rng.uniform(0.05, 0.15), 0.35, 0.8)
        tone = 0.08 * coarse + 0.12 * _noise(rng, h, w, 3 * unit)
    elif kind == 2:  # water: crooked waves
        base = _rgb(rng.uniform(0.48, 0.62), 0.5, 0.65)
        tone = 0.12 * np.sin(y * rng.uniform(0.25, 0.5) + 3 * coarse + 0.03 * x) + 0.05 * _noise(rng, h, w, 8 * unit)
    elif kind == 3:  # planks: grooves and grain
        base, plank = _rgb(rng.uniform(0.02, 0.1), 0.45, 0.6), rng.uniform(25, 50)
        along, across = (y, x) if rng.random() < 0.5 else (x, y)
        grain = np.sin(across * 1.3 + 2 * coarse + 0.02 * along)
        tone = 0.06 * grain - 0.35 * ((across % plank) < 2) + 0.12 * np.sin(across // plank * 7.1)
    elif kind == 4:  # tiles: two tones of one colour
        base, side = _rgb(rng.random(), 0.2, 0.65), rng.uniform(22, 45)
        tone = (
            0.12 * ((x // side + y // side) % 2 * 2 - 1) - 0.2 * ((x % side < 1.5) | (y % side < 1.5)) + 0.05 * coarse
        )
    else:  # sky: clouds
        base = _rgb(rng.uniform(0.53, 0.63), 0.4, 0.8)
        clouds = np.clip(coarse + 0.5 * _noise(rng, h, w, 25 * unit), 0, 1)
        tone = 0.25 * clouds - 0.15 * (1 - y / y[-1:].max())
    light = 1 + 0.15 * rng.uniform(-1, 1) * (x / x[:, -1:].max() - 0.5)  # one side is brighter
    return base * ((1 + tone) * light)[..., None]


def _blades(rng, h: int, w: int, unit: float) -> np.ndarray:
    picture = Image.new("L", (w, h), 128)
    draw = ImageDraw.Draw(picture)
    count = 450
    starts = rng.random((count, 2)) * (w, h)
    ends = starts + rng.normal((0, -8), (3, 3), (count, 2)) * unit
    for start, end, tone in zip(starts, ends, rng.integers(40, 216, count), strict=True):
        draw.line([*start, *end], fill=int(tone), width=max(1, round(1.5 * unit)))
    return np.asarray(picture, np.float32) / 128 - 1


# ---------------------------------------------------------------------------------------------------- objects


def _far_colour(rng, behind: np.ndarray) -> np.ndarray:
    """A random colour, duller than the telling parts, that stands out from the background."""
    for _ in range(20):
        colour = _rgb(rng.random(), rng.uniform(0.15, 0.6), rng.uniform(0.45, 0.9))
        if np.linalg.norm(colour - behind) > 80:
            break
    return colour


class _Pen:
    """Draws outlined shapes, given in the object's own units, into a map of materials."""

    def __init__(self, side: float, angle: float, flip: bool, line: int):
        self.size = int(np.ceil(side * 3.8))  # parts reach at most 1.9 half-widths from the centre
        self.picture = Image.new("L", (self.size, self.size), _OUTSIDE)
        self.draw = ImageDraw.Draw(self.picture)
        c, s = np.cos(angle), np.sin(angle)
        self.turn = np.array([[c, s], [-s, c]]) * side
        if flip:
            self.turn = np.array([[-1, 0], [0, 1]]) @ self.turn.T
            self.turn = self.turn.T
        self.line = line

    def shape(self, points: np.ndarray, fill: int, edge: int | None = None) -> None:
        """Polygon [n, 2] of (x right, y up)."""
        placed = (points * (1, -1)) @ self.turn.T + self.size / 2
        flat = [tuple(point) for point in placed]
        self.draw.polygon(flat, fill=fill)
        if edge is not None:
            self.draw.line([*flat, flat[0], flat[1]], fill=edge, width=self.line, joint="curve")


def _ellipse(x: float, y: float, a: float, b: float, tilt: float = 0.0, n: int = 24) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    u, v = a * np.cos(t), b * np.sin(t)
    return np.stack([x + u * np.cos(tilt) - v * np.sin(tilt), y + u * np.sin(tilt) + v * np.cos(tilt)], 1)


class _Body:
    """A superellipse of half-width 1, lying somewhere between round and boxy, the same for every class."""

    def __init__(self, rng):
        self.height = rng.uniform(0.6, 0.85)
        self.power = 2 / rng.uniform(2.0, 3.6)

    def at(self, degrees) -> np.ndarray:
        """Points [..., 2] of the outline; 0 is the front, 90 the top."""
        t = np.radians(degrees)
        c, s = np.cos(t), np.sin(t)
        x, y = np.sign(c) * np.abs(c) ** self.power, np.sign(s) * np.abs(s) ** self.power
        return np.stack([x, y * self.height], -1)


def _ears(pen: _Pen, body: _Body, rng) -> None:
    for degrees, tilt in ((72, 1.75), (48, 1.25)):
        tilt += rng.uniform(-0.15, 0.15)
        x, y = body.at(degrees) + 0.36 * np.array([np.cos(tilt), np.sin(tilt)])
        pen.shape(_ellipse(x, y, 0.5, 0.2, tilt), _PART, _PART_EDGE)
        pen.shape(_ellipse(x, y, 0.38, 0.11, tilt), _PART_INNER)


def _horns(pen: _Pen, body: _Body, rng) -> None:
    for degrees, side in ((80, -1), (48, 1)):
        x, y = body.at(degrees)
        t = np.linspace(0, 1, 8)
        curl = rng.uniform(0.9, 1.2)
        middle = np.stack([x + side * 0.38 * np.sin(t * np.pi * 0.75) * curl, y - 0.08 + 0.68 * t], 1)
        thick = np.stack([0.18 * (1 - t) + 0.03, np.zeros(8)], 1)
        pen.shape(np.concatenate([middle - thick, (middle + thick)[::-1]]), _PART, _PART_EDGE)


def _tail_fin(pen: _Pen, body: _Body, rng) -> None:
    x, y = body.at(180)
    spread = rng.uniform(0.5, 0.65)
    fin = np.array([[0.12, 0.1], [-0.52, spread], [-0.38, 0.0], [-0.52, -spread], [0.12, -0.1]]) + (x, y)
    pen.shape(fin, _PART, _PART_EDGE)
    for k in (-0.6, -0.2, 0.2, 0.6):
        ray = np.array([[-0.05, 0.0], [-0.43, k * spread + 0.06], [-0.43, k * spread - 0.06]]) + (x, y)
        pen.shape(ray, _PART_INNER)


def _beak(pen: _Pen, body: _Body, rng) -> None:
    x, y = body.at(12)
    long = rng.uniform(0.5, 0.6)
    upper = np.array([[-0.1, 0.22], [long, 0.02], [long * 0.9, -0.05], [-0.1, -0.04]]) + (x, y)
    lower = np.array([[-0.1, -0.04], [long * 0.75, -0.1], [long * 0.7, -0.17], [-0.1, -0.26]]) + (x, y)
    pen.shape(lower, _PART_INNER, _PART_EDGE)
    pen.shape(upper, _PART, _PART_EDGE)


def _wheels(pen: _Pen, body: _Body, rng) -> None:
    radius = rng.uniform(0.28, 0.34)
    for degrees in (232, 308):
        x, y = body.at(degrees)
        pen.shape(_ellipse(x, y - 0.06, radius, radius), _PART, _PART_EDGE)
        pen.shape(_ellipse(x, y - 0.06, radius * 0.5, radius * 0.5), _PART_INNER)


def _saddle(pen: _Pen, body: _Body, rng) -> None:
    """A patch in the part's colours on the body, about a quarter of it.

    A class that is told by its part alone has maps that cover less of the object than a random walk can carry on.
    """
    x, half = rng.uniform(-0.25, -0.1), rng.uniform(0.5, 0.58)
    pen.shape(_ellipse(x, 0.05, half, half * body.height), _PART, _PART_EDGE)
    pen.shape(_ellipse(x, 0.05, half * 0.55, half * 0.55 * body.height), _PART_INNER)


# How the part is drawn, whether before the body, and its two colours.
_PARTS = {
    "bull": (_horns, False, (250, 240, 205), (165, 25, 25)),
    "car": (_wheels, True, (70, 75, 95), (175, 180, 195)),
    "duck": (_beak, True, (255, 140, 0), (215, 95, 0)),
    "fish": (_tail_fin, False, (20, 170, 190), (250, 240, 90)),
    "rabbit": (_ears, False, (245, 40, 140), (255, 230, 240)),
}


def _toy(rng, h, w, behind, name, classes, count) -> Figure:
    short = min(h, w)
    low, high = (0.21, 0.32) if count == 1 else (0.17, 0.25)
    side = short * rng.uniform(low, high)  # half the body's width
    pen = _Pen(side, rng.uniform(-0.3, 0.3), rng.random() < 0.5, max(2, round(side / 18)))
    body = _Body(rng)
    draw_part, in_front, *part_colours = _PARTS[name]
    if not in_front:
        draw_part(pen, body, rng)
    pen.shape(body.at(np.linspace(0, 360, 48, endpoint=False)), _BODY, _EDGE)
    if in_front:
        draw_part(pen, body, rng)
    _saddle(pen, body, rng)
    x, y = body.at(35) * 0.62
    pen.shape(_ellipse(x, y, 0.1, 0.1), _WHITE, _EDGE)
    pen.shape(_ellipse(x + 0.02, y, 0.05, 0.05), _PUPIL)
    colour = _far_colour(rng, behind)
    inks = np.asarray(part_colours, np.float32)
    table = [0 * colour, 0.45 * colour, colour, (250, 250, 250), (20, 20, 20), 0.6 * inks[0], *inks]
    return _place(rng, h, w, list(classes).index(name) + 1, pen, np.asarray(table, np.float32))


def _thing(rng, h, w, behind) -> Figure:
    """A stone, a crate or a cone: no class, though coloured like the toys."""
    pen = _Pen(min(h, w) * rng.uniform(0.07, 0.16), rng.uniform(-0.3, 0.3), rng.random() < 0.5, 2)
    kind = rng.integers(3)
    if kind == 0:
        t = np.sort(rng.uniform(0, 2 * np.pi, 9))
        pen.shape(np.stack([np.cos(t), np.sin(t) * 0.75], 1) * rng.uniform(0.8, 1.1, (9, 1)), _BODY, _EDGE)
    elif kind == 1:
        pen.shape(np.array([[-0.9, -0.7], [0.9, -0.7], [0.9, 0.7], [-0.9, 0.7]]), _BODY, _EDGE)
        pen.shape(np.array([[-0.9, -0.7], [-0.7, -0.7], [0.9, 0.7], [0.7, 0.7]]), _EDGE)
        pen.shape(np.array([[-0.9, 0.7], [-0.7, 0.7], [0.9, -0.7], [0.7, -0.7]]), _EDGE)
    else:
        pen.shape(np.array([[-0.7, -0.8], [0.7, -0.8], [0.0, 1.1]]), _BODY, _EDGE)
        pen.shape(np.array([[-0.45, -0.2], [0.45, -0.2], [0.32, 0.15], [-0.32, 0.15]]), _WHITE)
    colour = _far_colour(rng, behind)
    table = [0 * colour, 0.45 * colour, colour, np.full(3, 235.0), *[colour] * 4]
    return _place(rng, h, w, 0, pen, np.asarray(table, np.float32))


def _place(rng, h: int, w: int, label: int, pen: _Pen, table: np.ndarray) -> Figure:
    """Cut the drawing out, give it texture and light, and put it somewhere wholly inside the scene."""
    shows = np.asarray(pen.picture)
    rows, columns = np.flatnonzero(shows.any(1)), np.flatnonzero(shows.any(0))
    shows = shows[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1][:h, :w]
    height, width = shows.shape
    # One texture for the whole object: its inside is alike everywhere, whatever the part.
    cell = min(height, width) / rng.uniform(4, 9)
    stripes = np.sin(np.arange(width, dtype=np.float32) * rng.uniform(0.2, 0.5))[None] * rng.choice([0, 0.06])
    light = np.linspace(1.12, 0.82, height, dtype=np.float32)[:, None]
    tone = light * (1 + 0.08 * _noise(rng, height, width, cell) + stripes)
    top, left = int(rng.integers(0, h - height + 1)), int(rng.integers(0, w - width + 1))
    return Figure(label, top, left, shows, table[shows] * tone[..., None])
