"""pydicom's own test files: sent as they are, and looked for at the other end. Prints one JSON object.

usage: corpus.py list FILE                     write the list of files that can be sent, and why the others cannot
       corpus.py send LIST PORT CALLED CALLING by pynetdicom, each in its own transfer syntax, byte for byte
       corpus.py same LIST FOLDER [even]       FOLDER holds exactly what was sent [and has an even length]
       corpus.py edited LIST FOLDER PREFIX     FOLDER holds it with PREFIX before PatientID, and nothing else changed
       corpus.py digests FOLDER                what a folder of Part 10 files holds
"""
import hashlib
import json
import os
import sys
from collections import defaultdict

import part10
import requestor
import walk

DIRECTORY = "1.2.840.10008.1.3.10"


def digest(data):
    return hashlib.sha256(data).hexdigest()


def candidates():
    import pydicom
    folder = os.path.join(os.path.dirname(pydicom.__file__), "data", "test_files")
    for directory, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            yield os.path.join(directory, name)


def named_inside(path):
    """SOP class and instance as the data set has them (None where absent), or the reason why it cannot be read."""
    import pydicom
    found = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
    return found.get("SOPClassUID"), found.get("SOPInstanceUID")


def why_not(path, file):
    """A rule for each file that no sender could send in agreement with PS3.7 9.1.1; None for the others."""
    if not file.sop_class or not file.sop_instance or not file.syntax:
        return "no SOP class, instance or transfer syntax in the file meta information"
    if file.sop_class == DIRECTORY:
        return "a DICOMDIR is no SOP instance of the storage service"
    if not all(uid.replace(".", "").isdigit() for uid in (file.sop_class, file.sop_instance, file.syntax)):
        return "a name in the file meta information is no UID"
    try:
        inside = named_inside(path)
    except Exception as error:  # whatever pydicom's own reader says of its own hostile samples
        return "pydicom cannot read it: " + type(error).__name__
    if not walk.complete(file.data, file.syntax):
        return "the data set ends before its last element does, or is in another syntax than it says"
    for shown, meta in zip(inside, (file.sop_class, file.sop_instance)):
        if shown and str(shown) != meta:
            return "the data set contradicts the file meta information"
    return None


def list_files(target):
    files, skipped = [], {}
    for path in candidates():
        try:
            file = part10.read(path)
        except part10.NotPart10:
            continue
        reason = why_not(path, file)
        if reason:
            skipped[os.path.basename(path)] = reason
        else:
            files.append({"path": path, "sop": file.sop_instance, "class": file.sop_class, "syntax": file.syntax,
                          "sha256": digest(file.data), "odd": len(file.data) % 2 == 1})
    with open(target, "w", encoding="utf-8") as out:
        json.dump(files, out)
    return {"files": len(files), "skipped": skipped, "syntaxes": sorted({f["syntax"] for f in files}),
            "odd": sum(file["odd"] for file in files), "distinct": len({(f["sop"], f["sha256"]) for f in files})}


def batches(files):
    """At most 128 presentation contexts in each association."""
    batch, contexts = [], set()
    for file in files:
        context = file["class"], file["syntax"]
        if context not in contexts and len(contexts) == 128:
            yield batch, contexts
            batch, contexts = [], set()
        batch.append(file)
        contexts.add(context)
    yield batch, contexts


def send(files, port, called, calling):
    from pynetdicom import AE, _config
    _config.STORE_SEND_CHUNKED_DATASET = True
    statuses = {}
    for batch, contexts in batches(files):
        ae = AE(ae_title=calling)
        for sop_class, syntax in sorted(contexts):
            ae.add_requested_context(sop_class, syntax)
        peer = requestor.associate(ae, "127.0.0.1", int(port), ae_title=called)
        assert peer.is_established, "no association"
        for file in batch:
            try:
                status = peer.send_c_store(file["path"])
                statuses[file["path"]] = status.Status if "Status" in status else None
            except (ValueError, AttributeError) as error:
                statuses[file["path"]] = "not sent: " + str(error)
        peer.release()
    return {"failed": {os.path.basename(p): s for p, s in statuses.items() if s != 0}, "sent": len(statuses)}


def received(folder):
    for directory, _, names in os.walk(folder):
        for name in names:
            yield part10.read(os.path.join(directory, name))


