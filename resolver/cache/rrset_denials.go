package cache

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Denials keeps validated NSEC and NSEC3 records in the order that makes them
// useful for names that nobody has asked for yet (RFC 8198). It holds at most a
// given number of bytes; when it is full, a zone is dropped whole. Safe for
// concurrent use.
type Denials struct {
	clock func() time.Time
	bound int64

	mu    sync.Mutex
	bytes int64                  // guarded by mu, as all below
	zones map[string]*denialZone // by apex
}

// Span is one such record with its signatures: between From and To there is
// nothing in the zone. Both are OrderKey of a name for NSEC, and upper-case
// hashes for NSEC3.
type Span struct {
	From, To string
	RRs      []dns.RR      // the record, then its RRSIG
	TTL      time.Duration // for how long it may be used
	Shown    time.Duration // the TTL that the records have; may be longer
}

// denialZone has its spans sorted by from.
type denialZone struct {
	nsec, nsec3 []denialSpan
	soa         denialSpan
	chain       string // parameters of the NSEC3 records
}

type denialSpan struct {
	from, to string
	packed   []byte
	expires  time.Time
	shown    time.Time
}

// maxSpans bounds the spans of one zone, so that finding a place for one stays
// cheap.
const maxSpans = 4096

// NewDenials returns an empty cache.
func NewDenials(bytes int64, clock func() time.Time) *Denials {
	return &Denials{clock: clock, bound: bytes, zones: map[string]*denialZone{}}
}

// Flush drops the zones that a name may be denied by, those at and above it, with
// below also those below it, and returns how many.
func (d *Denials) Flush(name string, below bool) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	dropped := 0
	for zone, z := range d.zones {
		if dns.IsSubDomain(zone, name) || below && dns.IsSubDomain(name, zone) {
			d.drop(zone, z)
			dropped++
		}
	}
	return dropped
}

// Bytes is what the records take.
func (d *Denials) Bytes() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bytes
}

// PutSOA keeps the SOA of a zone, which each denial shows.
func (d *Denials) PutSOA(zone string, soa Span) {
	if s, ok := d.pack(soa); ok {
		d.change(zone, func(z *denialZone) {
			d.bytes += s.cost() - z.soa.cost()
			z.soa = s
		})
	}
}

// PutNSEC keeps an NSEC record.
func (d *Denials) PutNSEC(zone string, s Span) {
	if packed, ok := d.pack(s); ok {
		d.change(zone, func(z *denialZone) { d.insert(&z.nsec, packed) })
	}
}

// PutNSEC3 keeps an NSEC3 record. chain names its parameters; records of another
// chain of the zone are dropped (RFC 5155 §8.2).
func (d *Denials) PutNSEC3(zone, chain string, s Span) {
	packed, ok := d.pack(s)
	if !ok {
		return
	}
	d.change(zone, func(z *denialZone) {
		if z.chain != chain {
			for _, old := range z.nsec3 {
				d.bytes -= old.cost()
			}
			z.nsec3, z.chain = nil, strings.Clone(chain)
		}
		d.insert(&z.nsec3, packed)
	})
}

// SOA returns the zone's SOA.
func (d *Denials) SOA(zone string) (Span, bool) {
	return d.find(zone, func(z *denialZone) (denialSpan, bool) { return z.soa, z.soa.packed != nil })
}

// NSEC returns the record that starts at key or last before it. The last one of a
// zone covers what is behind it.
func (d *Denials) NSEC(zone, key string) (Span, bool) {
	return d.find(zone, func(z *denialZone) (denialSpan, bool) { return before(z.nsec, key, false) })
}

// NSEC3 is NSEC for a hash; the last record of a zone also covers what is before
// the first.
func (d *Denials) NSEC3(zone, hash string) (Span, bool) {
	return d.find(zone, func(z *denialZone) (denialSpan, bool) { return before(z.nsec3, hash, true) })
}

// Knows says whether there is anything of the zone.
func (d *Denials) Knows(zone string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.zones[zone] != nil
}

// before is the span that starts at key or last before it; with wrap, in front of
// the first stands the last.
func before(spans []denialSpan, key string, wrap bool) (denialSpan, bool) {
	i, exact := slices.BinarySearchFunc(spans, key, func(s denialSpan, k string) int { return strings.Compare(s.from, k) })
	switch {
	case exact:
		return spans[i], true
	case i > 0:
		return spans[i-1], true
	case wrap && len(spans) > 0:
		return spans[len(spans)-1], true
	}
	return denialSpan{}, false
}

