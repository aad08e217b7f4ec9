"""Processes of one run, as torchrun starts them: each knows its rank, their number and where the first one listens."""

import os
import socket

import torch

from vitlib import distributed


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def entered(rank: int, size: int, port: int) -> None:
    """What torchrun does to each of its processes."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "GLOO_SOCKET_IFNAME": "lo"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)


def launched(context, target, size: int, *given) -> list[int]:
    """Exit codes of `target(rank, size, port, *given)` in processes; where the first one fails, the others are ended as by torchrun."""
    port = free_port()
    processes = [context.Process(target=target, args=(rank, size, port, *given), daemon=True) for rank in range(size)]
    for process in processes:
        process.start()
    processes[0].join()
    for process in processes[1:]:
        if processes[0].exitcode:
            process.terminate()
        process.join()
    return [process.exitcode for process in processes]


def forked(context, target, size: int, *given) -> list[int]:
    """Exit codes of `target(rank, size, *given)` in processes that share a run."""
    return launched(context, _sharing, size, target, *given)


def _sharing(rank: int, size: int, port: int, target, *given) -> None:
    entered(rank, size, port)
    torch.distributed.init_process_group("gloo")
    with distributed._division():
        target(rank, size, *given)
    torch.distributed.destroy_process_group()
