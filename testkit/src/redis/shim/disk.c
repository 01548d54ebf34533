/* What of a server's append-only file is on the disk: its size when it was last synced.
 *
 * Preloaded into redis-server. Killing a process loses nothing, since the kernel keeps what was
 * written; a power failure loses what was not synced. For each append-only file a file of the same
 * name in the directory TESTKIT_SYNCED holds the size up to which a completed sync reached, as
 * eight bytes. The size is read before the sync begins: what is written meanwhile may be lost. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char notes[4096];

__attribute__((constructor)) static void find_notes(void) {
    const char *path = getenv("TESTKIT_SYNCED");
    if (path && strlen(path) < sizeof notes)
        strcpy(notes, path);
}

/* A sync that can't be noted would be a loss that never was. */
static void note(int fd, int64_t size) {
    char link[64], path[4096], file[8192];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        abort();
    path[length] = 0;
    const char *name = strrchr(path, '/');
    /* The second one before Redis 7. */
    if (!name || (!strstr(name, ".incr.aof") && strcmp(name, "/appendonly.aof") != 0))
        return;
    snprintf(file, sizeof file, "%s%s", notes, name);
    int out = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (out < 0 || pwrite(out, &size, sizeof size, 0) != sizeof size)
        abort();
    close(out);
}

static int noted(long call, int fd) {
    struct stat before;
    int known = notes[0] && fstat(fd, &before) == 0 && S_ISREG(before.st_mode);
    int outcome = (int)syscall(call, fd);
    if (outcome == 0 && known) {
        int saved = errno;
        note(fd, before.st_size);
        errno = saved;
    }
    return outcome;
}

int fsync(int fd) { return noted(SYS_fsync, fd); }

int fdatasync(int fd) { return noted(SYS_fdatasync, fd); }
