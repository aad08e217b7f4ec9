"""No test reaches another machine, and neither do the processes that it starts; this one shows that the guard bites."""

import socket
import subprocess
import sys
import urllib.request

import pytest

ELSEWHERE = [("192.0.2.1", 80), ("198.51.100.7", 443), ("2001:db8::1", 80, 0, 0)]  # kept for documentation: nobody has them


@pytest.mark.parametrize("address", ELSEWHERE, ids=str)
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["tcp", "udp"])
def test_no_address_elsewhere_is_reached(address, kind):
    with socket.socket(socket.AF_INET6 if len(address) == 4 else socket.AF_INET, kind) as there:
        there.settimeout(1)
        with pytest.raises(OSError, match="no network in the tests"):
            there.connect(address)
        with pytest.raises(OSError, match="no network in the tests"):
            there.sendto(b"x", address)
        with pytest.raises(OSError, match="no network in the tests"):
            there.connect_ex(address)


def test_no_name_elsewhere_is_known_and_a_page_is_not_had():
    with pytest.raises(socket.gaierror, match="no network in the tests"):
        socket.getaddrinfo("example.org", 80)
    with pytest.raises(OSError, match="no network in the tests"):
        urllib.request.urlopen("http://example.org/", timeout=1)


def test_this_machine_is_reached_by_every_name_it_has_and_by_local_sockets(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        for host in ("127.0.0.1", "localhost", b"127.0.0.1"):
            socket.create_connection((host, server.getsockname()[1]), timeout=5).close()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))


@pytest.mark.parametrize("depth", [1, 2])
def test_processes_that_a_test_starts_have_no_network_either(depth):
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    for _ in range(depth - 1):
        code = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {code!r}]).returncode)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "no network in the tests" in done.stderr
