"""A share of images is counted in whole numbers, as people count, and not as products of binary fractions fall."""

import numpy as np

from vitlib.inputs.sets.catalogue import stratified


def test_so_many_per_cent_of_a_hundred_images_are_so_many():
    labels = np.zeros(100, np.int64)
    assert [int(stratified(labels, per_cent / 100).sum()) for per_cent in range(1, 101)] == list(range(1, 101))
