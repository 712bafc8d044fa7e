#!/usr/bin/python3
"""A stand-in for cloud-hypervisor: answers libvirt on its API socket, writes down what is asked, has a serial port.

What is typed at the serial port comes back; the word ``poweroff`` ends the machine as a guest's own power-off would.
"""

import json
import os
import socket
import sys
import threading
import tty

ASKED = os.environ["CH_ASKED"]


def main(arguments):
    if "--version" in arguments:
        sys.stdout.write("cloud-hypervisor v44.0.0\n")
        return
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    listener = socket.socket(fileno=int(given["--api-socket"].removeprefix("fd=")))
    events = open(given["--event-monitor"].removeprefix("path="), "w", buffering=1)  # noqa: PTH123, SIM115
    machine = {"config": {}, "state": "Created"}
    guest, terminal = os.openpty()
    tty.setraw(terminal)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client, machine, events, guest, os.ttyname(terminal)), daemon=True).start()


def serve(client, machine, events, guest, terminal):
    with client, client.makefile("rb") as lines:
        while line := lines.readline():
            method, path, _ = line.decode().split()
            length = 0
            while (header := lines.readline().strip()) != b"":
                name, _, value = header.decode().partition(":")
                length = int(value) if name.lower() == "content-length" else length
            body = lines.read(length).decode()
            with open(ASKED, "a") as file:  # noqa: PTH123
                file.write(json.dumps([method, path.removeprefix("/api/v1/"), json.loads(body or "null")]) + "\n")
            answer = act(path.removeprefix("/api/v1/"), body, machine, events, guest, terminal)
            text = json.dumps(answer).encode() if answer is not None else b""
            status = "200 OK" if text else "204 No Content"
            client.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)


def act(path, body, machine, events, guest, terminal):
    if path == "vm.create":
        machine["config"] = json.loads(body)
        for name in ("serial", "console"):
            if name in machine["config"]:
                machine["config"][name]["file"] = terminal
    elif path == "vm.boot":
        machine["state"] = "Running"
        threading.Thread(target=run, args=(guest, events), daemon=True).start()
    elif path == "vm.shutdown":
        tell(events, "vm", "shutdown")
    elif path in ("vm.pause", "vm.resume"):
        machine["state"] = "Paused" if path == "vm.pause" else "Running"
    return machine if path == "vm.info" else None


def run(guest, events):
    os.write(guest, b"Linux version played\r\n")
    said = b""
    while True:
        typed = os.read(guest, 4096)
        os.write(guest, typed)
        said += typed
        if b"poweroff" in said:
            tell(events, "vm", "shutdown")
            return


def tell(events, source, event):
    stamp = {"secs": 0, "nanos": 0}
    events.write(json.dumps({"timestamp": stamp, "source": source, "event": event, "properties": None}) + "\n\n")


main(sys.argv[1:])
