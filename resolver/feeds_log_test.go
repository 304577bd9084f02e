package resolver

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/blocklog"
)

// fedOnSmallDisk is a resolver whose feeds' log, and nothing else, stands on a small
// disk.
func fedOnSmallDisk(t *testing.T, onFailure string) (f *fed, fill, free func()) {
	t.Helper()
	disk, fill, free := smallDisk(t)
	f = newFed(t, newInternet(t, "www.libre.example. 3600 IN A 192.0.2.10"), "evil.example CNAME .")
	l := f.feeds.log
	if err := l.journal.Close(); err != nil {
		t.Fatal(err)
	}
	c := &f.config.Feeds.Log
	c.Dir, c.OnFailure, c.SpoolBytes = filepath.Join(disk, "log"), onFailure, 64<<10
	o := c.journal().options(time.Now, l.alarmed)
	o.SyncInterval = 5 * time.Millisecond
	var err error
	if l.journal, err = blocklog.Open(c.Dir, o); err != nil {
		t.Fatal(err)
	}
	l.servfail, l.dir = onFailure == onFailureServfail, c.Dir
	t.Cleanup(f.close) // before the file system goes
	return f, fill, free
}

func TestWhileTheFeedsLogFailsListedNamesAreBlockedAsEver(t *testing.T) {
	for onFailure, want := range map[string]int{onFailureSpool: dns.RcodeNameError, onFailureServfail: dns.RcodeServerFailure} {
		t.Run(onFailure, func(t *testing.T) {
			f, fill, free := fedOnSmallDisk(t, onFailure)
			fill()
			asked := 0 // and on record
			for !f.feeds.log.journal.Failing() {
				f.ask("evil.example.", dns.TypeA)
				asked++
			}
			if onFailure == onFailureServfail {
				asked-- // the last one got SERVFAIL
			}
			for range 3 {
				if reply := f.ask("evil.example.", dns.TypeA); reply.Rcode != want {
					t.Errorf("a feed's question: %v", reply)
				} else if want == dns.RcodeNameError {
					asked++
				}
				if reply := f.ask("propagande.example.", dns.TypeA); !blocked(reply) || len(reply.Answer) != 1 {
					t.Errorf("a listed name: %v", reply)
				}
				if reply := f.ask("www.libre.example.", dns.TypeA); len(reply.Answer) != 1 {
					t.Errorf("any other: %v", reply)
				}
			}
			if got := len(decisions(t, f.Resolver)); got != 3 {
				t.Errorf("%d decisions in the block log", got)
			}
			free()
			for f.feeds.log.journal.Failing() {
				time.Sleep(time.Millisecond)
			}
			if reply := f.ask("evil.example.", dns.TypeA); reply.Rcode != dns.RcodeNameError {
				t.Errorf("with room again: %v", reply)
			}
			if got := len(f.feedRecords()); got != asked+1 {
				t.Errorf("%d decisions on record, want %d", got, asked+1)
			}
		})
	}
}
