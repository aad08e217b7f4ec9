"""What convolutions come to on this machine: libraries sum in an order that they choose by the processor and its caches.

The numbers of a notebook that trains convolutions repeat on machines of one such kind, and differ in the last bits between kinds; training
makes points of them. PyTorch alone is asked, so that a change of vitlib cannot look like another machine.
"""

import hashlib

import torch
from torch import nn

KEY = "convolutions"  # in the metadata of a notebook in tests/nbref that trains them


def convolutions() -> str:
    """Digest of the weights of a small residual network after some steps on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return _digest(_trained())
    finally:
        torch.set_num_threads(threads)


def _trained() -> nn.Module:
    layers, width = [], 1
    for wider, stride in ((8, 1), (16, 2), (32, 2), (64, 2)):
        layers += [nn.Conv2d(width, wider, 3, stride, padding=1, bias=False), nn.BatchNorm2d(wider), nn.ReLU()]
        layers += [nn.Conv2d(wider, wider, 3, padding=1, bias=False), nn.BatchNorm2d(wider), nn.ReLU()]
        width = wider
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for size in (10, 20, 32) * 4:
        loss = nn.functional.cross_entropy(network(torch.randn(size, 1, 8, 8)), torch.randint(10, (size,)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network


def _digest(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]
