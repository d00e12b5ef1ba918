"""The top-level elements of a data set as byte ranges, in every native transfer syntax: a second opinion on our edits."""
import struct
import zlib

from part10 import LONG

IMPLICIT = "1.2.840.10008.1.2"
BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
UNDEFINED = 0xffffffff


def elements(data, syntax):
    """[(tag, bytes of the whole element)] in their order in the data set."""
    if syntax == DEFLATED:
        data = zlib.decompressobj(-15).decompress(data)
    order, explicit = (">" if syntax == BIG else "<"), syntax != IMPLICIT
    found, at = [], 0
    while at + 8 <= len(data):
        tag, end = element_end(data, at, order, explicit)
        found.append((tag, bytes(data[at:end])))
        at = end
    if at < len(data):
        found.append((None, bytes(data[at:])))
    return found


def complete(data, syntax):
    """Whether the elements end exactly where the data set does. DCMTK cannot read, and so not send, one where they do not."""
    if syntax == DEFLATED:
        return True
    order, explicit, at = (">" if syntax == BIG else "<"), syntax != IMPLICIT, 0
    try:
        while at < len(data):
            _, at = element_end(data, at, order, explicit)
    except struct.error:
        return False
    return at == len(data)


def header(data, at, order, explicit):
    group, number = struct.unpack_from(order + "HH", data, at)
    if group == 0xfffe or not explicit:
        length, = struct.unpack_from(order + "I", data, at + 4)
        return (group, number), None, length, at + 8
    vr = bytes(data[at + 4:at + 6])
    if vr in LONG:
        length, = struct.unpack_from(order + "I", data, at + 8)
        return (group, number), vr, length, at + 12
    length, = struct.unpack_from(order + "H", data, at + 6)
    return (group, number), vr, length, at + 8


def element_end(data, at, order, explicit):
    tag, vr, length, value = header(data, at, order, explicit)
    if length != UNDEFINED:
        return tag, value + length
    # PS3.5 6.2.2 note 2 (CP-246): UN of undefined length is a sequence in implicit little endian.
    return tag, items_end(data, value, "<" if vr == b"UN" else order, explicit and vr != b"UN")


def items_end(data, at, order, explicit):
    while True:
        tag, _, length, at = header(data, at, order, explicit)
        if tag == (0xfffe, 0xe0dd):
            return at
        if length != UNDEFINED:
            at += length
            continue
        while True:
            inner, _, _, _ = header(data, at, order, explicit)
            if inner == (0xfffe, 0xe00d):
                at += 8
                break
            _, at = element_end(data, at, order, explicit)
