// Package anchors keeps the trust anchors that validation starts from, and
// follows their zones when these change keys (RFC 5011): a new key that signed
// company has shown for 30 days is trusted, one that revokes itself is not any
// more. What was seen is kept in a file, so that a restart forgets nothing.
//
// point.go is the state machine and knows neither disk nor network, file.go
// reads and writes the file.
package anchors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"cordon/durable"
	"cordon/resolver/dnssec"
)

// Config of a Tracker. Configured, Clock and Log are required.
type Config struct {
	// Configured are the anchors that came by another way than DNS: DS or DNSKEY.
	Configured []dns.RR
	// BuiltIn says that they are the program's own, and no person chose them: a
	// release with others adds to what was learned and withdraws nothing.
	BuiltIn bool
	// File keeps the state; "" follows nothing, and the anchors stay as configured.
	File  string
	Clock func() time.Time
	Log   *slog.Logger

	disk durable.Disk // another one in tests
}

// Resolver is whom a Tracker asks, and tells.
type Resolver interface {
	// Keys gives take the DNSKEY set of zone as its servers have it, not from a
	// cache and not validated, server after server until take returns nil.
	Keys(ctx context.Context, zone string, take func(dnssec.Set) error) error
	// SetAnchors puts these anchors in force in place of those before.
	SetAnchors([]dns.RR) error
}

// Tracker follows the anchors of one or more zones. Safe for concurrent use.
type Tracker struct {
	config Config

	mu      sync.Mutex
	points  []*point // guarded by mu, as all below; sorted by zone
	refused error    // the file could not be used; nil once it was written anew
	failed  error    // the file could not be written
}

// damagedSuffix marks a file that could not be used, for a person to look at.
const damagedSuffix = ".damaged"

// New reads the state and compares it with what is configured. A file that
// cannot be used is put aside and told of in the log and in Status, and the
// configured anchors are in force: nothing of it is trusted.
func New(c Config) (*Tracker, error) {
	if c.disk == nil {
		c.disk = durable.OS{}
	}
	configured, err := byZone(c.Configured)
	if err != nil {
		return nil, err
	}
	t := &Tracker{config: c}
	var known state
	if c.File != "" {
		if err := durable.MakeDir(c.disk, filepath.Dir(c.File), 0o700); err != nil {
			return nil, fmt.Errorf("recursion.anchor_state: %w", err)
		}
		if known, err = load(c.File); err != nil {
			t.refused = err
			c.Log.Error("the state of the trust anchors cannot be used, and nothing of it is trusted: the configured anchors are in force, and what was learned has to be learned anew", "error", err)
			if err := c.disk.Rename(c.File, c.File+damagedSuffix); err != nil {
				return nil, fmt.Errorf("recursion.anchor_state: put it aside: %w", err)
			}
		}
	}
	for _, zone := range slices.Sorted(maps.Keys(configured)) {
		p, note := reconcile(known, zone, configured[zone], c.origin())
		if note != "" {
			c.Log.Warn(note, "zone", zone, "file", c.File)
		}
		t.points = append(t.points, p)
	}
	return t, nil
}

func (c *Config) origin() origin {
	if c.BuiltIn {
		return builtIn
	}
	return fromFile
}

// InForce are the anchors that validation may start from now. They are the
// caller's own.
func (t *Tracker) InForce() []dns.RR {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inForce()
}

func (t *Tracker) inForce() []dns.RR {
	var all []dns.RR
	for _, p := range t.points {
		all = append(all, p.inForce()...)
	}
	return all
}

// Run asks for the keys of each zone as often as RFC 5011 §2.3 has it, until ctx
// ends.
func (t *Tracker) Run(ctx context.Context, r Resolver) error {
	if t.config.File == "" {
		<-ctx.Done()
		return ctx.Err()
	}
	due := make([]time.Duration, len(t.points)) // from now on
	for {
		next := slices.Min(due)
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		for i := range due {
			if due[i] -= next; due[i] <= 0 {
				due[i] = t.refresh(ctx, r, i)
			}
		}
	}
}

// refresh asks once for the keys of the zone at i, and says when to ask again.
func (t *Tracker) refresh(ctx context.Context, r Resolver, i int) time.Duration {
	t.mu.Lock()
	before := t.points[i].clone()
	t.mu.Unlock()

	now, after := t.config.Clock(), before.clone()
	wait := time.Hour // before anything is known of the zone
	err := r.Keys(ctx, before.zone, func(set dnssec.Set) error {
		v := &dnssec.Validator{Clock: t.config.Clock, Work: &dnssec.Work{Limit: dnssec.DefaultLimits()}}
		var err error
		after, err = after.observe(now, set, v)
		if wait = retryTime(set, now); err == nil {
			wait = queryInterval(set, now)
		}
		return err
	})
	if ctx.Err() != nil {
		return wait
	}
	after.failed, after.next = err, now.Add(wait)
	t.tell(before, after)

	t.mu.Lock()
	defer t.mu.Unlock()
	t.points[i] = after
	if err == nil || t.failed != nil || !slices.EqualFunc(before.keys, after.keys, Key.equal) {
		t.write(now)
	}
	// A revocation holds at once, whatever the disk does.
	if err := r.SetAnchors(t.inForce()); err != nil {
		t.config.Log.Error("the trust anchors could not be put in force", "error", err)
	}
	return wait
}

