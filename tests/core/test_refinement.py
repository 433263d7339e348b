"""The library's entry point: one outcome per instance, in order, whatever becomes of each."""

from __future__ import annotations

import math
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import box, icosphere, soup

import refine_batch
from refine_batch import Camera, Instance, Mesh, RefineConfig, UsageError, refine
from refine_batch.devices.choice import choose_device
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.methods import MethodOutput
from refine_batch.render import hard_silhouettes

SIZE = 24
CAMERA = Camera(30, 20, 1.2)
SPHERE = icosphere(1, 0.3)
# Which instances each call of a stub method was given.
CALLS: list[list[str]] = []


def swell(batch, config, device):
    """Every vertex moved out by 20 %; an instance's id says what else happens to it."""
    CALLS.append([p.instance_id for p in batch])
    return [_one(p) for p in batch]


def _one(p):
    fault = p.instance_id.partition(":")[0]
    vertices = p.mesh.vertices * np.float32(1.2)
    match fault:
        case "raises":
            raise ValueError("no luck")
        case "refuses":
            raise InstanceError(ErrorKind.TIMEOUT, "it took too long")
        case "returns an error":
            return InstanceError(ErrorKind.DIVERGED, "it diverged")
        case "no memory":
            raise MemoryError("enough")
        case "no device memory":
            raise torch.OutOfMemoryError("CUDA out of memory")
        case "no host memory":
            torch.empty(1 << 60)
        case "stops all":
            raise UsageError("the encoder weights cannot be had")
        case "interrupted":
            raise KeyboardInterrupt
        case "nan":
            vertices[3, 1] = math.nan
        case "infinite":
            vertices[3, 1] = math.inf
        case "too few":
            vertices = vertices[:-1]
        case "two-dimensional":
            vertices = vertices[:, :2]
        case "nothing":
            return None
        case "no camera":
            return MethodOutput(vertices, cameras=())
    return MethodOutput(vertices, losses={"silhouette": 0.5}, loss_curve=np.ones(3), steps=3)


def forgetful(batch, config, device):
    """One outcome too few, unless asked for a single instance that is well."""
    outcomes = swell(batch, config, device)
    return outcomes[:-1] if len(batch) > 1 or batch[0].instance_id == "lost" else outcomes


def lazy(batch, config, device):
    yield from swell(batch, config, device)


def shrink(batch, config, device):
    return [MethodOutput(p.mesh.vertices * np.float32(0.9)) for p in batch]


def double(batch, config, device):
    return [MethodOutput(p.mesh.vertices * np.float32(2.0)) for p in batch]


def turning(batch, config, device):
    """Every view's camera a degree farther round."""
    return [
        replace(outcome, cameras=tuple(replace(v.camera, azimuth=v.camera.azimuth + 1.0) for v in p.views))
        for p, outcome in zip(batch, swell(batch, config, device), strict=True)
    ]


def config(method: str = "swell", **options) -> RefineConfig:
    defaults = {"image_size": SIZE, "figure_samples": 100, "guard": False}
    return RefineConfig(method=f"{__name__}:{method}", **{**defaults, **options})


def instance(name: str, shape: Mesh = SPHERE, **changes) -> Instance:
    [mask] = hard_silhouettes(shape, [CAMERA], SIZE)
    image = np.where(mask[..., None], 150, 0).astype(np.uint8).repeat(3, axis=2)
    return replace(Instance(name, shape, image, mask, CAMERA), **changes)


@pytest.fixture(autouse=True)
def _no_calls_yet():
    CALLS.clear()


@pytest.fixture
def quiet(caplog):
    """For tests whose faults are logged with their traceback."""
    caplog.set_level("CRITICAL", logger="refine_batch.refinement")


