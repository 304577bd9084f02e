// Package tlogtest gives tests a folder for a log.
package tlogtest

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is a folder that is removed when the test ends. testing.TB.TempDir removes
// it too, but fails where a file comes in meanwhile: Tessera ends its goroutines
// with the log and tells nobody when they have ended, and the last of them may
// still look for a checkpoint to publish.
func Dir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "tlog")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		const tries = 50
		for range tries {
			if err = os.RemoveAll(dir); !errors.Is(err, unix.ENOTEMPTY) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil {
			tb.Errorf("remove the log: %v", err)
		}
	})
	return dir
}
