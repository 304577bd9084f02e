package anchors

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

// State of a key (RFC 5011 §4.2). A key in the state Start is none that is known.
type State uint8

const (
	Pending State = iota + 1 // seen in a set that a trusted key signed, and not trusted yet
	Valid                    // trusted
	Missing                  // trusted, but not in the set that was last seen
	Revoked                  // has revoked itself; never trusted again
	Removed                  // the same, 30 days later: only remembered
)

var stateNames = [...]string{Pending: "pending", Valid: "valid", Missing: "missing", Revoked: "revoked", Removed: "removed"}

func (s State) String() string { return stateNames[s] }

// Key is one key and what became of it.
type Key struct {
	Record *dns.DNSKEY // as it is without the REVOKE bit
	State  State
	Since  time.Time // when it came into the state
	// Held is for how long a pending key has been seen: the time between sets that
	// validated, never more for one than they may be apart. A clock that jumps, or
	// a resolver that is off, makes no key old.
	Held time.Duration
}

func (k Key) equal(o Key) bool {
	return k.State == o.State && k.Since.Equal(o.Since) && k.Held == o.Held && same(k.Record, o.Record)
}

// The times of RFC 5011.
const (
	addHoldDown    = 30 * 24 * time.Hour // §2.4.1
	removeHoldDown = 30 * 24 * time.Hour // §2.4.2
	minInterval    = time.Hour           // §2.3
	maxInterval    = 15 * 24 * time.Hour
	maxRetry       = 24 * time.Hour
)

// maxPending bounds the keys of a zone that wait, and maxGone those that are
// remembered as revoked. Only who holds a trusted key could add more.
const (
	maxPending = 16
	maxGone    = 64
)

// point is a trust point: a zone and its anchors (RFC 5011 §5).
type point struct {
	zone       string
	configured []dns.RR
	keys       []Key
	seen       time.Time // when a set last validated; zero: never

	failed error     // why the last refresh was of no use
	next   time.Time // when the next is due
}

func (p *point) clone() *point {
	c := *p
	c.keys = slices.Clone(p.keys)
	return &c
}

// find is the key with this record, REVOKE bit aside; nil if it is not known.
func (p *point) find(record *dns.DNSKEY) *Key {
	for i := range p.keys {
		if same(p.keys[i].Record, record) {
			return &p.keys[i]
		}
	}
	return nil
}

// inForce are the anchors to start from: the keys that are trusted, and what is
// configured for keys of which nothing is known yet.
func (p *point) inForce() []dns.RR {
	var all []dns.RR
	for _, k := range p.keys {
		if k.State == Valid || k.State == Missing {
			all = append(all, dns.Copy(k.Record))
		}
	}
	return append(all, p.unseen()...)
}

// unseen are the configured anchors that no known key, of whatever state, fits.
func (p *point) unseen() []dns.RR {
	var all []dns.RR
	for _, anchor := range p.configured {
		if !slices.ContainsFunc(p.keys, func(k Key) bool { return fits(anchor, k.Record) }) {
			all = append(all, dns.Copy(anchor))
		}
	}
	return all
}

// isConfigured says whether a person, or the program, vouches for the key.
func (p *point) isConfigured(record *dns.DNSKEY) bool {
	return slices.ContainsFunc(p.configured, func(anchor dns.RR) bool { return fits(anchor, record) })
}

// observe takes in a DNSKEY set that was just fetched. On an error nothing was
// learned but revocations, which need nobody's word but the key's own.
func (p *point) observe(now time.Time, set dnssec.Set, v *dnssec.Validator) (*point, error) {
	p = p.clone()
	p.revoke(now, set, v)
	anchors := p.inForce()
	if len(anchors) == 0 {
		return p, errors.New("every trust anchor is revoked")
	}
	if _, signed := v.Trust(p.zone, set, anchors); signed.Status != dnssec.Secure {
		return p, refusal(signed.Verdict)
	}
	held := p.sinceSeen(now)
	p.seen = now
	present := make(map[*dns.DNSKEY]bool)
	for _, rr := range set.RRs {
		record, ok := rr.(*dns.DNSKEY)
		if !ok || v.Keys(p.zone, []dns.RR{record}).Len() == 0 || record.Flags&dns.SEP == 0 && !p.isConfigured(record) {
			continue
		}
		if k := p.find(record); k != nil {
			present[k.Record] = true
			p.meet(k, now, held, holdDown(set))
		} else if k := p.welcome(record, now); k != nil {
			present[k.Record] = true
		}
	}
	p.age(now, present)
	return p, nil
}

