package main

import (
	"os"

	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func Example() {
	if err := run(os.Stdout); err != nil {
		panic(err)
	}
	// Output:
	// close b.log (evicted)
	// open: [a.log c.log]
	// close a.log (cleared)
	// close c.log (cleared)
	// events: 500, remembered: 500 of 1000, oldest: 0
}
