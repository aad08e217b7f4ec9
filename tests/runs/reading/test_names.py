"""Whose run it is: a stored run counts for what it is described as, whatever folder it lies in."""

import pytest

from tests.runs.support import SPEC
from tests.support import Number
from vitlib.dumped import agrees
from vitlib.runs.manifest import DamagedError


def test_a_whole_run_in_the_folder_of_another_is_damage_whether_or_not_it_was_asked_for(store, folder):
    other = Number(value=SPEC.value + 1)
    folder.rename(store.root / other.id)
    for asked in (None, other):
        with pytest.raises(DamagedError, match="describes another run"):
            store.read(other.id, asked)


@pytest.mark.parametrize(("one", "other"), [([1, 2], (1, 2, 3)), ([1, 2, 3], (1, 2)), ([], (1,)), ([1], ())])
def test_lists_of_other_lengths_do_not_agree(one, other):
    assert not agrees(one, other) and agrees(list(other), other)
