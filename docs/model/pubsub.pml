/* The table of flights in PubSub mode: fills, own writes and their echoes, cuts, resends, clears, messages of several keys.
 *
 * Modelled: the rules of internal/flights, each critical section one atomic block; every delay is an interleaving.
 * A value is the number of the write that made it, in the order of Redis; 0 is "not found", a deletion is a write.
 * Redis tells every subscribed process of each write, in order, in one step with it. The process that keeps a tier has
 * readers, own writes and one goroutine for the stream; what other processes do reaches it only through Redis (Foreign,
 * Clearer), which NP=2 checks with two whole processes. Readers that join a fill are in the model by what they ask for:
 * its `floor` is the newest version that one of them must see; they leave no other trace, so they may also give up.
 *
 * Sizes, each a -D: NP processes 1, NK keys 1, NRD reads that may open a fill 2, NW own writes 2, NF writes by others 1
 * (the last three of each key), CUTS 0.
 *
 * Properties, one at a time:
 *   -DP1    quiet (stream heard out, no flight of the key open): the entry is what Redis holds
 *   -DP1S   the same as soon as the stream is heard out, whatever is under way
 *   -DP5    a read that begins after an own write returned sees that write, or a newer one
 *   -DP6    reads of one process never step back: none returns an older version than one that ended before it began
 *   -DDL    when nothing moves any more, every fill has ended, and so nobody waits
 *
 * More of the world:
 *   -DERRORS       fills may fail              -DRESENT      the client library may send a write twice
 *   -DCLEAR_OWN    this process clears the cache, one key a batch
 *   -DCLEAR_OTHER  another process clears      -DCLEAR_DIES  and may die between two batches
 *   -DUNHEARD      Redis may drop keys before the clear by itself, which nobody announces and no scan finds;
 *                  P1, P1S are asked from the clear's end on
 *   -DWRITE_MANY   own write 0 of all keys is one SetMany: one step, one message, a nonce for each key
 *
 * Defences, each taken out by its switch:
 *   NO_DETACH_MSG    a message does not detach the fill
 *   NO_DOOM_MSG      a message does not doom open writes
 *   NO_DETACH_BEGIN  a write's beginning does not detach the fill
 *   NO_DELETE_BEGIN  a write's beginning leaves the entry
 *   NO_OVERLAP_DOOM  own writes of one key that overlap do not doom each other
 *   NO_BORN_DETACHED a fill sent while a write is open is attached
 *   JOIN_DETACHED    readers join the fill under way, also if it is detached
 *   NO_LOOK_AGAIN    a detached fill answers with what it read, and that is all
 *   NO_LOOK_DOOM     looking again dooms no writes
 *   NO_FORGET        a write of unknown end keeps its nonce
 *   ECHO_IS_OURS     a message of our own is ignored, whatever its nonce
 *   ECHO_IS_FOREIGN  no message of our own is ignored
 *   NONCE_FOR_EVER   a nonce is good for any number of echoes
 *   NO_FORGET_RESUME the resume forgets no nonces
 *   FORGET_AT_CUT    the cut forgets them (not one of the rules)
 *   NONCE_IN_GAP     a write begun while not live has a nonce
 *   NO_CUT_FLIGHTS   the cut detaches no fill     NO_CUT_WRITES   the cut dooms no write
 *   NO_CUT_EMPTY     the cut leaves the tier      NO_CUT_AT_ALL   the cut goes unnoticed; subscribed again
 *   NO_BORN_CUT      flights begun while not live are as good as others
 *   EARLY_LIVE       live again before the subscription is confirmed
 *   TWO_STEPS        SET and PUBLISH are two steps, and the writer may die between
 *   ANNOUNCE_FIRST   PUBLISH comes before the write
 *   WAIT_DECIDED     a waiting fill's attachment is decided when it begins to wait
 *   NO_SEND_ERROR    a fill that failed does not send the waiting one
 *   READER_SENDS     the waiting fill is sent by its first reader, who may have left
 *   NO_CLEAR_RULE    fills and writes during an own clear are as good as others
 *   CLEAR_ECHO_OURS  the clear's own messages are ignored
 *   CLEAR_FIRST      a clear announces once, before its batches
 *   CLEAR_LAST       a clear announces once, after them
 *   NO_CLEAR_END     a clear announces each batch, and not once more at its end
 *   FIRST_KEY        of a message of several keys only the first is dropped
 *   ONE_NONCE        one nonce for all keys of a message, used up with the first of them
 */
