"""Pictures of every mode and format against values by hand: levels, transparency over white, upright by EXIF, what is refused."""

import colorsys
import struct
import zlib
from itertools import product

import numpy as np
import pytest
from PIL import ExifTags, Image
from torchvision.datasets import ImageFolder

from vitlib.inputs.pictures import DataError, check_header, eight_bit, open_image
from vitlib.inputs.sources import Data, check, load

SIDE = 32  # of each half, a multiple of the blocks of JPEG


def over_white(colour, alpha):
    return tuple(level * alpha / 255 + 255 - alpha for level in colour)


def of_cmyk(c, m, y, k):
    return tuple((255 - ink) * (255 - k) / 255 for ink in (c, m, y))


def of_ycbcr(y, cb, cr):
    """JFIF 1.02, page 3."""
    return y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)


def of_hsv(h, s, v):
    return tuple(255 * level for level in colorsys.hsv_to_rgb(h / 255, s / 255, v / 255))


def of_lab(lightness, a, b):
    """CIE Lab of D50 to sRGB: levels 0..255 are L 0..100, and a, b -128..127."""
    middle = (lightness * 100 / 255 + 16) / 116
    f = np.array([middle + (a - 128) / 500, middle, middle - (b - 128) / 200])
    xyz = np.array([0.96422, 1.0, 0.82521]) * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    to_linear = np.array([[3.13386, -1.61687, -0.49061], [-0.97877, 1.91614, 0.03345], [0.07194, -0.22899, 1.40524]])
    linear = to_linear @ xyz
    return tuple(255 * np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear))


def grey(level):
    return (level,) * 3


PALETTE = [(10, 20, 30), (200, 100, 50)]
HALVES = {  # mode: the pixel of either half, and the colour that it is
    "1": [(0, grey(0)), (255, grey(255))],
    "L": [(40, grey(40)), (200, grey(200))],
    "LA": [((40, 128), over_white(grey(40), 128)), ((200, 255), grey(200))],
    "P": [(0, PALETTE[0]), (1, PALETTE[1])],
    "PA": [((0, 255), PALETTE[0]), ((1, 51), over_white(PALETTE[1], 51))],
    "RGB": [((10, 20, 30), (10, 20, 30)), ((200, 100, 50), (200, 100, 50))],
    "RGBA": [((200, 100, 50, 51), over_white((200, 100, 50), 51)), ((200, 100, 50, 0), grey(255))],
    "CMYK": [((51, 102, 0, 25), of_cmyk(51, 102, 0, 25)), ((0, 10, 200, 0), of_cmyk(0, 10, 200, 0))],
    "YCbCr": [((120, 100, 160), of_ycbcr(120, 100, 160)), ((80, 140, 110), of_ycbcr(80, 140, 110))],
    "HSV": [((20, 200, 180), of_hsv(20, 200, 180)), ((150, 90, 220), of_hsv(150, 90, 220))],
    "LAB": [((128, 128, 128), of_lab(128, 128, 128)), ((150, 150, 110), of_lab(150, 150, 110))],
    "I": [(8000, grey(31)), (65535, grey(255))],
    "I;16": [(8000, grey(31)), (65535, grey(255))],
    "I;16L": [(8000, grey(31)), (38000, grey(148))],
    "I;16B": [(8000, grey(31)), (38000, grey(148))],
    "F": [(0.25, grey(64)), (0.8, grey(204))],
}
WRITTEN = {
    "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B"),
    "jpg": ("1", "L", "RGB", "CMYK", "YCbCr"),
    "webp": ("L", "LA", "P", "PA", "RGB", "RGBA"),
    "bmp": ("1", "L", "P", "RGB"),
    "tif": ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I;16B", "F"),
    "gif": ("1", "L", "P", "RGB"),
    "ppm": ("1", "L", "RGB", "I", "I;16"),
}
CASES = [(mode, suffix) for suffix, modes in WRITTEN.items() for mode in modes]
UPRIGHT = {  # EXIF 2.32, table 6: where row 0 and column 0 of the stored picture are
    1: lambda array: array,
    2: np.fliplr,
    3: lambda array: np.rot90(array, 2),
    4: np.flipud,
    5: lambda array: array.T,
    6: lambda array: np.rot90(array, -1),
    7: lambda array: np.rot90(array, 2).T,
    8: np.rot90,
}


