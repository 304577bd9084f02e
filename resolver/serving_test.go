package resolver

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"cordon/blocklog"
	"cordon/resolver/fairuse"
	"cordon/resolver/policy"
	"cordon/resolver/transport"
)

// serving is newResolver with settings of its own.
func serving(t testing.TB, n *internet, edit func(*Config)) *Resolver {
	t.Helper()
	c := Config{
		Listen:     []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		AllowFrom:  []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("192.0.2.0/24")},
		CacheBytes: 1 << 20, Workers: 10,
		Recursion: Recursion{Port: 53, CacheBytes: 1 << 20, Timeout: 5 * time.Second},
		Blocklog:  BlocklogConfig{Dir: filepath.Join(t.TempDir(), "blocklog")},
		Serving:   Serving{Limits: LimitsConfig{Idle: 10 * time.Second}},
	}
	edit(&c)
	r, err := New(c, Surroundings{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Clock: time.Now, Exchange: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	like := newResolver(t, n)
	r.iterator = like.iterator
	if r.policy, err = policy.New([]policy.List{{Name: "national", Required: true}}); err != nil {
		t.Fatal(err)
	}
	return r
}

func over(t blocklog.Transport) transport.Meta {
	return transport.Meta{Transport: t, Peer: netip.MustParseAddrPort("192.0.2.7:4000")}
}

// with adds an option to a question.
func with(m *dns.Msg, code uint16, data string) *dns.Msg {
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: code, Data: []byte(data)})
	return m
}

// option gives the data of an option of a reply.
func option(t testing.TB, m *dns.Msg, code uint16) (string, bool) {
	t.Helper()
	if m.IsEdns0() == nil {
		return "", false
	}
	for _, o := range m.IsEdns0().Option {
		if o.Option() != code {
			continue
		}
		switch o := o.(type) {
		case *dns.EDNS0_COOKIE:
			b, err := hex.DecodeString(o.Cookie)
			if err != nil {
				t.Fatal(err)
			}
			return string(b), true
		case *dns.EDNS0_NSID:
			b, _ := hex.DecodeString(o.Nsid)
			return string(b), true
		case *dns.EDNS0_TCP_KEEPALIVE:
			return time.Duration(int(o.Timeout) * 1e8).String(), true
		case *dns.EDNS0_PADDING:
			return string(o.Padding), true
		}
	}
	return "", false
}

func TestRepliesArePaddedOverEncryptedTransportsAlone(t *testing.T) {
	r := serving(t, newInternet(t, "www.libre.example. 60 IN A 192.0.2.10"), func(*Config) {})
	enforce(t, r, 1, "propagande.example")
	for _, name := range []string{"www.libre.example.", "www.libre.example.", "www.propagande.example.", "localhost.", "nothing.example."} {
		for _, tt := range []struct {
			by     blocklog.Transport
			padded bool
		}{{blocklog.UDP, false}, {blocklog.TCP, false}, {blocklog.DoT, true}, {blocklog.DoH, true}, {blocklog.DoQ, true}} {
			reply, _ := ask(t, r, with(question(name, dns.TypeA), dns.EDNS0PADDING, "\x00\x00"), over(tt.by))
			packet, err := reply.Pack()
			if err != nil {
				t.Fatal(err)
			}
			if _, padded := option(t, reply, dns.EDNS0PADDING); padded != tt.padded {
				t.Errorf("%s over %v: padded %v, %d bytes", name, tt.by, padded, len(packet))
			}
		}
	}
	plain := new(dns.Msg)
	plain.SetQuestion("www.libre.example.", dns.TypeA)
	if reply, _ := ask(t, r, plain, over(blocklog.DoT)); reply.IsEdns0() != nil {
		t.Errorf("a client without EDNS got %v", reply)
	}
}

func TestAnIdleTimeIsToldToWhoAsksOverTCPAndTLS(t *testing.T) {
	r := serving(t, newInternet(t), func(*Config) {})
	enforce(t, r, 1)
	for by, want := range map[blocklog.Transport]string{blocklog.TCP: "10s", blocklog.DoT: "10s", blocklog.UDP: "", blocklog.DoH: ""} {
		reply, _ := ask(t, r, with(question("localhost.", dns.TypeA), dns.EDNS0TCPKEEPALIVE, ""), over(by))
		if got, _ := option(t, reply, dns.EDNS0TCPKEEPALIVE); got != want {
			t.Errorf("%v: %q", by, got)
		}
	}
	reply, _ := ask(t, r, question("localhost.", dns.TypeA), over(blocklog.TCP))
	if _, told := option(t, reply, dns.EDNS0TCPKEEPALIVE); told {
		t.Error("told to who did not ask")
	}
}

