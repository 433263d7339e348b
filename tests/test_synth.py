"""The synthetic dataset: real solids, pictures that fit them, coarse meshes that are wrong by as much as real ones."""

import csv
import hashlib
import io
from collections import Counter

import numpy as np
import pytest
from scipy.spatial import cKDTree
from shapes import scaled, watertight

from refine_batch.cameras.camera import Camera
from refine_batch.config import RefineConfig
from refine_batch.dataset.load import load_instance
from refine_batch.dataset.manifest import Manifest, ManifestRow
from refine_batch.dataset.synth import SynthOptions, make_instance, write_dataset
from refine_batch.dataset.synth.families import ASYMMETRIC, FAMILIES
from refine_batch.dataset.synth.hints import surface
from refine_batch.dataset.synth.solids import union
from refine_batch.figures.chamfer import chamfer_l2
from refine_batch.figures.iou_2d import mask_iou
from refine_batch.io.meshes import parse_mesh
from refine_batch.io.pictures import parse_image
from refine_batch.io.storage import Storage
from refine_batch.mesh import Mesh
from refine_batch.mesh.padded import PaddedMeshes
from refine_batch.mesh.sampling import sample_surface
from refine_batch.render import hard_silhouettes


@pytest.fixture(scope="module")
def instances():
    return [make_instance(i, seed=3, image_size=96) for i in range(48)]


def test_there_are_enough_families_and_they_take_turns(instances):
    assert len(FAMILIES) >= 8
    assert set(Counter(x.category for x in instances).values()) == {4}
    assert {x.category for x in instances} == set(FAMILIES)
    assert set(FAMILIES) > ASYMMETRIC


@pytest.mark.parametrize("family", FAMILIES)
def test_objects_are_one_closed_piece_and_symmetric_where_they_say_so(family):
    for seed in range(12):
        whole = union(FAMILIES[family](np.random.default_rng(seed)))
        assert len(whole.decompose()) == 1, seed
        other = whole.mirror((0.0, 0.0, 1.0))
        apart = (whole - other).volume() / whole.volume()
        if family in ASYMMETRIC:
            assert apart > 0.02, seed
        else:
            assert apart < 1e-6, seed


def test_ground_truth_is_a_watertight_solid_of_extent_1(instances):
    for x in instances:
        low, high = x.ground_truth.vertices.min(axis=0), x.ground_truth.vertices.max(axis=0)
        np.testing.assert_allclose(low + high, 0, atol=1e-5)
        assert (high - low).max() == pytest.approx(1.0, abs=1e-5)
        [volume] = PaddedMeshes.of([x.ground_truth]).signed_volumes().tolist()
        assert watertight(x.ground_truth.faces)
        assert volume > 0.004


def test_the_whole_object_is_inside_the_image_and_alpha_is_its_silhouette(instances):
    for x in instances:
        assert x.image.shape == (96, 96, 4)
        assert x.image.dtype == np.uint8
        mask = x.image[..., 3] > 0
        assert mask.sum() == mask[1:-1, 1:-1].sum()
        assert mask.sum() > 60
        # Seen through the public camera and the figures' own rasteriser.
        silhouette = hard_silhouettes(x.ground_truth, [x.camera], 96)[0]
        assert np.count_nonzero(silhouette != mask) <= 3
        assert 1.0 <= x.camera.distance <= 2.2
        assert x.camera.fov == 60


def test_pictures_are_shaded(instances):
    for x in instances:
        colours = x.image[x.image[..., 3] == 255][:, :3].astype(int)
        assert 20 < colours.mean() < 250
        assert colours.std(axis=0).max() > 4, x.instance_id


def test_coarse_meshes_are_as_wrong_as_real_ones(instances):
    iou, chamfer = [], []
    for x in instances:
        x.coarse.check(x.instance_id)
        assert len(np.unique(x.coarse.faces)) > 0.9 * len(x.coarse.vertices)
        iou.append(float(mask_iou(hard_silhouettes(x.coarse, [x.camera], 96)[0], x.image[..., 3] > 0)))
        a, b = (scaled(sample_surface(mesh, 2000, 0)) for mesh in (x.coarse, x.ground_truth))
        chamfer.append(chamfer_l2(cKDTree(a).query(b)[0], cKDTree(b).query(a)[0]))
    iou = np.array(iou)
    assert 0.65 < iou.mean() < 0.82  # six real ones: 0.70
    assert 0.05 < (iou > 0.92).mean() < 0.3  # some are good already
    assert (iou > 0.15).all()
    assert 5 < np.mean(chamfer) < 15  # three real ones: 11.7
    tight = np.mean([watertight(x.coarse.faces) for x in instances])
    assert 0.6 < tight < 0.95
    sizes = np.array([len(x.coarse.vertices) for x in instances])
    assert sizes.min() >= 500
    assert sizes.max() <= 10_000
    assert sizes.max() > 4 * sizes.min()


def same(a: Mesh, b: Mesh) -> bool:
    return np.array_equal(a.vertices, b.vertices) and np.array_equal(a.faces, b.faces)


def test_an_instance_depends_on_seed_and_index_alone(instances):
    for i in (41, 7):
        again = make_instance(i, seed=3, image_size=96)
        assert again.instance_id == instances[i].instance_id
        assert again.camera == instances[i].camera
        assert same(again.coarse, instances[i].coarse)
        assert same(again.ground_truth, instances[i].ground_truth)
        np.testing.assert_array_equal(again.image, instances[i].image)
    other = make_instance(7, seed=4, image_size=96)
    assert other.camera != instances[7].camera


