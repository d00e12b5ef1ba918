"""The upper layer protocol by hand (PS3.8), so that a scripted peer can say, stall and cut whatever a test needs.

Nothing here is shared with the product or with a toolkit: what it reads and counts is a witness of its own.
"""
import socket
import struct

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
APPLICATION = "1.2.840.10008.3.1.1.1"

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)


class Closed(Exception):
    """The other side closed the connection."""


class Aborted(Exception):
    """The other side sent A-ABORT."""


class Rejected(Exception):
    """The other side sent A-ASSOCIATE-RJ; `code` is (result, source, reason)."""

    def __init__(self, code):
        super().__init__("rejected %d/%d/%d" % code)
        self.code = code


def read_exactly(sock, count):
    pieces = []
    while count:
        piece = sock.recv(min(count, 1 << 20))
        if not piece:
            raise Closed()
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def read_pdu(sock):
    kind, _, length = struct.unpack(">BBI", read_exactly(sock, 6))
    body = read_exactly(sock, length)
    if kind == ABORT:
        raise Aborted()
    return kind, body


def pdu(kind, body):
    return struct.pack(">BBI", kind, 0, len(body)) + body


def item(kind, body):
    return struct.pack(">BBH", kind, 0, len(body)) + body


def title(text):
    return text.encode("ascii").ljust(16)[:16]


def items(body):
    at = 0
    while at + 4 <= len(body):
        kind, _, length = struct.unpack_from(">BBH", body, at)
        yield kind, body[at + 4:at + 4 + length]
        at += 4 + length


def associate_rq(called, calling, contexts, max_pdu=65536, class_uid=b"1.2.3.4", extra=b"", application=APPLICATION):
    """`contexts`: (id, abstract syntax, [transfer syntaxes]); names may be bytes to be sent as they are."""
    raw = lambda name: name if isinstance(name, bytes) else name.encode("ascii")
    body = struct.pack(">HH", 1, 0) + title(called) + title(calling) + bytes(32) + item(0x10, raw(application))
    for number, abstract, syntaxes in contexts:
        inner = bytes([number, 0, 0, 0]) + item(0x30, raw(abstract))
        body += item(0x20, inner + b"".join(item(0x40, raw(syntax)) for syntax in syntaxes))
    user = item(0x51, struct.pack(">I", max_pdu)) + item(0x52, class_uid) + item(0x55, b"SCRIPTED") + extra
    return pdu(ASSOCIATE_RQ, body + item(0x50, user))


UI, US, AE, UL = "UI", "US", "AE", "UL"


def element(tag, kind, value):
    if kind == US:
        value = struct.pack("<H", value)
    elif not isinstance(value, bytes):
        value = value.encode("ascii")
    if len(value) % 2:
        value += b"\0" if kind == UI else b" "
    return struct.pack("<HHI", 0, tag, len(value)) + value


def command_set(*elements):
    body = b"".join(element(*one) for one in elements)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def store_rq(message, sop_class, sop_instance, data_set=True):
    return command_set((0x0002, UI, sop_class), (0x0100, US, 0x0001), (0x0110, US, message), (0x0700, US, 0),
                       (0x0800, US, 0x0000 if data_set else 0x0101), (0x1000, UI, sop_instance))


def store_rsp(message, sop_class, sop_instance, status, comment=None):
    said = [(0x0902, AE, comment)] if comment else []
    return command_set((0x0002, UI, sop_class), (0x0100, US, 0x8001), (0x0120, US, message), (0x0800, US, 0x0101),
                       (0x0900, US, status), *said, (0x1000, UI, sop_instance))


def echo_rq(message):
    return command_set((0x0002, UI, VERIFICATION), (0x0100, US, 0x0030), (0x0110, US, message), (0x0800, US, 0x0101))


def echo_rsp(message):
    return command_set((0x0002, UI, VERIFICATION), (0x0100, US, 0x8030), (0x0120, US, message),
                       (0x0800, US, 0x0101), (0x0900, US, 0))


def parse_command(body):
    found, at = {}, 0
    while at + 8 <= len(body):
        _, tag, length = struct.unpack_from("<HHI", body, at)
        found[tag] = body[at + 8:at + 8 + length]
        at += 8 + length
    number = lambda tag: struct.unpack("<H", found[tag])[0] if tag in found else None
    text = lambda tag: found.get(tag, b"").rstrip(b"\0 ").decode("ascii", "replace")
    return {"field": number(0x0100), "message": number(0x0110), "answers": number(0x0120), "status": number(0x0900),
            "data_set": number(0x0800) != 0x0101, "class": text(0x0002), "instance": text(0x1000),
            "comment": text(0x0902)}


def pdata(context, flags, fragment):
    return struct.pack(">BBIIBB", DATA, 0, len(fragment) + 6, len(fragment) + 2, context, flags) + fragment


def fragments(context, is_command, body, max_pdu):
    room = (max_pdu or 131072) - 6
    for at in range(0, max(len(body), 1), room):
        last = at + room >= len(body)
        yield pdata(context, (1 if is_command else 0) | (2 if last else 0), body[at:at + room])


def pdvs(body):
    at = 0
    while at < len(body):
        length, context, flags = struct.unpack_from(">IBB", body, at)
        yield context, flags, memoryview(body)[at + 6:at + 4 + length]
        at += 4 + length


class Association:
    """The requestor's side. `contexts` as for `associate_rq`; `accepted` maps ids to transfer syntaxes."""

    def __init__(self, port, called, calling, contexts, timeout=60, request=None, **more):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.message = 0
        self.sock.sendall(request or associate_rq(called, calling, contexts, **more))
        kind, body = read_pdu(self.sock)
        if kind == ASSOCIATE_RJ:
            raise Rejected(tuple(body[1:4]))
        assert kind == ASSOCIATE_AC, kind
        self.accepted, self.results, self.max_pdu = {}, {}, 16384
        for kind, inner in items(body[68:]):
            if kind == 0x21:
                self.results[inner[0]] = inner[2]
                if inner[2] == 0:
                    syntax = dict(items(inner[4:]))[0x40]
                    self.accepted[inner[0]] = syntax.rstrip(b"\0 ").decode("ascii")
            if kind == 0x50:
                self.max_pdu = struct.unpack(">I", dict(items(inner))[0x51])[0]

    def send(self, context, command, data=None):
        self.message += 1
        for piece in fragments(context, True, command, self.max_pdu):
            self.sock.sendall(piece)
        if data is not None:
            for piece in fragments(context, False, data, self.max_pdu):
                self.sock.sendall(piece)

    def answer(self):
        body = b""
        while True:
            kind, data = read_pdu(self.sock)
            assert kind == DATA, kind
            for _, flags, fragment in pdvs(data):
                body += fragment
                if flags & 2:
                    return parse_command(body)

    def store(self, context, sop_class, sop_instance, data):
        self.send(context, store_rq(self.message + 1, sop_class, sop_instance), data)
        return self.answer()

    def echo(self, context):
        self.send(context, echo_rq(self.message + 1))
        return self.answer()["status"]

    def release(self):
        self.sock.sendall(pdu(RELEASE_RQ, bytes(4)))
        kind, _ = read_pdu(self.sock)
        assert kind == RELEASE_RP, kind
        self.sock.close()

    def abort(self):
        self.sock.sendall(pdu(ABORT, bytes(4)))
        self.sock.close()
