/* Inside a jail: "probe facts" says as JSON what a program finds there, "probe attempts" tries what it must not be able to do. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void quoted(const char *text, size_t length)
{
    putchar('"');
    for (size_t i = 0; i < length; i++) {
        unsigned char c = text[i];
        if (c < 0x20 || c == '"' || c == '\\' || c >= 0x7f)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static void content(const char *name, const char *path)
{
    static char buffer[1 << 20];
    FILE *file = fopen(path, "r");
    printf(",\"%s\":", name);
    quoted(buffer, file ? fread(buffer, 1, sizeof buffer, file) : 0);
    if (file)
        fclose(file);
}

static void target(const char *path)
{
    char buffer[PATH_MAX];
    ssize_t length = readlink(path, buffer, sizeof buffer);
    quoted(buffer, length < 0 ? 0 : length);
}

static void links(const char *name, const char *directory)
{
    DIR *opened = opendir(directory);
    struct dirent *entry;
    char path[PATH_MAX];
    const char *comma = "";
    printf(",\"%s\":{", name);
    while (opened && (entry = readdir(opened))) {
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (entry->d_name[0] == '.' || (!strcmp(directory, "/proc/self/fd") && atoi(entry->d_name) == dirfd(opened)))
            continue;
        printf("%s\"%s\":", comma, entry->d_name);
        target(path);
        comma = ",";
    }
    if (opened)
        closedir(opened);
    putchar('}');
}

static int facts(void)
{
    struct rlimit limit;
    struct dirent *entry;
    char cwd[PATH_MAX] = "";
    mode_t mask = umask(0);
    umask(mask);
    if (!getcwd(cwd, sizeof cwd))
        cwd[0] = 0;
    printf("{\"pid\":%d,\"ppid\":%d,\"sid\":%d,\"pgid\":%d,\"umask\":%d", getpid(), getppid(), getsid(0), getpgid(0), mask);
    printf(",\"uid\":[%d,%d],\"gid\":[%d,%d]", getuid(), geteuid(), getgid(), getegid());
    printf(",\"no_new_privs\":%d,\"dumpable\":%d", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_DUMPABLE));
    printf(",\"cwd\":");
    quoted(cwd, strlen(cwd));
    content("status", "/proc/self/status");
    content("mounts", "/proc/self/mountinfo");
    content("groups_file", "/proc/self/cgroup");
    links("fds", "/proc/self/fd");
    links("namespaces", "/proc/self/ns");
    printf(",\"env\":[");
    for (char **one = environ; *one; one++) {
        quoted(*one, strlen(*one));
        if (one[1])
            putchar(',');
    }
    printf("],\"rlimits\":[");
    for (int i = 0; i < RLIM_NLIMITS; i++) {
        getrlimit(i, &limit);
        printf("%s[%lld,%lld]", i ? "," : "", (long long)limit.rlim_cur, (long long)limit.rlim_max);
    }
    printf("],\"ignored\":[0");
    for (int number = 1; number <= SIGRTMAX; number++) {
        struct sigaction action;
        if (!sigaction(number, NULL, &action) && action.sa_handler != SIG_DFL)
            printf(",%d", number);
    }
    printf("],\"pids\":[0");
    DIR *proc = opendir("/proc");
    while (proc && (entry = readdir(proc)))
        if (atoi(entry->d_name))
            printf(",%s", entry->d_name);
    printf("],\"tty\":%d}\n", open("/dev/tty", O_RDWR) < 0 ? errno : 0);
    return 0;
}

static const char *comma = "";

static void said(const char *name, long result)
{
    printf("%s\"%s\":\"%s\"", comma, name, result < 0 ? strerrorname_np(errno) : "done");
    fflush(stdout);
    comma = ",";
}

static long opened(const char *path, int flags)
{
    int fd = open(path, flags);
    if (fd >= 0)
        close(fd);
    return fd;
}

static long followed(const char *path)
{
    char buffer[PATH_MAX];
    return readlink(path, buffer, sizeof buffer);
}

static long joined(const char *kind)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/1/ns/%s", kind);
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return -1;
    long result = setns(fd, 0);
    close(fd);
    return result;
}

/* The classic way out of a chroot: keep a descriptor above the new root, and climb from it. Says which root is found on top. */
static void climb(void)
{
    struct stat before, after;
    int top = open("/", O_RDONLY | O_DIRECTORY);
    stat("/", &before);
    mkdir("/tmp/cell", 0755);
    if (chroot("/tmp/cell") < 0 || fchdir(top) < 0) {
        said("chroot", -1);
        return;
    }
    for (int i = 0; i < 64; i++)
        if (chdir(".."))
            break;
    chroot(".");
    stat("/", &after);
    errno = 0;
    printf("%s\"climb\":\"%s\"", comma, before.st_ino == after.st_ino && before.st_dev == after.st_dev ? "own root" : "another root");
    comma = ",";
}