#ifndef NP
#define NP 1
#endif
#ifndef NK
#define NK 1
#endif
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
#if NW == 0
#define NWA 1      /* an array has at least one */
#else
#define NWA NW
#endif

/* what a message says: a key's number, or one of these */
#define MANY      101      /* all keys, each with its nonce */
#define ALL       102      /* the whole cache */
#define CONFIRMED 103      /* not a message: the subscription is confirmed */
#define FOREIGN   0        /* sender, else process * NW + write + 1 */

/* states of a nonce */
#define GONE    0
#define PENDING 1
#define SEEN    2
#define SURE    3          /* "confirmed" in the code: the write has succeeded, its echo is to come */

#define NOFLOOR 0
#define ERROR   250

typedef Table {            /* one key in one process */
  byte entry;              /* 0 none, else version + 1 */
  bit  live;
  byte clearing;
  byte sent, next;         /* fill under way, fill that waits: slot + 1, or 0 */
  bit  attached[NRD];
  bit  asked[NRD];         /* somebody waits for this fill */
  byte floor[NRD];
  bit  open[NWA], doomed[NWA];
  byte nonce[NWA];
  byte rbegun, wbegun;     /* readers and writers are alike: they begin in the order of their slots */
  byte promised;           /* what reads that begin now must see at least */
}
Table T[NP*NK];            /* of key k in process p: T[p*NK + k] */
byte db[NK];               /* version that Redis holds */
#ifdef RESENT
byte author[12];           /* of each version: the same write twice is the same value. One key only */
#define AUTHOR(k, who) author[db[k]] = who
#else
#define AUTHOR(k, who) skip
#endif
chan stream[NP] = [8] of { byte, byte };
bit  subscribed[NP], lost[NP];
byte cuts = CUTS;
byte unannounced;          /* writes whose message is still to come from a living writer */

/* --- Redis --- */
inline publish(what, from) {
  q = 0;
  do
  :: q < NP -> if :: subscribed[q] -> stream[q]!what,from :: else fi; q++
  :: else -> break
  od;
  q = 0
}
inline write(k, from) { db[k]++; AUTHOR(k, from); publish(k, from) }

/* --- the table of flights --- */
inline detach(t) { if :: T[t].sent -> T[t].attached[T[t].sent-1] = 0 :: else fi }
inline doom(t) {
  q = 0;
  do
  :: q < NW -> if :: T[t].open[q] -> T[t].doomed[q] = 1 :: else fi; q++
  :: else -> break
  od;
  q = 0
}
inline drop(t) {           /* a message: the entry is old, and so may be what is under way */
  T[t].entry = 0;
#ifndef NO_DETACH_MSG
  detach(t);
#endif
#ifndef NO_DOOM_MSG
  doom(t)
#endif
}
inline anyopen(t, r) {
  r = 0; q = 0;
  do
  :: q < NW -> r = r || T[t].open[q]; q++
  :: else -> break
  od;
  q = 0
}
inline mayattach(t, r) {
  anyopen(t, r);
#ifdef NO_BORN_DETACHED
  r = 0;
#endif
  r = !r;
#ifndef NO_BORN_CUT
  r = r && T[t].live;
#endif
#ifndef NO_CLEAR_RULE
  r = r && !T[t].clearing
#endif
}
inline send(t, s) {
  T[t].sent = s+1;
#ifdef WAIT_DECIDED
  if :: T[t].asked[s] -> skip :: else -> mayattach(t, b); T[t].attached[s] = b fi;
#else
  mayattach(t, b); T[t].attached[s] = b;
#endif
  b = 0
}
inline sendnext(t) {
  T[t].sent = 0;
  if
  :: T[t].next ->
     j = T[t].next-1; T[t].next = 0;
#ifdef READER_SENDS
     if :: send(t, j) :: skip fi;
#else
     send(t, j);
#endif
     j = 0
  :: else
  fi
}

