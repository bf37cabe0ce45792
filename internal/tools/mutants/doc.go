// Command mutants takes one defence at a time out of the code and runs the test
// that is there for it, which has to fail. Who reads that a hazard is tested can
// see here that the test sees the hazard.
//
//	go run ./internal/tools/mutants            all of them
//	go run ./internal/tools/mutants -run H12   those whose name, hazard or file match
//	go run ./internal/tools/mutants -by 'invalidate TestSimulation'   which of them that test sees
//
// The mutants stand in list/*.txt, one after the other:
//
//	== a reader joins a fill that was overtaken
//	hazard: H12
//	rule: Fill
//	model: pubsub, readers join a detached fill
//	test: internal/flights TestH12_ReaderDoesNotJoinWhatItMustNotSee
//	file: internal/flights/flights.go
//	-	case l.sent != nil && l.sent.attached:
//	+	case l.sent != nil:
//
// What stands before "==" is a comment. The lines with "-" and " " are what the
// file has to hold exactly once, those with "+" and " " what is put in their place;
// another "file:" begins another place. rule is a rule of the package comment of
// internal/flights, or of what is around it: Probe, Ack and Token of the stream,
// Audit, Breaker, Close. model is a variant that a "Model:" comment beside the code
// names. test is a package and what -run takes; it may be given more than once: each
// of them has to fail. Besides:
//
//	tries: 20          run the test so often: the interleaving does not come each time
//	race: yes          run it under the race detector, which is what fails
//	survives: reason   no test fails, and why that is so
//
// "no mutant: H36 reason" says why a hazard has none.
//
// Nothing is written into the tree: the compiler gets the changed files by
// -overlay. A mutant that does not compile, or whose text is gone, is an error.
package main
