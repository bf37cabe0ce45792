/* Tracking mode: commands, replies and invalidations of one connection in one order; own writes, cuts, lifetimes. One key.
 *
 * Modelled: one process with a tier. Its commands wait in `command`, Redis carries them out one at a time, replies and pushes
 * come back in `out`, in order. The connection's reader hands a reply over; the flight's end is a step of its own, later.
 * Redis pushes a change of the key iff it is tracked, and tracks it no more; EXISTS and GET track. Other programs write
 * at Redis, between any two commands, without telling anybody.
 * A fill is [GET][PTTL]. An own write is [EXISTS][SET][GET][PTTL], without EXISTS if the tier had an entry when it began, and
 * what it wrote enters the tier iff GET returned it, at most one push and no flush was handled since it began, and nothing
 * doomed it. The rest are the rules of internal/flights.
 * A value is the number of the write that made it. A key's life is a number too: 1 short, 2 that of a write, 3 longer.
 *
 * Sizes: NRD reads that may open a fill 2, NW own writes 2, NF writes by others 1, CUTS 0.
 *
 * Properties, one at a time: P1, P1S, P5, P6, DL as in pubsub.pml, and
 *   -DP8   all heard, the entry is Redis' value: its life is not longer than the key's
 *   -DREACH must be violated: an own write enters the tier at all
 *
 * More of the world: -DFLUSH Redis is flushed once; -DFORGET Redis forgets the key
 *   once, and says so (its table of tracked keys is full); -DTOUCH others change the key's life, once shorter, once longer (a
 *   TTL refresh), which is pushed like a write; -DNO_LIFE lives are left out (fewer states).
 *
 * Defences, each taken out by its switch:
 *   NO_PUSH_CHECK    a fill enters whatever was pushed
 *   UNTRACKED        fills by a command that does not track
 *   PTTL_FIRST       a fill asks for the life before it asks for the value
 *   NO_EXISTS        an own write is [SET][GET], whether there was an entry or not
 *   UNTRACKED_GET    its GET does not track
 *   NO_EQUAL         its GET's value is not compared, and enters
 *   OWN_VALUE        its GET's value is not compared, and the written one enters
 *   PUSHES=2         as many pushes are allowed
 *   NO_PTTL          it reckons with the life that it wrote
 *   NO_DELETE_BEGIN, NO_DETACH_BEGIN, NO_BORN_DETACHED, NO_OVERLAP_DOOM, NO_LOOK_AGAIN   as in pubsub.pml
 *   NO_CUT_FLIGHTS, NO_CUT_WRITES, NO_CUT_EMPTY                                          as in pubsub.pml
 *   FLUSH_DEAF       a flush is ignored
 *   FLUSH_COUNTS     a flush counts as one push
 *   NOLOOP           Redis does not push own changes (CLIENT TRACKING NOLOOP)
 * Large values: -DPLAIN an own write is [SET], keeps nothing, and at its end deletes and detaches again. Without that:
 *   NO_DELETE_END, NO_DETACH_END
 * Not built: -DTRANSACTION the own write in MULTI/EXEC, whose push follows the reply.
 */
#ifndef NRD
#define NRD 2
#endif
#ifndef NW
#define NW 2
#endif
#ifndef NF
#define NF 1
#endif
#ifndef CUTS
#define CUTS 0
#endif
#ifndef PUSHES
#define PUSHES 1
#endif

/* commands, with the flight's slot; CHECK is the GET and PTTL of an own write */
#define GET    1
#define PTTL   2
#define EXISTS 3
#define SET    4
#define CHECK  5
#define CHECKP 6
/* what comes back */
#define VALUE  1
#define LIFE   2
#define DONE   3
#define WLIFE  4
#define PUSH   5
#define FLUSHED 6

#define ERROR 250

chan command = [10] of { byte, byte };
chan out = [12] of { byte, byte, byte };
/* Redis */
byte db, life = 2; bit tracked;
byte late;               /* own SETs of a dead connection that may still be carried out */
bit  event, shorter, longer;
/* the process */
byte entry, entryLife, sent, next, rbegun, wbegun, promised, cuts = CUTS;
bit  live = 1, broken;
bit  attached[NRD], asked[NRD], issued[NRD], got[NRD]; byte floor[NRD], value[NRD], lifeOf[NRD];
bit  open[NW], held[NW], doomed[NW], wissued[NW], wgot[NW], failed[NW];
byte pushes[NW], wrote[NW], wvalue[NW], wlife[NW];

