"""Peers that take one transfer syntax each, and the outside witness of what was made of images on the way. Prints JSON.

usage: syntaxes.py list FILE                       write the files of pydicom's own that are sent, one for each SOP instance
       syntaxes.py scp LIST FOLDER NAME=PORT=UID   serve: each port takes its one syntax, and keeps files in FOLDER/NAME
       syntaxes.py compare LIST FOLDER [again]     what FOLDER holds, against what was sent [and written again by a toolkit]
       syntaxes.py compares LIST FOLDER NAME...    the same for several folders in FOLDER
       syntaxes.py jpegs LIST                      make images with DCMTK's and CharLS's encoders, and some that are wrong
       syntaxes.py distances LIST FOLDER           what FOLDER holds, against what DCMTK decodes of what was sent
       syntaxes.py accepted CLASS PORT...          what the peer on each port accepts of a class, asked one syntax at a time

Pixels are decoded by others than the box: pydicom with libjpeg, OpenJPEG and CharLS, and djxl for JPEG XL.
"""
import json
import os
import subprocess
import sys
import tempfile

import corpus
import part10

JPEG_XL = "1.2.840.10008.1.2.4.110"
BIG = "1.2.840.10008.1.2.2"
SWAPPED = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}
# What the coding of the pixels decides on, and Pixel Data itself.
DEPENDENT = {0x00280004, 0x00280006, 0x7FE00001, 0x7FE00002, 0x7FE00010}


def list_files(target):
    corpus.list_files(target)
    with open(target, encoding="utf-8") as file:
        files = json.load(file)
    # Of several contents under one UID, the one in the rarest syntax.
    count = {}
    for one in files:
        count[one["syntax"]] = count.get(one["syntax"], 0) + 1
    first = {}
    for one in sorted(files, key=lambda one: count[one["syntax"]]):
        if not one["odd"]:
            first.setdefault(one["sop"], one)
    with open(target, "w", encoding="utf-8") as out:
        json.dump(list(first.values()), out)
    return {"files": len(first), "syntaxes": sorted({one["syntax"] for one in first.values()})}


