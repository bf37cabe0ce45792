/* PubSub mode in time: the lease, acknowledged writes, and own writes beside them. One key, a clock that ticks.
 *
 * Modelled: a process B with a tier (readers, fills, own writes, probes, the stream) and a process A that writes, by
 * acknowledged writes where P4 is asked for. Between any two steps of any process the clock may tick any number of times:
 * that is a freeze. A hit is the three loads it is in the code. The writes of A announce themselves in one step; in a
 * silent loss the stream delivers nothing more and no error comes, until it is noticed or for ever.
 * A value is the number of the write that made it. The lease and the membership last M ticks.
 *
 * Sizes: M 2, HOR ticks 4, NRD reads 2, NPR probes 1, NAW writes of A 1, NOW own writes of B 0.
 * B begins with the entry and with the lease of a probe that was sent at time START-M; without START it begins bare.
 *
 * Properties, one at a time:
 *   -DP3  no read answers with a value that was replaced M or more before the read looked (a hit) or began (else)
 *   -DP4  no read that begins after an acknowledged write returned answers with an older value
 *   -DP6  reads of B never step back
 *
 * More of the world: -DSILENT the stream is lost in silence; -DRESUME and that is noticed, cut and resumed;
 *   -DFAILOVER Redis is replaced, the new one does not know the members; -DMM=1 the membership is that short.
 *
 * Defences, each taken out by its switch:
 *   NO_LEASE        hits do not look at the lease
 *   CLOCK_FIRST, CLOCK_BEFORE_ENTRY, ENTRY_FIRST   the order of a hit's loads, which is: lease, entry, clock
 *   GRANT_REPLY     the probe's reply on a command connection grants, not its echo on the stream
 *   GRANT_ARRIVAL   the lease counts from the arrival of the echo, not from the sending of the probe
 *   GRANT_RESUME    the confirmation of a subscription grants, too
 *   NO_CAP          the lease may outlive the membership
 *   DROP_BESIDE     messages are carried out beside the stream's reader, which goes on
 *   RENEW_BEFORE_EMPTY  a new connection renews the lease before the tier is emptied
 *   NO_DELETE_BEGIN an own write's beginning leaves the entry
 *   NO_CUT_WRITES   the cut dooms no own write
 *   NO_DOOM_MSG     a message dooms no own write
 *   NO_OVERLAP_DOOM own writes that overlap do not doom each other
 *   NO_FORGET       an own write of unknown end keeps its nonce
 *   NO_LOOK_AGAIN   a detached fill answers with what it read
 *   JOIN_NO_LEASE   an attached fill is joined without a look at the lease
 *   JOIN_DETACHED   any fill under way is joined
 *   WAIT_FROM_SEND  A counts its wait from the sending of the write, not from the reply
 *   CONFIRM_FIRST   B confirms, and drops afterwards
 *   CONFIRM_ANY     any confirmation ends the wait, not only that of this write
 *   LIST_BEFORE, LIST_AFTER      A reads the list of members in a step before, after the write
 *   LIST_ELSEWHERE  with LIST_AFTER: A reads the list on another connection than the one that wrote
 *   LIST_ELSEWHERE_YOUNG  and waits a lease also where that one is young
 *   RENEW_AFTER, RENEW_FIRST     the membership is renewed in a step after, before the probe's message
 *   NO_FLOOR        A does not wait a lease where its own connection is young
 *   NO_ACK          A does not wait at all
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

#define OF_A      1      /* messages: a write of A, with its number */
#define TOKEN     2      /* the echo of a probe, with the time at which it was sent */
#define CONFIRMED 3      /* the subscription is confirmed */
#define OF_B      4      /* the echo of an own write, with its slot */

#define GONE    0
#define PENDING 1
#define SEEN    2
#define SURE    3

