package peers

import "fmt"

// A User is the small struct that the two-tier caches hold.
type User struct {
	ID    int64
	Name  string
	Email string
	Age   int
	Admin bool
}

// UserOf returns the i-th user.
func UserOf(i int) User {
	return User{ID: int64(i + 1), Name: fmt.Sprintf("User Number %06d", i), Email: fmt.Sprintf("user%06d@example.com", i), Age: 18 + i%60, Admin: i%10 == 0}
}
