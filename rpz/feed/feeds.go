package feed

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"cordon/durable"
)

// Config is one feed.
type Config struct {
	Name    string         // in records and metrics
	Zone    string         // origin of the zone
	File    string         // where the zone lies; "" if it is transferred
	Primary netip.AddrPort // where it is transferred from
	Key     *Key           // for the transfer; nil: unsigned
	// MaxAge is the age past which the feed is stale, which is an alarm; of a
	// transferred one, if that is shorter than its SOA's expire. 0: no bound but that.
	MaxAge time.Duration
}

// Surroundings are what the program around feeds gives them. All but Limits and
// Disk are needed.
type Surroundings struct {
	Dir       string // of the last good versions, 0700
	StopPages StopPages
	Clock     func() time.Time
	Dial      func(ctx context.Context, network, address string) (net.Conn, error)
	Log       *slog.Logger
	Limits    Limits
	Disk      durable.Disk // default durable.OS
}

// Feeds are all feeds of a resolver. Each has a goroutine of its own in Run, and
// shares nothing with the others but the Set that they are put into.
type Feeds struct {
	s       Surroundings
	log     *slog.Logger
	store   *store
	keepers []*keeper
	set     atomic.Pointer[Set]
	mu      sync.Mutex // held while a Set is made and swapped in
	zones   []*Zone    // in force, by place; nil: none yet; guarded by mu
}

// keeper keeps one feed. All but the channel and what mu guards belong to the
// goroutine of Restore and Run.
type keeper struct {
	c      Config
	place  int
	f      *Feeds
	wake   chan struct{} // a primary says that there is news
	stamp  stamp         // of the file
	failed bool          // the last attempt

	mu        sync.Mutex
	zone      *Zone // in force; nil: none
	confirmed time.Time
	failure   string // why the last attempt failed; "" if it did not
	trouble   trouble

	alarm string // that was said last; of the goroutine of Restore and Run
}

// New opens the store and makes the feeds, none of them in force.
func New(configs []Config, s Surroundings) (*Feeds, error) {
	s.Limits = s.Limits.orDefault()
	if s.Disk == nil {
		s.Disk = durable.OS{}
	}
	store, err := openStore(s.Dir, s.Disk)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	f := &Feeds{s: s, log: s.Log, store: store, zones: make([]*Zone, len(configs))}
	for i, c := range configs {
		c.Zone = dns.CanonicalName(c.Zone)
		if _, err := wireName(c.Zone); err != nil {
			return nil, fmt.Errorf("feed %s: zone: %w", c.Name, err)
		}
		f.keepers = append(f.keepers, &keeper{c: c, place: i, f: f, wake: make(chan struct{}, 1)})
	}
	f.set.Store(NewSet(nil))
	return f, nil
}

// Current is the feeds in force.
func (f *Feeds) Current() *Set { return f.set.Load() }

// Restore puts in force what is at hand without asking anyone: the files, and where
// there is none the last good version.
func (f *Feeds) Restore() {
	for _, k := range f.keepers {
		k.restore()
	}
}

// Run keeps the feeds fresh until ctx ends. It returns nil.
func (f *Feeds) Run(ctx context.Context) error {
	var all errgroup.Group
	for _, k := range f.keepers {
		all.Go(func() error { k.run(ctx); return nil })
	}
	return all.Wait()
}

// Notified takes a primary's word that a zone has changed (RFC 1996). It reports
// whether there is such a zone with that primary. All that comes of it is an earlier
// look at the serial.
func (f *Feeds) Notified(zone string, from netip.Addr) bool {
	known := false
	for _, k := range f.keepers {
		if k.c.File == "" && k.c.Zone == dns.CanonicalName(zone) && k.c.Primary.Addr().Unmap() == from.Unmap() {
			known = true
			select {
			case k.wake <- struct{}{}:
			default: // it will look anyway
			}
		}
	}
	return known
}

// enforce puts a zone in force in its place.
func (f *Feeds) enforce(place int, z *Zone) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.zones[place] = z
	f.set.Store(NewSet(slices.DeleteFunc(slices.Clone(f.zones), func(z *Zone) bool { return z == nil })))
}

const (
	filePoll = 2 * time.Second // between two looks at a file
	// Bounds on what a SOA may ask for. The least refresh bounds what a primary costs
	// us, the most how long a lost NOTIFY does.
	leastRefresh, mostRefresh = 10 * time.Second, 24 * time.Hour
	leastRetry, mostRetry     = 10 * time.Second, time.Hour
	firstRetry                = time.Minute // while nothing is known of the zone
	lookForAge                = time.Minute // between two looks whether a feed is stale
	notifyRest                = time.Second // between two looks that NOTIFY brings about
)

func (k *keeper) run(ctx context.Context) {
	next := k.f.s.Clock()
	for {
		now := k.f.s.Clock()
		if !now.Before(next) {
			next = now.Add(k.attempt(ctx))
		}
		if ctx.Err() != nil {
			return
		}
		k.sayAlarm()
		timer := time.NewTimer(min(max(next.Sub(k.f.s.Clock()), 0), lookForAge))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-k.wake:
			timer.Stop()
			next = k.f.s.Clock()
			if wait(ctx, notifyRest) != nil { // more words may be on the way
				return
			}
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// attempt looks for a newer version once, and says when to look again.
func (k *keeper) attempt(ctx context.Context) time.Duration {
	if k.c.File != "" {
		if fresh, err := k.stamp.look(k.c.File); fresh || err != nil {
			k.report(k.readFile(err))
		}
		return filePoll
	}
	if err := k.refresh(ctx); ctx.Err() == nil {
		k.report(err)
	}
	soa := k.soa()
	switch {
	case k.failed && soa == nil:
		return firstRetry
	case k.failed:
		return min(max(seconds(soa.Retry), leastRetry), mostRetry)
	}
	return min(max(seconds(soa.Refresh), leastRefresh), mostRefresh)
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }

func (k *keeper) soa() *dns.SOA {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.zone == nil {
		return nil
	}
	soa := k.zone.SOA
	return &soa
}
