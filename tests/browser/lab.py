"""JupyterLab in a headless browser: a server of its own on loopback, a page on one notebook, and what a person does there."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = os.environ.get("VITLIB_CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
LIVE = ".vitlib-explorer"
IDLE = "document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status == 'idle'"
BEGUN = "!/^\\[ ?\\]:?$/.test(document.querySelector('.jp-CodeCell .jp-InputPrompt').textContent.trim())"
PATIENCE = 60.0  # seconds for what should take one or two


def missing() -> str:
    """What a browser test lacks on this machine, or nothing."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed; make browser installs it"
    return "" if Path(CHROMIUM).exists() else f"no browser at {CHROMIUM}; install chromium, or say in VITLIB_CHROMIUM where it is"


@dataclass
class Lab:
    """A running JupyterLab and a browser; `errors` are those of its pages, failed requests among them."""

    port: int
    token: str
    browser: Any
    errors: list[str] = field(default_factory=list)

    @contextmanager
    def opened(self, path: str, theme: str = "light", width: int = 1280):
        """A page on a notebook, closed and its kernel shut down afterwards."""
        page = self.browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
        page.set_default_timeout(1000 * PATIENCE)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("requestfailed", lambda request: self._failed(request))
        page.goto(f"http://127.0.0.1:{self.port}/doc/tree/{path}?token={self.token}&reset", wait_until="domcontentloaded")
        try:
            page.wait_for_selector(".jp-Notebook")
            yield page
        finally:
            page.close()
            for session in self.ask("sessions"):
                self.ask(f"sessions/{session['id']}", "DELETE")

    def ask(self, what: str, method: str = "GET") -> Any:
        """The server's answer about `kernels`, `sessions` or a path below."""
        url = f"http://127.0.0.1:{self.port}/api/{what}"
        request = urllib.request.Request(url, method=method, headers={"Authorization": f"token {self.token}"})
        for patience in (1, 1, 1, 0):
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    content = answer.read()
                return json.loads(content) if content else None
            except urllib.error.HTTPError as error:  # while a kernel starts, the server may know it by half
                if error.code != 500 or not patience:
                    raise
                time.sleep(patience)
        return None

    def run_all(self, page: Any) -> None:
        """The page says 'idle' before its kernel is connected, and Run All then runs nothing: so the server is asked first."""
        page.wait_for_function(IDLE)
        until(lambda: any(kernel["connections"] >= 1 and kernel["execution_state"] == "idle" for kernel in self.ask("kernels")))
        for _ in range(5):
            choose(page, "Run", "Run All Cells")
            try:
                page.wait_for_function(BEGUN, timeout=4000)
                return
            except Exception:
                continue
        raise TimeoutError("Run All ran nothing, five times")

    def wait_until_done(self, page: Any, seconds: float) -> None:
        """Until the kernel has nothing more to do, and the page knows."""
        idle = 0
        end = time.monotonic() + seconds
        while idle < 20:  # between two cells it is idle for a moment
            idle = idle + 1 if all(kernel["execution_state"] == "idle" for kernel in self.ask("kernels")) else 0
            time.sleep(0.1)
            if time.monotonic() > end:
                raise TimeoutError(f"not done within {seconds:g} s")
        page.wait_for_function(IDLE)

    def save(self, page: Any, path: str) -> None:
        """Press the button, and wait until the file is written."""
        written = lambda: self.ask(f"contents/{path}?content=0")["last_modified"]  # noqa: E731
        before = written()
        press(page, "save")
        until(lambda: written() != before)

    def _failed(self, request: Any) -> None:
        if "ERR_ABORTED" not in (request.failure or ""):  # of a page that closes
            self.errors.append(f"{request.url}: {request.failure}")


@contextmanager
def serving(root: Path, home: Path, **environment: str):
    """A Lab on the folder `root`, with a home of its own: no user's settings, no workspace left over."""
    from playwright.sync_api import sync_playwright

    port, token = _free_port(), secrets.token_hex(16)
    settings = home / ".jupyter/lab/user-settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    (settings / "themes.jupyterlab-settings").write_text(json.dumps({"adaptive-theme": True}))
    inherited = {name: value for name, value in os.environ.items() if name != "JUPYTER_CONFIG_DIR"}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    command += [f"--ServerApp.root_dir={root}", "--LabApp.news_url=None", "--allow-root"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    with (home / "lab.log").open("wb") as log:
        own = {"HOME": str(home), "JUPYTER_TOKEN": token, "OMP_NUM_THREADS": "1"}
        server = subprocess.Popen(command, stdout=log, stderr=log, env=inherited | own | environment, start_new_session=True)
    try:
        with sync_playwright() as playwright:
            lab = Lab(port, token, playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=1000 * PATIENCE))
            until(lambda: server.poll() is not None or _answers(lab))
            assert server.poll() is None, (home / "lab.log").read_text()
            yield lab
            lab.browser.close()
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def until(holds: Any, seconds: float = PATIENCE) -> None:
    """Wait until `holds()`."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(0.1)


def press(page: Any, button: str) -> None:
    """A button of the notebook's toolbar: save, interrupt."""
    page.locator(f'.jp-NotebookPanel-toolbar [data-jp-item-name="{button}"]').click()


def choose(page: Any, menu: str, item: str) -> None:
    page.get_by_role("menuitem", name=menu, exact=True).click()
    page.get_by_role("menuitem", name=item, exact=True).click()


def _answers(lab: Lab) -> bool:
    try:
        return bool(lab.ask("status"))
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