/* --- Redis --- */
#ifdef NO_LIFE
#define SETLIFE(l) skip
#else
#define SETLIFE(l) life = l
#endif
inline changed(own) {
  if
#ifdef NOLOOP
  :: tracked && own -> tracked = 0
  :: tracked && !own ->
#else
  :: tracked ->
#endif
     tracked = 0; out!PUSH,0,0
  :: else
  fi
}
inline written(own, l) { db++; SETLIFE(l); changed(own) }

proctype Server() {
  byte what, s;
  do
  :: atomic { !broken && nempty(command) -> command?what,s;
       if
       :: what == GET ->
#ifndef UNTRACKED
          tracked = 1;
#endif
          out!VALUE,s,db
       :: what == PTTL -> out!LIFE,s,life
       :: what == EXISTS -> tracked = 1
       :: what == SET ->
#ifdef TRANSACTION      /* the whole of it: the reply first */
          db++; SETLIFE(2); wrote[s] = db; out!DONE,s,db;
#ifndef NO_LIFE
          out!WLIFE,s,life;
#endif
          changed(1); tracked = 1
#else
#ifdef PLAIN
          db++; SETLIFE(2); wrote[s] = db; out!DONE,s,0; changed(1)
#else
          written(1, 2); wrote[s] = db
#endif
#endif
       :: what == CHECK ->
#ifndef UNTRACKED_GET
          tracked = 1;
#endif
          out!DONE,s,db
       :: what == CHECKP -> out!WLIFE,s,life
       fi;
       what = 0; s = 0 }
  :: atomic { late > 0 -> late--; if :: written(1, 2) :: skip fi }
  od
}
proctype Others() {
  byte n;
  do
  :: n < NF -> atomic { n++;
#if defined(TOUCH)
       if :: written(0, 1) :: written(0, 2) fi
#else
       written(0, 2)
#endif
     }
#ifdef TOUCH
  :: atomic { !shorter -> shorter = 1; if :: life > 1 -> SETLIFE(1); changed(0) :: else fi }
  :: atomic { !longer -> longer = 1; SETLIFE(3); changed(0) }
#endif
#ifdef FLUSH
  :: atomic { !event -> event = 1; db++; tracked = 0; out!FLUSHED,0,0 }
#endif
#ifdef FORGET
  :: atomic { !event && tracked -> event = 1; tracked = 0; out!PUSH,0,0 }
#endif
  od
}

/* --- the table of flights --- */
inline detach() { if :: sent -> attached[sent-1] = 0 :: else fi }
inline doom() { k = 0; do :: k < NW -> if :: open[k] -> doomed[k] = 1 :: else fi; k++ :: else -> break od; k = 0 }
inline anyopen(r) { r = 0; k = 0; do :: k < NW -> r = r || open[k]; k++ :: else -> break od; k = 0 }
inline send(s) {
  sent = s+1; anyopen(b);
#ifdef NO_BORN_DETACHED
  b = 0;
#endif
  attached[s] = live && !b; b = 0
}
inline insert(v, l) { entry = v+1; entryLife = l }

#if defined(P5) || defined(P6)
#define ASK(s) if :: promised > floor[s] -> floor[s] = promised :: else fi
#define ANSWER(s, v) assert(v >= floor[s])
#define HIT(v) assert(v >= promised)
#else
#define ASK(s) skip
#define ANSWER(s, v) skip
#define HIT(v) skip
#endif
#ifdef P6
#define SHOWN(v) if :: v > promised -> promised = v :: else fi
#else
#define SHOWN(v) skip
#endif
#ifdef P5
#define RETURNED(v) if :: v > promised -> promised = v :: else fi
#else
#define RETURNED(v) skip
#endif

