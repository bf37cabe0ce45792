// Package virtual has tests only: whole processes, the shipped code from
// hybrid.Cache down to rueidis, in the virtual time of a synctest bubble, against a
// Redis in memory. Minutes of faults on the network take seconds, and no deadline
// comes late because the machine is busy.
package virtual
