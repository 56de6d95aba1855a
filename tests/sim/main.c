/*
 * limpet-sim: a whole cluster in one process, in virtual time, with faults that a seed decides.
 *
 * One seed runs in this process, where a debugger finds it. Several run in processes of their own,
 * so that a seed that crashes is a seed that failed.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/cluster.h"
#include "tests/sim/planted.h"
#include "tests/sim/run.h"

enum { JOBS_MAX = 256, PROGRESS_S = 10 };

struct totals {
    uint64_t virtual_ns;
    uint64_t undecided;
    double processor_s;
};

struct program {
    struct run_options run;
    struct scenario scenario;
    const char *scenario_name;
    uint64_t first, last;
    uint32_t jobs;
    bool twice;
    bool keep_going;
    bool brief;
    enum planted_bug planted;
};

static const char usage[] =
    "usage: limpet-sim [--seed N | --seeds A-B] [options]\n"
    "  --seed N         run one seed (default 1)\n"
    "  --seeds A-B      run many; stops at the first that fails\n"
    "  --keep-going     ... or runs them all\n"
    "  --jobs J         so many at the same time\n"
    "  --brief          no line for a seed that passes; progress on stderr\n"
    "  --scenario F     a file, or the name of one of tests/sim/scenarios (default mixed)\n"
    "  --list           what can be said in a scenario: workloads, faults, checks\n"
    "  --seconds S      virtual time of work with faults, instead of the scenario's\n"
    "  --twice          run each seed twice and compare\n"
    "  --trace          print log lines and messages as they happen\n"
    "  --debug          debug lines as well\n"
    "  --no-faults      nothing goes wrong\n"
    "  --isolate-osds   the same as --scenario isolate\n"
    "  --no-reads       clients only change objects, until the end\n"
    "  --mons N, --osds N, --clients N\n"
    "  --planted NAME   with a planted bug, which must be found: 0 when it is\n"
    "  --list-planted\n";

static _Noreturn void bad_usage(const char *what)
{
    fprintf(stderr, "limpet-sim: %s\n%s", what, usage);
    exit(EINVAL);
}

static uint64_t number(const char *text, const char *option)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno || end == text || *end != '\0') {
        fprintf(stderr, "limpet-sim: %s wants a number, not '%s'\n", option, text);
        exit(EINVAL);
    }
    return value;
}

static uint32_t count(const char *text, const char *option, uint64_t max)
{
    uint64_t value = number(text, option);
    if (value < 1 || value > max) {
        fprintf(stderr, "limpet-sim: %s wants 1 to %" PRIu64 "\n", option, max);
        exit(EINVAL);
    }
    return (uint32_t)value;
}

static void parse_range(struct program *p, char *text)
{
    char *dash = strchr(text, '-');
    if (!dash)
        bad_usage("--seeds wants A-B");
    *dash = '\0';
    p->first = number(text, "--seeds");
    p->last = number(dash + 1, "--seeds");
    if (p->last < p->first)
        bad_usage("--seeds wants A-B with A not above B");
}

/* Others are for limpet-store-sim. */
static bool is_ours(enum planted_bug bug)
{
    return strncmp(planted_name(bug), "store-", strlen("store-")) != 0;
}

static void list_planted(void)
{
    for (int bug = PLANTED_NONE + 1; bug < PLANTED_END; bug++) {
        if (!is_ours((enum planted_bug)bug))
            continue;
        printf("%-20s %s\n", planted_name((enum planted_bug)bug),
               planted_meaning((enum planted_bug)bug));
    }
    exit(0);
}

enum option_number {
    OPTION_SEED = 256,
    OPTION_SEEDS,
    OPTION_KEEP_GOING,
    OPTION_BRIEF,
    OPTION_JOBS,
    OPTION_SECONDS,
    OPTION_TWICE,
    OPTION_TRACE,
    OPTION_DEBUG,
    OPTION_NO_FAULTS,
    OPTION_ISOLATE_OSDS,
    OPTION_SCENARIO,
    OPTION_LIST,
    OPTION_NO_READS,
    OPTION_MONS,
    OPTION_OSDS,
    OPTION_CLIENTS,
    OPTION_PLANTED,
    OPTION_LIST_PLANTED,
    OPTION_HELP,
};

