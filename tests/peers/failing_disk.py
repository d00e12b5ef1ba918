"""A disk in a file, for nbdkit's Python plugin, that answers EIO as long as it is told to.

nbdkit python failing_disk.py file=IMAGE folder=FOLDER seed=N

While FOLDER holds a file `read`, `write` or `flush`, the share of such requests that the file names (0 to 1) fails.
"""
import errno
import os
import random

import nbdkit

API_VERSION = 2

settings = {}
generator = random.Random()


def config(key, value):
    settings[key] = value
    if key == "seed":
        generator.seed(int(value))


def open(readonly):
    return os.open(settings["file"], os.O_RDWR)


def close(disk):
    os.close(disk)


def get_size(disk):
    return os.fstat(disk).st_size


def can_flush(disk):
    return True


def fail(kind):
    try:
        with io_open(os.path.join(settings["folder"], kind)) as file:
            share = float(file.read() or 1)
    except FileNotFoundError:
        return
    if generator.random() < share:
        with io_open(os.path.join(settings["folder"], "failed-" + kind), "a") as file:
            file.write(".")
        nbdkit.set_error(errno.EIO)
        raise RuntimeError("told to fail")


def io_open(path, mode="r"):
    import io
    return io.open(path, mode, encoding="ascii")


def pread(disk, buffer, offset, flags):
    fail("read")
    data = os.pread(disk, len(buffer), offset)
    buffer[:len(data)] = data


def pwrite(disk, buffer, offset, flags):
    fail("write")
    os.pwrite(disk, buffer, offset)


def flush(disk, flags):
    # What was written is in the file, which no power is cut from.
    fail("flush")