// write makes the state durable; mu must be held.
func (t *Tracker) write(now time.Time) {
	err := durable.Replace(t.config.disk, t.config.File, encode(state{written: now, origin: t.config.origin(), points: t.points}), 0o600)
	if err != nil {
		err = fmt.Errorf("write the state of the trust anchors: %w", err)
		t.config.Log.Error("the state of the trust anchors could not be written; what was learned since would have to be learned anew after a restart", "error", err)
	} else {
		t.refused = nil
	}
	t.failed = err
}

// tell writes what has changed into the log.
func (t *Tracker) tell(before, after *point) {
	log := t.config.Log.With("zone", after.zone)
	for _, k := range after.keys {
		was := before.find(k.Record)
		if was != nil && was.State == k.State {
			continue
		}
		from := "unknown"
		if was != nil {
			from = was.State.String()
		}
		log.Warn("a trust anchor has changed its state (RFC 5011)", "key", k.Record.KeyTag(), "from", from, "to", k.State.String())
	}
	for _, k := range before.keys {
		if after.find(k.Record) == nil {
			log.Warn("a new key is gone before it could be trusted", "key", k.Record.KeyTag())
		}
	}
	switch {
	case len(after.inForce()) == 0 && len(before.inForce()) > 0:
		log.Error("every trust anchor of the zone is revoked: it is not validated any more (RFC 5011 §5); configure its new keys at once")
	case after.failed != nil && before.failed == nil:
		log.Warn("the keys of a trust anchor's zone could not be refreshed; those known stay in force", "error", after.failed)
	case after.failed == nil && before.failed != nil:
		log.Info("the keys of a trust anchor's zone were refreshed again")
	}
}

// Status is what an operator sees of the anchors.
type Status struct {
	File  string       `json:"file"`            // of the state; "": the anchors stay as configured
	Alarm string       `json:"alarm,omitempty"` // what needs a person, in words
	Zones []ZoneStatus `json:"zones"`
}

// ZoneStatus is the anchors of one zone.
type ZoneStatus struct {
	Zone    string         `json:"zone"`
	Seen    time.Time      `json:"seen,omitzero"`   // when its keys were last seen and validated
	Next    time.Time      `json:"next,omitzero"`   // when they are asked for again
	Failed  string         `json:"failed,omitzero"` // why the last refresh was of no use
	Anchors []AnchorStatus `json:"anchors"`
}

// AnchorStatus is one anchor.
type AnchorStatus struct {
	Tag       uint16    `json:"tag"`
	Algorithm string    `json:"algorithm"`
	State     string    `json:"state"` // configured, or as State
	Since     time.Time `json:"since,omitzero"`
	// Left is for how much longer a pending key has to be seen, in seconds.
	Left int64 `json:"left,omitempty"`
}

// Configured is the state of an anchor that was configured and whose key has not
// been seen yet, or is not looked for.
const Configured = "configured"

// States are all that AnchorStatus.State can be.
func States() []string {
	return []string{Configured, Pending.String(), Valid.String(), Missing.String(), Revoked.String(), Removed.String()}
}

// overdue is when keys that were not seen for so long are an alarm: twice the
// longest interval of RFC 5011 §2.3.
const overdue = 2 * maxInterval

// Status reports what is in force.
func (t *Tracker) Status() Status {
	now := t.config.Clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Status{File: t.config.File, Zones: []ZoneStatus{}}
	var alarms []string
	for _, err := range []error{t.refused, t.failed} {
		if err != nil {
			alarms = append(alarms, err.Error())
		}
	}
	for _, p := range t.points {
		z := ZoneStatus{Zone: p.zone, Seen: p.seen, Next: p.next, Anchors: p.anchors()}
		if p.failed != nil {
			z.Failed = p.failed.Error()
		}
		if len(p.inForce()) == 0 {
			alarms = append(alarms, "zone "+p.zone+" has no trust anchor left and is not validated; configure its new keys")
		}
		switch {
		case errors.Is(p.failed, errDates):
			alarms = append(alarms, "zone "+p.zone+": "+z.Failed)
		case !p.seen.IsZero() && now.Sub(p.seen) > overdue:
			alarms = append(alarms, "the keys of "+p.zone+" have not been seen since "+p.seen.UTC().Format(time.RFC3339)+": "+z.Failed)
		}
		s.Zones = append(s.Zones, z)
	}
	s.Alarm = strings.Join(alarms, "; ")
	return s
}

// Newest is the latest time that the state knows of, which a clock cannot be
// before; zero if it knows none.
func (t *Tracker) Newest() (newest time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.points {
		if p.seen.After(newest) {
			newest = p.seen
		}
	}
	return newest
}

// byZone sorts anchors by the zone that they are of.
func byZone(anchors []dns.RR) (map[string][]dns.RR, error) {
	if len(anchors) == 0 {
		return nil, errors.New("anchors: none is configured")
	}
	all := map[string][]dns.RR{}
	for _, rr := range anchors {
		rr = dns.Copy(rr)
		switch rr.(type) {
		case *dns.DS, *dns.DNSKEY:
		default:
			return nil, fmt.Errorf("anchors: %q is neither DS nor DNSKEY", rr)
		}
		zone := dns.CanonicalName(rr.Header().Name)
		*rr.Header() = dns.RR_Header{Name: zone, Rrtype: rr.Header().Rrtype, Class: dns.ClassINET}
		all[zone] = append(all[zone], rr)
	}
	return all, nil
}
