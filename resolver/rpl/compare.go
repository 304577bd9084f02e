package rpl

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// compare holds a reply to a client against e, as far as MATCH says. What a
// server that keeps replies minimal leaves out is not asked for: the additional
// section, and NS records in the authority section.
func (e *Entry) compare(got *dns.Msg) error {
	m := e.Match
	all := m["all"]
	var errs []error
	check := func(wanted bool, compare func(got *dns.Msg) error) {
		if wanted || all {
			errs = append(errs, compare(got))
		}
	}
	check(m["opcode"], e.compareOpcode)
	check(m["rcode"], e.compareRcode)
	check(m["flags"], e.compareFlags)
	check(m["question"] || m["qname"] || m["qtype"], e.compareQuestion)
	check(m["answer"], func(got *dns.Msg) error { return e.compareSection("answer", got.Answer, e.Answer) })
	check(m["authority"], func(got *dns.Msg) error {
		return e.compareSection("authority", proofs(got.Ns), proofs(e.Authority))
	})
	if len(e.EDE) > 0 {
		errs = append(errs, e.compareEDE(got))
	}
	if m["ednsdata"] {
		errs = append(errs, e.compareOptions(got))
	}
	return errors.Join(errs...)
}

func (e *Entry) compareOpcode(got *dns.Msg) error {
	if got.Opcode != e.Opcode {
		return fmt.Errorf("opcode %s, want %s", dns.OpcodeToString[got.Opcode], dns.OpcodeToString[e.Opcode])
	}
	return nil
}

func (e *Entry) compareRcode(got *dns.Msg) error {
	if got.Rcode != e.Rcode {
		return fmt.Errorf("rcode %s, want %s", dns.RcodeToString[got.Rcode], dns.RcodeToString[e.Rcode])
	}
	return nil
}

func (e *Entry) compareFlags(got *dns.Msg) error {
	is := flags(got.Response, got.Authoritative, got.Truncated, got.RecursionDesired, got.RecursionAvailable, got.AuthenticatedData, got.CheckingDisabled)
	want := flags(e.QR, e.AA, e.TC, e.RD, e.RA, e.AD, e.CD)
	if is != want {
		return fmt.Errorf("flags %s, want %s", is, want)
	}
	return nil
}

func flags(set ...bool) string {
	var words []string
	for i, name := range []string{"QR", "AA", "TC", "RD", "RA", "AD", "CD"} {
		if set[i] {
			words = append(words, name)
		}
	}
	return strings.Join(words, " ")
}

func (e *Entry) compareQuestion(got *dns.Msg) error {
	switch {
	case e.Question == nil && len(got.Question) == 0:
		return nil
	case e.Question == nil || len(got.Question) != 1:
		return fmt.Errorf("%d questions, want another number", len(got.Question))
	}
	q := got.Question[0]
	if !strings.EqualFold(q.Name, e.Question.Name) || q.Qtype != e.Question.Qtype || q.Qclass != e.Question.Qclass {
		return fmt.Errorf("question %s, want %s", describe(q), describe(*e.Question))
	}
	return nil
}

// compareSection compares records as sets: the order is free, and TTLs count
// only where MATCH says ttl.
func (e *Entry) compareSection(section string, got, want []dns.RR) error {
	missing, extra := e.difference(want, got), e.difference(got, want)
	if len(missing)+len(extra) == 0 {
		return nil
	}
	var b strings.Builder
	for _, rr := range missing {
		fmt.Fprintf(&b, "\n  missing: %s", rr)
	}
	for _, rr := range extra {
		fmt.Fprintf(&b, "\n  too much: %s", rr)
	}
	return fmt.Errorf("%s section:%s", section, &b)
}

// difference is what is in a and not in b.
func (e *Entry) difference(a, b []dns.RR) []dns.RR {
	var rest []dns.RR
	for _, rr := range a {
		same := func(other dns.RR) bool {
			return dns.IsDuplicate(rr, other) && (!e.Match["ttl"] || rr.Header().Ttl == other.Header().Ttl)
		}
		if !slices.ContainsFunc(b, same) {
			rest = append(rest, rr)
		}
	}
	return rest
}

// proofs leaves NS sets and their signatures out of an authority section.
func proofs(section []dns.RR) []dns.RR {
	var kept []dns.RR
	for _, rr := range section {
		sig, signed := rr.(*dns.RRSIG)
		if rr.Header().Rrtype == dns.TypeNS || signed && sig.TypeCovered == dns.TypeNS {
			continue
		}
		kept = append(kept, rr)
	}
	return kept
}

// compareEDE wants each of the extended errors (RFC 8914).
func (e *Entry) compareEDE(got *dns.Msg) error {
	var have []uint16
	if opt := got.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if ede, ok := o.(*dns.EDNS0_EDE); ok {
				have = append(have, ede.InfoCode)
			}
		}
	}
	for _, code := range e.EDE {
		if !slices.Contains(have, code) {
			return fmt.Errorf("extended errors %v, want %v", have, e.EDE)
		}
	}
	return nil
}

// compareOptions wants exactly the EDNS options of e.
func (e *Entry) compareOptions(got *dns.Msg) error {
	opt := got.IsEdns0()
	if opt == nil {
		return errors.New("no EDNS")
	}
	if len(opt.Option) != len(e.Options) {
		return fmt.Errorf("%d EDNS options, want %d", len(opt.Option), len(e.Options))
	}
	for i, o := range opt.Option {
		if o.Option() != e.Options[i].Option() || o.String() != e.Options[i].String() {
			return fmt.Errorf("EDNS option %d %s, want %d %s", o.Option(), o, e.Options[i].Option(), e.Options[i])
		}
	}
	return nil
}
