package rpl

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// maxLine bounds a line in bytes; signatures make long ones.
const maxLine = 1 << 20

// ParseFile reads the scenario at path. Errors name file and line.
func ParseFile(path string) (*Scenario, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, string(text))
}

// Parse reads a scenario; path is for errors.
func Parse(path, text string) (*Scenario, error) {
	p := &parser{s: &Scenario{Path: path}}
	in := bufio.NewScanner(strings.NewReader(text))
	in.Buffer(nil, maxLine)
	for in.Scan() {
		p.line++
		if err := p.take(in.Text()); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, p.line, err)
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("%s:%d: %w", path, p.line+1, err)
	}
	if p.state != atEnd {
		return nil, fmt.Errorf("%s:%d: the file ends before SCENARIO_END", path, p.line)
	}
	return p.s, nil
}

// parser is where reading stands.
type parser struct {
	s      *Scenario
	line   int
	state  parseState
	config []setting
	inFile bool // within TEMPFILE_CONTENTS of CONFIG

	rng     *Range
	step    *Step
	entry   *Entry
	section string
	partial string // of a record with an open parenthesis
	hexa    strings.Builder
}

type parseState int

const (
	inConfig parseState = iota
	inScenario
	atEnd
)

func (p *parser) take(line string) error {
	if p.state == inConfig {
		return p.takeConfig(line)
	}
	line = strings.TrimSpace(withoutComment(line, ";"))
	if line == "" || p.state == atEnd {
		return nil
	}
	if p.entry != nil {
		return p.takeEntry(line)
	}
	w := strings.Fields(line)
	switch w[0] {
	case "SCENARIO_BEGIN":
		p.s.Title = strings.TrimSpace(strings.TrimPrefix(line, w[0]))
	case "SCENARIO_END":
		p.state = atEnd
	case "RANGE_BEGIN":
		return p.beginRange(w)
	case "ADDRESS":
		return p.address(w)
	case "RANGE_END":
		if p.rng == nil {
			return nil // one too many, as in some files
		}
		p.s.Ranges = append(p.s.Ranges, *p.rng)
		p.rng = nil
	case "ENTRY_BEGIN":
		p.entry = &Entry{Line: p.line, Match: map[string]bool{}, Adjust: map[string]bool{}}
		p.section = ""
	case "STEP":
		return p.beginStep(w)
	default:
		return fmt.Errorf("%q is not known here", w[0])
	}
	return nil
}

func (p *parser) beginRange(w []string) error {
	if len(w) < 3 {
		return fmt.Errorf("RANGE_BEGIN wants two numbers")
	}
	first, err1 := strconv.Atoi(w[1])
	last, err2 := strconv.Atoi(w[2])
	if err1 != nil || err2 != nil || first > last {
		return fmt.Errorf("RANGE_BEGIN %s %s: no range", w[1], w[2])
	}
	p.rng, p.step = &Range{First: first, Last: last}, nil
	switch {
	case len(w) == 3:
		return nil
	case w[3] == "ADDRESS":
		return p.address(w[3:])
	}
	return p.address(w[2:])
}

// address is that of a range's server, or of a step's client or server, which
// may have a port behind @.
func (p *parser) address(w []string) error {
	if len(w) < 2 {
		return fmt.Errorf("ADDRESS without address")
	}
	host, port, _ := strings.Cut(w[1], "@")
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return fmt.Errorf("ADDRESS: %w", err)
	}
	switch {
	case p.rng != nil:
		p.rng.Servers = append(p.rng.Servers, addr)
	case p.step != nil:
		n, _ := strconv.ParseUint(port, 10, 16) // without port: 0
		p.lastStep().Address = netip.AddrPortFrom(addr, uint16(n))
	default:
		return fmt.Errorf("ADDRESS outside of RANGE and STEP")
	}
	return nil
}

func (p *parser) lastStep() *Step { return &p.s.Steps[len(p.s.Steps)-1] }

func (p *parser) beginStep(w []string) error {
	if len(w) < 3 {
		return fmt.Errorf("STEP wants a number and a kind")
	}
	n, err := strconv.Atoi(w[1])
	if err != nil {
		return fmt.Errorf("STEP: %w", err)
	}
	if p.rng != nil {
		return fmt.Errorf("STEP within RANGE")
	}
	p.s.Steps = append(p.s.Steps, Step{Line: p.line, Number: n, Kind: w[2], Args: w[3:]})
	p.step = p.lastStep()
	if i := slices.Index(w, "ADDRESS"); i > 0 {
		return p.address(w[i:])
	}
	return nil
}

