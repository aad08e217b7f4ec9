"""Trainings on the CPU as a GPU takes them."""

import logging

import pytest

from tests.training.step.recorder import Recorder
from vitlib.training import loop
from vitlib.training.step import steps


@pytest.fixture
def graphs(monkeypatch):
    """Those of the trainings of a test."""
    recorder = Recorder()
    monkeypatch.setattr(loop, "graphs_of", lambda device: recorder)
    return recorder


@pytest.fixture(autouse=True)
def said(caplog):
    """What is said of steps that are not replayed."""
    steps.say_once.cache_clear()
    caplog.set_level(logging.WARNING, "vitlib")
    return lambda: [record.getMessage() for record in caplog.records]
