package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/blocklist"
)

// TestFromTheDecisionToTheVerifiedRecord goes the whole way once: an authority
// lists a name, the resolver blocks it, both logs hold each decision, the
// official verifies them, the name is lifted and resolves again. All questions
// come from one address that nothing else has, and of which no trace may stay.
func TestFromTheDecisionToTheVerifiedRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.client = netip.MustParseAddr("127.77.1.9")
	w.initAuditor()
	national := w.found("national")

	// A first list, so that the resolver answers before the name is listed.
	measure := national.propose("images.example", "minors", "host")
	national.approve(measure, "bruno", "chloe")
	first := national.publishSigned()
	w.subscribe(national)
	r, a := w.startResolver(), w.startAuditor()
	w.startStoppage()
	r.enforces("national", first)

	w.resolvesBeforeItIsListed()
	serial := national.listsWithEverySafeguard("propagande.example")
	published := time.Now()
	r.enforces("national", serial)
	t.Logf("in force %v after the publication", time.Since(published).Round(time.Millisecond))

	want := w.isBlockedInEveryWay()
	w.resolvesWhatIsNotListed()
	w.leadsToTheStopPage(want)
	w.explainsItself(serial)

	written := w.written()
	w.sameDecisions("the block log", written.decisions, want)
	w.countsInMetrics(r, want)
	w.sealsEverything()
	o := national.official()
	o.verifies()
	o.countsDecisions()
	o.seesLists(1, 2)

	lifted := national.lift("propagande.example")
	r.enforces("national", lifted)
	w.resolvesAgain()
	w.sameDecisions("the block log after the lift", w.written().decisions, want)
	w.tellsTheListChanges(national, first, serial, lifted)

	w.talksNonsense()
	r.terminate()
	if events := w.written().events; events[len(events)-1] != "stopped {}" {
		t.Errorf("the block log ends with %s", events[len(events)-1])
	}
	w.sealsEverything()
	a.terminate()
	w.sealsEverything()
	o.verifies()
	o.countsDecisions()
	o.seesLists(1, 2, 1)
	w.leavesNoTrace(w.client)
}

// resolvesBeforeItIsListed asks for names that will be listed, and for an alias
// that leads to one, twice each, so that the answers are in the cache.
func (w *world) resolvesBeforeItIsListed() {
	w.t.Helper()
	for range 2 {
		for _, name := range []string{"www.propagande.example", "alias.libre.example", "www.vieux.libre.example"} {
			reply := w.ask(name, dns.TypeA, do)
			if got := addresses(reply); !slices.Equal(got, []string{"198.51.100.20"}) || isBlocked(reply) || !reply.AuthenticatedData {
				w.t.Fatalf("%s is to resolve before it is listed: %v", name, reply)
			}
		}
	}
}

// listsWithEverySafeguard takes a name from proposal to publication, and tries
// at each step to get by with less.
func (a *authority) listsWithEverySafeguard(name string) uint64 {
	a.t.Helper()
	says := func(got, want string) {
		a.t.Helper()
		if !strings.Contains(got, want) {
			a.t.Errorf("it was to say %q: %s", want, got)
		}
	}
	measure := a.propose(name, "terrorism", "domain")
	says(a.refuses("approve", measure, "--as", "alice"), "alice")
	a.approve(measure, "bruno")
	says(a.refuses("sign", "--key", "targets-1", measure), "1 of 2 approvals")
	a.approve(measure, "chloe")
	a.sign("targets-1")
	says(a.refuses("publish"), "1 of 2")
	a.sign("targets-3")
	var out struct{ Serial uint64 }
	if err := json.Unmarshal([]byte(a.run("publish", "--json", measure)), &out); err != nil {
		a.t.Fatal(err)
	}
	return out.Serial
}

