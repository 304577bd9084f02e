package main

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// explanation is a choice that an RFC leaves to the resolver, or makes and the
// other program does not follow.
type explanation struct {
	choice string // with the RFC
	covers func(d difference) bool
}

// verdict is the choice that explains a difference, "" where there is none.
func verdict(d difference) string {
	for _, e := range explained {
		if e.covers(d) {
			return e.choice
		}
	}
	return ""
}

// explained are the choices. Each covers one shape of difference and no more:
// what is not in it stays compared.
var explained = []explanation{
	{
		"With CD nothing is validated, and so nothing is called authentic (RFC 4035 section 3.2.3); the others say what they happen to have in their caches.",
		func(d difference) bool {
			theirs := d.theirs
			theirs.ad = false
			return d.question.cd && !d.ours.ad && d.theirs.ad && theirs.equal(d.ours)
		},
	},
	{
		"With CD the asker gets what is there, though it does not verify (RFC 4035 section 3.2.2); Unbound answers SERVFAIL where it has validated that before.",
		func(d difference) bool {
			return d.peer == "unbound" && d.question.cd && d.theirs.rcode == dns.RcodeServerFailure &&
				!d.ours.silent && !d.ours.ad && d.ours.rcode != dns.RcodeServerFailure && leadsToFault(d)
		},
	},
	{
		"With DO the signatures come along (RFC 4035 section 3.2.1); with CD Unbound answers from what a referral brought, without them.",
		func(d difference) bool {
			missing := slices.DeleteFunc(slices.Clone(d.ours.records), func(r string) bool { return slices.Contains(d.theirs.records, r) })
			return d.peer == "unbound" && d.question.do && d.question.cd && d.ours.rcode == d.theirs.rcode && !d.ours.ad && !d.theirs.ad &&
				subset(d.theirs.records, d.ours.records) && !slices.ContainsFunc(missing, func(r string) bool { return strings.Fields(r)[3] != "RRSIG" })
		},
	},
	{
		"A denial that is validated is called authentic (RFC 4035 section 3.2.3); BIND at times leaves AD out of one that a question with CD brought. That it is authentic shows in Unbound's answer, which is compared as well.",
		func(d difference) bool {
			theirs := d.theirs
			theirs.ad = true
			return d.peer == "bind" && !d.question.cd && d.ours.ad && !d.theirs.ad && len(d.ours.records) == 0 && theirs.equal(d.ours)
		},
	},
	{
		"A loop of aliases is an error (RFC 1034 section 3.6.2), and what of it was followed is no answer: it may be shown, but AD says nothing about it.",
		func(d difference) bool {
			return isLoop(d.question.name) && d.ours.rcode == dns.RcodeServerFailure && d.theirs.rcode == dns.RcodeServerFailure && !d.ours.ad
		},
	},
	{
		"An alias is followed for NSEC as for other types where the zone has no NSEC beside it (RFC 1034 section 3.6.2); BIND takes that for an error.",
		func(d difference) bool {
			return d.peer == "bind" && d.question.qtype == dns.TypeNSEC && d.theirs.fails() && d.ours.has(d.question.name, dns.TypeCNAME)
		},
	},
	{
		"A question for CNAME is answered by the alias, also by one that a DNAME or a wildcard makes, whether its target exists or not (RFC 1034 section 3.6.2, RFC 6672 section 3.1); Unbound follows it.",
		func(d difference) bool {
			return d.peer == "unbound" && d.question.qtype == dns.TypeCNAME && d.ours.rcode == dns.RcodeSuccess && d.ours.has(d.question.name, dns.TypeCNAME) &&
				(d.ours.hasAbove(d.question.name, dns.TypeDNAME) || d.theirs.rcode == dns.RcodeNameError && slices.Equal(d.theirs.records, d.ours.records))
		},
	},
	{
		"A DNAME does not answer for names below it, not even for DNAME: it is followed (RFC 6672 section 3.2). BIND answers with it or leaves it out, Unbound fails.",
		func(d difference) bool {
			if d.question.qtype != dns.TypeDNAME {
				return false
			}
			followed := d.ours.has(d.question.name, dns.TypeCNAME) && d.ours.hasAbove(d.question.name, dns.TypeDNAME)
			if d.peer == "unbound" {
				return followed && d.theirs.fails()
			}
			return d.theirs.hasAbove(d.question.name, dns.TypeDNAME) && (followed && subset(d.theirs.records, d.ours.records) || d.ours.fails() && leadsToFault(d))
		},
	},
	{
		"An alias in a zone with NSEC has an NSEC beside it (RFC 4035 section 2.5), and the question for it is not followed; Unbound follows an alias that it has in its cache.",
		func(d difference) bool {
			return d.peer == "unbound" && d.question.qtype == dns.TypeNSEC && d.ours.has(d.question.name, dns.TypeNSEC) && !d.theirs.has(d.question.name, dns.TypeNSEC)
		},
	},
	{
		"At a zone's top its own NSEC answers: only a DS is the parent's (RFC 4035 section 3.1.4.1). BIND answers with the parent's NSEC.",
		func(d difference) bool {
			return d.peer == "bind" && d.question.qtype == dns.TypeNSEC && d.theirs.isDelegation(d.question.name) && !d.ours.has(d.question.name, dns.TypeCNAME)
		},
	},
	{
		"Of an answer that does not verify nothing is shown (RFC 4035 section 5.5); Unbound shows the part of the chain that it has.",
		func(d difference) bool {
			return d.peer == "unbound" && d.ours.fails() && d.theirs.rcode == dns.RcodeServerFailure && !d.question.cd && leadsToFault(d)
		},
	},
	{
		"An answer begins with the name that was asked for (RFC 1034 section 4.3.2); Unbound gives the alias of a name above, which it met while minimising.",
		func(d difference) bool {
			return d.peer == "unbound" && d.ours.rcode == dns.RcodeNameError && d.theirs.rcode == dns.RcodeNameError &&
				len(d.ours.records) == 0 && d.theirs.hasAbove(d.question.name, dns.TypeCNAME) && !d.theirs.has(d.question.name, dns.TypeCNAME)
		},
	},
}

