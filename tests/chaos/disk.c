/* A disk for the real binary, beneath one directory: loaded before the C library (LD_PRELOAD), because what a machine's disk does
 * when it is stuck, full, or without power cannot be asked of it.
 *
 * DISK_UNDER   the directory; nothing else is looked at
 * DISK_STUCK   while this file exists, whatever changes anything waits
 * DISK_FULL    while this file exists, nothing is written and no file made
 * DISK_SYNCED  a directory, on the same file system, that says what would be there if the power went now:
 *              contents.<inode>  a file as it was when it was last synced
 *              file.<inode>      another name of that file, so that nothing else gets its inode
 *              names.<inode>     a directory's names and their inodes, when it was last synced
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is_under(const char *path) {
  const char *under = getenv("DISK_UNDER");
  return under && path && strncmp(path, under, strlen(under)) == 0;
}

static int path_of(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return 1;
}

static int exists(const char *variable) {
  const char *path = getenv(variable);
  return path && access(path, F_OK) == 0;
}

/* Before a change. Not 0: there is no room for it. */
static int before(const char *path, int needs_room) {
  if (!is_under(path)) return 0;
  while (exists("DISK_STUCK")) nanosleep(&(struct timespec){0, 2 * 1000 * 1000}, NULL);
  if (needs_room && exists("DISK_FULL")) {
    errno = ENOSPC;
    return -1;
  }
  return 0;
}

static int before_fd(int fd, int needs_room) {
  char path[PATH_MAX];
  return path_of(fd, path) ? before(path, needs_room) : 0;
}

/* Puts what is written into `new` in the place of what the disk would have. */
static void keep(const char *new, const char *what, ino_t inode) {
  char kept[PATH_MAX];
  snprintf(kept, sizeof kept, "%s/%s.%llu", getenv("DISK_SYNCED"), what, (unsigned long long)inode);
  NEXT(rename)(new, kept);
}

static void after_sync(int fd) {
  static atomic_int count;
  char path[PATH_MAX], new[PATH_MAX], link[PATH_MAX + 64];
  const char *synced = getenv("DISK_SYNCED");
  struct stat status;
  if (!synced || !path_of(fd, path) || !is_under(path) || fstat(fd, &status) != 0) return;
  snprintf(new, sizeof new, "%s/new.%d", synced, atomic_fetch_add(&count, 1));
  if (S_ISDIR(status.st_mode)) {
    FILE *names = fopen(new, "w");
    DIR *directory = opendir(path);
    for (struct dirent *entry; names && directory && (entry = readdir(directory));)
      fprintf(names, "%llu %s\n", (unsigned long long)entry->d_ino, entry->d_name);
    if (directory) closedir(directory);
    if (names) fclose(names);
    keep(new, "names", status.st_ino);
    return;
  }
  snprintf(link, sizeof link, "%s/file.%llu", synced, (unsigned long long)status.st_ino);
  linkat(AT_FDCWD, path, AT_FDCWD, link, 0);
  char own[64], buffer[1 << 16];
  snprintf(own, sizeof own, "/proc/self/fd/%d", fd);
  int from = NEXT(open)(own, O_RDONLY), to = NEXT(open)(new, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  for (ssize_t length; from >= 0 && to >= 0 && (length = read(from, buffer, sizeof buffer)) > 0;)
    if (NEXT(write)(to, buffer, length) != length) abort();
  close(from);
  close(to);
  keep(new, "contents", status.st_ino);
}

#define OPEN(name)                                                            \
  int name(const char *path, int flags, ...) {                                \
    va_list rest;                                                             \
    va_start(rest, flags);                                                    \
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;                 \
    va_end(rest);                                                             \
    if (flags & (O_CREAT | O_TRUNC) && before(path, flags & O_CREAT)) return -1; \
    return NEXT(name)(path, flags, mode);                                     \
  }
OPEN(open)
OPEN(open64)

ssize_t write(int fd, const void *bytes, size_t length) {
  return before_fd(fd, 1) ? -1 : NEXT(write)(fd, bytes, length);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t position) {
  return before_fd(fd, 1) ? -1 : NEXT(pwrite64)(fd, bytes, length, position);
}

int ftruncate64(int fd, off64_t length) {
  return before_fd(fd, 0) ? -1 : NEXT(ftruncate64)(fd, length);
}

int rename(const char *from, const char *to) {
  return before(to, 0) ? -1 : NEXT(rename)(from, to);
}

int unlink(const char *path) {
  return before(path, 0) ? -1 : NEXT(unlink)(path);
}

int fsync(int fd) {
  before_fd(fd, 0);
  int done = NEXT(fsync)(fd);
  if (done == 0) after_sync(fd);
  return done;
}

int fdatasync(int fd) {
  before_fd(fd, 0);
  int done = NEXT(fdatasync)(fd);
  if (done == 0) after_sync(fd);
  return done;
}
