"""Images with canaries for de-identification, made with pydicom, and the judgement of what left the box.

usage: canaries.py make FOLDER | judge FOLDER... | corpus LIST FOLDER

`make` prints [{path, kind, option}]: `plain` for storescu with the option, `odd` for a sender that changes no byte, `held` for
what stands behind the pixels or cannot be seen. `judge` reads whole files; `corpus` looks for what pydicom's files had.
"""
import glob
import json
import os
import struct
import subprocess
import sys
import zlib
from io import BytesIO

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

import part10
import walk

ROOT = "1.2.826.0.1.3680043.10.1.77"
CT = "1.2.840.10008.5.1.4.1.1.2"
# Whatever is planted holds one of these.
MARKS = [b"CANARY", ROOT.encode("ascii"), b"19870605", b"113355.77", b"066Y"]
SYNTAXES = [("1.2.840.10008.1.2", "-xi"), ("1.2.840.10008.1.2.1", "-xe"), ("1.2.840.10008.1.2.2", "-xb"),
            ("1.2.840.10008.1.2.4.50", "-xy"), ("1.2.840.10008.1.2.5", "-xr")]
TEXTS = """AccessionNumber InstitutionName InstitutionAddress ReferringPhysicianName ReferringPhysicianAddress StationName
    StudyDescription SeriesDescription PerformingPhysicianName OperatorsName AdmittingDiagnosesDescription PatientName PatientID
    IssuerOfPatientID OtherPatientNames PatientBirthName PatientAddress PatientMotherBirthName MilitaryRank
    PatientTelephoneNumbers Occupation AdditionalPatientHistory PatientComments DeviceSerialNumber ProtocolName StudyID
    ImageComments RequestingPhysician RequestedProcedureDescription AdmissionID PerformedProcedureStepDescription
    DerivationDescription MedicalRecordLocator TimezoneOffsetFromUTC PatientReligiousPreference EthnicGroup
    CountryOfResidence RegionOfResidence ContributionDescription RequestedProcedureID ScheduledProcedureStepID""".split()
DATES = "StudyDate SeriesDate AcquisitionDate ContentDate PatientBirthDate InstanceCreationDate PerformedProcedureStepStartDate".split()
TIMES = "StudyTime SeriesTime AcquisitionTime ContentTime InstanceCreationTime".split()
UIDS = "SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID".split()


def put(item, keyword, value):
    tag = pydicom.datadict.tag_for_keyword(keyword)
    vr = pydicom.datadict.dictionary_VR(tag)
    limits = {"SH": 16, "CS": 16, "LO": 64, "PN": 64}
    item.add(DataElement(tag, vr, value[:limits.get(vr, 500)]))


def plant(item, number, depth):
    """Canaries of all kinds in one data set or item, `depth` levels of items below it."""
    for keyword in TEXTS:
        put(item, keyword, "CANARY %s" % keyword.upper() if keyword != "TimezoneOffsetFromUTC" else "CANARY")
    for keyword in DATES:
        put(item, keyword, "19870605")
    for keyword in TIMES:
        put(item, keyword, "113355.77")
    item.PatientAge = "066Y"
    item.AcquisitionDateTime = "19870605113355.77"
    for place, keyword in enumerate(UIDS):
        put(item, keyword, "%s.%d.%d" % (ROOT, number, place))
    item.add(DataElement(0x00090010, "LO", "CANARY MAKER"))
    item.add(DataElement(0x00091001, "LO", "CANARY SECRET"))
    item.add(DataElement(0x00091002, "OB", b"CANARY\0\1"))
    item.add(DataElement(0x00102ffe, "LO", "CANARY UNKNOWN"))
    if depth:
        for keyword in ("RequestAttributesSequence", "AnatomicRegionSequence", "ReferencedImageSequence", "ContentSequence"):
            inner = Dataset()
            plant(inner, number, depth - 1)
            setattr(item, keyword, Sequence([inner]))
        record, before = Dataset(), Dataset()
        plant(before, number, 0)
        record.ModifiedAttributesSequence = Sequence([before])
        record.AttributeModificationDateTime = "19870605113355.77"
        record.ModifyingSystem = record.SourceOfPreviousValues = "CANARY SYSTEM"
        record.ReasonForTheAttributeModification = "COERCE"
        item.OriginalAttributesSequence = Sequence([record])
        private = Dataset()
        plant(private, number, 0)
        item.add(DataElement(0x00091003, "SQ", Sequence([private])))


