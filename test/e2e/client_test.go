package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// way is how a question is asked.
type way func(*asking)

type asking struct {
	query *dns.Msg
	tcp   bool
	from  netip.Addr
}

func do(a *asking)      { a.query.IsEdns0().SetDo() }
func cd(a *asking)      { a.query.CheckingDisabled = true }
func overTCP(a *asking) { a.tcp = true }

// plain asks without EDNS (RFC 6891), as old clients do.
func plain(a *asking) { a.query.Extra = nil }

// from asks from an address that the client binds to.
func from(addr netip.Addr) way { return func(a *asking) { a.from = addr } }

// ask puts a question to the resolver, with EDNS, over UDP where nothing else
// is said, and again as clients do where no answer comes.
func (w *world) ask(name string, qtype uint16, ways ...way) *dns.Msg {
	w.t.Helper()
	a := newAsking(name, qtype, append([]way{from(w.client)}, ways...)...)
	var last error
	for range 5 {
		reply, err := a.exchange(w.dns, 10*time.Second)
		if err == nil {
			return reply
		}
		last = err
	}
	w.t.Fatalf("%s %s: %v", name, dns.TypeToString[qtype], last)
	return nil
}

func newAsking(name string, qtype uint16, ways ...way) *asking {
	a := &asking{query: new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)}
	a.query.SetEdns0(1232, false)
	for _, w := range ways {
		w(a)
	}
	return a
}

// exchange sends the question once and waits for its answer.
func (a *asking) exchange(server netip.AddrPort, timeout time.Duration) (*dns.Msg, error) {
	c := dns.Client{Net: "udp", Timeout: timeout}
	dialer := net.Dialer{Timeout: timeout}
	switch {
	case a.tcp && a.from.IsValid():
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.from, 0))
	case a.from.IsValid():
		dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.from, 0))
	}
	if a.tcp {
		c.Net = "tcp"
	}
	c.Dialer = &dialer
	reply, _, err := c.Exchange(a.query, server.String())
	if err != nil {
		return nil, err
	}
	if !slices.Equal(reply.Question, a.query.Question) {
		return nil, fmt.Errorf("the answer is to the question %v", reply.Question)
	}
	return reply, nil
}

// extended gives the extended errors of a reply (RFC 8914), code and text.
func extended(reply *dns.Msg) map[uint16]string {
	all := map[uint16]string{}
	if opt := reply.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				all[e.InfoCode] = e.ExtraText
			}
		}
	}
	return all
}

// addresses gives those of the answer section, whoever owns them.
func addresses(reply *dns.Msg) (all []string) {
	for _, rr := range reply.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			all = append(all, rr.A.String())
		case *dns.AAAA:
			all = append(all, rr.AAAA.String())
		}
	}
	return all
}

// isBlocked tells whether a reply is that of a listed name: EDE 16 says so.
func isBlocked(reply *dns.Msg) bool {
	_, censored := extended(reply)[dns.ExtendedErrorCodeCensored]
	return censored
}

// blocked checks that a reply is the whole of what a listed name of a category
// gets: the stop page's address for A and AAAA where it has one, else NODATA
// with a SOA; extended errors; nothing that claims to be proven.
func (w *world) blocked(reply *dns.Msg, category string) error {
	q := reply.Question[0]
	want := map[uint16]string{dns.TypeA: w.address.String(), dns.TypeAAAA: ipv6Page}[q.Qtype]
	if category == "minors" && q.Qtype == dns.TypeAAAA {
		want = "" // found gives it no IPv6 address
	}
	errs := extended(reply)
	forged, isForged := errs[dns.ExtendedErrorCodeForgedAnswer]
	switch {
	case reply.Rcode != dns.RcodeSuccess:
		return fmt.Errorf("the rcode is %s", dns.RcodeToString[reply.Rcode])
	case reply.AuthenticatedData:
		return errors.New("AD is set")
	case errs[dns.ExtendedErrorCodeCensored] != w.pageOf(category):
		return fmt.Errorf("extended errors are %v; 16 with the page %s was to be there", errs, w.pageOf(category))
	case want != "" && (!isForged || forged != ""):
		return fmt.Errorf("extended errors are %v; 4 was to be there, without text", errs)
	case want == "" && isForged:
		return errors.New("extended error 4 without forged data")
	}
	for _, rr := range slices.Concat(reply.Answer, reply.Ns, reply.Extra) {
		if rr.Header().Rrtype == dns.TypeRRSIG || rr.Header().Rrtype == dns.TypeCNAME {
			return fmt.Errorf("there is %v", rr)
		}
	}
	if want == "" {
		if len(reply.Answer) != 0 || len(reply.Ns) != 1 || reply.Ns[0].Header().Rrtype != dns.TypeSOA || reply.Ns[0].Header().Ttl != 60 {
			return fmt.Errorf("it is not NODATA with one SOA of TTL 60: %v", reply)
		}
		return nil
	}
	if len(reply.Answer) != 1 || !slices.Equal(addresses(reply), []string{want}) || reply.Answer[0].Header().Ttl != 60 {
		return fmt.Errorf("the answer is not %s alone, TTL 60: %v", want, reply.Answer)
	}
	if owner := reply.Answer[0].Header().Name; owner != q.Name {
		return fmt.Errorf("the answer's owner is %s", owner)
	}
	return nil
}

// metrics are the series of a scrape by their name and labels as Prometheus
// writes them, labels sorted: `cordon_list_serial{list="national"}`.
type metrics map[string]float64

// scrape reads the metrics of a program.
func scrape(t *testing.T, at netip.AddrPort) metrics {
	t.Helper()
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get("http://" + at.String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	m := metrics{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if line := lines.Text(); line != "" && !strings.HasPrefix(line, "#") {
			cut := strings.LastIndexByte(line, ' ')
			value, err := strconv.ParseFloat(line[cut+1:], 64)
			if err != nil {
				t.Fatalf("metrics: %q: %v", line, err)
			}
			m[line[:cut]] = value
		}
	}
	if err := lines.Err(); err != nil || resp.StatusCode != http.StatusOK || len(m) == 0 {
		t.Fatalf("metrics: %s, %v", resp.Status, err)
	}
	return m
}

// atLeast tells whether a series has come to a value.
func atLeast(m metrics, series string, value float64) error {
	if got, ok := m[series]; !ok || got < value {
		return fmt.Errorf("%s is %v (there: %v)", series, got, ok)
	}
	return nil
}
