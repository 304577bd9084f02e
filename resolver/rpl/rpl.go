// Package rpl reads and plays scenarios in the .rpl format of Unbound's testbound
// and CZ.NIC's Deckard: a world of name servers that answer from a script, a
// client that asks, and what the client must see.
//
// A scenario is a CONFIG part, a number of RANGEs (what the server at an address
// answers while the script is between two steps) and STEPs. parse.go reads it,
// settings.go makes sense of CONFIG, network.go plays the servers, play.go the
// client, compare.go judges what came back, and table.go counts.
//
// The package knows nothing of the resolver that it tests: whoever plays a
// scenario gives a Stage that builds one around a Network and a clock.
package rpl

import (
	"net/netip"

	"github.com/miekg/dns"
)

// Scenario is one file.
type Scenario struct {
	Path     string
	Title    string
	Settings Settings
	Ranges   []Range
	Steps    []Step
}

// Range is what some servers answer while the steps First to Last run.
type Range struct {
	First, Last int
	Servers     []netip.Addr // none: every one
	Entries     []*Entry     // the first that matches answers
}

// Step is one thing that happens. Kind is the word of the format.
type Step struct {
	Line    int
	Number  int
	Kind    string
	Args    []string       // what stands behind the kind
	Address netip.AddrPort // of the client, or of the server meant; may be invalid
	Entry   *Entry         // may be nil
}

// Entry is a message with how it is to be compared and used.
type Entry struct {
	Line   int
	Match  map[string]bool // lower case: opcode, qtype, qname, question, subdomain, all, ...
	Adjust map[string]bool // lower case: copy_id, copy_query, do_not_answer
	// Mandatory: the scenario fails if nobody asks for it.
	Mandatory bool
	EDE       []uint16 // INFO-CODEs that the reply must have; 0 means none at all

	QR, AA, TC, RD, RA, AD, CD, DO bool
	Rcode, Opcode                  int

	Question                      *dns.Question // nil: the section is empty
	Answer, Authority, Additional []dns.RR
	Raw                           []byte // a whole packet in place of the sections
	Options                       []dns.EDNS0
}