func TestTheServersNameIsToldIfItIsSet(t *testing.T) {
	for _, nsid := range []string{"", "node1"} {
		r := serving(t, newInternet(t), func(c *Config) { c.NSID = nsid })
		enforce(t, r, 1)
		reply, _ := ask(t, r, with(question("localhost.", dns.TypeA), dns.EDNS0NSID, ""), client)
		if got, told := option(t, reply, dns.EDNS0NSID); got != nsid || told != (nsid != "") {
			t.Errorf("set %q, told %q", nsid, got)
		}
		if reply, _ := ask(t, r, question("localhost.", dns.TypeA), client); strings.Contains(reply.String(), "NSID") {
			t.Errorf("told to who did not ask: %v", reply)
		}
	}
}

func TestACookieIsGivenAndBindsTheClient(t *testing.T) {
	r := serving(t, newInternet(t), func(c *Config) { c.Limits.UDPReplies = 1 })
	enforce(t, r, 1)
	cookies := func(data string) *dns.Msg { return with(question("localhost.", dns.TypeA), dns.EDNS0COOKIE, data) }
	reply, _ := ask(t, r, cookies("12345678"), over(blocklog.UDP))
	given, ok := option(t, reply, dns.EDNS0COOKIE)
	if !ok || len(given) != 24 || !strings.HasPrefix(given, "12345678") || reply.Rcode != dns.RcodeSuccess {
		t.Fatalf("cookie %x, reply %v", given, reply)
	}
	for range 50 { // a client that has shown its address is not held to the rate
		if reply, _ := ask(t, r, cookies(given), over(blocklog.UDP)); reply == nil || len(reply.Answer) != 1 {
			t.Fatalf("reply %v", reply)
		}
	}
	elsewhere := over(blocklog.UDP)
	elsewhere.Peer = netip.MustParseAddrPort("192.0.2.8:1") // the same network, another address
	s := r.Session().(*session)
	for range 10 {
		s.Answer(nil, pack(t, question("localhost.", dns.TypeA)), elsewhere)
	}
	got := map[string]int{}
	for range 20 {
		raw, verdict := s.Answer(nil, pack(t, cookies(given)), elsewhere)
		if verdict == transport.Drop {
			got["nothing"]++
			continue
		}
		m := new(dns.Msg)
		if err := m.Unpack(raw); err != nil {
			t.Fatal(err)
		}
		fresh, _ := option(t, m, dns.EDNS0COOKIE)
		got[dns.RcodeToString[m.Rcode]]++
		if len(m.Answer) != 0 || len(fresh) != 24 {
			t.Errorf("reply %v", m)
		}
	}
	if got["nothing"] != 10 || got["BADCOOKIE"]+got["BADVERS"] != 10 {
		t.Errorf("a cookie of another address: %v", got)
	}
	for _, bad := range []string{"", "1234567", "123456789", strings.Repeat("x", 41)} {
		if reply, _ := ask(t, r, cookies(bad), over(blocklog.TCP)); reply.Rcode != dns.RcodeFormatError {
			t.Errorf("a cookie of %d bytes: %v", len(bad), reply)
		}
	}
}

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

func TestPastTheRateUDPGetsNothingOrAWordToComeByTCP(t *testing.T) {
	r := serving(t, newInternet(t), func(c *Config) { c.Limits.UDPReplies = 5 })
	enforce(t, r, 1, "propagande.example")
	s := r.Session()
	packet := pack(t, question("www.propagande.example.", dns.TypeA))
	got := map[string]int{}
	for range 50 {
		raw, verdict := s.Answer(nil, packet, over(blocklog.UDP))
		m := new(dns.Msg)
		switch {
		case verdict == transport.Drop:
			got["nothing"]++
		case m.Unpack(raw) != nil:
			got["broken"]++
		case m.Truncated && len(m.Answer) == 0 && len(raw) <= len(packet):
			got["truncated"]++
		default:
			got["whole"]++
		}
	}
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	if got["whole"] != 10 || got["nothing"] != 20 || got["truncated"] != 20 {
		t.Errorf("%v", got)
	}
	if _, verdict := s.Answer(nil, packet, over(blocklog.TCP)); verdict != transport.Reply {
		t.Error("TCP is held to the rate of UDP")
	}
	if _, verdict := s.Answer(nil, packet, client); verdict != transport.Reply {
		t.Error("another network is held to it")
	}
}

