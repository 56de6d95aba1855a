/*
 * misuse CONF POOL: calls of librados that are wrong, or at a limit, one line for each with what it
 * gave. It runs on Ceph's library and on ours; README.md of the folder above tells what for. POOL
 * and POOL-self are new and empty.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/compat/misuse/misuse.h"

void say(long long result, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf(" -> %lld\n", result);
    fflush(stdout);
}

const char *letters(size_t n)
{
    static char *last;
    free(last);
    last = malloc(n + 1);
    if (last == NULL)
        abort();
    memset(last, 'n', n);
    last[n] = 0;
    return last;
}

/* ---- Before there is a connection ---- */

static void creating(const char *conf)
{
    rados_t cluster;
    char value[64];
    rados_ioctx_t io;
    const char *args[] = {"program", "--no-such-option", "x", "--rados_osd_op_timeout=7", "rest"};
    const char *rest[5];
    say(rados_create2(&cluster, "ceph", "admin", 0), "create2 admin");
    say(rados_create2(&cluster, "ceph", "nobody.x", 0), "create2 nobody.x");
    say(rados_create2(&cluster, "ceph", "client.", 0), "create2 client.");
    say(rados_create2(&cluster, "ceph", "client.admin", 0), "create2 client.admin");
    say(rados_conf_read_file(cluster, "/no/such/file"), "conf_read_file of none");
    say(rados_conf_read_file(cluster, conf), "conf_read_file");
    say(rados_conf_set(cluster, "no_such_option", "1"), "conf_set of none");
    say(rados_conf_get(cluster, "no_such_option", value, sizeof value), "conf_get of none");
    say(rados_conf_set(cluster, "rados_osd_op_timeout", "many"), "conf_set of no number");
    say(rados_conf_set(cluster, "rados_osd_op_timeout", "90"), "conf_set");
    say(rados_conf_get(cluster, "rados_osd_op_timeout", value, 2), "conf_get to 2 bytes");
    say(rados_conf_get(cluster, "rados_osd_op_timeout", value, 3), "conf_get to 3 bytes");
    say(rados_conf_get(cluster, "rados_osd_op_timeout", value, sizeof value), "conf_get");
    say(rados_conf_parse_argv_remainder(cluster, 5, args, rest), "conf_parse_argv_remainder");
    for (int i = 0; i < 5; i++)
        say(i, "rest %s", rest[i] != NULL ? rest[i] : "none");
    say(rados_conf_parse_env(cluster, "NO_SUCH_VARIABLE"), "conf_parse_env of none");
    say(rados_ioctx_create(cluster, "any", &io), "ioctx_create before connecting");
    say(rados_pool_list(cluster, value, sizeof value), "pool_list before connecting");
    say(rados_pool_lookup(cluster, "any"), "pool_lookup before connecting");
    say(rados_pool_create(cluster, "any"), "pool_create before connecting");
    say((long long)rados_get_instance_id(cluster), "get_instance_id before connecting");
    rados_shutdown(cluster);
    say(rados_create(&cluster, "nobody"), "create nobody");
    say(rados_conf_read_file(cluster, conf), "conf_read_file");
    say(rados_connect(cluster) == 0, "connect as nobody");
    rados_shutdown(cluster);
}

/* ---- */

static void connect_to(const char *conf, rados_t *cluster)
{
    if (rados_create(cluster, "admin") != 0 || rados_conf_read_file(*cluster, conf) != 0 ||
        rados_connect(*cluster) != 0) {
        fprintf(stderr, "misuse: cannot connect by %s\n", conf);
        exit(1);
    }
}

static rados_ioctx_t open_pool(rados_t cluster, const char *name)
{
    rados_ioctx_t io;
    int rc = rados_ioctx_create(cluster, name, &io);
    if (rc != 0) {
        fprintf(stderr, "misuse: pool %s: %s\n", name, strerror(-rc));
        exit(1);
    }
    return io;
}

int main(int argc, char **argv)
{
    rados_t cluster;
    char self[128];
    if (argc != 3) {
        fprintf(stderr, "usage: misuse CONF POOL\n");
        return 2;
    }
    creating(argv[1]);
    connect_to(argv[1], &cluster);
    say(rados_connect(cluster), "connect again");
    misuse_cluster(cluster, argv[2]);
    misuse_commands(cluster);
    rados_ioctx_t io = open_pool(cluster, argv[2]);
    misuse_objects(cluster, io);
    misuse_attributes(io);
    misuse_operations(io);
    misuse_locks(io);
    misuse_asynchronous(io);
    misuse_applications(io);
    misuse_own_snapshots(io);
    misuse_watches(cluster, io);
    rados_ioctx_destroy(io);
    snprintf(self, sizeof self, "%s-self", argv[2]);
    io = open_pool(cluster, self);
    misuse_self_snapshots(io);
    rados_ioctx_destroy(io);
    rados_shutdown(cluster);
    return 0;
}