func (p *parser) takeEntry(line string) error {
	e := p.entry
	w := strings.Fields(line)
	switch w[0] {
	case "ENTRY_END":
		return p.endEntry()
	case "HEX_ANSWER_BEGIN", "HEX_EDNSDATA_BEGIN":
		p.section = strings.TrimSuffix(w[0], "_BEGIN")
		p.hexa.Reset()
	case "HEX_ANSWER_END", "HEX_EDNSDATA_END":
		return p.endHex()
	case "MANDATORY":
		e.Mandatory = true
	case "MATCH":
		return e.readMatch(w[1:])
	case "ADJUST":
		for _, word := range w[1:] {
			e.Adjust[strings.ToLower(word)] = true
		}
	case "REPLY":
		return e.readReply(w[1:])
	case "SECTION":
		if len(w) < 2 {
			return fmt.Errorf("SECTION without name")
		}
		p.section = w[1]
	default:
		return p.takeRecord(line)
	}
	return nil
}

func (p *parser) endEntry() error {
	switch e := p.entry; {
	case p.partial != "":
		return fmt.Errorf("a parenthesis is not closed")
	case p.rng != nil:
		p.rng.Entries = append(p.rng.Entries, e)
	case p.step != nil:
		p.lastStep().Entry = e
	default:
		return fmt.Errorf("ENTRY outside of RANGE and STEP")
	}
	p.entry = nil
	return nil
}

func (e *Entry) readMatch(words []string) error {
	for _, word := range words {
		word = strings.ToLower(word)
		code, isEDE := strings.CutPrefix(word, "ede=")
		switch {
		case word == "ede=any":
			return fmt.Errorf("MATCH %s is not supported", word)
		case isEDE:
			n, err := strconv.ParseUint(code, 10, 16)
			if err != nil {
				return fmt.Errorf("MATCH: %w", err)
			}
			e.EDE = append(e.EDE, uint16(n))
		case slices.Contains(matchWords, word):
			e.Match[word] = true
		default:
			return fmt.Errorf("MATCH %s is not known here", word)
		}
	}
	return nil
}

var matchWords = []string{
	"opcode", "qtype", "qname", "qcase", "question", "subdomain", "tcp", "udp",
	"all", "rcode", "flags", "answer", "authority", "additional", "ttl", "ednsdata", "edns",
}

func (e *Entry) readReply(words []string) error {
	for _, word := range words {
		word = strings.ToUpper(word)
		flag := map[string]*bool{
			"QR": &e.QR, "AA": &e.AA, "TC": &e.TC, "RD": &e.RD, "RA": &e.RA, "AD": &e.AD, "CD": &e.CD, "DO": &e.DO,
		}[word]
		rcode, isRcode := dns.StringToRcode[word]
		opcode, isOpcode := dns.StringToOpcode[word]
		switch {
		case flag != nil:
			*flag = true
		case isRcode:
			e.Rcode = rcode
		case isOpcode:
			e.Opcode = opcode
		default:
			return fmt.Errorf("REPLY %s is not known here", word)
		}
	}
	return nil
}

// takeRecord reads a line of a section; a record may go over several.
func (p *parser) takeRecord(line string) error {
	switch p.section {
	case "":
		return fmt.Errorf("%q outside of a section", line)
	case "HEX_ANSWER", "HEX_EDNSDATA":
		p.hexa.WriteString(strings.Join(strings.Fields(line), ""))
		return nil
	}
	p.partial += " " + line
	if strings.Count(p.partial, "(") > strings.Count(p.partial, ")") {
		return nil
	}
	text := strings.TrimSpace(p.partial)
	p.partial = ""
	if p.section == "QUESTION" {
		q, err := readQuestion(text)
		p.entry.Question = q
		return err
	}
	rr, err := readRecord(text)
	if err != nil {
		return err
	}
	e := p.entry
	switch p.section {
	case "ANSWER":
		e.Answer = append(e.Answer, rr)
	case "AUTHORITY":
		e.Authority = append(e.Authority, rr)
	case "ADDITIONAL":
		e.Additional = append(e.Additional, rr)
	default:
		return fmt.Errorf("SECTION %s is not known here", p.section)
	}
	return nil
}

func (p *parser) endHex() error {
	raw, err := hex.DecodeString(p.hexa.String())
	if err != nil {
		return fmt.Errorf("%s: %w", p.section, err)
	}
	if p.section == "HEX_ANSWER" {
		p.entry.Raw = raw
	} else if p.entry.Options, err = readOptions(raw); err != nil {
		return err
	}
	p.section = "ADDITIONAL" // which hex data stands within, if in any
	return nil
}