func TestPastTheRateOfQueriesStreamsAreRefused(t *testing.T) {
	r := serving(t, newInternet(t), func(c *Config) { c.Limits.Queries = 5 })
	enforce(t, r, 1)
	refused := 0
	for range 20 {
		if reply, _ := ask(t, r, question("localhost.", dns.TypeA), over(blocklog.DoT)); reply.Rcode == dns.RcodeRefused {
			refused++
		}
	}
	if refused != 10 {
		t.Errorf("%d refused", refused)
	}
	if reply, _ := ask(t, r, question("localhost.", dns.TypeA), over(blocklog.UDP)); reply != nil {
		t.Errorf("over UDP: %v", reply)
	}
}

// TestAFloodLeavesResolutionToTheOthers has one network ask for names that never
// come to an answer: it gets half of the places, and an honest network is served.
func TestAFloodLeavesResolutionToTheOthers(t *testing.T) {
	n := newInternet(t, "www.libre.example. 60 IN A 192.0.2.10")
	r := serving(t, n, func(*Config) {})
	enforce(t, r, 1)
	flood := over(blocklog.DoT)
	for range 5 { // half of the places
		if _, ok := r.fair.work.Begin(flood.Peer.Addr(), time.Now()); !ok {
			t.Fatal("refused while there is room")
		}
	}
	raw := r.Resolve(context.Background(), pack(t, question("www.libre.example.", dns.TypeA)), flood)
	m := new(dns.Msg)
	if err := m.Unpack(raw); err != nil || m.Rcode != dns.RcodeServerFailure {
		t.Errorf("the flood: %v %v", m, err)
	}
	if raw := r.Resolve(context.Background(), pack(t, question("www.libre.example.", dns.TypeA)), over(blocklog.UDP)); raw != nil {
		t.Errorf("the flood over UDP got %x", raw)
	}
	if reply, waited := ask(t, r, question("www.libre.example.", dns.TypeA), client); !waited || len(reply.Answer) != 1 {
		t.Errorf("the honest client: %v", reply)
	}
}

// TestAFloodOfDearQuestionsLeavesProcessorTimeToTheOthers has one network ask for new
// names, one after another, so that places are always free: past its part of the
// processor time it is refused, and an honest network is served all the while.
func TestAFloodOfDearQuestionsLeavesProcessorTimeToTheOthers(t *testing.T) {
	n := newInternet(t, "www.libre.example. 0 IN A 192.0.2.10")
	r := serving(t, n, func(*Config) {})
	enforce(t, r, 1)
	now := time.Now()
	r.clock = func() time.Time { return now } // nothing is forgotten meanwhile
	r.fair.work = fairuse.NewWork(10, 1)
	flood := over(blocklog.TCP)
	const part, left = time.Second, 100 * time.Millisecond // half of a processor over two seconds, and what is left of it
	begun, _ := r.fair.work.Begin(flood.Peer.Addr(), now)
	begun.End(now, part-left)
	served, most := 0, int(left/(priceOfAQuestion+priceOfAQuery))
	for i := range 2 * most {
		raw := r.Resolve(context.Background(), pack(t, question(fmt.Sprintf("n%d.flood.example.", i), dns.TypeA)), flood)
		m := new(dns.Msg)
		if err := m.Unpack(raw); err != nil {
			t.Fatal(err)
		}
		if m.Rcode == dns.RcodeNameError {
			served++
		}
		if i%(most/10) == 0 {
			if reply, waited := ask(t, r, question("www.libre.example.", dns.TypeA), client); !waited || len(reply.Answer) != 1 {
				t.Fatalf("the honest client, after %d questions of the flood: %v", i, reply)
			}
		}
	}
	if served == 0 || served > most {
		t.Errorf("%d questions of the flood were resolved, want at most %d", served, most)
	}
	if got := testutil.ToFloat64(r.fair.throttled.WithLabelValues("work")); got != float64(2*most-served) {
		t.Errorf("%v questions counted as held back, %d were", got, 2*most-served)
	}
}

