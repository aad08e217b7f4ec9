"""Numbers that a reader compares: the decimals of a column are those that its unit and its spread need."""

import numpy as np
import pandas as pd
import pytest

from vitlib.report.tables import formatted


def written(**columns):
    text = formatted(pd.DataFrame({name.replace("spread", "±"): values for name, values in columns.items()}))
    return [text[name].tolist() for name in text]


def test_a_number_and_its_spread_have_the_same_decimals():
    assert written(change=[-0.833, 0.0], spread=[5.4, 4.0]) == [["-0.8", "0.0"], ["5.4", "4.0"]]
    assert written(measured=[0.254, 0.1], spread=[0.705, 0.5]) == [["0.254", "0.100"], ["0.705", "0.500"]]


def test_a_spread_too_small_for_one_decimal_gets_more():
    assert written(distance=[16.449, 10.291], spread=[0.012, 0.016]) == [["16.45", "10.29"], ["0.01", "0.02"]]


@pytest.mark.parametrize(("values", "said"), [([0.9, 0.95, 0.98], ["0.90", "0.95", "0.98"]), ([0.5, 0.8], ["0.5", "0.8"])])
def test_settings_have_no_more_decimals_than_they_were_given_with(values, said):
    assert written(sparsity=values) == [said]


def test_what_is_too_small_for_the_decimals_is_not_written_as_zero_and_zero_is():
    assert written(density=[9.2, 0.04, 0.0, 1e-15]) == [["9.2", "< 0.1", "0.0", "0.0"]]


@pytest.mark.parametrize("name", ["difference", "change", "less dense"])
def test_differences_have_a_sign_and_zeros_have_none(name):
    assert formatted(pd.DataFrame({name: [2.5, -2.5, 0.0, -0.01, 0.01]}))[name].tolist() == ["+2.5", "-2.5", "0.0", "0.0", "0.0"]


def test_an_empty_column_is_dashes():
    assert written(measured=[np.nan], spread=[np.nan]) == [["–"], ["–"]]
