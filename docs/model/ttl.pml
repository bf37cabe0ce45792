/* Lifetimes and their refresh in PubSub mode, where a longer life is not announced. One key, a clock that ticks.
 * (Lifetimes in Tracking, where each change of a life is pushed: tracking.pml, P8.)
 *
 * Modelled: a process with a tier whose cache refreshes on read. A fill is [GET][PTTL] in this order; if less than half of the
 * life LIFE is left it goes on with the script "set LIFE anew iff less than half is left". The local life of an entry counts
 * from the sending of the GET, and is HALF shorter than what its key has left. Others: writes of this library and touches that
 * shorten the life, both announced; refreshes, which are not; foreign programs, which announce nothing.
 * The clock may tick between any two steps.
 *
 * Sizes: LIFE 4, HALF 2, HOR ticks 7, NRD reads 3, NW writes 1, NT touches 1, NR refreshes by others 1, NF foreign writes 0.
 *
 * Properties, one at a time:
 *   -DP8  all heard, no hit is answered from an entry whose key's life is over (not asked beside foreign writes)
 *   -DP9  no hit is answered with a value that was replaced LIFE or more ago, announced or not
 *
 * Defences, each taken out by its switch:
 *   RECOUNT         the local life counts from the sending of the refresh, which reads no value
 *   FROM_REPLY      the local life counts from the reply
 *   TOUCH_SILENT    a touch that shortens the life is not announced
 *   REFRESH_ALWAYS  the refresh sets the life whatever is left, to that of a cache which has a shorter one
 *   REFRESH_ON_HIT  a hit in the second half refreshes and moves the local end of the entry (decision 3: not built)
 *   NO_DETACH       a message does not detach the fill
 */
#ifndef LIFE
#define LIFE 4
#endif
#ifndef HALF
#define HALF 2
#endif
#ifndef HOR
#define HOR 7
#endif
#ifndef NRD
#define NRD 3
#endif
#ifndef NW
#define NW 1
#endif
#ifndef NT
#define NT 1
#endif
#ifndef NR
#define NR 1
#endif
#ifndef NF
#define NF 0
#endif

byte now, db, end = LIFE, replaced[6];
chan stream = [4] of { bit };
byte entry, until, begun, sent;
bit  attached;

proctype Tick() { do :: atomic { now < HOR -> now++ } od }
inline write() {
#ifdef P9
  replaced[db] = now;
#endif
  db++; end = now + LIFE
}
#define LEFT (end > now -> end - now : 0)

proctype Read(byte s) {
  byte v, T, left;
  atomic { begun == s && !sent -> begun++;
    if
    :: entry && now < until ->                           /* a hit */
#ifdef P8
       assert(nempty(stream) || now < end);
#endif
#ifdef P9
       assert(entry-1 == db || now < replaced[entry-1] + LIFE);
#endif
#ifdef REFRESH_ON_HIT
       if :: until - now < HALF && LEFT && LEFT < HALF -> end = now + LIFE; until = now + LIFE - HALF :: else fi;
#endif
       goto leave
    :: else -> sent = 1; attached = 1
    fi };
  atomic { T = now };
  atomic { if :: now < end -> v = db+1 :: else -> v = 0 fi };      /* GET */
  atomic { left = LEFT };                                /* PTTL */
#ifdef FROM_REPLY
  atomic { T = now };
#endif
#ifndef REFRESH_ON_HIT
  if
  :: v && left && left < HALF ->
#if defined(RECOUNT) || defined(FROM_REPLY)
     atomic { T = now };
#endif
     atomic { if :: LEFT && LEFT < HALF -> end = now + LIFE :: else fi; left = LEFT };
#ifdef FROM_REPLY
     atomic { T = now }
#endif
  :: else
  fi;
#endif
  atomic {                                               /* END FILL */
    if
#ifdef REFRESH_ON_HIT
    :: attached && v && left -> entry = v; until = T + left
#else
    :: attached && v && left > HALF -> entry = v; until = T + left - HALF
#endif
    :: else
    fi;
    sent = 0; attached = 0; v = 0; T = 0; left = 0 };
leave: false
}

proctype Stream() {
  do
  :: atomic { stream?_ -> entry = 0; until = 0;
#ifndef NO_DETACH
       attached = 0
#endif
     }
  od
}
proctype Others() {
  byte w, t, r, f;
  do
  :: atomic { w < NW -> w++; write(); stream!1 }
  :: atomic { t < NT && LEFT > 1 -> t++; end = now + 1;
#ifndef TOUCH_SILENT
       stream!1
#endif
     }
#ifdef REFRESH_ALWAYS
  :: atomic { r < NR && LEFT -> r++; end = now + 1 }
#else
  :: atomic { r < NR && LEFT && LEFT < HALF -> r++; end = now + LIFE }
#endif
  :: atomic { f < NF -> f++; write() }
  od
}
init { byte i;
  atomic { run Tick(); run Stream(); run Others(); do :: i < NRD -> run Read(i); i++ :: else -> break od; i = 0 }
}
