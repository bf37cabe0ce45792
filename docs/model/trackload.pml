/* LOAD in Tracking mode. One key.
 *
 * Modelled: one process with a tier and one tracked connection, whose replies and invalidations come in one order; it reads
 * and loads the key. A load is [SET token][GET], the loader, and the write-back [EXISTS][script][GET], others coming between
 * any two commands. The script is that of load.pml, without an announcement: Redis pushes. What was stored enters the tier iff
 * GET returned it, at most one push was handled since the write-back began, nothing doomed it, and the load was still
 * attached when the write-back began. At its end is too late to look: the write-back's own push has detached the load by then.
 * Others: a writer that changes the database and Deletes or Sets; a loader without a tier; foreign programs; expiry.
 * Values are versions of the database; the key and an entry hold 0 for nothing, else version + 1.
 *
 * Sizes: NL loads 1 (one at a time), NRD reads 1, NW writes 1, NO loads of the process without a tier 0, CUTS 0.
 *
 * Properties, one at a time:
 *   -DP7    neither Redis nor (all heard) the tier holds a value older than the database's at the last Delete or Set
 *   -DP1S   all heard, whatever is under way: the entry is what Redis holds
 *   -DREACH must be violated: a loaded value enters the tier at all
 *
 * More of the world: -DSETS the writer Sets, -DMIXED it Sets or Deletes; -DEXPIRES Redis drops the key once by itself, which it
 *   pushes; -DTOKEN_EXPIRES; -DFOREIGN another program, without tokens, Sets or deletes the key twice; any reply may be lost.
 *
 * Defences, each taken out by its switch:
 *   NO_TOKEN, NO_COMPARE, DELETE_KEEPS, SET_KEEPS, TOKEN_LATE   as in load.pml
 *   NO_EXISTS       the write-back is [script][GET] (then the load's attachment must be looked at: either will do)
 *   UNTRACKED_GET   its GET does not track
 *   NO_EQUAL        its GET's value is not compared, and the loaded one enters
 *   PUSHES=2        as many pushes are allowed
 *   ATTACHED_AT_END the load's attachment is looked at when the write-back ends
 *   NO_ATTACHED     it is not looked at
 *   NO_CUT_WRITES   the cut dooms no write-back
 */
#ifndef NL
#define NL 1
#endif
#ifndef NRD
#define NRD 1
#endif
#ifndef NW
#define NW 1
#endif
#ifndef NO
#define NO 0
#endif
#ifndef CUTS
#define CUTS 0
#endif
#ifndef PUSHES
#define PUSHES 1
#endif
#define VALUE 1      /* reply to a read or to the first step of a load: slot (loads behind reads), what the key held */
#define WROTE 2      /* reply to a write-back: slot, what its GET returned */
#define PUSH  3

byte key, tok, db, floor;
bit  tracked, connected = 1, live = 1, expired, tokenExpired; byte foreign, cuts = CUTS;
chan out = [10] of { byte, byte, byte };
/* the process */
byte entry, sent, loading, rbegun, lbegun;
bit  attached[NRD + NL], waits[NRD + NL], got[NRD + NL]; byte value[NRD + NL];
bit  wopen, wdoomed, wgot; byte pushes, wvalue;      /* the write-back that is open */
bit  stored;

inline changed() { if :: tracked -> tracked = 0; out!PUSH,0,0 :: else fi }
inline detach() { k = 0; do :: k < NRD + NL -> attached[k] = 0; k++ :: else -> break od; k = 0 }

proctype Read(byte s) {
  byte v;
  atomic { rbegun == s && !sent -> rbegun++;
    if :: entry -> goto leave :: else -> sent = s+1; attached[s] = live && !wopen; waits[s] = 1 fi };
  if
  :: atomic { connected -> tracked = 1; out!VALUE,s,key };
     if
     :: atomic { got[s] -> v = value[s];
          if
          :: attached[s] -> entry = v          /* nothing is not remembered here */
          :: !attached[s] && !entry -> wdoomed = wopen || wdoomed
          :: else
          fi }
     :: skip                                   /* the reply is lost */
     fi
  :: skip
  fi;
  atomic { attached[s] = 0; waits[s] = 0; got[s] = 0; value[s] = 0; sent = 0; v = 0 };
leave: false
}

