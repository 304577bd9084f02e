package resolver

import (
	"fmt"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"cordon/resolver/anchors"
	"cordon/resolver/iterate"
	"cordon/resolver/transport"
)

// extendedErrors are the INFO-CODEs that a client may see here, told in RESINFO
// (RFC 9606 §5): those of the policy, of validation and of recursion.
var extendedErrors = []uint16{
	dns.ExtendedErrorCodeUnsupportedDNSKEYAlgorithm,
	dns.ExtendedErrorCodeUnsupportedDSDigestType,
	dns.ExtendedErrorCodeStaleAnswer,
	dns.ExtendedErrorCodeForgedAnswer,
	dns.ExtendedErrorCodeDNSSECIndeterminate,
	dns.ExtendedErrorCodeDNSBogus,
	dns.ExtendedErrorCodeSignatureExpired,
	dns.ExtendedErrorCodeSignatureNotYetValid,
	dns.ExtendedErrorCodeDNSKEYMissing,
	dns.ExtendedErrorCodeRRSIGsMissing,
	dns.ExtendedErrorCodeNoZoneKeyBitSet,
	dns.ExtendedErrorCodeNSECMissing,
	dns.ExtendedErrorCodeNotReady,
	dns.ExtendedErrorCodeCensored,
	dns.ExtendedErrorCodeProhibited,
	dns.ExtendedErrorCodeNotAuthoritative,
	dns.ExtendedErrorCodeNoReachableAuthority,
	dns.ExtendedErrorCodeNetworkError,
}

// newTracker reads the trust anchors, and what is known of their zones' keys.
func newTracker(c Recursion, s Surroundings) (*anchors.Tracker, error) {
	configured, err := trustAnchors(c.TrustAnchors)
	if err != nil {
		return nil, fmt.Errorf("recursion.trust_anchors: %w", err)
	}
	return anchors.New(anchors.Config{
		Configured: configured, BuiltIn: c.TrustAnchors == "", File: c.AnchorState, Clock: s.Clock, Log: s.Log,
	})
}

// newUpstream asks the authoritative servers over the network.
func newUpstream(c Recursion, reg prometheus.Registerer) (*transport.Upstream, error) {
	return transport.NewUpstream(transport.UpstreamConfig{
		MixCase:    c.MixCase == nil || *c.MixCase,
		Registerer: reg,
	})
}

func newIterator(c Recursion, s Surroundings, trusted []dns.RR) (*iterate.Resolver, error) {
	roots, err := rootHints(c.RootHints)
	if err != nil {
		return nil, fmt.Errorf("recursion.root_hints: %w", err)
	}
	stubs, forwards, err := c.zones()
	if err != nil {
		return nil, fmt.Errorf("recursion: %w", err)
	}
	return iterate.New(iterate.Config{
		Exchange:    s.Exchange,
		Clock:       s.Clock,
		Random:      s.Random,
		Roots:       roots,
		Anchors:     trusted,
		Port:        c.Port,
		CacheBytes:  c.CacheBytes,
		PerZone:     c.PerZone,
		PerServer:   c.PerServer,
		Allow:       c.MayQuery,
		DisableIPv6: c.IPv6 != nil && !*c.IPv6,

		NoMinimisation:   c.Minimise != nil && !*c.Minimise,
		Stubs:            stubs,
		Forwards:         forwards,
		NegativeAnchors:  c.negativeAnchors(),
		PrivateAddresses: c.PrivateAddresses,
		PrivateDomains:   c.PrivateDomains,
		DNS64:            c.DNS64,
		MinTTL:           c.MinTTL,
		MaxTTL:           c.MaxTTL,
		MaxNegativeTTL:   c.MaxNegativeTTL,
		ServeStale:       c.ServeStale,
		StaleTTL:         c.StaleTTL,
		SignalAnchors:    c.Signals == nil || *c.Signals,
		ReportErrors:     c.ReportErrors,
	})
}
