package rpz

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cordon/durable"
)

// OutletConfig is where the zone of some lists goes. All fields are needed where
// nothing else is said.
type OutletConfig struct {
	Zone       string        // its name; empty: that of Identity
	Lists      []OutletList  // in order of precedence
	Identity   *Identity     //
	Primary    *Primary      // serves it; may be nil
	File       string        // holds it, for resolvers of this machine; may be empty
	Retry      time.Duration // after a failure; default a minute
	Clock      func() time.Time
	Registerer prometheus.Registerer
	Log        *slog.Logger
}

// OutletList is a list that goes into the zone.
type OutletList struct {
	Name     string
	Required bool // no zone before this list is loaded
}

// Outlet makes a zone of what is in force, again after each change, and brings it to
// the primary and the file. It holds no update up: while a zone is made, newer lists
// wait, and only the newest are made into the next one.
type Outlet struct {
	c        OutletConfig
	disk     durable.Disk
	news     chan struct{}
	failures prometheus.Counter
	made     atomic.Pointer[Zone] // the last one; nil before the first

	mu    sync.Mutex // guards lists
	lists map[string]*Loaded
}

// NewOutlet makes an outlet that has nothing to give yet.
func NewOutlet(c OutletConfig) (o *Outlet, err error) {
	if c.Zone == "" {
		c.Zone = c.Identity.Name()
	}
	if c.Retry == 0 {
		c.Retry = time.Minute
	}
	o = &Outlet{c: c, disk: durable.OS{}, news: make(chan struct{}, 1), lists: make(map[string]*Loaded)}
	o.failures, err = registerOutlet(c.Registerer, o.made.Load)
	return o, err
}

// Apply takes in a list that is in force now, in place of the one of the same name.
// One that does not belong into the zone is of no concern. It does not wait.
func (o *Outlet) Apply(l *Loaded) {
	o.mu.Lock()
	o.lists[l.Name] = l
	o.mu.Unlock()
	o.wake()
}

func (o *Outlet) wake() {
	select {
	case o.news <- struct{}{}:
	default:
	}
}

// Run makes zones until ctx ends.
func (o *Outlet) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.news:
		}
		err := o.bring()
		if err == nil {
			continue
		}
		o.failures.Inc()
		o.c.Log.Error("policy zone not brought up to date: the peers keep the one before; this is tried again", "after", o.c.Retry, "error", err)
		again := time.NewTimer(o.c.Retry)
		select {
		case <-ctx.Done():
		case <-again.C:
			o.wake()
		case <-o.news:
			o.wake()
		}
		again.Stop()
	}
}

// bring makes the zone of what is in force now, and hands it on. Without a list that
// is required nothing is handed on: what the peers and the file have stays.
func (o *Outlet) bring() error {
	lists := o.inForce()
	if lists == nil {
		return nil
	}
	z, err := NewZone(o.c.Zone, lists)
	if err != nil {
		return err
	}
	if z, err = o.c.Identity.Number(z, o.c.Clock()); err != nil {
		return err
	}
	o.made.Store(z)
	o.say(z)
	if o.c.Primary != nil {
		o.c.Primary.Publish(z)
	}
	if o.c.File != "" {
		if err := z.WriteFile(o.disk, o.c.File); err != nil {
			return fmt.Errorf("write the policy zone's file: %w", err)
		}
	}
	return nil
}

// inForce gives the lists of the zone; nil where one that is required is not
// loaded, or none is.
func (o *Outlet) inForce() (lists []*Loaded) {
	o.mu.Lock()
	all := maps.Clone(o.lists)
	o.mu.Unlock()
	for _, l := range o.c.Lists {
		switch loaded := all[l.Name]; {
		case loaded != nil:
			lists = append(lists, loaded)
		case l.Required:
			return nil
		}
	}
	return lists
}

// say logs what the zone holds, and what it does not.
func (o *Outlet) say(z *Zone) {
	o.c.Log.Info("policy zone made", "serial", z.serial, "names", z.Names(), "records", z.Records(), "left_out", z.leftAll)
	const most = 20
	for i, l := range z.left {
		if i == most {
			o.c.Log.Error("more entries are in force here that the policy zone cannot say; cordon-resolver export rpz names them", "left_out", z.leftAll)
			break
		}
		o.c.Log.Error("an entry in force here is not blocked by the peers: a policy zone cannot say it", "list", l.List, "entry", l.Entry, "name", l.Name, "because", l.Because)
	}
}
