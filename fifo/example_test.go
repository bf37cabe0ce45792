package fifo_test

import (
	"fmt"
	"log"

	"github.com/flipcache/flipcache/fifo"
)

func ExampleNew() {
	pages, err := fifo.New(fifo.Options[string, int]{
		Capacity: 2,
		OnEvict:  func(page string, _ int, why fifo.Reason) { fmt.Println(page, why) },
	})
	if err != nil {
		log.Fatal(err)
	}
	pages.Set("home", 1)
	pages.Set("about", 2)
	pages.Get("home")       // changes no order
	pages.Set("contact", 3) // full: the one that came first leaves
	for page, value := range pages.All() {
		fmt.Println(page, value)
	}
	// Output:
	// home evicted
	// about 2
	// contact 3
}
