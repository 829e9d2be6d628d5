"""A ringback process and its metrics."""

import os
import re
import subprocess
import tempfile
import time
import urllib.request

START_S = 20
# Longer than --drain-timeout.
STOP_S = 30

# Limits above this load: their memory per address is in use.
LIMITS = ["--max-connections-per-address", "1000", "--handshake-rate", "10000/s"]


class Server:
    """One server with its own log in `directory`, on free ports and on a Unix-domain
    socket."""

    def __init__(self, binary, engine, directory):
        self.engine = engine
        self.log_path = os.path.join(directory, f"{engine}.log")
        out_path = os.path.join(directory, f"{engine}.out")
        # The path of a socket has to be short.
        self._files = tempfile.TemporaryDirectory()
        self.socket = os.path.join(self._files.name, "echo.sock")
        with open(self.log_path, "wb") as log, open(out_path, "wb") as out:
            self.process = subprocess.Popen(
                [binary, "--engine", engine, "--threads", "1", "--no-pin",
                 "--listen", "127.0.0.1:0", "--listen", f"unix:{self.socket}",
                 "--admin", "127.0.0.1:0", *LIMITS],
                stdin=subprocess.DEVNULL, stdout=out, stderr=log)
        self.address, self.admin = self._wait_for_addresses(out_path)
        self.started = time.monotonic()

    @property
    def url(self):
        return f"ws://{self.address[0]}:{self.address[1]}/"

    def is_alive(self):
        return self.process.poll() is None

    def rss_kib(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"^VmRSS:\s+(\d+) kB$", file.read(), re.MULTILINE)[1])

    def fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def metrics(self):
        """The sums over all workers and labels, by name."""
        with urllib.request.urlopen(f"{self.admin}/metrics", timeout=20) as answer:
            text = answer.read().decode("utf-8")
        sums = {}
        for name, value in re.findall(r"^(\w+)(?:\{.*\})? (\S+)$", text, re.MULTILINE):
            sums[name] = sums.get(name, 0.0) + float(value)
        return sums

    def stop(self):
        """Drains it. Returns errors of its exit or in its log."""
        wrong = []
        self.process.terminate()
        try:
            status = self.process.wait(STOP_S)
            if status != 0:
                wrong.append(f"the server ended with status {status}")
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            wrong.append(f"the server did not end within {STOP_S} s of SIGTERM")
        if os.listdir(self._files.name):
            wrong.append("the socket's file is still there")
        self._files.cleanup()
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            bad = [line.strip() for line in log if re.search(r"\bERROR\b|panicked", line)]
        return wrong + bad[:5]

    def _wait_for_addresses(self, out_path):
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.is_alive():
            with open(out_path, encoding="utf-8") as file:
                out = file.read()
            listening = re.search(r"^listening ws://([^:]+):(\d+) ", out, re.MULTILINE)
            admin = re.search(r"^admin (http://\S+)$", out, re.MULTILINE)
            if listening and admin:
                return (listening[1], int(listening[2])), admin[1]
            time.sleep(0.05)
        with open(self.log_path, encoding="utf-8") as log:
            raise RuntimeError(f"{self.engine} does not start: {log.read().strip()}")
