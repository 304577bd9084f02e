package resolver

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"cordon/resolver/local"
	"cordon/resolver/transport"
)

// Serving is how clients are served besides plain UDP and TCP, and what keeps
// each from taking what others need.
type Serving struct {
	TLS       TLSConfig        `yaml:"tls"`        // certificate of the encrypted transports
	DoT       []netip.AddrPort `yaml:"dot"`        // DNS over TLS, RFC 7858
	DoH       []netip.AddrPort `yaml:"doh"`        // DNS over HTTPS, RFC 8484, by TCP and UDP
	DoQ       []netip.AddrPort `yaml:"doq"`        // DNS over QUIC, RFC 9250
	ProxyFrom []netip.Prefix   `yaml:"proxy_from"` // load balancers that speak PROXY version 2
	Exempt    ExemptConfig     `yaml:"exempt"`     //
	Limits    LimitsConfig     `yaml:"limits"`     //
	Cookies   CookiesConfig    `yaml:"cookies"`    //
	NSID      string           `yaml:"nsid"`       // told to who asks which server this is (RFC 5001); empty: nothing
}

// TLSConfig is the certificate that encrypted transports show, and the name
// under which clients discover them.
type TLSConfig struct {
	Certificate string `yaml:"certificate"` // PEM, with its chain
	Key         string `yaml:"key"`         // PEM
	Name        string `yaml:"name"`        // the resolver's own, which the certificate bears
}

// ExemptConfig says whose questions are neither filtered nor recorded: those of
// the agents whom the law designates.
type ExemptConfig struct {
	Networks []netip.Prefix `yaml:"networks"`
	ClientCA string         `yaml:"client_ca"` // PEM; signs the client certificates of agents
}

// LimitsConfig bounds what clients may take. Rates are for a client network, an
// IPv4 /24 or an IPv6 /56; 0: no bound.
type LimitsConfig struct {
	Connections          int           `yaml:"connections"`            // open at a time, of all transports
	ConnectionsPerClient int           `yaml:"connections_per_client"` // of an IPv4 address or an IPv6 /64
	Idle                 time.Duration `yaml:"idle"`                   // a connection without a question is closed after
	Handshakes           int           `yaml:"handshakes"`             // TLS and QUIC, a second
	Queries              int           `yaml:"queries"`                // a second, by any transport
	UDPReplies           int           `yaml:"udp_replies"`            // a second, without a good cookie
}

// CookiesConfig is for server cookies (RFC 9018).
type CookiesConfig struct {
	SecretFile string `yaml:"secret_file"` // shared by servers of one address; empty: a secret of this run's own
}

func (s *Serving) paths() []*string {
	return []*string{&s.TLS.Certificate, &s.TLS.Key, &s.Exempt.ClientCA, &s.Cookies.SecretFile}
}

func (s *Serving) encrypted() bool { return len(s.DoT)+len(s.DoH)+len(s.DoQ) > 0 }

func (s *Serving) check() error {
	for _, f := range []struct{ name, value, remedy string }{
		{"tls.certificate", s.TLS.Certificate, "the file with the certificate and its chain"},
		{"tls.key", s.TLS.Key, "the file with its key"},
		{"tls.name", s.TLS.Name, "the resolver's name, which the certificate bears"},
	} {
		if s.encrypted() && f.value == "" {
			return fmt.Errorf("%s: missing; dot, doh and doq need %s", f.name, f.remedy)
		}
	}
	if s.Exempt.ClientCA != "" && !s.encrypted() {
		return errors.New("exempt.client_ca: there is no dot, doh or doq by which a client could show a certificate; leave it out, or add one")
	}
	for _, list := range []struct {
		name     string
		prefixes []netip.Prefix
	}{{"proxy_from", s.ProxyFrom}, {"exempt.networks", s.Exempt.Networks}} {
		for _, p := range list.prefixes {
			if p != p.Masked() {
				return fmt.Errorf("%s: %s has bits set behind its length; write %s", list.name, p, p.Masked())
			}
			if p.Bits() == 0 {
				return fmt.Errorf("%s: %s is everyone; name the networks", list.name, p)
			}
		}
	}
	for _, n := range []struct {
		name            string
		value, min, max int
	}{
		{"limits.connections", s.Limits.Connections, 1, 1_000_000},
		{"limits.connections_per_client", s.Limits.ConnectionsPerClient, 1, 1_000_000},
		{"limits.handshakes", s.Limits.Handshakes, 0, 1_000_000},
		{"limits.queries", s.Limits.Queries, 0, 100_000_000},
		{"limits.udp_replies", s.Limits.UDPReplies, 0, 100_000_000},
	} {
		if n.value < n.min || n.value > n.max {
			return fmt.Errorf("%s: %d; use %d to %d", n.name, n.value, n.min, n.max)
		}
	}
	if s.Limits.Idle < time.Second || s.Limits.Idle > time.Hour {
		return fmt.Errorf("limits.idle: %s; use 1s to 1h", s.Limits.Idle)
	}
	if len(s.NSID) > 64 {
		return fmt.Errorf("nsid: %d bytes; use at most 64", len(s.NSID))
	}
	return nil
}

