"""Part 10 files by hand: where the data set begins, and what the file meta information says of it."""
import struct

LONG = {b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UR", b"UT", b"UN", b"SV", b"UV"}


class NotPart10(Exception):
    pass


class File:
    def __init__(self, elements, data):
        text = lambda number: elements.get(number, b"").rstrip(b"\0 ").decode("ascii")
        self.sop_class, self.sop_instance, self.syntax = text(0x0002), text(0x0003), text(0x0010)
        self.source_ae, self.data = text(0x0016), data


def read(name):
    with open(name, "rb") as file:
        return parse(file.read())


def parse(whole):
    if whole[128:132] != b"DICM":
        raise NotPart10("no DICM prefix")
    at, elements = 132, {}
    while whole[at:at + 2] == b"\x02\x00":
        number, = struct.unpack_from("<H", whole, at + 2)
        if whole[at + 4:at + 6] in LONG:
            length, = struct.unpack_from("<I", whole, at + 8)
            at += 12
        else:
            length, = struct.unpack_from("<H", whole, at + 6)
            at += 8
        elements[number] = whole[at:at + length]
        at += length
    return File(elements, whole[at:])