def same(files, folder, which="all"):
    wanted = {(file["sop"], file["sha256"]) for file in files if which == "all" or not file["odd"]}
    found = {(file.sop_instance, digest(file.data)) for file in received(folder)}
    names = {(file["sop"], file["sha256"]): os.path.basename(file["path"]) for file in files}
    return {"wanted": len(wanted), "found": len(found),
            "missing": sorted(names[one] for one in wanted - found), "strange": sorted(s for s, _ in found - wanted)}


ADDED = {(0x0018, 0xa001), (0x0400, 0x0561)}
PATIENT_ID = (0x0010, 0x0020)


def value(element, syntax):
    """The bytes behind an element's header; a device may have written PatientID as UN."""
    head = 12 if syntax != walk.IMPLICIT and element[4:6] in part10.LONG else 8
    return element[head:].rstrip(b" \0")


def difference(before, after, syntax, prefix):
    """None when `after` is `before` with the prefix, the two stamps, and nothing else."""
    edited = lambda tag: tag == PATIENT_ID or tag in ADDED or (tag and tag[1] == 0 and tag[0] in (0x10, 0x18, 0x400))
    old, new = walk.elements(before, syntax), walk.elements(after, syntax)
    kept = [element for element in old if not edited(element[0])]
    if kept != [element for element in new if not edited(element[0])]:
        return "an element beside the edited ones differs"
    tags = [tag for tag, _ in new]
    if any(tags.count(tag) != 1 for tag in ADDED | {PATIENT_ID}):
        return "an edited element is not there once"
    if value(dict(new)[PATIENT_ID], syntax) != prefix.encode("ascii") + value(dict(old).get(PATIENT_ID, b""), syntax):
        return "PatientID is not the prefixed one"
    return None


def read_by_pydicom(file, prefix):
    """What an independent reader says of the two stamps."""
    from io import BytesIO

    import pydicom
    from pydicom.uid import UID
    syntax = UID(file.syntax)
    data = BytesIO(file.data)
    if file.syntax == walk.DEFLATED:
        import zlib
        data = BytesIO(zlib.decompressobj(-15).decompress(file.data))
    implicit = syntax.is_implicit_VR if syntax.is_transfer_syntax else False
    little = syntax.is_little_endian if syntax.is_transfer_syntax else True
    found = pydicom.filereader.read_dataset(data, implicit, little, stop_when=lambda tag, vr, length: tag >= 0x04010000)
    original, equipment = found[0x04000561].value[-1], found[0x0018a001].value[-1]
    problems = []
    if not str(found.PatientID).startswith(prefix):
        problems.append("PatientID")
    modified = original[0x04000550].value[0]
    if "PatientID" not in modified or "PatientID" and str(modified.PatientID or "") != str(found.PatientID)[len(prefix):]:
        problems.append("Modified Attributes Sequence")
    if not original.get("AttributeModificationDateTime") or original.get("ReasonForTheAttributeModification") != "COERCE":
        problems.append("Original Attributes")
    if not equipment.get("Manufacturer") or "PurposeOfReferenceCodeSequence" not in equipment:
        problems.append("Contributing Equipment")
    return problems


def edited(files, folder, prefix):
    arrived = defaultdict(list)
    for file in received(folder):
        arrived[file.sop_instance].append(file)
    problems, unreadable = {}, {}
    for sent in files:
        name, before = os.path.basename(sent["path"]), part10.read(sent["path"]).data
        reasons = []
        for file in arrived[sent["sop"]]:
            reasons.append(difference(before, file.data, sent["syntax"], prefix))
            if reasons[-1] is None:
                found = read_by_pydicom(file, prefix)
                if found:
                    unreadable[name] = found
                break
        if not reasons or reasons[-1] is not None:
            problems[name] = reasons or "did not arrive"
    return {"problems": problems, "stamps": unreadable, "arrived": sum(len(files) for files in arrived.values())}


def digests(folder):
    found = sorted((file.sop_instance, file.syntax, digest(file.data)) for file in received(folder))
    return {"files": found}


def main():
    verb, rest = sys.argv[1], sys.argv[2:]
    if verb == "list":
        result = list_files(rest[0])
    elif verb == "digests":
        result = digests(rest[0])
    else:
        with open(rest[0], encoding="utf-8") as file:
            files = json.load(file)
        result = {"send": send, "same": same, "edited": edited}[verb](files, *rest[1:])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
