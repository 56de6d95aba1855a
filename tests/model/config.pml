/*
 * The configuration protocol of one placement group, for the model checker spin.
 *
 * What is modelled: the monitors' map as a sequence of epochs; four OSDs, each of which may lag
 * behind it by any number of epochs; three of them are the in-sync set and OSD 0 is a learner, which
 * CRUSH puts in front, so that it becomes the primary as soon as it is added; processes that die,
 * come back, or only look dead; writes and their acknowledgements, which may arrive at any later
 * time; activation; filling and adding; dropping a member that CRUSH does not want any more;
 * leases.
 *
 * What is not: contents of objects (an entry of the log stands for its effect), and time. The clocks
 * promise that the holder of a lease stops to use it before the granter counts it as over; so in
 * the model it ends for both at once, at any time. A process that restarts waits until leases
 * that it may have granted are over, so they outlive it. A grant that was made under a map which the
 * holder does not have yet is not used by it, and so is not made here.
 *
 * Messages are not queues but facts that stay true: what a primary has sent under a configuration
 * (`written`) and what a member has acknowledged under one (`acked`). Whoever may receive such a
 * message can do so at any time, or never, which covers delay, loss and reordering.
 *
 * Checked in every state in which it matters:
 *     - who serves a read, or acknowledges a write, has every entry that was ever acknowledged to a
 *       client, and nothing else in its place;
 *     - who starts to serve under the newest configuration has, too.
 *
 * Each BUG_... leaves out one rule of the protocol; the checker must then find a counterexample.
 */

#ifndef EPOCHS
#define EPOCHS 6 /* Changes of the map, and one more. */
#endif
#ifndef WRITES
#define WRITES 2 /* Entries that a log may have. */
#endif
#ifndef FAILURES
#define FAILURES 2 /* Times that a process dies or only seems to. */
#endif
#ifndef MIN_SIZE
#define MIN_SIZE 2
#endif
#ifndef FIRST_SET
#define FIRST_SET 14 /* Bits: OSDs 1, 2 and 3. */
#endif

#define OSDS    4
#define BIT(i)  (1 << (i))
#define IN(i, set) (((set) >> (i)) & 1)
#define COUNT(s) (((s) & 1) + (((s) >> 1) & 1) + (((s) >> 2) & 1) + (((s) >> 3) & 1))
/* The first member that is up; OSDS when there is none. */
#define FIRST(s) (IN(0, s) -> 0 : (IN(1, s) -> 1 : (IN(2, s) -> 2 : (IN(3, s) -> 3 : OSDS))))

/* ---- The map, by epoch ---- */

byte epoch = 1;
byte config[EPOCHS + 1]; /* The configuration number: the epoch of the last change of the set. */
byte members[EPOCHS + 1];
byte up[EPOCHS + 1];
byte ended[EPOCHS + 1]; /* Down, and the process is known to have ended. */
byte life[EPOCHS + 1];  /* Counts the boots of the learner. */

/* ---- OSDs ---- */

byte alive = 15;
byte map[OSDS]; /* The epoch that it knows. */
byte size[OSDS]; /* Of its log. Entry k is entry[osd * WRITES + k]: the configuration it is of. */
byte entry[OSDS * WRITES];
byte equal[OSDS];   /* As a member or a learner: the configuration under which it was made equal. */
byte serving[OSDS]; /* As a primary: the configuration under which it was activated. */
byte visible[OSDS]; /* As a primary: entries that reads may show. */
bool adding[OSDS];  /* As a primary: it has asked to add the learner. */
byte filled_life[OSDS]; /* The learner's life when it was filled. */

/* ---- Messages, by configuration ---- */

byte written[EPOCHS + 1];           /* Length of the log that its primary has sent. */
byte acked[(EPOCHS + 1) * OSDS];    /* 1 + the length that it has acknowledged; 0: nothing. */
bool add_request[EPOCHS + 1];
byte add_life[EPOCHS + 1]; /* The learner's life that was to be added. */

/* ---- Leases: by granter and holder ---- */

