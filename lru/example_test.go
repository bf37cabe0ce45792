package lru_test

import (
	"fmt"
	"log"

	"github.com/flipcache/flipcache/lru"
)

func ExampleNew() {
	pages, err := lru.New(lru.Options[string, int]{
		Capacity: 2,
		OnEvict:  func(page string, _ int, why lru.Reason) { fmt.Println(page, why) },
	})
	if err != nil {
		log.Fatal(err)
	}
	pages.Set("home", 1)
	pages.Set("about", 2)
	pages.Get("home")       // now the youngest
	pages.Set("contact", 3) // full: the one not used for longest leaves
	for page, value := range pages.All() {
		fmt.Println(page, value)
	}
	// Output:
	// about evicted
	// home 1
	// contact 3
}
