package transport

import (
	"net/netip"
	"sync"
)

// admission limits connections in total and per client network, over all
// transports but UDP. A connection counts from its first byte on, before its
// handshake. A network is forgotten when its last connection ends.
type admission struct {
	most, mostPerClient int

	mu      sync.Mutex // guards what follows
	total   int
	clients map[netip.Prefix]int
}

func newAdmission(most, perClient int) *admission {
	return &admission{most: most, mostPerClient: perClient, clients: make(map[netip.Prefix]int)}
}

// anyone is the client of a connection from a proxy that has not said yet whom
// it speaks for: it counts towards the total alone.
var anyone netip.Prefix

// admit takes a place for a client, or returns the name of the limit that is
// reached.
func (a *admission) admit(client netip.Prefix) (limit string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.total >= a.most:
		return "total", false
	case client != anyone && a.clients[client] >= a.mostPerClient:
		return "client", false
	}
	a.total++
	a.count(client, 1)
	return "", true
}

// name gives the place of anyone to a client; false if the client has as many
// as it may have, and the place stays anyone's.
func (a *admission) name(client netip.Prefix) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.clients[client] >= a.mostPerClient {
		return false
	}
	a.count(client, 1)
	return true
}

// crowded says whether a client has a quarter of what it may have.
func (a *admission) crowded(client netip.Prefix) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return 4*a.clients[client] >= a.mostPerClient
}

// leave gives a place back.
func (a *admission) leave(client netip.Prefix) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total--
	a.count(client, -1)
}

func (a *admission) count(client netip.Prefix, n int) {
	if client == anyone {
		return
	}
	if a.clients[client] += n; a.clients[client] == 0 {
		delete(a.clients, client)
	}
}

// clientNetwork is what counts as one client: an IPv4 address, or the /64 that
// an IPv6 host can pick any address of.
func clientNetwork(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(addr, bits).Masked()
}
