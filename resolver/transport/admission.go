package transport

import (
	"net/netip"
	"sync"
)

// admission limits connections in total and per client network. It forgets a
// network when its last connection ends.
type admission struct {
	most, mostPerClient int

	mu      sync.Mutex // guards what follows
	total   int
	clients map[netip.Prefix]int
}

func newAdmission(most, perClient int) *admission {
	return &admission{most: most, mostPerClient: perClient, clients: make(map[netip.Prefix]int)}
}

// admit takes a place for a client, or returns the name of the limit that is
// reached.
func (a *admission) admit(client netip.Prefix) (limit string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.total >= a.most:
		return "total", false
	case a.clients[client] >= a.mostPerClient:
		return "client", false
	}
	a.total++
	a.clients[client]++
	return "", true
}

// leave gives a place back.
func (a *admission) leave(client netip.Prefix) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total--
	if a.clients[client]--; a.clients[client] == 0 {
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
