package authority

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cordon/blocklist"
	"cordon/configs"
	"cordon/durable"
)

// Files of an authority's folder. Its settings may put procedure, keys,
// recipients and publication elsewhere.
const (
	SettingsFile   = "authority.yaml"
	RegisterDir    = "register"      // the register's log (C2SP tlog-tiles)
	VerifierFile   = "register.vkey" // verifier key of its checkpoints (C2SP signed-note)
	StagedDir      = "staged"        // what waits for signatures
	PeopleDir      = "people"        // public keys of those who sign lists, NAME.pub
	procedureFile  = "procedure.yaml"
	recipientsFile = "recipients.txt"
	keysDir        = "keys"
	publishDir     = "publish"
)

// Settings are what authority.yaml holds. Relative paths are relative to its
// folder.
type Settings struct {
	Procedure      string              `yaml:"procedure"`
	Publish        string              `yaml:"publish"`
	Keys           string              `yaml:"keys"`
	Recipients     string              `yaml:"recipients"`
	PassphraseFile string              `yaml:"passphrase_file"`
	Expiry         Expiry              `yaml:"expiry"`
	StopPages      map[string]StopPage `yaml:"stop_pages"`
}

// Expiry says for how long signatures hold.
type Expiry struct {
	Root      Span `yaml:"root"`
	Targets   Span `yaml:"targets"`
	Snapshot  Span `yaml:"snapshot"`
	Timestamp Span `yaml:"timestamp"`
}

// StopPage is blocklist.StopPage as the settings write it.
type StopPage struct {
	IPv4 []netip.Addr `yaml:"ipv4"`
	IPv6 []netip.Addr `yaml:"ipv6"`
	Page string       `yaml:"page"`
}

// DefaultSettings are those of a folder that holds everything.
func DefaultSettings() Settings {
	return Settings{
		Procedure: procedureFile, Publish: publishDir, Keys: keysDir, Recipients: recipientsFile,
		Expiry: Expiry{Root: Span{Months: 12}, Targets: Span{Months: 3}, Snapshot: Span{Days: 14}, Timestamp: Span{Hours: 48}},
	}
}

// LoadSettings reads authority.yaml in dir.
func LoadSettings(dir string) (Settings, error) {
	path := filepath.Join(dir, SettingsFile)
	s := DefaultSettings()
	if err := configs.Load(path, &s); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return s, fmt.Errorf("there is no authority in %s: found one with \"cordon-authority --data %s init\", or name its folder with --data", dir, dir)
		}
		return s, err
	}
	if err := s.check(path); err != nil {
		return s, err
	}
	for _, p := range []*string{&s.Procedure, &s.Publish, &s.Keys, &s.Recipients, &s.PassphraseFile} {
		*p = configs.Resolve(dir, *p)
	}
	return s, nil
}

func (s *Settings) check(path string) error {
	for key, value := range map[string]string{"procedure": s.Procedure, "publish": s.Publish, "keys": s.Keys, "recipients": s.Recipients} {
		if value == "" {
			return fmt.Errorf("%s: %s is empty: name a path, or leave the key out", path, key)
		}
	}
	for key, span := range map[string]Span{"root": s.Expiry.Root, "targets": s.Expiry.Targets, "snapshot": s.Expiry.Snapshot, "timestamp": s.Expiry.Timestamp} {
		if span == (Span{}) {
			return fmt.Errorf("%s: expiry.%s is nothing: write a delay such as \"48 hours\"", path, key)
		}
	}
	return nil
}

// pages gives the stop pages in the list's own type.
func (s *Settings) pages() map[string]blocklist.StopPage {
	pages := map[string]blocklist.StopPage{}
	for category, p := range s.StopPages {
		pages[category] = blocklist.StopPage{IPv4: p.IPv4, IPv6: p.IPv6, Page: p.Page}
	}
	return pages
}

// Recipient is somebody whom lists are encrypted to.
type Recipient struct {
	Name string
	Key  string // age1pq1…
}

// LoadRecipients reads a file of recipients: a line each, name and key; empty
// lines and lines that begin with # are passed over.
func LoadRecipients(path string) ([]Recipient, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read recipients: %w", err)
	}
	return parseRecipients(path, data)
}

func parseRecipients(path string, data []byte) ([]Recipient, error) {
	var list []Recipient
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, key, ok := strings.Cut(line, " ")
		r := Recipient{Name: name, Key: strings.TrimSpace(key)}
		if !ok {
			return nil, fmt.Errorf("%s:%d: %q: write a name, a space and a key (age1pq…)", path, n, line)
		}
		if err := r.check(list); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		list = append(list, r)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read recipients %s: %w", path, err)
	}
	return list, nil
}

func (r Recipient) check(others []Recipient) error {
	switch {
	case !identifier.MatchString(r.Name):
		return fmt.Errorf("recipient %q: a name is up to 32 small letters, digits, - and _, a letter first", r.Name)
	case !strings.HasPrefix(r.Key, "age1pq1") || strings.ContainsAny(r.Key, " \t\r\n"):
		return fmt.Errorf("recipient %s: the key begins with age1pq1 and has no spaces; \"keygen recipient FILE\" makes one", r.Name)
	}
	for _, other := range others {
		if other.Name == r.Name {
			return fmt.Errorf("recipient %s stands there already: choose another name", r.Name)
		}
		if other.Key == r.Key {
			return fmt.Errorf("recipient %s has the key of %s", r.Name, other.Name)
		}
	}
	return nil
}

func formatRecipients(list []Recipient) []byte {
	var b bytes.Buffer
	b.WriteString("# Those whom each list is encrypted to, a line each: name and key (age1pq…).\n")
	for _, r := range list {
		fmt.Fprintf(&b, "%s %s\n", r.Name, r.Key)
	}
	return b.Bytes()
}

// AddRecipient adds somebody to the file of recipients. The next list that is
// signed is encrypted to them too.
func AddRecipient(path string, r Recipient) error {
	list, err := LoadRecipients(path)
	if err != nil {
		return err
	}
	if err := r.check(list); err != nil {
		return err
	}
	return writeFile(path, formatRecipients(append(slices.Clip(list), r)), 0o600)
}

// format writes the settings as authority.yaml.
func (s *Settings) format() []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Settings of this authority; configs/cordon-authority.yaml explains each.")
	line("procedure: %q", s.Procedure)
	line("publish: %q", s.Publish)
	line("keys: %q", s.Keys)
	line("recipients: %q", s.Recipients)
	line("passphrase_file: %q", s.PassphraseFile)
	line("expiry:")
	line("  root: %s", s.Expiry.Root)
	line("  targets: %s", s.Expiry.Targets)
	line("  snapshot: %s", s.Expiry.Snapshot)
	line("  timestamp: %s", s.Expiry.Timestamp)
	if len(s.StopPages) == 0 {
		line("stop_pages: {}")
		return b.Bytes()
	}
	line("stop_pages:")
	for _, category := range slices.Sorted(maps.Keys(s.StopPages)) {
		p := s.StopPages[category]
		line("  %s:", category)
		line("    ipv4: %s", addresses(p.IPv4))
		line("    ipv6: %s", addresses(p.IPv6))
		line("    page: %q", p.Page)
	}
	return b.Bytes()
}

// writeFile replaces a file durably.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	if err := durable.Replace(durable.OS{}, path, data, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func addresses(list []netip.Addr) string {
	var quoted []string
	for _, a := range list {
		quoted = append(quoted, fmt.Sprintf("%q", a.String()))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