bool lease[OSDS * OSDS];
#ifdef BUG_FORGET_GRANTS
bool forgotten[OSDS * OSDS]; /* The granter has restarted since. */
#endif
#ifdef BUG_COUNT_NEWER_GRANT
bool newer[OSDS * OSDS]; /* Granted under a map that the holder did not have. */
#endif

/* ---- What clients were told ---- */

byte told = 0; /* Length of the acknowledged log. */
byte told_entry[WRITES];
byte failures = 0;

byte i, j, k;

#define CONFIG(o)  config[map[o]]
#define MEMBERS(o) members[map[o]]
#define UP(o)      up[map[o]]
#define ALIVE(o)   IN(o, alive)
/* What the map of the OSD says to it. */
#define ACTIVE(o)  ((MEMBERS(o) & UP(o)) == MEMBERS(o) && COUNT(MEMBERS(o)) >= MIN_SIZE)
#define PRIMARY(o) (FIRST(MEMBERS(o) & UP(o)) == (o))
#define SERVES(o)  (ALIVE(o) && serving[o] != 0 && serving[o] == CONFIG(o))

inline next_map(new_members, new_up, new_ended, changed)
{
    epoch++;
    members[epoch] = new_members;
    up[epoch] = new_up;
    ended[epoch] = new_ended;
    life[epoch] = life[epoch - 1];
    if
    :: changed -> config[epoch] = epoch
    :: else -> config[epoch] = config[epoch - 1]
    fi
}

/* Whoever serves has what clients were told, unchanged. */
inline check_complete(o)
{
    assert(size[o] >= told);
    k = 0;
    do
    :: k < told -> assert(entry[o * WRITES + k] == told_entry[k]); k++
    :: else -> break
    od;
    k = 0
}

/* A client learns of one entry more. */
inline tell(o)
{
    told_entry[told] = entry[o * WRITES + told];
    told++
}

inline copy_log(from, to)
{
    k = 0;
    do
    :: k < WRITES ->
        if
        :: k < size[from] -> entry[to * WRITES + k] = entry[from * WRITES + k]
        :: else -> entry[to * WRITES + k] = 0
        fi;
        k++
    :: else -> break
    od;
    k = 0;
    size[to] = size[from]
}

/* A process forgets what is not durable. Leases that it granted are over only when it has waited. */
inline forget(o)
{
    equal[o] = 0;
    serving[o] = 0;
    visible[o] = 0;
    adding[o] = false;
    filled_life[o] = 0;
    k = 0;
    do
    :: k < OSDS ->
        lease[k * OSDS + o] = false;
#ifdef BUG_FORGET_GRANTS
        forgotten[o * OSDS + k] = lease[o * OSDS + k];
        forgotten[k * OSDS + o] = false;
#endif
        k++
    :: else -> break
    od;
    k = 0
}

/* ---- The monitors ---- */

#define NOW_MEMBERS members[epoch]
#define NOW_UP      up[epoch]
#define ENDED_BY(o) ((ended[epoch - 1] & ~BIT(o)) | k)

/* OSD o is marked down. The set shrinks unless too few would stay. */
inline mark_down(o)
{
    k = (ALIVE(o) -> 0 : BIT(o));
    if
    :: IN(o, NOW_MEMBERS) && COUNT(NOW_MEMBERS & ~BIT(o)) >= MIN_SIZE ->
        next_map(members[epoch - 1] & ~BIT(o), up[epoch - 1] & ~BIT(o), ENDED_BY(o), true)
    :: else ->
        next_map(members[epoch - 1], up[epoch - 1] & ~BIT(o), ENDED_BY(o),
                 IN(o, members[epoch - 1]))
    fi;
    k = 0
}

inline mark_up(o)
{
    next_map(members[epoch - 1], up[epoch - 1] | BIT(o), ended[epoch - 1] & ~BIT(o),
             IN(o, members[epoch - 1]));
    if
    :: o == 0 -> life[epoch] = life[epoch] + 1
    :: else -> skip
    fi
}

/* ---- Conditions of a primary ---- */

