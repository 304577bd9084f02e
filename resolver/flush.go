package resolver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/miekg/dns"

	"cordon/resolver/wire"
)

// Flush is the body of a POST to /flush: what the caches are to forget.
type Flush struct {
	All   bool   `json:"all,omitempty"`   // everything, and nothing else is set
	Name  string `json:"name,omitempty"`  // this name, and answers that lead to it
	Below bool   `json:"below,omitempty"` // and all names below it
	Type  string `json:"type,omitempty"`  // of this type alone, such as AAAA; "" for all
}

// Flushed is what became of it.
type Flushed struct {
	Answers int `json:"answers"` // whole answers that were forgotten
	Entries int `json:"entries"` // of the cache below: sets, denials, failures, delegations
}

// Flush makes both caches forget, the lower one first, so that the upper one is
// not filled from it again.
func (r *Resolver) Flush(f Flush) (Flushed, error) {
	if f.All {
		if f != (Flush{All: true}) {
			return Flushed{}, errors.New("flush everything, or a name; not both at once")
		}
		f = Flush{Name: ".", Below: true}
	}
	if f.Name == "" {
		return Flushed{}, errors.New("flush what? Give a name, or all")
	}
	name, err := wire.ParseName(dns.CanonicalName(f.Name))
	if err != nil {
		return Flushed{}, fmt.Errorf("%q is no name: %w", f.Name, err)
	}
	var qtype uint16
	if f.Type != "" {
		if qtype, err = parseType(f.Type); err != nil {
			return Flushed{}, err
		}
	}
	entries, err := r.iterator.Flush(wire.NameText(name), f.Below, qtype)
	if err != nil {
		return Flushed{}, fmt.Errorf("%q: %w", f.Name, err)
	}
	return Flushed{Answers: r.answers.Flush(name, f.Below, qtype), Entries: entries}, nil
}

// parseType reads a type as people write it: A, or TYPE1 (RFC 3597 §5).
func parseType(text string) (uint16, error) {
	upper := strings.ToUpper(text)
	if t, ok := dns.StringToType[upper]; ok && t != dns.TypeNone && t != dns.TypeANY {
		return t, nil
	}
	var t uint16
	if n, err := fmt.Sscanf(upper, "TYPE%d", &t); err != nil || n != 1 || t == 0 || upper != fmt.Sprintf("TYPE%d", t) {
		return 0, fmt.Errorf("%q is no type of records; write such as AAAA or TYPE65", text)
	}
	return t, nil
}

// flush carries out an order to flush, and says in the log who gave it.
func (r *Resolver) flush(req *http.Request) (any, error) {
	in := json.NewDecoder(http.MaxBytesReader(nil, req.Body, maxOrders))
	in.DisallowUnknownFields()
	var f Flush
	if err := in.Decode(&f); err != nil {
		return nil, fmt.Errorf("orders: %w", err)
	}
	done, err := r.Flush(f)
	if err != nil {
		return nil, err
	}
	r.log.Warn("caches flushed over the control socket", "all", f.All, "name", f.Name, "below", f.Below, "type", f.Type,
		"answers", done.Answers, "entries", done.Entries, "account", account(req))
	return done, nil
}
