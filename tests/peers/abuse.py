"""What hostile cases share: bytes said to a port, and what is heard, as words.

`heard` answers such as "ac abort 2/6 closed", "rj 1/1/7 closed", "ac 0000 rp closed", "ac closed", or ends with "open"
when the other side kept the connection beyond every deadline of the test box.
"""
import socket
import struct
import time

import modality
import wire
from modality import explicit, explicit_header, fresh_uid, head

CALLED, CALLING = "WAYSTATION", "CT1"
#: The box's deadlines are 1.5 s in the tests; a connection that outlives this is open.
PATIENCE = 9


def contexts():
    return [(1, wire.CT, [wire.EXPLICIT]), (3, wire.VERIFICATION, [wire.IMPLICIT])]


def request(called=CALLED, calling=CALLING, proposed=None, **more):
    return wire.associate_rq(called, calling, contexts() if proposed is None else proposed, **more)


def raw_request(variable, version=1, called=CALLED, calling=CALLING):
    """An A-ASSOCIATE-RQ with this variable part; AE titles may be bytes."""
    name = lambda text: (text if isinstance(text, bytes) else text.encode("ascii")).ljust(16)[:16]
    body = struct.pack(">HH", version, 0) + name(called) + name(calling) + bytes(32) + variable
    return wire.pdu(wire.ASSOCIATE_RQ, body)


def application(name=None):
    return wire.item(0x10, (name if name is not None else wire.APPLICATION).encode("ascii"))


def context(number=1, abstract=wire.CT, syntaxes=(wire.EXPLICIT,)):
    raw = lambda name: name if isinstance(name, bytes) else name.encode("ascii")
    inner = bytes([number, 0, 0, 0]) + wire.item(0x30, raw(abstract))
    return wire.item(0x20, inner + b"".join(wire.item(0x40, raw(syntax)) for syntax in syntaxes))


def user(*more):
    return wire.item(0x50, wire.item(0x51, struct.pack(">I", 16384)) + wire.item(0x52, b"1.2.3.4.5") + b"".join(more))


def command(body, number=3):
    return b"".join(wire.fragments(number, True, body, 16384))


def echo():
    return command(wire.echo_rq(1))


def release():
    return wire.pdu(wire.RELEASE_RQ, bytes(4))


def store(data, uid=None, sop_class=wire.CT, number=1, last=True, rq=None):
    """A C-STORE-RQ and its data set; a UID that is not given is a fresh one."""
    uid = uid or fresh_uid()
    body = data(uid) if callable(data) else data
    whole = command(rq or wire.store_rq(1, sop_class, uid), number)
    pieces = list(wire.fragments(number, False, body, 65536))
    if not last:
        pieces = [piece[:11] + bytes([piece[11] & 1]) + piece[12:] for piece in pieces]
    return whole + b"".join(pieces)


def good(uid):
    return modality.data_set(wire.CT, uid, bytes(64))


def connect(port, timeout=PATIENCE):
    sock = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def heard(port, *said, pause=0.0, ends=False, sock=None):
    """Says all of it, then listens to the end. `ends`: our side is closed after the last word."""
    sock = sock or connect(port)
    lost = False
    try:
        for piece in said:
            try:
                sock.sendall(piece)
            except OSError:
                lost = True
                break
            if pause:
                time.sleep(pause)
        if ends and not lost:
            try:
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        return listen(sock)
    finally:
        sock.close()


def listen(sock):
    words, buffer, said = [], b"", []
    end = time.time() + PATIENCE
    while True:
        try:
            sock.settimeout(max(0.01, end - time.time()))
            piece = sock.recv(65536)
        except (TimeoutError, socket.timeout):
            words.append("open")
            break
        except OSError:
            piece = b""
        if not piece:
            words.append("closed")
            break
        buffer += piece
        while len(buffer) >= 6:
            kind, _, length = struct.unpack(">BBI", buffer[:6])
            if len(buffer) < 6 + length:
                break
            words += word(kind, buffer[6:6 + length], said)
            buffer = buffer[6 + length:]
    if buffer:
        words.insert(-1, "rest")
    return " ".join(words)


def word(kind, body, said):
    """The word for a PDU; none for the part of a command. `said` gathers those."""
    if kind == wire.ASSOCIATE_AC:
        results = [inner[2] for kind, inner in wire.items(body[68:]) if kind == 0x21]
        return ["ac" if not any(results) else "ac" + "".join("/%d" % result for result in results)]
    if kind == wire.ASSOCIATE_RJ:
        return ["rj %d/%d/%d" % tuple(body[1:4])]
    if kind == wire.ABORT:
        return ["abort %d/%d" % (body[2], body[3])]
    if kind == wire.RELEASE_RP:
        return ["rp"]
    if kind != wire.DATA:
        return ["pdu%d" % kind]
    words = []
    for _, flags, fragment in wire.pdvs(body):
        said.append(bytes(fragment))
        if flags & 2:
            words.append("%04X" % wire.parse_command(b"".join(said))["status"])
            said.clear()
    return words


def implicit(group, number, value, length=None):
    value = value if isinstance(value, bytes) else value.encode("ascii")
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", group, number, len(value) if length is None else length) + value


def big(group, number, vr, value):
    value = value if isinstance(value, bytes) else value.encode("ascii")
    value += b"\0" * (len(value) % 2)
    return struct.pack(">HH2sH", group, number, vr.encode("ascii"), len(value)) + value


def nested(depth, closed=True, lengths=False):
    """Sequences in sequences; with undefined lengths, or defined ones."""
    if lengths:
        inner = b""
        for _ in range(depth):
            item = struct.pack("<HHI", 0xfffe, 0xe000, len(inner)) + inner
            inner = explicit_header(0x0040, 0x0275, "SQ", len(item)) + item
        return inner
    opening = explicit_header(0x0040, 0x0275, "SQ", 0xffffffff) + struct.pack("<HHI", 0xfffe, 0xe000, 0xffffffff)
    closing = struct.pack("<HHIHHI", 0xfffe, 0xe00d, 0, 0xfffe, 0xe0dd, 0)
    return opening * depth + (closing * depth if closed else b"")


def with_head(*more):
    return lambda uid: head(wire.CT, uid) + b"".join(more)


__all__ = [name for name in dir() if not name.startswith("_")]
