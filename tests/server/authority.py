"""An upstream for a stub that runs in a process of its own."""

from __future__ import annotations

import socket
import threading

import dns.message
import dns.rrset
from served import LIMIT


class Authority:
    """An upstream in a thread that answers anything with its own address."""

    def __init__(self, address="192.0.2.1"):
        self.address = address
        self.count = 0
        self.gate = threading.Event()
        self.gate.set()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while True:
            data, client = self._socket.recvfrom(4096)
            if not data:
                return
            self.count += 1
            self.gate.wait(LIMIT)
            asked = dns.message.from_wire(data)
            reply = dns.message.make_response(asked)
            name = asked.question[0].name
            reply.answer.append(dns.rrset.from_text(name, 300, "IN", "A", self.address))
            self._socket.sendto(reply.to_wire(), client)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.gate.set()
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()
