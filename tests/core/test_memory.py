"""Batches that fit a GPU's memory by what is known beforehand; no GPU is needed to see it."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from shapes import icosphere

from refine_batch import Camera, Instance, RefineConfig, refine
from refine_batch.devices.precision import tensor_float_32
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.mesh import Mesh
from refine_batch.methods import load_method, memory
from refine_batch.methods.base import MEGABYTE, Costs, costing
from refine_batch.methods.memory import SHARE, batch_that_fits, instance_bytes
from refine_batch.refinement import optimise
from refine_batch.render import hard_silhouettes

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
REFINE, LARGE_STEPS = RefineConfig(method="refine"), RefineConfig(method="large-steps")
# (vertices, image size, MB) of an instance: peak resident memory on a CPU.
MEASURED = {
    "refine": [(495, 112, 34), (1485, 224, 74), (5994, 224, 183), (1485, 448, 189)],
    "large-steps": [(495, 112, 1.2), (1485, 224, 3.5), (5994, 224, 12.8), (1485, 448, 9.9)],
}


def mesh(vertices: int, faces: int | None = None) -> Mesh:
    return Mesh(np.zeros((vertices, 3)), np.zeros((2 * vertices if faces is None else faces, 3), np.int32))


@pytest.fixture
def free(monkeypatch):
    """What a device says is free, in MB, to be set by the test."""
    said = SimpleNamespace(megabytes=0.0, asked=0)

    def answer(device):
        said.asked += 1
        return said.megabytes * MEGABYTE

    monkeypatch.setattr(memory, "free_bytes", answer)
    return said


@pytest.mark.parametrize(
    ("method", "vertices", "size", "measured"), [(m, *row) for m, rows in MEASURED.items() for row in rows]
)
def test_costs_are_not_below_what_was_measured_nor_far_above(method, vertices, size, measured):
    found = instance_bytes(mesh(vertices), RefineConfig(method=method, image_size=size)) / MEGABYTE
    assert 0.95 * measured < found < 2.5 * measured


def test_costs_grow_linearly_with_vertices_and_with_pixels():
    for method in ("refine", "large-steps"):
        one, two, three = (instance_bytes(mesh(n), RefineConfig(method=method)) for n in (1000, 2000, 3000))
        assert 0 < two - one == pytest.approx(three - two)
        sizes = [instance_bytes(mesh(1000), RefineConfig(method=method, image_size=n)) for n in (100, 200, 300)]
        assert sizes[2] - sizes[1] == pytest.approx((sizes[1] - sizes[0]) * 5 / 3)


def test_more_views_and_more_faces_than_usual_cost_more():
    assert instance_bytes(mesh(100, 5000), REFINE) == instance_bytes(mesh(2500), REFINE)

    def seen(azimuths: int) -> dict:
        return {"weights": {"image_symmetry": 1.0}, "symmetry_views": azimuths}

    one, three = (RefineConfig(method="refine", paper=seen(n)) for n in (1, 3))
    assert instance_bytes(mesh(100), one) - instance_bytes(mesh(100), REFINE) == pytest.approx(4 * 60 * 224**2)
    assert instance_bytes(mesh(100), three) - instance_bytes(mesh(100), one) == pytest.approx(8 * 60 * 224**2)
    large = RefineConfig(method="large-steps", large_steps={"weights": {"image_symmetry": 1.0}})
    assert instance_bytes(mesh(100), large) - instance_bytes(mesh(100), LARGE_STEPS) == pytest.approx(100 * 224**2)


@pytest.mark.parametrize("config", [REFINE, LARGE_STEPS], ids=lambda c: c.method)
@pytest.mark.parametrize("fit", [1, 2, 7, 30])
def test_as_many_as_fit_the_share_of_what_is_free(free, config, fit):
    each = instance_bytes(mesh(1000), config) / MEGABYTE
    meshes = [mesh(1000)] * 40
    free.megabytes = (fit + 0.01) * each / SHARE
    assert batch_that_fits(meshes, config, CUDA, 64) == fit
    free.megabytes = (fit + 0.99) * each / SHARE
    assert batch_that_fits(meshes, config, CUDA, 64) == fit


def test_every_instance_of_a_batch_costs_what_its_largest_mesh_does(free):
    meshes = [mesh(500)] * 10 + [mesh(20_000)] * 10
    free.megabytes = 10 * instance_bytes(mesh(500), REFINE) / MEGABYTE / SHARE * 1.01
    assert batch_that_fits(meshes, REFINE, CUDA, 64) == 10
    free.megabytes = 11 * instance_bytes(mesh(20_000), REFINE) / MEGABYTE / SHARE * 1.01
    assert batch_that_fits(meshes, REFINE, CUDA, 64) == 11


def test_there_is_always_one_and_never_more_than_the_limit(free):
    assert batch_that_fits([mesh(10**6)] * 3, REFINE, CUDA, 64) == 1
    free.megabytes = 1e9
    assert batch_that_fits([mesh(10)] * 100, REFINE, CUDA, 64) == 64
    assert batch_that_fits([mesh(10)] * 3, REFINE, CUDA, 64) == 3


def test_elsewhere_only_the_limit_counts(free):
    assert batch_that_fits([mesh(10**5)] * 9, REFINE, CPU, 8) == 8
    assert batch_that_fits([mesh(10**5)] * 9, RefineConfig(method="stub_methods:swell"), CUDA, 8) == 8
    assert free.asked == 0


def test_a_method_of_the_user_s_own_may_say_what_it_takes(free, monkeypatch):
    @costing(Costs(lambda mesh, config: 1e3 * len(mesh.vertices) * config.image_size, cpu_batch=3))
    def thrifty(batch, config, device):
        return []

    monkeypatch.setattr("stub_methods.thrifty", thrifty, raising=False)
    config = RefineConfig(method="stub_methods:thrifty", image_size=100)
    assert instance_bytes(mesh(50), config) == 5 * MEGABYTE
    free.megabytes = 21 / SHARE
    assert batch_that_fits([mesh(50)] * 9, config, CUDA, 64) == 4
    prepared = [SimpleNamespace(subject=SimpleNamespace(mesh=mesh(50))) for _ in range(5)]
    assert list(optimise.groups(prepared, config, CPU)) == [[0, 1, 2], [3, 4]]
    assert instance_bytes(mesh(50), RefineConfig(method="stub_methods:swell")) is None


@pytest.mark.parametrize(("method", "expected"), [("large-steps", [4, 2]), ("refine", [1] * 6)])
def test_on_a_cpu_those_that_gain_are_batched(method, expected, monkeypatch):
    """By default; the result is the same to the last bit."""
    function = load_method(method)
    sizes = []

    def counted(batch, config, device):
        sizes.append(len(batch))
        return function(batch, config, device)

    monkeypatch.setattr(optimise, "load_method", lambda name: counted)
    camera = Camera(30, 20, 1.2)
    shapes = [icosphere(1, 0.3), icosphere(2, 0.25)] * 3
    [mask] = hard_silhouettes(icosphere(2, 0.32), [camera], 24)
    image = np.full((24, 24, 3), 150, np.uint8)
    batch = [Instance(str(i), shape, image, mask, camera) for i, shape in enumerate(shapes)]
    config = RefineConfig(method=method, image_size=24, steps=4, figure_samples=100, guard=False)
    together = refine(batch, config, device="cpu")
    assert sizes == expected
    alone = refine(batch, config, device="cpu", batch_size=1)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.mesh.vertices, other.mesh.vertices)


def test_what_torch_holds_but_does_not_use_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    assert memory.free_bytes(CUDA) == 1500


def test_groups_are_made_to_fit_when_it_is_their_turn(free):
    """Small meshes many at a time, large ones few, and fewer once less is free; nobody is left out."""
    sizes = [3000] * 4 + [100] * 6
    prepared = [SimpleNamespace(subject=SimpleNamespace(mesh=mesh(size))) for size in sizes]
    free.megabytes = 2 * instance_bytes(mesh(3000), REFINE) / MEGABYTE / SHARE * 1.01
    groups = optimise.groups(prepared, REFINE, CUDA)
    assert next(groups) == [4, 5, 6, 7]
    free.megabytes *= 0.6
    assert list(groups) == [[8, 9], [0], [1], [2], [3]]
    free.megabytes = 1e6
    assert list(optimise.groups(prepared, REFINE, CUDA, 4)) == [[4, 5, 6, 7], [8, 9, 0, 1], [2, 3]]


@pytest.mark.parametrize("fault", [torch.OutOfMemoryError, lambda text: InstanceError(ErrorKind.TIMEOUT, text)])
def test_what_failed_is_freed_before_halves_are_tried(fault):
    """With cycles, and though an exception holds the frames that it came through."""

    class Workspace:
        pass

    held = []

    def method(batch, config, device):
        assert [alive for alive in held if alive() is not None] == []
        workspace = Workspace()
        workspace.itself = workspace
        held.append(weakref.ref(workspace))
        if len(batch) > 1:
            raise fault("CUDA out of memory")
        return ["fine"]

    gc.disable()
    try:
        batch = [SimpleNamespace(subject=SimpleNamespace(mesh=icosphere(0)), instance_id=str(i)) for i in range(4)]
        # Only whole batches fail: nothing is freed between two that succeed.
        found = optimise.halved(lambda some: _freed(held, method, some, REFINE, CPU), batch, CPU)
    finally:
        gc.enable()
    assert found == ["fine"] * 4
    assert len(held) == 7


def _freed(held, method, batch, config, device):
    outcomes = method(batch, config, device)
    held[-1]().itself = None
    return outcomes


@pytest.mark.parametrize("before", [(False, True), (True, False)])
@pytest.mark.parametrize("on", [False, True])
def test_tf32_is_as_asked_for_the_length_of_a_call(on, before):
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    at_first = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32, cudnn.allow_tf32 = before
        with tensor_float_32(on, CUDA):
            assert (matmul.allow_tf32, cudnn.allow_tf32) == (on, on)
        assert (matmul.allow_tf32, cudnn.allow_tf32) == before
        with pytest.raises(ValueError, match="midway"), tensor_float_32(on, CUDA):
            raise ValueError("midway")
        assert (matmul.allow_tf32, cudnn.allow_tf32) == before
        with tensor_float_32(on, CPU):
            assert (matmul.allow_tf32, cudnn.allow_tf32) == before
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = at_first
