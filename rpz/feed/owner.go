package feed

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// trigger is what the name of a rule stands for.
type trigger struct {
	kind   Trigger
	name   []byte // of QName and NSDName: wire form, lower case, without "*"
	wild   bool   // names below name, not name itself
	prefix netip.Prefix
}

// unsupportedError says that a rule is good and not enforced here.
type unsupportedError string

func (e unsupportedError) Error() string { return string(e) }

// specialPrefix marks labels that have a meaning in a zone of this kind (§4 of the
// draft); those that are not known are left alone.
const specialPrefix = "rpz-"

// relative gives the labels of a name in wire form, lower case, that stand before
// those of origin; false where it is not below it.
func relative(name, origin []byte) (labels []string, ok bool) {
	for at := 0; ; at += 1 + int(name[at]) {
		if len(name)-at == len(origin) {
			return labels, string(name[at:]) == string(origin)
		}
		if len(name)-at < len(origin) {
			return nil, false
		}
		labels = append(labels, string(name[at+1:at+1+int(name[at])]))
	}
}

// wireName packs a name in presentation form, in lower case.
func wireName(text string) ([]byte, error) {
	var buf [256]byte
	n, err := dns.PackDomainName(dns.Fqdn(text), buf[:], 0, nil, false)
	if err != nil || n > 255 {
		return nil, fmt.Errorf("%q is not a domain name", text)
	}
	name := make([]byte, n)
	for i, c := range buf[:n] {
		if 'A' <= c && c <= 'Z' { // a length is below 'A'
			c += 'a' - 'A'
		}
		name[i] = c
	}
	return name, nil
}

// readTrigger reads the labels of a rule's name that stand before the name of the
// zone, in lower case.
func readTrigger(labels []string) (trigger, error) {
	last := labels[len(labels)-1]
	rest := labels[:len(labels)-1]
	switch last {
	case ClientIP.String(), ResponseIP.String():
		kind := ClientIP
		if last == ResponseIP.String() {
			kind = ResponseIP
		}
		p, err := readPrefix(rest)
		return trigger{kind: kind, prefix: p}, err
	case NSDName.String():
		if len(rest) == 0 {
			return trigger{}, errors.New("no name stands before rpz-nsdname")
		}
		return nameTrigger(NSDName, rest)
	case "rpz-nsip":
		return trigger{}, unsupportedError("NSIP triggers are not supported")
	}
	if strings.HasPrefix(last, specialPrefix) {
		return trigger{}, unsupportedError("the trigger " + strconv.Quote(last) + " is not known")
	}
	return nameTrigger(QName, labels)
}

func nameTrigger(kind Trigger, labels []string) (trigger, error) {
	t := trigger{kind: kind}
	if labels[0] == "*" {
		t.wild, labels = true, labels[1:]
	}
	for _, l := range labels {
		t.name = append(t.name, byte(len(l)))
		t.name = append(t.name, l...)
	}
	t.name = append(t.name, 0)
	return t, nil
}

// readPrefix reads a prefix as a rule's name has it: its length, then the parts
// of the address, the last first (§4.1.1 of the draft). "zz" stands for the
// longest run of zeros, as "::" does elsewhere.
func readPrefix(labels []string) (netip.Prefix, error) {
	if len(labels) < 2 {
		return netip.Prefix{}, errors.New("not an address: write its prefix length, then its parts from the last to the first, as 24.0.2.0.192")
	}
	bits, err := strconv.ParseUint(labels[0], 10, 8)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("prefix length %q is not a number up to 128", labels[0])
	}
	parts := slices.Clone(labels[1:])
	slices.Reverse(parts)
	var text string
	if len(parts) == 4 && !slices.Contains(parts, "zz") {
		text = strings.Join(parts, ".")
	} else {
		text = strings.Join(parts, ":")
		if i := slices.Index(parts, "zz"); i >= 0 {
			if slices.Contains(parts[i+1:], "zz") {
				return netip.Prefix{}, errors.New("\"zz\" stands twice in an address")
			}
			text = strings.Join(parts[:i], ":") + "::" + strings.Join(parts[i+1:], ":")
		}
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is not an address", text)
	}
	if a.Is4In6() && bits >= 96 { // the same, written as IPv6
		a, bits = a.Unmap(), bits-96
	}
	p, err := a.Prefix(int(bits))
	if err != nil || bits == 0 && !a.IsUnspecified() {
		return netip.Prefix{}, fmt.Errorf("prefix length %s does not fit %s", labels[0], text)
	}
	if p.Addr() != a {
		return netip.Prefix{}, fmt.Errorf("%s/%d has bits set behind its length", a, bits)
	}
	return p, nil
}
