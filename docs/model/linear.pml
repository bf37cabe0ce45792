/* Linearizable reads in PubSub mode: what none of the modes promises, and what it would take (docs/decisions/0016).
 * One key, NP processes with a tier, NW writers without one, each of which may die between any two of its steps.
 *
 * Modelled: hits, fills of their own for each read (no joining), the stream of each process, its lease as a bit: where
 * the stream is lost in silence, the lease ends at some time, and only then a new subscription begins, with an empty
 * tier. That a lease does so is explored in lease.pml. A value is the number of the write that made it, in the order
 * in which Redis took them.
 *
 * The write, unless a switch says otherwise: a token beside the key and its announcement in one step; every process
 * that hears it drops its entry, detaches its fills, and confirms; when all have, or their lease is over, the value is
 * stored iff the token is still there, which goes in the same step. A fill that sees a token enters nothing. A token
 * may expire at any time.
 *
 * Sizes: NP 2, NRD reads of each process 2, NW writers 1.
 *
 * Property:
 *   -DP10  no read answers with an older version than any read or write that ended before it began, in whichever
 *          process: with the versions in Redis' order, the register is linearizable
 *
 * More of the world: -DLOSS one stream is lost in silence; -DPLAIN one more writer, of today's plain writes;
 * -DBARE no entry at first.
 *
 * Other ways:
 *   ACKED    today's acknowledged write: stored and announced in one step, then the wait
 *   FENCE    plain writes; a read first has a probe, sent after it began, come back on its process' stream
 *
 * Defences, each taken out by its switch:
 *   NO_WAIT          the writer does not wait
 *   NO_LEASE_WAIT    the writer does not wait for the lease of who does not confirm
 *   NO_DETACH        the announcement does not detach fills
 *   FILL_SEES_NONE   fills do not look for a token
 *   STORE_ANYWAY     the value is stored though the token is gone, or another writer's; NO_EXPIRY: the latter only
 *   NO_FENCE         with FENCE: a read does not wait for its probe
 *   FENCE_REPLY      with FENCE: the probe's reply on another connection will do
 *   FENCE_BEFORE     with FENCE: a probe that was sent before the read began will do
 */
#ifndef NP
#define NP 2
#endif
#ifndef NRD
#define NRD 2
#endif
#ifndef NW
#define NW 1
#endif
#define READS (NP*NRD)
#ifdef BARE
#define ENTRY 0
#else
#define ENTRY 1
#endif

#define DROP  1          /* messages: of a writer, with its number; the echo of a read's probe, with the read's */
#define PROBE 2

/* Redis */
byte db, token;          /* token: of writer token-1; 0 is none */
chan stream[NP] = [6] of { byte, byte };
bit  subscribed[NP];
/* processes */
byte entry[NP];          /* a version and 1; 0 is none */
bit  live[NP], leased[NP];
bit  attached[READS], filling[READS], fenced[READS], begun[READS];
byte confirmed[NP];      /* a bit for each writer */
bit  lossDone;
/* what the judge knows */
byte seen;               /* newest version that a read or write that has ended showed */

#define SHOW(v) if :: v > seen -> seen = v :: else fi

inline announce(what, n) {
  q = 0;
  do :: q < NP -> if :: subscribed[q] -> stream[q]!what,n :: else fi; q++ :: else -> break od;
  q = 0
}
inline detach(p) {
  r = p*NRD;
  do :: r < (p+1)*NRD -> attached[r] = 0; r++ :: else -> break od;
  r = 0
}

