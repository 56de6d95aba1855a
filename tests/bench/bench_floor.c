/*
 * The floor of a small replicated write on this machine, with nothing of ours in it: two round
 * trips between processes (client and primary, primary and member), and a flush on three disks at
 * once.
 *
 *     bench_floor FOLDER [SECONDS]
 *
 * Prints one line of JSON with medians, in microseconds. The two ends of a round trip are kept on
 * two processors, as busy processes are. The three streams append 4 KiB each to a file of its own
 * in FOLDER and flush it; the files are removed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STREAMS = 3, MESSAGE = 64, BLOCK = 4096, FILE_MAX = 64 << 20, SAMPLES_MAX = 100000 };

struct samples {
    uint32_t count;
    uint32_t ns[SAMPLES_MAX];
};

static void die(const char *what)
{
    fprintf(stderr, "bench_floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static int smaller(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static double median_us(struct samples *samples)
{
    qsort(samples->ns, samples->count, sizeof(samples->ns[0]), smaller);
    uint32_t middle = samples->count / 2;
    return samples->count == 0 ? 0 : (double)samples->ns[middle] / 1e3;
}

static bool move_message(int fd, bool out)
{
    char bytes[MESSAGE] = {0};
    for (size_t done = 0; done < sizeof(bytes);) {
        ssize_t n = out ? write(fd, bytes + done, sizeof(bytes) - done)
                        : read(fd, bytes + done, sizeof(bytes) - done);
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

static void without_delay(int fd)
{
    int one = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0)
        die("TCP_NODELAY");
}

/* Where there is but one processor both ends stay on it. */
static void stay_on(int processor)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)processor, &set);
    sched_setaffinity(0, sizeof(set), &set);
}

static void measure_round_trips(struct samples *samples, uint64_t seconds)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, len) != 0 ||
        listen(listener, 1) != 0 || getsockname(listener, (struct sockaddr *)&address, &len) != 0)
        die("listen");
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        stay_on(1);
        int fd = accept(listener, NULL, NULL);
        without_delay(fd);
        while (move_message(fd, false) && move_message(fd, true))
            ;
        _exit(0);
    }
    cpu_set_t everywhere;
    if (sched_getaffinity(0, sizeof(everywhere), &everywhere) != 0)
        die("affinity");
    stay_on(0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, len) != 0)
        die("connect");
    without_delay(fd);
    uint64_t end = now_ns() + seconds * 1000000000;
    for (uint64_t before = now_ns(), after; before < end && samples->count < SAMPLES_MAX;
         before = after) {
        if (!move_message(fd, true) || !move_message(fd, false))
            die("a round trip");
        after = now_ns();
        samples->ns[samples->count++] = (uint32_t)(after - before);
    }
    close(fd);
    close(listener);
    sched_setaffinity(0, sizeof(everywhere), &everywhere);
    waitpid(child, NULL, 0);
}

static void stream(const char *folder, int number, struct samples *samples, uint64_t seconds)
{
    char path[4096];
    void *block = NULL;
    snprintf(path, sizeof(path), "%s/floor.%d.%d", folder, (int)getppid(), number);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_DIRECT | O_CLOEXEC, 0600);
    if (fd < 0 || unlink(path) != 0)
        die(path);
    if (posix_fallocate(fd, 0, FILE_MAX) != 0 || fsync(fd) != 0 ||
        posix_memalign(&block, BLOCK, BLOCK) != 0)
        die("the file");
    memset(block, number, BLOCK);
    uint64_t end = now_ns() + seconds * 1000000000;
    off_t at = 0;
    for (uint64_t before = now_ns(), after; before < end && samples->count < SAMPLES_MAX;
         before = after, at = (at + BLOCK) % FILE_MAX) {
        if (pwrite(fd, block, BLOCK, at) != BLOCK || fdatasync(fd) != 0)
            die("write");
        after = now_ns();
        samples->ns[samples->count++] = (uint32_t)(after - before);
    }
    _exit(0);
}

int main(int argc, char **argv)
{
    uint64_t seconds = argc > 2 ? strtoull(argv[2], NULL, 10) : 3;
    if (argc < 2 || seconds == 0) {
        fprintf(stderr, "usage: bench_floor FOLDER [SECONDS]\n");
        return 2;
    }
    struct samples *all = mmap(NULL, (STREAMS + 1) * sizeof(*all), PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED)
        die("memory");
    measure_round_trips(&all[STREAMS], seconds);
    for (int i = 0; i < STREAMS; i++) {
        pid_t child = fork();
        if (child < 0)
            die("fork");
        if (child == 0)
            stream(argv[1], i, &all[i], seconds);
    }
    int status;
    while (wait(&status) > 0)
        if (status != 0)
            return 1;
    double flush = 0, trip = median_us(&all[STREAMS]);
    for (int i = 0; i < STREAMS; i++)
        flush += median_us(&all[i]) / STREAMS;
    printf("{\"round_trip_us\": %.1f, \"flush_us\": %.1f, \"floor_us\": %.1f}\n", trip, flush,
           2 * trip + flush);
    return 0;
}