#define JOINABLE (sent && attached[sent-1])
proctype Read(byte s) {
  byte v, k; bit b;
  atomic { rbegun == s -> rbegun++;
    if
    :: entry -> v = entry-1; HIT(v); SHOWN(v); v = 0; goto leave
    :: else
    fi;
    if
    :: JOINABLE -> k = sent-1; ASK(k); k = 0; goto leave
    :: !JOINABLE && next -> k = next-1; ASK(k); k = 0; goto leave
    :: !JOINABLE && !next && sent -> detach(); next = s+1
    :: !sent -> send(s)
    fi;
    asked[s] = 1; ASK(s) };
  atomic { sent == s+1 ->
#ifdef NO_LIFE
    command!GET,s;
#elif defined(PTTL_FIRST)
    command!PTTL,s; command!GET,s;
#else
    command!GET,s; command!PTTL,s;
#endif
    issued[s] = 1 };
  atomic { got[s] ->                                     /* END FILL */
    v = value[s];
    if
    :: v == ERROR
#ifdef NO_PUSH_CHECK
    :: v != ERROR -> insert(v, lifeOf[s])
#else
    :: v != ERROR && attached[s] -> insert(v, lifeOf[s])
    :: v != ERROR && !attached[s] ->
#ifndef NO_LOOK_AGAIN
       if
       :: entry -> v = entry-1
       :: else -> doom()
       fi
#else
       skip
#endif
#endif
    fi;
    if :: v != ERROR -> ANSWER(s, v); SHOWN(v) :: else fi;
    asked[s] = 0; attached[s] = 0; floor[s] = 0; issued[s] = 0; got[s] = 0; value[s] = 0; lifeOf[s] = 0; v = 0;
    sent = 0;
    if :: next -> v = next-1; next = 0; send(v); v = 0 :: else fi };
leave: false
}

inline issue(i) {
#if defined(PLAIN) || defined(TRANSACTION)
  command!SET,i
#else
#ifndef NO_EXISTS
  if :: !held[i] -> command!EXISTS,i :: else fi;
#endif
  command!SET,i; command!CHECK,i;
#ifndef NO_LIFE
  command!CHECKP,i
#endif
#endif
}
inline close(i) {
  open[i] = 0; doomed[i] = 0; wgot[i] = 0; wissued[i] = 0; failed[i] = 0; pushes[i] = 0; wvalue[i] = 0; wlife[i] = 0
}

proctype Write(byte i) {
  byte v, k; bit b;
  atomic { wbegun == i -> wbegun++;                      /* BEGIN WRITE */
    held[i] = entry != 0;
#ifndef NO_DELETE_BEGIN
    entry = 0; entryLife = 0;
#endif
#ifndef NO_DETACH_BEGIN
    detach();
#endif
    anyopen(b);
#ifdef NO_OVERLAP_DOOM
    b = 0;
#endif
    if :: b -> doom() :: else fi;
    open[i] = 1; doomed[i] = b || !live; b = 0 };
  if
  :: atomic { issue(i); wissued[i] = 1 };
     if
     :: atomic { wgot[i] ->                              /* END WRITE */
          v = wvalue[i];
#ifdef OWN_VALUE
          v = wrote[i];
#endif
#ifdef PLAIN
#ifndef NO_DELETE_END
          entry = 0; entryLife = 0;
#endif
#ifndef NO_DETACH_END
          detach();
#endif
#else
          if
#if defined(NO_EQUAL) || defined(OWN_VALUE)
          :: pushes[i] <= PUSHES && !doomed[i] ->
#else
          :: pushes[i] <= PUSHES && !doomed[i] && v == wrote[i] ->
#endif
#ifdef REACH
             assert(false);
#endif
#ifdef NO_PTTL
             insert(v, 2)
#else
             insert(v, wlife[i])
#endif
          :: else
#ifdef NO_DELETE_BEGIN
             -> entry = 0; entryLife = 0
#endif
          fi;
#endif
          RETURNED(wrote[i]); wrote[i] = 0; v = 0; close(i) }
     :: atomic { failed[i] -> close(i) }
     :: atomic { close(i) }
     fi
  :: atomic { close(i) };
     if :: atomic { issue(i) } :: skip fi                /* sent all the same, or never */
  fi;
  false
}

