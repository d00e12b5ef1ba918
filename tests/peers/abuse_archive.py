"""Hostile archives: what a destination may say to the box. Each must cost its own lane and nothing else.

A behaviour takes the accepted socket. `OUTCOMES` says what becomes of a job for it: "delivered" only where the archive
really answered the question; everything else stays in the spool, waiting or held.
"""
import random
import socket
import struct
import threading
import time

import wire

BEHAVIOURS, OUTCOMES = {}, {}
HELD, WAITS, DELIVERED = "held", "waits", "delivered"


def behaves(outcome):
    def register(function):
        name = function.__name__
        BEHAVIOURS[name], OUTCOMES[name] = function, outcome
        return function
    return register


def request(sock):
    kind, body = wire.read_pdu(sock)
    assert kind == wire.ASSOCIATE_RQ, kind
    return body


def accept_bytes(body, result=0, syntax=None, number=None, extra=b""):
    answer = body[:68] + wire.item(0x10, wire.APPLICATION.encode("ascii"))
    for kind, inner in wire.items(body[68:]):
        if kind == 0x20:
            own = syntax or dict(wire.items(inner[4:]))[0x40]
            answer += wire.item(0x21, bytes([number or inner[0], 0, result, 0]) + wire.item(0x40, own))
    answer += wire.item(0x50, wire.item(0x51, struct.pack(">I", 16384)) + wire.item(0x52, b"1.2.3")) + extra
    return wire.pdu(wire.ASSOCIATE_AC, answer)


def accept(sock, **more):
    sock.sendall(accept_bytes(request(sock), **more))


def message(sock):
    """The context and the command of the next message, its data set read; a release is answered and ends it all."""
    command, request, context = b"", None, 0
    while True:
        kind, body = wire.read_pdu(sock)
        if kind == wire.RELEASE_RQ:
            sock.sendall(wire.pdu(wire.RELEASE_RP, bytes(4)))
            raise wire.Closed()
        for context, flags, fragment in wire.pdvs(body):
            if flags & 1:
                command += bytes(fragment)
            if flags & 3 == 3:
                request = wire.parse_command(command)
                if not request["data_set"]:
                    return context, request
            if flags & 3 == 2:
                return context, request


def answering(make):
    """An archive that accepts, and answers each request with the bytes of `make(context, request)`."""
    def behave(sock):
        accept(sock)
        while True:
            sock.sendall(make(*message(sock)))
    return behave


def answers(name, outcome, make):
    behave = answering(make)
    behave.__name__ = name
    behaves(outcome)(behave)


def stays(sock):
    try:
        while sock.recv(65536):
            pass
    except OSError:
        pass


def say(name, outcome, said, reads=True):
    def behave(sock):
        if reads:
            request(sock)
        sock.sendall(said)
        stays(sock)
    behave.__name__ = name
    behaves(outcome)(behave)