// faults are labels of the zones that are bogus.
var faults = []string{"broken", "broken3", "expired", "wrongds", "casse", "perime", "cledifferente"}

// leadsToFault tells whether a bogus zone is on the way to the answer.
func leadsToFault(d difference) bool {
	names := []string{d.question.name}
	for _, r := range slices.Concat(d.ours.records, d.theirs.records) {
		names = append(names, strings.Fields(r)...)
	}
	for _, name := range names {
		for _, label := range dns.SplitDomainName(strings.ToLower(name)) {
			if slices.Contains(faults, label) {
				return true
			}
		}
	}
	return false
}

// isLoop tells whether a name is one of the aliases of internet.go and of the
// sample that lead to each other.
func isLoop(name string) bool {
	labels := dns.SplitDomainName(dns.CanonicalName(name))
	return len(labels) > 0 && slices.Contains([]string{"loop", "loop2", "boucle", "boucle2"}, labels[0])
}

// fails tells whether the answer is SERVFAIL and nothing else.
func (a answer) fails() bool {
	return !a.silent && a.rcode == dns.RcodeServerFailure && len(a.records) == 0
}

// has tells whether the answer holds a record of a type at a name.
func (a answer) has(name string, rrtype uint16) bool {
	return a.holds(rrtype, func(owner string) bool { return owner == dns.CanonicalName(name) })
}

// hasAbove tells whether it holds one at a name strictly above another.
func (a answer) hasAbove(name string, rrtype uint16) bool {
	name = dns.CanonicalName(name)
	return a.holds(rrtype, func(owner string) bool { return owner != name && dns.IsSubDomain(owner, name) })
}

// isDelegation tells whether the answer is the NSEC record that a parent has of a
// delegation: one with NS and without SOA in its list of types.
func (a answer) isDelegation(name string) bool {
	return slices.ContainsFunc(a.records, func(r string) bool {
		f := strings.Fields(r)
		return f[0] == dns.CanonicalName(name) && f[3] == "NSEC" && slices.Contains(f[5:], "NS") && !slices.Contains(f[5:], "SOA")
	})
}

func subset(part, whole []string) bool {
	return !slices.ContainsFunc(part, func(s string) bool { return !slices.Contains(whole, s) })
}

func (a answer) holds(rrtype uint16, owner func(string) bool) bool {
	return slices.ContainsFunc(a.records, func(r string) bool {
		f := strings.Fields(r) // owner TTL class type data
		return f[3] == dns.TypeToString[rrtype] && owner(f[0])
	})
}