#if defined(P5) || defined(P6)
#define ASK(t, s) if :: T[t].promised > T[t].floor[s] -> T[t].floor[s] = T[t].promised :: else fi
#define ANSWER(t, s, v) assert(v >= T[t].floor[s])
#else
#define ASK(t, s) skip
#define ANSWER(t, s, v) skip
#endif
#ifdef P6
#define SHOWN(t, v) if :: v > T[t].promised -> T[t].promised = v :: else fi
#else
#define SHOWN(t, v) skip
#endif
#ifdef P5
#define RETURNED(t, v) if :: v > T[t].promised -> T[t].promised = v :: else fi
#else
#define RETURNED(t, v) skip
#endif

/* A read. If it opens a fill, this process goes on as that fill: its reader need not be there any more. */
#ifdef JOIN_DETACHED
#define JOINABLE(t) (T[t].sent)
#else
#define JOINABLE(t) (T[t].sent && T[t].attached[T[t].sent-1])
#endif
proctype Read(byte t; byte s) {
  byte v, q, j; bit b;
  atomic {
    T[t].rbegun == s -> T[t].rbegun++;
    if
    :: T[t].entry ->                                     /* a hit */
       v = T[t].entry-1;
#ifdef P5
       assert(v >= T[t].promised);
#endif
#ifdef P6
       assert(v >= T[t].promised);
#endif
       SHOWN(t, v); v = 0; goto out
    :: else
    fi;
    if
    :: JOINABLE(t) -> j = T[t].sent-1; ASK(t, j); goto out
    :: !JOINABLE(t) && T[t].next -> j = T[t].next-1; ASK(t, j); goto out
    :: !JOINABLE(t) && !T[t].next && T[t].sent ->        /* wait as the next */
       detach(t); T[t].next = s+1;
#ifdef WAIT_DECIDED
       mayattach(t, b); T[t].attached[s] = b; b = 0
#endif
    :: !T[t].sent -> send(t, s)
    fi;
    T[t].asked[s] = 1; ASK(t, s)
  };
  atomic { T[t].sent == s+1 -> v = db[t % NK] };         /* GET */
  atomic {                                               /* END FILL */
#ifdef ERRORS
    if :: v = ERROR :: skip fi;
#endif
    if
    :: v == ERROR
    :: v != ERROR && T[t].attached[s] -> T[t].entry = v+1
    :: v != ERROR && !T[t].attached[s] ->
#ifndef NO_LOOK_AGAIN
       if
       :: T[t].entry -> v = T[t].entry-1
       :: else ->
#ifndef NO_LOOK_DOOM
          doom(t)
#else
          skip
#endif
       fi
#else
       skip
#endif
    fi;
    if :: v != ERROR -> ANSWER(t, s, v); SHOWN(t, v) :: else fi;
    T[t].asked[s] = 0; T[t].attached[s] = 0; T[t].floor[s] = NOFLOOR;
#ifdef NO_SEND_ERROR
    if :: v == ERROR -> T[t].sent = 0 :: else -> sendnext(t) fi;
#else
    sendnext(t);
#endif
    v = 0
  };
  goto out2;
out: atomic { j = 0 };
out2: false
}

