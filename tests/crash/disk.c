/* A disk between a process and the kernel's: preloaded (LD_PRELOAD), it writes down every change to files below $DISK_ROOT and every answer on a socket, in order,
 * and makes the Nth of them fail where $DISK_CONTROL says so. `disk.rs` reads both; its head says what for.
 *
 * Journal: records of one byte what, 8 bytes handle, 8 bytes number, 4 bytes length and so many bytes, 4 bytes length and so many bytes.
 * Control: struct control, mapped; whoever tests writes it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct control {
    uint32_t armed;      /* 1: count; fail those from `at` on */
    uint32_t error;      /* errno to fail with */
    uint32_t at;         /* the first that fails, counted from 1 */
    uint32_t lasting;    /* 1: all after it fail too */
    uint32_t counted;    /* so far */
    uint32_t failed;     /* so far */
    uint32_t unreadable; /* errno that reading files fails with, or 0 */
};

#define FILES 65536
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length;
static int journal = -1;
static struct control *control;
static uint64_t handles[FILES];
static uint64_t next_handle = 1;
static int is_socket[FILES];

static void raw(const void *bytes, size_t length) {
    const char *at = bytes;
    while (length > 0) {
        long written = syscall(SYS_write, journal, at, length);
        if (written < 0) { if (errno == EINTR) continue; abort(); }
        at += written;
        length -= (size_t)written;
    }
}

static void record(char what, uint64_t handle, uint64_t number, const void *one, uint32_t one_length, const void *two, uint32_t two_length) {
    if (journal < 0) return;
    char head[21];
    head[0] = what;
    memcpy(head + 1, &handle, 8);
    memcpy(head + 9, &number, 8);
    memcpy(head + 17, &one_length, 4);
    raw(head, sizeof head);
    raw(one, one_length);
    raw(&two_length, 4);
    raw(two, two_length);
}

__attribute__((constructor)) static void begin(void) {
    const char *where = getenv("DISK_ROOT");
    if (!where || !realpath(where, root)) return;
    root_length = strlen(root);
    const char *path = getenv("DISK_JOURNAL");
    if (path) journal = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    path = getenv("DISK_CONTROL");
    if (path) {
        int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
        if (file >= 0) {
            control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
            if (control == MAP_FAILED) abort();
            syscall(SYS_close, file);
        }
    }
    unsetenv("LD_PRELOAD");
}

/* Whether this one is to fail. */
static int fails(void) {
    if (!control || !__atomic_load_n(&control->armed, __ATOMIC_SEQ_CST)) return 0;
    uint32_t count = ++control->counted;
    if (count == control->at || (count > control->at && control->lasting)) {
        control->failed++;
        errno = (int)control->error;
        return 1;
    }
    return 0;
}

static int below(const char *path) {
    return root_length && strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}