/* The connection's reader: one thing at a time. */
proctype Reader() {
  byte what, s, v, k;
  do
  :: atomic { nempty(out) -> out?what,s,v;
       if
       :: what == PUSH ->
          entry = 0; entryLife = 0; detach();
          k = 0;
          do
          :: k < NW -> if :: open[k] && pushes[k] < 3 -> pushes[k]++ :: else fi; k++
          :: else -> break
          od;
          k = 0
       :: what == FLUSHED ->
#ifdef FLUSH_DEAF
          skip
#else
          entry = 0; entryLife = 0; detach();
#ifdef FLUSH_COUNTS
          k = 0;
          do
          :: k < NW -> if :: open[k] && pushes[k] < 3 -> pushes[k]++ :: else fi; k++
          :: else -> break
          od;
          k = 0
#else
          doom()
#endif
#endif
#ifdef NO_LIFE
       :: what == VALUE -> if :: issued[s] -> value[s] = v; got[s] = 1 :: else fi
       :: what == DONE -> if :: open[s] -> wvalue[s] = v; wgot[s] = 1 :: else fi
#else
#ifdef PTTL_FIRST
       :: what == VALUE -> if :: issued[s] -> value[s] = v; got[s] = 1 :: else fi
       :: what == LIFE -> if :: issued[s] -> lifeOf[s] = v :: else fi
#else
       :: what == VALUE -> if :: issued[s] -> value[s] = v :: else fi
       :: what == LIFE -> if :: issued[s] -> lifeOf[s] = v; got[s] = 1 :: else fi
#endif
#ifdef PLAIN
       :: what == DONE -> if :: open[s] -> wgot[s] = 1 :: else fi
#else
       :: what == DONE -> if :: open[s] -> wvalue[s] = v :: else fi
       :: what == WLIFE -> if :: open[s] -> wlife[s] = v; wgot[s] = 1 :: else fi
#endif
#endif
       fi;
       what = 0; s = 0; v = 0 }
#if CUTS > 0
  :: atomic { cuts > 0 && !broken && live -> cuts--; broken = 1; tracked = 0;
       do :: out?what,s,v :: empty(out) -> break od; what = 0; s = 0; v = 0;
       do :: command?what,s -> if :: what == SET -> late++ :: else fi :: empty(command) -> break od; what = 0; s = 0 }
  :: atomic { broken && live ->                          /* CUT */
       live = 0;
#ifndef NO_CUT_FLIGHTS
       detach();
#endif
#ifndef NO_CUT_WRITES
       doom();
#endif
       k = 0; do :: k < NRD -> if :: issued[k] && !got[k] -> value[k] = ERROR; got[k] = 1 :: else fi; k++ :: else -> break od;
       k = 0; do :: k < NW -> if :: open[k] && wissued[k] && !wgot[k] -> failed[k] = 1 :: else fi; k++ :: else -> break od;
       k = 0 };
     atomic {
#ifndef NO_CUT_EMPTY
       entry = 0; entryLife = 0;
#endif
       skip };
     atomic { broken = 0; live = 1 }                     /* a new connection, its tracking confirmed */
#endif
  od
}

#if NW == 1
#define WRITING (open[0])
#elif NW == 2
#define WRITING (open[0] || open[1])
#else
#define WRITING (open[0] || open[1] || open[2])
#endif
#define HEARD (live && !broken && empty(out))
proctype Watch() {
  byte s;
#ifdef P1
  atomic { HEARD && empty(command) && late == 0 && !sent && !WRITING && entry && entry-1 != db -> assert(false) };
#endif
#ifdef P1S
  atomic { HEARD && entry && entry-1 != db -> assert(false) };
#endif
#ifdef P8
  atomic { HEARD && entry && entry-1 == db && entryLife > life -> assert(false) };
#endif
#ifdef DL
  atomic { timeout -> do :: s < NRD -> assert(!asked[s]); s++ :: else -> break od };
#endif
  false
}

init {
  byte i;
  atomic {
    run Server(); run Reader(); run Others();
#if defined(P1) || defined(P1S) || defined(P8) || defined(DL)
    run Watch();
#endif
    do :: i < NRD -> run Read(i); i++ :: else -> break od; i = 0;
    do :: i < NW -> run Write(i); i++ :: else -> break od; i = 0
  }
}
