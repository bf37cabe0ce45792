/* Acknowledged writes in a Redis Cluster, in Tracking mode: who is asked, and which answers count. One key, two nodes, a clock
 * that ticks.
 *
 * Modelled: nodes 0 and 1, each with its own table of slots (t: the key's slot is t % 2's) and the key, if it has it; process B
 * with a tier, and a tracked connection to each node with an order of its own; a writer A. The slot moves from node 0 to node 1
 * as redis-cli does it: node 1 expects it, node 0 lets it go (who looks there for a key that is missing is sent on, ASK), the key
 * goes, node 1 says that it has the slot, then node 0 does. Commands follow redirections without a word, and begin at any node.
 * B's session goes on under a table on which the masters agreed; a probe asks all of them, and grants where each says that
 * table. A writes, asks its question of the master that has the key by a table which was agreed on once, on the channel of that
 * table and that master, then has that master write and say its table, and waits until B has answered or, where no answer
 * counts, for M.
 *
 * Not modelled: the list of who listens (B stands in it; lease.pml and tracklease.pml), questions of several masters, own
 * writes, the three steps of a hit. Only hits are judged: what a GET answers is Redis' word.
 *
 * Sizes: M 2, HOR ticks 3, NRD reads 2, NPR probes of B 1 (those that begin a session included), NAW writes 1.
 * B begins with a session under table 0, a lease until M, and with what it read at node 0 or with nothing.
 *
 * Property P4: a hit that begins after an acknowledged write returned has its value or a newer one. REACH: a hit under the
 * second table, after an answer that counted under it.
 *
 * More of the world:
 *   MISSING   the key is missing at first
 *   MOVES     1: the slot moves to node 1; 2: and back
 *   FRESH     node 1 serves nothing under table 0, so it is no master that a session asks
 *   OFF       the move is called off, with the key brought back (SETSLOT STABLE)
 *   REDIAL    B's connection to node 0 is made anew, once
 *   DEPOSED   with FRESH, no move: node 0 is cut off from the cluster, takes no more commands for keys, and does not learn that
 *             node 1 took over
 *   TAKEN     node 1 takes the slot and what is in it while node 0 takes commands; it learns that later, and tells nobody
 *
 * Defences, each taken out by its switch:
 *   ASK_OTHER        A asks the node that has not the slot
 *   HOME_NO_MASTER   the channel does not name the master: who is connected to the other node hears it there
 *   HOME_NO_TABLE    the channel does not name the table
 *   NO_VIEW          the asked master's table is not compared
 *   NO_LEAVING       an answer counts while the slot is on its way
 *   NO_ALIVE         an answer counts though the asked master takes no writes
 *   PROBE_NO_TABLE   a probe compares no tables
 *   PROBE_ONE        a probe asks the master of the key only
 *   TO_UNKNOWN       a probe is answered, and a session begins, while a slot is on its way to one that no probe asks
 *   OPEN_ALONE       a session begins under the table of one node (the probe compares as ever)
 *   NOT_FOUND_STAYS  "not found" is remembered for as long as the lease is renewed
 *   HEAR_OLD         B answers what is asked under a table of before, too
 *   OLD_CONN         B goes on to hear a connection in whose place it has another
 *   VOID_RETURNS     where no answer counts A waits for nobody
 *   ASK_ALL          (one more) A asks both nodes for their tables
 */
#ifndef M
#define M 2
#endif
#ifndef HOR
#define HOR 3
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
#ifndef MOVES
#define MOVES 1
#endif

#define VALUE 1          /* of the fill: its number, version */
#define PUSH  2
#define ASK   3          /* the question of this table, the write */
#define PROBE 4          /* reply to a probe: does it count */
#define LOST  3          /* p: the reply does not come */