static void apply_option(struct program *p, int option)
{
    switch (option) {
    case OPTION_SEED:
        p->first = p->last = number(optarg, "--seed");
        break;
    case OPTION_SEEDS:
        parse_range(p, optarg);
        break;
    case OPTION_KEEP_GOING:
        p->keep_going = true;
        break;
    case OPTION_BRIEF:
        p->brief = true;
        break;
    case OPTION_JOBS:
        p->jobs = count(optarg, "--jobs", JOBS_MAX);
        break;
    case OPTION_SECONDS:
        p->run.seconds = count(optarg, "--seconds", 3600);
        break;
    case OPTION_TWICE:
        p->twice = true;
        break;
    case OPTION_TRACE:
        p->run.trace = true;
        break;
    case OPTION_DEBUG:
        p->run.debug = true;
        break;
    case OPTION_NO_FAULTS:
        p->run.no_faults = true;
        break;
    case OPTION_ISOLATE_OSDS:
        p->scenario_name = "isolate";
        break;
    case OPTION_SCENARIO:
        p->scenario_name = optarg;
        break;
    case OPTION_LIST:
        scenario_list(stdout);
        exit(0);
    case OPTION_NO_READS:
        p->run.no_reads = true;
        break;
    case OPTION_MONS:
        p->run.n_mons = count(optarg, "--mons", CLUSTER_MONS_MAX);
        break;
    case OPTION_OSDS:
        p->run.n_osds = count(optarg, "--osds", CLUSTER_OSDS_MAX);
        break;
    case OPTION_CLIENTS:
        p->run.n_clients = count(optarg, "--clients", CLUSTER_CLIENTS_MAX);
        break;
    case OPTION_PLANTED:
        p->planted = planted_by_name(optarg);
        if (p->planted == PLANTED_END || !is_ours(p->planted))
            bad_usage("no such planted bug; see --list-planted");
        break;
    case OPTION_LIST_PLANTED:
        list_planted();
        break;
    case OPTION_HELP:
        fputs(usage, stdout);
        exit(0);
    default:
        bad_usage("unknown option");
    }
}

static void parse(struct program *p, int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, OPTION_SEED},
        {"seeds", required_argument, NULL, OPTION_SEEDS},
        {"keep-going", no_argument, NULL, OPTION_KEEP_GOING},
        {"brief", no_argument, NULL, OPTION_BRIEF},
        {"jobs", required_argument, NULL, OPTION_JOBS},
        {"seconds", required_argument, NULL, OPTION_SECONDS},
        {"twice", no_argument, NULL, OPTION_TWICE},
        {"trace", no_argument, NULL, OPTION_TRACE},
        {"debug", no_argument, NULL, OPTION_DEBUG},
        {"no-faults", no_argument, NULL, OPTION_NO_FAULTS},
        {"isolate-osds", no_argument, NULL, OPTION_ISOLATE_OSDS},
        {"scenario", required_argument, NULL, OPTION_SCENARIO},
        {"list", no_argument, NULL, OPTION_LIST},
        {"no-reads", no_argument, NULL, OPTION_NO_READS},
        {"mons", required_argument, NULL, OPTION_MONS},
        {"osds", required_argument, NULL, OPTION_OSDS},
        {"clients", required_argument, NULL, OPTION_CLIENTS},
        {"planted", required_argument, NULL, OPTION_PLANTED},
        {"list-planted", no_argument, NULL, OPTION_LIST_PLANTED},
        {"help", no_argument, NULL, OPTION_HELP},
        {0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        apply_option(p, option);
    if (optind != argc)
        bad_usage("there is something after the options");
    char why[SCENARIO_WHY_MAX];
    if (scenario_load(&p->scenario, p->scenario_name, why) < 0) {
        fprintf(stderr, "limpet-sim: %s\n", why);
        exit(EINVAL);
    }
    p->run.scenario = &p->scenario;
}

/* ---- Running ---- */

static double clock_seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double seconds_now(void)
{
    return clock_seconds(CLOCK_MONOTONIC);
}

/* How fast the simulation is does not depend on what else the machine does. */
static double processor_seconds(void)
{
    return clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
}

/* What to type to see it again. */
static void print_repeat(const struct program *p, uint64_t seed)
{
    printf("  repeat: build/bin/limpet-sim --seed %" PRIu64 " --scenario %s", seed,
           p->scenario_name);
    if (p->run.seconds)
        printf(" --seconds %" PRIu64, p->run.seconds);
    if (p->run.no_faults)
        printf(" --no-faults");
    if (p->run.no_reads)
        printf(" --no-reads");
    if (p->run.n_mons)
        printf(" --mons %u", p->run.n_mons);
    if (p->run.n_osds)
        printf(" --osds %u", p->run.n_osds);
    if (p->run.n_clients)
        printf(" --clients %u", p->run.n_clients);
    if (p->planted)
        printf(" --planted %s", planted_name(p->planted));
    printf(" --trace\n");
}