def image(number, depth=1):
    ds = Dataset()
    plant(ds, number, depth)
    ds.SOPClassUID, ds.Modality, ds.InstanceNumber, ds.SeriesNumber = CT, "CT", number, 7
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SliceThickness, ds.KVP = "1.25", "120"
    ds.Rows = ds.Columns = 8
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.BurnedInAnnotation = "NO"
    for group in (0x6000, 0x6002):
        ds.add(DataElement((group, 0x0010), "US", 8))
        ds.add(DataElement((group, 0x0011), "US", 8))
        ds.add(DataElement((group, 0x0022), "LO", "CANARY OVERLAY"))
        ds.add(DataElement((group, 0x1500), "LO", "CANARY LABEL"))
        ds.add(DataElement((group, 0x4000), "LT", "CANARY COMMENTS"))
        ds.add(DataElement((group, 0x3000), "OW", b"CANARY\0\1"))
    ds.add(DataElement(0x50000022, "LO", "CANARY CURVE"))
    ds.add(DataElement(0x50003000, "OW", b"CANARY\0\1"))
    ds.add(DataElement(0x50020010, "US", 1))
    ds.add(DataElement(0x50022500, "LO", "CANARY CURVE LABEL"))
    return ds


def save(ds, syntax, path, tail=b""):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.SourceApplicationEntityTitle = "CANARY_AE"
    meta.SendingApplicationEntityTitle = "CANARY_SND"
    meta.PrivateInformationCreatorUID = ROOT + ".9"
    meta.PrivateInformation = b"CANARY\0\1"
    ds.file_meta = meta
    out = BytesIO()
    pydicom.dcmwrite(out, ds, enforce_file_format=True)
    with open(path, "wb") as file:
        file.write(out.getvalue() + tail)


def element(tag, vr, value):
    """Explicit little endian."""
    value += b" " * (len(value) % 2)
    head = struct.pack("<HH2s", tag >> 16, tag & 0xffff, vr)
    return head + (struct.pack("<HI", 0, len(value)) if vr in part10.LONG else struct.pack("<H", len(value))) + value


def implicit_item(inner):
    return struct.pack("<HHI", 0xfffe, 0xe000, len(inner)) + inner


def implicit_element(tag, value):
    value += b" " * (len(value) % 2)
    return struct.pack("<HHI", tag >> 16, tag & 0xffff, len(value)) + value


def odd(number, insertions):
    """An explicit little endian data set without pixels, with elements as bytes put in where they belong."""
    ds = image(number)
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    pydicom.filewriter.write_dataset(buffer, ds)
    elements = walk.elements(buffer.getvalue(), "1.2.840.10008.1.2.1")
    replaced = {(tag >> 16, tag & 0xffff) for tag, _ in insertions}
    kept = [(tag, raw) for tag, raw in elements if tag not in replaced]
    kept += [((tag >> 16, tag & 0xffff), raw) for tag, raw in insertions]
    return b"".join(raw for _, raw in sorted(kept, key=lambda pair: pair[0]))


def odd_files():
    canary = b"CANARY ODD"
    uid = ("%s.5" % ROOT).encode("ascii")
    hidden = implicit_item(implicit_element(0x00100010, canary) + implicit_element(0x00081155, uid))
    return {
        # Sequences hidden in UN of declared length.
        "hidden": [(0x00081140, element(0x00081140, b"UN", hidden)), (0x00540016, element(0x00540016, b"UN", hidden)),
                   (0x0040a730, element(0x0040a730, b"UN", hidden))],
        # What ought to be a sequence and is text.
        "no-sequence": [(0x00081140, element(0x00081140, b"LO", canary)), (0x00540016, element(0x00540016, b"UT", canary)),
                        (0x00082112, element(0x00082112, b"UN", canary)), (0x00540013, element(0x00540013, b"UN", canary))],
        # Group lengths that hold something else, and elements of the file meta information in the data set.
        "groups": [(0x00090000, element(0x00090000, b"LO", canary)), (0x00180000, element(0x00180000, b"LO", canary)),
                   (0x00020016, element(0x00020016, b"AE", canary)), (0x00041500, element(0x00041500, b"CS", canary))],
        # Names in elements of another VR.
        "other-vr": [(0x00100010, element(0x00100010, b"OB", canary)), (0x00100020, element(0x00100020, b"UN", canary)),
                     (0x00080020, element(0x00080020, b"LO", canary)), (0x0020000d, element(0x0020000d, b"LO", canary)),
                     (0x00080080, element(0x00080080, b"UN", canary))],
        # A private element that no creator reserves, and a creator alone.
        "private": [(0x00111001, element(0x00111001, b"UN", canary)), (0x00130010, element(0x00130010, b"LO", canary)),
                    (0x00150002, element(0x00150002, b"LO", canary))],
    }