EMPTY = np.zeros((SIZE, SIZE), bool)
BAD_INPUT = {
    "mesh without faces": ({"mesh": Mesh(np.eye(3), np.zeros((0, 3), np.int32))}, ErrorKind.MESH_EMPTY),
    "mesh of NaN": ({"mesh": Mesh(np.eye(3) * math.nan, np.array([[0, 1, 2]]))}, ErrorKind.MESH_BROKEN),
    "face out of range": ({"mesh": Mesh(np.eye(3), np.array([[0, 1, 3]]))}, ErrorKind.MESH_BROKEN),
    "empty mask": ({"mask": EMPTY}, ErrorKind.MASK_EMPTY),
    "mask of another size": ({"mask": EMPTY[1:]}, ErrorKind.SIZE_MISMATCH),
    "image of two dimensions": ({"image": EMPTY.astype(np.uint8)}, ErrorKind.IMAGE_BROKEN),
    "NaN camera": ({"camera": Camera(0, math.nan, 1)}, ErrorKind.CAMERA_INVALID),
    "camera at the origin": ({"camera": Camera(0, 0, 0)}, ErrorKind.CAMERA_INVALID),
    "no symmetry axis of ours": ({"symmetry_axis": "q"}, ErrorKind.ROW_INVALID),
    "broken ground truth": ({"ground_truth": Mesh(np.eye(3), np.array([[0, 1, 3]]))}, ErrorKind.MESH_BROKEN),
    "no image at all": ({"image": None}, ErrorKind.INTERNAL),
}
BAD_METHOD = {
    "raises": (ErrorKind.INTERNAL, "ValueError: no luck"),
    "refuses": (ErrorKind.TIMEOUT, "it took too long"),
    "returns an error": (ErrorKind.DIVERGED, "it diverged"),
    "no memory": (ErrorKind.OUT_OF_MEMORY, "a mesh of 42 vertices does not fit the memory of cpu: enough"),
    "no device memory": (ErrorKind.OUT_OF_MEMORY, "does not fit"),
    "no host memory": (ErrorKind.OUT_OF_MEMORY, "does not fit"),
    "nan": (ErrorKind.DIVERGED, "NaN, infinite"),
    "infinite": (ErrorKind.DIVERGED, "NaN, infinite"),
    "too few": (ErrorKind.DIVERGED, "not as many"),
    "two-dimensional": (ErrorKind.DIVERGED, "not as many"),
    "nothing": (ErrorKind.INTERNAL, "NoneType"),
    "no camera": (ErrorKind.INTERNAL, "0 cameras for 1 views"),
}


def assert_refined(result, name: str) -> None:
    assert (result.instance_id, result.status, result.error_kind, result.error_message) == (name, "refined", None, None)
    assert np.isfinite(result.mesh.vertices).all()


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("batch_size", [1, 3, None])
@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_fails_alone(name, batch_size):
    changes, kind = BAD_INPUT[name]
    results = refine([instance("a"), instance(name, **changes), instance("b")], config(), batch_size=batch_size)
    assert_refined(results[0], "a")
    assert_refined(results[2], "b")
    bad = results[1]
    assert (bad.instance_id, bad.status, bad.error_kind) == (name, "failed", kind.value)
    assert bad.error_message
    assert bad.mesh is None
    assert bad.device == "cpu"


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("name", BAD_METHOD)
def test_an_instance_that_its_method_fails_on_fails_alone(name, batch_size):
    kind, told = BAD_METHOD[name]
    results = refine([instance(i) for i in ("a", "b", name, "c", "d")], config(), batch_size=batch_size)
    assert [r.instance_id for r in results] == ["a", "b", name, "c", "d"]
    for i in (0, 1, 3, 4):
        assert_refined(results[i], "ab-cd"[i])
    assert (results[2].status, results[2].error_kind) == ("failed", kind.value)
    assert told in results[2].error_message


@pytest.mark.usefixtures("quiet")
def test_a_batch_that_fails_is_halved_until_the_fault_stands_alone():
    names = ["a", "b", "c", "d", "e", "raises", "g", "h"]
    refine([instance(name) for name in names], config(), batch_size=8)
    halves = [names, names[:4], names[4:], ["e", "raises"], ["e"], ["raises"], ["g", "h"]]
    assert halves == CALLS


@pytest.mark.usefixtures("quiet")
def test_every_instance_may_fail():
    results = refine([instance(f"raises:{i}") for i in range(5)], config(), batch_size=5)
    assert [r.status for r in results] == ["failed"] * 5
    assert [r.instance_id for r in results] == [f"raises:{i}" for i in range(5)]


@pytest.mark.usefixtures("quiet")
def test_a_method_that_loses_an_outcome():
    results = refine([instance(name) for name in ("a", "lost", "b")], config("forgetful"), batch_size=3)
    assert [r.status for r in results] == ["refined", "failed", "refined"]
    assert results[1].error_kind == "internal"
    assert "0 outcomes for 1 instances" in results[1].error_message


def test_a_method_may_yield():
    assert [r.status for r in refine([instance("a"), instance("b")], config("lazy"), batch_size=2)] == ["refined"] * 2