inline beginwrite(t, i) {
#ifndef NO_DELETE_BEGIN
  T[t].entry = 0;
#endif
#ifndef NO_DETACH_BEGIN
  detach(t);
#endif
  anyopen(t, b);
#ifdef NO_OVERLAP_DOOM
  b = 0;
#endif
  if :: b -> doom(t) :: else fi;
  T[t].open[i] = 1; T[t].doomed[i] = b; b = 0;
#ifndef NO_CLEAR_RULE
  if :: T[t].clearing -> T[t].doomed[i] = 1 :: else fi;
#endif
#if defined(NO_BORN_CUT)
  T[t].nonce[i] = PENDING;
#elif defined(NONCE_IN_GAP)
  T[t].nonce[i] = PENDING;
  if :: T[t].live -> skip :: else -> T[t].doomed[i] = 1 fi;
#else
  if :: T[t].live -> T[t].nonce[i] = PENDING :: else -> T[t].doomed[i] = 1 fi;
#endif
}
inline endwrite(t, i, ok, v) {
  T[t].open[i] = 0;
  if
  :: ok && !T[t].doomed[i] -> T[t].entry = v+1
  :: else
#ifdef NO_DELETE_BEGIN
     -> T[t].entry = 0      /* without the deletion at the beginning this one is needed */
#endif
  fi;
#ifdef NO_FORGET
  if
  :: T[t].nonce[i] == PENDING -> T[t].nonce[i] = SURE
  :: else -> T[t].nonce[i] = GONE
  fi;
#elif defined(NONCE_FOR_EVER)
  if
  :: ok && T[t].nonce[i] != GONE -> T[t].nonce[i] = SURE
  :: else -> T[t].nonce[i] = GONE
  fi;
#else
  if
  :: ok && T[t].nonce[i] == PENDING -> T[t].nonce[i] = SURE
  :: else -> T[t].nonce[i] = GONE
  fi;
#endif
  if :: ok -> RETURNED(t, v) :: else fi;
  T[t].doomed[i] = 0
}

proctype Write(byte t; byte i) {
  byte v, q, id; bit b;
  id = (t / NK) * NW + i + 1;
  atomic { T[t].wbegun == i -> T[t].wbegun++; beginwrite(t, i) };
  if
  :: atomic { write(t % NK, id); v = db[t % NK] };
#ifdef RESENT
     if :: atomic { write(t % NK, id); v = db[t % NK] } :: skip fi;      /* sent again, both ran */
#endif
     if
     :: atomic { endwrite(t, i, true, v); v = 0 };
#ifdef RESENT
        if :: atomic { write(t % NK, id) } :: skip fi     /* the first attempt lands after the second was answered */
#endif
     :: atomic { endwrite(t, i, false, v); v = 0 }
     fi
  :: atomic { endwrite(t, i, false, v) };
     if :: atomic { write(t % NK, id) } :: skip fi        /* lands later, or never */
  fi;
  false
}

#ifdef WRITE_MANY
/* SetMany of all keys: begun key by key, done in one step, ended key by key. */
proctype WriteMany(byte p) {
  byte v, q, id, k, vs[NK]; bit b, ok;
  id = p * NW + 1;
  do
  :: k < NK -> atomic { T[p*NK+k].wbegun++; beginwrite(p*NK+k, 0); k++ }
  :: else -> break
  od;
  if
  :: atomic { k = 0; do :: k < NK -> db[k]++; vs[k] = db[k]; k++ :: else -> break od; k = 0; publish(MANY, id); ok = 1 }
  :: atomic { k = 0 }
  fi;
  do
  :: k < NK -> atomic { endwrite(p*NK+k, 0, ok, vs[k]); k++ }
  :: else -> break
  od;
  if
  :: atomic { !ok -> k = 0; do :: k < NK -> db[k]++; k++ :: else -> break od; k = 0; publish(MANY, id) }
  :: atomic { k = 0 }
  fi;
  atomic { k = 0; do :: k < NK -> vs[k] = 0; k++ :: else -> break od; k = 0; ok = 0 };
  false
}
#endif

