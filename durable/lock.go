package durable

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Unlock releases the flock(2) on f and closes it. Closing alone leaves the lock,
// for a moment, with a process that was just forked: it holds the same open file
// until it runs another program.
func Unlock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_UN)
	if err != nil {
		err = fmt.Errorf("unlock %s: %w", f.Name(), err)
	}
	return errors.Join(err, f.Close())
}
