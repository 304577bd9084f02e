package iterate

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/cookie"
	"cordon/resolver/dnssec"
)

// cookieServer gives cookies, and wants them. Its own part is always of 16 digits.
type cookieServer struct {
	own   string   // what it gives now
	got   []string // the cookies of queries, with "tcp " before those by TCP
	wants bool     // answers BADCOOKIE to whoever has not the right one
}

func (c *cookieServer) behave(q *dns.Msg, stream bool, honest func() *dns.Msg) (*dns.Msg, error) {
	cookie := cookie.In(q)
	way := ""
	if stream {
		way = "tcp "
	}
	c.got = append(c.got, way+cookie)
	m := honest()
	if c.wants && (cookie == "" || cookie[clientCookieLen:] != c.own) {
		m = new(dns.Msg).SetReply(q)
		m.SetEdns0(1232, true)
		m.Rcode = dns.RcodeBadCookie
	}
	if opt := m.IsEdns0(); cookie != "" && c.own != "" {
		opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie[:clientCookieLen] + c.own})
	}
	return m, nil
}

// asked are the cookies of the queries since it was last called.
func (c *cookieServer) asked() []string {
	got := c.got
	c.got = nil
	return got
}

// withCookies is the small internet, of which plain.org. gives cookies, and ask
// a function that resolves a new name of it each time.
func withCookies(t *testing.T, s *cookieServer) (n *internet, r *Resolver, next func() *Result) {
	n, _, plain := smallInternet(t, withNSEC)
	n.server(otherAddr).behave = s.behave
	r, i := n.resolver(), 0
	return n, r, func() *Result {
		i++
		plain.add(fmt.Sprintf("w%d A 203.0.113.81", i))
		return ask(t, r, fmt.Sprintf("w%d.plain.org. A", i))
	}
}

