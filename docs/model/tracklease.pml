/* Tracking mode in time: the lease, acknowledged writes, and own writes beside them. One key, a clock that ticks.
 *
 * Modelled: a process B with a tier and one connection, which carries its commands, their replies, the invalidations and the
 * requests to confirm, all in one order; and a process A that writes, by acknowledged writes where P4 is asked for:
 * [SET][PUBLISH acks n], two commands in this order, with anything of others between them. B subscribes to acks on its
 * tracked connection and confirms n when it comes to it there. A then waits as in lease.pml, whose clock, freezes, and reads
 * are these, too. A probe is a write at Redis that renews the membership; its reply on the tracked connection grants.
 * B's own write is [EXISTS][SET][GET], as in tracking.pml, and others may come between the three.
 *
 * Sizes: M 2, HOR ticks 4, NRD reads 2, NPR probes 1, NAW writes of A 1, NOW own writes of B 0.
 * With -DSTART=t B begins with the entry, tracked, and with the lease of a probe that was sent at time t-M.
 *
 * Properties P3, P4, P6 as in lease.pml.
 * More of the world: -DSILENT, -DRESUME, -DFAILOVER, -DMM=1 as in lease.pml; -DTOUCH another program changes the key's life once.
 *
 * Defences, each taken out by its switch:
 *   NO_LEASE        hits do not look at the lease
 *   GRANT_OTHER     the probe's reply on another connection grants
 *   GRANT_ARRIVAL   the lease counts from the arrival of the reply
 *   GRANT_ANY       any reply on the tracked connection grants, the membership is not asked
 *   NO_CAP          the lease may outlive the membership
 *   DROP_BESIDE     invalidations are carried out beside the connection's reader, which goes on
 *   RENEW_BEFORE_EMPTY  a new connection renews the lease before the tier is emptied
 *   PUBLISH_FIRST   A sends [PUBLISH acks n][SET]
 *   ACKS_ELSEWHERE  B hears the requests to confirm on another connection
 *   NO_ACK, WAIT_FROM_SEND, CONFIRM_ANY, LIST_BEFORE, LIST_AFTER, NO_FLOOR, JOIN_NO_LEASE   as in lease.pml
 *   LIST_ELSEWHERE  with LIST_AFTER: A reads the list on another connection than the one that wrote
 *   LIST_ELSEWHERE_YOUNG  and waits a lease also where that one is young
 *   LIST_BETWEEN    A reads the list of members between SET and PUBLISH
 *   NO_DELETE_BEGIN, NO_CUT_WRITES, NO_COUNT (of pushes)   of the own write
 */
#ifndef M
#define M 2
#endif
#ifndef MM
#define MM M
#endif
#ifndef HOR
#define HOR 4
#endif
#ifndef NRD
#define NRD 2
#endif
#ifndef NPR
#define NPR 1
#endif
#ifndef NAW
#define NAW 1
#endif
#ifndef NOW
#define NOW 0
#endif
#if NOW == 0
#define NOWA 1
#else
#define NOWA NOW
#endif

#define VALUE 1          /* of a fill: slot, version */
#define PUSH  2
#define ACK   3          /* confirm the write with this number */
#define PROBE 4          /* reply to a probe: the time at which it was sent */
#define WROTE 5          /* of an own write: slot, version that its GET returned */
#define ERROR 250

byte now;
/* Redis */
byte db, replaced[8], member;
bit  tracked, connected, failed; byte failedAt;
chan out = [8] of { byte, byte, byte };
#ifdef ACKS_ELSEWHERE
chan other = [2] of { byte };
#endif
/* process B */
byte entry, D, sent, next, begun, wbegun, lastRead;
bit  live, lost;
bit  attached[NRD], issued[NRD], got[NRD]; byte value[NRD], floor[NRD], since[NRD];
bit  open[NOWA], doomed[NOWA], wgot[NOWA]; byte pushes[NOWA], wvalue[NOWA], wrote[NOWA];
byte confirmed;
bit  todo;               /* DROP_BESIDE: a drop that is still to be done */
#ifdef GRANT_ANY
byte issuedAt[NRD];
#endif
/* process A */
byte acked;

