/* DCMTK's storescp has no option to flush what it stores. Preloaded into it, this makes every file that was written durable
 * before it is closed (fflush, then fdatasync), which storescp does before it answers. The directory is not flushed: what
 * ext4 does about a new file's name at its fdatasync is the peer's to have for nothing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int fclose(FILE *stream) {
    static int (*next)(FILE *);
    if (!next) next = (int (*)(FILE *))dlsym(RTLD_NEXT, "fclose");
    int fd = fileno(stream);
    if (fd >= 0 && (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY) {
        fflush(stream);
        fdatasync(fd);
    }
    return next(stream);
}
