package iterate

import (
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/cookie"
)

// DNS cookies as a client (RFC 7873 §5.3, RFC 9018): each server has a client
// cookie of its own, at random, so that what one has seen is of no use to another
// or to a forger. What the server adds to it is sent back, and from then on a
// reply by UDP without the cookie is not believed: the Exchange sees to it.

// cookies is what is known of a server's cookies. Both parts are in hexadecimal,
// as miekg/dns has them.
type cookies struct {
	client string    // "" before the first query
	made   time.Time // when client was
	server string    // as it was given last; "" before
	given  time.Time // when server was
	// Queries have none until then, since the server does not understand them.
	offUntil time.Time
}

const (
	// cookieAge is after how long a client cookie is made anew (RFC 7873 §7.1
	// wants 36 days at most).
	cookieAge = 24 * time.Hour
	// A server's cookie is good for an hour (RFC 9018 §4.3). One that has not given
	// any for so long need not do so any more.
	serverCookieAge = time.Hour
)

// Lengths of a cookie's parts in hexadecimal digits (RFC 7873 §4).
const (
	clientCookieLen    = cookie.ClientDigits
	minServerCookieLen = 2 * 8
	maxServerCookieLen = 2 * 32
)

// fresh is the server's part, if it is good still.
func (c *cookies) fresh(now time.Time) string {
	if now.Sub(c.given) >= serverCookieAge {
		return ""
	}
	return c.server
}

// sendsCookie says whether a query to addr shall have a cookie. One that was not
// answered may have been dropped for it (RFC 7873 §5.5), unless the server is
// known to give cookies.
func (s *servers) sendsCookie(addr netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.by[addr]
	now := s.clock()
	return !ok || st.cookie.fresh(now) != "" || st.failures == 0 && !now.Before(st.cookie.offUntil)
}

// cookieFor is the cookie to send to addr.
func (s *servers) cookieFor(addr netip.Addr) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.state(addr).cookie
	now := s.clock()
	if c.client == "" || now.Sub(c.made) >= cookieAge {
		var random [clientCookieLen / 2]byte
		_, _ = rand.Read(random[:]) // never fails
		// The server's part goes on being sent: it may not be good any more, but it
		// says that a cookie is awaited.
		c.client, c.made = hex.EncodeToString(random[:]), now
	}
	return c.client + c.fresh(now)
}

// learnCookie keeps what addr gave in reply to a query with the cookie sent. By
// TCP, which nobody forges from afar, it may also show that it gives none any more.
func (s *servers) learnCookie(addr netip.Addr, sent string, msg *dns.Msg, stream bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.state(addr).cookie
	got := cookie.In(msg)
	switch given := len(got) - clientCookieLen; {
	case got == "" && stream:
		c.server = ""
	case given >= minServerCookieLen && given <= maxServerCookieLen && got[:clientCookieLen] == sent[:clientCookieLen]:
		c.server, c.given = got[clientCookieLen:], s.clock()
	}
}

// mayDropCookie says whether addr can be believed not to understand cookies.
func (s *servers) mayDropCookie(addr netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.by[addr]
	return !ok || st.cookie.fresh(s.clock()) == ""
}

// dropCookie leaves cookies out of queries to addr for a while.
func (s *servers) dropCookie(addr netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state(addr).cookie.offUntil = s.clock().Add(plainTime)
}
