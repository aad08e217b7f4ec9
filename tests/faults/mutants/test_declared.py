"""The declared faults can be made in the code as it is today; what the tests say to each takes half an hour: see `__main__`."""

import ast

import pytest

from tests.faults.mutants.declared import AREAS, FAULTS
from tests.support import ROOT


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_fault_changes_code_that_is_there_once_into_other_code(fault):
    before = (ROOT / fault.file).read_text(encoding="utf-8")
    assert ast.dump(ast.parse(fault.made_in(ROOT))) != ast.dump(ast.parse(before))
    assert all((ROOT / place).exists() for place in fault.tests)


def test_there_are_sixty_faults_and_a_dozen_and_more_in_each_area():
    assert len(FAULTS) == len({fault.name for fault in FAULTS}) == len({(fault.file, fault.new, fault.old) for fault in FAULTS}) == 60
    assert min(map(len, AREAS.values())) >= 12