// isBlockedInEveryWay asks for listed names in every way that a client has, and
// gives the decisions that have to be on record.
func (w *world) isBlockedInEveryWay() map[asked]uint64 {
	w.t.Helper()
	want := map[asked]uint64{}
	type question struct {
		name     string
		qtype    uint16
		category string
		ways     []way
	}
	var questions []question
	for _, qtype := range []uint16{
		dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeTXT, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeDS, dns.TypeDNSKEY, dns.TypeNS, dns.TypeSOA, dns.TypeCNAME, dns.TypeANY, 65280,
	} {
		for _, ways := range [][]way{nil, {do}, {cd}, {do, cd}, {overTCP}, {overTCP, do, cd}} {
			questions = append(questions, question{"propagande.example", qtype, "terrorism", ways})
		}
	}
	questions = append(questions, []question{
		{"PropaGande.eXample", dns.TypeA, "terrorism", nil},
		{"WWW.PROPAGANDE.EXAMPLE", dns.TypeAAAA, "terrorism", []way{overTCP}},
		{"www.propagande.example", dns.TypeA, "terrorism", nil}, // its address is in the cache
		{"www.propagande.example", dns.TypeA, "terrorism", []way{do}},
		{"absent.a.b.c.propagande.example", dns.TypeA, "terrorism", nil}, // below
		{"absent.a.b.c.propagande.example", dns.TypeTXT, "terrorism", nil},
		{"alias.libre.example", dns.TypeA, "terrorism", nil}, // a CNAME, in the cache
		{"alias.libre.example", dns.TypeA, "terrorism", []way{do}},
		{"alias.libre.example", dns.TypeAAAA, "terrorism", []way{cd}}, // not in the cache
		{"alias.libre.example", dns.TypeHTTPS, "terrorism", nil},
		{"miroir.libre.example", dns.TypeA, "terrorism", []way{overTCP}},
		{"detour.libre.example", dns.TypeA, "terrorism", nil}, // a CNAME to a CNAME
		{"vieux.libre.example", dns.TypeTXT, "", nil},         // a DNAME: what it stands for is its owner's own
		{"www.vieux.libre.example", dns.TypeA, "terrorism", nil},
		{"alias.ancien.example", dns.TypeA, "terrorism", nil}, // from a zone without signatures
		{"images.example", dns.TypeA, "minors", nil},
		{"images.example", dns.TypeAAAA, "minors", []way{do}},
		{"images.example", dns.TypeMX, "minors", nil},
		{"lien.libre.example", dns.TypeA, "minors", nil},
	}...)
	for _, q := range questions {
		reply := w.ask(q.name, q.qtype, q.ways...)
		if q.category == "" {
			if isBlocked(reply) {
				w.t.Errorf("%s is blocked", q.name)
			}
			continue
		}
		transport := "udp"
		if newAsking(q.name, q.qtype, q.ways...).tcp {
			transport = "tcp"
		}
		qtype, ok := dns.TypeToString[q.qtype]
		if !ok {
			qtype = fmt.Sprintf("TYPE%d", q.qtype)
		}
		want[asked{strings.ToLower(q.name), qtype, transport}]++
		if err := w.blocked(reply, q.category); err != nil {
			w.t.Errorf("%s %s over %s: %v", q.name, qtype, transport, err)
		}
	}

	// A client without EDNS gets the same, without the words for it.
	reply := w.ask("propagande.example", dns.TypeA, plain)
	want[asked{"propagande.example", "A", "udp"}]++
	if !slices.Equal(addresses(reply), []string{w.address.String()}) || reply.AuthenticatedData || reply.IsEdns0() != nil {
		w.t.Errorf("without EDNS it is %v", reply)
	}
	return want
}

// resolvesWhatIsNotListed asks for the neighbours of what is listed, for what is
// proven, and for what proves to be forged.
func (w *world) resolvesWhatIsNotListed() {
	w.t.Helper()
	reply := w.ask("www.libre.example", dns.TypeA, do)
	signed := slices.ContainsFunc(reply.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeRRSIG })
	if !slices.Equal(addresses(reply), []string{"192.0.2.10"}) || !reply.AuthenticatedData || !signed {
		w.t.Errorf("www.libre.example is to be proven: %v", reply)
	}
	reply = w.ask("www.libre.example", dns.TypeA)
	if !slices.Equal(addresses(reply), []string{"192.0.2.10"}) || reply.AuthenticatedData || len(reply.Answer) != 1 {
		w.t.Errorf("www.libre.example without DO: %v", reply)
	}
	// Below a name of scope host.
	if got := addresses(w.ask("www.images.example", dns.TypeA)); !slices.Equal(got, []string{"198.51.100.31"}) {
		w.t.Errorf("www.images.example is at %v", got)
	}
	// A name that ends in the same letters.
	if reply := w.ask("autrepropagande.example", dns.TypeA); reply.Rcode != dns.RcodeNameError || isBlocked(reply) {
		w.t.Errorf("autrepropagande.example: %v", reply)
	}
	reply = w.ask("casse.example", dns.TypeA)
	if _, bogus := extended(reply)[dns.ExtendedErrorCodeDNSBogus]; reply.Rcode != dns.RcodeServerFailure || !bogus || len(reply.Answer) != 0 {
		w.t.Errorf("casse.example is to be bogus: %v", reply)
	}
	reply = w.ask("casse.example", dns.TypeA, cd)
	if !slices.Equal(addresses(reply), []string{"192.0.2.50"}) || reply.AuthenticatedData {
		w.t.Errorf("casse.example with CD: %v", reply)
	}
	if reply := w.ask("casse.example", dns.TypeA); reply.Rcode != dns.RcodeServerFailure {
		w.t.Errorf("casse.example after a question with CD: %v", reply)
	}
}