def test_what_concerns_every_instance_is_raised():
    with pytest.raises(UsageError, match="encoder weights"):
        refine([instance("a"), instance("stops all")], config(), batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        refine([instance("a"), instance("interrupted")], config(), batch_size=2)


def test_order_is_kept_though_batches_are_by_size():
    meshes = [icosphere(2, 0.3), box(), soup(20, 30, 0, scale=0.3), icosphere(0, 0.3), box()]
    results = refine([instance(str(i), mesh) for i, mesh in enumerate(meshes)], config(), batch_size=2)
    for i, (result, mesh) in enumerate(zip(results, meshes, strict=True)):
        assert_refined(result, str(i))
        middle = (mesh.vertices.max(axis=0) + mesh.vertices.min(axis=0)) / 2
        np.testing.assert_allclose(result.mesh.vertices, middle + 1.2 * (mesh.vertices - middle), atol=1e-6)
        np.testing.assert_array_equal(result.mesh.faces, mesh.faces)
    # Of like size together, so that little is padded.
    assert CALLS == [["1", "4"], ["3", "2"], ["0"]]


def test_no_instances():
    assert refine([], config()) == []
    assert CALLS == []


def test_outcome_carries_all_that_is_known():
    [result] = refine([instance("a")], config())
    assert result.steps == 3
    assert result.losses == {"silhouette": 0.5}
    assert result.loss_total == 0.5
    assert result.loss_curve.tolist() == [1, 1, 1]
    assert result.camera == CAMERA
    assert result.camera_source == "given"
    assert result.device == "cpu"
    assert result.seconds > 0
    assert result.symmetry_confidence is None
    # The mask is the coarse mesh's own silhouette, which the swollen one covers.
    assert result.before.iou_2d == 1.0
    assert 0.5 < result.after.iou_2d < 0.9
    assert result.before.chamfer_l2 is None


def test_ground_truth_brings_its_figures_and_changes_nothing_else():
    plain, known = refine([instance("a"), instance("a", ground_truth=SPHERE)], config())
    np.testing.assert_array_equal(plain.mesh.vertices, known.mesh.vertices)
    for figures in (known.before, known.after):
        assert figures.chamfer_l2 >= 0
        assert 0 <= figures.f_score <= 1
    assert known.before.iou_multiview == 1.0


def test_a_corrected_camera_is_told():
    [result] = refine([instance("a")], config("turning"))
    assert result.camera_source == "corrected"
    assert (result.camera.azimuth, result.camera.elevation) == pytest.approx((31.0, 20.0))
    assert result.camera.distance == pytest.approx(1.2)
    np.testing.assert_allclose(result.camera.target, 0.0, atol=1e-6)


def test_what_was_given_is_left_as_it_was():
    given_instance = instance("a")
    arrays = [given_instance.mesh.vertices, given_instance.mesh.faces, given_instance.image, given_instance.mask]
    copies = [array.copy() for array in arrays]
    for array in arrays:
        array.setflags(write=False)
    for method in ("refine", "large-steps"):
        [result] = refine([given_instance], RefineConfig(method=method, image_size=16, steps=2, figure_samples=100))
        assert result.status in ("refined", "kept"), result.error_message
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=4))
@settings(max_examples=30)
def test_ids_of_any_text_come_back_as_they_were(names):
    prefixed = [f"id {name}" for name in names]
    template = instance("template", box())
    results = refine([replace(template, instance_id=name) for name in prefixed], config(), batch_size=4)
    assert [r.instance_id for r in results] == prefixed
    assert {r.status for r in results} == {"refined"}


@pytest.mark.parametrize(
    "name", ["\ud800 lone", "../../etc/passwd", "<script>", "a\nb", "0146", "", "🪑" * 500, "%s {x}"]
)
def test_awkward_ids_refine_and_are_named_when_they_fail(name):
    good, bad = refine([instance(name), instance(name, mask=EMPTY)], config())
    assert_refined(good, name)
    assert bad.instance_id == name
    assert repr(name) in bad.error_message