static void print_result(const struct program *p, uint64_t seed, const struct run_result *result,
                         double took)
{
    double virtual = (double)result->virtual_ns / 1e9;
    if (!p->brief || result->failed)
        printf("seed %" PRIu64 " %s ops=%u unknown=%u faults=%u epoch=%" PRIu64
               " longest=%.1fs settled=%.1fs events=%" PRIu64 " hash=%016" PRIx64
               " virtual=%.0fs cpu=%.2fs (%.0fx)\n",
               seed, result->failed ? "FAILED" : "ok", result->operations, result->unknown,
               result->faults, result->epoch, (double)result->longest_ns / 1e9,
               (double)result->settle_ns / 1e9, result->events, result->hash, virtual, took,
               virtual / took);
    if (result->failed) {
        printf("  %s\n", result->why);
        print_repeat(p, seed);
    }
    fflush(stdout);
}

/* Runs a seed and prints its line. */
static bool run_one(const struct program *p, uint64_t seed, struct totals *totals)
{
    struct run_options options = p->run;
    struct run_result result;
    options.seed = seed;
    planted_bug = p->planted;
    double before = processor_seconds();
    run_seed(&options, &result);
    double took = processor_seconds() - before;
    totals->virtual_ns += result.virtual_ns;
    totals->undecided += result.undecided;
    totals->processor_s += took;
    if (p->twice && !result.failed) {
        struct run_result again;
        run_seed(&options, &again);
        if (again.failed || again.hash != result.hash || again.events != result.events) {
            result.failed = true;
            snprintf(result.why, sizeof result.why,
                     "the second run is another: hash %016" PRIx64 " after %" PRIu64 " events",
                     again.hash, again.events);
        }
    }
    print_result(p, seed, &result, took);
    return !result.failed;
}

/*
 * A process that runs one seed after the other: the next that nobody has taken. A seed that crashes
 * takes its process with it, which is replaced. Each is replaced now and then, in case runs leave
 * something behind.
 */
struct job {
    pid_t pid;
    _Atomic uint64_t seed; /* That it runs. */
    _Atomic bool running;  /* A seed: a process that ends meanwhile has failed. */
    struct totals totals;
};

/* What all processes share. */
struct shared {
    _Atomic uint64_t next; /* The seed. */
    _Atomic uint64_t passed, failed;
    _Atomic uint64_t lowest; /* Of those that failed; UINT64_MAX: none. */
    struct job jobs[JOBS_MAX];
};

enum { SEEDS_A_PROCESS = 100 };

static bool more_seeds(const struct program *p, struct shared *shared)
{
    return shared->next <= p->last && (shared->failed == 0 || p->keep_going);
}

static void note_failure(struct shared *shared, uint64_t seed)
{
    uint64_t lowest = shared->lowest;
    shared->failed++;
    while (seed < lowest && !atomic_compare_exchange_weak(&shared->lowest, &lowest, seed))
        ;
}

static void job_run(const struct program *p, struct shared *shared, struct job *job)
{
    for (uint32_t i = 0; i < SEEDS_A_PROCESS && more_seeds(p, shared); i++) {
        uint64_t seed = shared->next++;
        if (seed > p->last)
            break;
        job->seed = seed;
        job->running = true;
        bool passed = run_one(p, seed, &job->totals);
        job->running = false;
        if (passed)
            shared->passed++;
        else
            note_failure(shared, seed);
    }
}

static void job_start(const struct program *p, struct shared *shared, struct job *job)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) {
        perror("limpet-sim: fork");
        exit(EAGAIN);
    }
    if (pid == 0) {
        job_run(p, shared, job);
        exit(0);
    }
    job->pid = pid;
}