def make(folder):
    os.makedirs(folder, exist_ok=True)
    made, number = [], 0

    def path(name, kind, option=""):
        made.append({"path": os.path.join(folder, name), "kind": kind, "option": option})
        return made[-1]["path"]

    for syntax, option in SYNTAXES:
        number += 1
        ds = image(number, 3)
        pixels = bytes(range(64))
        native = option in ("-xi", "-xe", "-xb")
        ds.add(DataElement(0x7fe00010, "OB" if not native or option == "-xb" else "OW", pixels if native else encapsulate([pixels])))
        if not native:
            ds[0x7fe00010].is_undefined_length = True
        save(ds, syntax, path("plain%d.dcm" % number, "plain", option))
    number += 1
    ds = image(number)
    save(ds, walk.DEFLATED, path("deflated.dcm", "plain", "-xd"))
    tails = {"trailing": element(0xfffcfffc, b"OB", b"CANARY"), "private": element(0x7fe10010, b"LO", b"CANARY MAKER"),
             "overlay": element(0x60003000, b"OW", b"CANARY"), "curve": element(0x50003000, b"OW", b"CANARY"),
             "name": element(0x00100010, b"PN", b"CANARY")}
    for name, tail in tails.items():
        number += 1
        ds = image(number)
        ds.add(DataElement(0x7fe00010, "OW", bytes(64)))
        save(ds, "1.2.840.10008.1.2.1", path("behind-%s.dcm" % name, "held"), tail)
    for name, insertions in odd_files().items():
        number += 1
        data = odd(number, insertions)
        target = path("odd-%s.dcm" % name, "odd")
        plain = image(number)
        save(plain, "1.2.840.10008.1.2.1", target)
        with open(target, "rb") as file:
            whole = file.read()
        start = len(whole) - len(part10.parse(whole).data)
        with open(target, "wb") as file:
            file.write(whole[:start] + data)
    return made


def outside_pixels(whole):
    """All bytes of a file but the value of Pixel Data at its root, uncompressed."""
    file = part10.parse(whole)
    meta = whole[:len(whole) - len(file.data)]
    parts = [raw for tag, raw in walk.elements(file.data, file.syntax) if tag is None or tag[0] != 0x7fe0]
    return meta + b"".join(parts)


def problems_of(path, marks):
    with open(path, "rb") as file:
        whole = file.read()
    rest, found = outside_pixels(whole), []
    for mark in marks:
        if mark in rest:
            at = rest.index(mark)
            found.append("%r is left: %r" % (mark, rest[max(0, at - 24):at + 24]))
    ds = pydicom.dcmread(path)
    ds.walk(lambda item, one: one.value)
    wanted = {"PatientIdentityRemoved": "YES"}
    for keyword, value in wanted.items():
        if ds.get(keyword) != value:
            found.append(keyword)
    if not ds.get("DeidentificationMethod"):
        found.append("DeidentificationMethod")
    codes = [item.CodeValue for item in ds.get("DeidentificationMethodCodeSequence", [])]
    if "113100" not in codes:
        found.append("DeidentificationMethodCodeSequence %r" % codes)
    if ds.get("LongitudinalTemporalInformationModified") not in ("REMOVED", "MODIFIED", "UNMODIFIED"):
        found.append("LongitudinalTemporalInformationModified")
    if ds.file_meta.MediaStorageSOPInstanceUID != ds.get("SOPInstanceUID"):
        found.append("the command names %s, the data set %s" % (ds.file_meta.MediaStorageSOPInstanceUID, ds.get("SOPInstanceUID")))
    ran = subprocess.run(["dcmdump", "-q", "+E", path], capture_output=True)
    if ran.returncode or b"E:" in ran.stderr:
        found.append("dcmdump: %r" % ran.stderr[:200])
    if b"CANARY" in ran.stdout:
        found.append("dcmdump shows a canary")
    return ds, found


