// Package hitratio simulates caches on traces of accesses: get or insert, that is,
// look the key up, and insert it on a miss. It runs the caches as they ship,
// FlipCache's among them, beside otter, theine and the policies of textbooks.
//
//	Cells    traces and capacities that a report covers by default
//	Read     a trace from a file
//	Policies what is measured
//	Simulate one run of one cache
package hitratio
