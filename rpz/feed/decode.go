package feed

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// decoder reads the records of a zone transfer, one after the other, as AXFR (RFC
// 5936 §2.2) or IXFR (RFC 1995 §4) lays them out.
type decoder struct {
	origin string
	have   *dns.SOA // the version that is here; nil: none, or only a whole zone is wanted
	// whole takes the records of a whole zone, its SOA first.
	whole func(dns.RR) error

	soa   *dns.SOA // the new version's
	at    uint32   // of an incremental transfer: the serial up to which it has come
	state decoding
	delta *delta // of an incremental transfer
}

type decoding uint8

const (
	atStart  decoding = iota
	atSecond          // behind the first SOA: what comes says of which kind it is
	inWhole
	removing
	adding
	ended
)

// errTransfer is wrapped by what is wrong with a transfer's records.
var errTransfer = errors.New("not a zone transfer")

// add takes the next record.
func (d *decoder) add(rr dns.RR) error {
	soa, isSOA := rr.(*dns.SOA)
	if isSOA && !strings.EqualFold(soa.Hdr.Name, d.origin) {
		return fmt.Errorf("%w: a SOA of %s", errTransfer, soa.Hdr.Name)
	}
	switch d.state {
	case atStart:
		if !isSOA {
			return fmt.Errorf("%w: it begins with a record of type %s", errTransfer, dns.Type(rr.Header().Rrtype))
		}
		d.soa, d.state = soa, atSecond
		return nil
	case atSecond:
		if isSOA && d.have != nil && soa.Serial == d.have.Serial && soa.Serial != d.soa.Serial {
			d.delta, d.at, d.state = newDelta(), soa.Serial, removing
			return nil
		}
		d.state = inWhole
		if err := d.whole(d.soa); err != nil {
			return err
		}
		return d.addWhole(rr, soa)
	case inWhole:
		return d.addWhole(rr, soa)
	case removing:
		if isSOA {
			d.at, d.state = soa.Serial, adding
			return nil
		}
		return d.delta.remove(rr)
	case adding:
		switch {
		case !isSOA:
			return d.delta.add(rr)
		case soa.Serial != d.at:
			return fmt.Errorf("%w: from serial %d it goes on at %d", errTransfer, d.at, soa.Serial)
		case soa.Serial == d.soa.Serial:
			d.state = ended
		default:
			d.state = removing
		}
		return nil
	}
	return fmt.Errorf("%w: records follow its end", errTransfer)
}

func (d *decoder) addWhole(rr dns.RR, soa *dns.SOA) error {
	if soa == nil {
		return d.whole(rr)
	}
	if soa.Serial != d.soa.Serial {
		return fmt.Errorf("%w: it begins with serial %d and ends with %d", errTransfer, d.soa.Serial, soa.Serial)
	}
	d.state = ended
	return nil
}

// upToDate reports whether a message that ends behind the first SOA is the whole
// answer: there is nothing newer (RFC 1995 §4).
func (d *decoder) upToDate() bool {
	return d.state == atSecond && d.have != nil && !newer(d.soa.Serial, d.have.Serial)
}

// newer compares serials (RFC 1982 §3.2).
func newer(a, b uint32) bool { return a != b && int32(a-b) > 0 }

// delta is the net change of an incremental transfer.
type delta struct {
	removed map[string]bool
	added   map[string]dns.RR
}

func newDelta() *delta { return &delta{map[string]bool{}, map[string]dns.RR{}} }

func (d *delta) remove(rr dns.RR) error {
	k, err := recordKey(rr)
	if err != nil {
		return err
	}
	if _, ours := d.added[k]; ours {
		delete(d.added, k)
	} else {
		d.removed[k] = true
	}
	return nil
}

func (d *delta) add(rr dns.RR) error {
	k, err := recordKey(rr)
	if err != nil {
		return err
	}
	d.added[k] = rr // with its TTL, which may be all that changed
	return nil
}

// recordKey is equal for records that are, their TTLs and the case of their owners
// left aside.
func recordKey(rr dns.RR) (string, error) {
	owner, err := wireName(rr.Header().Name)
	if err != nil {
		return "", err
	}
	data, err := rdata(rr)
	if err != nil {
		return "", fmt.Errorf("pack a record: %w", err)
	}
	h := rr.Header()
	return string(owner) + string([]byte{byte(h.Rrtype >> 8), byte(h.Rrtype), byte(h.Class >> 8), byte(h.Class)}) + string(data), nil
}

// errMisfit: an incremental transfer does not fit what is here.
var errMisfit = errors.New("the difference does not fit the zone that is here")

// apply gives the records of the new version: those of the old, which records
// gives, with the change made.
func (d *delta) apply(from uint32, soa *dns.SOA, records func(func(dns.RR) error) error, to func(dns.RR) error) error {
	if err := to(soa); err != nil {
		return err
	}
	removed := 0
	err := records(func(rr dns.RR) error {
		if old, ok := rr.(*dns.SOA); ok {
			if old.Serial != from {
				return fmt.Errorf("%w: it is from serial %d, and %d is here", errMisfit, from, old.Serial)
			}
			return nil
		}
		k, err := recordKey(rr)
		if err != nil {
			return err
		}
		if d.removed[k] {
			removed++
			return nil
		}
		if _, again := d.added[k]; again {
			return fmt.Errorf("%w: it adds a record that is there", errMisfit)
		}
		return to(rr)
	})
	if err != nil {
		return err
	}
	if removed != len(d.removed) {
		return fmt.Errorf("%w: %d of the records that it removes are not there", errMisfit, len(d.removed)-removed)
	}
	for _, k := range slices.Sorted(maps.Keys(d.added)) {
		if err := to(d.added[k]); err != nil {
			return err
		}
	}
	return nil
}