func TestACookieIsLearnedAndSentBack(t *testing.T) {
	s := &cookieServer{own: "0123456789abcdef"}
	n, r, next := withCookies(t, s)
	answered := func() []string {
		t.Helper()
		expect(t, next(), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.81")
		return s.asked()
	}
	first := answered()
	if len(first[0]) != clientCookieLen {
		t.Fatalf("the first query has the cookie %q", first[0])
	}
	client := first[0]
	s.own = "fedcba9876543210" // from the next reply on
	if got := answered(); len(got) != 1 || got[0] != client+"0123456789abcdef" {
		t.Errorf("sent back %q", got)
	}
	if got := answered(); got[0] != client+"fedcba9876543210" {
		t.Errorf("a new one is not taken: %q", got)
	}
	if other := r.servers.cookieFor(netip.MustParseAddr(exampleAddr)); other[:clientCookieLen] == client {
		t.Error("two servers see the same client cookie")
	}
	for range 24 { // it is renewed while in use
		n.pass(time.Hour - time.Minute)
		answered()
	}
	n.pass(time.Hour - time.Minute)
	if got := answered(); strings.HasPrefix(got[0], client) || len(got[0]) != 2*clientCookieLen {
		t.Errorf("after a day: %q, it was %q", got, client)
	}
	n.pass(serverCookieAge)
	if got := answered(); len(got[0]) != clientCookieLen {
		t.Errorf("an old server cookie was sent: %q", got)
	}
}

func TestABadCookieCostsOneMoreQueryAndThenTCP(t *testing.T) {
	s := &cookieServer{own: "0123456789abcdef", wants: true}
	_, _, next := withCookies(t, s)
	expect(t, next(), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.81")
	if got := s.asked(); len(got) < 2 || !strings.HasSuffix(got[1], s.own) {
		t.Errorf("asked with %q", got)
	}
	s.own = "fedcba9876543210" // forgets what it gave
	expect(t, next(), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.81")
	if got := s.asked(); len(got) != 2 || !strings.HasSuffix(got[0], "0123456789abcdef") || !strings.HasSuffix(got[1], s.own) {
		t.Errorf("asked with %q", got)
	}
	// One that never has enough is asked by TCP, and given up for this question.
	s.own = ""
	expectFailure(t, next(), dns.ExtendedErrorCodeNetworkError)
	got := s.asked()
	if len(got) < 3 || strings.HasPrefix(got[1], "tcp ") || !strings.HasPrefix(got[2], "tcp ") || len(got) > 3*maxTries {
		t.Errorf("asked with %q", got)
	}
}

func TestAServerThatDoesNotUnderstandCookiesIsAskedWithout(t *testing.T) {
	old := func(chokes func(q *dns.Msg) (*dns.Msg, error)) func(*dns.Msg, bool, func() *dns.Msg) (*dns.Msg, error) {
		return func(q *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
			if cookie.In(q) == "" {
				return honest(), nil
			}
			return chokes(q)
		}
	}
	for name, chokes := range map[string]func(q *dns.Msg) (*dns.Msg, error){
		"silent": func(*dns.Msg) (*dns.Msg, error) { return nil, errSilence },
		"FORMERR": func(q *dns.Msg) (*dns.Msg, error) {
			m := new(dns.Msg).SetReply(q)
			m.Rcode = dns.RcodeFormatError
			return m, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			n, example, _ := smallInternet(t, withNSEC)
			example.add("w2 A 192.0.2.81", "w3 A 192.0.2.82")
			n.server(exampleAddr).behave = old(chokes)
			r := n.resolver()
			expect(t, ask(t, r, "www.example.com. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
			n.queries()
			expect(t, ask(t, r, "w2.example.com. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.81")
			if q := n.queries(); len(q) != 1 || !q[0].edns {
				t.Errorf("not remembered: %v", q)
			}
			n.pass(plainTime)
			if !r.servers.sendsCookie(netip.MustParseAddr(exampleAddr)) {
				t.Error("never tried again")
			}
		})
	}

	// One that has given cookies is believed no such thing.
	s := &cookieServer{own: "0123456789abcdef"}
	n, _, next := withCookies(t, s)
	next()
	n.server(otherAddr).behave = func(q *dns.Msg, stream bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m, err := s.behave(q, stream, honest)
		m.Rcode = dns.RcodeFormatError
		return m, err
	}
	s.asked()
	expectFailure(t, next(), dns.ExtendedErrorCodeNetworkError)
	for _, cookie := range s.asked() {
		if len(cookie) != 2*clientCookieLen {
			t.Errorf("asked with the cookie %q", cookie)
		}
	}
}

func TestAServerThatGivesNoCookiesAnyMoreIsAskedByTCPOnce(t *testing.T) {
	s := &cookieServer{own: "0123456789abcdef"}
	n, _, next := withCookies(t, s)
	next()
	s.asked()
	s.own = ""
	n.server(otherAddr).behave = func(q *dns.Msg, stream bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m, err := s.behave(q, stream, honest)
		if !stream && len(cookie.In(q)) > clientCookieLen { // as the Exchange has it
			return nil, doubtful{errors.New("no cookie"), false}
		}
		return m, err
	}
	expect(t, next(), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.81")
	if got := s.asked(); len(got) != 2 || !strings.HasPrefix(got[1], "tcp ") {
		t.Errorf("asked with %q", got)
	}
	expect(t, next(), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.81")
	if got := s.asked(); len(got) != 1 || len(got[0]) != clientCookieLen {
		t.Errorf("then asked with %q", got)
	}
}

func TestACookieForAnotherQueryIsNotLearned(t *testing.T) {
	n := newInternet(t)
	s, a := newServers(n.clock), netip.MustParseAddr(exampleAddr)
	sent := s.cookieFor(a)
	for name, got := range map[string]string{
		"another client's":    "0000000000000000" + "0123456789abcdef",
		"no server's part":    sent,
		"too short":           sent + "0123456789abcd",
		"too long":            sent + strings.Repeat("0", maxServerCookieLen+2),
		"shorter than ours":   sent[:6],
		"not there, and none": "",
	} {
		m := new(dns.Msg)
		m.SetEdns0(1232, true)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: got}}
		s.learnCookie(a, sent, m, false)
		if now := s.cookieFor(a); now != sent {
			t.Errorf("%s: sends %q, it was %q", name, now, sent)
		}
	}
}
