"""Images before and after the words of rules: nothing but the named elements may differ, in bytes.

usage: words.py compare LIST NAMED FOLDER [AGAIN]

LIST is a JSON list of Part 10 files as they were sent, NAMED a JSON object of the values that named elements must have
(keyword to value). With AGAIN, a folder of what a second box made of the results: the same bytes.
"""
import glob
import json
import os
import subprocess
import sys
from io import BytesIO

import pydicom

import part10
import walk

# The record of changes is the box's own.
STAMPS = {(0x0018, 0xa001), (0x0400, 0x0561)}


def by_number(folder):
    found = {}
    for path in glob.glob(os.path.join(folder, "*")):
        found[int(pydicom.dcmread(path, stop_before_pixels=True).InstanceNumber)] = path
    return found


def elements(path, named):
    """The data set's elements as bytes, without the named ones, the record of changes and group lengths."""
    file = part10.read(path)
    tags = {(tag >> 16, tag & 0xffff) for tag in map(pydicom.datadict.tag_for_keyword, named)} | STAMPS
    return [(tag, raw) for tag, raw in walk.elements(file.data, file.syntax) if tag not in tags and (tag is None or tag[1])]


def by_dcmdump(path, keyword):
    tag = pydicom.datadict.tag_for_keyword(keyword)
    name = "%04x,%04x" % (tag >> 16, tag & 0xffff)
    # Lines of elements inside of items are indented.
    ran = subprocess.run(["dcmdump", "-q", "+L", "-M", path], capture_output=True)
    lines = [line for line in ran.stdout.decode("utf-8", "replace").splitlines() if line.startswith("(" + name)]
    return lines[0].split("[", 1)[1].rsplit("]", 1)[0].strip() if lines and "[" in lines[0] else None


def compare(listing, named, folder, again=None):
    named, problems = json.loads(named), {}
    arrived, twice = by_number(folder), by_number(again) if again else {}
    for path in json.loads(listing):
        number = int(pydicom.dcmread(path, stop_before_pixels=True).InstanceNumber)
        found = problems.setdefault(os.path.basename(path), [])
        if number not in arrived:
            found.append("did not arrive")
            continue
        once = arrived[number]
        if elements(path, named) != elements(once, named):
            found.append("an element beside the named ones differs")
        if part10.read(path).syntax != part10.read(once).syntax:
            found.append("the transfer syntax differs")
        ds = pydicom.dcmread(once)
        for keyword, value in named.items():
            # Of a sequence, what its first item is about.
            inner = {"ProcedureCodeSequence": "CodeValue", "OtherPatientIDsSequence": "PatientID"}.get(keyword)
            own = ds.get(keyword)[0].get(inner) if inner and ds.get(keyword) else ds.get(keyword)
            if str(own) != value:
                found.append("pydicom: %s is %r" % (keyword, own))
            if not inner and by_dcmdump(once, keyword) != value:
                found.append("dcmdump: %s is %r" % (keyword, by_dcmdump(once, keyword)))
        if again and (number not in twice or part10.read(twice[number]).data != part10.read(once).data):
            found.append("the second box changed it again")
    return {name: found for name, found in problems.items() if found}


def references(folder):
    """For each file: what the command, the data set and its references say."""
    found = []
    for path in sorted(glob.glob(os.path.join(folder, "*"))):
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        inner = ds.ReferencedImageSequence[0]
        found.append({"command": ds.file_meta.MediaStorageSOPInstanceUID, "own": ds.SOPInstanceUID,
                      "study": ds.StudyInstanceUID, "refers": inner.ReferencedSOPInstanceUID, "class": inner.ReferencedSOPClassUID})
    return found


def pair(folder):
    """Two images of a study that refer to each other, by UIDs that do not change."""
    import canaries
    os.makedirs(folder, exist_ok=True)
    paths = []
    for number, other in ((1, 2), (2, 1)):
        ds = canaries.image(number, 0)
        ds.SOPInstanceUID, ds.StudyInstanceUID = "1.2.826.0.1.99.%d" % number, "1.2.826.0.1.99.7"
        inner = pydicom.Dataset()
        inner.ReferencedSOPClassUID, inner.ReferencedSOPInstanceUID = canaries.CT, "1.2.826.0.1.99.%d" % other
        ds.ReferencedImageSequence = [inner]
        paths.append(os.path.join(folder, "%d.dcm" % number))
        canaries.save(ds, "1.2.840.10008.1.2.1", paths[-1])
    return paths


def main():
    print(json.dumps({"compare": compare, "references": references, "pair": pair}[sys.argv[1]](*sys.argv[2:])))


if __name__ == "__main__":
    main()
