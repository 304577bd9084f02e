package resolver

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"cordon/resolver/iterate"
	"cordon/resolver/transport"
)

// delegating is an internet in which libre.example is served by a name server
// whose own name is listed.
type delegating struct{ *internet }

const listedServer = "192.0.2.54"

func (d delegating) Exchange(ctx context.Context, server netip.AddrPort, query *dns.Msg, stream bool) (*dns.Msg, error) {
	name := strings.ToLower(query.Question[0].Name)
	if server.Addr().String() == listedServer || !dns.IsSubDomain("libre.example.", name) {
		return d.internet.Exchange(ctx, server, query, stream)
	}
	m := new(dns.Msg).SetReply(query)
	m.Ns = []dns.RR{&dns.NS{Hdr: dns.RR_Header{Name: "libre.example.", Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: 60}, Ns: "ns.propagande.example."}}
	return m, nil
}

// Unbound #1130: the list is for what clients ask and where their answers lead,
// not for how the resolver finds its servers.
func TestASiteWhoseNameServerIsListedResolves(t *testing.T) {
	n := newInternet(t, "www.libre.example. 60 IN A 192.0.2.10", "ns.propagande.example. 60 IN A "+listedServer)
	r := newResolver(t, n)
	var err error
	if r.iterator, err = iterate.New(iterate.Config{
		Exchange: delegating{n}, Clock: r.clock,
		Roots: []dns.RR{n.records["."][0], n.records["a.root."][0]},
		Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	}); err != nil {
		t.Fatal(err)
	}
	enforce(t, r, 1, "propagande.example")
	reply, _ := ask(t, r, question("www.libre.example.", dns.TypeA), client)
	if blocked(reply) || len(reply.Answer) != 1 || reply.Answer[0].(*dns.A).A.String() != "192.0.2.10" {
		t.Errorf("the site: %v", reply)
	}
	if got := decisions(t, r); len(got) != 0 {
		t.Errorf("on record: %v", got)
	}
	if n.timesAsked("ns.propagande.example.") == 0 {
		t.Error("the name server was not looked up: the test shows nothing")
	}
	if reply, _ := ask(t, r, question("ns.propagande.example.", dns.TypeA), client); !blocked(reply) {
		t.Errorf("the name server, asked for by a client: %v", reply)
	}
}

// CVE-2026-50243, from the client's side: a listed target behind an answer that
// cannot be had is no reason for an answer.
func TestAnAnswerThatFailsIsNotMadeOneByTheList(t *testing.T) {
	n := newInternet(t, "loop.libre.example. 60 IN CNAME loop.libre.example.")
	r := newResolver(t, n)
	enforce(t, r, 1, "propagande.example")
	reply, _ := ask(t, r, question("loop.libre.example.", dns.TypeA), client)
	if reply.Rcode != dns.RcodeServerFailure || blocked(reply) {
		t.Errorf("reply %v", reply)
	}
}

// RFC 9718: both keys of the root are there, so that the change of 2026 needs nobody.
func TestBothKeysOfTheRootShip(t *testing.T) {
	anchors, err := trustAnchors("")
	if err != nil {
		t.Fatal(err)
	}
	tags := map[uint16]bool{}
	for _, rr := range anchors {
		if ds, ok := rr.(*dns.DS); ok && ds.Hdr.Name == "." && ds.DigestType == dns.SHA256 {
			tags[ds.KeyTag] = true
		}
	}
	if !tags[20326] || !tags[38696] {
		t.Errorf("keys %v", tags)
	}
}

// CVE-2026-5946: an opcode, class or QR bit that is not that of a question gives
// no answer, listed name or not.
func TestNothingButAQuestionGetsAnAnswer(t *testing.T) {
	r := newResolver(t, newInternet(t, "www.libre.example. 60 IN A 192.0.2.10"))
	enforce(t, r, 1, "propagande.example")
	for _, name := range []string{"www.libre.example.", "propagande.example."} {
		for opcode := range 16 {
			for _, class := range []uint16{0, dns.ClassINET, 2, dns.ClassCHAOS, dns.ClassHESIOD, dns.ClassNONE, dns.ClassANY, 65535} {
				for _, response := range []bool{false, true} {
					if opcode == dns.OpcodeQuery && class == dns.ClassINET && !response {
						continue
					}
					m := question(name, dns.TypeA)
					m.Opcode, m.Question[0].Qclass, m.Response = opcode, class, response
					reply, waited := askRaw(t, r, m)
					switch {
					case waited:
						t.Errorf("opcode %d, class %d, QR %v, of %s: resolved", opcode, class, response, name)
					case response && reply != nil:
						t.Errorf("opcode %d, class %d: a reply to a reply", opcode, class)
					case !response && (reply == nil || len(reply.Answer) > 0 || reply.Rcode != dns.RcodeRefused && reply.Rcode != dns.RcodeNotImplemented):
						t.Errorf("opcode %d, class %d of %s: %v", opcode, class, name, reply)
					}
				}
			}
		}
	}
}

// askRaw is ask, which does not resolve.
func askRaw(t *testing.T, r *Resolver, m *dns.Msg) (reply *dns.Msg, waits bool) {
	t.Helper()
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	raw, verdict := r.Session().Answer(nil, packet, client)
	if verdict != transport.Reply {
		return nil, verdict == transport.Later
	}
	reply = new(dns.Msg)
	if err := reply.Unpack(raw); err != nil {
		t.Fatal(err)
	}
	return reply, false
}
