"""Images and masks: every kind of pixel, the mask's rules, and refusals before memory is spent."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.io.pictures import object_mask, parse_image, parse_mask

URI = "s3://bucket/photo"
HEIGHT, WIDTH = 6, 9


def encode(image: Image.Image, file_format: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def picture(mode: str) -> Image.Image:
    random = np.random.default_rng(3)
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = random.integers(0, 256, (HEIGHT, WIDTH, channels), dtype=np.uint8)
    if mode in ("LA", "RGBA"):
        pixels[..., -1] *= random.integers(0, 2, (HEIGHT, WIDTH), dtype=np.uint8)
    return Image.merge(mode, [Image.fromarray(pixels[..., i]) for i in range(channels)])


def refusal(function, *arguments, **limits) -> InstanceError:
    with pytest.raises(InstanceError) as caught:
        function(*arguments, **limits)
    assert URI in caught.value.message
    return caught.value


def png(width: int, height: int, bits: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG written by hand; `rows` hold a filter byte and the pixels each."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


# ---- colours and transparency --------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_rgba_gives_its_colours_and_where_alpha_is_above_half(file_format):
    image = picture("RGBA")
    image.putpixel((2, 1), (10, 20, 30, 128))
    image.putpixel((3, 1), (10, 20, 30, 127))
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    rgb, opaque = parse_image(encode(image, file_format, **options), URI)
    expected = np.asarray(image)
    np.testing.assert_array_equal(rgb, expected[..., :3])
    np.testing.assert_array_equal(opaque, expected[..., 3] > 127)
    assert (rgb.dtype, opaque.dtype, opaque[1, 2], opaque[1, 3]) == (np.uint8, bool, True, False)
    np.testing.assert_array_equal(parse_image(encode(image), URI, threshold=0)[1], expected[..., 3] > 0)


def test_grey_with_alpha():
    image = picture("LA")
    rgb, opaque = parse_image(encode(image), URI)
    grey, alpha = (np.asarray(band) for band in image.split())
    np.testing.assert_array_equal(rgb, np.stack([grey] * 3, axis=-1))
    np.testing.assert_array_equal(opaque, alpha > 127)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_images_without_transparency_have_no_mask(mode):
    image = picture(mode)
    rgb, opaque = parse_image(encode(image), URI)
    np.testing.assert_array_equal(rgb, np.asarray(image.convert("RGB")))
    assert opaque is None


def test_jpeg_grey_rgb_and_cmyk():
    flat = np.full((HEIGHT, WIDTH, 3), (200, 120, 40), dtype=np.uint8)
    rgb, opaque = parse_image(encode(Image.fromarray(flat), "JPEG", quality=95), URI)
    np.testing.assert_allclose(rgb.astype(int), flat, atol=4)
    assert opaque is None
    assert parse_image(encode(picture("L"), "JPEG"), URI)[0].shape == (HEIGHT, WIDTH, 3)
    rgb, _ = parse_image(encode(Image.fromarray(flat).convert("CMYK"), "JPEG", quality=95), URI)
    np.testing.assert_allclose(rgb.astype(int), flat, atol=6)


def test_palette_with_a_transparent_colour():
    indices = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH) % 4
    image = Image.fromarray(indices)
    image = image.convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    image.putdata(indices.ravel().tolist())
    rgb, opaque = parse_image(encode(image), URI)
    assert rgb[0, :4].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]
    assert opaque is None
    _, opaque = parse_image(encode(image, transparency=2), URI)
    np.testing.assert_array_equal(opaque, indices != 2)
    _, opaque = parse_image(encode(image, transparency=bytes([0, 128, 255, 0])), URI)
    np.testing.assert_array_equal(opaque, (indices == 1) | (indices == 2))


def test_a_transparent_colour_of_an_rgb_image():
    image = Image.new("RGB", (WIDTH, HEIGHT), (1, 2, 3))
    image.putpixel((4, 2), (200, 0, 0))
    rgb, opaque = parse_image(encode(image, transparency=(1, 2, 3)), URI)
    assert opaque.sum() == 1
    assert opaque[2, 4]
    assert rgb[2, 4].tolist() == [200, 0, 0]


def test_sixteen_bits_become_eight():
    levels = np.linspace(0, 65535, HEIGHT * WIDTH).astype(">u2").reshape(HEIGHT, WIDTH)
    rows = b"".join(b"\0" + row.tobytes() for row in levels)
    rgb, opaque = parse_image(png(WIDTH, HEIGHT, 16, 0, rows), URI)
    np.testing.assert_array_equal(rgb, np.repeat((levels >> 8)[..., None], 3, axis=2))
    assert opaque is None
    transparent = struct.pack(">I", 2) + b"tRNS" + struct.pack(">H", levels[0, 1])
    transparent += struct.pack(">I", zlib.crc32(transparent[4:]))
    _, opaque = parse_image(png(WIDTH, HEIGHT, 16, 0, rows, transparent), URI)
    np.testing.assert_array_equal(opaque, levels != levels[0, 1])

    rgba = np.zeros((HEIGHT, WIDTH, 4), dtype=">u2")
    rgba[2:4, 3:5] = (65535, 32768, 256, 65535)
    rows = b"".join(b"\0" + row.tobytes() for row in rgba)
    rgb, opaque = parse_image(png(WIDTH, HEIGHT, 16, 6, rows), URI)
    assert rgb[2, 3].tolist() == [255, 128, 1]
    np.testing.assert_array_equal(opaque, rgba[..., 3] > 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_exif_orientation_turns_image_and_mask_alike(orientation, file_format):
    upright = np.zeros((16, 24), dtype=np.uint8)
    upright[1:7, 2:18] = 255
    upright[8:12, 2:4] = 255
    # Per the EXIF standard: where row 0 and column 0 of the stored pixels lie in the upright picture.
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.T, 6: np.rot90(upright), 7: upright[::-1, ::-1].T, 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if file_format == "WEBP" else {"quality": 100} if file_format == "JPEG" else {}
    data = encode(Image.fromarray(np.ascontiguousarray(stored)).convert("RGB"), file_format, exif=exif, **options)
    rgb, _ = parse_image(data, URI)
    np.testing.assert_array_equal(rgb[..., 0] > 127, upright > 0)
    if file_format != "JPEG":
        np.testing.assert_array_equal(parse_mask(data, URI), upright > 0)
        layers = [Image.fromarray(np.ascontiguousarray(stored))] * 4
        opaque = parse_image(encode(Image.merge("RGBA", layers), file_format, exif=exif, **options), URI)[1]
        np.testing.assert_array_equal(opaque, upright > 0)


# ---- mask images ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_a_mask_of_two_values_is_known_as_one(mode):
    expected = np.random.default_rng(1).integers(0, 2, (HEIGHT, WIDTH)).astype(bool)
    grey = Image.fromarray((expected * 3).astype(np.uint8))
    if mode == "1":
        image = Image.fromarray(expected)
    elif mode == "I;16":
        image = Image.fromarray(expected.astype(np.uint16))
    else:
        image = grey.convert(mode)
    np.testing.assert_array_equal(parse_mask(encode(image), URI), expected)


def test_a_mask_drawn_in_alpha_is_read_from_it():
    expected = np.random.default_rng(1).integers(0, 2, (HEIGHT, WIDTH)).astype(bool)
    pixels = np.full((HEIGHT, WIDTH, 4), 255, dtype=np.uint8)
    pixels[..., 3] = expected * 255
    np.testing.assert_array_equal(parse_mask(encode(Image.fromarray(pixels)), URI), expected)


# ---- which mask counts ---------------------------------------------------------------------------------------------

RGB = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
SOME = np.zeros((HEIGHT, WIDTH), dtype=bool)
SOME[2:4, 3:6] = True
ALL, NOWHERE = np.ones_like(SOME), np.zeros_like(SOME)
MASK_URI = "s3://bucket/photo_mask"


def test_a_mask_image_wins_over_alpha():
    other = SOME.T[:HEIGHT, :1].repeat(WIDTH, axis=1)
    assert object_mask(RGB, ALL, SOME, URI, MASK_URI) is SOME
    assert object_mask(RGB, other, SOME, URI, MASK_URI) is SOME
    assert object_mask(RGB, None, SOME, URI, MASK_URI) is SOME
    assert object_mask(RGB, SOME, None, URI, None) is SOME
    assert object_mask(RGB, None, ALL, URI, MASK_URI) is ALL


@pytest.mark.parametrize(
    ("opaque", "mask", "kind", "says"),
    [
        (None, None, ErrorKind.MASK_MISSING, "no alpha channel"),
        (ALL, None, ErrorKind.MASK_MISSING, "hides nothing"),
        (NOWHERE, None, ErrorKind.MASK_EMPTY, URI + ":"),
        (SOME, NOWHERE, ErrorKind.MASK_EMPTY, MASK_URI + ":"),
        (SOME, SOME[1:], ErrorKind.SIZE_MISMATCH, "9×5 pixels, its image s3://bucket/photo is 9×6"),
        (SOME, SOME.T, ErrorKind.SIZE_MISMATCH, "EXIF"),
    ],
)
def test_masks_that_cannot_be_used(opaque, mask, kind, says):
    error = refusal(object_mask, RGB, opaque, mask, URI, MASK_URI if mask is not None else None)
    assert error.kind == kind
    assert says in error.message


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [parse_image, parse_mask])
@pytest.mark.parametrize("side", [9_000, 12_000, 30_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_from_its_header(function, side):
    bomb = png(side, side, 8, 6, b"")
    error = refusal(function, bomb, URI)
    assert error.kind == ErrorKind.IMAGE_TOO_LARGE


def test_limits_are_inclusive():
    data = encode(picture("RGB"))
    assert parse_image(data, URI, max_pixels=HEIGHT * WIDTH, max_bytes=len(data))[0].shape == (HEIGHT, WIDTH, 3)
    error = refusal(parse_image, data, URI, max_pixels=HEIGHT * WIDTH - 1)
    assert error.kind == ErrorKind.IMAGE_TOO_LARGE
    assert "9×6 = 54 pixels; the limit is 53" in error.message
    assert refusal(parse_image, data, URI, max_bytes=len(data) - 1).kind == ErrorKind.IMAGE_TOO_LARGE


@pytest.mark.parametrize("file_format", ["GIF", "BMP", "TIFF", "PPM", "ICO"])
def test_only_three_formats_are_opened(file_format):
    error = refusal(parse_image, encode(Image.new("RGB", (32, 32)), file_format), URI)
    assert error.kind == ErrorKind.IMAGE_BROKEN
    assert "not a PNG, JPEG or WebP" in error.message


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_a_file_cut_short_is_broken(file_format):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), file_format)
    for share in (0.0, 0.01, 0.3, 0.9):
        assert refusal(parse_image, data[: int(share * len(data))], URI).kind == ErrorKind.IMAGE_BROKEN


def test_a_png_text_bomb_is_refused():
    text = b"key\0\0" + zlib.compress(b"A" * 100_000_000)
    bomb = struct.pack(">I", len(text)) + b"zTXt" + text
    bomb += struct.pack(">I", zlib.crc32(bomb[4:]))
    assert refusal(parse_image, png(2, 2, 8, 0, b"\0ab\0cd", bomb), URI).kind == ErrorKind.IMAGE_BROKEN


@settings(max_examples=200, deadline=None)
@given(
    file_format=st.sampled_from(["PNG", "JPEG", "WEBP"]),
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_bytes_never_crash(file_format, edits):
    damaged = bytearray(encode(picture("RGB"), file_format))
    for place, value in edits:
        damaged[place % len(damaged)] = value
    try:
        rgb, _ = parse_image(bytes(damaged), URI, max_pixels=10_000)
    except InstanceError as error:
        assert error.kind in (ErrorKind.IMAGE_BROKEN, ErrorKind.IMAGE_TOO_LARGE)  # noqa: PT017
    else:
        assert rgb.ndim == 3