// readOptions takes EDNS options apart (RFC 6891 §6.1.2), without reading them.
func readOptions(raw []byte) ([]dns.EDNS0, error) {
	var all []dns.EDNS0
	for len(raw) > 0 {
		if len(raw) < 4 || len(raw) < 4+int(raw[2])<<8+int(raw[3]) {
			return nil, fmt.Errorf("EDNS option of %d bytes is cut off", len(raw))
		}
		end := 4 + int(raw[2])<<8 + int(raw[3])
		all = append(all, &dns.EDNS0_LOCAL{Code: uint16(raw[0])<<8 | uint16(raw[1]), Data: raw[4:end]})
		raw = raw[end:]
	}
	return all, nil
}

func readQuestion(text string) (*dns.Question, error) {
	w := strings.Fields(text)
	q := &dns.Question{Name: dns.Fqdn(w[0]), Qclass: dns.ClassINET}
	for _, word := range w[1:] {
		word = strings.ToUpper(word)
		if t, ok := dns.StringToType[word]; ok && word != "ANY" || word == "ANY" && q.Qtype == 0 {
			q.Qtype = t
			if word == "ANY" {
				q.Qtype = dns.TypeANY
			}
		} else if c, ok := dns.StringToClass[word]; ok {
			q.Qclass = c
		} else if n, err := strconv.ParseUint(strings.TrimPrefix(word, "TYPE"), 10, 16); err == nil && strings.HasPrefix(word, "TYPE") {
			q.Qtype = uint16(n)
		} else if _, err := strconv.Atoi(word); err != nil { // a TTL is of no meaning here
			return nil, fmt.Errorf("question %q: %q is neither class nor type", text, word)
		}
	}
	if q.Qtype == 0 {
		return nil, fmt.Errorf("question %q has no type", text)
	}
	return q, nil
}

// readRecord reads a record in presentation form; without TTL it gets an hour,
// as testbound has it.
func readRecord(text string) (dns.RR, error) {
	if raw, err := readUnknown(text); err == nil && asReceived(raw) == dns.RR(raw) {
		return raw, nil // does not even fit its type
	}
	z := dns.NewZoneParser(strings.NewReader("$TTL 3600\n"+text+"\n"), ".", "")
	rr, ok := z.Next()
	if !ok {
		if z.Err() != nil {
			return nil, fmt.Errorf("record %q: %w", text, z.Err())
		}
		return nil, fmt.Errorf("%q is no record", text)
	}
	// People write the types in any order; the wire has one (RFC 4034 §4.1.2).
	switch x := rr.(type) {
	case *dns.NSEC:
		slices.Sort(x.TypeBitMap)
	case *dns.NSEC3:
		slices.Sort(x.TypeBitMap)
	}
	return asReceived(rr), nil
}

// asReceived is rr as it comes off the wire, so that it compares with what did:
// upper and lower case of hexadecimal digits, lengths that are only counted then.
func asReceived(rr dns.RR) dns.RR {
	buf := make([]byte, dns.Len(rr)+1)
	n, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		return rr // is not for the wire
	}
	if received, _, err := dns.UnpackRR(buf[:n], 0); err == nil {
		return received
	}
	return rr
}

// readUnknown reads a record whose RDATA is in the form of RFC 3597 §5 and does
// not fit its type.
func readUnknown(text string) (dns.RR, error) {
	head, tail, ok := strings.Cut(text, "\\#")
	w := strings.Fields(head)
	data := strings.Fields(tail)
	if !ok || len(w) < 2 || len(data) < 1 {
		return nil, fmt.Errorf("no data of an unknown type")
	}
	rr := &dns.RFC3597{
		Hdr:   dns.RR_Header{Name: dns.Fqdn(w[0]), Class: dns.ClassINET, Ttl: 3600, Rrtype: dns.StringToType[w[len(w)-1]]},
		Rdata: strings.Join(data[1:], ""),
	}
	if n, err := strconv.Atoi(data[0]); err != nil || 2*n != len(rr.Rdata) {
		return nil, fmt.Errorf("%s bytes of data, have %d", data[0], len(rr.Rdata)/2)
	}
	return rr, nil
}

// withoutComment cuts line at the first of marks that stands outside of quotes.
func withoutComment(line, marks string) string {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '\\':
			i++
		case line[i] == '"':
			quoted = !quoted
		case !quoted && strings.IndexByte(marks, line[i]) >= 0:
			return line[:i]
		}
	}
	return line
}
