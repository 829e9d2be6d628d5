"""Sends 64 MiB before it reads, as one message and as many: check.py URL CERTIFICATE"""

import os
import ssl
import sys

import websocket
from websockets.sync.client import connect

MIB = 1 << 20
SECONDS = 60

url, certificate = sys.argv[1:]
is_secure = url.startswith('wss:')


def check(send, receive):
    for messages in [os.urandom(64 * MIB)], [os.urandom(MIB) for _ in range(64)]:
        for message in messages:
            send(message)
        for message in messages:
            assert receive() == message


def with_websocket_client():
    client = websocket.create_connection(
        url, timeout=SECONDS, sslopt={'ca_certs': certificate} if is_secure else None)
    check(client.send_binary, client.recv)
    client.close()


def with_websockets():
    context = ssl.create_default_context(cafile=certificate) if is_secure else None
    with connect(url, ssl=context, max_size=None, compression=None) as client:
        check(client.send, lambda: client.recv(timeout=SECONDS))


with_websocket_client()
with_websockets()