byte now;
/* the nodes */
byte table[2], val[2];                 /* val: 0 the key is not here, else version+1 */
bit  leaving[2], expects[2], down;     /* down: node 0 takes no commands for keys */
bit  tracked[2], heard[6];             /* heard: B listens at node n to the channel of table t: 2*t + n */
byte db;                               /* the newest version */
chan out[2] = [5] of { byte, byte, byte };
#ifdef OLD_CONN
chan old = [5] of { byte, byte, byte };
bit  oldHeard[3], oldTracked;
#endif
/* process B */
byte entry, until, D, S, fill, fillSent;   /* until: when "not found" is over; S: the session's table */
bit  live, attached, open;
byte p[2];                             /* of the probe, at each node: 0 answered, 1 to be sent, 2 sent */
bit  bad;
/* A */
byte acked, answered;
#ifdef REACH
bit  counted;
#endif

#define OWNER(t) ((t) % 2)
#define AWAY(n)  (leaving[n] && OWNER(table[n]) == n && val[n] == 0)         /* who asks here for the key is sent on */
#define SERVES(n, asking) ((OWNER(table[n]) == n && !AWAY(n) || asking && expects[n]) && !(down && n == 0))

#ifdef FRESH
#define ASKED(t, n) ((t) != 0 || n == 0)                                     /* n is a master under table t */
#define UNKNOWN(n)  (leaving[n] && table[n] == 0)
#else
#define ASKED(t, n) 1
#define UNKNOWN(n)  0
#endif
#ifdef DEPOSED
#undef ASKED
#define ASKED(t, n) ((t) % 2 == n)                                           /* node 1 was a replica */
#endif
#define AGREED(t) ((!ASKED(t, 0) || table[0] == (t)) && (!ASKED(t, 1) || table[1] == (t)))
#define ONCE(t)   ((!ASKED(t, 0) || table[0] >= (t)) && (!ASKED(t, 1) || table[1] >= (t)))   /* all said so, now or before */

#ifdef MISSING
#define NOTHING(n) (val[n] == 0)
#else
#define NOTHING(n) 0
#endif
#define VERSION(n) (val[n] == 0 -> 0 : val[n]-1)

proctype Tick() {
  do
  :: atomic { now < HOR -> now++;
       if :: D <= now -> D = 0 :: else fi;
#ifndef NOT_FOUND_STAYS
       if :: entry && until && until <= now -> entry = 0; until = 0 :: else fi
#endif
     }
  od
}

inline cut() { live = 0; D = 0; entry = 0; until = 0; attached = 0 }
inline grant(t) { if :: t + M > D && t + M > now -> D = t + M :: else fi }
inline push(n) { if :: tracked[n] -> tracked[n] = 0; out[n]!PUSH,0,0 :: else fi }

/* The reads of B, one after the other: a fill that is under way would be joined. */
proctype Reads() {
  byte r, n; bit asking;
  do
  :: r < NRD ->
     atomic { r++;
       if
       :: entry && live && now < D ->
#ifdef P4
          assert(entry-1 >= acked);
#endif
#ifdef REACH
          assert(!(S == 1 && acked && counted));
#endif
          goto next
       :: else -> fill = r; attached = live; fillSent = now; open = 1
       fi;
       if :: n = 0 :: n = 1 fi };
     do
     :: atomic { SERVES(n, asking) -> tracked[n] = 1; out[n]!VALUE,r,VERSION(n); n = 0; asking = 0; break }
     :: atomic { AWAY(n) -> n = 1-n; asking = 1 }
     :: atomic { !SERVES(n, asking) && !AWAY(n) -> n = 1-n; asking = 0 }
     od;
     (!open);
next: skip
  :: else -> break
  od
}

