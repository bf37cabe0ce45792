/* LOAD in PubSub mode: read-through from a database, with a token beside the key. One key.
 *
 * Modelled: NP processes with a tier, which load the key from a database whose value changes, and a writer that changes the
 * database and then Deletes the key or Sets the new value. A load lays its token and reads the key in one step, calls the
 * loader, and writes back in one step: token still mine, and the key holds what was seen: write, announce, drop the token.
 * The write-back begins as a write (takes out the entry, dooms open writes, has a nonce) but does not detach its own load.
 * A load that was detached may write back, and enters no tier.
 * Values are versions of the database; the key and an entry hold 0 for nothing, else version + 1.
 *
 * Sizes: NP 2, NL loads of each process 1 (one at a time), NW writes 1.
 *
 * Properties, one at a time:
 *   -DP7   neither Redis nor (all heard, nothing under way) a tier holds a value older than the database's at the last Delete or Set
 *   -DP7R  the same of Redis alone, for programs outside the library
 *   -DP1   all heard, nothing under way: the entry is what Redis holds (without events that nobody announces)
 *   -DP1E  the same where Redis has dropped the key by itself in between, as long as the key is there again
 *
 * More of the world: -DSETS the writer Sets, -DMIXED it Sets or Deletes, -DCLEARS it Clears: the tokens in one step, the key
 *   in a later one; -DOWN it is process 0; -DEXPIRES Redis drops the key once by itself; -DTOKEN_EXPIRES; -DDB_MOVES the
 *   database changes once and nobody says so; -DBAD_BYTES the key holds bytes that do not decode, and is loaded over;
 *   -DFOREIGN_DEL, -DFOREIGN_SET another program changes the database and the key, and knows no tokens.
 *
 * Defences, each taken out by its switch:
 *   NO_TOKEN       the write-back asks for no token
 *   TOKEN_SHARED   a process' loads have the same token     LOADS_OVERLAP  two loads of a process at a time
 *   TOKEN_LATE     the token is laid after the load
 *   TOKEN_FIRST    the first token wins (NX), not the last
 *   NO_COMPARE     the key need not hold what the load saw
 *   DELETE_KEEPS   a Delete leaves the token
 *   SET_KEEPS      a Set leaves the token (which is right where its value cannot expire before the token)
 *   KEYS_FIRST     a Clear removes the key first, then the token
 *   NO_ATTACHED    a loaded value enters the tier whatever happened to its load
 *   NO_BACK_DOOM   the write-back dooms no open write
 *   NO_BACK_DELETE the write-back leaves the entry
 */
#ifndef NP
#define NP 2
#endif
#ifndef NL
#define NL 1
#endif
#ifndef NW
#define NW 1
#endif
#define SLOTS 2          /* places for the loads of one process */

#define GONE    0
#define PENDING 1
#define SEEN    2
#define SURE    3
#define OF_OTHERS 100    /* messages: a write-back by its slot, or one of these */
#define OF_WRITER 101

byte key, token, db, floor;
chan stream[NP] = [6] of { byte };
byte entry[NP], running[NP], begun[NP], flights;
bit  attached[4];          /* loads */
byte nonce[4];
bit  wopen, wdoomed; byte wnonce;    /* the own write of process 0 */
bit  finished, expired, tokenExpired; byte foreign;

inline announce(from) { k = 0; do :: k < NP -> stream[k]!from; k++ :: else -> break od; k = 0 }
inline detach(p) {
  k = 0;
  do
  :: k < NL -> attached[p*SLOTS+k] = 0; k++
  :: else -> break
  od;
  k = 0
}
#ifdef NO_TOKEN
#define TOKEN_OK true
#else
#define TOKEN_OK (token == T)
#endif
#ifdef NO_COMPARE
#define KEY_OK true
#else
#define KEY_OK (key == saw)
#endif

