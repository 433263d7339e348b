"""The shapes in the core's signatures are checked while the tests run."""

import importlib

import jaxtyping
import pytest
import shape_checks
import torch

from refine_batch.losses.laplacian import safe_norm


def test_a_wrong_shape_is_refused():
    with pytest.raises(jaxtyping.TypeCheckError, match="safe_norm"):
        safe_norm(torch.zeros(4, 2))


@pytest.mark.parametrize("module", shape_checks.CHECKED)
def test_every_checked_module_exists(module):
    importlib.import_module(module)
