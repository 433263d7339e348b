"""The shapes in the core's signatures are checked while the tests run."""

import importlib

import jaxtyping
import pytest
import shape_checks
import torch
from jaxtyping import Float
from torch import Tensor

from refine_batch.losses.laplacian import safe_norm


def test_a_wrong_shape_is_refused():
    with pytest.raises(jaxtyping.TypeCheckError, match="safe_norm"):
        safe_norm(torch.zeros(4, 2))


@pytest.mark.parametrize("module", shape_checks.CHECKED)
def test_every_checked_module_exists(module):
    importlib.import_module(module)


def test_what_was_right_once_is_no_excuse_for_what_is_not():
    """Neither another shape, nor another result of the same arguments."""
    results = [torch.zeros(4, 3), torch.zeros(4, 3), torch.zeros(5, 3)]

    @shape_checks.checked_once(typechecker=shape_checks.check)
    def normals(vertices: Float[Tensor, "v 3"], scale: float = 1.0) -> Float[Tensor, "v 3"]:
        return results.pop(0)

    assert normals(torch.zeros(4, 3)).shape == normals(torch.zeros(4, 3)).shape == (4, 3)
    for wrong in ((torch.zeros(4, 2),), (torch.zeros(4, 3, dtype=torch.int64),), (torch.zeros(4, 3), "one")):
        with pytest.raises(jaxtyping.TypeCheckError, match="parameters"):
            normals(*wrong)
    with pytest.raises(jaxtyping.TypeCheckError, match="return value"):
        normals(torch.zeros(4, 3))
    assert not results


def test_what_may_differ_between_right_and_wrong_is_described():
    unlike = [
        *(torch.zeros(2), torch.zeros(3), torch.zeros(2, dtype=torch.int64), torch.zeros(2).numpy(), 1, 2, 1.0, True),
        *("a", "b", None, (1,), [1], (1, 2), {"a": 1}, {"b": 1}, {"a": 1.0}),
    ]
    assert len({shape_checks.described(value) for value in unlike}) == len(unlike)
