package resolver

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"cordon/blocklog"
	"cordon/resolver/iterate"
	"cordon/resolver/transport"
)

// fed is a resolver with feeds, each a file, and a list that names
// propagande.example.
type fed struct {
	*Resolver
	t     testing.TB
	paths []string
}

const feedHead = "$ORIGIN rpz.example.\n$TTL 60\n@ SOA a. b. %d 60 60 86400 60\n"

// newFed makes feeds of the rules, the first before the others.
func newFed(t testing.TB, n *internet, feeds ...string) *fed {
	t.Helper()
	f := &fed{Resolver: newResolver(t, n), t: t}
	enforce(t, f.Resolver, 1, "propagande.example")
	if len(feeds) > 0 {
		f.with(feeds...)
	}
	return f
}

// with adds the feeds.
func (f *fed) with(feeds ...string) {
	t := f.t
	t.Helper()
	dir := t.TempDir()
	c := FeedsConfig{Store: filepath.Join(dir, "store"), Log: FeedLogConfig{Dir: filepath.Join(dir, "log")}}
	for i := range feeds {
		path := filepath.Join(dir, fmt.Sprint("feed", i, ".rpz"))
		f.paths = append(f.paths, path)
		c.Zones = append(c.Zones, FeedConfig{Name: fmt.Sprint("feed", i), Zone: "rpz.example", File: path})
		f.write(i, 1, feeds[i])
	}
	if err := c.check(""); err != nil {
		t.Fatal(err)
	}
	f.config.Feeds = c
	if err := f.openFeeds(); err != nil {
		t.Fatal(err)
	}
	f.feeds.Restore()
}

