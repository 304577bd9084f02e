package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"

	"cordon/blocklist"
	"cordon/rpz"
)

// identityFile keeps the policy zone's name and serial, in the folder of the lists.
const identityFile = "rpz.json"

func (c *Config) rpzIdentity() string { return filepath.Join(c.Store, identityFile) }

// openRPZ opens what gives the lists to other resolvers, if anything does.
func (r *Resolver) openRPZ() error {
	c := &r.config.RPZ
	if !c.on() {
		return nil
	}
	identity, err := rpz.OpenIdentity(r.config.rpzIdentity())
	if err != nil {
		return fmt.Errorf("rpz: %w", err)
	}
	o := rpz.OutletConfig{Zone: c.Zone, Identity: identity, File: c.File, Clock: r.clock, Registerer: r.registry, Log: r.log}
	for i := range r.config.Lists {
		if l := &r.config.Lists[i]; c.List == "" || c.List == l.Name {
			o.Lists = append(o.Lists, rpz.OutletList{Name: l.Name, Required: l.required()})
		}
	}
	if len(c.Listen) > 0 {
		p, err := c.primary()
		if err != nil {
			return fmt.Errorf("rpz.%w", err)
		}
		p.Zone, p.Clock, p.Registerer, p.Log = c.Zone, r.clock, r.registry, r.log
		if p.Zone == "" {
			p.Zone = identity.Name()
		}
		if r.primary, err = rpz.Listen(p); err != nil {
			return fmt.Errorf("rpz.listen: %w", err)
		}
		o.Primary = r.primary
	}
	r.outlet, err = rpz.NewOutlet(o)
	return err
}

// runPrimary serves the policy zone until ctx ends.
func (r *Resolver) runPrimary(ctx context.Context) error {
	err := r.primary.Run(ctx)
	if err != nil {
		r.log.Error("the policy zone is no longer served; restart", "error", err)
	}
	return err
}

// servedOnwards puts on record, at the start and before any answer, to whom the lists
// are given besides.
func (r *Resolver) servedOnwards() error {
	c := &r.config.RPZ
	if !c.on() {
		return nil
	}
	type receiver struct {
		Name    string     `json:"name"`
		Address netip.Addr `json:"address"`
	}
	record := struct {
		List  string     `json:"list,omitempty"` // empty: all
		Peers []receiver `json:"peers,omitempty"`
		File  string     `json:"file,omitempty"`
	}{List: c.List, File: c.File}
	for _, p := range c.Peers {
		record.Peers = append(record.Peers, receiver{p.Name, p.Address})
	}
	if err := r.journal.Event("list.served", record); err != nil {
		return fmt.Errorf("it cannot be written down to whom the lists are given, so nothing is answered: %w", err)
	}
	return nil
}

// exportRPZ gives the lists in force, or one of them, as a policy zone. That is on
// record before the first byte leaves.
func (r *Resolver) exportRPZ(rw http.ResponseWriter, req *http.Request) {
	z, err := r.zoneFor(req)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	// A long list takes longer than an answer otherwise may.
	_ = http.NewResponseController(rw).SetWriteDeadline(r.clock().Add(5 * time.Minute))
	rw.Header().Set("Content-Type", "text/dns")
	if _, err := z.WriteTo(rw); err != nil {
		r.log.Warn("the policy zone could not be exported", "error", err)
	}
}

// zoneFor makes the zone that is asked for, and puts on record who asks.
func (r *Resolver) zoneFor(req *http.Request) (*rpz.Zone, error) {
	list, name := req.FormValue("list"), req.FormValue("zone")
	if name == "" {
		name = r.config.RPZ.Zone
	}
	if name == "" {
		if r.config.Store == "" {
			return nil, errors.New("no list is configured")
		}
		identity, err := rpz.OpenIdentity(r.config.rpzIdentity())
		if err != nil {
			return nil, err
		}
		name = identity.Name()
	}
	watchers := r.watchers
	if list != "" {
		w, err := r.watcher(list)
		if err != nil {
			return nil, err
		}
		watchers = []*blocklist.Watcher{w}
	}
	var lists []*blocklist.Loaded
	for i, w := range watchers {
		switch running := w.View().Running; {
		case running != nil:
			lists = append(lists, running)
		case list != "" || r.config.Lists[i].required():
			return nil, fmt.Errorf("list %s: no list is in force", w.View().Name)
		}
	}
	z, err := rpz.NewZone(name, lists)
	if err != nil {
		return nil, err
	}
	for _, l := range lists {
		if err := r.recordDump(req, l.Name, "rpz", l.List.Serial, l.Index.Len()); err != nil {
			return nil, err
		}
	}
	return z.WithSerial(uint32(r.clock().Unix())), nil
}
