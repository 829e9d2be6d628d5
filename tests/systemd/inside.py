#!/usr/bin/env python3
"""Installs the service as docs/deploy.md says, and uses it as an operator would.

Run by boot.sh where a systemd is booted that nothing else depends on.
"""

import base64
import os
import pathlib
import re
import socket
import ssl
import struct
import subprocess
import sys
import time

ADDRESS = ("127.0.0.1", 9001)
LISTEN = ["[::]:9001"]
ADMIN = ("127.0.0.1", 9090)
TIMEOUT_S = 30
UNITS = pathlib.Path("/etc/systemd/system")
SETTINGS = pathlib.Path("/etc/ringback/ringback.toml")
DROP_IN = UNITS / "ringback.service.d"
LOG = pathlib.Path("/run/ringback-test.log")


def main():
    follow_the_docs(sys.argv[1])
    for test in (
        service_is_hardened,
        reload_loses_no_connection,
        reload_with_invalid_settings_fails,
        watchdog_restarts_blocked_service,
        stop_drains,
        socket_activation_starts_and_keeps_the_queue,
        tls_key_comes_from_credentials,
    ):
        test()
        print(f"{test.__name__}: ok", flush=True)


# ---- an operator's commands --------------------------------------------------------


def run(*command, status=0):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    said = done.stdout + done.stderr
    if status is not None and done.returncode != status:
        fail(f"{' '.join(command)}: status {done.returncode}\n{said}")
    return said


def follow_the_docs(binary):
    """All commands of docs/deploy.md, with the binary under test."""
    text = pathlib.Path("docs/deploy.md").read_text()
    blocks = text.split("## systemd", 1)[1].split("```")
    build_and_install, settings, start = (block.partition("\n")[2] for block in blocks[1:6:2])
    for command in build_and_install.splitlines():
        if not command.startswith("cargo build"):
            run("bash", "-c", command.replace("target/release/ringback", binary))
    written = SETTINGS.read_text()
    for line in settings.splitlines():
        written = set_to(written, *line.split(" = ", 1))
    SETTINGS.write_text(written)
    # There is no journal here.
    configure("StandardOutput=append:%s\nStandardError=append:%s" % (LOG, LOG), "log")
    said = [run("bash", "-c", command) for command in start.splitlines()]
    for expected in (
        "handshake-rate",
        "0 problems",
        "Active: active (running)",
        f"serving {', '.join(LISTEN)} with engine ",
        "ok",
        "ringback_connections_open",
    ):
        if not any(expected in text for text in said):
            fail(f"nothing says {expected!r}: {said}")


def set_to(settings, name, value):
    changed, count = re.subn(rf"^# {name} = .*$", f"{name} = {value}", settings, flags=re.M)
    if count != 1:
        fail(f"deploy/ringback.toml has {count} lines for {name}")
    return changed


def configure(lines, name="test"):
    DROP_IN.mkdir(exist_ok=True)
    (DROP_IN / f"{name}.conf").write_text(f"[Service]\n{lines}\n")
    run("systemctl", "daemon-reload")


def unconfigure():
    (DROP_IN / "test.conf").unlink()
    run("systemctl", "daemon-reload")


def show(name):
    return run("systemctl", "show", "ringback", f"--property={name}", "--value").strip()


def fail(reason):
    log = LOG.read_text() if LOG.exists() else ""
    sys.exit(f"{reason}\nthe service says:\n{log}")


def wait_until(what, holds):
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        if time.monotonic() > deadline:
            fail(f"waited too long until {what}")
        time.sleep(0.02)


# ---- a client --------------------------------------------------------------------


