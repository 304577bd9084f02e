// Package await waits, in tests, for what another process has to do.
package await

import (
	"testing"
	"time"
)

// Patience bounds how long a test waits. It is far more than anything takes on a
// slow machine: running into it is a failure of the process, never of the
// machine's speed.
const Patience = 60 * time.Second

// Nil waits until check gives nil, and fails with what it said last.
func Nil(t testing.TB, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, Patience, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
