"""Broken and right character sets: makes the files, and judges what the box made of them with pydicom and DCMTK.

usage: charset.py make FOLDER               files by hand, byte for byte; prints [{"path", "calling"}]
       charset.py judge REPAIRED UTF8       what pydicom and DCMTK read in the files of two folders; prints {"rows", "problems"}

Each row is judged by (0008,0005), by the raw bytes and by what both toolkits read, because any two of them may be wrong together.
Not asked, because they do not know the set: pydicom 3.0 about ISO_IR 203 and ISO 2022 IR 58, DCMTK 3.6.7 about ISO_IR 203, DCMTK
with the iconv of glibc about ISO 2022 IR 87 and 159. In UTF-8 both are asked about all of them.
"""
import glob
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

import pydicom

ROOT = "1.2.826.0.1.3680043.10.3.77"
SECONDARY_CAPTURE, EXPLICIT = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.1.2.1"
MUNOZ, KOREAN = "Muñoz^Ana", "홍^길동"
ESCAPED = b"\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf"

# Calling AE, what is declared (None: nothing), bytes; then what the repaired image declares and everybody must read.
BROKEN = [
    ("LATIN", "ISO_IR 100", MUNOZ.encode(), "ISO_IR 192", MUNOZ),
    ("LATIN", None, MUNOZ.encode("latin-1"), "ISO_IR 100", MUNOZ),
    ("LATIN", None, MUNOZ.encode(), "ISO_IR 192", MUNOZ),
    ("LATIN", "ISO_IR 6", MUNOZ.encode("latin-1"), "ISO_IR 100", MUNOZ),
    ("LATIN", "ISO_IR 192", MUNOZ.encode("latin-1"), "ISO_IR 100", MUNOZ),
    ("KANJI", "ISO_IR 100", "山田^太郎".encode("shift_jis"), "ISO_IR 192", "山田^太郎"),
    ("LATIN", "\\ISO 2022 IR 149", KOREAN.encode("euc_kr"), "\\ISO 2022 IR 149", KOREAN),
    ("LATIN", "ISO 2022 IR 149", KOREAN.encode("euc_kr"), "\\ISO 2022 IR 149", KOREAN),
    ("LATIN", "ISO_IR 149", ESCAPED, "\\ISO 2022 IR 149", KOREAN),
    ("CHINESE", "ISO_IR 100", "王^小东".encode("gbk"), "GBK", "王^小东"),
    ("LATIN", "ISO IR 192", MUNOZ.encode(), "ISO_IR 192", MUNOZ),
    ("LATIN", "ISO 2022 IR 6\\ISO_IR 192", MUNOZ.encode(), "ISO_IR 192", MUNOZ),
    ("LATIN", "ISO_IR 100", b"O\x92Hara^Mary", "ISO_IR 192", "O’Hara^Mary"),
    ("LATIN", "iso_ir 100", MUNOZ.encode("latin-1"), "ISO_IR 100", MUNOZ),
    ("LATIN", "ISO 2022 IR 100", MUNOZ.encode("latin-1"), "ISO_IR 100", MUNOZ),
    ("LATIN", "ISO 2022 IR 6, IS", MUNOZ.encode("latin-1"), "ISO_IR 100", MUNOZ),
    ("LATIN", "ISO_IR 13\\ISO 2022 IR 87", b"\xd4\xcf\xc0\xde=\x1b$B;3ED\x1b(J", "ISO 2022 IR 13\\ISO 2022 IR 87", "ﾔﾏﾀﾞ=山田"),
    ("LATIN", "ISO 2022 IR 87", b"Yamada=\x1b$B;3ED\x1b(B", "\\ISO 2022 IR 87", "Yamada=山田"),
]
# One name of each repertoire, rightly declared: it must arrive as it was sent.
RIGHT = [
    ("ISO_IR 100", "latin-1", "Buc^Jérôme"), ("ISO_IR 101", "iso8859_2", "Wałęsa^Władysław"),
    ("ISO_IR 109", "iso8859_3", "Ħal^Ġorġ"), ("ISO_IR 110", "iso8859_4", "Bērziņš^Jānis"),
    ("ISO_IR 144", "iso8859_5", "Люксембург"), ("ISO_IR 127", "iso8859_6", "قباني^لنزار"),
    ("ISO_IR 126", "iso8859_7", "Διονυσιος"), ("ISO_IR 138", "iso8859_8", "שרון^דבורה"),
    ("ISO_IR 148", "iso8859_9", "Çavuşoğlu^İpek"), ("ISO_IR 203", "iso8859_15", "Œuvre^Žižka"),
    ("ISO_IR 166", "tis_620", "นามสกุล^ชื่อ"), ("ISO_IR 13", "shift_jis", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
    ("ISO_IR 192", "utf-8", "Wang^XiaoDong=王^小东"), ("GB18030", "gb18030", "Wang^XiaoDong=王^小东"),
    ("GBK", "gbk", "Qiang^A=俓^小东"), ("\\ISO 2022 IR 149", None, KOREAN),
    ("\\ISO 2022 IR 87", None, "Yamada^Tarou=山田^太郎=莉^五"), ("\\ISO 2022 IR 159", None, "Zhu^A=丂^丄"),
    ("\\ISO 2022 IR 58", None, "Zhang^XiaoDong=张^小东"),
]
ESCAPES = {  # Written by hand: no codec of Python resets at the delimiters of a name as PS3.5 6.1.2.5.3 asks.
    "\\ISO 2022 IR 149": lambda text: b"\x1b$)C" + text.encode("euc_kr"),
    "\\ISO 2022 IR 87": lambda text: b"\x1b$B" + bytes(b & 0x7F for b in text.encode("euc_jp")) + b"\x1b(B",
    "\\ISO 2022 IR 159": lambda text: b"\x1b$(D" + bytes(b & 0x7F for b in text.encode("euc_jp") if b != 0x8F) + b"\x1b(B",
    "\\ISO 2022 IR 58": lambda text: b"\x1b$)A" + text.encode("gb2312"),
}


def with_escapes(terms, name):
    part = lambda text: text.encode("ascii") if text.isascii() else ESCAPES[terms](text)
    return b"=".join(b"^".join(part(one) for one in group.split("^")) for group in name.split("="))


PYDICOM_LACKS = ("ISO_IR 203", "ISO 2022 IR 58")
DCMTK_LACKS = ("ISO_IR 203", "ISO 2022 IR 87", "ISO 2022 IR 159")


def last(name, group, component):
    """The last component of the last group: text without delimiters, for an element that is no name."""
    return name.split(group)[-1].split(component)[-1]


def rows():
    right = [("RIGHT", terms, name.encode(codec) if codec else with_escapes(terms, name), terms, name)
             for terms, codec, name in RIGHT]
    return BROKEN + right


def element(group, number, vr, value, padding=b" "):
    value += padding * (len(value) % 2)
    head = struct.pack("<HH2s", group, number, vr)
    return head + (b"\0\0" + struct.pack("<I", len(value)) if vr in (b"OB", b"SQ") else struct.pack("<H", len(value))) + value


def data_set(number, declared, name, nested):
    uid = lambda more: ("%s.%d%s" % (ROOT, number + 1, more)).encode()
    inner = element(0x32, 0x1060, b"LO", nested)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
    return b"".join([
        b"" if declared is None else element(8, 5, b"CS", declared.encode()),
        element(8, 0x16, b"UI", SECONDARY_CAPTURE.encode(), b"\0"), element(8, 0x18, b"UI", uid(".1"), b"\0"),
        element(8, 0x60, b"CS", b"OT"), element(0x10, 0x10, b"PN", name), element(0x10, 0x20, b"LO", b"ROW%d" % number),
        element(0x20, 0xD, b"UI", uid(".2"), b"\0"), element(0x20, 0xE, b"UI", uid(".3"), b"\0"),
        element(0x40, 0x275, b"SQ", item)])


def nested_bytes(number):
    if number < len(BROKEN):
        return last(BROKEN[number][2], b"=", b"^")
    terms, codec, name = RIGHT[number - len(BROKEN)]
    text = last(name, "=", "^")
    return text.encode(codec) if codec else with_escapes(terms, text)


def make(folder):
    os.makedirs(folder, exist_ok=True)
    made = []
    for number, (calling, declared, name, _, _) in enumerate(rows()):
        sop = b"%s.%d.1" % (ROOT.encode(), number + 1)
        meta = b"".join([element(2, 1, b"OB", b"\0\1"), element(2, 2, b"UI", SECONDARY_CAPTURE.encode(), b"\0"),
                         element(2, 3, b"UI", sop, b"\0"), element(2, 0x10, b"UI", EXPLICIT.encode(), b"\0"),
                         element(2, 0x12, b"UI", ROOT.encode(), b"\0")])
        path = os.path.join(folder, "row%02d.dcm" % number)
        with open(path, "wb") as file:
            file.write(bytes(128) + b"DICM" + element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta
                       + data_set(number, declared, name, nested_bytes(number)))
        made.append({"path": path, "calling": calling})
    return made


def dcmtk(path):
    """What DCMTK says after its own conversion to UTF-8: the name, the nested text, and its complaint if any."""
    with tempfile.TemporaryDirectory() as folder:
        out, copy = os.path.join(folder, "utf8.dcm"), os.path.join(folder, "copy.dcm")
        shutil.copy(path, copy)
        # dcmconv 3.6.7 takes no notice of an item's own (0008,0005), which former values in another set have.
        subprocess.run(["dcmodify", "-nb", "-imt", "-ea", "(0400,0561)", copy], capture_output=True, timeout=30)
        ran = subprocess.run(["dcmconv", "+U8", copy, out], capture_output=True, text=True, timeout=30)
        if ran.returncode:
            return None, None, ran.stderr.strip()
        dump = subprocess.run(["dcmdump", "+L", "-q", out], capture_output=True, timeout=30).stdout.decode("utf-8", "replace")
    top = [line for line in dump.splitlines() if line.startswith("(0010,0010)")]
    nested = [line for line in dump.splitlines() if line.startswith("    (0032,1060)")]
    value = lambda lines: lines[0][lines[0].index("[") + 1:lines[0].rindex("]")] if lines else None
    return value(top), value(nested), ran.stderr.strip()


def judged(path, declares, text):
    wrong = {}

    def same(what, got, wanted):
        if got != wanted:
            wrong[what] = [repr(got), repr(wanted)]
    image, nested = pydicom.dcmread(path), last(text, "=", "^")
    said = image.SpecificCharacterSet
    same("declared", said if isinstance(said, str) else "\\".join(said), declares)
    name = image.get_item(0x00100010).value
    if declares == "ISO_IR 192":
        same("bytes", name.rstrip(b" "), text.encode())
    if not any(lack in declares.split("\\") for lack in PYDICOM_LACKS):
        same("pydicom", str(image.PatientName), text)
        same("pydicom nested", image.RequestAttributesSequence[0].RequestedProcedureDescription, nested)
    if not any(lack in declares.split("\\") for lack in DCMTK_LACKS):
        top, inner, complaint = dcmtk(path)
        same("DCMTK", top, text)
        same("DCMTK nested", inner, nested)
        # It warns of escape sequences in the first group of a name, which is where the device had put its Hangul.
        same("DCMTK says", [line for line in complaint.splitlines() if not line.startswith("W: ")], [])
    if "�" in str(image.PatientName) or b"\xef\xbf\xbd" in name:
        wrong["lost"] = True
    return wrong


def judge(repaired, utf8):
    problems, count = {}, 0
    for folder, in_utf8 in ((repaired, False), (utf8, True)):
        files = {pydicom.dcmread(path).PatientID: path for path in glob.glob(folder + "/**/*.dcm", recursive=True)}
        for number, (calling, declared, name, declares, text) in enumerate(rows()):
            path, count = files.get("ROW%d" % number), count + 1
            wrong = judged(path, "ISO_IR 192" if in_utf8 else declares, text) if path else {"file": "did not arrive"}
            if path and not in_utf8 and calling == "RIGHT":
                with open(path, "rb") as file:
                    if not file.read().endswith(data_set(number, declared, name, nested_bytes(number))):
                        wrong["changed"] = True
            if wrong:
                problems["%s %d %r" % ("utf8" if in_utf8 else "repaired", number, declared)] = wrong
    return {"rows": count, "problems": problems}


if __name__ == "__main__":
    print(json.dumps({"make": make, "judge": judge}[sys.argv[1]](*sys.argv[2:])))
