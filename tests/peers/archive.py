"""A scripted archive: it stores, refuses, stalls, cuts and misbehaves as the behaviour file says, and keeps a journal.

usage: archive.py PORT JOURNAL BEHAVIOUR [KEEP]

BEHAVIOUR is a JSON file, read anew for each association and each instance:
  {"mode": "ok"}                               store and answer 0000
  {"mode": "status", "status": 42752}          answer that status
  {"mode": "slow", "ms": 300}                  answer late
  {"mode": "abort", "after": 4096}             A-ABORT when so many bytes of a data set have come
  {"mode": "drop", "after": 4096}              close the socket instead
  {"mode": "silent"}                           take the data set and never answer
  {"mode": "mute"}                             take the connection and never answer the request
  {"mode": "reject", "code": [2, 1, 2]}        A-ASSOCIATE-RJ
  {"mode": "wrong-message"}                    answer another message id
with, in addition, "refuse": [SOP class UIDs] (their contexts), "classes": {UID: status}, "instances": {UID: status} and
"cut": [SOP Instance UIDs] (A-ABORT in the middle of these), "comment": an Error Comment for refusals, and "hash_only": true,
which keeps no data set, for very long ones.
KEEP is a folder for the data sets as they came. Each journal line is one JSON object; `stored` is written before the answer.
"""
import hashlib
import json
import os
import socket
import struct
import sys
import threading
import time

import wire


class Journal:
    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, event, **facts):
        line = json.dumps(dict(facts, event=event, t=time.time())) + "\n"
        os.write(self.file, line.encode("ascii"))