func TestAClientThatCanReadStructuredErrorsGetsOne(t *testing.T) {
	const code = 65400
	n := newInternet(t, "alias.libre.example. 60 IN CNAME www.propagande.example.")
	r := serving(t, n, func(c *Config) { c.Policy.StructuredErrors = StructuredErrors{Option: code, Language: "fr"} })
	enforce(t, r, 1, "propagande.example")
	for _, name := range []string{"www.propagande.example.", "alias.libre.example."} {
		reply, _ := ask(t, r, with(question(name, dns.TypeA), code, ""), client)
		if codes := ede(reply); len(reply.Answer) != 0 || len(codes) != 1 || codes[0] != dns.ExtendedErrorCodeCensored {
			t.Errorf("%s: %v", name, reply)
		}
		for _, o := range reply.IsEdns0().Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok && !json.Valid([]byte(e.ExtraText)) {
				t.Errorf("%s: %q is no JSON", name, e.ExtraText)
			}
		}
	}
	reply, _ := ask(t, r, question("www.propagande.example.", dns.TypeA), client)
	if len(reply.Answer) != 1 {
		t.Errorf("a client that did not ask: %v", reply)
	}
	var actions []blocklog.Action
	for _, record := range records(t, r.config.Blocklog.Dir) {
		if record.Decision != nil {
			actions = append(actions, record.Decision.Action)
		}
	}
	if len(actions) != 3 || actions[0] != blocklog.Explained || actions[1] != blocklog.Explained || actions[2] != blocklog.StopPage {
		t.Errorf("recorded as %v", actions)
	}
	off := serving(t, n, func(*Config) {})
	enforce(t, off, 1, "propagande.example")
	if reply, _ := ask(t, off, with(question("www.propagande.example.", dns.TypeA), code, ""), client); len(reply.Answer) != 1 {
		t.Errorf("with the option off: %v", reply)
	}
}

func TestExemptQuestionsAreNeitherFilteredNorRecorded(t *testing.T) {
	n := newInternet(t,
		"alias.libre.example. 60 IN CNAME www.propagande.example.",
		"www.propagande.example. 60 IN A 192.0.2.66")
	r := serving(t, n, func(c *Config) { c.Exempt.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	agent := over(blocklog.UDP)
	if reply, _ := ask(t, r, question("www.propagande.example.", dns.TypeA), agent); reply.Rcode != dns.RcodeServerFailure {
		t.Errorf("before the first list: %v", reply)
	}
	enforce(t, r, 1, "propagande.example")
	for _, name := range []string{"www.propagande.example.", "alias.libre.example."} {
		for range 2 { // resolved, then from the cache
			reply, _ := ask(t, r, question(name, dns.TypeA), agent)
			if blocked(reply) || len(reply.Answer) == 0 || reply.Answer[len(reply.Answer)-1].(*dns.A).A.String() != "192.0.2.66" {
				t.Errorf("%s: %v", name, reply)
			}
		}
	}
	if got := decisions(t, r); len(got) != 0 {
		t.Errorf("on record: %v", got)
	}
	for _, name := range []string{"www.propagande.example.", "alias.libre.example."} {
		if reply, _ := ask(t, r, question(name, dns.TypeA), client); !blocked(reply) {
			t.Errorf("%s for another client, from a cache that the agent filled: %v", name, reply)
		}
	}
}

func TestExemptionsAreAnnouncedBeforeAnyAnswer(t *testing.T) {
	for _, exempt := range []bool{false, true} {
		r := serving(t, newInternet(t), func(c *Config) {
			if exempt {
				c.Exempt.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
			}
		})
		running(t, r)()
		got := strings.Join(events(t, r.config.Blocklog.Dir), " ")
		want := "started stopped"
		if exempt {
			want = "started exemption stopped"
		}
		if got != want {
			t.Errorf("exempt %v: events %q", exempt, got)
		}
	}
}
