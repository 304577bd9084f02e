package iterate

import (
	"context"
	"errors"
	"testing"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

// theKeys fetches the keys of a zone without judging them.
func theKeys(r *Resolver, zone string) (set dnssec.Set, err error) {
	err = r.Keys(context.Background(), zone, func(s dnssec.Set) error { set = s; return nil })
	return set, err
}

func TestKeysAreThoseThatTheServersHaveNow(t *testing.T) {
	n, example, _ := smallInternet(t, withNSEC)
	r := n.resolver()
	ask(t, r, "www.example.com. A")
	for _, zone := range []string{".", "example.com."} {
		set, err := theKeys(r, zone)
		if err != nil || len(set.RRs) != 1 || len(set.Sigs) != 1 {
			t.Errorf("%s: %v, %v", zone, set, err)
		}
	}
	before := example.key.KeyTag()
	example.newKey()
	set, err := theKeys(r, "example.com.")
	if err != nil || set.RRs[0].(*dns.DNSKEY).KeyTag() == before {
		t.Errorf("the keys of before, although they are cached alone: %v, %v", set.RRs, err)
	}
	if _, err := theKeys(r, "plain.org."); err == nil {
		t.Error("an unsigned zone has keys")
	}
}

func TestOneBadServerDoesNotHoldUpTheKeys(t *testing.T) {
	n := newInternet(t)
	n.zone(".", withNSEC, "198.41.0.4", "199.9.14.201")
	n.server("198.41.0.4").behave = func(q *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m := honest()
		if q.Question[0].Qtype == dns.TypeDNSKEY {
			m.Answer = m.Answer[:1] // without its signature
		}
		return m, nil
	}
	unsigned := errors.New("unsigned")
	take := func(s dnssec.Set) error {
		if len(s.Sigs) == 0 {
			return unsigned
		}
		return nil
	}
	r := n.resolver()
	if err := r.Keys(context.Background(), ".", take); err != nil {
		t.Errorf("of two servers one is good: %v", err)
	}
	n.server("199.9.14.201").behave = n.server("198.41.0.4").behave
	if err := n.resolver().Keys(context.Background(), ".", take); !errors.Is(err, unsigned) {
		t.Errorf("of two servers none is good: %v", err)
	}
}

// A roll of keys while the resolver runs: what the new key signs is believed as
// soon as the anchor is there, and what the old one signs no longer.
func TestAnchorsThatChangeHoldForTheNextQuestion(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	root := n.zones["."]
	r := n.resolver()
	expect(t, ask(t, r, "www.example.com. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")

	old, oldPrivate := root.key, root.priv
	root.newKey()
	if err := r.SetAnchors([]dns.RR{root.key.ToDS(dns.SHA256)}); err != nil {
		t.Fatal(err)
	}
	if res := ask(t, r, "zzz. A"); res.Rcode != dns.RcodeNameError || res.Status != dnssec.Secure {
		t.Errorf("with the new key: %s %s %v", dns.RcodeToString[res.Rcode], res.Status, res.EDE)
	}

	root.key, root.priv = old, oldPrivate
	root.remove(".", dns.TypeDNSKEY)
	root.addRR(old)
	clear(root.sigs)
	if err := r.SetAnchors(n.anchorsOfAnotherKey()); err != nil {
		t.Fatal(err)
	}
	expectFailure(t, ask(t, r, "none. A"), dns.ExtendedErrorCodeDNSKEYMissing)

	if err := r.SetAnchors([]dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "."}}}); err == nil {
		t.Error("an address is taken for an anchor")
	}
	expectFailure(t, ask(t, r, "none. MX"), dns.ExtendedErrorCodeDNSKEYMissing)

	// Without any anchor left there is nothing to validate by (RFC 5011 §5).
	if err := r.SetAnchors(nil); err != nil {
		t.Fatal(err)
	}
	if res := ask(t, r, "oaa. A"); res.Rcode != dns.RcodeNameError || res.Status != dnssec.Insecure {
		t.Errorf("without anchors: %s %s %v", dns.RcodeToString[res.Rcode], res.Status, res.EDE)
	}
}

// anchorsOfAnotherKey name a key that the root does not have.
func (n *internet) anchorsOfAnotherKey() []dns.RR {
	k := &dns.DNSKEY{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeDNSKEY, Class: 1}, Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256}
	if _, err := k.Generate(256); err != nil {
		n.t.Fatal(err)
	}
	return []dns.RR{k.ToDS(dns.SHA256)}
}