static void mounted(const char *when)
{
    char name[96];
#define SAID(what, call) (snprintf(name, sizeof name, "%s%s", when, what), said(name, call))
    SAID("umount /proc", umount2("/proc", MNT_DETACH));
    SAID("umount /dev", umount2("/dev", MNT_DETACH));
    SAID("umount /dev/null", umount2("/dev/null", MNT_DETACH));
    SAID("umount /ro", umount2("/ro", MNT_DETACH));
    SAID("remount /ro", mount("", "/ro", "", MS_REMOUNT | MS_BIND, ""));
    SAID("remount /dev/null", mount("", "/dev/null", "", MS_REMOUNT | MS_BIND, ""));
    SAID("remount /", mount("", "/", "", MS_REMOUNT | MS_BIND, ""));
    SAID("fresh proc", mount("proc", "/tmp", "proc", 0, ""));
    SAID("cgroup2", mount("cgroup2", "/tmp", "cgroup2", 0, ""));
    SAID("cgroup memory", mount("cgroup", "/tmp", "cgroup", 0, "memory"));
    SAID("cgroup freezer", mount("cgroup", "/tmp", "cgroup", 0, "freezer"));
    SAID("devtmpfs", mount("devtmpfs", "/tmp", "devtmpfs", 0, ""));
    SAID("debugfs", mount("debugfs", "/tmp", "debugfs", 0, ""));
}

static int attempts(void)
{
    char byte = 0;
    struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};
    struct timespec now;
    static const char *const kinds[] = {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"};
    char name[64];

    printf("{");
    said("ptrace", ptrace(PTRACE_SEIZE, 1, 0, 0));
    said("read memory", process_vm_readv(1, &here, 1, &there, 1, 0));
    said("/proc/1/mem", opened("/proc/1/mem", O_RDWR));
    said("/proc/1/environ", opened("/proc/1/environ", O_RDONLY) < 0 ? -1 : read(open("/proc/1/environ", O_RDONLY), &byte, 1));
    said("/proc/1/maps", opened("/proc/1/maps", O_RDONLY));
    said("/proc/1/root", followed("/proc/1/root"));
    said("/proc/1/cwd", followed("/proc/1/cwd"));
    said("/proc/1/exe", followed("/proc/1/exe"));
    long found = -1;
    for (int fd = 0; fd < 64 && found < 0; fd++) {
        snprintf(name, sizeof name, "/proc/1/fd/%d", fd);
        found = followed(name) < 0 ? opened(name, O_RDONLY) : 0;
        if (found < 0 && errno != ENOENT)
            break;
    }
    said("/proc/1/fd", found);
    said("pidfd_getfd", syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, 1, 0), 0, 0));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        snprintf(name, sizeof name, "join %s", kinds[i]);
        said(name, joined(kinds[i]));
    }
    said("/proc/sys/kernel/core_pattern", opened("/proc/sys/kernel/core_pattern", O_WRONLY));
    said("/proc/sys/vm/drop_caches", opened("/proc/sys/vm/drop_caches", O_WRONLY));
    said("/proc/sys/kernel/hostname", opened("/proc/sys/kernel/hostname", O_WRONLY));
    said("/proc/sysrq-trigger", opened("/proc/sysrq-trigger", O_WRONLY));
    said("/proc/kcore", opened("/proc/kcore", O_RDONLY));
    said("sethostname", sethostname("other", 5));
    said("mount", mount("tmpfs", "/tmp", "tmpfs", 0, ""));
    said("mknod", mknod("/tmp/disk", S_IFBLK | 0600, 8 << 8));
    said("chmod /dev/null", chmod("/dev/null", 0666));
    said("chown /dev/null", chown("/dev/null", 0, 0));
    said("chmod /dev/tty", chmod("/dev/tty", 0666));
    clock_gettime(CLOCK_REALTIME, &now);
    said("clock", clock_settime(CLOCK_REALTIME, &now));
    said("reboot", syscall(SYS_reboot, 0, 0, 0, 0)); /* wrong magic numbers: EINVAL is for those who may */
    said("module", syscall(SYS_finit_module, -1, "", 0));
    said("bpf", syscall(SYS_bpf, 0, NULL, 0));
    said("handle", syscall(SYS_open_by_handle_at, AT_FDCWD, "\x08\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0", O_RDONLY));
    mounted("");
    /* Whoever is root here may make a namespace of his own, and is root there. It must not help. */
    said("unshare", unshare(CLONE_NEWNS | CLONE_NEWCGROUP) < 0 ? unshare(CLONE_NEWUSER | CLONE_NEWNS) : 0);
    mounted("own: ");
    said("own: unmap /dev/null", chmod("/dev/null", 0666));
    climb();
    printf("}\n");
    return 0;
}

/* The keys of the session: "keep" adds one, and both say whether one was there. */
static int key(const char *what)
{
    long found = syscall(SYS_request_key, "user", "nsjail-test", NULL, 0);
    puts(found < 0 ? "none" : "found");
    if (!strcmp(what, "keep"))
        return syscall(SYS_add_key, "user", "nsjail-test", "secret", 6, -3) < 0 ? errno : 0;
    return 0;
}