proctype Tick() {
  do
  :: atomic { now < HOR -> now++;
       if :: D <= now -> D = 0 :: else fi;
       if :: member <= now -> member = 0 :: else fi }
  od
}

inline detach() { if :: sent -> attached[sent-1] = 0 :: else fi }
inline doom() { k = 0; do :: k < NOW -> if :: open[k] -> doomed[k] = 1 :: else fi; k++ :: else -> break od; k = 0 }
inline anyopen(r) { r = 0; k = 0; do :: k < NOW -> r = r || open[k]; k++ :: else -> break od; k = 0 }
inline drop() {
  entry = 0; detach();
  k = 0; do :: k < NOW -> if :: open[k] && pushes[k] < 2 -> pushes[k]++ :: else fi; k++ :: else -> break od; k = 0
}
inline send(s) { sent = s+1; anyopen(b); attached[s] = live && !b; b = 0 }
inline grant(t, lasts) { if :: live && t + lasts > D && t + lasts > now -> D = t + lasts :: else fi }
#ifdef NO_CAP
#define LENGTH M
#else
#define LENGTH (M < MM -> M : MM)
#endif

#ifdef P4
#define FLOOR acked
#else
#define FLOOR lastRead
#endif
#ifdef P3
#define JUDGE(v, f, t) assert(v == db || t < replaced[v] + M)
#define ASK(s, f, t) if :: t > since[s] -> since[s] = t :: else fi
#define BEGINNING f = now
#else
#define JUDGE(v, f, t) assert(v >= f)
#define ASK(s, f, t) if :: f > floor[s] -> floor[s] = f :: else fi
#define BEGINNING f = FLOOR
#endif
#ifdef P6
#define SHOWN(v) if :: v > lastRead -> lastRead = v :: else fi
#else
#define SHOWN(v) skip
#endif
#ifdef JOIN_NO_LEASE
#define JOINABLE (sent && attached[sent-1])
#else
#define JOINABLE (sent && attached[sent-1] && live && now < D)
#endif

