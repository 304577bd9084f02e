package iterate

import (
	"net/netip"
	"sync"
	"time"
)

// servers is what is known of name servers by address: how fast they answer,
// whether they do, whether they understand EDNS, and their cookies. Bounded in
// number.
type servers struct {
	clock func() time.Time

	mu   sync.Mutex
	by   map[netip.Addr]*server // guarded by mu
	lame map[lameness]time.Time // guarded by mu; until when
}

type server struct {
	srtt, variance time.Duration // smoothed as TCP does it (RFC 6298 §2)
	failures       int           // time-outs in a row
	until          time.Time     // backed off until then
	spokeEDNS      bool          // has answered with an OPT record
	plainUntil     time.Time     // to be asked without EDNS until then
	streamUntil    time.Time     // alters the case of names, so is asked by TCP until then
	cookie         cookies
}

// lameness is of a server for a zone: it may be good for others.
type lameness struct {
	addr netip.Addr
	zone string
}

const (
	maxServers  = 20_000 // some 400 bytes each, with cookies
	lameTime    = time.Minute
	plainTime   = 15 * time.Minute
	streamTime  = 15 * time.Minute
	unknownRTT  = 80 * time.Millisecond // below what a far server shows, so that new ones are tried
	minTimeout  = 250 * time.Millisecond
	maxTimeout  = 3 * time.Second
	newTimeout  = 400 * time.Millisecond // for a server of which nothing is known; doubled with each failure
	failureCost = time.Second            // what a failure adds to a server's RTT when one is chosen
	maxBackOff  = 2 * time.Minute
	maxFailures = 16
)

func newServers(clock func() time.Time) *servers {
	return &servers{clock: clock, by: map[netip.Addr]*server{}, lame: map[lameness]time.Time{}}
}

// state returns the entry of addr; mu must be held.
func (s *servers) state(addr netip.Addr) *server {
	st, ok := s.by[addr]
	if !ok {
		makeRoom(s.by)
		st = &server{}
		s.by[addr] = st
	}
	return st
}

// makeRoom drops any one entry from a full map.
func makeRoom[K comparable, V any](m map[K]V) {
	if len(m) < maxServers {
		return
	}
	for k := range m {
		delete(m, k)
		return
	}
}

// timeout is how long to wait for addr.
func (s *servers) timeout(addr netip.Addr) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.by[addr]
	d := newTimeout
	if ok && st.srtt > 0 {
		d = max(st.srtt+4*st.variance, minTimeout)
	}
	if ok {
		d <<= min(st.failures, 4)
	}
	return min(d, maxTimeout)
}

// answered notes a reply to k that came after rtt, with an OPT record or not.
func (s *servers) answered(addr netip.Addr, rtt time.Duration, k flightKey, edns bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state(addr)
	if st.failures > 0 && k.edns && !k.cookie {
		st.cookie.offUntil = s.clock().Add(plainTime) // it had been silent when there was a cookie
	}
	rtt = max(rtt, time.Microsecond) // 0 means unknown
	if st.srtt == 0 {
		st.srtt, st.variance = rtt, rtt/2
	} else {
		st.variance = (3*st.variance + (st.srtt - rtt).Abs()) / 4
		st.srtt = (7*st.srtt + rtt) / 8
	}
	st.failures, st.until = 0, time.Time{}
	st.spokeEDNS = st.spokeEDNS || edns
}

// silent notes that no reply came. From the third time in a row on the server
// is left alone for a while that doubles.
func (s *servers) silent(addr netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state(addr)
	st.failures = min(st.failures+1, maxFailures)
	if st.failures >= 3 {
		st.until = s.clock().Add(min(time.Second<<(st.failures-1), maxBackOff))
	}
}

// rank is how much addr is to be preferred, lowest first; down says that it is
// backed off from, or lame for zone.
func (s *servers) rank(addr netip.Addr, zone string) (rtt time.Duration, down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	if until, ok := s.lame[lameness{addr, zone}]; ok {
		if now.Before(until) {
			down = true
		} else {
			delete(s.lame, lameness{addr, zone})
		}
	}
	st, ok := s.by[addr]
	if !ok || st.srtt == 0 && st.failures == 0 {
		return unknownRTT, down
	}
	return st.srtt + time.Duration(st.failures)*failureCost, down || now.Before(st.until)
}

func (s *servers) setLame(addr netip.Addr, zone string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	makeRoom(s.lame)
	s.lame[lameness{addr, zone}] = s.clock().Add(lameTime)
}

// plain says whether addr is to be asked without EDNS.
func (s *servers) plain(addr netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.by[addr]
	return ok && s.clock().Before(st.plainUntil)
}

// mayBePlain says whether addr can be believed not to know EDNS: one that has
// spoken it before would not forget (CVE-2026-52690).
func (s *servers) mayBePlain(addr netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.by[addr]
	return !ok || !st.spokeEDNS
}

func (s *servers) setPlain(addr netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state(addr).plainUntil = s.clock().Add(plainTime)
}

// altersCase says whether addr is to be asked by TCP at once, since what it sends
// by UDP cannot be told from what a forger sends.
func (s *servers) altersCase(addr netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.by[addr]
	return ok && s.clock().Before(st.streamUntil)
}

func (s *servers) setAltersCase(addr netip.Addr, alters bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state(addr)
	st.streamUntil = time.Time{}
	if alters {
		st.streamUntil = s.clock().Add(streamTime)
	}
}
