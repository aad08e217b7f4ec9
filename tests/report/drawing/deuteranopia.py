"""How far colours are apart for someone without green cones, and how far from white."""

import numpy as np
from matplotlib.colors import to_rgb

DEUTERANOPIA = np.array(  # of linear RGB: Machado, Oliveira, Fernandes (2009), severity 1
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
D65 = np.array([0.95047, 1.0, 1.08883])


def linear(colour) -> np.ndarray:
    values = np.array(to_rgb(colour))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(colour) -> float:
    """Against white, as WCAG 2 has it."""
    return 1.05 / (float(linear(colour) @ [0.2126, 0.7152, 0.0722]) + 0.05)


def lab(colour, seen: np.ndarray = DEUTERANOPIA) -> np.ndarray:
    """CIELAB (D65) of a colour as it is seen."""
    share = TO_XYZ @ np.clip(seen @ linear(colour), 0, 1) / D65
    curve = np.where(share > 216 / 24389, np.cbrt(share), (24389 / 27 * share + 16) / 116)
    return np.array([116 * curve[1] - 16, 500 * (curve[0] - curve[1]), 200 * (curve[1] - curve[2])])


def ciede2000(one: np.ndarray, other: np.ndarray) -> float:
    """Of two CIELAB colours, after Sharma, Wu, Dalal (2005)."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    grey = 0.5 * (1 - np.sqrt(_seventh((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2)))
    a1, a2 = a1 * (1 + grey), a2 * (1 + grey)
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.degrees(np.arctan2(b1, a1)) % 360, np.degrees(np.arctan2(b2, a2)) % 360
    turn = 0.0 if c1 * c2 == 0 else (h2 - h1 + 180) % 360 - 180
    hue = h1 + h2 if c1 * c2 == 0 else (h1 + turn / 2) % 360
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    waves = ((-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.2, 4, -63))
    wave = sum(weight * np.cos(np.radians(times * hue + shift)) for weight, times, shift in waves)
    away = (lightness - 50) ** 2
    dl = (l2 - l1) / (1 + 0.015 * away / np.sqrt(20 + away))
    dc = (c2 - c1) / (1 + 0.045 * chroma)
    dh = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * (1 + wave))
    rotation = -2 * np.sqrt(_seventh(chroma)) * np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2))))
    return float(np.sqrt(dl**2 + dc**2 + dh**2 + rotation * dc * dh))


def _seventh(chroma: float) -> float:
    return chroma**7 / (chroma**7 + 25.0**7)