proctype Read(byte s) {
  byte f, d, e, c, v, k; bit b;
#ifdef NO_LEASE
  atomic { begun == s -> begun++; BEGINNING; d = 255; e = entry; c = now;
#else
  atomic { begun == s -> begun++; BEGINNING; d = (live -> D : 0) };
  atomic { e = entry };
  atomic { c = now;
#endif
    if
    :: e && c < d -> v = e-1; JUDGE(v, f, now); SHOWN(v); f = 0; d = 0; e = 0; c = 0; v = 0; goto leave
    :: else -> d = 0; e = 0; c = 0
    fi };
  atomic {                                               /* BEGIN FILL */
    if
    :: JOINABLE -> ASK(sent-1, f, f); f = 0; goto leave
    :: !JOINABLE && next -> ASK(next-1, f, f); f = 0; goto leave
    :: !JOINABLE && !next && sent -> detach(); next = s+1
    :: !sent -> send(s)
    fi;
    ASK(s, f, f); f = 0 };
#ifdef GRANT_ANY
  atomic { sent == s+1 -> issuedAt[s] = now };
#endif
  if
  :: atomic { sent == s+1 && connected -> tracked = 1; issued[s] = 1; out!VALUE,s,db }     /* GET, carried out */
  :: atomic { sent == s+1 && lost && !live -> value[s] = ERROR; got[s] = 1 }
  fi;
  atomic { got[s] ->                                     /* END FILL */
    v = value[s];
    if
    :: v == ERROR
    :: v != ERROR && attached[s] -> entry = v+1
    :: v != ERROR && !attached[s] ->
       if
       :: live && entry && now < D -> v = entry-1
       :: else -> entry = 0; doom()
       fi
    fi;
    if :: v != ERROR -> JUDGE(v, floor[s], since[s]); SHOWN(v) :: else fi;
    attached[s] = 0; issued[s] = 0; got[s] = 0; value[s] = 0; floor[s] = 0; since[s] = 0; v = 0;
    sent = 0;
    if :: next -> c = next-1; next = 0; send(c); c = 0 :: else fi };
leave: false
}

inline written() {
#ifdef P3
  replaced[db] = now;
#endif
  db++;
  if :: tracked -> tracked = 0; if :: connected -> out!PUSH,0,0 :: else fi :: else fi
}

proctype Own(byte i) {
  byte k; bit b;
  atomic { wbegun == i -> wbegun++;                      /* BEGIN WRITE */
#ifndef NO_DELETE_BEGIN
    entry = 0;
#endif
    detach();
    anyopen(b);
    if :: b -> doom() :: else fi;
    open[i] = 1; doomed[i] = b || !live; b = 0 };
  if
  :: atomic { connected -> tracked = 1 };                /* EXISTS */
     if
     :: atomic { connected -> written(); wrote[i] = db };
        if
        :: atomic { connected -> tracked = 1; out!WROTE,i,db }
        :: atomic { !connected -> skip }
        fi
     :: atomic { !connected -> skip }
     fi
  :: skip                                                /* not sent, or late */
  fi;
  if
  :: atomic { wgot[i] ->                                 /* END WRITE */
       if
#ifdef NO_COUNT
       :: !doomed[i] && wvalue[i] == wrote[i] -> entry = wvalue[i]+1
#else
       :: pushes[i] <= 1 && !doomed[i] && wvalue[i] == wrote[i] -> entry = wvalue[i]+1
#endif
       :: else
#ifdef NO_DELETE_BEGIN
          -> entry = 0
#endif
       fi;
       open[i] = 0; doomed[i] = 0; pushes[i] = 0; wvalue[i] = 0; wrote[i] = 0; wgot[i] = 0 }
  :: atomic { open[i] = 0; doomed[i] = 0; pushes[i] = 0; wvalue[i] = 0; wrote[i] = 0; wgot[i] = 0 };
     if :: atomic { written() } :: skip fi               /* its end is unknown; it may land later */
  fi;
  false
}

#ifdef P4
#define RENEW member = now + MM
#else
#define RENEW skip
#endif
proctype Probe() {
  byte n, T;
  do
  :: n < NPR ->
     atomic { T = now; n++ };
#ifdef GRANT_OTHER
     atomic { RENEW };
     atomic { grant(T, M); T = 0 }
#else
     if
     :: atomic { connected -> RENEW; out!PROBE,0,T; T = 0 }
     :: atomic { lost -> T = 0 }
     fi
#endif
  :: else -> break
  od;
  false
}

proctype Reader() {
  byte what, s, v, k;
  do
  :: atomic { nempty(out) -> out?what,s,v;
       if
       :: what == PUSH ->
#ifdef DROP_BESIDE
          todo = 1
#else
          drop()
#endif
       :: what == ACK -> confirmed = v
       :: what == PROBE ->
#if defined(GRANT_ARRIVAL)
          grant(now, M)
#else
          grant(v, LENGTH)
#endif
       :: what == VALUE -> if :: issued[s] -> value[s] = v; got[s] = 1 :: else fi;
#ifdef GRANT_ANY
          grant(issuedAt[s], M)
#endif
       :: what == WROTE -> if :: open[s] -> wvalue[s] = v; wgot[s] = 1 :: else fi
       fi;
       what = 0; s = 0; v = 0 }
#ifdef DROP_BESIDE
  :: atomic { todo -> drop(); todo = 0 }
#endif
#ifdef ACKS_ELSEWHERE
  :: atomic { nempty(other) -> other?v; confirmed = v; v = 0 }
#endif
#ifdef SILENT
  :: atomic { connected && live && !lost -> lost = 1; connected = 0; tracked = 0;
       do :: out?what,s,v :: empty(out) -> break od; what = 0; s = 0; v = 0 }
#ifdef RESUME
  :: atomic { lost && live && !connected ->
#ifdef RENEW_BEFORE_EMPTY
       connected = 1; v = now };
     atomic { D = v + M; v = 0 };
     atomic { detach(); doom(); entry = 0 }
#else
       live = 0; detach();
#ifndef NO_CUT_WRITES
       doom();
#endif
       entry = 0;
       k = 0;
       do
       :: k < NRD -> if :: issued[k] && !got[k] -> value[k] = ERROR; got[k] = 1 :: else fi; k++
       :: else -> break
       od;
       k = 0 };
     atomic { connected = 1; live = 1 }
#endif
#endif
#endif
  od
}