def files_in(folder):
    return sorted(path for path in glob.glob(os.path.join(folder, "**", "*"), recursive=True) if os.path.isfile(path))


def judge(*folders):
    """What is wrong with each file, and what is not the same in all folders' files of one number."""
    problems, uids, seen = {}, {}, {}
    for folder in folders:
        # With modified dates the times stay.
        marks = [mark for mark in MARKS if not (folder.endswith("modified") and mark == b"113355.77")]
        for path in files_in(folder):
            ds, found = problems_of(path, marks)
            number = int(ds.InstanceNumber)
            seen.setdefault(os.path.basename(folder), []).append(number)
            if ds.get("SliceThickness") != "1.25" or ds.get("SeriesNumber") != 7:
                found.append("an element that names nobody is gone")
            if ds.get("KVP") != "120" or ds.SOPClassUID != CT:
                found.append("KVP or SOP Class UID")
            own = uids.setdefault(number, ds.SOPInstanceUID)
            if own != ds.SOPInstanceUID or not own.startswith("2.25."):
                found.append("SOP Instance UID")
            if found:
                problems["%s/%s #%d" % (os.path.basename(folder), os.path.basename(path), number)] = found
    if len(set(uids.values())) != len(uids):
        problems["uids"] = ["two instances have become one"]
    return {"problems": problems, "seen": {name: sorted(numbers) for name, numbers in seen.items()}}


NAMING = """PatientName PatientID PatientBirthDate AccessionNumber InstitutionName InstitutionAddress ReferringPhysicianName
    PerformingPhysicianName OperatorsName StationName DeviceSerialNumber StudyDate SeriesDate AcquisitionDate ContentDate
    InstanceCreationDate OtherPatientIDs PatientAddress PhysiciansOfRecord NameOfPhysiciansReadingStudy StudyDescription
    RequestingPhysician PersonName VerifyingObserverName PatientComments AdditionalPatientHistory""".split()


def naming(ds):
    """The values of a data set, at every depth, that must not leave."""
    found = set()

    def see(item, one):
        text = str(one.value).strip() if one.VM == 1 and isinstance(one.value, (str, pydicom.valuerep.PersonName)) else ""
        is_uid = one.VR == "UI" and not text.startswith("1.2.840.10008.") and "ClassUID" not in one.keyword
        is_own = is_uid and len(text) >= 12 and one.keyword not in ("ImplementationClassUID", "SpecificCharacterSet", "ContextUID", "CodingSchemeUID")
        if text and (is_own or one.keyword in NAMING and len(text) >= 6):
            found.add(text)

    try:
        ds.walk(see)
    except Exception:  # pydicom's own hostile samples
        pass
    return found


def corpus(listing, *folders):
    with open(listing, encoding="utf-8") as file:
        files = json.load(file)
    values, harmless, problems, count = set(), set(), {}, {}
    for one in files:
        ds = pydicom.dcmread(one["path"], force=True, stop_before_pixels=True)
        values |= naming(ds)
        # The same words where they name nobody: a maker that is also an institution, a body part as a study's description.
        harmless |= {str(ds.get(keyword)) for keyword in ("Manufacturer", "PositionReferenceIndicator")}
    values = {value for value in values - harmless if len(set(value)) > 1}
    marks = [value.encode("latin-1", "ignore") for value in values if value.isascii()]
    for folder in folders:
        for path in files_in(folder):
            count[os.path.basename(folder)] = count.get(os.path.basename(folder), 0) + 1
            try:
                _, found = problems_of(path, marks)
            except Exception as error:
                found = ["pydicom: %s %s" % (type(error).__name__, error)]
            if found:
                problems[os.path.basename(path)] = found
    return {"problems": problems, "values": len(marks), "count": count}


def main():
    print(json.dumps({"make": make, "judge": judge, "corpus": corpus}[sys.argv[1]](*sys.argv[2:])))


if __name__ == "__main__":
    main()
