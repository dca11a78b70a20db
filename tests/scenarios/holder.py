"""A workload that speaks hand-made HTTP/2, so that it can do what no client library does.

    holder.py hold SOCKET [COMMAND...]
    holder.py heir SOCKET

`hold` opens a stream and prints `served` when its SVIDs came, then waits for a line; with COMMAND it executes that, the
connection still open. `heir` connects, forks and lets the parent end; the child prints the parent's number, waits for
a line, and calls over the inherited connection. Either prints `status N` when its call ends.
"""

from __future__ import annotations

import os
import socket
import sys
import time

import h2.config
import h2.connection
import h2.events

HEADERS = [(":method", "POST"), (":scheme", "http"), (":path", "/SpiffeWorkloadAPI/FetchX509SVID"),
           (":authority", "x"), ("te", "trailers"), ("content-type", "application/grpc"), ("workload.spiffe.io", "true")]  # fmt: skip


def main(mode: str, path: str, command: list[str]) -> None:
    connection = socket.socket(socket.AF_UNIX)
    connection.set_inheritable(True)
    connection.connect(path)
    if mode == "heir":
        outlive_parent()
    http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="ascii"))
    http.initiate_connection()
    http.send_headers(1, HEADERS)
    http.send_data(1, b"\0\0\0\0\0", end_stream=True)
    connection.sendall(http.data_to_send())
    while data := connection.recv(65536):
        for event in http.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                print("served", flush=True)
                sys.stdin.readline()
                if command:
                    os.execv(command[0], command)
            elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                status = dict(event.headers).get("grpc-status")
                if status is not None:
                    print("status", status, flush=True)
                    return
        connection.sendall(http.data_to_send())


def outlive_parent() -> None:
    parent = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == parent:
        time.sleep(0.01)
    print(parent, flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