static void job_ended(const struct program *p, struct shared *shared, struct job *job, int status)
{
    job->pid = 0;
    if (!job->running)
        return;
    job->running = false;
    note_failure(shared, job->seed);
    if (WIFSIGNALED(status))
        printf("seed %" PRIu64 " FAILED: the process died of signal %d (%s)\n", job->seed,
               WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        printf("seed %" PRIu64 " FAILED: the process ended with %d\n", job->seed,
               WEXITSTATUS(status));
    print_repeat(p, job->seed);
    fflush(stdout);
}

static void print_progress(const struct program *p, const struct shared *shared, double begun)
{
    uint64_t done = shared->passed + shared->failed, all = p->last - p->first + 1;
    if (done > 0)
        fprintf(stderr, "%" PRIu64 " of %" PRIu64 " seeds, %" PRIu64 " failed, %.0f s left\n", done,
                all, shared->failed, (seconds_now() - begun) / (double)done * (double)(all - done));
}

/* Wakes the wait for a process, so that progress can be told. */
static void alarm_rang(int number)
{
    (void)number;
}

static void tell_progress_often(void)
{
    struct sigaction action = {.sa_handler = alarm_rang};
    struct itimerval every = {{PROGRESS_S, 0}, {PROGRESS_S, 0}};
    if (sigaction(SIGALRM, &action, NULL) < 0 || setitimer(ITIMER_REAL, &every, NULL) < 0)
        perror("limpet-sim: no progress will be told");
}

/* Histories that nobody could check are no proof of anything: few of them, or it has failed. */
static bool too_many_undecided(uint64_t undecided, uint64_t seeds)
{
    return undecided > 3 + seeds / 10;
}

/* False when too little was checked. */
static bool print_totals(const struct program *p, const struct shared *shared, double begun)
{
    struct totals sum = {0};
    for (uint32_t i = 0; i < p->jobs; i++) {
        sum.virtual_ns += shared->jobs[i].totals.virtual_ns;
        sum.undecided += shared->jobs[i].totals.undecided;
        sum.processor_s += shared->jobs[i].totals.processor_s;
    }
    double virtual = (double)sum.virtual_ns / 1e9;
    printf("virtual %.0f s, %.0f times faster than real time on a processor\n", virtual,
           sum.processor_s > 0 ? virtual / sum.processor_s : 0);
    if (sum.undecided > 0)
        printf("%" PRIu64 " objects with too many orders to check whether they are linearizable\n",
               sum.undecided);
    printf("%" PRIu64 " seeds passed, %" PRIu64 " failed, in %.0f s\n", shared->passed,
           shared->failed, seconds_now() - begun);
    bool too_many = too_many_undecided(sum.undecided, shared->passed + shared->failed);
    if (too_many)
        printf("FAILED: so many histories that could not be checked\n");
    return !too_many;
}

static void run_jobs(const struct program *p, struct shared *shared, double begun)
{
    for (;;) {
        uint32_t running = 0;
        for (uint32_t i = 0; i < p->jobs; i++) {
            if (shared->jobs[i].pid == 0 && more_seeds(p, shared))
                job_start(p, shared, &shared->jobs[i]);
            running += shared->jobs[i].pid != 0;
        }
        if (running == 0)
            return;
        int status;
        pid_t pid = wait(&status);
        if (pid < 0) {
            print_progress(p, shared, begun);
            continue;
        }
        for (uint32_t i = 0; i < p->jobs; i++) {
            if (shared->jobs[i].pid == pid)
                job_ended(p, shared, &shared->jobs[i], status);
        }
    }
}

/* The lowest seed that failed; UINT64_MAX when none did. */
static uint64_t run_many(const struct program *p)
{
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("limpet-sim");
        exit(ENOMEM);
    }
    double begun = seconds_now();
    shared->next = p->first;
    shared->lowest = UINT64_MAX;
    if (p->brief)
        tell_progress_often();
    run_jobs(p, shared, begun);
    bool checked = print_totals(p, shared, begun);
    uint64_t lowest = shared->lowest;
    if (lowest == UINT64_MAX && !checked && !p->planted)
        lowest = p->first;
    munmap(shared, sizeof *shared);
    return lowest;
}

/* A seed that fails with a planted bug must pass without it: otherwise it says nothing. */
static int judge_planted(struct program *p, uint64_t seed)
{
    const char *name = planted_name(p->planted);
    if (seed == UINT64_MAX) {
        printf("planted bug %s: NOT FOUND\n", name);
        return 1;
    }
    p->planted = PLANTED_NONE;
    p->first = p->last = seed;
    if (run_many(p) != UINT64_MAX) {
        printf("planted bug %s: NOT FOUND, since seed %" PRIu64 " fails without it, too\n", name,
               seed);
        return 1;
    }
    printf("planted bug %s: found by seed %" PRIu64 ", which passes without it\n", name, seed);
    return 0;
}

/* Memory that a run frees is for the next one: giving it back and forth costs a fifth of the time.
 */
static void keep_memory(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 30);
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
    (void)mallopt(M_TOP_PAD, 16 << 20);
}

int main(int argc, char **argv)
{
    keep_memory();
    struct program p = {.scenario_name = "mixed", .first = 1, .last = 1, .jobs = 1};
    parse(&p, argc, argv);
    if (p.planted)
        return judge_planted(&p, run_many(&p));
    struct totals totals = {0};
    bool ok = p.first == p.last ? run_one(&p, p.first, &totals) : run_many(&p) == UINT64_MAX;
    return ok ? 0 : 1;
}