class Serving:
    """One association as acceptor."""

    def __init__(self, sock, journal, behaviour, keep, number):
        self.sock, self.journal, self.read_behaviour, self.keep, self.number = sock, journal, behaviour, keep, number
        self.contexts = {}
        self.stored = 0

    def run(self):
        try:
            if self.associate():
                while self.message():
                    pass
        except (wire.Closed, wire.Aborted, OSError) as error:
            self.journal.write("ended", association=self.number, how=type(error).__name__)
        finally:
            self.sock.close()

    def associate(self):
        kind, body = wire.read_pdu(self.sock)
        assert kind == wire.ASSOCIATE_RQ, kind
        behaviour = self.read_behaviour()
        calling = body[20:36].decode("ascii", "replace").strip()
        self.journal.write("association", association=self.number, calling=calling, mode=behaviour["mode"])
        if behaviour["mode"] == "mute":
            self.sock.recv(1)
            return False
        if behaviour["mode"] == "reject":
            self.sock.sendall(wire.pdu(wire.ASSOCIATE_RJ, bytes([0] + behaviour["code"])))
            return False
        answer = body[:4] + body[4:68] + wire.item(0x10, wire.APPLICATION.encode("ascii"))
        for kind, inner in wire.items(body[68:]):
            if kind == 0x20:
                answer += self.context(inner, behaviour.get("refuse", []))
        user = wire.item(0x51, struct.pack(">I", 65536)) + wire.item(0x52, b"1.2.3.5")
        self.sock.sendall(wire.pdu(wire.ASSOCIATE_AC, answer + wire.item(0x50, user)))
        return True

    def context(self, inner, refuse):
        names = [(kind, text.rstrip(b"\0 ").decode("ascii")) for kind, text in wire.items(inner[4:])]
        abstract = next(text for kind, text in names if kind == 0x30)
        syntax = next(text for kind, text in names if kind == 0x40)
        result = 3 if abstract in refuse else 0
        if result == 0:
            self.contexts[inner[0]] = (abstract, syntax)
        return wire.item(0x21, bytes([inner[0], 0, result, 0]) + wire.item(0x40, syntax.encode("ascii")))

    def message(self):
        kind, body = wire.read_pdu(self.sock)
        if kind == wire.RELEASE_RQ:
            self.sock.sendall(wire.pdu(wire.RELEASE_RP, bytes(4)))
            self.journal.write("released", association=self.number, stored=self.stored)
            return False
        command = b""
        while True:
            pieces = list(wire.pdvs(body))
            command += b"".join(bytes(fragment) for _, flags, fragment in pieces if flags & 1)
            if any(flags & 3 == 3 for _, flags, _ in pieces):
                break
            _, body = wire.read_pdu(self.sock)
        request = wire.parse_command(command)
        context = pieces[0][0]
        if request["field"] == 0x0030:
            self.journal.write("echo", association=self.number)
            self.reply(context, wire.echo_rsp(request["message"]))
            return True
        return self.store(context, request, [piece for piece in pieces if not piece[1] & 1])

    def reply(self, context, command):
        self.sock.sendall(wire.pdata(context, 3, command))

    def store(self, context, request, early):
        behaviour = self.read_behaviour()
        sop, mode = request["instance"], behaviour["mode"]
        facts = {"association": self.number, "sop": sop, "class": request["class"], "context": context}
        data = Data(not behaviour.get("hash_only"))
        if not self.data_set(data, facts, behaviour, early):
            return False
        status = behaviour["status"] if mode == "status" else 0
        status = behaviour.get("classes", {}).get(request["class"], status)
        status = behaviour.get("instances", {}).get(sop, status)
        if mode == "slow":
            time.sleep(behaviour["ms"] / 1000)
        facts.update(syntax=self.contexts[context][1], sha256=data.digest.hexdigest(), bytes=data.length)
        if mode == "silent":
            self.journal.write("unanswered", **facts)
            self.sock.recv(1)
            return False
        stored = status in (0, 0xB000, 0xB006, 0xB007)
        if stored and self.keep and data.pieces is not None:
            self.store_file(sop, b"".join(data.pieces))
        self.stored += stored
        self.journal.write("stored" if stored else "refused", status=status, **facts)
        message = request["message"] + (7 if mode == "wrong-message" else 0)
        comment = None if stored else behaviour.get("comment")
        self.reply(context, wire.store_rsp(message, request["class"], sop, status, comment))
        return True

    def store_file(self, sop, data):
        name = os.path.join(self.keep, "%s.%s.%d" % (sop, self.number, self.stored))
        with open(name, "wb") as file:
            file.write(data)

    def data_set(self, data, facts, behaviour, pieces):
        """Whether it came to its end."""
        mode, cut = behaviour["mode"], behaviour.get("after", 4096)
        if facts["sop"] in behaviour.get("cut", []):
            mode = "abort"
        try:
            while True:
                for _, flags, fragment in pieces:
                    data.add(fragment)
                    if mode in ("abort", "drop") and data.length >= cut:
                        self.journal.write("cut", bytes=data.length, **facts)
                        if mode == "abort":
                            self.sock.sendall(wire.pdu(wire.ABORT, bytes(4)))
                        return False
                    if flags & 2:
                        return True
                _, body = wire.read_pdu(self.sock)
                pieces = wire.pdvs(body)
        except (wire.Closed, wire.Aborted, OSError):
            self.journal.write("partial", bytes=data.length, **facts)
            raise


class Data:
    """A data set as it comes."""

    def __init__(self, keep):
        self.digest, self.length, self.pieces = hashlib.sha256(), 0, [] if keep else None

    def add(self, fragment):
        self.digest.update(fragment)
        self.length += len(fragment)
        if self.pieces is not None:
            self.pieces.append(bytes(fragment))


def main():
    port, journal, behaviour_file = int(sys.argv[1]), Journal(sys.argv[2]), sys.argv[3]
    keep = sys.argv[4] if len(sys.argv) > 4 else None

    def behaviour():
        with open(behaviour_file, encoding="utf-8") as file:
            return json.load(file)

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(64)
    print("ready", flush=True)
    number = 0
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number += 1
        serving = Serving(sock, journal, behaviour, keep, "%d.%d" % (os.getpid(), number))
        threading.Thread(target=serving.run, daemon=True).start()


if __name__ == "__main__":
    main()