def serve(files, folder, peers):
    from pynetdicom import AE, evt
    classes = sorted({one["class"] for one in files}) + ["1.2.840.10008.1.1"]
    for peer in peers:
        name, port, uid = peer.split("=")
        keep = os.path.join(folder, name)
        os.makedirs(keep, exist_ok=True)

        def store(event, keep=keep):
            path = os.path.join(keep, event.request.AffectedSOPInstanceUID + ".dcm")
            with open(path + ".new", "wb") as out:
                out.write(event.encoded_dataset())
            os.rename(path + ".new", path)
            return 0

        ae = AE(ae_title=name.upper()[:16])
        ae.maximum_associations = 50
        for sop_class in classes:
            syntaxes = uid.split("+") if sop_class != "1.2.840.10008.1.1" else ["1.2.840.10008.1.2"]
            ae.add_supported_context(sop_class, syntaxes)
        ae.start_server(("127.0.0.1", int(port)), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    print("ready", flush=True)
    sys.stdin.read()


def swap(value, size):
    return b"".join(value[at:at + size][::-1] for at in range(0, len(value), size))


def plain(element, big):
    """An element's value as it means the same in any syntax."""
    value = element.value
    if element.VR in SWAPPED and big and isinstance(value, bytes):
        value = swap(value, SWAPPED[element.VR])
    if isinstance(value, bytes):
        return value.rstrip(b"\0 ")
    return value


def differences(before, after, big_before, big_after, place=""):
    """Elements that are not the same, but for those that the syntax decides on."""
    found = []
    tags = {int(t) for t in before.keys()} | {int(t) for t in after.keys()}
    for tag in sorted(tags):
        if tag in DEPENDENT or tag & 0xFFFF == 0:
            continue
        if tag not in before or tag not in after:
            found.append("%s%08x is in one only" % (place, tag))
            continue
        try:
            old, new = before[tag], after[tag]
        except Exception as error:
            found.append("%s%08x cannot be read: %s" % (place, tag, error))
            continue
        if old.VR == "SQ" and new.VR == "SQ":
            if len(old.value) != len(new.value):
                found.append("%s%08x has other items" % (place, tag))
            for at, (one, two) in enumerate(zip(old.value, new.value)):
                found += differences(one, two, big_before, big_after, "%s%08x[%d]." % (place, tag, at))
            continue
        if "SQ" in (old.VR, new.VR) or "UN" in (old.VR, new.VR):
            # A private sequence of declared length is UN to one and a sequence to the other: dcmdump agrees, pydicom cannot.
            if old.VR == new.VR and plain(old, big_before) != plain(new, big_after):
                found.append("%s%08x differs" % (place, tag))
            continue
        if plain(old, big_before) != plain(new, big_after) and str(old.value) != str(new.value):
            found.append("%s%08x differs (%s, %s)" % (place, tag, old.VR, new.VR))
    return found


def pixels(path):
    """All frames by pydicom; by djxl for JPEG XL; None when there are none."""
    import numpy
    import pydicom
    from pydicom.pixels import pixel_array
    dataset = pydicom.dcmread(path)
    if "PixelData" not in dataset:
        return None
    if dataset.file_meta.TransferSyntaxUID != JPEG_XL:
        return pixel_array(dataset, raw=True)
    from pydicom.encaps import generate_frames
    frames = []
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    for frame in generate_frames(dataset.PixelData, number_of_frames=count):
        frames.append(djxl(frame, dataset.SamplesPerPixel))
    shown = numpy.stack(frames) if len(frames) > 1 else frames[0]
    return shown.astype(numpy.uint8 if dataset.BitsAllocated == 8 else numpy.uint16)


def djxl(frame, samples):
    import numpy
    with tempfile.TemporaryDirectory() as folder:
        coded, out = os.path.join(folder, "f.jxl"), os.path.join(folder, "f.pgm" if samples == 1 else "f.ppm")
        with open(coded, "wb") as file:
            file.write(frame)
        subprocess.run(["djxl", coded, out], check=True, capture_output=True)
        with open(out, "rb") as file:
            magic, size, most, data = file.read().split(b"\n", 3)
        columns, rows = map(int, size.split())
        wide = int(most) > 255
        array = numpy.frombuffer(data, dtype=">u2" if wide else "u1")
        return array.reshape((rows, columns) if samples == 1 else (rows, columns, samples))


def dumped(path):
    """What dcmdump sees in the data set, its syntax apart."""
    said = subprocess.run(["dcmdump", "-q", "+L", path], check=True, capture_output=True, encoding="latin-1").stdout
    return [line for line in said.splitlines() if line and not line.startswith(("#", "(0002,"))]


def compare(files, folder, again=False):
    import numpy
    import pydicom
    # What is UN stays little endian whatever the data set is (PS3.5 6.2.2); pydicom would read it as the data set.
    pydicom.config.replace_un_with_known_vr = False
    by_sop = {one["sop"]: one for one in files}
    wrong, same, exact, unseen, syntaxes = {}, 0, 0, [], {}
    names = sorted(name for name in os.listdir(folder) if not name.endswith(".new"))
    arrived = set()
    for name in names:
        path = os.path.join(folder, name)
        got = part10.read(path)
        arrived.add(got.sop_instance)
        sent = by_sop[got.sop_instance]
        label = os.path.basename(sent["path"])
        syntaxes[got.syntax] = syntaxes.get(got.syntax, 0) + 1
        if got.syntax == sent["syntax"]:
            if corpus.digest(got.data) == sent["sha256"]:
                exact += 1
                continue
            if not again:
                wrong[label] = "stored syntax, other bytes"
                continue
        try:
            before, after = pydicom.dcmread(sent["path"]), pydicom.dcmread(path)
            found = differences(before, after, sent["syntax"] == BIG, got.syntax == BIG)
        except Exception as error:
            # pydicom takes what is inside UN of undefined length for big endian in a big endian data set, against CP-246.
            if dumped(sent["path"]) == dumped(path):
                same += 1
            else:
                wrong[label] = "cannot be read: %s" % error
            continue
        if found:
            wrong[label] = found[:5]
            continue
        if "LossyImageCompression" in before and before.LossyImageCompression != after.LossyImageCompression:
            wrong[label] = "Lossy Image Compression"
        try:
            old = pixels(sent["path"])
        except Exception as error:
            # The witness cannot decode what was sent: nothing is said of its pixels.
            unseen.append("%s: %s" % (label, str(error)[:60]))
            continue
        try:
            new = pixels(path)
        except Exception as error:
            wrong[label] = "pixels cannot be decoded: %s" % str(error)[:200]
            continue
        if (old is None) != (new is None):
            wrong[label] = "pixels are in one only"
        elif old is not None and (old.shape != new.shape or not numpy.array_equal(old, new)):
            wrong[label] = "pixels differ: %s %s, %s %s" % (old.shape, old.dtype, new.shape, new.dtype)
        else:
            same += 1
    return {"received": len(names), "arrived": sorted(arrived), "exact": exact, "same": same, "wrong": wrong, "unseen": unseen, "syntaxes": syntaxes,
            "missing": sorted(os.path.basename(one["path"]) for sop, one in by_sop.items() if sop not in arrived)}


ENCODED = {
    "lossless.dcm": ["grey", "dcmcjpeg", "+e1"], "predictor-7.dcm": ["grey", "dcmcjpeg", "+el", "+sv", "7"],
    "transform.dcm": ["grey", "dcmcjpeg", "+e1", "+pt", "2"], "lossless-colour.dcm": ["colour", "dcmcjpeg", "+e1"],
    "baseline-444.dcm": ["colour", "dcmcjpeg", "+eb", "+s4"], "baseline-422.dcm": ["colour", "dcmcjpeg", "+eb"],
    "baseline-rgb.dcm": ["colour", "dcmcjpeg", "+eb", "+cr"], "extended.dcm": ["grey", "dcmcjpeg", "+ee"],
    "near.dcm": ["grey", "dcmcjpls", "+en", "+md", "3"]}


def picture(path, samples):
    """A ramp with some noise, 48 by 65; 12 bits of grey, or 8 of each colour."""
    import numpy
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.PatientID, image.Modality = "SYNTHETIC", "OT"
    image.Rows, image.Columns, image.SamplesPerPixel, image.PixelRepresentation = 48, 65, samples, 0
    image.BitsAllocated, image.BitsStored = (8, 8) if samples == 3 else (16, 12)
    image.HighBit = image.BitsStored - 1
    image.PhotometricInterpretation = "RGB" if samples == 3 else "MONOCHROME2"
    if samples == 3:
        image.PlanarConfiguration = 0
    down, across, colour = numpy.indices((48, 65, samples))
    numbers = (down * 3 + across * 2 + colour * 40 + (down * across * 7 + colour) % 5) % (1 << image.BitsStored)
    image.PixelData = numbers.astype("uint8" if samples == 3 else "<u2").tobytes()
    image.PixelData += b"\0" * (len(image.PixelData) % 2)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.save_as(path, enforce_file_format=True)


def changed(source, path, syntax=None, cut=False):
    """The same under another syntax, or with half of its coded pixels and an end."""
    import pydicom
    from pydicom.encaps import encapsulate, generate_frames
    from pydicom.uid import generate_uid
    image = pydicom.dcmread(source)
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    if syntax:
        image.file_meta.TransferSyntaxUID = syntax
    if cut:
        frame = next(generate_frames(image.PixelData, number_of_frames=1))
        image.PixelData = encapsulate([frame[:len(frame) // 2] + b"\xff\xd9"])
    image.save_as(path, enforce_file_format=True)


def jpegs(target):
    folder = target + ".files"
    os.makedirs(folder)
    place = lambda name: os.path.join(folder, name)
    for name, (kind, program, *options) in ENCODED.items():
        picture(place("plain"), 3 if kind == "colour" else 1)
        subprocess.run([program, *options, place("plain"), place(name)], check=True, capture_output=True)
    os.remove(place("plain"))
    changed(place("lossless.dcm"), place("half.dcm"), cut=True)
    changed(place("baseline-rgb.dcm"), place("baseline-as-lossless.dcm"), "1.2.840.10008.1.2.4.70")
    changed(place("near.dcm"), place("near-as-lossless.dcm"), "1.2.840.10008.1.2.4.80")
    files = []
    for name in sorted(os.listdir(folder)):
        file = part10.read(place(name))
        files.append({"path": place(name), "sop": file.sop_instance, "class": file.sop_class, "syntax": file.syntax,
                      "sha256": corpus.digest(file.data), "odd": False})
    with open(target, "w", encoding="utf-8") as out:
        json.dump(files, out)
    return {"files": len(files)}


def distances(files, folder):
    """By file, the largest difference between a sample as it arrived and as DCMTK decodes what was sent; or why there is none."""
    import pydicom
    found = {}
    for sent in (one["path"] for one in files):
        name, before = os.path.basename(sent), pydicom.dcmread(sent, stop_before_pixels=True)
        path = os.path.join(folder, before.SOPInstanceUID + ".dcm")
        if not os.path.exists(path):
            found[name] = "it did not arrive"
            continue
        with tempfile.TemporaryDirectory() as own:
            plain = os.path.join(own, "plain.dcm")
            decoder = ["dcmdjpls"] if name.startswith("near") else ["dcmdjpeg", "+cn"]
            subprocess.run([*decoder, sent, plain], check=True, capture_output=True)
            one, two = pydicom.dcmread(plain), pydicom.dcmread(path)
            if one.PhotometricInterpretation != two.PhotometricInterpretation:
                found[name] = "%s, and not %s" % (two.PhotometricInterpretation, one.PhotometricInterpretation)
                continue
            one, two = (numbers.pixel_array.astype("int64").squeeze() for numbers in (one, two))
            found[name] = int(abs(one - two).max()) if one.shape == two.shape else "another shape"
    return found


ASKED = ["1.2.840.10008.1.2" + tail for tail in (
    "", ".1", ".2", ".1.99", ".5", ".4.50", ".4.51", ".4.57", ".4.70", ".4.80", ".4.81", ".4.90", ".4.91", ".4.110", ".4.201")]


def accepted(sop_class, port):
    import wire
    contexts = [(2 * at + 1, sop_class, [syntax]) for at, syntax in enumerate(ASKED)]
    association = wire.Association(port, "STORESCP", "WITNESS", contexts)
    found = sorted(association.accepted.values())
    association.release()
    return found


def main():
    verb, arguments = sys.argv[1], sys.argv[2:]
    if verb == "accepted":
        print(json.dumps({port: accepted(arguments[0], int(port)) for port in arguments[1:]}))
        return
    if verb == "jpegs":
        print(json.dumps(jpegs(arguments[0])))
        return
    if verb == "list":
        print(json.dumps(list_files(arguments[0])))
        return
    with open(arguments[0], encoding="utf-8") as file:
        files = json.load(file)
    if verb == "scp":
        serve(files, arguments[1], arguments[2:])
    elif verb == "compares":
        folder = arguments[1]
        print(json.dumps({name: compare(files, os.path.join(folder, name)) for name in arguments[2:]}))
    elif verb == "distances":
        print(json.dumps(distances(files, arguments[1])))
    elif verb == "compare":
        print(json.dumps(compare(files, arguments[1], "again" in arguments[2:])))


if __name__ == "__main__":
    main()