#ifdef CONFIRM_ANY
#define MINE (confirmed >= 1)
#else
#define MINE (confirmed >= n)
#endif
#ifdef ACKS_ELSEWHERE
#define REQUEST other!n
#else
#define REQUEST if :: connected -> out!ACK,0,n :: else fi
#endif
proctype Writer() {
  byte n, my, R; bit listed, young, was;
  do
  :: n < NAW ->
#ifdef P4
     atomic { n++;
#ifdef CONFIRM_ANY
       confirmed = 0;
#endif
#if defined(WAIT_FROM_SEND) || defined(FAILOVER)
       R = now
#endif
     };
#ifdef LIST_BEFORE
     atomic { listed = (now < member) };
#endif
#ifdef PUBLISH_FIRST
     atomic { REQUEST };
#endif
     atomic { written(); my = db;
#if defined(FAILOVER) && !defined(NO_FLOOR)
       young = failed && R < failedAt + M;   /* what ran at the new Redis was sent on a new connection */
#endif
       was = failed };
#ifdef LIST_BETWEEN
     atomic { listed = (now < member) };
#endif
#ifndef PUBLISH_FIRST
     atomic { REQUEST;
#if !defined(LIST_BEFORE) && !defined(LIST_AFTER) && !defined(LIST_BETWEEN)
       listed = (now < member)
#endif
     };
#endif
#if defined(LIST_AFTER) || defined(PUBLISH_FIRST)
     atomic { listed = (now < member);
#ifdef LIST_ELSEWHERE_YOUNG
       young = young || failed && now < failedAt + M;
#endif
       skip };
#endif
#ifndef LIST_ELSEWHERE
     if                                                  /* the connection broke on the way: the write failed, or may have */
     :: atomic { was != failed -> my = 0; R = 0; listed = 0; young = 0; was = 0; goto next_write }
     :: atomic { was == failed -> was = 0 }
     fi;
#endif
#ifndef WAIT_FROM_SEND
     atomic { R = now };
#endif
#ifdef NO_ACK
     atomic { listed = 0; young = 0 };
#endif
     if
     :: atomic { !listed && !young -> skip }
     :: atomic { listed && !young && MINE -> skip }
     :: atomic { (listed || young) && now >= R + M -> skip }
     fi;
     atomic { acked = my; my = 0; R = 0; listed = 0; young = 0; was = 0 };
next_write: skip
#else
     atomic { n++; written() }
#endif
  :: else -> break
  od;
  false
}
#ifdef TOUCH
proctype Touch() { atomic { if :: tracked -> tracked = 0; if :: connected -> out!PUSH,0,0 :: else fi :: else fi }; false }
#endif
#ifdef FAILOVER
/* The new Redis has the value, and neither the list nor the tracked keys; B's connection hangs on the old one, in silence.
 * Or only the list is lost, and the connection of A. */
proctype Failover() {
  byte what, s, v;
  atomic { member = 0; failed = 1; failedAt = now;
    if
    :: connected = 0; tracked = 0; lost = 1; do :: out?what,s,v :: empty(out) -> break od
    :: skip
    fi;
    what = 0; s = 0; v = 0 };
  false
}
#endif

init {
  byte i;
  atomic {
    live = 1; connected = 1;
#ifdef START
    entry = 1; tracked = 1;
    D = START - M + LENGTH;
#ifdef P4
    member = START - M + MM;
#endif
#endif
    run Tick(); run Probe(); run Reader(); run Writer();
#ifdef TOUCH
    run Touch();
#endif
#ifdef FAILOVER
    run Failover();
#endif
    do :: i < NRD -> run Read(i); i++ :: else -> break od; i = 0;
    do :: i < NOW -> run Own(i); i++ :: else -> break od; i = 0
  }
}