/* What B hears, of either connection in its order. */
inline hear(n, what, a, b) {
  if
  :: what == PUSH -> entry = 0; until = 0; attached = 0
  :: what == VALUE && a == fill ->
     if
     :: attached && live ->
        entry = b+1;
        until = 0;
#ifdef MISSING
        if :: b == 0 -> until = fillSent + M :: else fi;
#ifndef NOT_FOUND_STAYS
        if :: until && until <= now -> entry = 0; until = 0 :: else fi;
#endif
#endif
     :: else
     fi;
     fill = 0; open = 0; attached = 0; fillSent = 0
#ifdef HEAR_OLD
  :: what == ASK -> answered = b
#else
  :: what == ASK && a == S -> answered = b
#endif
  :: what == PROBE -> p[n] = 0; if :: !a -> bad = 1 :: else fi
  :: else
  fi
}
proctype Ear() {
  byte what, a, b;
  do
  :: atomic { out[0]?what,a,b -> hear(0, what, a, b); what = 0; a = 0; b = 0 }
  :: atomic { out[1]?what,a,b -> hear(1, what, a, b); what = 0; a = 0; b = 0 }
#ifdef OLD_CONN
  :: atomic { old?what,a,b ->
       if
       :: what == PUSH || what == ASK -> hear(0, what, a, b)
       :: else
       fi;
       what = 0; a = 0; b = 0 }
#endif
  od
}

#ifdef PROBE_NO_TABLE
#define SAYS(n) 1
#else
#define SAYS(n) (table[n] == S)
#endif
#ifdef TO_UNKNOWN
#define MAY(n) 1
#else
#define MAY(n) (!UNKNOWN(n))
#endif
#define GOOD(n) (SAYS(n) && MAY(n) && !(down && n == 0))
#ifdef PROBE_ONE
#define PROBED(n) (ASKED(S, n) && n == OWNER(S))
#else
#define PROBED(n) ASKED(S, n)
#endif

/* The sessions of B, and their probes. A step that is not taken is one that takes long. */
proctype Stream() {
  byte n, sent; bit began;
  do
  :: n < NPR ->
     if
     :: atomic { live -> n++ }
     :: atomic { !live && MAY(0) && MAY(1) ->
          if
#ifdef OPEN_ALONE
          :: S = table[0]
          :: S = table[1]
#else
          :: AGREED(table[0]) -> S = table[0]
          :: AGREED(table[1]) -> S = table[1]
#endif
          fi;
          if :: ASKED(S, 0) -> heard[2*S] = 1 :: else fi;
          if :: ASKED(S, 1) -> heard[2*S + 1] = 1 :: else fi;
          n++; began = 1 }
     fi;
     atomic { sent = now; bad = 0; p[0] = PROBED(0); p[1] = PROBED(1) };
     do
     :: atomic { p[0] == 1 -> p[0] = 2; out[0]!PROBE,GOOD(0),0 }
     :: atomic { p[1] == 1 -> p[1] = 2; out[1]!PROBE,GOOD(1),0 }
     :: atomic { p[0] % LOST == 0 && p[1] % LOST == 0 ->
          if :: p[0] == LOST -> bad = 1 :: else fi;
          p[0] = 0;
          if
          :: bad -> cut()
          :: else -> if :: began -> live = 1 :: else fi; if :: live -> grant(sent) :: else fi
          fi;
          bad = 0; sent = 0; began = 0; break }
     od
  :: else -> break
  od
}

