package resolver

import (
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// asideNice is by how much the thread that makes a list gives way, in steps of
// setpriority(2): while readers want the whole processor it gets a quarter of one.
const asideNice = 5

// aside makes room beside the reading goroutines while a list is made. Each of
// them is meant to have a processor, and Go's scheduler lends those of a machine
// to whoever runs, for 10 ms at a time: a reader would wait so long for the list's
// maker, and again for the garbage collector behind it. With two more of the
// scheduler's processors there is always one for the reader, and whose turn it is
// on the machine's is up to the kernel, which knows who gives way.
type aside struct {
	mu    sync.Mutex
	lists int // being made
}

// begin is called before a list is made, end afterwards. Each stops all
// goroutines for a moment, some 10 µs.
func (a *aside) begin() (end func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lists++; a.lists == 1 {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 2)
	}
	return a.end
}

func (a *aside) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lists--; a.lists == 0 {
		runtime.SetDefaultGOMAXPROCS() // by the environment, or the machine
	}
}

// giveWay gives the calling goroutine a thread of its own, which gives way to all
// others and ends with it.
func giveWay() {
	runtime.LockOSThread()
	// Nobody is refused a lower priority (setpriority(2)); and if it were, only
	// the answers beside it would be slower.
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, asideNice) // 0: this thread, on Linux
}