byte now;
/* Redis */
byte db;
byte replaced[8];        /* time at which a version was replaced */
byte member;             /* B is on the list until then; 0 is not at all */
bit  failed; byte failedAt;
chan stream = [6] of { byte, byte };
/* process B */
byte entry, D, sent, next, begun, wbegun, lastRead;
bit  live, subscribed, lost;
bit  attached[NRD]; byte floor[NRD], since[NRD];
bit  open[NOWA], doomed[NOWA]; byte nonce[NOWA];
byte confirmed;          /* newest write of A that B confirmed */
bit  todo; byte todoN;   /* DROP_BESIDE, CONFIRM_FIRST: a drop that is still to be done */
/* process A */
byte acked;              /* newest version whose write returned */

#if defined(CLOCK_FIRST) || defined(CLOCK_BEFORE_ENTRY) || defined(ENTRY_FIRST)
#define EXPIRE skip
#else
#define EXPIRE if :: D <= now -> D = 0 :: else fi      /* all times that are over are alike: fewer states */
#endif
proctype Tick() {
  do :: atomic { now < HOR -> now++; EXPIRE; if :: member <= now -> member = 0 :: else fi } od
}

/* --- the table of flights --- */
inline detach() { if :: sent -> attached[sent-1] = 0 :: else fi }
inline doom() { k = 0; do :: k < NOW -> if :: open[k] -> doomed[k] = 1 :: else fi; k++ :: else -> break od; k = 0 }
inline anyopen(r) { r = 0; k = 0; do :: k < NOW -> r = r || open[k]; k++ :: else -> break od; k = 0 }
inline drop() {
  entry = 0; detach();
#ifndef NO_DOOM_MSG
  doom()
#endif
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
#else
#define JUDGE(v, f, t) assert(v >= f)
#define ASK(s, f, t) if :: f > floor[s] -> floor[s] = f :: else fi
#endif
#ifdef P6
#define SHOWN(v) if :: v > lastRead -> lastRead = v :: else fi
#else
#define SHOWN(v) skip
#endif
#if defined(JOIN_NO_LEASE)
#define JOINABLE (sent && attached[sent-1])
#elif defined(JOIN_DETACHED)
#define JOINABLE (sent)
#else
#define JOINABLE (sent && attached[sent-1] && live && now < D)
#endif
#ifdef P3
#define BEGINNING f = now
#else
#define BEGINNING f = FLOOR
#endif

proctype Read(byte s) {
  byte f;                /* what this read must see: a version, for P3 the time at which it began */
  byte d, e, c, v, k; bit b;
#if defined(NO_LEASE)
  atomic { begun == s -> begun++; BEGINNING; d = 255; e = entry; c = now;
#elif defined(CLOCK_FIRST)
  atomic { begun == s -> begun++; BEGINNING; c = now };
  atomic { d = (live -> D : 0) };
  atomic { e = entry;
#elif defined(CLOCK_BEFORE_ENTRY)
  atomic { begun == s -> begun++; BEGINNING; d = (live -> D : 0) };
  atomic { c = now };
  atomic { e = entry;
#elif defined(ENTRY_FIRST)
  atomic { begun == s -> begun++; BEGINNING; e = entry };
  atomic { d = (live -> D : 0) };
  atomic { c = now;
#else
  atomic { begun == s -> begun++; BEGINNING; d = (live -> D : 0) };
  atomic { e = entry };
  atomic { c = now;
#endif
    if
    :: e && c < d -> v = e-1; JUDGE(v, f, now); SHOWN(v); f = 0; d = 0; e = 0; c = 0; v = 0; goto out
    :: else -> d = 0; e = 0; c = 0
    fi };
  atomic {                                               /* BEGIN FILL */
    if
    :: JOINABLE -> ASK(sent-1, f, f); f = 0; goto out
    :: !JOINABLE && next -> ASK(next-1, f, f); f = 0; goto out
    :: !JOINABLE && !next && sent -> detach(); next = s+1
    :: !sent -> send(s)
    fi;
    ASK(s, f, f); f = 0 };
  atomic { sent == s+1 -> v = db };                      /* GET */
  atomic {                                               /* END FILL */
    if
    :: attached[s] -> entry = v+1
    :: else ->
#ifndef NO_LOOK_AGAIN
       if
       :: live && entry && now < D -> v = entry-1
       :: else -> entry = 0; doom()
       fi
#else
       skip
#endif
    fi;
    JUDGE(v, floor[s], since[s]); SHOWN(v);
    attached[s] = 0; floor[s] = 0; since[s] = 0; v = 0;
    sent = 0;
    if :: next -> c = next-1; next = 0; send(c); c = 0 :: else fi };
out: false
}

inline write(kind, n) {
#ifdef P3
  replaced[db] = now;
#endif
  db++;
  if :: subscribed -> stream!kind,n :: else fi
}

proctype Own(byte i) {
  byte v, k; bit b, ok;
  atomic { wbegun == i -> wbegun++;                      /* BEGIN WRITE */
#ifndef NO_DELETE_BEGIN
    entry = 0;
#endif
    detach(); anyopen(b);
#ifdef NO_OVERLAP_DOOM
    b = 0;
#endif
    if :: b -> doom() :: else fi;
    open[i] = 1; doomed[i] = b; b = 0;
    if :: live -> nonce[i] = PENDING :: else -> doomed[i] = 1 fi };
  if
  :: atomic { write(OF_B, i); v = db; ok = 1 }
  :: skip                                                /* no reply; may land later */
  fi;
  atomic {                                               /* END WRITE; or its end is unknown */
    b = ok;
    if :: b :: b -> b = 0 :: !b fi;
    open[i] = 0;
    if
    :: b && !doomed[i] -> entry = v+1
    :: else
#ifdef NO_DELETE_BEGIN
       -> entry = 0
#endif
    fi;
    doomed[i] = 0; v = 0;
    if
#ifdef NO_FORGET
    :: nonce[i] == PENDING -> nonce[i] = SURE
#else
    :: b && nonce[i] == PENDING -> nonce[i] = SURE
#endif
    :: else -> nonce[i] = GONE
    fi;
    b = 0 };
  if
  :: atomic { !ok -> write(OF_B, i) }
  :: atomic { ok = 0 }
  fi;
  false
}

#ifdef P4
#define RENEW member = now + MM
#else
#define RENEW skip       /* nobody reads the list */
#endif
proctype Probe() {
  byte n, T;
  do
  :: n < NPR ->
     atomic { T = now; n++ };
#if defined(RENEW_AFTER)
     atomic { if :: subscribed -> stream!TOKEN,T :: else fi };
     atomic { RENEW; T = 0 }
#elif defined(RENEW_FIRST)
     atomic { RENEW };
     atomic { if :: subscribed -> stream!TOKEN,T :: else fi; T = 0 }
#else
     atomic { RENEW; if :: subscribed -> stream!TOKEN,T :: else fi;
#ifndef GRANT_REPLY
       T = 0
#endif
     };
#ifdef GRANT_REPLY
     atomic { grant(T, M); T = 0 }
#endif
#endif
  :: else -> break
  od;
  false
}

proctype Stream() {
  byte what, n, k;
  do
  :: atomic {
#ifdef DROP_BESIDE
       nempty(stream) -> stream?what,n;
#else
       !todo && nempty(stream) -> stream?what,n;
#endif
       if
       :: what == OF_A ->
#if defined(DROP_BESIDE)
          todo = 1; todoN = n
#elif defined(CONFIRM_FIRST)
          confirmed = n; todo = 1
#else
          drop(); confirmed = n
#endif
       :: what == OF_B ->
          if
          :: nonce[n] == PENDING -> nonce[n] = SEEN
          :: nonce[n] == SURE -> nonce[n] = GONE
          :: else -> drop()
          fi
       :: what == TOKEN ->
#if defined(GRANT_REPLY)
          skip
#elif defined(GRANT_ARRIVAL)
          grant(now, M)
#else
          grant(n, LENGTH)
#endif
       :: what == CONFIRMED ->
          k = 0; do :: k < NOW -> nonce[k] = GONE; k++ :: else -> break od; k = 0;
          live = 1;
#ifdef GRANT_RESUME
          grant(n, M)
#endif
       fi;
       what = 0; n = 0 }
#ifdef CONFIRM_FIRST
  :: atomic { todo -> drop(); todo = 0 }
#endif
#ifdef SILENT
  :: atomic { subscribed && live && !lost -> lost = 1; subscribed = 0;
       do :: stream?what,n :: empty(stream) -> break od; what = 0; n = 0 }
#ifdef RESUME
  :: atomic { lost && live && !subscribed ->
#ifdef RENEW_BEFORE_EMPTY
       subscribed = 1; n = now };
     atomic { D = n + M; n = 0 };
     atomic { detach(); doom(); entry = 0 }
#else
       live = 0; detach();
#ifndef NO_CUT_WRITES
       doom();
#endif
       entry = 0 };
#ifdef GRANT_RESUME
     atomic { n = now };
#endif
     atomic { subscribed = 1; stream!CONFIRMED,n; n = 0 }
#endif
#endif
#endif
  od
}
#ifdef DROP_BESIDE
proctype Beside() { byte k; do :: atomic { todo -> drop(); confirmed = todoN; todo = 0; todoN = 0 } od }
#endif

#ifdef CONFIRM_ANY
#define MINE (confirmed >= 1)
#else
#define MINE (confirmed >= n)
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
       R = now           /* the send */
#endif
     };
#ifdef LIST_BEFORE
     atomic { listed = (now < member) };
#endif
     atomic { write(OF_A, n); my = db;
#if !defined(LIST_BEFORE) && !defined(LIST_AFTER)
       listed = (now < member);
#endif
#if defined(FAILOVER) && !defined(NO_FLOOR)
       young = failed && R < failedAt + M;   /* what ran at the new Redis was sent on a new connection */
       was = failed
#endif
     };
#ifdef LIST_AFTER
     atomic { listed = (now < member);
#ifdef LIST_ELSEWHERE_YOUNG
       young = young || failed && now < failedAt + M;
#endif
       skip };
#if defined(FAILOVER) && !defined(LIST_ELSEWHERE)
     if                                                  /* the connection broke on the way: the write failed, or may have */
     :: atomic { was != failed -> my = 0; R = 0; listed = 0; young = 0; was = 0; goto next_write }
     :: atomic { was == failed -> was = 0 }
     fi;
#endif
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
     atomic { n++; write(OF_A, n) }
#endif
  :: else -> break
  od;
  false
}

#ifdef FAILOVER
/* The new Redis has the value and not the list; B's stream hangs on it, or on nothing; A's connection is new. */
proctype Failover() {
  byte what, n;
  atomic { member = 0; failed = 1; failedAt = now;
    if :: subscribed = 0; lost = 1; do :: stream?what,n :: empty(stream) -> break od :: skip fi; what = 0; n = 0 };
  false
}
#endif

init {
  byte i;
  atomic {
    live = 1; subscribed = 1;
#ifdef START
    entry = 1; D = START;
#ifdef P4
    member = START - M + MM;
#endif
#if MM < M
#ifndef NO_CAP
    D = START - M + MM;
#endif
#endif
#endif
    run Tick(); run Probe(); run Stream(); run Writer();
#ifdef DROP_BESIDE
    run Beside();
#endif
#ifdef FAILOVER
    run Failover();
#endif
    do :: i < NRD -> run Read(i); i++ :: else -> break od; i = 0;
    do :: i < NOW -> run Own(i); i++ :: else -> break od; i = 0
  }
}