/* The path from the root on, if it is below. */
static const char *inside(int directory, const char *path, char *buffer) {
    if (!root_length || !path) return NULL;
    if (path[0] != '/') {
        char link[64];
        char base[PATH_MAX];
        if (directory == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) return NULL;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
            ssize_t length = readlink(link, base, sizeof base - 1);
            if (length < 0) return NULL;
            base[length] = 0;
        }
        if (snprintf(buffer, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return NULL;
    } else {
        snprintf(buffer, PATH_MAX, "%s", path);
    }
    if (!below(buffer)) return NULL;
    return buffer[root_length] ? buffer + root_length + 1 : buffer + root_length;
}

static int opened(int file, const char *in, int flags, int was_there) {
    if (file < 0 || file >= FILES) return file;
    handles[file] = next_handle++;
    is_socket[file] = 0;
    uint64_t number = (was_there ? 0 : 1) | (flags & O_TRUNC ? 2 : 0);
    record('o', handles[file], number, in, (uint32_t)strlen(in), "", 0);
    return file;
}

static int do_open(int directory, const char *path, int flags, mode_t mode) {
    char buffer[PATH_MAX];
    const char *in = inside(directory, path, buffer);
    if (!in) {
        int file = (int)syscall(SYS_openat, directory, path, flags, mode);
        if (file >= 0 && file < FILES) handles[file] = 0, is_socket[file] = 0;
        return file;
    }
    pthread_mutex_lock(&lock);
    struct stat found;
    int was_there = stat(buffer, &found) == 0;
    int file = -1;
    if (was_there || !(flags & O_CREAT) || !fails()) {
        file = opened((int)syscall(SYS_openat, directory, path, flags, mode), in, flags, was_there || !(flags & O_CREAT));
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return file;
}

#define MODE_OF(flags) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }

int open(const char *path, int flags, ...) { MODE_OF(flags) return do_open(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags) return do_open(AT_FDCWD, path, flags, mode); }
int openat(int directory, const char *path, int flags, ...) { MODE_OF(flags) return do_open(directory, path, flags, mode); }
int openat64(int directory, const char *path, int flags, ...) { MODE_OF(flags) return do_open(directory, path, flags, mode); }

static FILE *do_fopen(const char *path, const char *how) {
    int flags = how[0] == 'r' ? O_RDONLY : how[0] == 'w' ? O_WRONLY | O_CREAT | O_TRUNC : O_WRONLY | O_CREAT | O_APPEND;
    int file = do_open(AT_FDCWD, path, flags | O_CLOEXEC, 0666);
    return file < 0 ? NULL : fdopen(file, how);
}
FILE *fopen(const char *path, const char *how) { return do_fopen(path, how); }
FILE *fopen64(const char *path, const char *how) { return do_fopen(path, how); }

static uint64_t handle_of(int file) { return file >= 0 && file < FILES ? handles[file] : 0; }

/* Runs one system call on a file below the root: counted, made to fail, or written down. */
#define ON_FILE(file, what, number, bytes, length, call) \
    pthread_mutex_lock(&lock); \
    ssize_t done = -1; \
    if (!fails()) { \
        done = (call); \
        if (done >= 0) record(what, handle_of(file), (uint64_t)(number), bytes, (uint32_t)(length), "", 0); \
    } \
    int error = errno; \
    pthread_mutex_unlock(&lock); \
    errno = error; \
    return done;

ssize_t write(int file, const void *bytes, size_t length) {
    if (file >= 0 && file < FILES && is_socket[file] && journal >= 0) {
        pthread_mutex_lock(&lock);
        record('a', (uint64_t)file, 0, bytes, (uint32_t)length, "", 0);
        pthread_mutex_unlock(&lock);
    }
    if (!handle_of(file)) return syscall(SYS_write, file, bytes, length);
    long at = syscall(SYS_lseek, file, 0, SEEK_CUR);
    int flags = fcntl(file, F_GETFL);
    if (flags >= 0 && (flags & O_APPEND)) { struct stat found; if (fstat(file, &found) == 0) at = found.st_size; }
    ON_FILE(file, 'w', at, bytes, done, syscall(SYS_write, file, bytes, length))
}

static ssize_t do_pwrite(int file, const void *bytes, size_t length, off_t at) {
    if (!handle_of(file)) return syscall(SYS_pwrite64, file, bytes, length, at);
    ON_FILE(file, 'w', at, bytes, done, syscall(SYS_pwrite64, file, bytes, length, at))
}
ssize_t pwrite(int file, const void *bytes, size_t length, off_t at) { return do_pwrite(file, bytes, length, at); }
ssize_t pwrite64(int file, const void *bytes, size_t length, off_t at) { return do_pwrite(file, bytes, length, at); }

/* Whether what is in files below the root cannot be read. */
static int is_unreadable(int file) {
    uint32_t error = control ? __atomic_load_n(&control->unreadable, __ATOMIC_SEQ_CST) : 0;
    if (!error || !handle_of(file)) return 0;
    errno = (int)error;
    return 1;
}
static ssize_t do_pread(int file, void *bytes, size_t length, off_t at) {
    return is_unreadable(file) ? -1 : syscall(SYS_pread64, file, bytes, length, at);
}
ssize_t pread(int file, void *bytes, size_t length, off_t at) { return do_pread(file, bytes, length, at); }
ssize_t pread64(int file, void *bytes, size_t length, off_t at) { return do_pread(file, bytes, length, at); }
ssize_t read(int file, void *bytes, size_t length) { return is_unreadable(file) ? -1 : syscall(SYS_read, file, bytes, length); }

/* Answers of the admin socket leave by these. */
static void answer(int file, const struct iovec *parts, size_t count) {
    if (journal < 0) return;
    size_t total = 0;
    for (size_t i = 0; i < count; i++) total += parts[i].iov_len;
    char *all = malloc(total);
    size_t at = 0;
    for (size_t i = 0; all && i < count; i++) { memcpy(all + at, parts[i].iov_base, parts[i].iov_len); at += parts[i].iov_len; }
    pthread_mutex_lock(&lock);
    if (all) record('a', (uint64_t)file, 0, all, (uint32_t)total, "", 0);
    pthread_mutex_unlock(&lock);
    free(all);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    if (handle_of(file)) {
        ssize_t total = 0;
        for (int i = 0; i < count; i++) {
            ssize_t done = write(file, parts[i].iov_base, parts[i].iov_len);
            if (done < 0) return total ? total : done;
            total += done;
        }
        return total;
    }
    if (file >= 0 && file < FILES && is_socket[file]) answer(file, parts, (size_t)count);
    return syscall(SYS_writev, file, parts, count);
}

ssize_t send(int file, const void *bytes, size_t length, int flags) {
    struct iovec part = { (void *)bytes, length };
    answer(file, &part, 1);
    return syscall(SYS_sendto, file, bytes, length, flags, NULL, 0);
}

ssize_t sendmsg(int file, const struct msghdr *message, int flags) {
    answer(file, message->msg_iov, message->msg_iovlen);
    return syscall(SYS_sendmsg, file, message, flags);
}

int accept4(int file, struct sockaddr *address, socklen_t *length, int flags) {
    int made = (int)syscall(SYS_accept4, file, address, length, flags);
    if (made >= 0 && made < FILES) is_socket[made] = 1, handles[made] = 0;
    return made;
}

int close(int file) {
    if (file >= 0 && file < FILES) {
        pthread_mutex_lock(&lock);
        handles[file] = 0;
        is_socket[file] = 0;
        pthread_mutex_unlock(&lock);
    }
    return (int)syscall(SYS_close, file);
}

int fsync(int file) {
    if (!handle_of(file)) return (int)syscall(SYS_fsync, file);
    ON_FILE(file, 's', 0, "", 0, syscall(SYS_fsync, file))
}
int fdatasync(int file) {
    if (!handle_of(file)) return (int)syscall(SYS_fdatasync, file);
    ON_FILE(file, 's', 0, "", 0, syscall(SYS_fdatasync, file))
}

static int do_truncate(int file, off_t length) {
    if (!handle_of(file)) return (int)syscall(SYS_ftruncate, file, length);
    ON_FILE(file, 't', length, "", 0, syscall(SYS_ftruncate, file, length))
}
int ftruncate(int file, off_t length) { return do_truncate(file, length); }
int ftruncate64(int file, off_t length) { return do_truncate(file, length); }

/* Of two paths, of which the second may be none. */
static int on_paths(char what, int from_directory, const char *from, int to_directory, const char *to, long (*call)(int, const char *, int, const char *)) {
    char first[PATH_MAX], second[PATH_MAX];
    const char *one = inside(from_directory, from, first);
    const char *two = to ? inside(to_directory, to, second) : "";
    if (!one || !two) return (int)call(from_directory, from, to_directory, to);
    pthread_mutex_lock(&lock);
    long done = -1;
    if (!fails()) {
        done = call(from_directory, from, to_directory, to);
        if (done >= 0) record(what, 0, 0, one, (uint32_t)strlen(one), two, (uint32_t)strlen(two));
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return (int)done;
}

static long call_rename(int a, const char *from, int b, const char *to) { return syscall(SYS_renameat2, a, from, b, to, 0); }
static long call_link(int a, const char *from, int b, const char *to) { return syscall(SYS_linkat, a, from, b, to, 0); }
static long call_unlink(int a, const char *path, int b, const char *to) { (void)b; (void)to; return syscall(SYS_unlinkat, a, path, 0); }
static long call_rmdir(int a, const char *path, int b, const char *to) { (void)b; (void)to; return syscall(SYS_unlinkat, a, path, AT_REMOVEDIR); }
static long call_mkdir(int a, const char *path, int mode, const char *to) { (void)to; return syscall(SYS_mkdirat, a, path, mode); }

int rename(const char *from, const char *to) { return on_paths('r', AT_FDCWD, from, AT_FDCWD, to, call_rename); }
int renameat(int a, const char *from, int b, const char *to) { return on_paths('r', a, from, b, to, call_rename); }
int link(const char *from, const char *to) { return on_paths('l', AT_FDCWD, from, AT_FDCWD, to, call_link); }
int linkat(int a, const char *from, int b, const char *to, int flags) { (void)flags; return on_paths('l', a, from, b, to, call_link); }
int unlink(const char *path) { return on_paths('u', AT_FDCWD, path, 0, NULL, call_unlink); }
int unlinkat(int a, const char *path, int flags) { return on_paths('u', a, path, 0, NULL, flags & AT_REMOVEDIR ? call_rmdir : call_unlink); }
int rmdir(const char *path) { return on_paths('u', AT_FDCWD, path, 0, NULL, call_rmdir); }

int mkdir(const char *path, mode_t mode) {
    char buffer[PATH_MAX];
    const char *in = inside(AT_FDCWD, path, buffer);
    if (!in) return (int)call_mkdir(AT_FDCWD, path, (int)mode, NULL);
    pthread_mutex_lock(&lock);
    long done = -1;
    if (!fails()) {
        done = call_mkdir(AT_FDCWD, path, (int)mode, NULL);
        if (done >= 0) record('d', 0, 0, in, (uint32_t)strlen(in), "", 0);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return (int)done;
}