// leadsToTheStopPage follows the answer as a browser would.
func (w *world) leadsToTheStopPage(want map[asked]uint64) {
	w.t.Helper()
	at := addresses(w.ask("images.example", dns.TypeA))
	want[asked{"images.example", "A", "udp"}]++
	dialer := net.Dialer{Timeout: patience, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(w.client, 0))}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	for _, visit := range []struct{ path, language, holds string }{
		{"/", "fr", "Autorité administrative de blocage"},
		{"/anything?of=theirs", "en", "Access to this site is blocked"},
		{"/minors", "en", "Child sexual abuse images"},
		{"/terrorism", "fr-FR,en;q=0.5", "Article 421-2-5 du code pénal"},
	} {
		req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://%s:%d%s", at[0], w.page.Port(), visit.path), nil)
		if err != nil {
			w.t.Fatal(err)
		}
		req.Host = "images.example"
		req.Header.Set("Accept-Language", visit.language)
		resp, err := client.Do(req)
		if err != nil {
			w.t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			w.t.Fatal(err)
		}
		if resp.StatusCode != http.StatusUnavailableForLegalReasons || !strings.Contains(string(body), visit.holds) {
			w.t.Errorf("%s in %s: %s, without %q", visit.path, visit.language, resp.Status, visit.holds)
		}
		if link := resp.Header.Get("Link"); link != `<https://isp.example/blocking>; rel="blocked-by"` {
			w.t.Errorf("Link is %s", link)
		}
	}
}

// explainsItself asks the running resolver as its operator does.
func (w *world) explainsItself(serial uint64) {
	w.t.Helper()
	config := w.path("resolver/resolver.yaml")
	for _, command := range []struct {
		args  []string
		holds []string
	}{
		{[]string{"status"}, []string{"ready", fmt.Sprintf("list national: serial %d of Office national, 2 entries", serial)}},
		{[]string{"why", "a.b.propagande.example"}, []string{"enforced by list national", "propagande.example (scope domain), category terrorism", "legal basis LCEN 6-1; CP 421-2-5; decision D-propagande.example"}},
		{[]string{"why", "www.libre.example"}, []string{"www.libre.example is not listed"}},
	} {
		out := w.succeeds("cordon-resolver", append(command.args, "--config", config)...)
		for _, holds := range command.holds {
			if !strings.Contains(out, holds) {
				w.t.Errorf("cordon-resolver %s does not say %q:\n%s", strings.Join(command.args, " "), holds, out)
			}
		}
	}
	lines := strings.Split(strings.TrimSpace(w.succeeds("cordon-resolver", "blocklog", "cat", w.path("resolver/blocklog"))), "\n")
	if records := w.blocklog(); len(lines) != len(records) {
		w.t.Errorf("blocklog cat prints %d lines for %d records", len(lines), len(records))
	}
	for i, line := range lines {
		var record struct{ Seq int }
		if err := json.Unmarshal([]byte(line), &record); err != nil || record.Seq != i+1 {
			w.t.Errorf("line %d of blocklog cat: %v: %s", i+1, err, line)
		}
	}
}

