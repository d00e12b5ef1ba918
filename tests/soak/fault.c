/* A fault at the N-th write to a regular file, counted over all threads of the box: preloaded into it by `soak-syscalls`.
 *
 * strace counts the calls of each thread, counts those to sockets and event descriptors too, and cannot make a write shorter
 * (its `retval=` says so without writing anything, which is a lie that no file system tells).
 *
 * FAULT_CALL   write or pwrite64
 * FAULT_AT     which one; 0 counts only
 * FAULT_KIND   short (half of the bytes are written), kill (SIGKILL before it), or a number for errno
 * FAULT_LOG    a byte is appended for each call, and a line for the fault
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *call, *kind;
static long at;
static int notes = -1;
static atomic_long seen;

__attribute__((constructor)) static void settings(void) {
    const char *log = getenv("FAULT_LOG"), *number = getenv("FAULT_AT");
    kind = getenv("FAULT_KIND");
    at = number ? atol(number) : 0;
    if (log)
        notes = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    call = getenv("FAULT_CALL");
}

static void note(const char *text) {
    if (notes >= 0)
        syscall(SYS_write, notes, text, strlen(text));
}

/* How many of the bytes to write, or -1 with errno. Standard error is the box's log, no disk of its spool. */
static ssize_t fate(const char *which, int file, size_t bytes) {
    struct stat about;
    if (!call || strcmp(call, which) || file <= 2 || file == notes || fstat(file, &about) || !S_ISREG(about.st_mode))
        return bytes;
    long number = atomic_fetch_add(&seen, 1) + 1;
    if (number != at) {
        note(".");
        return bytes;
    }
    note("\nhit\n");
    if (!strcmp(kind, "kill"))
        kill(getpid(), SIGKILL);
    if (!strcmp(kind, "short"))
        return bytes > 1 ? bytes / 2 : bytes;
    errno = atoi(kind);
    return -1;
}

ssize_t write(int file, const void *from, size_t bytes) {
    ssize_t now = fate("write", file, bytes);
    return now < 0 ? now : syscall(SYS_write, file, from, now);
}

ssize_t pwrite64(int file, const void *from, size_t bytes, off64_t offset) {
    ssize_t now = fate("pwrite64", file, bytes);
    return now < 0 ? now : syscall(SYS_pwrite64, file, from, now, offset);
}

ssize_t pwrite(int file, const void *from, size_t bytes, off_t offset) {
    return pwrite64(file, from, bytes, offset);
}
