package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/miekg/dns"
)

// How one feed comes in: from its file, its primary, or what was kept of it.

// restore puts in force what is at hand.
func (k *keeper) restore() {
	defer k.sayAlarm()
	if k.c.File != "" {
		_, err := k.stamp.look(k.c.File)
		if err = k.readFile(err); k.zone != nil {
			k.report(err)
			return
		}
		k.report(err)
	}
	c, err := k.compiler()
	if err != nil {
		k.report(err)
		return
	}
	confirmed, err := k.f.store.load(k.c.Name, k.c.Zone, c.add)
	var z *Zone
	if err == nil {
		z, err = judge(c)
	}
	switch {
	case err == nil:
		k.enforce(z, confirmed)
	case !errors.Is(err, errNothing):
		k.f.log.Error("the kept version of a feed cannot be used", "feed", k.c.Name, "error", err)
	}
}

func (k *keeper) compiler() (*compiler, error) {
	return newCompiler(k.c.Name, k.c.Zone, k.f.s.StopPages)
}

// judge gives the compiled version, unless it is none or nothing of it could be
// enforced: a feed that shrinks to nothing frees all its names at once, and that is
// never taken for an update.
func judge(c *compiler) (*Zone, error) {
	z, err := c.finish()
	if err != nil {
		return nil, err
	}
	if z.Counts.Active == 0 {
		return nil, fmt.Errorf("serial %d has no rule that can be enforced; to end a feed, take it out of the configuration", z.SOA.Serial)
	}
	return z, nil
}

// enforce puts a version in force.
func (k *keeper) enforce(z *Zone, confirmed time.Time) {
	k.mu.Lock()
	k.zone, k.confirmed = z, confirmed
	k.mu.Unlock()
	k.f.enforce(k.place, z)
	k.f.log.Info("feed in force", "feed", k.c.Name, "serial", z.SOA.Serial, "rules", z.Counts.Active,
		"unsupported", z.Counts.Unsupported, "refused", z.Counts.Refused, "invalid", z.Counts.Invalid)
	for _, s := range z.Shunned[:min(len(z.Shunned), maxSaid)] {
		k.f.log.Warn("not in force", "feed", k.c.Name, "rule", s)
	}
	if len(z.Shunned) > maxSaid {
		k.f.log.Warn("more of the feed is not in force; cordon-resolver status names it", "feed", k.c.Name)
	}
}

// maxSaid bounds the rules that one version names in the log.
const maxSaid = 20

// readFile puts the file's version in force and keeps a copy. err is what the look
// at the file brought.
func (k *keeper) readFile(err error) error {
	if err != nil {
		return err
	}
	f, err := os.Open(k.c.File)
	if err != nil {
		return err
	}
	defer f.Close()
	k.stamp.read = k.stamp.seen
	// In memory first, so that what is kept is what was compiled, whoever writes the
	// file meanwhile.
	text, err := io.ReadAll(io.LimitReader(f, k.f.s.Limits.Bytes+1))
	if err != nil {
		return fmt.Errorf("%s: %w", k.c.File, err)
	}
	records := func(to func(dns.RR) error) error {
		return readZone(bytes.NewReader(text), k.c.File, k.c.Zone, k.f.s.Limits, to)
	}
	c, err := k.compiler()
	if err != nil {
		return err
	}
	if err := records(c.add); err != nil {
		return err
	}
	z, err := judge(c)
	if err != nil {
		return fmt.Errorf("%s: %w", k.c.File, err)
	}
	made := k.stamp.seen.ModTime()
	k.enforce(z, made)
	if err := k.f.store.save(k.c.Name, k.c.Zone, records); err != nil {
		return err
	}
	return k.f.store.confirm(k.c.Name, made)
}

// refresh asks the primary for a newer version, puts it in force and keeps it. A
// version that is here already is not transferred again.
func (k *keeper) refresh(ctx context.Context) error {
	p := &primary{addr: k.c.Primary, origin: k.c.Zone, key: k.c.Key, dial: k.f.s.Dial, clock: k.f.s.Clock, limits: k.f.s.Limits}
	have := k.soa()
	if have == nil {
		return k.transfer(ctx, p, nil)
	}
	soa, err := p.serial(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("ask %s for the serial: %w", p.addr, err)
	case soa.Serial == have.Serial:
		return k.confirm()
	case !newer(soa.Serial, have.Serial):
		return fmt.Errorf("%s has serial %d, behind %d that is here: raise it there", p.addr, soa.Serial, have.Serial)
	}
	err = k.transfer(ctx, p, have)
	var answer *refusal
	if (errors.Is(err, errMisfit) || errors.Is(err, errTransfer) || errors.As(err, &answer)) && ctx.Err() == nil {
		// The primary does not know IXFR, or not from this version on (RFC 1995 §2).
		k.f.log.Info("the difference cannot be had: the whole feed is transferred", "feed", k.c.Name, "because", err)
		return k.transfer(ctx, p, nil)
	}
	return err
}

// confirm notes that the version in force is the newest.
func (k *keeper) confirm() error {
	now := k.f.s.Clock()
	k.mu.Lock()
	k.confirmed = now
	k.mu.Unlock()
	return k.f.store.confirm(k.c.Name, now)
}

// transfer fetches the version after have (nil: all of it). It is compiled and
// written beside the kept one as it comes, and neither counts before its last
// record has come and all was verified.
func (k *keeper) transfer(ctx context.Context, p *primary, have *dns.SOA) error {
	var z *Zone
	var failed error
	tried := false
	bring := func(keep func(dns.RR) error) error {
		tried = true
		var lost error // of what is kept: the version counts all the same
		z, failed = k.bring(ctx, p, have, func(rr dns.RR) {
			if lost == nil {
				lost = keep(rr)
			}
		})
		return errors.Join(failed, lost)
	}
	saved := k.f.store.save(k.c.Name, k.c.Zone, bring)
	if !tried { // the disk gives no file
		_ = bring(func(dns.RR) error { return nil })
	}
	if failed != nil {
		return fmt.Errorf("transfer %s from %s: %w", k.c.Zone, p.addr, failed)
	}
	now := k.f.s.Clock()
	k.enforce(z, now)
	if saved != nil {
		return saved
	}
	return k.f.store.confirm(k.c.Name, now)
}

func (k *keeper) bring(ctx context.Context, p *primary, have *dns.SOA, keep func(dns.RR)) (*Zone, error) {
	c, err := k.compiler()
	if err != nil {
		return nil, err
	}
	take := func(rr dns.RR) error {
		if err := c.add(rr); err != nil {
			return err
		}
		keep(rr)
		return nil
	}
	d, err := p.transfer(ctx, have, take)
	if err != nil {
		return nil, err
	}
	if d.delta != nil {
		err = d.delta.apply(have.Serial, d.soa, func(to func(dns.RR) error) error {
			_, err := k.f.store.load(k.c.Name, k.c.Zone, to)
			if err != nil && !errors.Is(err, errMisfit) {
				err = fmt.Errorf("%w: %w", errMisfit, err)
			}
			return err
		}, take)
		if err != nil {
			return nil, err
		}
	}
	if d.state != ended {
		return nil, fmt.Errorf("%w: the primary has a newer serial, and gives nothing newer", errTransfer)
	}
	return judge(c)
}
