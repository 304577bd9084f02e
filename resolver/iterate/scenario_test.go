package iterate

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
	"cordon/resolver/rpl"
)

// bare is the iterator without the resolver around it, for the scenarios.
type bare struct {
	r        *Resolver
	sabotage func(*Request)
}

func (b bare) Close() error { return nil }

func (b bare) Ask(ctx context.Context, packet []byte, _ netip.AddrPort) []byte {
	query := new(dns.Msg)
	if err := query.Unpack(packet); err != nil {
		return nil
	}
	q := Request{Question: Question{query.Question[0].Name, query.Question[0].Qtype}, CheckingDisabled: query.CheckingDisabled}
	if b.sabotage != nil {
		b.sabotage(&q)
	}
	res := b.r.Resolve(ctx, q)
	reply := new(dns.Msg).SetReply(query)
	reply.Rcode, reply.RecursionAvailable, reply.CheckingDisabled = res.Rcode, true, query.CheckingDisabled
	do := query.IsEdns0() != nil && query.IsEdns0().Do()
	reply.AuthenticatedData = res.Status == dnssec.Secure && (do || query.AuthenticatedData) && !query.CheckingDisabled
	reply.Answer, reply.Ns = res.Answer, res.Authority
	if !do {
		reply.Answer, reply.Ns = plain(res.Answer), plain(res.Authority)
	}
	reply.SetEdns0(1232, do)
	for _, e := range res.EDE {
		reply.IsEdns0().Option = append(reply.IsEdns0().Option, &dns.EDNS0_EDE{InfoCode: e.Code, ExtraText: e.Text})
	}
	raw, err := reply.Pack()
	if err != nil {
		return nil
	}
	return raw
}

func plain(rrs []dns.RR) (kept []dns.RR) {
	for _, rr := range rrs {
		switch rr.Header().Rrtype {
		case dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3:
		default:
			kept = append(kept, rr)
		}
	}
	return kept
}

// bareConfig is what of a scenario's settings the sabotage needs.
func bareConfig(set rpl.Settings, n *rpl.Network, clock func() time.Time) Config {
	c := Config{
		Exchange: n, Clock: clock, Random: func(int) int { return 0 },
		Allow:   []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
		Anchors: set.Anchors, DisableIPv6: set.NoIPv6, NoMinimisation: set.NoMinimisation, DNS64: set.DNS64,
	}
	for _, z := range set.Stubs {
		for _, a := range z.Servers {
			if z.Name == "." {
				c.Roots = append(c.Roots, &dns.NS{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeNS, Class: dns.ClassINET}, Ns: "root.invalid."}, addressRecord("root.invalid.", a))
			}
		}
	}
	return c
}

// playAll plays the scenarios of folder and counts those that pass.
func playAll(t *testing.T, folder string, config func(*Config), resolver func(*Resolver), request func(*Request)) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.rpl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenario in %s (%v)", folder, err)
	}
	passed := 0
	for _, file := range files {
		s, err := rpl.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(*testing.T) {
			stage := rpl.Stage{Settle: synctest.Wait, Now: time.Now, Build: func(set rpl.Settings, n *rpl.Network, clock func() time.Time) (rpl.Resolver, error) {
				c := bareConfig(set, n, clock)
				if config != nil {
					config(&c)
				}
				r, err := New(c)
				if err != nil {
					return nil, rpl.Unsupported(err.Error())
				}
				if resolver != nil {
					resolver(r)
				}
				return bare{r, request}, nil
			}}
			if stage.Play(s) == nil {
				passed++
			}
		})
	}
	return passed
}

// A table that looks the same whatever the resolver does would be worth nothing:
// each fault must show in our own scenarios, and in all of them together.
func TestScenariosNoticeABrokenResolver(t *testing.T) {
	type run struct {
		config   func(*Config)
		resolver func(*Resolver)
		request  func(*Request)
	}
	own := "../testdata/rpl"
	folders := []string{own}
	for _, others := range strings.Fields("../../../shared/rpl/deckard ../../../shared/rpl/unbound") {
		if _, err := os.Stat(others); err == nil {
			folders = append(folders, others)
		}
	}
	passed := func(what run) (all, ofOwn int) {
		for _, folder := range folders {
			n := playAll(t, folder, what.config, what.resolver, what.request)
			all += n
			if folder == own {
				ofOwn = n
			}
		}
		return all, ofOwn
	}
	sound, soundOwn := passed(run{})
	for name, what := range map[string]run{
		"a validator that believes everything": {config: func(c *Config) { c.Anchors = nil }},
		"no bailiwick check":                   {resolver: func(r *Resolver) { r.credulous = true }},
		"aliases that are not followed":        {request: func(q *Request) { q.Stop = func(string) bool { return true } }},
	} {
		all, ofOwn := passed(what)
		t.Logf("%s: %d of %d pass, of our own %d of %d", name, all, sound, ofOwn, soundOwn)
		if all >= sound || ofOwn >= soundOwn {
			t.Errorf("%s goes unnoticed", name)
		}
	}
}
