package resolver

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListsAreMadeBesideTheReaders(t *testing.T) {
	usual := runtime.GOMAXPROCS(0)
	var a aside
	first := a.begin()
	second := a.begin()
	if n := runtime.GOMAXPROCS(0); n != usual+2 {
		t.Errorf("%d processors while two lists are made, want the %d of the readers and 2", n, usual)
	}
	first()
	if n := runtime.GOMAXPROCS(0); n != usual+2 {
		t.Errorf("%d processors while one list is still made, want %d", n, usual+2)
	}
	second()
	if n := runtime.GOMAXPROCS(0); n != usual {
		t.Errorf("%d processors afterwards, want %d", n, usual)
	}
}

func TestWhoMakesAListGivesWayAndNobodyElse(t *testing.T) {
	niceness := func() int {
		n, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
		if err != nil {
			t.Error(err)
		}
		return 20 - n // as getpriority(2) itself gives it
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := niceness()
	made := make(chan int)
	go func() {
		giveWay()
		made <- niceness()
	}()
	if n := <-made; n != before+asideNice {
		t.Errorf("nice %d for who gave way, want %d", n, before+asideNice)
	}
	if n := niceness(); n != before {
		t.Errorf("nice %d for the others, want %d", n, before)
	}
}
