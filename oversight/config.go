package oversight

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Kinds of log.
const (
	KindAudit    = "audit"    // a resolver's audit log
	KindRegister = "register" // the authority's register
)

// Config is the official's configuration file (configs/cordon-oversight.yaml).
type Config struct {
	Data           string            `yaml:"data"`            // folder of the mirrors, 0700
	Logs           []LogConfig       `yaml:"logs"`            // what is followed
	Publication    PublicationConfig `yaml:"publication"`     // the authority's lists; optional
	Identity       string            `yaml:"identity"`        // age identity of the official, which opens the lists; optional
	PassphraseFile string            `yaml:"passphrase_file"` // of the identity; else CORDON_PASSPHRASE, else the terminal
	Interval       time.Duration     `yaml:"interval"`        // between two rounds of "watch"
	LogLevel       string            `yaml:"log_level"`       // of "watch": debug, info, warn or error
}

// LogConfig is one log.
type LogConfig struct {
	Name     string `yaml:"name"`     // of the mirror's folder and in reports
	Kind     string `yaml:"kind"`     // KindAudit or KindRegister
	Source   string `yaml:"source"`   // https:// address or folder
	Vkey     string `yaml:"vkey"`     // verifier key: the file with it, or itself
	CA       string `yaml:"ca"`       // PEM; who may sign for the server; default: the system's authorities
	Cert     string `yaml:"cert"`     // PEM; the official's certificate, for a server that asks for one
	Key      string `yaml:"key"`      // PEM; its private key
	Blocklog string `yaml:"blocklog"` // of an audit log: where raw records can be had, a folder or the auditor's https:// address; optional
}

// PublicationConfig is where the authority publishes.
type PublicationConfig struct {
	Source string `yaml:"source"` // https:// address or folder
	Root   string `yaml:"root"`   // the pinned root metadata, got from the authority in person
	CA     string `yaml:"ca"`     // as of a log
	Cert   string `yaml:"cert"`
	Key    string `yaml:"key"`
}

// DefaultConfig is what holds where the file says nothing.
func DefaultConfig() Config {
	return Config{Interval: time.Minute, LogLevel: "info"}
}

// Resolve makes every path absolute by resolve; addresses and keys stay.
func (c *Config) Resolve(resolve func(string) string) {
	paths := []*string{&c.Data, &c.Identity, &c.PassphraseFile, &c.Publication.Root, &c.Publication.CA, &c.Publication.Cert, &c.Publication.Key}
	if !remote(c.Publication.Source) {
		paths = append(paths, &c.Publication.Source)
	}
	for i := range c.Logs {
		l := &c.Logs[i]
		paths = append(paths, &l.CA, &l.Cert, &l.Key)
		for _, p := range []*string{&l.Source, &l.Blocklog} {
			if !remote(*p) {
				paths = append(paths, p)
			}
		}
		if _, err := note.NewVerifier(l.Vkey); err != nil {
			paths = append(paths, &l.Vkey)
		}
	}
	for _, p := range paths {
		*p = resolve(*p)
	}
}

var logName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

// Validate names everything that is wrong with the configuration, each with its
// setting. It opens no file.
func (c *Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Data == "" {
		wrong("data: it is missing; give a folder for the mirrors, of the official alone")
	}
	if len(c.Logs) == 0 {
		wrong("logs: there is none; name at least one log to follow")
	}
	registers := 0
	for i := range c.Logs {
		l := &c.Logs[i]
		at := fmt.Sprintf("logs[%d]", i)
		if l.Kind == KindRegister {
			registers++
		}
		if slices.ContainsFunc(c.Logs[:i], func(o LogConfig) bool { return o.Name == l.Name }) {
			wrong("%s.name: %q stands twice; each log has a name of its own", at, l.Name)
		}
		for _, err := range l.validate(c.Data) {
			wrong("%s.%w", at, err)
		}
	}
	if registers > 1 {
		wrong("logs: there are %d registers; one authority is overseen with one configuration", registers)
	}
	p := &c.Publication
	if *p != (PublicationConfig{}) {
		for _, err := range append(channel(p.Source, p.CA, p.Cert, p.Key), address("source", p.Source)) {
			if err != nil {
				wrong("publication.%w", err)
			}
		}
		if p.Root == "" {
			wrong("publication.root: it is missing; name the file with the authority's root metadata, got from it in person")
		}
		if registers == 0 {
			wrong("publication: without the authority's register nothing can be said about its lists; add it to logs, or remove publication")
		}
	}
	if c.Identity != "" && p.Source == "" {
		wrong("identity: it has no effect without publication")
	}
	if c.Interval < 100*time.Millisecond || c.Interval > 24*time.Hour {
		wrong("interval: %v is not between 100ms and 24h; the default is 1m", c.Interval)
	}
	return errors.Join(errs...)
}

func (l *LogConfig) validate(data string) (errs []error) {
	if !logName.MatchString(l.Name) {
		errs = append(errs, fmt.Errorf("name: %q is not 1 to 32 of a-z, 0-9, hyphen and underscore", l.Name))
	}
	if l.Kind != KindAudit && l.Kind != KindRegister {
		errs = append(errs, fmt.Errorf("kind: %q is not a kind of log; write %s or %s", l.Kind, KindAudit, KindRegister))
	}
	if l.Vkey == "" {
		errs = append(errs, errors.New("vkey: it is missing; give the log's verifier key, or the file with it, got from its keeper in person"))
	}
	if err := address("source", l.Source); err != nil {
		errs = append(errs, err)
	}
	if l.Source != "" && l.Source == filepath.Join(data, "logs", l.Name) {
		errs = append(errs, fmt.Errorf("source: %q is the mirror itself", l.Source))
	}
	if l.Blocklog != "" {
		if l.Kind != KindAudit {
			errs = append(errs, errors.New("blocklog: only an audit log has one"))
		}
		if err := address("blocklog", l.Blocklog); err != nil {
			errs = append(errs, err)
		}
	}
	over := l.Source
	if remote(l.Blocklog) {
		over = l.Blocklog
	}
	return append(errs, channel(over, l.CA, l.Cert, l.Key)...)
}

// address checks a source: a folder, or an https address without what could
// hold a password.
func address(setting, source string) error {
	if source == "" {
		return fmt.Errorf("%s: it is missing; give an https:// address or a folder", setting)
	}
	if !remote(source) {
		return nil
	}
	u, err := url.Parse(source)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%s: it has to be an https:// address without user, query and fragment, or a folder", setting)
	}
	return nil
}

// channel checks the settings of TLS for a source.
func channel(source, ca, cert, key string) (errs []error) {
	if !remote(source) && (ca != "" || cert != "" || key != "") {
		errs = append(errs, errors.New("source: it is a folder, so ca, cert and key have no effect; remove them"))
	}
	if (cert == "") != (key == "") {
		errs = append(errs, errors.New("cert: cert and key go together; give both or none"))
	}
	return errs
}