say("silent", WAITS, b"", reads=False)
say("noise", WAITS, random.Random(5).randbytes(50_000), reads=False)
say("http", WAITS, b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", reads=False)
say("unknown_pdu", WAITS, wire.pdu(99, bytes(4)))
say("a_request_back", WAITS, wire.associate_rq("A", "B", [(1, wire.CT, [wire.EXPLICIT])]))
say("accept_of_4_gib", WAITS, struct.pack(">BBI", 2, 0, 0xffffffff) + bytes(100_000))
say("accept_of_10_bytes", WAITS, wire.pdu(2, bytes(10)))
say("accept_with_item_overrun", WAITS, wire.pdu(2, bytes(68) + b"\x21\0\xff\xff\1\0\0\0"))
say("half_an_accept", WAITS, wire.pdu(2, bytes(500))[:200])
say("reject_of_the_title", WAITS, wire.pdu(3, b"\0\1\1\7"))
say("reject_of_noise", WAITS, wire.pdu(3, b"\xff\xff\xff\xff"))
say("reject_of_0_bytes", WAITS, wire.pdu(3, b""))
say("accept_without_contexts", HELD, wire.pdu(2, struct.pack(">HH", 1, 0) + bytes(64)))


@behaves(WAITS)
def closes_at_once(_sock):
    pass


@behaves(HELD)
def accepts_another_syntax(sock):
    accept(sock, syntax=b"1.2.840.10008.1.2.4.50")
    stays(sock)


@behaves(HELD)
def accepts_another_context(sock):
    accept(sock, number=201)
    stays(sock)


@behaves(WAITS)
def aborts_after_the_accept(sock):
    accept(sock)
    sock.sendall(wire.pdu(wire.ABORT, bytes(4)))


@behaves(WAITS)
def releases_after_the_accept(sock):
    accept(sock)
    sock.sendall(wire.pdu(wire.RELEASE_RQ, bytes(4)))
    stays(sock)


@behaves(WAITS)
def accepts_twice(sock):
    accept(sock)
    sock.sendall(wire.pdu(2, bytes(68)))
    stays(sock)


@behaves(WAITS)
def closes_in_the_data(sock):
    accept(sock)
    wire.read_exactly(sock, 150)


@behaves(WAITS)
def never_reads(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    accept(sock)
    time.sleep(60)


def rsp(request, **other):
    use = dict(message=request["message"], sop_class=request["class"], sop_instance=request["instance"], status=0)
    use.update(other)
    return wire.store_rsp(**use)


def pdv(context, command):
    return wire.pdata(context, 3, command)


def otherwise(store):
    """`store` answers a C-STORE; a C-ECHO is answered in order, so that the instance is to blame."""
    return lambda context, request: pdv(context, wire.echo_rsp(request["message"])) if request["field"] == 0x30 else store(context, request)


answers("another_message", HELD, otherwise(lambda c, r: pdv(c, rsp(r, message=r["message"] + 9))))
answers("another_instance", HELD, otherwise(lambda c, r: pdv(c, rsp(r, sop_instance="1.2.3.4"))))
answers("an_echo_answer", HELD, otherwise(lambda c, r: pdv(c, wire.echo_rsp(r["message"]))))
answers("an_answer_of_noise", HELD, otherwise(lambda c, r: pdv(c, b"\xde\xad" * 200)))
answers("an_answer_without_status", HELD, otherwise(lambda c, r: pdv(c, wire.command_set((0x100, "US", 0x8001), (0x120, "US", r["message"]), (0x800, "US", 0x101)))))
answers("an_answer_on_another_context", HELD, otherwise(lambda c, r: pdv(c + 2, rsp(r))))
answers("an_answer_of_4_gib", HELD, otherwise(lambda c, r: struct.pack(">BBI", 4, 0, 0xffffffff) + bytes(1000)))
answers("endless_empty_pdus", HELD, otherwise(lambda c, r: wire.pdu(4, b"") * 5000))
answers("a_command_without_end", HELD, otherwise(lambda c, r: wire.pdata(c, 1, b"\0" * 8000) * 20))
answers("release_for_an_answer", HELD, otherwise(lambda c, r: wire.pdu(5, bytes(4))))
answers("abort_for_an_answer", HELD, otherwise(lambda c, r: wire.pdu(7, bytes(4))))
answers("silence_for_an_answer", HELD, otherwise(lambda c, r: b""))
answers("an_unknown_status", HELD, otherwise(lambda c, r: pdv(c, rsp(r, status=0xfedc))))
answers("pending_for_ever", HELD, otherwise(lambda c, r: pdv(c, rsp(r, status=0xff00))))
answers("a_hostile_comment", HELD, otherwise(lambda c, r: pdv(c, rsp(r, status=0xc001, comment="\x1b[2J\r\n{\"level\":\"x\"}" + "A" * 40))))
answers("out_of_resources", WAITS, otherwise(lambda c, r: pdv(c, rsp(r, status=0xa700))))


@behaves(DELIVERED)
def dripped(sock):
    accept(sock)
    while True:
        context, request = message(sock)
        said = wire.echo_rsp(request["message"]) if request["field"] == 0x30 else rsp(request)
        for byte in pdv(context, said):
            sock.sendall(bytes([byte]))
            time.sleep(0.001)


class Archives:
    """All behaviours, each on its port."""

    def __init__(self, ports):
        assert len(ports) >= len(BEHAVIOURS), "%d ports for %d behaviours" % (len(ports), len(BEHAVIOURS))
        self.names = dict(zip(BEHAVIOURS, ports))
        self.listeners = []
        for name, port in self.names.items():
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen(16)
            self.listeners.append(listener)
            threading.Thread(target=self.serve, args=(listener, BEHAVIOURS[name]), daemon=True).start()

    def serve(self, listener, behave):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(sock, behave), daemon=True).start()

    @staticmethod
    def one(sock, behave):
        try:
            sock.settimeout(30)
            behave(sock)
        except (OSError, wire.Closed, wire.Aborted, AssertionError):
            pass
        finally:
            sock.close()

    def close(self):
        for listener in self.listeners:
            listener.close()
