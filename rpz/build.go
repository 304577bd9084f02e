package rpz

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"cordon/blocklist"
)

// Loaded is a list as the resolver enforces it, under its name in the
// configuration.
type Loaded = blocklist.Loaded

// maxOwner bounds an owner name, in octets on the wire (RFC 1035 §2.3.4).
const maxOwner = 255

// measure is an entry on its way into a zone.
type measure struct {
	from, to uint32 // its key, in builder.keys
	list     uint16 // which of the lists, in order of precedence
	scope    blocklist.Scope
	policy   uint32 // in builder.policies
	entry    *blocklist.Entry
}

// builder turns lists into nodes.
type builder struct {
	lists    []*Loaded
	room     int // octets that the zone's name leaves for those before it
	keys     []byte
	measures []measure
	policies []policy

	out     nodes
	left    []LeftOut
	leftAll int

	stack []frame // the names above the present one that are in the zone, the nearest last
}

// frame is a name whose names below are covered, or that is listed itself.
type frame struct {
	key    []byte
	domain []policy // what the names below get, by list; of scope domain, its own or one from above
}

// build makes the nodes of a zone.
//
// An entry of scope host is its name; one of scope domain is its name and the
// wildcard below. That alone would free names: in a zone a wildcard covers nothing
// below a name that exists (RFC 4592 §2.2.2), be it another entry or only a
// name on the way to one, and programs differ in how far they hold to that. So each
// name that exists below an entry of scope domain is given what that entry gives,
// for itself and, as a wildcard, for what is below.
func (b *builder) build() error {
	if err := b.collect(); err != nil {
		return err
	}
	slices.SortFunc(b.measures, func(x, y measure) int { return bytes.Compare(b.key(x), b.key(y)) })
	for from := 0; from < len(b.measures); {
		to := from + 1
		for to < len(b.measures) && bytes.Equal(b.key(b.measures[from]), b.key(b.measures[to])) {
			to++
		}
		b.place(b.measures[from:to])
		from = to
	}
	b.out.done()
	return nil
}

func (b *builder) key(m measure) []byte { return b.keys[m.from:m.to] }

// collect takes in what of the lists a zone can say.
func (b *builder) collect() error {
	count := 0
	for _, l := range b.lists {
		count += l.Index.Len()
	}
	b.measures = make([]measure, 0, count)
	for n, l := range b.lists {
		numbers := make(map[string]uint32, len(l.List.Categories))
		for category, page := range l.List.Categories {
			numbers[category] = uint32(len(b.policies))
			b.policies = append(b.policies, policyOf(page, l.List.AnswerTTL))
		}
		for e := range l.Enforced {
			if strings.HasPrefix(e.Name[strings.LastIndexByte(e.Name, '.')+1:], "rpz-") {
				b.leaveOut(l.Name, e, "ends in a label that a policy zone takes for a trigger of another kind")
				continue
			}
			if len(e.Name)+1 > b.room {
				b.leaveOut(l.Name, e, "is too long for an owner name in this zone")
				continue
			}
			number, known := numbers[e.Category]
			if !known {
				return fmt.Errorf("list %s, entry %s: category %q has no stop page", l.Name, e.ID, e.Category)
			}
			from := len(b.keys)
			b.keys = appendKey(b.keys, e.Name)
			if uint64(len(b.keys)) > 1<<32-1 {
				return fmt.Errorf("the names of the lists are longer than 4 GiB in all")
			}
			b.measures = append(b.measures, measure{from: uint32(from), to: uint32(len(b.keys)), list: uint16(n), scope: e.Scope, policy: number, entry: e})
		}
	}
	return nil
}

func policyOf(page blocklist.StopPage, ttl uint32) policy {
	text := func(all []netip.Addr) string {
		var b []byte
		for _, a := range all {
			b = append(b, a.AsSlice()...)
		}
		return string(b)
	}
	return policy{ttl: ttl, a: text(page.IPv4), aaaa: text(page.IPv6)}
}

// place adds the name of the measures, which is the same for all, and the names on
// the way to it that need it.
func (b *builder) place(all []measure) {
	key := b.key(all[0])
	for len(b.stack) > 0 && !bytes.HasPrefix(key, b.stack[len(b.stack)-1].key) {
		b.stack = b.stack[:len(b.stack)-1]
	}
	above := frame{domain: make([]policy, len(b.lists))}
	if len(b.stack) > 0 {
		above = b.stack[len(b.stack)-1]
	}
	covered := first(above.domain)
	if covered != (policy{}) {
		for at := len(above.key); ; {
			at += bytes.IndexByte(key[at:], endOfLabel) + 1
			if at == len(key) {
				break
			}
			b.out.add(key[:at], covered, covered)
			b.stack = append(b.stack, frame{key: key[:at], domain: above.domain})
		}
	}
	here := frame{key: key, domain: slices.Clone(above.domain)}
	exact := slices.Clone(above.domain)
	for _, scope := range []blocklist.Scope{blocklist.ScopeDomain, blocklist.ScopeHost} { // at the very name, host is the more specific
		for _, m := range all {
			if m.scope != scope {
				continue
			}
			exact[m.list] = b.policies[m.policy]
			if scope == blocklist.ScopeDomain {
				here.domain[m.list] = b.policies[m.policy]
			}
		}
	}
	below := first(here.domain)
	if below != (policy{}) && len(key)+len("*.") > b.room {
		b.leaveOut(b.lists[all[0].list].Name, all[0].entry, "leaves no room for the wildcard of the names below it")
		below = policy{}
	}
	b.out.add(key, first(exact), below)
	b.stack = append(b.stack, here)
}

// first is what the first list with a word on a name gives.
func first(byList []policy) policy {
	for _, p := range byList {
		if p != (policy{}) {
			return p
		}
	}
	return policy{}
}

func (b *builder) leaveOut(list string, e *blocklist.Entry, because string) {
	b.leftAll++
	if len(b.left) < maxLeftOut {
		b.left = append(b.left, LeftOut{List: list, Entry: e.ID, Name: e.Name, Because: because})
	}
}
