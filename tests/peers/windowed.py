"""An archive with asynchronous operations: it takes several instances before it answers any, the last one first.

usage: windowed.py PORT FOLDER JOURNAL WINDOW CUTS SYNTAX[+SYNTAX...]

It accepts these transfer syntaxes of every class, lets WINDOW operations be outstanding, and waits until as many are, or until
nothing has come for a moment. The first CUTS times that several are outstanding it answers one, keeps the others, and closes the
connection. Each instance is a Part 10 file in FOLDER, a repeated one over the earlier. The journal has a line for each answer:
how many were outstanding, and in which syntaxes they came.
"""
import json
import os
import select
import socket
import struct
import sys
import threading

import wire

QUIET = 0.3


def part10(sop_class, sop, syntax, data):
    def element(number, vr, value):
        value += b"\0" if len(value) % 2 else b""
        if vr == b"OB":
            return struct.pack("<HH2sHI", 2, number, vr, 0, len(value)) + value
        return struct.pack("<HH2sH", 2, number, vr, len(value)) + value
    meta = element(1, b"OB", b"\0\1") + element(2, b"UI", sop_class.encode()) + element(3, b"UI", sop.encode())
    meta += element(16, b"UI", syntax.encode()) + element(18, b"UI", b"1.2.3.6")
    return bytes(128) + b"DICM" + element(0, b"UL", struct.pack("<I", len(meta))) + meta + data


class Shared:
    def __init__(self, folder, journal, window, cuts, syntaxes):
        self.folder, self.window, self.cuts, self.syntaxes = folder, window, cuts, syntaxes
        self.journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.lock = threading.Lock()

    def cut_now(self):
        with self.lock:
            self.cuts -= 1
            return self.cuts >= 0

    def note(self, **facts):
        os.write(self.journal, (json.dumps(facts) + "\n").encode())


class Serving:
    def __init__(self, sock, shared):
        self.sock, self.shared, self.contexts, self.window = sock, shared, {}, 1

    def run(self):
        try:
            self.associate()
            self.serve()
        except (wire.Closed, wire.Aborted, OSError):
            pass
        finally:
            self.sock.close()

    def associate(self):
        _, body = wire.read_pdu(self.sock)
        answer = body[:68] + wire.item(0x10, wire.APPLICATION.encode())
        user = wire.item(0x51, struct.pack(">I", 65536)) + wire.item(0x52, b"1.2.3.6")
        for kind, inner in wire.items(body[68:]):
            if kind == 0x20:
                answer += self.context(inner)
            elif kind == 0x50:
                asked = dict(wire.items(inner)).get(0x53)
                if asked:
                    self.window = min(struct.unpack(">HH", asked)[0] or 65535, self.shared.window)
                    user += wire.item(0x53, struct.pack(">HH", self.window, 1))
        self.sock.sendall(wire.pdu(wire.ASSOCIATE_AC, answer + wire.item(0x50, user)))

    def context(self, inner):
        names = {kind: text.rstrip(b"\0 ").decode() for kind, text in wire.items(inner[4:])}
        taken = names[0x40] in self.shared.syntaxes or names[0x30] == wire.VERIFICATION
        if taken:
            self.contexts[inner[0]] = (names[0x30], names[0x40])
        return wire.item(0x21, bytes([inner[0], 0, 0 if taken else 4, 0]) + wire.item(0x40, names[0x40].encode()))

    def serve(self):
        pending = []
        command, data, request = b"", [], None
        while True:
            if len(pending) >= self.window or pending and not select.select([self.sock], [], [], QUIET)[0]:
                if not self.answer(pending):
                    return
                pending = []
            kind, body = wire.read_pdu(self.sock)
            if kind == wire.RELEASE_RQ:
                assert not pending, "released with answers outstanding"
                self.sock.sendall(wire.pdu(wire.RELEASE_RP, bytes(4)))
                return
            for context, flags, fragment in wire.pdvs(body):
                if flags & 1:
                    command += bytes(fragment)
                    if flags & 2:
                        request, command = wire.parse_command(command), b""
                        if request["field"] == 0x0030:
                            self.sock.sendall(wire.pdata(context, 3, wire.echo_rsp(request["message"])))
                    continue
                data.append(bytes(fragment))
                if flags & 2:
                    self.keep(context, request, b"".join(data))
                    pending.append((context, request))
                    data = []

    def keep(self, context, request, data):
        sop_class, syntax = self.contexts[context]
        path = os.path.join(self.shared.folder, request["instance"] + ".dcm")
        new = "%s.%d.new" % (path, threading.get_ident())
        with open(new, "wb") as file:
            file.write(part10(sop_class, request["instance"], syntax, data))
        os.rename(new, path)

    def answer(self, pending):
        cut = len(pending) > 1 and self.shared.cut_now()
        self.shared.note(outstanding=len(pending), cut=cut, syntaxes=[self.contexts[context][1] for context, _ in pending])
        for context, request in reversed(pending[-1:] if cut else pending):
            answer = wire.store_rsp(request["message"], request["class"], request["instance"], 0)
            self.sock.sendall(wire.pdata(context, 3, answer))
        return not cut


def main():
    port, folder, journal, window, cuts, syntaxes = sys.argv[1:7]
    os.makedirs(folder, exist_ok=True)
    shared = Shared(folder, journal, int(window), int(cuts), set(syntaxes.split("+")))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(port)))
    listener.listen(64)
    print("ready", flush=True)
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=Serving(sock, shared).run, daemon=True).start()


if __name__ == "__main__":
    main()
