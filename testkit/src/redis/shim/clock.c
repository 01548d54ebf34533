/* A server's wall clock, thrown by as many microseconds as a file says, or stopped at a time.
 *
 * Preloaded into redis-server. The file holds the offset and its complement, or the time and that
 * time with every other bit flipped, so that a reader who meets half a write looks again rather
 * than see a wild clock for a moment. Monotonic clocks stay
 * true, as they do when an operator or a time server sets a machine's clock.
 *
 * Valkey from 9.1 on asks for the time once a millisecond, and adds what the processor's own clock
 * counted since, if /proc/cpuinfo says that this can be relied on. That file is empty here: so it
 * asks each time, and a clock that stands still does.
 *
 * The kernel is asked by plain system calls: looking the real functions up would allocate, and
 * redis-server's allocator asks for the time while it starts. For 64-bit Linux. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define STOPPED 0x5555555555555555

static const int64_t *thrown_by;

__attribute__((constructor)) static void find_file(void) {
    const char *path = getenv("TESTKIT_CLOCK");
    if (!path)
        return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *map = mmap(NULL, 16, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        abort();
    thrown_by = map;
    close(fd);
}

/* What the clock shows, in microseconds since the epoch, and the nanoseconds beyond them. */
static int64_t shown(long *nanos) {
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    *nanos = now.tv_nsec % 1000;
    int64_t micros = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
    while (thrown_by) {
        int64_t by = __atomic_load_n(&thrown_by[0], __ATOMIC_ACQUIRE);
        int64_t check = __atomic_load_n(&thrown_by[1], __ATOMIC_ACQUIRE);
        if (check == ~by)
            return micros + by;
        if (check == (by ^ STOPPED))
            return by;
    }
    return micros;
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)
        return (int)syscall(SYS_clock_gettime, clock, out);
    long nanos;
    int64_t micros = shown(&nanos);
    out->tv_sec = micros / 1000000;
    out->tv_nsec = micros % 1000000 * 1000 + nanos;
    return 0;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    (void)zone;
    long nanos;
    int64_t micros = shown(&nanos);
    out->tv_sec = micros / 1000000;
    out->tv_usec = micros % 1000000;
    return 0;
}

time_t time(time_t *out) {
    long nanos;
    time_t seconds = shown(&nanos) / 1000000;
    if (out)
        *out = seconds;
    return seconds;
}

typedef FILE *opening(const char *, const char *);

static FILE *opened(const char *by, const char *path, const char *mode) {
    opening *real = (opening *)dlsym(RTLD_NEXT, by);
    if (!real)
        abort();
    return real(thrown_by && strcmp(path, "/proc/cpuinfo") == 0 ? "/dev/null" : path, mode);
}

FILE *fopen(const char *restrict path, const char *restrict mode) {
    return opened("fopen", path, mode);
}

FILE *fopen64(const char *restrict path, const char *restrict mode) {
    return opened("fopen64", path, mode);
}
