"""The polar factor and the spread of features against SVDs, closed forms and autograd."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from vitlib.methods.pruning.saliency import mean_singular_value, polar_factor, spread_gradient

SHAPES = [(6, 20), (20, 6), (9, 9)]


def known(out, inputs, sigma):
    """A matrix with these singular values, and its polar factor; double."""
    u, v = (torch.linalg.qr(torch.randn(size, len(sigma), dtype=torch.float64)).Q for size in (out, inputs))
    return u * torch.as_tensor(sigma, dtype=torch.float64) @ v.T, u @ v.T


def by_svd(matrix, rank):
    u, _, vt = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    return torch.from_numpy(u[:, :rank] @ vt[:rank])


@pytest.mark.parametrize(("out", "inputs"), SHAPES)
def test_invariant_2_the_gradient_of_the_nuclear_norm_is_the_polar_factor(out, inputs):
    matrix = known(out, inputs, np.linspace(1, 3, min(out, inputs)))[0].requires_grad_()
    (slope,) = torch.autograd.grad(torch.linalg.svdvals(matrix).sum(), matrix)
    assert_close(polar_factor(matrix.detach()), slope, rtol=0, atol=1e-12)
    assert_close(spread_gradient(matrix.detach()) * out, slope, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("out", "inputs"), [(12, 40), (40, 12), (16, 16)])
@pytest.mark.parametrize(
    ("condition", "tolerance"),
    [(1e1, 1e-12), (1e2, 1e-11), (1e3, 1e-9), (1e4, 1e-7), (3e4, 1e-6), (1e5, 1e-9), (1e6, 1e-9), (1e7, 1e-8), (1e9, 1e-6)],
)
def test_the_polar_factor_is_that_of_the_svd_at_any_condition(out, inputs, condition, tolerance):
    """Gram matrices lose digits with the square of the condition, the SVD with the condition; one gives way to the other at 3e4."""
    matrix, factor = known(out, inputs, np.geomspace(5, 5 / condition, min(out, inputs)))
    assert_close(polar_factor(matrix), factor, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("out", "inputs"), SHAPES)
def test_the_polar_factor_has_orthonormal_rows_or_columns_and_leaves_a_symmetric_positive_root(out, inputs):
    matrix = torch.randn(out, inputs, dtype=torch.float64)
    factor = polar_factor(matrix)
    square = factor @ factor.T if out <= inputs else factor.T @ factor
    assert_close(square, torch.eye(min(out, inputs), dtype=torch.float64), rtol=0, atol=1e-9)
    root = matrix @ factor.T
    assert_close(root, root.T)
    assert torch.linalg.eigvalsh(root).min() > -1e-9
    assert_close(root @ root, matrix @ matrix.T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("out", "inputs"), [(12, 40), (40, 12), (16, 16)])
def test_directions_that_a_matrix_does_not_have_are_left_out(out, inputs, dtype):
    """Rows of a wide matrix, or columns of a tall one, that are there twice halve the rank."""
    side = min(out, inputs)
    half = torch.randn(side // 2, max(out, inputs)).to(dtype)
    matrix = torch.cat([half, half])
    matrix = matrix if out <= inputs else matrix.T
    factor = polar_factor(matrix)
    assert factor.dtype == dtype
    assert_close(factor.double(), by_svd(matrix, side // 2), rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("repeats", [2, 3])
def test_a_tall_matrix_with_rows_there_several_times_has_the_factor_of_one_with_each_row_once(repeats):
    matrix = torch.randn(20, 6, dtype=torch.float64)
    assert_close(polar_factor(matrix.repeat(repeats, 1)), polar_factor(matrix).repeat(repeats, 1) / repeats**0.5)


@pytest.mark.parametrize(("out", "inputs"), [(60, 200), (200, 60)])
def test_a_matrix_of_low_rank_rounded_to_float32_has_the_factor_of_its_rank(out, inputs):
    matrix = known(out, inputs, [4.0, 3.0, 2.0, 1.0, 0.5])[0].float()
    assert_close(polar_factor(matrix).double(), by_svd(matrix, 5), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("out", "inputs"), [*SHAPES, (1, 5), (5, 1)])
def test_the_polar_factor_of_a_zero_matrix_is_zero(out, inputs):
    assert torch.equal(polar_factor(torch.zeros(out, inputs)), torch.zeros(out, inputs))


@pytest.mark.parametrize(("out", "inputs"), [(1, 5), (5, 1)])
def test_the_polar_factor_of_a_vector_is_its_direction(out, inputs):
    matrix = torch.randn(out, inputs, dtype=torch.float64)
    assert_close(polar_factor(matrix), matrix / matrix.norm())


@pytest.mark.parametrize(("out", "inputs"), [(12, 40), (40, 12), (16, 16)])
@pytest.mark.parametrize("condition", [1e1, 1e3, 1e5])
def test_the_polar_factor_of_a_float32_matrix_errs_by_its_last_digit_alone(out, inputs, condition):
    matrix = known(out, inputs, np.geomspace(5, 5 / condition, min(out, inputs)))[0].float()
    factor = polar_factor(matrix)
    assert factor.dtype == torch.float32
    assert_close(factor.double(), by_svd(matrix, min(out, inputs)), rtol=0, atol=1.2e-7)


@pytest.mark.parametrize("scale", [1e-30, 1e-5, 1e5, 1e15])
def test_the_polar_factor_does_not_ask_for_the_size_of_the_matrix(scale):
    matrix = torch.randn(6, 20)
    assert_close(polar_factor(matrix * scale), polar_factor(matrix), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (9, 9), (4, 5, 7), (4, 7, 5)], ids=str)
@pytest.mark.parametrize("offset", [0.0, 3.0, 100.0, 1000.0])
def test_the_gradient_of_the_centred_spread_is_that_of_autograd_however_large_the_mean(shape, offset, dtype):
    """Rows that are nearly one vector, as class tokens of the first blocks are: what centring leaves is rank N - 1."""
    features = (torch.randn(shape) + offset * torch.randn(shape[-1])).to(dtype)
    exact = features.double().requires_grad_()
    centred = exact - exact.mean(dim=-2, keepdim=True)
    (slope,) = torch.autograd.grad(torch.linalg.svdvals(centred).sum() / features.shape[:-1].numel(), exact)
    found = spread_gradient(features, center=True).double()
    assert (found - slope).norm() < (1e-9 if dtype == torch.float64 else 1e-3) * slope.norm()


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (4, 5, 7), (4, 7, 5)], ids=str)
def test_the_mean_singular_value_is_that_of_the_svd(shape):
    features = torch.randn(shape)
    each = features.double().numpy().reshape(-1, *shape[-2:])
    expected = np.mean([np.linalg.svd(matrix, compute_uv=False).sum() / shape[-2] for matrix in each])
    assert mean_singular_value(features) == pytest.approx(expected, rel=1e-12)


def test_the_mean_singular_value_grows_along_its_gradient():
    for shape in [(6, 20), (20, 6), (4, 5, 7)]:
        features, step = torch.randn(shape, dtype=torch.float64), 1e-6 * torch.randn(shape, dtype=torch.float64)
        rise = mean_singular_value(features + step) - mean_singular_value(features - step)
        assert rise == pytest.approx(2 * float((spread_gradient(features) * step).sum()), rel=1e-5)