#if defined(CLEAR_OWN) || defined(CLEAR_OTHER)
#ifdef UNHEARD
byte gone[NK];             /* version as which Redis dropped the key by itself */
bit cleared;
#define CLEARED cleared = 1
#else
#define CLEARED skip
#endif
/* Clear: one key a batch, each batch in one step with "drop the whole cache". */
#ifdef CLEAR_ECHO_OURS
#define CLEARSENDER (p*NW + NW + 100)
#else
#define CLEARSENDER FOREIGN
#endif
proctype Clear(byte p) {
  byte k, q, vs[NK]; bit b;
#ifdef UNHEARD
  do
  :: k < NK -> if :: atomic { db[k]++; gone[k] = db[k] } :: skip fi; k++
  :: else -> break
  od;
  k = 0;
#endif
#ifdef CLEAR_OWN
  do                                                     /* each shard, then the tier */
  :: k < NK -> atomic { T[p*NK+k].clearing++; detach(p*NK+k); doom(p*NK+k); k++ }
  :: else -> break
  od;
  atomic { k = 0; do :: k < NK -> T[p*NK+k].entry = 0; k++ :: else -> break od; k = 0 };
#endif
#ifdef CLEAR_FIRST
  atomic { publish(ALL, CLEARSENDER) };
#endif
  do
  :: k < NK ->
#ifdef CLEAR_DIES
     if :: atomic { unannounced = 0; k = NK; goto dead } :: skip fi;
#endif
     atomic {
#ifdef UNHEARD
       if :: db[k] == gone[k] -> k++; goto next :: else fi;
#endif
       db[k]++; vs[k] = db[k];
#if defined(CLEAR_LAST)
       unannounced = 1;
#elif !defined(CLEAR_FIRST)
       publish(ALL, CLEARSENDER);
#endif
       k++;
next:  skip }
  :: else -> break
  od;
#ifdef CLEAR_DIES
  if :: atomic { unannounced = 0; goto dead } :: skip fi;
#endif
#if !defined(CLEAR_FIRST) && !defined(NO_CLEAR_END)
  atomic { publish(ALL, CLEARSENDER); unannounced = 0 };
#endif
#ifdef CLEAR_OWN
  k = 0;
  do
  :: k < NK -> atomic { T[p*NK+k].clearing--; k++ }
  :: else -> break
  od;
  atomic { k = 0; do :: k < NK -> RETURNED(p*NK+k, vs[k]); k++ :: else -> break od };
#endif
dead:
  atomic { CLEARED; k = 0; do :: k < NK -> vs[k] = 0; k++ :: else -> break od; k = 0 };
  false
}
#endif

/* Processes without a tier here: writes of this library. */
proctype Foreign(byte k) {
  byte n, q;
  do
  :: n < NF ->
#if defined(TWO_STEPS)
     atomic { n++; db[k]++; AUTHOR(k, FOREIGN); unannounced++ };
     if
     :: atomic { publish(k, FOREIGN); unannounced-- }
     :: atomic { unannounced-- }                         /* the writer died */
     fi
#elif defined(ANNOUNCE_FIRST)
     atomic { publish(k, FOREIGN) };
     atomic { n++; db[k]++; AUTHOR(k, FOREIGN) }
#else
     atomic { n++; write(k, FOREIGN) }
#endif
  :: else -> break
  od;
  false
}

inline message(t, from) {  /* MESSAGE of one key */
#if NW > 0
  own = (from != FOREIGN && (from-1)/NW == t/NK);
  i = (own -> (from-1) % NW : 0);
#endif
#ifdef ECHO_IS_FOREIGN
  own = 0;
#endif
  if
  :: own && T[t].nonce[i] == PENDING ->
#ifndef NONCE_FOR_EVER
     T[t].nonce[i] = SEEN
#else
     skip
#endif
  :: own && T[t].nonce[i] == SURE ->
#ifndef NONCE_FOR_EVER
     T[t].nonce[i] = GONE
#else
     skip
#endif
#ifdef ECHO_IS_OURS
  :: own && T[t].nonce[i] != PENDING && T[t].nonce[i] != SURE -> skip
  :: !own -> drop(t)
#else
  :: else -> drop(t)
#endif
  fi;
  own = 0; i = 0
}