func (d *Denials) find(zone string, which func(*denialZone) (denialSpan, bool)) (Span, bool) {
	now := d.clock()
	d.mu.Lock()
	z := d.zones[zone]
	var found denialSpan
	ok := false
	if z != nil {
		found, ok = which(z)
	}
	d.mu.Unlock()
	if !ok || !now.Before(found.expires) {
		return Span{}, false
	}
	set := RRset{TTL: found.shown.Sub(now)}
	if err := unpack(found.packed, &set); err != nil {
		return Span{}, false // cannot happen: pack made it
	}
	return Span{From: found.from, To: found.to, RRs: set.RRs, TTL: found.expires.Sub(now), Shown: set.TTL}, true
}

func (d *Denials) pack(s Span) (denialSpan, bool) {
	packed, err := pack(RRset{RRs: s.RRs})
	if err != nil || s.TTL < time.Second {
		return denialSpan{}, false
	}
	now, ttl := d.clock(), min(s.TTL, MaxNegativeTTL)
	return denialSpan{
		from: strings.Clone(s.From), to: strings.Clone(s.To), packed: packed,
		expires: now.Add(ttl), shown: now.Add(min(max(s.Shown, ttl), MaxNegativeTTL)),
	}, true
}

// change changes a zone, then makes room if need be.
func (d *Denials) change(zone string, what func(*denialZone)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	z, ok := d.zones[zone]
	if !ok {
		z = &denialZone{}
		d.zones[strings.Clone(zone)] = z
		d.bytes += zoneCost(zone)
	}
	what(z)
	for name, other := range d.zones {
		if d.bytes <= d.bound {
			break
		}
		if other != z || len(d.zones) == 1 {
			d.drop(name, other)
		}
	}
}

func (d *Denials) drop(name string, z *denialZone) {
	for _, spans := range [][]denialSpan{z.nsec, z.nsec3, {z.soa}} {
		for _, s := range spans {
			d.bytes -= s.cost()
		}
	}
	d.bytes -= zoneCost(name)
	delete(d.zones, name)
}

// insert puts s in its place. What s contradicts by lying within its span is
// dropped: the zone has changed.
func (d *Denials) insert(spans *[]denialSpan, s denialSpan) {
	i, exact := slices.BinarySearchFunc(*spans, s.from, func(have denialSpan, from string) int { return strings.Compare(have.from, from) })
	end := i
	if exact {
		end++
	}
	for end < len(*spans) && (*spans)[end].from < s.to {
		end++
	}
	for _, old := range (*spans)[i:end] {
		d.bytes -= old.cost()
	}
	*spans = slices.Replace(*spans, i, end, s)
	d.bytes += s.cost()
	if len(*spans) > maxSpans {
		first := (*spans)[0]
		d.bytes -= first.cost()
		*spans = slices.Delete(*spans, 0, 1)
	}
}

// cost is the bytes that s takes, allocation rounding and slack included.
func (s denialSpan) cost() int64 {
	if s.packed == nil {
		return 0
	}
	const fixed = 2 * 80 // the span itself, in a slice that may be half empty
	return fixed + round(int64(len(s.from))) + round(int64(len(s.to))) + round(int64(len(s.packed)))
}

func zoneCost(name string) int64 { return 512 + round(int64(len(name))) }

// OrderKey is a string that sorts as name does canonically (RFC 4034 §6.1); ""
// for what is no name.
func OrderKey(name string) string {
	wire := make([]byte, 255)
	n, err := dns.PackDomainName(dns.CanonicalName(name), wire, 0, nil, false)
	if err != nil {
		return ""
	}
	var labels [][]byte
	for rest := wire[:n]; len(rest) > 1; rest = rest[1+int(rest[0]):] {
		labels = append(labels, rest[1:1+int(rest[0])])
	}
	// A label ends with 0 0, which sorts before whatever a longer one has there;
	// a 0 in a label becomes 0 1.
	key := []byte{0}
	for _, l := range slices.Backward(labels) {
		key = append(key, bytes.ReplaceAll(l, []byte{0}, []byte{0, 1})...)
		key = append(key, 0, 0)
	}
	return string(key)
}