#define ACKED(o, j) acked[CONFIG(o) * OSDS + (j)]
/* Member j is o itself, or no member, or has acknowledged this many entries. */
#define HAS(o, j, n) ((j) == (o) || !IN(j, MEMBERS(o)) || ACKED(o, j) > (n))
#define ALL_HAVE(o, n) (HAS(o, 0, n) && HAS(o, 1, n) && HAS(o, 2, n) && HAS(o, 3, n))

#define LEASE(g, h) lease[(g) * OSDS + (h)]
#ifdef BUG_FORGET_GRANTS
#define IS_NOTED(g, h) (LEASE(g, h) && !forgotten[(g) * OSDS + (h)])
#elif defined(BUG_COUNT_NEWER_GRANT)
#define IS_NOTED(g, h) (LEASE(g, h) && !newer[(g) * OSDS + (h)])
#else
#define IS_NOTED(g, h) LEASE(g, h)
#endif

/* A lease of g to h does not hinder o from serving. */
#define LEASE_OVER(o, g, h)                                                                        \
    ((h) == (o) || !IN(g, MEMBERS(o)) || !IS_NOTED(g, h) || IN(h, ended[map[o]]) ||                \
     !ALIVE(h) || CONFIG(h) >= CONFIG(o))
#ifdef BUG_NO_LEASE_WAIT
#define LEASES_OVER(o) true
#else
/* Those of its own are enough: see osd/pg/pg_lease.c. */
#define LEASES_OVER(o)                                                                             \
    (LEASE_OVER(o, o, 0) && LEASE_OVER(o, o, 1) && LEASE_OVER(o, o, 2) && LEASE_OVER(o, o, 3))
#endif

#ifdef BUG_LEASE_WITHOUT_LEARNER
#define NEEDS(o, g) IN(g, MEMBERS(o))
#else
#define NEEDS(o, g) (IN(g, MEMBERS(o)) || ((g) == 0 && adding[o]))
#endif
#define HOLDS(o, g) ((g) == (o) || !NEEDS(o, g) || LEASE(g, o))
#ifdef BUG_READ_WITHOUT_LEASE
#define MAY_READ(o) SERVES(o)
#else
#define MAY_READ(o)                                                                                \
    (SERVES(o) && HOLDS(o, 0) && HOLDS(o, 1) && HOLDS(o, 2) && HOLDS(o, 3))
#endif

#ifdef BUG_SERVE_BEFORE_EQUAL
#define ALL_EQUAL(o) true
#else
#define ALL_EQUAL(o) ALL_HAVE(o, 0)
#endif
#ifdef BUG_ADDING_NOT_COUNTED
#define LEARNER_HAS(o, n) true
#else
#define LEARNER_HAS(o, n) (!adding[o] || ACKED(o, 0) > (n))
#endif
#ifdef BUG_ACK_BEFORE_MEMBERS
#define COMMITTED(o, n) true
#else
#define COMMITTED(o, n) (ALL_HAVE(o, n) && LEARNER_HAS(o, n))
#endif
#ifdef BUG_ADD_UNFILLED
#define IS_FILLED(o) true
#else
#define IS_FILLED(o) (filled_life[o] != 0 && ACKED(o, 0) > told)
#endif
#ifdef BUG_ADD_ANY_LIFE
#define SAME_LIFE(c) true
#else
#define SAME_LIFE(c) (life[epoch] == add_life[c])
#endif
#ifdef BUG_ACCEPT_OLD_CONFIG
#define FOLLOWS(o) equal[o]
#else
#define FOLLOWS(o) (equal[o] == CONFIG(o) -> equal[o] : 0)
#endif

inline append(o, c)
{
    entry[o * WRITES + size[o]] = c;
    size[o] = size[o] + 1
}

/* Makes the log of `to` that of its primary. */
inline make_equal(from, to)
{
#ifndef BUG_SKIP_RECONCILE
    copy_log(from, to);
#endif
    equal[to] = CONFIG(from);
    ACKED(from, to) = size[to] + 1
}

