// Package rpz gives the lists in force to other resolvers, as a response policy
// zone (draft-vixie-dnsop-dns-rpz-00): in a file, and by a primary server of its
// own with zone transfers (RFC 5936, RFC 1995), notifications (RFC 1996) and
// signatures (TSIG, RFC 8945).
//
// A list is confidential, and so is a zone of it: without an allowed address and
// that peer's key, the primary answers nothing but REFUSED. A zone is made of what
// is enforced and of nothing else, and of all of it: what a zone cannot say is
// counted and named. A listed name has the addresses of its stop page in it and
// never a CNAME, which would give the list away. Reasons and limits are in
// docs/decisions/0036-policy-zone.md.
package rpz

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"math"
	"strings"

	"github.com/miekg/dns"
)

// Zone is what some lists enforce at one moment, as a policy zone. Immutable.
type Zone struct {
	name    string
	serial  uint32
	ttl     uint32 // seconds; of the SOA and of denials: the shortest of the lists
	nodes   nodes
	left    []LeftOut
	leftAll int
	digest  string
}

// LeftOut is an entry that a policy zone cannot say, or not wholly.
type LeftOut struct {
	List    string `json:"list"`
	Entry   string `json:"entry"` // its id
	Name    string `json:"name"`
	Because string `json:"because"`
}

// maxLeftOut bounds how many of these a zone keeps; all are counted.
const maxLeftOut = 1000

// NewZone makes a zone called name of lists, which are in order of precedence: on
// overlap the first one's answer is taken, as the resolver itself does. It has no
// serial yet. It takes about a second for a million names.
func NewZone(name string, lists []*Loaded) (*Zone, error) {
	name, err := CheckName(name)
	if err != nil {
		return nil, err
	}
	if len(lists) == 0 {
		return nil, fmt.Errorf("policy zone %s: no list is loaded, and an empty zone would unblock everything", name)
	}
	b := builder{lists: lists, room: maxOwner - (len(name) + 1)}
	if err := b.build(); err != nil {
		return nil, fmt.Errorf("policy zone %s: %w", name, err)
	}
	z := &Zone{name: name, ttl: math.MaxUint32, nodes: b.out, left: b.left, leftAll: b.leftAll}
	for _, l := range lists {
		z.ttl = min(z.ttl, l.List.AnswerTTL)
	}
	z.digest = z.sum()
	return z, nil
}

// CheckName gives a zone's name in the form that is used here: in lower case, with
// the trailing dot. A long one leaves less room for the listed names.
func CheckName(name string) (string, error) {
	const longest = 64
	canonical := dns.CanonicalName(name)
	if _, ok := dns.IsDomainName(name); !ok || canonical == "." || len(canonical) > longest || strings.ContainsAny(canonical, "\\*\"();@$ \t") {
		return "", fmt.Errorf("zone %q: use a name of at most %d characters of letters, digits, hyphens and dots, or leave it out for one that says nothing", name, longest)
	}
	return canonical, nil
}

// sum is a digest of all but the serial.
func (z *Zone) sum() string {
	h := sha256.New()
	fmt.Fprintf(h, "%s %d %d\n", z.name, z.ttl, len(z.nodes.policies))
	for _, p := range z.nodes.policies {
		fmt.Fprintf(h, "%d %x %x\n", p.ttl, p.a, p.aaaa)
	}
	h.Write(z.nodes.packed)
	return hex.EncodeToString(h.Sum(nil))
}

// WithSerial is the zone under a serial.
func (z *Zone) WithSerial(serial uint32) *Zone {
	other := *z
	other.serial = serial
	return &other
}

// Name is the zone's, with a trailing dot.
func (z *Zone) Name() string { return z.name }

// Serial is that of the SOA.
func (z *Zone) Serial() uint32 { return z.serial }

// Digest is one of the content; two zones that say the same have the same, whatever
// their serials.
func (z *Zone) Digest() string { return z.digest }

// Names is the number of owner names, wildcards apart.
func (z *Zone) Names() int { return z.nodes.length }

// Records is the number of resource records between the two SOA records of a
// transfer.
func (z *Zone) Records() int { return z.nodes.records + 1 }

// LeftOut gives what the zone cannot say: the first thousand, and how many in all.
func (z *Zone) LeftOut() ([]LeftOut, int) { return z.left, z.leftAll }

// Times of the SOA, in seconds (RFC 1035 §3.3.13).
const (
	refresh = 60 // a peer that a NOTIFY did not reach asks after this
	retry   = 10
	// expire is how long a peer goes on without its primary. It is as long as BIND
	// takes: a zone that expires unblocks everything.
	expire = 24 * 7 * 24 * 3600
)

// soa is the start of authority; its names say nothing (RFC 6303 §3).
func soa(zone string, serial, ttl uint32) *dns.SOA {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:  "localhost.", Mbox: "nobody.invalid.", Serial: serial, Refresh: refresh, Retry: retry, Expire: expire, Minttl: ttl,
	}
}

// ns is the one name server that a zone has to have; nobody asks it.
func ns(zone string, ttl uint32) *dns.NS {
	return &dns.NS{Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: ttl}, Ns: "localhost."}
}

func (z *Zone) soa() *dns.SOA { return soa(z.name, z.serial, z.ttl) }

// All gives the records in the order of a full transfer (RFC 5936 §2.2): the SOA, all
// others, the SOA again.
func (z *Zone) All() iter.Seq[dns.RR] {
	return func(yield func(dns.RR) bool) {
		if !yield(z.soa()) || !yield(ns(z.name, z.ttl)) {
			return
		}
		for rr := range z.nodes.all(z.name) {
			if !yield(rr) {
				return
			}
		}
		yield(z.soa())
	}
}

// WriteTo writes the zone as a master file (RFC 1035 §5.1), a record a line, the SOA
// in the first. What it cannot say stands at the end, in comments.
func (z *Zone) WriteTo(w io.Writer) (int64, error) {
	out := counter{w: bufio.NewWriterSize(w, 64<<10)}
	soas := 0
	for rr := range z.All() {
		if rr.Header().Rrtype == dns.TypeSOA {
			if soas++; soas == 2 {
				break
			}
		}
		out.line(rr.String())
	}
	for _, l := range z.left {
		out.line(fmt.Sprintf("; left out: list %s, entry %s: %s %s", l.List, l.Entry, l.Name, l.Because))
	}
	if more := z.leftAll - len(z.left); more > 0 {
		out.line(fmt.Sprintf("; left out: %d more", more))
	}
	if out.err == nil {
		out.err = out.w.Flush()
	}
	return out.n, out.err
}

// counter writes lines until one fails.
type counter struct {
	w   *bufio.Writer
	n   int64
	err error
}

func (c *counter) line(text string) {
	if c.err != nil {
		return
	}
	n, err := c.w.WriteString(text)
	if err == nil {
		err = c.w.WriteByte('\n')
		n++
	}
	c.n += int64(n)
	c.err = err
}