/* The stream's goroutine: one message at a time, one table at a time. A message stays in the channel until it is done. */
proctype Stream(byte p) {
  byte what, from, i, q, k, t; bit own;
end:
  do
  :: atomic { stream[p]?<what,from> ->
       if
       :: what == CONFIRMED ->                           /* RESUME */
          t = p*NK+k;
#ifndef NO_FORGET_RESUME
          q = 0; do :: q < NW -> T[t].nonce[q] = GONE; q++ :: else -> break od; q = 0;
#endif
          T[t].live = 1; k++
       :: what == ALL ->
#ifdef CLEAR_ECHO_OURS
          if :: from == p*NW + NW + 100 -> skip :: else -> drop(p*NK+k) fi;
#else
          drop(p*NK+k);
#endif
          k++
       :: what == MANY ->
#ifdef FIRST_KEY
          if :: k == 0 -> message(p*NK+k, from) :: else fi;
#elif defined(ONE_NONCE)
          if :: k == 0 -> message(p*NK+k, from) :: else -> drop(p*NK+k) fi;
#else
          message(p*NK+k, from);
#endif
          k++
       :: else -> message(p*NK+what, from); k = NK
       fi;
       if :: k == NK -> stream[p]?what,from; k = 0 :: else fi;
       what = 0; from = 0; t = 0 }
#if CUTS > 0
  :: atomic { cuts > 0 && subscribed[p] && !lost[p] && k == 0 ->
       cuts--; subscribed[p] = 0; lost[p] = 1;
       do :: stream[p]?what,from :: empty(stream[p]) -> break od; what = 0; from = 0 }
  :: lost[p] ->                                          /* CUT: each shard, then the tier */
#ifndef NO_CUT_AT_ALL
     do
     :: k < NK -> atomic { t = p*NK+k;
          T[t].live = 0;
#ifndef NO_CUT_FLIGHTS
          detach(t);
#endif
#ifndef NO_CUT_WRITES
          doom(t);
#endif
#ifdef FORGET_AT_CUT
          q = 0; do :: q < NW -> T[t].nonce[q] = GONE; q++ :: else -> break od; q = 0;
#endif
          k++; t = 0 }
     :: else -> break
     od;
     atomic { k = 0;
#ifndef NO_CUT_EMPTY
       do :: k < NK -> T[p*NK+k].entry = 0; k++ :: else -> break od; k = 0
#endif
     };
#ifdef EARLY_LIVE
     atomic { do :: k < NK -> T[p*NK+k].live = 1; k++ :: else -> break od; k = 0 };
#endif
#endif
     atomic { subscribed[p] = 1; lost[p] = 0; stream[p]!CONFIRMED,0 }
#endif
  od
}

/* --- properties --- */
#ifdef RESENT
#define OLD(t) (T[t].entry != 0 && author[T[t].entry-1] != author[db[(t) % NK]])
#else
#define OLD(t) (T[t].entry != 0 && T[t].entry-1 != db[(t) % NK])
#endif
#ifndef UNHEARD
#define cleared true
#endif
#define HEARD(t) (cleared && T[t].live && subscribed[(t)/NK] && !lost[(t)/NK] && empty(stream[(t)/NK]) && unannounced == 0)
#if NW == 0
#define WRITING(t) false
#elif NW == 1
#define WRITING(t) (T[t].open[0])
#elif NW == 2
#define WRITING(t) (T[t].open[0] || T[t].open[1])
#else
#define WRITING(t) (T[t].open[0] || T[t].open[1] || T[t].open[2])
#endif
proctype Watch(byte t) {
  byte s;
#ifdef P1
  atomic { HEARD(t) && !T[t].sent && !WRITING(t) && OLD(t) -> assert(false) };
#endif
#ifdef P1S
  atomic { HEARD(t) && OLD(t) -> assert(false) };
#endif
#ifdef DL
  atomic { timeout -> do :: s < NRD -> assert(!T[t].asked[s]); s++ :: else -> break od };
#endif
  false
}

init {
  byte p, t, i;
  atomic {
    do
    :: p < NP ->
       subscribed[p] = 1; run Stream(p); i = 0;
       do
       :: i < NK -> T[p*NK+i].live = 1; i++
       :: else -> break
       od;
#ifdef WRITE_MANY
       run WriteMany(p);
#endif
       p++
    :: else -> break
    od;
    do
    :: t < NP*NK ->
#if defined(P1) || defined(P1S) || defined(DL)
       run Watch(t);
#endif
       i = 0; do :: i < NRD -> run Read(t, i); i++ :: else -> break od;
#ifdef WRITE_MANY
       i = 1;
#else
       i = 0;
#endif
       do :: i < NW -> run Write(t, i); i++ :: else -> break od;
       t++
    :: else -> break
    od;
#if defined(CLEAR_OWN)
    run Clear(0);
#elif defined(CLEAR_OTHER)
    run Clear(NP);
#endif
#if NF > 0
    i = 0; do :: i < NK -> run Foreign(i); i++ :: else -> break od;
#endif
    p = 0; t = 0; i = 0
  }
}