proctype Load(byte p; byte s) {
  byte saw, v, k, id, T; bit stored, tried;
  id = p*SLOTS + s;
#ifdef TOKEN_SHARED
  T = p + 1;
#else
  T = id + 1;
#endif
#ifdef LOADS_OVERLAP
  atomic { begun[p] == s -> begun[p]++;
#else
  atomic { begun[p] == s && running[p] == 0 -> begun[p]++;
#endif
    if
    :: entry[p] -> T = 0; goto out
    :: else -> running[p]++; flights++; attached[id] = !(p == 0 && wopen)
    fi };
#ifdef TOKEN_LATE
  atomic { saw = key };
#else
  atomic { saw = key;                                    /* SET token, GET key */
#ifdef BAD_BYTES
    if :: saw > 1 -> v = saw; goto last :: else fi;
#else
    if :: saw != 0 -> v = saw; goto last :: else fi;
#endif
#ifdef TOKEN_FIRST
    if :: token == 0 -> token = T :: else fi;
#else
    token = T;
#endif
    skip };
#endif
#ifdef TOKEN_LATE
  if :: saw != 0 -> v = saw; goto last :: else fi;
#endif
  atomic { v = db + 1 };                                 /* the loader */
#ifdef TOKEN_LATE
  atomic { token = T };
#endif
  atomic { nonce[id] = PENDING; tried = 1;               /* BEGIN WRITE */
#ifndef NO_BACK_DELETE
    entry[p] = 0;
#endif
#ifndef NO_BACK_DOOM
    if :: p == 0 && wopen -> wdoomed = 1 :: else fi;
#endif
    skip };
  atomic {                                               /* the script */
    if
    :: TOKEN_OK && KEY_OK -> key = v; token = 0; stored = 1; announce(id);
#if defined(P7) || defined(P7R)
       assert(v - 1 >= floor)
#endif
    :: else
    fi };
last:
  atomic {                                               /* END */
    if
#ifdef NO_ATTACHED
    :: (!tried || stored) -> entry[p] = v
#else
    :: attached[id] && (!tried || stored) -> entry[p] = v
#endif
    :: else ->                                           /* look again */
       if :: !attached[id] && !entry[p] && p == 0 && wopen -> wdoomed = 1 :: else fi
    fi;
    if :: stored && nonce[id] == PENDING -> nonce[id] = SURE :: else -> nonce[id] = GONE fi;
    attached[id] = 0; running[p]--; flights--;
    saw = 0; v = 0; stored = 0; tried = 0; T = 0 };
out: false
}

proctype Stream(byte p) {
  byte m, k;
end:
  do
  :: atomic { stream[p]?m ->
       if
       :: m < 100 && m/SLOTS == p && nonce[m] == PENDING -> nonce[m] = SEEN
       :: m < 100 && m/SLOTS == p && nonce[m] == SURE -> nonce[m] = GONE
       :: m == OF_WRITER && p == 0 && wnonce == PENDING -> wnonce = SEEN
       :: m == OF_WRITER && p == 0 && wnonce == SURE -> wnonce = GONE
       :: else -> entry[p] = 0; detach(p); if :: p == 0 && wopen -> wdoomed = 1 :: else fi
       fi;
       m = 0 }
  od
}

#ifdef OWN
#define WRITER OF_WRITER
#else
#define WRITER OF_OTHERS
#endif
proctype Writer() {
  byte n, k, my; bit set;
  do
  :: n < NW -> n++;
     atomic { db++; my = db;
#if defined(MIXED)
       if :: set = 0 :: set = 1 fi
#elif defined(SETS)
       set = 1
#endif
     };
#ifdef OWN
     atomic { entry[0] = 0; detach(0); wopen = 1; wdoomed = 0; wnonce = PENDING; flights++ };
#endif
#ifdef CLEARS
#ifndef KEYS_FIRST
     atomic { token = 0 };
#endif
     atomic { key = 0; announce(WRITER) };
#ifdef KEYS_FIRST
     atomic { token = 0 };
#endif
     atomic { floor = my; announce(WRITER) };
#else
     atomic {
       if
       :: set -> key = my + 1; floor = my;
#ifndef SET_KEEPS
          token = 0;
#endif
          skip
       :: else -> key = 0; floor = db;
#ifndef DELETE_KEEPS
          token = 0;
#endif
          skip
       fi;
       announce(WRITER) };
#endif
#ifdef OWN
     atomic {
       if :: set && !wdoomed -> entry[0] = my + 1 :: else fi;
       wopen = 0; wdoomed = 0; flights--;
       if :: wnonce == PENDING -> wnonce = SURE :: else -> wnonce = GONE fi };
#endif
     atomic { set = 0; my = 0 }
  :: else -> break
  od;
  atomic { finished = 1; n = 0 };
  false
}

proctype World() {
end:
  do
#ifdef EXPIRES
  :: atomic { !expired && key -> expired = 1; key = 0 }
#endif
#ifdef TOKEN_EXPIRES
  :: atomic { !tokenExpired && token -> tokenExpired = 1; token = 0 }
#endif
#ifdef DB_MOVES
  :: atomic { foreign == 0 -> foreign = 1; db++ }
#endif
#ifdef FOREIGN_DEL
  :: atomic { foreign == 0 -> foreign = 1; db++ }
  :: atomic { foreign == 1 -> foreign = 2; key = 0; floor = db }
#endif
#ifdef FOREIGN_SET
  :: atomic { foreign == 0 -> foreign = 1; db++ }
  :: atomic { foreign == 1 -> foreign = 2; key = db + 1; floor = db }
#endif
  :: false
  od
}

#define QUIET(p) (finished && flights == 0 && empty(stream[p]))
proctype Watch(byte p) {
#ifdef P7
  atomic { QUIET(p) && ((key && key-1 < floor) || (entry[p] && entry[p]-1 < floor)) -> assert(false) };
#endif
#ifdef P7R
  atomic { finished && flights == 0 && key && key-1 < floor -> assert(false) };
#endif
#ifdef P1
  atomic { QUIET(p) && entry[p] && entry[p] != key -> assert(false) };
#endif
#ifdef P1E
  atomic { QUIET(p) && entry[p] && key && entry[p] != key -> assert(false) };
#endif
  false
}

init {
  byte p, i;
  atomic {
#ifdef BAD_BYTES
    key = 1;
#endif
    do
    :: p < NP -> run Stream(p); run Watch(p);
       i = 0; do :: i < NL -> run Load(p, i); i++ :: else -> break od;
       p++
    :: else -> break
    od;
    run Writer(); run World(); p = 0; i = 0
  }
}