def test_written_files_read_back_and_a_longer_dataset_begins_with_the_shorter(tmp_path):
    uri = write_dataset(tmp_path / "three", 3, seed=5, image_size=64)
    write_dataset(Storage(str(tmp_path / "four")), 4, seed=5, image_size=64)
    assert uri == str(tmp_path / "three" / "manifest.csv")
    for path in (tmp_path / "three").rglob("*"):
        twin = tmp_path / "four" / path.relative_to(tmp_path / "three")
        if path.is_file() and path.name != "manifest.csv":
            assert path.read_bytes() == twin.read_bytes()
    long, short = ((tmp_path / name / "manifest.csv").read_text() for name in ("four", "three"))
    assert long.startswith(short)
    rows = list(csv.DictReader(io.StringIO(long)))
    assert len({row["instance_id"] for row in rows}) == 4
    for i, row in enumerate(rows):
        expected = make_instance(i, seed=5, image_size=64)
        assert row["instance_id"] == expected.instance_id
        assert row["category"] == expected.category
        assert "symmetry_axis" not in row
        given = Camera(*(float(row[name]) for name in ("azimuth", "elevation", "distance")))
        assert given == expected.camera
        folder = tmp_path / "four"
        assert same(parse_mesh((folder / row["mesh_uri"]).read_bytes(), row["mesh_uri"]), expected.coarse)
        assert same(
            parse_mesh((folder / row["ground_truth_uri"]).read_bytes(), row["ground_truth_uri"]), expected.ground_truth
        )
        rgb, opaque = parse_image((folder / row["image_uri"]).read_bytes(), row["image_uri"])
        np.testing.assert_array_equal(
            np.dstack([rgb, opaque]), np.dstack([expected.image[..., :3], expected.image[..., 3] > 0])
        )


def test_an_empty_dataset_is_a_manifest_of_no_rows(tmp_path):
    write_dataset(tmp_path, 0)
    assert len((tmp_path / "manifest.csv").read_text().splitlines()) == 1


def digest(folder) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return found.hexdigest()


ALL = SynthOptions(views=4, soft_masks=True, occluders=True, cut=True, depth=True, normals=True)


def test_what_is_asked_for_besides_leaves_shapes_and_first_views_as_they_are(tmp_path):
    write_dataset(tmp_path / "plain", 2, seed=5, image_size=64)
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == [
        "ground_truth", "images", "manifest.csv", "meshes",
    ]  # fmt: skip
    write_dataset(tmp_path / "all", 2, seed=5, image_size=64, options=ALL)
    for folder in ("meshes", "ground_truth"):
        assert digest(tmp_path / "plain" / folder) == digest(tmp_path / "all" / folder)
    write_dataset(tmp_path / "again", 2, seed=5, image_size=64, options=ALL)
    assert digest(tmp_path / "all") == digest(tmp_path / "again")
    plain, harder = (make_instance(1, seed=5, image_size=64, options=o) for o in (SynthOptions(), ALL))
    angles = [(x.camera.azimuth, x.camera.elevation, x.camera.distance) for x in (plain, harder)]
    assert angles[0] == angles[1]


def test_the_manifest_names_everything_and_it_loads(tmp_path):
    manifest = Manifest.open(write_dataset(tmp_path, 3, seed=5, image_size=64, options=ALL))
    assert manifest.check_ids() == 3
    assert manifest.ignored_columns == ()
    config = RefineConfig(image_size=64)
    for batch in manifest.batches():
        for i in range(batch.num_rows):
            instance = load_instance(ManifestRow.from_batch(batch, i), config)
            true = make_instance(i, seed=5, image_size=64, options=ALL)
            assert instance.notes == ()
            assert len(instance.views) == 3
            for view, taken in zip((instance, *instance.views), true.pictures, strict=True):
                assert view.camera == taken.camera
                silhouette = hard_silhouettes(true.ground_truth, [taken.camera], 64)[0]
                agree = mask_iou((view.mask >= 0.5) & view.known, silhouette & view.known)
                assert agree > 0.9
                assert not view.known[taken.ignore].any()
                depth, normals = surface(true.ground_truth, taken.camera, 64)
                both = np.isfinite(depth) & np.isfinite(view.depth.values)
                assert np.corrcoef(depth[both], view.depth.values[both])[0, 1] > 0.9
                both = np.isfinite(normals).all(axis=2) & np.isfinite(view.normals).all(axis=2)
                cosine = (normals * view.normals).sum(axis=2)[both]
                assert 5 < np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean() < 16


@pytest.mark.parametrize("index", range(6))
def test_frames_cut_and_occluders_hide_a_share(index):
    cut = make_instance(index, seed=4, image_size=96, options=SynthOptions(cut=True))
    mask = cut.image[..., 3] > 0
    assert mask[[0, -1]].any() or mask[:, [0, -1]].any()
    whole = (make_instance(index, seed=4, image_size=96).image[..., 3] > 0).sum()
    assert 0.6 < mask.sum() / whole < 0.95
    [hidden] = make_instance(index, seed=4, image_size=96, options=SynthOptions(occluders=True)).pictures
    assert 0.6 < (hidden.image[..., 3] > 0).sum() / whole < 0.9
    assert not (hidden.image[hidden.ignore][:, 3] > 0).any()


def test_soft_masks_are_covered_shares(instances):
    for i in range(4):
        soft = make_instance(i, seed=3, image_size=96, options=SynthOptions(soft_masks=True)).image[..., 3] / 255
        hard = instances[i].image[..., 3] > 0
        assert len(np.unique(soft)) > 10
        assert soft.sum() == pytest.approx(hard.sum(), rel=0.1)
        assert mask_iou(soft >= 0.5, hard) > 0.9