def halves(mode, values=None):
    """A picture of a mode, its left half of one value and its right half of another."""
    values = values or [value for value, _ in HALVES[mode]]
    image = Image.new(mode, (2 * SIDE, SIDE))
    if mode in ("P", "PA"):
        image.putpalette([level for colour in PALETTE for level in colour])
    for half, value in enumerate(values):
        image.paste(value, (half * SIDE, 0, (half + 1) * SIDE, SIDE)) if not mode.startswith("I;16") else fill(image, half, value)
    return image


def fill(image, half, value):
    for x, y in product(range(half * SIDE, (half + 1) * SIDE), range(SIDE)):
        image.putpixel((x, y), value)


def colours(image):
    """The colour in the middle of either half."""
    array = np.asarray(image)
    return array[SIDE // 2, [SIDE // 2, SIDE + SIDE // 2]].astype(float)


def saved(image, path, **options):
    exact = {"webp": {"lossless": True, "exact": True}, "jpg": {"quality": 100, "subsampling": 0}}
    image.save(path, **exact.get(path.suffix[1:], {}) | options)
    return path


@pytest.mark.parametrize(("mode", "suffix"), CASES)
def test_a_picture_of_any_mode_and_format_is_the_colours_that_were_written(tmp_path, mode, suffix):
    path = saved(halves(mode), tmp_path / f"a.{suffix}")
    expected = np.array([colour for _, colour in HALVES[mode]])
    coloured, single = open_image(path, 3), open_image(path, 1)
    assert (coloured.mode, single.mode) == ("RGB", "L")
    tolerance = {"jpg": 3, "tif": 3 if mode in ("YCbCr", "LAB") else 1}.get(suffix, 1)
    np.testing.assert_allclose(colours(coloured), expected, atol=tolerance)
    np.testing.assert_allclose(colours(single), expected @ [0.299, 0.587, 0.114], atol=tolerance)


@pytest.mark.parametrize("mode", [mode for mode in HALVES if mode not in ("I", "I;16L")])
def test_a_picture_in_memory_is_converted_as_one_of_a_file(mode):
    """HSV has no file format; pictures of torchvision's and the hub's sets come in memory."""
    expected = [colour for _, colour in HALVES[mode]]
    np.testing.assert_allclose(colours(eight_bit(halves(mode), 3)), expected, atol=2)


def test_every_mode_of_pillow_is_tried():
    assert {*Image.MODES} - {"RGBX", "RGBa", "La", "I;16N"} <= {*HALVES}  # three have no file format, one is the machine's own I;16


@pytest.mark.parametrize(("level", "expected"), [(0, 0), (128, 0), (129, 1), (257, 1), (32767, 127), (32768, 128), (65535, 255)])
def test_sixteen_bits_are_divided_by_257_and_rounded(tmp_path, level, expected):
    path = saved(Image.fromarray(np.full((4, 4), level, np.uint16)), tmp_path / "a.png")
    assert {*np.asarray(open_image(path, 1)).ravel().tolist()} == {expected}


# ------------------------------------------------------------------------------------------------ transparency


@pytest.mark.parametrize(
    ("mode", "transparency"),
    [("1", 0), ("L", 40), ("P", 0), ("P", bytes([0, 255])), ("RGB", (10, 20, 30)), ("I;16", 8000)],
)
def test_a_colour_that_stands_for_transparency_is_white(tmp_path, mode, transparency):
    path = saved(halves(mode), tmp_path / "a.png", transparency=transparency)
    left, right = colours(open_image(path, 3))
    assert left.tolist() == [255] * 3
    np.testing.assert_allclose(right, HALVES[mode][1][1], atol=1)


def test_a_transparent_palette_entry_of_a_gif_is_white(tmp_path):
    left, right = colours(open_image(saved(halves("P"), tmp_path / "a.gif", transparency=0), 3))
    assert (left.tolist(), right.tolist()) == ([255] * 3, [200, 100, 50])


def test_partly_transparent_palette_entries_are_mixed_with_white(tmp_path):
    path = saved(halves("P"), tmp_path / "a.png", transparency=bytes([51, 255]))
    np.testing.assert_allclose(colours(open_image(path, 3)), [over_white(PALETTE[0], 51), PALETTE[1]], atol=1)


# ------------------------------------------------------------------------------------------------ EXIF


@pytest.mark.parametrize(("orientation", "suffix"), list(product(UPRIGHT, ("jpg", "png", "webp", "tif"))))
def test_a_picture_is_turned_as_its_camera_was_held(tmp_path, orientation, suffix):
    blocks = np.array([[20, 80, 140], [200, 230, 50]], np.uint8)  # no two orientations of it are equal
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = saved(Image.fromarray(blocks.repeat(16, 0).repeat(16, 1)), tmp_path / f"a.{suffix}", exif=exif)
    upright = np.asarray(open_image(path, 1))[8::16, 8::16].astype(int)
    np.testing.assert_allclose(upright, UPRIGHT[orientation](blocks), atol=2)


def test_a_picture_that_was_converted_is_not_converted_again(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    once = open_image(saved(halves("RGB"), tmp_path / "a.png", exif=exif), 3)
    assert once.size == (SIDE, 2 * SIDE)
    np.testing.assert_array_equal(np.asarray(eight_bit(once, 3)), np.asarray(once))


@pytest.mark.filterwarnings("ignore:(Possibly c|C)orrupt EXIF data:UserWarning")  # Pillow's own note
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0MM\0*",
        b"Exif\0\0garbage that is no TIFF",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
    ],
)
def test_a_damaged_exif_leaves_the_picture_readable(tmp_path, exif):
    path = saved(halves("RGB"), tmp_path / "a.jpg", exif=b"Exif\0\0" + exif)
    np.testing.assert_allclose(colours(open_image(path, 3)), PALETTE, atol=3)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    np.testing.assert_allclose(colours(open_image(saved(halves("RGB"), tmp_path / "a.jpg", exif=exif), 3)), PALETTE, atol=3)


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("levels", "why"),
    [
        (np.full((4, 4), 8000, np.int32), "integers of 32 bits, here 8000 to 8000, state no range; save it with 8 or 16 bits"),
        (np.full((4, 4), -1, np.int32), "integers of 32 bits, here -1 to -1"),
        (np.linspace(0, 255, 16, dtype=np.float32).reshape(4, 4), r"floats, here 0 to 255, are not in 0\.\.1; scale them"),
        (np.full((4, 4), -0.5, np.float32), r"here -0\.5 to -0\.5"),
        (np.full((4, 4), np.nan, np.float32), "here nan to nan"),
        (np.full((4, 4), np.inf, np.float32), "here inf to inf"),
    ],
)
@pytest.mark.parametrize("read", [lambda path: open_image(path, 3), lambda path: open_image(path, 1), check_header])
def test_levels_of_unknown_range_are_refused_with_the_name_of_the_file(tmp_path, levels, why, read):
    path = saved(Image.fromarray(levels), tmp_path / "a.tif")
    with pytest.raises(DataError, match=f"image {path}: cannot be read .*{why}"):
        read(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x89PNG\r\n\x1a\n", b"....ftypheic" + bytes(64), b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1\n"],
    ids=["empty", "only a header", "HEIC", "a page", "an LFS pointer"],
)
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_a_file_that_is_no_picture_is_refused_by_name(tmp_path, content, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"image {path}: cannot be read .*; replace or remove the file"):
        open_image(path, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif", "ppm"])
def test_a_truncated_picture_is_refused_by_name(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(Image.fromarray(noise), tmp_path / f"a.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=f"image {path}: cannot be read"):
        open_image(path, 3)


# ------------------------------------------------------------------------------------------------ odd files


@pytest.mark.parametrize("suffix", ["gif", "webp", "tif"])
def test_of_an_animation_the_first_picture_is_read(tmp_path, suffix):
    first, second = halves("RGB"), halves("RGB", [(1, 2, 3), (4, 5, 6)])
    path = saved(first, tmp_path / f"a.{suffix}", save_all=True, append_images=[second])
    np.testing.assert_allclose(colours(open_image(path, 3)), PALETTE, atol=1)


def png(width, height, depth, colour, rows, *chunks):
    """A PNG by its specification, for what Pillow reads and does not write."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + b"".join(chunk(*each) for each in chunks)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("chunks", [[], [(b"tRNS", struct.pack(">HHH", 1, 2, 3))]], ids=["opaque", "a colour stands for transparency"])
def test_colour_of_sixteen_bits_is_read_by_its_high_byte(tmp_path, chunks):
    rows = (b"\0" + struct.pack(">HHH", 8000, 38000, 65535) * 4) * 2
    (tmp_path / "a.png").write_bytes(png(4, 2, 16, 2, rows, *chunks))
    assert np.asarray(open_image(tmp_path / "a.png", 3))[0, 0].tolist() == [31, 148, 255]


def tiff(width, height, bits, white_is_zero, levels):
    """An uncompressed grey TIFF by its specification."""
    tags = [(256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, 1 - white_is_zero), (273, 4, 122), (277, 3, 1)]
    tags += [(278, 3, height), (279, 4, len(levels))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return head + levels


@pytest.mark.parametrize(
    ("bits", "white_is_zero", "levels", "expected"),
    [
        (16, 0, struct.pack("<2H", 8000, 65535), [31, 255]),
        (16, 1, struct.pack("<2H", 8000, 65535), [224, 0]),
        (12, 0, bytes([0x1F, 0x4F, 0xFF]), [31, 255]),  # 500 and 4095 of 4095, packed
        (8, 0, bytes([31, 255]), [31, 255]),
        (8, 1, bytes([31, 255]), [224, 0]),
    ],
)
def test_grey_of_a_tiff_is_scaled_by_its_bits_and_counted_from_black(tmp_path, bits, white_is_zero, levels, expected):
    (tmp_path / "a.tif").write_bytes(tiff(2, 1, bits, white_is_zero, levels))
    assert np.asarray(open_image(tmp_path / "a.tif", 1))[0].tolist() == expected


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_spans_the_whole_range(tmp_path, bits):
    half = b"\xff" * 4 + b"\0" * 4
    (tmp_path / "a.png").write_bytes(png(64 // bits, 1, bits, 0, b"\0" + half))
    levels = np.asarray(open_image(tmp_path / "a.png", 1))[0]
    assert levels.tolist() == [255] * (32 // bits) + [0] * (32 // bits)


# ------------------------------------------------------------------------------------------------ in a folder


def test_sixteen_bit_pictures_of_two_classes_differ(tmp_path):
    """Both would be white were levels cut at 255 instead of scaled."""
    for split, (name, level) in product(("train", "test"), (("dark", 8000), ("light", 38000))):
        folder = tmp_path / "pets" / split / name
        folder.mkdir(parents=True)
        saved(Image.fromarray(np.full((24, 24), level, np.uint16)), folder / "a.png")
    data = Data(source="folder/pets", image_size=8)
    check(data, tmp_path)
    images, labels = load(data, "train", tmp_path)
    assert [{*image.ravel().tolist()} for image in images] == [{31}, {148}]
    assert labels.tolist() == [0, 1] == ImageFolder(str(tmp_path / "pets" / "train")).targets


def test_a_picture_of_unknown_range_is_refused_before_a_run_starts(tmp_path):
    for split in ("train", "test"):
        (tmp_path / "pets" / split / "cat").mkdir(parents=True)
        saved(Image.fromarray(np.full((8, 8), 7.5, np.float32)), tmp_path / "pets" / split / "cat" / "a.tif")
    with pytest.raises(DataError, match=r"pets/train/cat/a\.tif: cannot be read .*here 7\.5 to 7\.5"):
        check(Data(source="folder/pets", image_size=8), tmp_path)