#ifdef HOME_NO_TABLE
#define HEARD(n, t) (heard[n] || heard[2+n] || heard[4+n])
#define TOLD S           /* B takes it for its own */
#else
#define HEARD(n, t) heard[2*(t) + n]
#define TOLD t
#endif
inline question(n) {
  if :: HEARD(n, t) -> out[n]!ASK,TOLD,k :: else fi;
#ifdef HOME_NO_MASTER
  if :: HEARD(1-n, t) -> out[1-n]!ASK,TOLD,k :: else fi;
#endif
#ifdef OLD_CONN
  if :: n == 0 && oldHeard[t] -> old!ASK,TOLD,k :: else fi;
#endif
  skip
}
proctype Writer() {
  byte k, n, t, R, my; bit asking, voided;
  do
  :: k < NAW ->
     atomic { k++; if :: n = 0 :: n = 1 fi };
     do                                                  /* SET */
     :: atomic { SERVES(n, asking) -> db++; my = db; val[n] = db+1; push(n);
#ifdef OLD_CONN
          if :: n == 0 && oldTracked -> oldTracked = 0; old!PUSH,0,0 :: else fi;
#endif
          n = 0; asking = 0; break }
     :: atomic { AWAY(n) -> n = 1-n; asking = 1 }
     :: atomic { !SERVES(n, asking) && !AWAY(n) -> n = 1-n; asking = 0 }
     od;
     atomic {                                            /* under which table A's session is, or was; then the question */
       if
       :: t = 0
       :: ONCE(1) -> t = 1
       :: ONCE(2) -> t = 2
       fi;
#ifdef ASK_OTHER
       n = 1-OWNER(t);
#else
       n = OWNER(t);
#endif
       question(n) };
     atomic {                                            /* what the master says then */
#ifndef NO_VIEW
       voided = voided || table[n] != t;
#endif
#ifndef NO_LEAVING
       voided = voided || leaving[n];
#endif
#ifndef NO_ALIVE
       voided = voided || down && n == 0;
#endif
#ifdef ASK_ALL
       voided = voided || table[1-n] != t;
#endif
       R = now };
#ifdef VOID_RETURNS
     atomic { voided || answered == k || now >= R + M ->
#else
     atomic { !voided && answered == k || now >= R + M ->
#endif
       acked = my;
#ifdef REACH
       counted = (t == 1 && !voided && answered == k && now < R + M);
#endif
       my = 0; n = 0; t = 0; R = 0; voided = 0 }
  :: else -> break
  od
}

inline move(from, to, t) {
  atomic { expects[to] = 1; leaving[from] = 1 };
  if
  :: atomic { val[from] -> val[to] = val[from]; val[from] = 0; push(from); push(to) }
  :: atomic { val[from] == 0 -> skip }
  fi;
#ifdef OFF
  if
  :: atomic { val[to] -> val[from] = val[to]; val[to] = 0; push(to); push(from) }
  :: atomic { val[to] == 0 -> skip }
  fi;
  atomic { leaving[from] = 0; expects[to] = 0 };
#else
  atomic { val[from] == 0 -> table[to] = t; expects[to] = 0 };
  atomic { table[from] = t; leaving[from] = 0 };
#endif
}
proctype Move() {
#ifdef DEPOSED
  atomic { down = 1 };
  atomic { val[1] = val[0]; table[1] = 1 };
#elif defined(TAKEN)
  atomic { val[1] = val[0]; table[1] = 1 };
  atomic { table[0] = 1; val[0] = 0 };
#else
#if MOVES > 0
  move(0, 1, 1);
#endif
#if MOVES > 1
  move(1, 0, 2);
#endif
#endif
  skip
}

#ifdef REDIAL
/* The connection to node 0 is lost: a cut first, then another is made. */
proctype Redial() {
  byte what, a, b;
  atomic {
    cut();
#ifdef OLD_CONN
    oldHeard[0] = heard[0]; oldHeard[1] = heard[2]; oldHeard[2] = heard[4]; oldTracked = tracked[0];
    do :: out[0]?what,a,b -> old!what,a,b;
#else
    do :: out[0]?what,a,b ->
#endif
       if
       :: what == VALUE && a == fill -> fill = 0; open = 0; fillSent = 0
       :: what == PROBE -> p[0] = LOST
       :: else
       fi
    :: empty(out[0]) -> break
    od;
    what = 0; a = 0; b = 0;
    tracked[0] = 0; heard[0] = 0; heard[2] = 0; heard[4] = 0 }
}
#endif

init {
  atomic {
    live = 1; D = M; heard[0] = 1; heard[1] = ASKED(0, 1);
#ifndef MISSING
    val[0] = 1;
#endif
    if
    :: entry = 1; tracked[0] = 1;
#ifdef MISSING
       until = M
#endif
    :: skip
    fi;
    run Tick(); run Reads(); run Ear(); run Stream(); run Writer(); run Move();
#ifdef REDIAL
    run Redial();
#endif
    skip
  }
}