// revoke takes the trust from keys that revoke themselves: with the REVOKE bit,
// and a signature over the set by the key so marked (§2.1).
func (p *point) revoke(now time.Time, set dnssec.Set, v *dnssec.Validator) {
	for _, rr := range set.RRs {
		marked, ok := rr.(*dns.DNSKEY)
		if !ok || marked.Flags&dns.REVOKE == 0 {
			continue
		}
		record := plain(marked)
		k := p.find(record)
		trusted := k != nil && (k.State == Valid || k.State == Missing)
		if !trusted && (k != nil || !p.isConfigured(record)) {
			continue
		}
		if v.Revokes(p.zone, set, marked).Status != dnssec.Secure {
			continue
		}
		if k == nil {
			p.keys = append(p.keys, Key{Record: record})
			k = &p.keys[len(p.keys)-1]
		}
		k.State, k.Since, k.Held = Revoked, now, 0
	}
}

// meet is what becomes of a known key that is in the set (§4.1 KeyPres, AddTime).
func (p *point) meet(k *Key, now time.Time, held, enough time.Duration) {
	switch k.State {
	case Pending:
		if k.Held += held; k.Held >= enough || p.isConfigured(k.Record) {
			k.State, k.Since, k.Held = Valid, now, 0
		}
	case Missing:
		k.State, k.Since = Valid, now
	}
}

// welcome takes in a key that is not known (NewKey); nil if there is no room.
func (p *point) welcome(record *dns.DNSKEY, now time.Time) *Key {
	state := Pending
	if p.isConfigured(record) {
		state = Valid
	} else if p.count(Pending) >= maxPending {
		return nil
	}
	p.keys = append(p.keys, Key{Record: plain(record), State: state, Since: now})
	return &p.keys[len(p.keys)-1]
}

// age is what becomes of keys that are not in the set (KeyRem), and of revoked
// ones in time (RemTime). Removed keys are kept, so that an anchor which is still
// configured does not come to life again.
func (p *point) age(now time.Time, present map[*dns.DNSKEY]bool) {
	p.keys = slices.DeleteFunc(p.keys, func(k Key) bool { return k.State == Pending && !present[k.Record] })
	for i := range p.keys {
		k := &p.keys[i]
		switch {
		case k.State == Valid && !present[k.Record]:
			k.State, k.Since = Missing, now
		case k.State == Revoked && now.Sub(k.Since) >= removeHoldDown:
			k.State, k.Since = Removed, now
		}
	}
	for p.count(Removed) > maxGone {
		at := slices.IndexFunc(p.keys, func(k Key) bool { return k.State == Removed })
		p.keys = slices.Delete(p.keys, at, at+1)
	}
}

func (p *point) count(s State) (n int) {
	for _, k := range p.keys {
		if k.State == s {
			n++
		}
	}
	return n
}

// sinceSeen is the time since the last set, as far as it counts. While the
// program runs it is the monotonic clock's.
func (p *point) sinceSeen(now time.Time) time.Duration {
	if p.seen.IsZero() {
		return 0
	}
	return min(max(now.Sub(p.seen), 0), maxInterval)
}

// anchors are those of the zone, as an operator sees them.
func (p *point) anchors() []AnchorStatus {
	all := []AnchorStatus{}
	for _, k := range p.keys {
		a := AnchorStatus{Tag: k.Record.KeyTag(), Algorithm: dns.AlgorithmToString[k.Record.Algorithm], State: k.State.String(), Since: k.Since}
		if k.State == Pending {
			a.Left = int64(max(addHoldDown-k.Held, 0) / time.Second)
		}
		all = append(all, a)
	}
	for _, rr := range p.unseen() {
		a := AnchorStatus{State: Configured}
		switch rr := rr.(type) {
		case *dns.DS:
			a.Tag, a.Algorithm = rr.KeyTag, dns.AlgorithmToString[rr.Algorithm]
		case *dns.DNSKEY:
			a.Tag, a.Algorithm = rr.KeyTag(), dns.AlgorithmToString[rr.Algorithm]
		}
		all = append(all, a)
	}
	return all
}