// openCertificate reads the certificate, which must bear the name under which
// clients discover the resolver: else they would turn away.
func (r *Resolver) openCertificate() (err error) {
	c := &r.config.Serving
	if !c.encrypted() {
		return nil
	}
	if r.certificates, err = transport.OpenCertificates(c.TLS.Certificate, c.TLS.Key, r.log); err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	if err := r.certificates.Leaf().VerifyHostname(c.TLS.Name); err != nil {
		return fmt.Errorf("tls.name: %w; name one that %s bears", err, c.TLS.Certificate)
	}
	return nil
}

// designations are the transports that are on, as DDR tells them: one for each
// port, the cheapest to serve first.
func (s *Serving) designations() (all []local.Designation) {
	for _, t := range []struct {
		alpn  []string
		path  string
		addrs []netip.AddrPort
	}{
		{[]string{"dot"}, "", s.DoT},
		{[]string{"doq"}, "", s.DoQ},
		{[]string{"h2", "h3"}, transport.DoHPath + "{?dns}", s.DoH},
	} {
		at := map[uint16]int{}
		for _, a := range t.addrs {
			i, known := at[a.Port()]
			if !known {
				i = len(all)
				at[a.Port()] = i
				all = append(all, local.Designation{ALPN: t.alpn, Port: a.Port(), Path: t.path})
			}
			if addr := a.Addr().Unmap(); !addr.IsUnspecified() {
				all[i].Hints = append(all[i].Hints, addr)
			}
		}
	}
	return all
}

// exemption is whose questions are neither filtered nor recorded.
type exemption struct {
	networks []netip.Prefix
	clients  *x509.CertPool // nil: none by certificate
	digests  []string       // SHA-256 of the certificates in clients
}

func newExemption(c ExemptConfig) (*exemption, error) {
	e := &exemption{networks: c.Networks}
	if c.ClientCA == "" {
		return e, nil
	}
	text, err := os.ReadFile(c.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("exempt.client_ca: %w", err)
	}
	e.clients = x509.NewCertPool()
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("exempt.client_ca: %s: %w", c.ClientCA, err)
		}
		e.clients.AddCert(cert)
		digest := sha256.Sum256(cert.Raw)
		e.digests = append(e.digests, hex.EncodeToString(digest[:]))
	}
	if len(e.digests) == 0 {
		return nil, fmt.Errorf("exempt.client_ca: %s holds no certificate in PEM", c.ClientCA)
	}
	return e, nil
}

// covers says whether the questions of a client are exempt.
func (e *exemption) covers(from transport.Meta) bool {
	if e.clients != nil && from.Certified {
		return true
	}
	if len(e.networks) == 0 {
		return false
	}
	addr := from.Peer.Addr().Unmap()
	for _, p := range e.networks {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// announce writes into the block log, at the start and before any answer, that
// there are exemptions and whose.
func (r *Resolver) announce() error {
	e := r.exempt
	if len(e.networks) == 0 && e.clients == nil {
		return nil
	}
	record := struct {
		Networks []netip.Prefix `json:"networks,omitempty"`
		ClientCA []string       `json:"client_ca_sha256,omitempty"`
	}{e.networks, e.digests}
	if err := r.journal.Event("exemption", record); err != nil {
		return fmt.Errorf("the exemptions cannot be written down, so nothing is answered: %w", err)
	}
	var all []string
	for _, p := range e.networks {
		all = append(all, p.String())
	}
	r.log.Warn("questions are neither filtered nor recorded for", "networks", strings.Join(all, ","), "client_certificates", e.clients != nil)
	return nil
}