proctype Read(byte p; byte i) {
  byte f, v; bit t;
#if defined(FENCE) && defined(FENCE_BEFORE)
  atomic { if :: subscribed[p] -> stream[p]!PROBE,i :: else fi };
#endif
  atomic { f = seen; begun[i] = 1 };
#if defined(FENCE) && !defined(NO_FENCE)
#ifndef FENCE_BEFORE
#ifdef FENCE_REPLY
  atomic { fenced[i] = 1 };
#else
  atomic { if :: subscribed[p] -> stream[p]!PROBE,i :: else fi };
#endif
#endif
#ifdef LOSS
  if :: atomic { fenced[i] -> skip } :: atomic { !subscribed[p] || !leased[p] -> goto ask } fi;
#else
  atomic { fenced[i] -> skip };
#endif
#endif
  atomic {
    if
    :: live[p] && leased[p] && entry[p] -> v = entry[p]-1; goto answer
    :: else -> skip
    fi };
ask:
  atomic { filling[i] = 1; attached[i] = live[p] };
  atomic { v = db; t = (token != 0) };
  atomic {
#ifdef FILL_SEES_NONE
    t = 0;
#endif
    if :: attached[i] && !t -> entry[p] = v+1 :: else fi;
    filling[i] = 0; attached[i] = 0; t = 0;
answer:
    assert(v >= f);
    SHOW(v); f = 0; v = 0 };
  false
}

proctype Stream(byte p) {
  byte what, n, r;
  do
  :: atomic { stream[p]?what,n;
       if
       :: what == DROP -> entry[p] = 0;
#ifndef NO_DETACH
          detach(p);
#endif
          confirmed[p] = confirmed[p] | (1<<n)
       :: what == PROBE -> fenced[n] = 1
       fi;
       what = 0; n = 0 }
#ifdef LOSS
  :: atomic { !lossDone && subscribed[p] -> lossDone = 1; subscribed[p] = 0;
       do :: stream[p]?what,n :: empty(stream[p]) -> break od; what = 0; n = 0 }
  :: atomic { !subscribed[p] && leased[p] -> leased[p] = 0 }
  :: atomic { !subscribed[p] && !leased[p] && live[p] -> live[p] = 0; detach(p); entry[p] = 0 }
  :: atomic { !subscribed[p] && !live[p] -> subscribed[p] = 1; live[p] = 1; leased[p] = 1 }
#endif
  od
}

/* all have confirmed, or serve nothing any more */
#ifdef NO_LEASE_WAIT
#define HEARD(p) ((confirmed[p] & (1<<n)) || !subscribed[p] || !leased[p])
#else
#define HEARD(p) ((confirmed[p] & (1<<n)) || !leased[p])
#endif
#if NP == 2
#define ALL (HEARD(0) && HEARD(1))
#else
#define ALL (HEARD(0) && HEARD(1) && HEARD(2))
#endif

proctype Writer(byte n) {
  byte my, q;
#if defined(FENCE)
  atomic { db++; my = db; announce(DROP, n) };
  atomic { SHOW(my); my = 0 }
#elif defined(ACKED)
  atomic { db++; my = db; announce(DROP, n) };
  atomic { ALL -> SHOW(my); my = 0 }
#else
  atomic { token = n+1; announce(DROP, n) };
#ifndef NO_WAIT
  atomic { ALL -> skip };
#endif
#ifdef STORE_ANYWAY
  atomic { db++; my = db; token = 0 };
#else
  atomic { if :: token == n+1 -> db++; my = db; token = 0 :: else -> goto out fi };
#endif
  atomic { SHOW(my); my = 0 };
out:
#endif
  false                                                  /* who dies is one that makes no further step: all prefixes are explored */
}

#ifdef PLAIN
proctype Plain(byte n) {
  byte my, q;
  atomic { db++; my = db; announce(DROP, n) };
  atomic { SHOW(my); my = 0 };
  false
}
#endif

#if !defined(FENCE) && !defined(ACKED)
proctype Expire() { atomic { token -> token = 0 }; false }
#endif

init {
  byte i;
  atomic {
    do :: i < NP -> live[i] = 1; leased[i] = 1; subscribed[i] = 1; entry[i] = ENTRY; run Stream(i); i++ :: else -> break od; i = 0;
    do :: i < READS -> run Read(i/NRD, i); i++ :: else -> break od; i = 0;
    do :: i < NW -> run Writer(i); i++ :: else -> break od; i = 0;
#ifdef PLAIN
    run Plain(NW);
#endif
#if !defined(FENCE) && !defined(ACKED) && !defined(NO_EXPIRY)
    run Expire();
#endif
  }
}