func (f *fed) write(i int, serial int, rules string) {
	f.t.Helper()
	if err := os.WriteFile(f.paths[i], fmt.Appendf(nil, feedHead+"%s\n", serial, rules), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// feedRecords gives name, type, action and rule of each decision of feeds.
func (f *fed) feedRecords() []string {
	f.t.Helper()
	all := []string{}
	for _, record := range records(f.t, f.config.Feeds.Log.Dir) {
		if d := record.Decision; d != nil {
			all = append(all, fmt.Sprintf("%s %s %s: %s %s", blocklog.NameText(d.Name), blocklog.TypeText(d.Type), d.Action, d.Matches[0].List, d.Matches[0].Entry))
		}
	}
	return all
}

func (f *fed) ask(name string, typ uint16) *dns.Msg {
	f.t.Helper()
	reply, _ := ask(f.t, f.Resolver, question(name, typ), client)
	if reply != nil {
		for _, code := range ede(reply) {
			if !blocked(reply) && (code == dns.ExtendedErrorCodeForgedAnswer || code == dns.ExtendedErrorCodeCensored) {
				f.t.Errorf("%s: extended error %d", name, code)
			}
		}
	}
	return reply
}

func byFeed(m *dns.Msg) bool { return slices.Contains(ede(m), dns.ExtendedErrorCodeBlocked) }

func TestEachActionOfAFeedGetsItsAnswer(t *testing.T) {
	n := newInternet(t, "pass.example. 60 IN A 192.0.2.10", "tcp.example. 60 IN A 192.0.2.10", "garden.example. 600 IN A 192.0.2.20",
		"www.walled.example. 60 IN A 192.0.2.21", "free.example. 60 IN A 192.0.2.10")
	f := newFed(t, n, `
nx.example CNAME .
nodata.example CNAME *.
pass.example CNAME rpz-passthru.
drop.example CNAME rpz-drop.
tcp.example CNAME rpz-tcp-only.
alias.example 3600 CNAME garden.example.
www CNAME *.walled.example.
gone.example CNAME nothing.example.
data.example 3600 A 192.0.2.30
data.example A 192.0.2.31
data.example MX 10 mail.example.
data.example TXT "walled"
`)
	for _, do := range []bool{false, true} {
		m := question("nx.example.", dns.TypeA)
		m.IsEdns0().SetDo(do)
		m.AuthenticatedData = true
		reply, waited := ask(t, f.Resolver, m, client)
		if waited || reply.Rcode != dns.RcodeNameError || len(reply.Answer) != 0 || reply.AuthenticatedData || !byFeed(reply) || len(reply.Ns) != 1 {
			t.Fatalf("NXDOMAIN, DO %v: waited %v, %v", do, waited, reply)
		}
		if soa := reply.Ns[0].(*dns.SOA); soa.Hdr.Name != "nx.example." || soa.Minttl != feedTTL || strings.Contains(reply.String(), "rpz") {
			t.Errorf("the SOA tells of the feed, or cannot be kept: %v", soa)
		}
	}
	if reply := f.ask("nodata.example.", dns.TypeA); reply.Rcode != 0 || len(reply.Answer) != 0 || len(reply.Ns) != 1 || !byFeed(reply) {
		t.Errorf("NODATA: %v", reply)
	}
	for _, name := range []string{"pass.example.", "free.example."} {
		if reply := f.ask(name, dns.TypeA); len(reply.Answer) != 1 || byFeed(reply) {
			t.Errorf("%s: %v", name, reply)
		}
	}
	if reply := f.ask("drop.example.", dns.TypeA); reply != nil {
		t.Errorf("DROP: %v", reply)
	}
	if reply := f.ask("tcp.example.", dns.TypeA); !reply.Truncated || len(reply.Answer) != 0 {
		t.Errorf("TCP-only by UDP: %v", reply)
	}
	byTCP := transport.Meta{Transport: blocklog.TCP, Peer: client.Peer}
	if reply, _ := ask(t, f.Resolver, question("tcp.example.", dns.TypeA), byTCP); len(reply.Answer) != 1 || byFeed(reply) {
		t.Errorf("TCP-only by TCP: %v", reply)
	}
	reply := f.ask("alias.example.", dns.TypeA)
	if len(reply.Answer) != 2 || reply.Answer[0].(*dns.CNAME).Target != "garden.example." || reply.Answer[1].(*dns.A).A.String() != "192.0.2.20" ||
		reply.Answer[0].Header().Ttl != feedTTL || reply.Answer[1].Header().Ttl > feedTTL || !byFeed(reply) || reply.AuthenticatedData {
		t.Errorf("an alias: %v", reply)
	}
	if reply := f.ask("www.", dns.TypeA); len(reply.Answer) != 2 || reply.Answer[0].(*dns.CNAME).Target != "www.walled.example." {
		t.Errorf("an alias below the garden: %v", reply)
	}
	if reply := f.ask("alias.example.", dns.TypeCNAME); len(reply.Answer) != 1 {
		t.Errorf("the alias itself: %v", reply)
	}
	if reply := f.ask("gone.example.", dns.TypeA); reply.Rcode != dns.RcodeNameError || len(reply.Answer) != 1 {
		t.Errorf("an alias to nothing: %v", reply)
	}
	if reply := f.ask("data.example.", dns.TypeA); len(reply.Answer) != 2 || reply.Answer[0].Header().Ttl != feedTTL || !byFeed(reply) {
		t.Errorf("addresses: %v", reply)
	}
	if reply := f.ask("data.example.", dns.TypeMX); len(reply.Answer) != 1 || reply.Answer[0].(*dns.MX).Mx != "mail.example." {
		t.Errorf("MX: %v", reply)
	}
	if reply := f.ask("data.example.", dns.TypeAAAA); reply.Rcode != 0 || len(reply.Answer) != 0 || len(reply.Ns) != 1 {
		t.Errorf("a type without records: %v", reply)
	}
	want := []string{
		"nx.example A nxdomain: feed0 nx.example", "nx.example A nxdomain: feed0 nx.example", "nodata.example A nodata: feed0 nodata.example",
		"drop.example A drop: feed0 drop.example", "tcp.example A tcp-only: feed0 tcp.example", "alias.example A local-data: feed0 alias.example",
		"www A local-data: feed0 www", "alias.example CNAME local-data: feed0 alias.example", "gone.example A local-data: feed0 gone.example",
		"data.example A local-data: feed0 data.example", "data.example MX local-data: feed0 data.example", "data.example AAAA nodata: feed0 data.example",
	}
	if got := f.feedRecords(); !slices.Equal(got, want) {
		t.Errorf("on record:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := decisions(t, f.Resolver); len(got) != 0 {
		t.Errorf("feeds are in the block log: %v", got)
	}
	if got := testutil.ToFloat64(f.feeds.log.decisions.WithLabelValues("feed0", "nxdomain")); got != 2 {
		t.Errorf("%v NXDOMAIN counted", got)
	}
}

// TestAFeedNeitherFreesNorHidesAListedName tries each action on a listed name, and on
// a name that leads to one.
func TestAFeedNeitherFreesNorHidesAListedName(t *testing.T) {
	for _, action := range []string{"CNAME .", "CNAME *.", "CNAME rpz-passthru.", "CNAME rpz-drop.", "CNAME rpz-tcp-only.", "CNAME garden.example.", "A 192.0.2.30"} {
		n := newInternet(t, "alias.example. 60 IN CNAME www.propagande.example.", "www.propagande.example. 60 IN A 192.0.2.66", "garden.example. 60 IN A 192.0.2.20")
		f := newFed(t, n, "propagande.example "+action+"\n*.propagande.example "+action+"\n32.1.0.0.127.rpz-client-ip CNAME rpz-passthru.\n32.66.2.0.192.rpz-ip CNAME rpz-passthru.")
		for _, name := range []string{"propagande.example.", "www.propagande.example.", "alias.example."} {
			reply := f.ask(name, dns.TypeA)
			if !blocked(reply) || len(reply.Answer) != 1 || reply.Answer[0].(*dns.A).A.String() != "198.51.100.80" {
				t.Errorf("%s, %s: %v", action, name, reply)
			}
		}
		if got := decisions(t, f.Resolver); len(got) != 3 {
			t.Errorf("%s: block log %v", action, got)
		}
	}
}

func TestANewVersionHoldsAtOnceForWhatIsCached(t *testing.T) {
	n := newInternet(t, "www.evil.example. 3600 IN A 192.0.2.66", "alias.example. 3600 IN CNAME www.evil.example.")
	for _, rule := range []string{"www.evil.example CNAME .", "24.0.2.0.192.rpz-ip CNAME .", "*.evil.example CNAME ."} {
		f := newFed(t, n, "other.example CNAME .")
		for _, name := range []string{"www.evil.example.", "alias.example."} {
			if reply := f.ask(name, dns.TypeA); reply.Rcode != 0 || len(reply.Answer) == 0 {
				t.Fatalf("before: %v", reply)
			}
		}
		f.write(0, 2, rule)
		f.feeds.Restore()
		for _, name := range []string{"www.evil.example.", "alias.example."} {
			reply, waited := ask(t, f.Resolver, question(name, dns.TypeA), client)
			if waited || reply.Rcode != dns.RcodeNameError || !byFeed(reply) || len(reply.Answer) != 0 {
				t.Errorf("%s, %s: waited %v, %v", rule, name, waited, reply)
			}
		}
		f.write(0, 3, "other.example CNAME .")
		f.feeds.Restore()
		if reply := f.ask("alias.example.", dns.TypeA); reply.Rcode != 0 || len(reply.Answer) != 2 {
			t.Errorf("freed again: %v", reply)
		}
	}
}

func TestTheAnswerIsLookedAtBeforeALaterFeedsQuestion(t *testing.T) {
	n := newInternet(t, "a.example. 60 IN A 192.0.2.66", "b.example. 60 IN A 203.0.113.1")
	f := newFed(t, n, "24.0.2.0.192.rpz-ip CNAME rpz-passthru.", "a.example CNAME .\nb.example CNAME .\nc.example CNAME .")
	for range 2 { // from the servers, then from the cache
		if reply := f.ask("a.example.", dns.TypeA); len(reply.Answer) != 1 {
			t.Errorf("the first feed lets its addresses pass: %v", reply)
		}
		for _, name := range []string{"b.example.", "c.example."} { // c does not exist
			if reply := f.ask(name, dns.TypeA); reply.Rcode != dns.RcodeNameError || !byFeed(reply) {
				t.Errorf("%s: %v", name, reply)
			}
		}
	}
}

// delegated is an internet whose root delegates evil.example.
type delegated struct{ *internet }

func (d delegated) Exchange(ctx context.Context, server netip.AddrPort, query *dns.Msg, stream bool) (*dns.Msg, error) {
	name := strings.ToLower(query.Question[0].Name)
	if server.Addr() != netip.MustParseAddr("192.0.2.53") || !dns.IsSubDomain("evil.example.", name) {
		return d.internet.Exchange(ctx, server, query, stream)
	}
	m := new(dns.Msg)
	m.SetReply(query)
	for _, text := range []string{"evil.example. 3600 IN NS ns1.hoster.example.", "ns1.hoster.example. 3600 IN A 192.0.2.54"} {
		rr, err := dns.NewRR(text)
		if err != nil {
			return nil, err
		}
		if rr.Header().Rrtype == dns.TypeNS {
			m.Ns = append(m.Ns, rr)
		} else {
			m.Extra = append(m.Extra, rr)
		}
	}
	return m, nil
}

func TestAServersNameTriggersForAllItsZones(t *testing.T) {
	n := newInternet(t, "www.evil.example. 3600 IN A 203.0.113.66", "alias.example. 3600 IN CNAME www.evil.example.", "other.example. 3600 IN A 203.0.113.1", "ns1.hoster.example. 3600 IN A 192.0.2.54")
	for _, rule := range []string{"ns1.hoster.example.rpz-nsdname CNAME .", "*.hoster.example.rpz-nsdname CNAME ."} {
		f := newFed(t, n, "x.example CNAME .")
		var err error
		f.iterator, err = iterate.New(iterate.Config{
			Exchange: delegated{n}, Clock: time.Now, Roots: []dns.RR{n.records["."][0], n.records["a.root."][0]},
			Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"www.evil.example.", "alias.example.", "other.example."} {
			if reply := f.ask(name, dns.TypeA); len(reply.Answer) == 0 {
				t.Fatalf("before: %v", reply)
			}
		}
		f.write(0, 2, rule) // what was cached before has no servers with it
		f.feeds.Restore()
		for range 2 {
			for _, name := range []string{"www.evil.example.", "alias.example."} {
				if reply := f.ask(name, dns.TypeA); reply.Rcode != dns.RcodeNameError || !byFeed(reply) {
					t.Errorf("%s, %s: %v", rule, name, reply)
				}
			}
			if reply := f.ask("other.example.", dns.TypeA); len(reply.Answer) != 1 || byFeed(reply) {
				t.Errorf("%s: another zone: %v", rule, reply)
			}
		}
		if got := f.feedRecords(); len(got) != 4 || !strings.Contains(got[0], "rpz-nsdname "+strings.TrimSuffix(rule, ".rpz-nsdname CNAME .")) {
			t.Errorf("on record: %v", got)
		}
	}
}

func TestTheRecordOfAClientRuleSaysNothingOfTheClient(t *testing.T) {
	f := newFed(t, newInternet(t, "www.libre.example. 60 IN A 192.0.2.10"), "32.1.0.0.127.rpz-client-ip CNAME .")
	if reply := f.ask("www.libre.example.", dns.TypeA); reply.Rcode != dns.RcodeNameError {
		t.Fatalf("reply %v", reply)
	}
	// With the rule the client is known, so the question must not be.
	if got := f.feedRecords(); len(got) != 1 || got[0] != ". None nxdomain: feed0 rpz-client-ip" {
		t.Errorf("on record: %q", got)
	}
}

func TestExemptClientsAreNotScreened(t *testing.T) {
	n := newInternet(t, "evil.example. 60 IN A 192.0.2.66", "other.example. 60 IN A 192.0.2.67", "garden.example. 60 IN A 192.0.2.20")
	f := newFed(t, n, "evil.example CNAME .\n32.66.2.0.192.rpz-ip CNAME .\nalias.example CNAME garden.example.")
	f.exempt = &exemption{networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")}}
	agent := transport.Meta{Transport: blocklog.UDP, Peer: netip.MustParseAddrPort("127.0.0.9:4000")}
	for range 2 {
		if reply, _ := ask(t, f.Resolver, question("evil.example.", dns.TypeA), agent); len(reply.Answer) != 1 {
			t.Errorf("an agent: %v", reply)
		}
		if reply := f.ask("evil.example.", dns.TypeA); reply.Rcode != dns.RcodeNameError {
			t.Errorf("anyone else: %v", reply)
		}
	}
	// Nor by what a worker's session remembers of others.
	f.ask("alias.example.", dns.TypeA)
	if reply, _ := ask(t, f.Resolver, question("other.example.", dns.TypeA), agent); len(reply.Answer) != 1 || reply.Answer[0].(*dns.A).A.String() != "192.0.2.67" {
		t.Errorf("an agent after an alias: %v", reply)
	}
	if got := f.feedRecords(); len(got) != 3 {
		t.Errorf("on record: %v", got)
	}
}

// TestTroubleWithTheFeedsLogTouchesNoListedName closes the feeds' journal, which then
// fails as nothing else can.
func TestTroubleWithTheFeedsLogTouchesNoListedName(t *testing.T) {
	f := newFed(t, newInternet(t, "www.libre.example. 60 IN A 192.0.2.10"), "evil.example CNAME .")
	if err := f.feeds.log.journal.Close(); err != nil {
		t.Fatal(err)
	}
	if reply := f.ask("evil.example.", dns.TypeA); reply.Rcode != dns.RcodeServerFailure {
		t.Errorf("unrecorded: %v", reply)
	}
	if reply := f.ask("propagande.example.", dns.TypeA); !blocked(reply) {
		t.Errorf("a listed name: %v", reply)
	}
	if reply := f.ask("www.libre.example.", dns.TypeA); len(reply.Answer) != 1 {
		t.Errorf("any other: %v", reply)
	}
}

func TestAPrimarysNotifyIsAnsweredAndNobodyElses(t *testing.T) {
	f := newFed(t, newInternet(t), "evil.example CNAME .")
	notify := new(dns.Msg)
	notify.SetNotify("rpz.example.")
	if reply, _ := ask(t, f.Resolver, notify, client); reply.Rcode != dns.RcodeNotImplemented {
		t.Errorf("of a file: %v", reply)
	}
}

func TestACachedAnswerIsScreenedWithoutAllocating(t *testing.T) {
	f := newFed(t, newInternet(t, "www.libre.example. 86400 IN A 203.0.113.10"), "*.evil.example CNAME .\n24.0.2.0.192.rpz-ip CNAME .\nns.evil.example.rpz-nsdname CNAME .")
	f.ask("www.libre.example.", dns.TypeA)
	s := f.Session()
	packet, err := question("www.libre.example.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, 1500)
	if n := testing.AllocsPerRun(100, func() {
		if _, verdict := s.Answer(buf, packet, client); verdict != transport.Reply {
			t.Fatalf("verdict %v", verdict)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
