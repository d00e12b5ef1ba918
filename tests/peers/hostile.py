"""The hostile corpus: every case of the `abuse_*` modules against one running box, while a good modality stores.

usage: hostile.py ENVIRONMENT [NAME PART]

ENVIRONMENT is a JSON file: ports, paths and the process id of the box. Prints a line for each case that failed, then one
JSON object: how many passed and failed, the good modality's latencies, the memory of the box before and after.
"""
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import abuse_doors
import abuse_rows
import abuse_states
import abuse_wire
import modality
import wire

WORKERS = 12


class Box:
    """The process as the kernel shows it."""

    def __init__(self, pid):
        self.pid = pid
        self.born = self.start()

    def start(self):
        try:
            with open("/proc/%d/stat" % self.pid, encoding="ascii") as file:
                return file.read().rsplit(")", 1)[1].split()[19]
        except OSError:
            return None

    def same(self):
        return self.born is not None and self.start() == self.born

    def kib(self, key):
        with open("/proc/%d/status" % self.pid, encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(key))


class Good(threading.Thread):
    """A modality that stores one object after another, each over an association of its own."""

    def __init__(self, port, calling="MR1", timeout=30):
        super().__init__(daemon=True)
        self.port, self.calling, self.timeout = port, calling, timeout
        self.seconds, self.failures, self.stored = [], [], []
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.is_set():
            uid, began = modality.fresh_uid(), time.monotonic()
            try:
                peer = wire.Association(self.port, "WAYSTATION", self.calling, [(1, wire.MR, [wire.EXPLICIT])],
                                        timeout=self.timeout)
                answer = peer.store(1, wire.MR, uid, modality.data_set(wire.MR, uid, bytes(2000)))["status"]
                peer.release()
                if answer != 0:
                    self.failures.append("status %04X" % answer)
                self.stored.append(uid)
            except (OSError, wire.Closed, wire.Aborted, wire.Rejected) as error:
                self.failures.append("%s %s" % (type(error).__name__, error))
            self.seconds.append(time.monotonic() - began)
            self.stopping.wait(0.02)

    def report(self):
        self.stopping.set()
        self.join()
        ordered = sorted(self.seconds)
        return {"count": len(ordered), "failures": self.failures[:10], "sops": self.stored,
                "p50_s": ordered[len(ordered) // 2], "p99_s": ordered[len(ordered) * 99 // 100], "max_s": ordered[-1]}


def judge(name, expected, run, env, box):
    began = time.monotonic()
    try:
        got = run(env)
    except Exception as error:  # a case that fails to run has failed
        got = "%s: %s" % (type(error).__name__, error)
    right = got == expected or (isinstance(expected, tuple) and got in expected)
    return {"name": name, "expected": expected, "got": got, "seconds": round(time.monotonic() - began, 2),
            "passed": right and box.same(), "same_process": box.same()}


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        env = json.load(file)
    chosen = sys.argv[2] if len(sys.argv) > 2 else ""
    cases = {**abuse_wire.CASES, **abuse_doors.CASES, **abuse_rows.CASES, **abuse_states.CASES}
    assert not abuse_rows.missing(cases), abuse_rows.missing(cases)
    cases = {name: case for name, case in cases.items() if chosen in name}
    box = Box(env["pid"])
    good = Good(env["port"])
    good.start()
    doors = abuse_doors.prepare(env)
    time.sleep(0.5)
    before = box.kib("VmRSS")
    with ThreadPoolExecutor(WORKERS) as pool:
        results = list(pool.map(lambda case: judge(case[0], *case[1], env, box), cases.items()))
    after = box.kib("VmRSS")
    doors.close()
    failed = [result for result in results if not result["passed"]]
    for result in failed:
        print(json.dumps(result))
    print(json.dumps({"passed": len(results) - len(failed), "failed": len(failed), "good": good.report(),
                      "names": [result["name"] for result in failed], "same_process": box.same(),
                      "rss_before_kib": before, "rss_after_kib": after, "rss_peak_kib": box.kib("VmHWM")}))


if __name__ == "__main__":
    main()