// reconcile is the point of a zone as the state knows it and the configuration
// wants it, with a note of what of the state was given up (decision 0032).
func reconcile(known state, zone string, configured []dns.RR, from origin) (*point, string) {
	p := &point{zone: zone, configured: configured}
	at := slices.IndexFunc(known.points, func(k *point) bool { return k.zone == zone })
	if at < 0 {
		return p, ""
	}
	old := known.points[at]
	p.keys, p.seen = slices.Clone(old.keys), old.seen
	note := ""
	withdrawn := slices.ContainsFunc(old.configured, func(a dns.RR) bool {
		return !slices.ContainsFunc(configured, func(b dns.RR) bool { return text(a) == text(b) })
	})
	if from != known.origin || from == fromFile && withdrawn {
		note = "the configured trust anchors were replaced: what was learned with those before is not trusted any more"
		p.keys = slices.DeleteFunc(p.keys, func(k Key) bool { return k.State < Revoked })
		p.seen = time.Time{}
	}
	for i := range p.keys {
		k := &p.keys[i]
		switch {
		case !p.isConfigured(k.Record):
		case k.State == Pending:
			k.State, k.Since, k.Held = Valid, known.written, 0
		case k.State >= Revoked:
			note = strings.TrimPrefix(note+"; ", "; ") + fmt.Sprintf("the key %d is configured, but has revoked itself and is not trusted", k.Record.KeyTag())
		}
	}
	return p, note
}

// queryInterval is when to ask again for a set that validated (RFC 5011 §2.3).
func queryInterval(set dnssec.Set, now time.Time) time.Duration {
	ttl, life := lifetimes(set, now)
	return max(minInterval, min(maxInterval, ttl/2, life/2))
}

// retryTime is when to ask again for one that did not.
func retryTime(set dnssec.Set, now time.Time) time.Duration {
	ttl, life := lifetimes(set, now)
	return max(minInterval, min(maxRetry, ttl/10, life/10))
}

// holdDown is for how long a new key of the set has to be seen (§2.4.1).
func holdDown(set dnssec.Set) time.Duration {
	ttl := time.Duration(0)
	for _, sig := range set.Sigs {
		ttl = max(ttl, time.Duration(sig.OrigTtl)*time.Second)
	}
	return max(addHoldDown, min(ttl, 2*addHoldDown))
}

// lifetimes are the shortest original TTL of the set and what its signatures
// have left of their lives.
func lifetimes(set dnssec.Set, now time.Time) (ttl, life time.Duration) {
	ttl, life = maxInterval*10, maxInterval*10
	for _, sig := range set.Sigs {
		left := int32(sig.Expiration - uint32(now.Unix())) // #nosec G115 -- serial arithmetic (RFC 1982)
		ttl = min(ttl, time.Duration(sig.OrigTtl)*time.Second)
		life = min(life, time.Duration(left)*time.Second)
	}
	return ttl, life
}

// errDates marks sets whose signatures are not of now.
var errDates = errors.New("is the clock right?")

// refusal says why a set is not believed.
func refusal(v dnssec.Verdict) error {
	switch v.Code {
	case dns.ExtendedErrorCodeSignatureExpired, dns.ExtendedErrorCodeSignatureNotYetValid:
		return fmt.Errorf("its keys do not validate: %s; %w", v.Text, errDates)
	}
	return fmt.Errorf("its keys do not validate: %s", v.Text)
}

// same says whether two records are of one key, REVOKE bit aside.
func same(a, b *dns.DNSKEY) bool {
	return a.Algorithm == b.Algorithm && a.Protocol == b.Protocol && (a.Flags^b.Flags)&^dns.REVOKE == 0 && a.PublicKey == b.PublicKey
}

// plain is the record without the REVOKE bit and without a TTL.
func plain(record *dns.DNSKEY) *dns.DNSKEY {
	k := *record
	k.Hdr = dns.RR_Header{Name: dns.CanonicalName(record.Hdr.Name), Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET}
	k.Flags &^= dns.REVOKE
	return &k
}

// fits says whether anchor is of the key.
func fits(anchor dns.RR, record *dns.DNSKEY) bool {
	switch a := anchor.(type) {
	case *dns.DNSKEY:
		return same(a, record)
	case *dns.DS:
		if a.KeyTag != record.KeyTag() || a.Algorithm != record.Algorithm {
			return false
		}
		ds := record.ToDS(a.DigestType)
		return ds != nil && strings.EqualFold(ds.Digest, a.Digest)
	}
	return false
}