static int burn(double seconds)
{
    while (clock() < seconds * CLOCKS_PER_SEC)
        ;
    return 0;
}

static int hoard(long megabytes, int seconds)
{
    for (long i = 0; i < megabytes; i++) {
        char *block = malloc(1 << 20);
        if (!block)
            return 3;
        memset(block, 1, 1 << 20);
    }
    sleep(seconds);
    return 0;
}

/* Children that all live at once. */
static int breed(int number)
{
    for (int i = 0; i < number; i++) {
        pid_t child = fork();
        if (child < 0) {
            perror("fork");
            return 4;
        }
        if (child == 0) {
            pause();
            _exit(0);
        }
    }
    return 0;
}

/* To a unix socket; "@name" is an abstract one. */
static int say(const char *where, const char *text)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int sock = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(address.sun_path, where, sizeof address.sun_path - 1);
    if (*where == '@')
        address.sun_path[0] = 0;
    if (connect(sock, (void *)&address, offsetof(struct sockaddr_un, sun_path) + strlen(where)) < 0) {
        puts(strerrorname_np(errno));
        return 5;
    }
    return write(sock, text, strlen(text)) < 0;
}

static int terminal(void)
{
    char name[64] = "";
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) || unlockpt(master) || ptsname_r(master, name, sizeof name)) {
        perror("pty");
        return 6;
    }
    int slave = open(name, O_RDWR | O_NOCTTY);
    printf("%s %s\n", name, slave >= 0 && isatty(slave) ? "terminal" : strerror(errno));
    return 0;
}

/* Listens on a port of its own at both loopback addresses, speaks to itself, and tries to get out. */
static int network(void)
{
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(80), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(80), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in out = {.sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(0x01010101)};
    int v4 = socket(AF_INET, SOCK_STREAM, 0), v6 = socket(AF_INET6, SOCK_STREAM, 0);
    printf("{");
    said("bind v4", bind(v4, (void *)&four, sizeof four));
    said("bind v6", bind(v6, (void *)&six, sizeof six));
    listen(v4, 1);
    listen(v6, 1);
    said("connect v4", connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&four, sizeof four));
    said("connect v6", connect(socket(AF_INET6, SOCK_STREAM, 0), (void *)&six, sizeof six));
    four.sin_port = htons(81);
    said("refused", connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&four, sizeof four));
    said("out", connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&out, sizeof out));
    said("out udp", connect(socket(AF_INET, SOCK_DGRAM, 0), (void *)&out, sizeof out));
    said("ping", socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
    said("packets", socket(AF_PACKET, SOCK_RAW, 0));
    printf("}\n");
    return 0;
}

/* Puts a text where other processes find it, in the three ways of svipc(7), shm_overview(7) and mq_overview(7); or gets it. */
static int ipc(const char *put)
{
    char text[64] = "nothing";
    int segment = shmget(0x6e736a, sizeof text, put ? IPC_CREAT | 0666 : 0);
    char *memory = segment < 0 ? NULL : shmat(segment, NULL, 0);
    struct mq_attr room = {.mq_maxmsg = 1, .mq_msgsize = sizeof text};
    mqd_t queue = mq_open("/nsjail", O_RDWR | O_NONBLOCK | (put ? O_CREAT : 0), 0666, &room);
    int file = shm_open("/nsjail", O_RDWR | (put ? O_CREAT : 0), 0666);
    if (put) {
        strcpy(memory, put);
        return mq_send(queue, put, strlen(put) + 1, 0) || write(file, put, strlen(put)) < 0;
    }
    printf("%s", memory ? memory : text);
    printf(" %s", mq_receive(queue, text, sizeof text, NULL) < 0 ? "nothing" : text);
    printf(" %.*s\n", file < 0 ? 7 : (int)read(file, text, sizeof text), file < 0 ? "nothing" : text);
    return 0;
}

static int flood(void)
{
    static char zeros[1 << 20];
    fcntl(1, F_SETPIPE_SZ, 1 << 20);
    while (write(1, zeros, sizeof zeros) > 0)
        ;
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "facts";
    if (!strcmp(what, "facts"))
        return facts();
    if (!strcmp(what, "attempts"))
        return attempts();
    if (!strcmp(what, "key"))
        return key(argv[2]);
    if (!strcmp(what, "burn"))
        return burn(atof(argv[2]));
    if (!strcmp(what, "hoard"))
        return hoard(atol(argv[2]), argc > 3 ? atoi(argv[3]) : 0);
    if (!strcmp(what, "breed"))
        return breed(atoi(argv[2]));
    if (!strcmp(what, "flood"))
        return flood();
    if (!strcmp(what, "ipc"))
        return ipc(argv[2]);
    if (!strcmp(what, "say"))
        return say(argv[2], argv[3]);
    if (!strcmp(what, "terminal"))
        return terminal();
    if (!strcmp(what, "network"))
        return network();
    if (!strcmp(what, "ids")) {
        printf("%d %d\n", getuid(), geteuid());
        return 0;
    }
    return 2;
}