def test_the_same_id_twice_is_two_outcomes():
    results = refine([instance("a"), instance("a", box())], config())
    assert [len(r.mesh.vertices) for r in results] == [42, 8]


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ("tpu", "'tpu' is unknown; choose auto, cpu or cuda"),
        ("", "is unknown; choose auto, cpu or cuda"),
        ("meta", "'meta' is not supported; choose auto, cpu or cuda"),
        ("cuda:99", "'cuda:99' was asked for, but torch finds"),
    ],
)
def test_devices_that_cannot_be_had(device, told):
    with pytest.raises(UsageError, match=told):
        refine([instance("a")], config(), device=device)
    assert CALLS == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_cuda_auto_is_the_cpu_and_cuda_is_refused():
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(UsageError, match="torch finds no CUDA device"):
        choose_device("cuda")


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_hold_at_least_one(batch_size):
    with pytest.raises(UsageError, match=f"batch_size is {batch_size}; it must be at least 1"):
        refine([instance("a")], config(), batch_size=batch_size)


@pytest.mark.parametrize("options", [{"method": "no-such"}, {"method": "refine", "renderer": "opengl"}])
def test_configurations_that_cannot_be_had(options):
    with pytest.raises(UsageError, match="unknown"):
        refine([instance("a")], RefineConfig(image_size=16, steps=1, **options))


def test_as_the_package_shows_it(monkeypatch):
    """The example in the package's docstring, with fewer steps."""
    monkeypatch.setattr("refine_batch.methods.refine.DEFAULT_STEPS", 2)
    example = textwrap.dedent(refine_batch.__doc__.split("\n\n", 1)[1])
    given_instance = instance("chair")
    names = {
        "vertices": given_instance.mesh.vertices,
        "faces": given_instance.mesh.faces,
        "image": given_instance.image,
        "mask": given_instance.mask,
    }
    exec(compile(example, "docstring", "exec"), names)
    assert names["result"].status in ("refined", "kept")
    assert names["result"].instance_id == "chair"


def test_public_names_are_there():
    for name in refine_batch.__all__:
        assert getattr(refine_batch, name) is not None
    with pytest.raises(AttributeError, match="'refine_batch' has no attribute 'no_such'"):
        _ = refine_batch.no_such


def test_what_a_guard_refuses_says_how_well_it_met_the_mask():
    """A method that makes everything smaller, where the mask is larger."""
    [mask] = hard_silhouettes(Mesh(SPHERE.vertices * np.float32([1.0, 1.4, 1.0]), SPHERE.faces), [CAMERA], SIZE)
    [kept] = refine([instance("a", mask=mask)], config("shrink", guard=True))
    assert kept.status == "kept"
    assert "agrees less with the mask" in kept.kept_reason
    assert kept.iou_2d_refused < kept.iou_2d_given == kept.before.iou_2d == kept.after.iou_2d
    assert (kept.share, kept.camera, kept.losses) == (0.0, CAMERA, {})
    np.testing.assert_array_equal(kept.mesh.vertices, SPHERE.vertices)


def test_a_method_that_goes_too_far_is_followed_a_part_of_the_way():
    """Twice as wide is far too wide for a mask that is 1.4 times as wide; half of the way is about right."""
    [mask] = hard_silhouettes(Mesh(SPHERE.vertices * np.float32(1.35), SPHERE.faces), [CAMERA], SIZE)
    [found] = refine([instance("a", mask=mask)], config("double", guard=True, guard_risk=1.0))
    assert found.status == "refined"
    assert found.share == 0.5
    np.testing.assert_allclose(found.mesh.vertices, SPHERE.vertices * 1.5, rtol=1e-5)
    assert found.after.iou_2d > found.before.iou_2d


@pytest.mark.parametrize("size", ["same", "a little larger"])
def test_what_needs_no_refinement_is_left_alone(size):
    """Of a mesh that meets its mask, from the given camera or from one a little beside it, nothing is asked."""
    camera = replace(CAMERA, distance=CAMERA.distance * (1.0 if size == "same" else 1.08))
    [mask] = hard_silhouettes(icosphere(3, 0.3), [camera], 64)
    image = np.where(mask[..., None], 150, 0).astype(np.uint8).repeat(3, axis=2)
    given_instance = Instance("a", icosphere(3, 0.3), image, mask, CAMERA)
    [found] = refine([given_instance], config(guard=True, image_size=64))
    assert (found.status, found.steps, CALLS) == ("kept", 0, [])
    if size == "same":
        assert "already agrees" in found.kept_reason
        assert (found.camera, found.camera_source) == (CAMERA, "given")
    else:
        assert "the camera alone explains" in found.kept_reason
        assert found.camera_source == "corrected"
        assert found.camera.distance == pytest.approx(camera.distance, rel=0.02)
        assert found.iou_2d_given < found.before.iou_2d