/* The next map reaches a process. What it did under another configuration is over. */
inline learn(o)
{
    map[o] = map[o] + 1;
    if
    :: CONFIG(o) == map[o] || !IN(0, UP(o)) || life[map[o]] != life[map[o] - 1] ->
        adding[o] = false;
        filled_life[o] = 0
    :: else -> skip
    fi;
    if
    :: serving[o] != CONFIG(o) -> serving[o] = 0; visible[o] = 0
    :: else -> skip
    fi;
#ifndef BUG_ACCEPT_OLD_CONFIG
    if
    :: equal[o] != CONFIG(o) -> equal[o] = 0
    :: else -> skip
    fi;
#endif
    clean_up()
}

/* Messages and maps that nobody can receive any more are forgotten: fewer states to visit. */
inline clean_up()
{
#ifndef BUG_ACCEPT_OLD_CONFIG
    k = 1;
    do
    :: k < epoch ->
        if
        :: config[k] != config[epoch] && CONFIG(0) != config[k] && CONFIG(1) != config[k] &&
           CONFIG(2) != config[k] && CONFIG(3) != config[k] ->
            if
            :: config[k] == k ->
                written[k] = 0;
                add_request[k] = false;
                add_life[k] = 0;
                acked[k * OSDS] = 0;
                acked[k * OSDS + 1] = 0;
                acked[k * OSDS + 2] = 0;
                acked[k * OSDS + 3] = 0
            :: else -> skip
            fi
        :: else -> skip
        fi;
        k++
    :: else -> break
    od;
    k = 1;
    do
    :: k < epoch ->
        if
        :: map[0] != k && map[1] != k && map[2] != k && map[3] != k && k > 1 &&
           map[0] != k + 1 && map[1] != k + 1 && map[2] != k + 1 && map[3] != k + 1 ->
            if
            :: (map[0] > k || !ALIVE(0)) && (map[1] > k || !ALIVE(1)) && (map[2] > k || !ALIVE(2)) &&
               (map[3] > k || !ALIVE(3)) ->
                members[k] = 0;
                up[k] = 0;
                ended[k] = 0;
                life[k] = 0;
                config[k] = 0
            :: else -> skip
            fi
        :: else -> skip
        fi;
        k++
    :: else -> break
    od;
    k = 0
#else
    skip
#endif
}

