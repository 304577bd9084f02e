package dnssec

import (
	"bytes"
	"strings"

	"github.com/miekg/dns"
)

// compareNames orders a and b canonically (RFC 4034 §6.1): by labels from the
// right, each as unescaped bytes.
func compareNames(a, b string) int {
	la, lb := wireLabels(a), wireLabels(b)
	for i := 1; i <= len(la) && i <= len(lb); i++ {
		if c := bytes.Compare(la[len(la)-i], lb[len(lb)-i]); c != 0 {
			return c
		}
	}
	return len(la) - len(lb)
}

// wireLabels returns the labels of name without escapes; nil for the root and
// for what is no name.
func wireLabels(name string) [][]byte {
	wire := wireName(name)
	var labels [][]byte
	for len(wire) > 1 {
		n := int(wire[0])
		labels = append(labels, wire[1:1+n])
		wire = wire[1+n:]
	}
	return labels
}

// wireName is the uncompressed wire form of name, or nil if it has none.
func wireName(name string) []byte {
	buf := make([]byte, 255)
	n, err := dns.PackDomainName(name, buf, 0, nil, false)
	if err != nil {
		return nil
	}
	return buf[:n]
}

// below says whether name is at or below zone; both canonical.
func below(zone, name string) bool { return dns.IsSubDomain(zone, name) }

// strictlyBelow says whether name is below zone and not zone itself.
func strictlyBelow(zone, name string) bool { return zone != name && below(zone, name) }

// commonAncestor is the longest name that both a and b are at or below.
func commonAncestor(a, b string) string { return lastLabels(a, dns.CompareDomainName(a, b)) }

// lastLabels is the name made of the last n labels of name.
func lastLabels(name string, n int) string {
	if n <= 0 {
		return "."
	}
	starts := dns.Split(name)
	if n >= len(starts) {
		return name
	}
	return name[starts[len(starts)-n]:]
}

// wildcard is the name of the wildcard directly below encloser.
func wildcard(encloser string) string {
	if encloser == "." {
		return "*."
	}
	return "*." + encloser
}

// isWildcard says whether the leftmost label of name is an asterisk.
func isWildcard(name string) bool { return strings.HasPrefix(name, "*.") }
