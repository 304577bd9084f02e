package blocklist

import (
	"bufio"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// starterNames is the set that ships with the program; its head says what is in
// it and why.
//
//go:embed protected.names
var starterNames string

// Protected is a set of names that a list takes down only with a person's word
// for it. A name in it covers itself, the names above it (an entry there takes it
// down too, or is somebody's slip one label short) and all names below it: on 19
// October 2024 it was a name three labels below google.com that took Google Drive
// down in Italy. Where the name is a public suffix, the names below it are other
// people's, and are not covered.
//
// A set is filled before it is given to a guard and does not change afterwards.
type Protected struct {
	names map[string]protectedName
	above map[string]string // each name above one in names, to that one
}

// protectedName says where a name comes from, and whether names below it are
// covered.
type protectedName struct {
	source string
	below  bool
}

// NewProtected gives an empty set.
func NewProtected() *Protected {
	return &Protected{names: make(map[string]protectedName), above: make(map[string]string)}
}

// Len is the number of names.
func (p *Protected) Len() int { return len(p.names) }

// AddStarter adds the set that ships with the program.
func (p *Protected) AddStarter() error {
	return p.AddFile(strings.NewReader(starterNames), "the starter set")
}

// AddFile adds the names of a file, one a line; empty lines and those that begin
// with # say nothing. A line that is no name is an error that names it: the
// operator's own file is right or it is not used. source is how findings call it.
func (p *Protected) AddFile(r io.Reader, source string) error {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		name := strings.TrimSpace(lines.Text())
		if name == "" || strings.HasPrefix(name, "#") {
			continue
		}
		canonical, err := CanonicalName(name)
		if err != nil {
			return fmt.Errorf("%s line %d: %w", source, n, err)
		}
		p.add(canonical, source)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	return nil
}

// maxPopular bounds what is read of a ranking, in lines.
const maxPopular = 10_000_000

// AddRanking adds the first names of a ranking in CSV, "rank,name" a line, as
// Tranco's (https://tranco-list.eu) and others are. Lines that hold no name that a
// list could hold are skipped: the file is somebody else's, and covers what it
// covers. One without a single name is an error.
func (p *Protected) AddRanking(r io.Reader, source string, top int) error {
	rows := csv.NewReader(r)
	rows.FieldsPerRecord, rows.ReuseRecord = -1, true
	added := 0
	for range maxPopular {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: %w", source, err)
		}
		if len(row) < 2 {
			continue
		}
		rank, err := strconv.Atoi(row[0])
		if err != nil || rank < 1 || rank > top {
			continue // a head line, or behind what is asked for
		}
		name, err := CanonicalName(row[1])
		if err != nil {
			continue
		}
		added++
		p.add(name, fmt.Sprintf("%s, rank %d", source, rank))
	}
	if added == 0 {
		return fmt.Errorf(`%s: no name among its first %d ranks; it has to have lines such as "1,google.com"`, source, top)
	}
	return nil
}

// add keeps the first source of a name.
func (p *Protected) add(name, source string) {
	if _, ok := p.names[name]; ok {
		return
	}
	suffix, _ := publicsuffix.PublicSuffix(name)
	p.names[name] = protectedName{source: source, below: suffix != name}
	for parent := parentOf(name); strings.Contains(parent, "."); parent = parentOf(parent) {
		if _, ok := p.above[parent]; !ok {
			p.above[parent] = name
		}
	}
}

// covers tells why an entry may not come into force unseen; "" where it may.
func (p *Protected) covers(e *Entry) (because string) {
	if n, ok := p.names[e.Name]; ok {
		return fmt.Sprintf("is a protected name (%s)", n.source)
	}
	if name, ok := p.above[e.Name]; ok {
		return fmt.Sprintf("is above the protected name %s (%s)", name, p.names[name].source)
	}
	for parent := parentOf(e.Name); parent != ""; parent = parentOf(parent) {
		if n, ok := p.names[parent]; ok && n.below {
			return fmt.Sprintf("is below the protected name %s (%s)", parent, n.source)
		}
	}
	return ""
}
