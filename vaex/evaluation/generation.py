"""Quality of what a decoder generates: the manifold of a two-dimensional latent space, and labels that reconstructions keep."""

from __future__ import annotations

import statistics
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vaex.evaluation.traversals import DecodeCodes, decode_points


def manifold_latents(num: int) -> np.ndarray:
    """Grid of z whose coordinates are the quantiles (i + 1/2) / num of N(0, 1).

    Laid out like a coordinate plane: z0 grows to the right, z1 grows upwards.

    Returns: float32 [num, num, 2], [row from the top, column, coordinate].
    Raises: ValueError unless num >= 1.
    Example:
      >>> manifold_latents(2).round(3)[0]
      array([[-0.674,  0.674],
             [ 0.674,  0.674]], dtype=float32)
    """
    if num < 1:
        raise ValueError(f"manifold: num is {num}, expected at least 1")
    normal = statistics.NormalDist()
    quantiles = np.array([normal.inv_cdf((i + 0.5) / num) for i in range(num)], np.float32)
    z0, z1 = np.meshgrid(quantiles, quantiles[::-1])
    return np.stack([z0, z1], axis=-1)


def manifold(decode: DecodeCodes, num: int = 20) -> np.ndarray:
    """Decode a square grid through a two-dimensional latent space, spaced by the prior's quantiles.

    Args:
      decode: z [n, 2] -> x [n, ...]; called once with num * num rows.
      num: images on a side.
    Returns: [num, num, ...], see ``manifold_latents``.
    Raises: ValueError unless num >= 1.
    Example:
      >>> manifold(lambda z: z[:, :1] > 0, num=2)[..., 0].tolist()
      [[False, True], [False, True]]

    References: Kingma & Welling 2014, figure 4.
    """
    return decode_points("manifold", decode, manifold_latents(num))


class LabelAgreement(NamedTuple):
    """Agreement of a classifier's labels with those of the originals.

    ``agreement``: fraction of reconstructions that get their original's label. ``accuracy``: fraction of originals that get their
    own label, an upper reference for ``agreement``; None where no originals were given.
    """

    agreement: float
    accuracy: float | None


def knn_label_agreement(
    train_x: ArrayLike,
    train_y: ArrayLike,
    reconstructions: ArrayLike,
    y: ArrayLike,
    k: int = 5,
    *,
    originals: ArrayLike | None = None,
) -> LabelAgreement:
    """Share of reconstructions that a k-nearest-neighbour classifier of the training data gives their original's label.

    Euclidean distance over all values of an image, majority of k; computed by scikit-learn.

    Args:
      train_x: [m, ...]; train_y: [m] integer labels >= 0.
      reconstructions: [n, ...], in the scale of train_x; y: [n], labels of their originals.
      k: neighbours, at most m.
      originals: [n, ...], to measure the classifier's own accuracy.
    Returns: ``LabelAgreement(agreement, accuracy)``, fractions in [0, 1].
    Raises: ValueError for shapes that disagree, values that are not finite, labels below 0 (unlabelled) or a bad k.
    Example:
      >>> knn_label_agreement([[0.0], [0.1], [1.0]], [0, 0, 1], [[0.05], [0.9]], [0, 0], k=1, originals=[[0.0], [0.2]])
      LabelAgreement(agreement=0.5, accuracy=1.0)
    """
    x, labels = _examples("train", train_x, train_y)
    queries = {"reconstructions": reconstructions} | ({} if originals is None else {"originals": originals})
    checked = []
    for name, images in queries.items():
        flat, truth = _examples(name, images, y)
        if flat.shape[1] != x.shape[1]:
            raise ValueError(
                f"knn_label_agreement: {name} have {flat.shape[1]} values each, expected {x.shape[1]} like train_x"
            )
        checked.append((flat, truth))
    if not 1 <= k <= len(x):
        raise ValueError(f"knn_label_agreement: k is {k}, expected 1 to {len(x)}, the number of training examples")
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(n_neighbors=k).fit(x, labels)
    fractions = [float(np.mean(classifier.predict(flat) == truth)) for flat, truth in checked]
    return LabelAgreement(fractions[0], None if originals is None else fractions[1])


def _examples(name: str, x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return images as float32 [n, values] and integer labels [n]."""
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim < 2 or len(x) == 0 or y.shape != x.shape[:1]:
        raise ValueError(
            f"knn_label_agreement: {name} images and labels have shapes {x.shape}, {y.shape}, "
            "expected [n, ...] and [n] with n > 0; pass one label per image"
        )
    if y.dtype.kind not in "iu" or y.min() < 0:
        raise ValueError(
            f"knn_label_agreement: {name} labels are {y.dtype} from {y.min()}, expected integers >= 0; "
            "leave unlabelled examples out"
        )
    x = x.reshape(len(x), -1).astype(np.float32, copy=False)  # images may fill much of the memory
    if not np.isfinite(x).all():
        raise ValueError(f"knn_label_agreement: {name} images hold NaN or infinity; look at the decoder first")
    return x, y