active proctype world()
{
    d_step {
        config[1] = 1;
        members[1] = FIRST_SET;
        up[1] = 15;
        life[1] = 1;
        i = 0;
        do
        :: i < OSDS -> map[i] = 1; i++
        :: else -> break
        od;
        i = 0
    }
    do
    :: atomic {
        /* Two OSDs, any. */
        if
        :: i = 0 :: i = 1 :: i = 2 :: i = 3
        fi;
        if
        :: j = 0 :: j = 1 :: j = 2 :: j = 3
        fi;
        if
        /* ---- The world ---- */
        :: j == 0 && ALIVE(i) && failures < FAILURES ->
            d_step { failures++; alive = alive & ~BIT(i); forget(i); map[i] = 0; clean_up() }
        :: j == 0 && !ALIVE(i) && epoch < EPOCHS ->
            d_step { alive = alive | BIT(i); mark_up(i); map[i] = epoch; clean_up() }
        :: j == 0 && ALIVE(i) && map[i] < epoch -> d_step { learn(i) }

        /* ---- The monitors ---- */
        :: j == 0 && IN(i, NOW_UP) && epoch < EPOCHS && !ALIVE(i) -> d_step { mark_down(i) }
        :: j == 0 && IN(i, NOW_UP) && epoch < EPOCHS && ALIVE(i) && failures < FAILURES ->
            d_step { failures++; mark_down(i) }
        :: j == 0 && !IN(i, NOW_UP) && epoch < EPOCHS && ALIVE(i) && !IN(i, UP(i)) ->
            d_step { mark_up(i) }
        :: i == 0 && j == 0 && epoch < EPOCHS && add_request[config[epoch]] && IN(0, NOW_UP) &&
           !IN(0, NOW_MEMBERS) && SAME_LIFE(config[epoch]) ->
            d_step { next_map(members[epoch - 1] | 1, up[epoch - 1], ended[epoch - 1], true) }
        :: j == 0 && i > 0 && epoch < EPOCHS && COUNT(NOW_MEMBERS) == OSDS ->
            d_step {
                next_map(members[epoch - 1] & ~BIT(i), up[epoch - 1], ended[epoch - 1], true)
            }

        /* ---- The primary i ---- */
        :: j != i && ALIVE(i) && ALIVE(j) && PRIMARY(i) && ACTIVE(i) && serving[i] != CONFIG(i) &&
           IN(j, MEMBERS(i)) && CONFIG(j) == CONFIG(i) && equal[j] != CONFIG(i) ->
            d_step { make_equal(i, j) }
        :: j == 0 && ALIVE(i) && PRIMARY(i) && ACTIVE(i) && serving[i] != CONFIG(i) &&
           ALL_EQUAL(i) && LEASES_OVER(i) ->
            d_step {
                serving[i] = CONFIG(i);
                visible[i] = size[i];
                written[CONFIG(i)] = size[i];
                /* One that lags may serve nobody any more: neither leases nor acknowledgements. */
                if
                :: CONFIG(i) == config[epoch] -> check_complete(i)
                :: else -> skip
                fi
            }
        :: j == 0 && SERVES(i) && size[i] < WRITES ->
            d_step { append(i, CONFIG(i)); written[CONFIG(i)] = size[i] }
        :: j == 0 && SERVES(i) && told < size[i] && COMMITTED(i, told + 1) ->
            d_step {
                check_complete(i);
                tell(i);
                visible[i] = (visible[i] > told -> visible[i] : told)
            }
        :: j == 0 && MAY_READ(i) ->
            d_step {
                check_complete(i);
                do
                :: told < visible[i] -> tell(i)
                :: else -> break
                od
            }

        /* ---- The member or learner i ---- */
        :: j == 0 && ALIVE(i) && FOLLOWS(i) != 0 && serving[i] != FOLLOWS(i) &&
           size[i] < written[FOLLOWS(i)] ->
            d_step {
                append(i, equal[i]);
                acked[equal[i] * OSDS + i] = size[i] + 1
            }

        /* ---- Filling and adding the learner, by i ---- */
        :: j == 0 && i > 0 && SERVES(i) && !IN(0, MEMBERS(i)) && IN(0, UP(i)) && ALIVE(0) &&
           CONFIG(0) == CONFIG(i) && equal[0] != CONFIG(i) ->
            d_step { make_equal(i, 0); filled_life[i] = life[map[i]] }
        :: j == 0 && i > 0 && SERVES(i) && !IN(0, MEMBERS(i)) && IN(0, UP(i)) && !adding[i] &&
           IS_FILLED(i) ->
            d_step {
                adding[i] = true;
                add_request[CONFIG(i)] = true;
                add_life[CONFIG(i)] = life[map[i]]
            }

        /* ---- Leases: i grants to j ---- */
        :: j != i && ALIVE(i) && SERVES(j) && NEEDS(j, i) && IN(j, UP(i)) && !LEASE(i, j) &&
           map[i] <= map[j] ->
            LEASE(i, j) = true
#ifdef BUG_COUNT_NEWER_GRANT
        :: j != i && ALIVE(i) && SERVES(j) && NEEDS(j, i) && IN(j, UP(i)) && !LEASE(i, j) &&
           map[i] > map[j] ->
            d_step { LEASE(i, j) = true; newer[i * OSDS + j] = true }
#endif
        :: LEASE(i, j) ->
            d_step {
                LEASE(i, j) = false;
#ifdef BUG_FORGET_GRANTS
                forgotten[i * OSDS + j] = false
#elif defined(BUG_COUNT_NEWER_GRANT)
                newer[i * OSDS + j] = false
#else
                skip
#endif
            }
        :: else -> skip
        fi;
        i = 0;
        j = 0
    }
    od
}
