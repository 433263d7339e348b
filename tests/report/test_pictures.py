import base64
import io
import itertools

import numpy as np
import trimesh
from PIL import Image

from refine_batch.cameras.camera import Camera
from refine_batch.mesh import Mesh
from refine_batch.render import hard_silhouettes
from refine_batch.report import pictures


def opened(uri):
    head, _, data = uri.partition(",")
    assert head in ("data:image/png;base64", "data:image/webp;base64")
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


def test_each_region_has_its_colour():
    box = trimesh.creation.box((0.5, 0.5, 0.5))
    mesh, camera = Mesh(box.vertices.astype(np.float32), box.faces.astype(np.int32)), Camera(30, 20, 1.5)
    silhouette = hard_silhouettes(mesh, [camera], pictures.SIZE)[0]
    mask = np.roll(silhouette, 20, axis=1)
    shown = opened(pictures.overlay(mesh, camera, mask, pictures.COARSE))
    for region, colour in ((mask & ~silhouette, pictures.MASK), (silhouette & ~mask, pictures.COARSE)):
        assert region.sum() > 100
        assert (shown[region] == (*colour, 255)).all()
    assert (shown[~mask & ~silhouette, 3] == 0).all()


def test_a_wide_picture_is_padded_and_its_background_faded():
    rgb = np.full((50, 100, 3), 200, np.uint8)
    mask = np.zeros((50, 100), bool)
    mask[:, :50] = True
    shown = opened(pictures.photo(rgb, mask))
    assert shown.shape == (pictures.SIZE, pictures.SIZE, 4)
    centre = pictures.SIZE // 2
    assert shown[centre, 40, 3] > 240
    assert 40 < shown[centre, -40, 3] < 90


def test_the_colours_are_told_apart_without_colour():
    def lightness(colour):
        return np.dot([0.2126, 0.7152, 0.0722], (np.array(colour) / 255) ** 2.2)

    levels = sorted(map(lightness, (pictures.MASK, pictures.COARSE, pictures.REFINED)))
    ratios = [(b + 0.05) / (a + 0.05) for a, b in itertools.pairwise(levels)]
    assert min(ratios) > 1.4
