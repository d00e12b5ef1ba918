"""What was acknowledged against what arrived. Knows nothing of the box; prints one JSON object.

usage: oracle.py SENT FOLDER ARCHIVE CRASHES ASSOCIATIONS

SENT and ARCHIVE are journals of load.py and archive.py, FOLDER a folder destination, CRASHES a file with one time for each
kill, taken before the next start. An association belongs to the life of the box in which it began. An instance may reach the
archive twice only in two different lives (its confirmation was lost with the first), and the end of each life excuses no
more than one instance for each of the box's ASSOCIATIONS to that archive.
"""
import bisect
import hashlib
import json
import os
import sys
from collections import Counter, defaultdict

import part10


def journal(path):
    with open(path, encoding="ascii") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]


def folder_digests(folder):
    found = defaultdict(list)
    for directory, _, names in os.walk(folder):
        for name in names:
            # A file still being written (or left by a crash) under another name has not arrived.
            if name.startswith(".waystation-"):
                continue
            file = part10.read(os.path.join(directory, name))
            found[file.sop_instance].append(hashlib.sha256(file.data).hexdigest())
    return found


def main():
    sent_path, folder, archive_path, crashes_path, associations = sys.argv[1:6]
    sent, archive = journal(sent_path), journal(archive_path)
    attempted = {line["sop"]: line["sha256"] for line in sent if line["event"] == "attempt"}
    acknowledged = {line["sop"] for line in sent if line["event"] == "acknowledged"}
    at_archive = defaultdict(list)
    began = {line["association"]: line["t"] for line in archive if line["event"] == "association"}
    for line in archive:
        if line["event"] == "stored":
            at_archive[line["sop"]].append((line["t"], line["sha256"], began[line["association"]]))
    in_folder = folder_digests(folder)
    with open(crashes_path, encoding="ascii") as file:
        crashes = sorted(float(line) for line in file)

    excused, unexcused, duplicates = Counter(), [], 0
    for sop, copies in at_archive.items():
        copies.sort()
        lives = [bisect.bisect(crashes, start) for _, _, start in copies]
        for before, after in zip(lives, lives[1:]):
            duplicates += 1
            if before < after:
                excused[before] += 1
            else:
                unexcused.append(sop)
    wrong = lambda digests, sop: [digest for digest in digests if digest != attempted.get(sop)]
    print(json.dumps({
        "attempted": len(attempted), "acknowledged": len(acknowledged), "crashes": len(crashes),
        "missing_at_archive": sorted(acknowledged - set(at_archive)),
        "missing_in_folder": sorted(acknowledged - set(in_folder)),
        "damaged_at_archive": sorted(s for s, copies in at_archive.items() if wrong([d for _, d, _ in copies], s)),
        "damaged_in_folder": sorted(s for s, digests in in_folder.items() if wrong(digests, s)),
        "twice_in_folder": sorted(s for s, digests in in_folder.items() if len(digests) > 1),
        "duplicates": duplicates, "unexcused": unexcused,
        "over_the_bound": {life: n for life, n in excused.items() if n > int(associations)},
        "answers": dict(Counter("%04X" % line["status"] for line in sent if line["event"] == "answered")),
    }))


if __name__ == "__main__":
    main()