// countsInMetrics compares the resolver's metrics with what was asked.
func (w *world) countsInMetrics(r *resolver, want map[asked]uint64) {
	w.t.Helper()
	var decisions, asked float64
	for _, n := range want {
		asked += float64(n)
	}
	m := r.metrics()
	for series, value := range m {
		if strings.HasPrefix(series, "cordon_decisions_total{") {
			decisions += value
		}
	}
	if decisions != asked {
		w.t.Errorf("cordon_decisions_total adds up to %v, %v were blocked", decisions, asked)
	}
	for series, value := range map[string]float64{
		`cordon_list_entries{list="national"}`:                        2,
		`cordon_list_updates_total{list="national",result="applied"}`: 2,
		`cordon_list_updates_total{list="national",result="refused"}`: 0,
		`cordon_blocklog_records_total`:                               float64(len(w.blocklog())),
		`cordon_blocklog_failures_total`:                              0,
	} {
		if got, ok := m[series]; !ok || got != value {
			w.t.Errorf("%s is %v (there: %v), not %v", series, got, ok, value)
		}
	}
}

// resolvesAgain asks for what was lifted, and for what was not.
func (w *world) resolvesAgain() {
	w.t.Helper()
	for _, name := range []string{"www.propagande.example", "alias.libre.example", "www.vieux.libre.example"} {
		reply := w.ask(name, dns.TypeA, do)
		if got := addresses(reply); !slices.Equal(got, []string{"198.51.100.20"}) || isBlocked(reply) || !reply.AuthenticatedData {
			w.t.Errorf("%s is to resolve after it was lifted: %v", name, reply)
		}
	}
	if reply := w.ask("propagande.example", dns.TypeMX, do); len(reply.Answer) == 0 || reply.Answer[0].Header().Rrtype != dns.TypeMX {
		w.t.Errorf("propagande.example MX after it was lifted: %v", reply)
	}
}

// tellsTheListChanges finds in the block log which lists were in force.
func (w *world) tellsTheListChanges(a *authority, serials ...uint64) {
	w.t.Helper()
	var got []uint64
	for _, applied := range w.applied() {
		if applied.List != a.name || applied.Authority != "Office "+a.name || applied.From != blocklist.OriginFetch {
			w.t.Errorf("list.applied %v", applied)
		}
		got = append(got, applied.Serial)
	}
	if !slices.Equal(got, serials) {
		w.t.Errorf("on record are lists %v, in force were %v", got, serials)
	}
}

// talksNonsense sends what is no question, and what nobody may ask, and has the
// resolver answer a question afterwards.
func (w *world) talksNonsense() {
	w.t.Helper()
	datagram := func(b []byte) {
		w.t.Helper()
		c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(w.client, 0)), net.UDPAddrFromAddrPort(w.dns))
		if err != nil {
			w.t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(b); err != nil {
			w.t.Fatal(err)
		}
	}
	reply, err := new(dns.Msg).SetQuestion("www.libre.example.", dns.TypeA).Pack()
	if err != nil {
		w.t.Fatal(err)
	}
	reply[2] |= 0x80 // QR
	for _, b := range [][]byte{{}, {0}, []byte("GET / HTTP/1.1\r\n\r\n"), make([]byte, 12), reply, append(make([]byte, 4096), 1)} {
		datagram(b)
	}
	for _, stream := range []struct {
		to   netip.AddrPort
		says string
	}{
		{w.dns, "\xff\xff\x01\x02\x03"}, // 65535 bytes are to come
		{w.dns, "\x00\x00"},
		{w.dns, "\x00\x05hello"},
		{w.page, "\x16\x03\x01\x00\x05hello"}, // TLS
		{w.page, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"},
		{w.page, "GET / HTTP/1.1\r\nHost: images.example\r\nCookie: " + strings.Repeat("x", 1<<16)},
		{w.page, "BREW /coffee HTTP/9.9\r\n\r\n"},
	} {
		c, err := net.DialTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(w.client, 0)), net.TCPAddrFromAddrPort(stream.to))
		if err != nil {
			w.t.Fatal(err)
		}
		// The other side may hang up at any byte of it.
		_, _ = io.WriteString(c, stream.says)
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
		c.Close()
	}
	if got := addresses(w.ask("www.libre.example", dns.TypeA)); !slices.Equal(got, []string{"192.0.2.10"}) {
		w.t.Errorf("after nonsense www.libre.example is at %v", got)
	}
}
