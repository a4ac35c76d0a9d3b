/* Ends the process at its nth call that changes a file or a lock: preloaded, and armed by cut_arm().

   Armed with torn = 1, a write in which it ends has written its first half. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static long left, count;
static int torn;

void cut_arm(long nth, int half) { left = nth; torn = half; count = 0; }
long cut_count(void) { return count; }

/* 0: go on; 1: this is the call. */
static int here(void) { count++; return left && --left == 0; }
static void end(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define PLAIN(type, name, parameters, arguments) \
    type name parameters { REAL(name); if (here()) end(); return real arguments; }

PLAIN(int, fsync, (int fd), (fd))
PLAIN(int, fdatasync, (int fd), (fd))
PLAIN(int, rename, (const char *from, const char *to), (from, to))
PLAIN(int, unlink, (const char *path), (path))
PLAIN(int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags))
PLAIN(int, rmdir, (const char *path), (path))
PLAIN(int, mkdir, (const char *path, mode_t mode), (path, mode))
PLAIN(int, mkfifo, (const char *path, mode_t mode), (path, mode))
PLAIN(int, chmod, (const char *path, mode_t mode), (path, mode))
PLAIN(int, ftruncate, (int fd, off_t size), (fd, size))
PLAIN(int, ftruncate64, (int fd, off64_t size), (fd, size))
PLAIN(int, posix_fallocate, (int fd, off_t from, off_t size), (fd, from, size))
PLAIN(int, posix_fallocate64, (int fd, off64_t from, off64_t size), (fd, from, size))
int msync(void *at, size_t size, int flags);
PLAIN(int, msync, (void *at, size_t size, int flags), (at, size, flags))

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    if (here()) { if (torn) real(fd, data, size / 2); end(); }
    return real(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    REAL(pwrite);
    if (here()) { if (torn) real(fd, data, size / 2, at); end(); }
    return real(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(pwrite64);
    if (here()) { if (torn) real(fd, data, size / 2, at); end(); }
    return real(fd, data, size, at);
}
ssize_t writev(int fd, const struct iovec *parts, int number) {
    REAL(writev);
    if (here()) { if (torn) real(fd, parts, (number + 1) / 2); end(); }
    return real(fd, parts, number);
}
ssize_t pwritev(int fd, const struct iovec *parts, int number, off_t at) {
    REAL(pwritev);
    if (here()) { if (torn) real(fd, parts, (number + 1) / 2, at); end(); }
    return real(fd, parts, number, at);
}

static int changes_lock(int command) { return command == F_SETLK || command == F_SETLKW; }
int fcntl(int fd, int command, ...) {
    REAL(fcntl);
    va_list rest; va_start(rest, command); void *argument = va_arg(rest, void *); va_end(rest);
    if (changes_lock(command) && here()) end();
    return real(fd, command, argument);
}
int fcntl64(int fd, int command, ...) {
    REAL(fcntl64);
    va_list rest; va_start(rest, command); void *argument = va_arg(rest, void *); va_end(rest);
    if (changes_lock(command) && here()) end();
    return real(fd, command, argument);
}
