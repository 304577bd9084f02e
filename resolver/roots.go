package resolver

import (
	_ "embed"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

//go:embed root.hints
var internetHints string

//go:embed root.ds
var internetAnchors string

// rootHints reads the servers to start from: the file's, or the Internet's.
func rootHints(path string) ([]dns.RR, error) {
	return zoneRecords(path, internetHints, dns.TypeNS, dns.TypeA, dns.TypeAAAA)
}

// trustAnchors reads the keys that validation starts from: the file's, or those
// of the Internet's root (RFC 9718).
func trustAnchors(path string) ([]dns.RR, error) {
	return zoneRecords(path, internetAnchors, dns.TypeDS, dns.TypeDNSKEY)
}

// zoneRecords reads records of the given types from the master file at path, or
// from builtin where path is empty. Other types and an empty file are errors,
// since both mean that the wrong file was named.
func zoneRecords(path, builtin string, types ...uint16) ([]dns.RR, error) {
	text, name := builtin, "built in"
	if path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		text, name = string(b), path
	}
	p := dns.NewZoneParser(strings.NewReader(text), ".", name)
	p.SetDefaultTTL(3600)
	var all []dns.RR
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		if !slices.Contains(types, rr.Header().Rrtype) {
			return nil, fmt.Errorf("%s: %s record of %s: only %s belong here", name, dns.TypeToString[rr.Header().Rrtype], rr.Header().Name, typeNames(types))
		}
		all = append(all, rr)
	}
	if err := p.Err(); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no record; give %s records", name, typeNames(types))
	}
	return all, nil
}

func typeNames(types []uint16) string {
	var names []string
	for _, t := range types {
		names = append(names, dns.TypeToString[t])
	}
	return strings.Join(names, ", ")
}
