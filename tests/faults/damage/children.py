"""Work in a process of its own, with what it gives or raises brought back; forked from the server of tests."""

import traceback
from multiprocessing.connection import Connection
from typing import Any

CANNOT = "this system does not let a process mount"


def in_a_child(forking, function, *arguments) -> Any:
    """What the function gives; its error is raised here as the text of its traceback."""
    mine, other = forking.Pipe()
    child = forking.Process(target=_told, args=(other, function, arguments), daemon=True)
    child.start()
    other.close()
    try:
        good, said = mine.recv()
    except EOFError:
        good, said = False, "it ended without a word"
    child.join()
    assert good, said
    return said


def _told(back: Connection, function, arguments) -> None:
    try:
        back.send((True, function(*arguments)))
    except BaseException:
        back.send((False, traceback.format_exc()))
