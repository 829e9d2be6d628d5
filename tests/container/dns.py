"""A name server with one name: dns.py NAME ADDRESS. Prints "ready" when it listens on
port 53 of loopback."""

import socket
import struct
import sys

name, address = sys.argv[1:]
question_name = b''.join(bytes([len(label)]) + label.encode() for label in name.split('.')) + b'\0'
A, OK, NO_SUCH_NAME = 1, 0x8180, 0x8183

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
    listener.bind(('127.0.0.1', 53))
    print('ready', flush=True)
    while True:
        query, client = listener.recvfrom(512)
        end = query.index(b'\0', 12) + 1
        kind = struct.unpack('!H', query[end:end + 2])[0]
        is_known = query[12:end].lower() == question_name
        answers = [address] if is_known and kind == A else []
        flags = OK if is_known else NO_SUCH_NAME
        reply = query[:2] + struct.pack('!HHHHH', flags, 1, len(answers), 0, 0)
        reply += query[12:end + 4]
        for answer in answers:
            reply += struct.pack('!HHHIH', 0xC00C, A, 1, 60, 4) + socket.inet_aton(answer)
        listener.sendto(reply, client)
