"""The checkout as a browser test sees it: copies of the notebooks, and a store filled from the archives beside the figures."""

import shutil
from pathlib import Path

import nbformat

from tests.support import ROOT
from vitlib.runs.archive import unpack

EXPLORERS = {"wecolora": 1, "afr_pruning": 1, "dual_ssl_kd": 2, "deit": 2, "multi_distillation": 1, "overview": 1, "your_model": 1}
