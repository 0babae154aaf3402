/* Let chosen file operations below one directory fail with a chosen errno.

   Loaded with LD_PRELOAD, this counts every operation that any library of the process (Python,
   Arrow, safetensors) makes on files below a root, and lets those fail whose numbers are armed. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[PATH_MAX];
static atomic_long counted, first, last;
static atomic_int number;

/* Operations with the numbers first_to_fail to last_to_fail (from 1) fail; the count starts anew. */
void faulty_arm(const char *directory, long first_to_fail, long last_to_fail, int errno_to_set) {
    strncpy(root, directory, sizeof root - 1);
    number = errno_to_set;
    first = first_to_fail;
    last = last_to_fail;
    counted = 0;
}

long faulty_count(void) { return counted; }

static int fails_at(const char *path) {
    size_t length = strlen(root);
    if (!length || !path || strncmp(path, root, length)) return 0;
    long place = ++counted;
    if (place < first || place > last) return 0;
    errno = number;
    return 1;
}

static int fails(int fd) {
    if (!root[0] || fd < 0) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlink, link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails_at(path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ON_FD(result, name, parameters, ...)                                                       \
    result name parameters { return fails(fd) ? -1 : REAL(name)(__VA_ARGS__); }
#define ON_PATH(result, name, parameters, ...)                                                     \
    result name parameters { return fails_at(path) ? -1 : REAL(name)(__VA_ARGS__); }

ON_FD(ssize_t, read, (int fd, void *b, size_t n), fd, b, n)
ON_FD(ssize_t, pread, (int fd, void *b, size_t n, off_t o), fd, b, n, o)
ON_FD(ssize_t, pread64, (int fd, void *b, size_t n, off64_t o), fd, b, n, o)
ON_FD(ssize_t, write, (int fd, const void *b, size_t n), fd, b, n)
ON_FD(ssize_t, writev, (int fd, const struct iovec *v, int n), fd, v, n)
ON_FD(ssize_t, pwrite, (int fd, const void *b, size_t n, off_t o), fd, b, n, o)
ON_FD(ssize_t, pwrite64, (int fd, const void *b, size_t n, off64_t o), fd, b, n, o)
/* Nothing is flushed, which saves most of the time: no test cuts the power. */
int fsync(int fd) { return fails(fd) ? -1 : 0; }
int fdatasync(int fd) { return fails(fd) ? -1 : 0; }
ON_FD(int, ftruncate, (int fd, off_t n), fd, n)
ON_FD(int, fstat, (int fd, struct stat *s), fd, s)
ON_FD(int, fstat64, (int fd, struct stat64 *s), fd, s)
ON_PATH(int, stat, (const char *path, struct stat *s), path, s)
ON_PATH(int, stat64, (const char *path, struct stat64 *s), path, s)
ON_PATH(int, lstat, (const char *path, struct stat *s), path, s)
ON_PATH(int, lstat64, (const char *path, struct stat64 *s), path, s)
ON_PATH(int, fstatat, (int fd, const char *path, struct stat *s, int f), fd, path, s, f)
ON_PATH(int, fstatat64, (int fd, const char *path, struct stat64 *s, int f), fd, path, s, f)
ON_PATH(int, statx, (int fd, const char *path, int f, unsigned m, struct statx *s), fd, path, f, m, s)
ON_PATH(int, rename, (const char *path, const char *to), path, to)
ON_PATH(int, renameat, (int fd, const char *path, int g, const char *to), fd, path, g, to)
ON_PATH(int, link, (const char *path, const char *to), path, to)
ON_PATH(int, linkat, (int fd, const char *path, int g, const char *to, int f), fd, path, g, to, f)
ON_PATH(int, unlink, (const char *path), path)
ON_PATH(int, unlinkat, (int fd, const char *path, int f), fd, path, f)
ON_PATH(int, rmdir, (const char *path), path)
ON_PATH(int, mkdir, (const char *path, mode_t m), path, m)
ON_PATH(int, mkdirat, (int fd, const char *path, mode_t m), fd, path, m)

#define MODE(flags) va_list list; va_start(list, flags); mode_t mode = va_arg(list, mode_t); va_end(list)
int open(const char *path, int flags, ...) {
    MODE(flags);
    return fails_at(path) ? -1 : REAL(open)(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags);
    return fails_at(path) ? -1 : REAL(open64)(path, flags, mode);
}
int openat(int fd, const char *path, int flags, ...) {
    MODE(flags);
    return fails_at(path) ? -1 : REAL(openat)(fd, path, flags, mode);
}
int openat64(int fd, const char *path, int flags, ...) {
    MODE(flags);
    return fails_at(path) ? -1 : REAL(openat64)(fd, path, flags, mode);
}
FILE *fopen(const char *path, const char *mode) {
    return fails_at(path) ? NULL : REAL(fopen)(path, mode);
}
FILE *fopen64(const char *path, const char *mode) {
    return fails_at(path) ? NULL : REAL(fopen64)(path, mode);
}
DIR *opendir(const char *path) { return fails_at(path) ? NULL : REAL(opendir)(path); }
struct dirent *readdir(DIR *dir) { return fails(dirfd(dir)) ? NULL : REAL(readdir)(dir); }
struct dirent64 *readdir64(DIR *dir) { return fails(dirfd(dir)) ? NULL : REAL(readdir64)(dir); }

/* A close that reports a fault has closed the file all the same. */
int close(int fd) {
    int failed = fails(fd), reported = errno;
    int result = REAL(close)(fd);
    if (!failed) return result;
    errno = reported;
    return -1;
}