#ifdef NO_TOKEN
#define TOKEN_OK true
#else
#define TOKEN_OK (tok == T)
#endif
#ifdef NO_COMPARE
#define KEY_OK true
#else
#define KEY_OK (key == saw)
#endif
proctype Load(byte i) {
  byte s, saw, v, T, k; bit was;
  s = NRD + i; T = i + 1;
  atomic { lbegun == i && !loading -> lbegun++;
    if :: entry -> goto leave :: else -> loading = 1; attached[s] = live && !wopen; waits[s] = 1 fi };
  if
#ifdef TOKEN_LATE
  :: atomic { connected -> tracked = 1; saw = key; out!VALUE,s,key }
#else
  :: atomic { connected -> tok = T; tracked = 1; saw = key; out!VALUE,s,key }
#endif
  :: goto end_load
  fi;
  if
  :: atomic { got[s] && value[s] != 0 -> if :: attached[s] -> entry = value[s] :: else fi; goto end_load }
  :: atomic { got[s] && value[s] == 0 -> got[s] = 0 }
  :: goto end_load
  fi;
  atomic { v = db + 1 };                       /* the loader */
#ifdef TOKEN_LATE
  atomic { tok = T };
#endif
  atomic { entry = 0; if :: sent -> attached[sent-1] = 0 :: else fi;     /* BEGIN WRITE, keeps its own load */
    wopen = 1; pushes = 0; wdoomed = !live; was = attached[s] };
#ifndef NO_EXISTS
  if :: atomic { connected -> tracked = 1 } :: goto unknown fi;
#endif
  if
  :: atomic { connected ->
       if
       :: TOKEN_OK && KEY_OK -> key = v; tok = 0; stored = 1; changed();
#ifdef P7
          assert(v - 1 >= floor)
#endif
       :: else
       fi }
  :: goto unknown
  fi;
  if
  :: atomic { connected ->
#ifndef UNTRACKED_GET
       tracked = 1;
#endif
       out!WROTE,s,key }
  :: goto unknown
  fi;
  if
  :: atomic { wgot ->                          /* END WRITE */
#if defined(ATTACHED_AT_END)
       was = attached[s];
#elif defined(NO_ATTACHED)
       was = 1;
#endif
       if
#ifdef NO_EQUAL
       :: stored && pushes <= PUSHES && !wdoomed && was -> entry = v;
#else
       :: stored && pushes <= PUSHES && !wdoomed && was && wvalue == v -> entry = v;
#endif
#ifdef REACH
          assert(false)
#endif
       :: else
       fi }
  :: skip
  fi;
unknown:
  atomic { wopen = 0; wdoomed = 0; pushes = 0; wgot = 0; wvalue = 0; stored = 0; was = 0 };
end_load:
  atomic { attached[s] = 0; waits[s] = 0; got[s] = 0; value[s] = 0; loading = 0; saw = 0; v = 0; s = 0; T = 0 };
leave: false
}

proctype Reader() {
  byte what, s, v, k;
  do
  :: atomic { nempty(out) -> out?what,s,v;
       if
       :: what == PUSH -> entry = 0; detach(); if :: wopen && pushes < 3 -> pushes++ :: else fi
       :: what == VALUE -> if :: waits[s] -> got[s] = 1; value[s] = v :: else fi
       :: what == WROTE -> if :: wopen -> wgot = 1; wvalue = v :: else fi
       fi;
       what = 0; s = 0; v = 0 }
#if CUTS > 0
  :: atomic { cuts > 0 && connected && live -> cuts--; connected = 0; tracked = 0;
       do :: out?what,s,v :: empty(out) -> break od; what = 0; s = 0; v = 0 }
  :: atomic { !connected && live -> live = 0; detach();
#ifndef NO_CUT_WRITES
       wdoomed = wopen || wdoomed;
#endif
       entry = 0 };
     atomic { connected = 1; live = 1 }
#endif
  od
}

proctype Writer() {
  byte n; bit set;
  do
  :: n < NW ->
     atomic { n++; db++;
#if defined(MIXED)
       if :: set = 0 :: set = 1 fi
#elif defined(SETS)
       set = 1
#endif
     };
     atomic {
       if
       :: set -> key = db + 1;
#ifndef SET_KEEPS
          tok = 0;
#endif
          skip
       :: else -> key = 0;
#ifndef DELETE_KEEPS
          tok = 0;
#endif
          skip
       fi;
       floor = db; changed(); set = 0 }
  :: else -> break
  od;
  false
}
#if NO > 0
proctype Other(byte i) {   /* a load by a process that has no tier */
  byte saw, v, T;
  T = 100 + i;
  atomic { tok = T; saw = key };
  if
  :: saw == 0 ->
     atomic { v = db + 1 };
     atomic { if :: TOKEN_OK && KEY_OK -> key = v; tok = 0; changed() :: else fi }
  :: else
  fi;
  atomic { saw = 0; v = 0 };
  false
}
#endif
proctype World() {
  do
#ifdef EXPIRES
  :: atomic { !expired && key -> expired = 1; key = 0; changed() }
#endif
#ifdef TOKEN_EXPIRES
  :: atomic { !tokenExpired && tok -> tokenExpired = 1; tok = 0 }
#endif
#ifdef FOREIGN
  :: atomic { foreign < 2 -> foreign++; if :: key = db + 1; changed() :: key -> key = 0; changed() :: !key fi }
#endif
  :: false
  od
}
#define HEARD (live && connected && empty(out))
proctype Watch() {
#ifdef P7
  atomic { HEARD && ((key && key-1 < floor) || (entry && entry-1 < floor)) -> assert(false) };
#endif
#ifdef P1S
  atomic { HEARD && entry && entry != key -> assert(false) };
#endif
  false
}
init {
  byte i;
  atomic {
    run Reader(); run Writer(); run World();
#if defined(P7) || defined(P1S)
    run Watch();
#endif
    do :: i < NRD -> run Read(i); i++ :: else -> break od; i = 0;
    do :: i < NL -> run Load(i); i++ :: else -> break od; i = 0;
#if NO > 0
    do :: i < NO -> run Other(i); i++ :: else -> break od; i = 0
#endif
  }
}
