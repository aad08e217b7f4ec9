"""No network: in this process, and by PYTHONPATH in those that it starts, sockets lead to this machine alone.

Addresses elsewhere are unreachable, as on a machine without a network, and their names are unknown. What C libraries open by themselves
is not seen.
"""

import errno
import ipaddress
import os
import socket
import sys
from functools import cache
from pathlib import Path

HERE = {"", "localhost", "localhost.localdomain", "ip6-localhost", socket.gethostname()}
SENDING = {"socket.connect", "socket.sendto", "socket.sendmsg"}
ASKING = {"socket.getaddrinfo", "socket.gethostbyname"}


def is_here(host):
    """Whether a host, by name or number, is this machine."""
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host or "")
    try:
        return (address := ipaddress.ip_address(text.partition("%")[0])).is_loopback or address.is_unspecified or is_own(address)
    except ValueError:
        return text.lower().rstrip(".") in HERE


@cache
def is_own(address):
    """Whether it is an address of this machine's, by which the parts of a cluster on it find each other: nobody else may listen there."""
    with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


def refuse(event, arguments):
    """Audit hook: `socket` raises these before anything is sent."""
    if event in SENDING:
        address = arguments[1]
        if isinstance(address, tuple) and not is_here(address[0]):
            raise OSError(errno.ENETUNREACH, f"Network is unreachable: no network in the tests, {address[0]} is not here")
    elif event in ASKING and not is_here(arguments[0]):
        raise socket.gaierror(socket.EAI_NONAME, f"Name or service not known: no network in the tests, {arguments[0]} is not here")


def inherited():
    """Have the processes that this one starts import this module first."""
    folders = [str(Path(__file__).parent), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(folders))


if not getattr(sys, "_vitlib_is_offline", False):
    sys._vitlib_is_offline = True
    sys.addaudithook(refuse)
    inherited()
