"""SSIM and MS-SSIM against SciPy's convolutions in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, signal

from vaex.evaluation import structural_similarity as ssim

RNG = np.random.default_rng(0)


def images(height, width, channels=1, noise=0.1):
    """Return smooth images, and noisy copies of them, [2, h, w, c] each, float32 in [0, 1]."""
    smooth = ndimage.gaussian_filter(RNG.random((2, height, width, channels)), (0, 2, 2, 0))
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    noisy = np.clip(smooth + noise * RNG.standard_normal(smooth.shape), 0, 1)
    return smooth.astype(np.float32), noisy.astype(np.float32)


def local_parts(x, y, window):
    """Return the means of SSIM and of its contrast part of two images [h, w], as Wang et al. 2004 write them."""
    kernel = signal.windows.gaussian(window, 1.5)
    kernel = np.outer(kernel, kernel) / np.outer(kernel, kernel).sum()
    x, y = x.astype(np.float64), y.astype(np.float64)

    def mean(values):
        return signal.convolve2d(values, kernel, mode="valid")

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    contrast = (2 * cov + 0.03**2) / (vx + vy + 0.03**2)
    return ((2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2) * contrast).mean(), contrast.mean()


def pooled(x):
    """Return means of 2 x 2 pixels; the last odd row or column is left out."""
    height, width = x.shape[0] // 2 * 2, x.shape[1] // 2 * 2
    corners = [x[i:height:2, j:width:2].astype(np.float64) for i in (0, 1) for j in (0, 1)]
    return sum(corners) / 4


@pytest.mark.slow
@pytest.mark.parametrize(("size", "window"), [((11, 13), 11), ((28, 28), 7), ((20, 16), 8)])
def test_ssim(size, window):
    x, y = images(*size, channels=2)
    parts = ssim.similarity(jnp.asarray(x), jnp.asarray(y), window=window)
    expected = [[local_parts(x[i, ..., c], y[i, ..., c], window) for c in range(2)] for i in range(2)]
    np.testing.assert_allclose(np.stack(parts, axis=-1), expected, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "window", "scales"), [((8, 8), 7, 1), ((29, 28), 7, 3), ((176, 180), 11, 5)])
def test_ms_ssim(size, window, scales):
    x, y = images(*size, channels=3)
    assert ssim.scales(*size, window) == scales
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:scales]
    weights, expected = weights / weights.sum(), np.ones((2, 3))
    for i, c in np.ndindex(2, 3):
        a, b = x[i, ..., c], y[i, ..., c]
        for scale, weight in enumerate(weights):
            of_all, contrast = local_parts(a, b, window)
            expected[i, c] *= (of_all if scale == scales - 1 else contrast) ** weight
            a, b = pooled(a), pooled(b)
    value = ssim.multiscale_ssim(jnp.asarray(x), jnp.asarray(y), window=window)
    np.testing.assert_allclose(value, expected.mean(1), atol=2e-5)


@pytest.mark.slow
def test_equal_images_have_similarity_1_and_constant_ones_that_of_their_means():
    x = jnp.asarray(images(28, 28)[0])
    np.testing.assert_allclose(ssim.multiscale_ssim(x, x, window=7), 1.0, atol=1e-6)
    a, b = jnp.full((1, 8, 8, 1), 0.2), jnp.full((1, 8, 8, 1), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    np.testing.assert_allclose(ssim.multiscale_ssim(a, b, window=7), expected, rtol=1e-4)


def test_gradients_are_finite_where_images_are_equal_opposite_or_constant():
    x = jnp.asarray(images(16, 16)[0])
    gradient = jax.jit(jax.grad(lambda y, x: jnp.sum(ssim.multiscale_ssim(x, y, window=7))))
    for y in (x, 1 - x, jnp.zeros_like(x)):
        assert np.isfinite(gradient(y, x)).all()
    np.testing.assert_allclose(gradient(x, x), 0.0, atol=1e-3)  # the largest similarity


def test_small_images_are_refused():
    with pytest.raises(ValueError, match=r"expected equal ones \[..., h, w, c\] of at least 11 pixels"):
        ssim.similarity(jnp.zeros((1, 8, 8, 1)), jnp.zeros((1, 8, 8, 1)))