class Client:
    """A WebSocket client that is enough for short messages."""

    def __init__(self, stream=None):
        self.stream = stream or socket.create_connection(ADDRESS, TIMEOUT_S)
        key = base64.b64encode(os.urandom(16)).decode()
        self.stream.sendall(
            f"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.take(1)
        if not head.startswith(b"HTTP/1.1 101 "):
            fail(f"no upgrade: {head}")

    def take(self, length):
        taken = b""
        while len(taken) < length:
            try:
                piece = self.stream.recv(length - len(taken))
            except OSError as error:
                fail(f"nothing comes from the server: {error}")
            if not piece:
                fail("the server has left")
            taken += piece
        return taken

    def send(self, opcode, payload):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        self.stream.sendall(bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked)

    def receive(self):
        first, length = self.take(2)
        return first & 0x0F, self.take(length)

    def echo(self, text):
        self.send(1, text.encode())
        answer = self.receive()
        if answer != (1, text.encode()):
            fail(f"sent {text!r}, got {answer}")

    def expect_going_away(self):
        opcode, payload = self.receive()
        if (opcode, payload[:2]) != (8, struct.pack("!H", 1001)):
            fail(f"no Close 1001 but {opcode}, {payload}")
        self.stream.close()


def ask(path):
    """The status and the body of an answer of the admin listener."""
    with socket.create_connection(ADMIN, TIMEOUT_S) as stream:
        stream.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while piece := stream.recv(65536):
            answer += piece
    head, body = answer.decode().split("\r\n\r\n", 1)
    return int(head.split()[1]), body


# ---- the checks --------------------------------------------------------------------


def service_is_hardened():
    Client().echo("hello")
    status = pathlib.Path(f"/proc/{show('MainPID')}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    if fields["Uid"].split()[0] == "0" or fields["NoNewPrivs"] != "1":
        fail(f"it runs with too many rights: {status}")
    if any(int(fields[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")):
        fail(f"it has capabilities: {status}")
    if ask("/healthz")[0] != 200 or "ringback_connections_open" not in ask("/metrics")[1]:
        fail("the admin listener does not answer")


def reload_loses_no_connection():
    before, client = show("MainPID"), Client()
    client.echo("before")
    run("systemctl", "reload", "ringback")
    after = show("MainPID")
    if after == before:
        fail("it is still the same process")
    client.expect_going_away()
    Client().echo("after")
    if ask("/healthz")[0] != 200:
        fail("the replacement has no admin listener")
    wait_until("the old process has drained", lambda: not os.path.exists(f"/proc/{before}"))
    if show("ActiveState") != "active" or show("MainPID") != after:
        fail("the service did not outlive its first process")


def reload_with_invalid_settings_fails():
    before, good = show("MainPID"), SETTINGS.read_text()
    certificate = 'tls-listen = ["127.0.0.1:9444"]\ntls-cert = "/none"\ntls-key = "/none"\n'
    reason = "cannot use /none for TLS: No such file"
    for settings, lines in (
        # The command reads the settings, too.
        ("window = 1\n", ["the window is 1 bytes"]),
        (certificate, [
            f"the reload failed, this server goes on: {reason}",
            f"ringback: the reload failed, process {before} goes on: {reason}",
        ]),
    ):
        SETTINGS.write_text(good + "\n" + settings)
        said = run("systemctl", "reload", "ringback", status=1)
        if "failed" not in said or show("MainPID") != before:
            fail(f"a reload of what is wrong: {said}")
        wait_until("the log says why", lambda: all(it in LOG.read_text() for it in lines))
    if reason not in show("StatusText"):
        fail(f"the status does not say why: {show('StatusText')}")
    SETTINGS.write_text(good)
    Client().echo("still here")
    run("systemctl", "reload", "ringback")


def watchdog_restarts_blocked_service():
    configure("WatchdogSec=2")
    run("systemctl", "restart", "ringback")
    before = int(show("MainPID"))
    restarts = int(show("NRestarts"))
    # Longer than the watchdog interval.
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        Client().echo("alive")
        time.sleep(0.1)
    if int(show("MainPID")) != before:
        fail("a healthy service was restarted")
    os.kill(before, 19)
    wait_until("the watchdog restarts it", lambda: int(show("NRestarts")) > restarts)
    wait_until("it is back", lambda: show("ActiveState") == "active")
    Client().echo("back")
    unconfigure()


def stop(client):
    """Stops the service, which waits for its clients as long as they do not answer."""
    run("systemctl", "stop", "--no-block", "ringback")
    client.expect_going_away()
    wait_until("it has stopped", lambda: show("ActiveState") == "inactive")


def stop_drains():
    client = Client()
    client.echo("there")
    stop(client)
    if show("Result") != "success" or show("ExecMainStatus") != "0":
        fail(f"it ended with {show('Result')}, {show('ExecMainStatus')}")


def socket_activation_starts_and_keeps_the_queue():
    run("systemctl", "disable", "ringback")
    run("install", "-m", "644", "deploy/ringback.socket", str(UNITS))
    run("systemctl", "daemon-reload")
    run("systemctl", "enable", "--now", "ringback.socket")
    if show("ActiveState") != "inactive":
        fail("it runs before a connection")
    client = Client()
    client.echo("first")
    # No connection is refused while there is no server.
    stop(client)
    Client().echo("second")
    # A reload during the start has no effect.
    wait_until("it is started", lambda: show("ActiveState") == "active")
    before, client = show("MainPID"), Client()
    run("systemctl", "reload", "ringback")
    client.expect_going_away()
    client = Client()
    client.echo("third")
    if show("MainPID") == before:
        fail("it is still the same process")
    run("systemctl", "disable", "--now", "ringback.socket")
    stop(client)


def tls_key_comes_from_credentials():
    directory = SETTINGS.parent
    certificate, key = directory / "cert.pem", directory / "key.pem"
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
        "-keyout", str(key), "-out", str(certificate),
    )
    key.chmod(0o600)
    configure(
        f"LoadCredential=key.pem:{key}\n"
        "Environment=RINGBACK_LISTEN=127.0.0.1:9002\n"
        "Environment=RINGBACK_TLS_LISTEN=127.0.0.1:9001\n"
        f"Environment=RINGBACK_TLS_CERT={certificate}\n"
        "Environment=RINGBACK_TLS_KEY=%d/key.pem"
    )
    run("systemctl", "start", "ringback")
    context = ssl.create_default_context(cafile=str(certificate))
    stream = socket.create_connection(ADDRESS, TIMEOUT_S)
    client = Client(context.wrap_socket(stream, server_hostname="localhost"))
    client.echo("secret")
    run("systemctl", "kill", "--signal=HUP", "ringback")
    wait_until("it has read the files again", lambda: "SIGHUP: new connections" in LOG.read_text())
    run("systemctl", "reload", "ringback")
    client.expect_going_away()
    run("systemctl", "stop", "ringback")


if __name__ == "__main__":
    main()
